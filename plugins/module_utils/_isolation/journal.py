# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal: one file for each isolation, on disk before the first action and until the release is verified.

Whatever happens to the process or the machine meanwhile, the file holds what is needed to release the container.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import sync_directory, write_atomically
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState

DEFAULT_STATE_DIR = "/var/lib/container-guard"
FORMAT = 1
ISOLATING, ISOLATED, RELEASING = "isolating", "isolated", "releasing"
_LOCK_POLL = 0.02


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a container is isolated: texts that are inert, or empty."""

    reason: str = ""
    trace_id: str = ""
    alert_id: str = ""
    policy_id: str = ""


UNSTATED = Cause()


@dataclasses.dataclass(frozen=True)
class Entry:
    """One isolation.

    Attributes:
        snapshot: the container before the guard touched it. Never overwritten while the isolation lasts.
        goal: what the isolation holds up.
        phase: C(isolating), C(isolated) once that was verified, C(releasing).
        cause: why, by the first who asked.
        since: when it began, RFC 3339.
        release_after: seconds after which it was asked to end; 0 for never.
        expires_at: when it is to be released, RFC 3339, or empty.
        started_at: of the process that was isolated, as the engine writes it, from when that was verified.
        for_sharers: ids of isolated containers that use its network, for the sake of which it is off.
        own: it is isolated for its own sake, too.
        restart: a release that has begun ends its processes and starts it anew.
        ended: it was restarting, and was stopped for that.
    """

    snapshot: ContainerState
    goal: Goal
    phase: str
    cause: Cause = UNSTATED
    since: str = ""
    release_after: int = 0
    expires_at: str = ""
    started_at: str = ""
    for_sharers: tuple[str, ...] = ()
    own: bool = True
    restart: bool = False
    ended: bool = False

    @property
    def to_undo(self) -> Goal:
        """What a release undoes: what was held, and the end of its processes where that came of something else."""
        return dataclasses.replace(self.goal, stop=False, kill=True) if self.restart or self.ended else self.goal

    def expired(self, moment: datetime.datetime) -> bool:
        """Whether it was to end by then."""
        expiry = parse_timestamp(self.expires_at)
        return expiry is not None and expiry <= moment

    def to_json(self) -> str:
        """The content of the file."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """What to_json wrote. Raises ValueError, KeyError, TypeError or AttributeError where it is something else."""
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError("format {!r} is not {}".format(content["format"], FORMAT))
        goal = content["goal"]
        return cls(
            snapshot=ContainerState.from_dict(content["snapshot"]),
            goal=Goal(**{**goal, "networks": tuple(goal["networks"])}),
            phase=content["phase"],
            cause=Cause(**content["cause"]),
            since=content["since"],
            release_after=content["release_after"],
            expires_at=content["expires_at"],
            started_at=content["started_at"],
            for_sharers=tuple(content["for_sharers"]),
            own=content["own"],
            restart=content["restart"],
            ended=content["ended"],
        )


class Journal:
    """The isolations of this host.

    Args:
        state_dir: made with mode 0700 where it is missing.
        lock_timeout: seconds to wait for another process that works on the same container.
    """

    def __init__(self, state_dir: str = DEFAULT_STATE_DIR, lock_timeout: float = 60) -> None:
        self._state_dir = state_dir
        self._entries = os.path.join(state_dir, "isolations")
        self._locks = os.path.join(state_dir, "locks")
        self._lock_timeout = lock_timeout

    def load(self, container_id: str) -> Entry | None:
        """The isolation of the container with that full id, or None. Raises JournalError."""
        path = self._path(container_id)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", path, error) from error
        try:
            return Entry.from_json(content.decode("utf-8"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(
                f"the journal entry {path} is damaged ({error!r})",
                kind="journal_damaged",
                remedy="Nothing was changed. Restore it from a backup, or release the container by hand and delete it",
            ) from error

    def entries(self) -> tuple[list[Entry], list[JournalError]]:
        """All isolations, oldest first, and what is wrong with those that cannot be read. Raises JournalError."""
        try:
            names = sorted(name for name in os.listdir(self._entries) if name.endswith(".json"))
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise self._failed("list", self._entries, error) from error
        entries, damaged = [], []
        for name in names:
            try:
                entry = self.load(name[: -len(".json")])
            except JournalError as error:
                damaged.append(error)
                continue
            if entry:  # else it was released just now
                entries.append(entry)
        return sorted(entries, key=lambda entry: (entry.since, entry.snapshot.id)), damaged

    def store(self, entry: Entry) -> None:
        """Write the entry so that it is on disk whole, or not at all. Raises JournalError."""
        path = self._path(entry.snapshot.id)
        try:
            self._make(self._entries)
            write_atomically(path, entry.to_json(), 0o600)
        except OSError as error:
            raise self._failed("write", path, error) from error

    def remove(self, container_id: str) -> None:
        """Forget an isolation that ended. Raises JournalError."""
        path = self._path(container_id)
        try:
            os.unlink(path)
            sync_directory(self._entries)
        except OSError as error:
            raise self._failed("remove", path, error) from error

    @contextlib.contextmanager
    def lock(self, container_id: str) -> t.Iterator[None]:
        """Hold the lock of the container: a release beside an isolate ends in neither (measured).

        Raises JournalError, C(busy) when another process holds it for longer than lock_timeout.
        """
        path = os.path.join(self._locks, container_id)
        try:
            self._make(self._locks)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed("lock", path, error) from error
        try:
            # The file stays: to remove it would let two processes lock two files of one name.
            deadline = time.monotonic() + self._lock_timeout
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise JournalError(
                        f"another process has worked on container {container_id[:12]} for {self._lock_timeout} seconds",
                        kind="busy",
                        remedy="Nothing was changed. Try again, or look for a process that hangs on a Docker engine",
                    )
                time.sleep(_LOCK_POLL)
            yield
        finally:
            os.close(descriptor)

    def _make(self, directory: str) -> None:
        for private in (self._state_dir, directory):  # one by one: makedirs gives its mode to the last one only
            os.makedirs(private, mode=0o700, exist_ok=True)

    def _path(self, container_id: str) -> str:
        return os.path.join(self._entries, f"{container_id}.json")

    def _failed(self, doing: str, path: str, error: OSError) -> JournalError:
        return JournalError(
            f"cannot {doing} {path}: {error.strerror}",
            remedy="Check state_dir, its owner and free space",
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
