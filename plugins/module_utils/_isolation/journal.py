# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal: one file for each isolation, on disk before the first action and until the release is verified.

Whatever happens to the process or the machine meanwhile, the file holds what is needed to release the container. A
release leaves a tombstone, which outlives every alert that was received before it.
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

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import (
    format_timestamp,
    parse_timestamp,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import sync_directory, write_atomically
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError

DEFAULT_STATE_DIR = "/var/lib/container-guard"
TOMBSTONE_AGE = datetime.timedelta(days=7)
"""How long a release is remembered. No alert waits for so long: max_alert_age is a day at most."""
_LOCK_POLL = 0.02


@dataclasses.dataclass(frozen=True)
class Tombstone:
    """A release by a person, which beats every alert that was received before it.

    Attributes:
        time: when it was, RFC 3339, by the clock of the controller.
        actor: who it was, as claimed.
        policies: ids of the policies whose claims it took; empty for all.
    """

    time: str
    actor: str = ""
    policies: tuple[str, ...] = ()

    @classmethod
    def of(cls, moment: datetime.datetime, actor: str, policies: t.Iterable[str] = ()) -> Tombstone:
        """The release of that moment."""
        return cls(format_timestamp(moment), actor, tuple(policies))

    def supersedes(self, received_at: str, policy_id: str) -> bool:
        """Whether an alert that was received then must not act by that policy any more."""
        released, received = parse_timestamp(self.time), parse_timestamp(received_at)
        if released is None or received is None or (self.policies and policy_id not in self.policies):
            return False
        return received <= released


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
        self._tombstones = os.path.join(state_dir, "released")
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
        except JournalError as error:
            raise JournalError(
                f"the journal entry {path}: {error.message}", kind=error.kind, remedy=error.remedy
            ) from None
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

    def bury(self, container_id: str, tombstone: Tombstone) -> None:
        """Remember that a person released the container, and forget releases of long ago. Raises JournalError."""
        path = os.path.join(self._tombstones, f"{container_id}.json")
        try:
            self._make(self._tombstones)
            write_atomically(path, json.dumps(dataclasses.asdict(tombstone)) + "\n", 0o600)
            forgotten = time.time() - TOMBSTONE_AGE.total_seconds()
            for name in os.listdir(self._tombstones):
                old = os.path.join(self._tombstones, name)
                if os.stat(old).st_mtime < forgotten:
                    os.unlink(old)
        except OSError as error:
            raise self._failed("write", path, error) from error

    def tombstone(self, container_id: str) -> Tombstone | None:
        """The last release of the container by a person, or None. One that cannot be read is none."""
        try:
            with open(os.path.join(self._tombstones, f"{container_id}.json"), encoding="utf-8") as file:
                content = json.load(file)
            return Tombstone(str(content["time"]), str(content["actor"]), tuple(content["policies"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @contextlib.contextmanager
    def lock(self, container_id: str, timeout: float | None = None) -> t.Iterator[None]:
        """Hold the lock of the container: a release beside an isolate ends in neither (measured).

        Args:
            container_id: its full id.
            timeout: seconds to wait for another process that works on it; None for lock_timeout.

        Raises:
            JournalError: C(busy) when another process holds it for longer.
        """
        path = os.path.join(self._locks, container_id)
        seconds = self._lock_timeout if timeout is None else timeout
        try:
            self._make(self._locks)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._failed("lock", path, error) from error
        try:
            # The file stays: to remove it would let two processes lock two files of one name.
            deadline = time.monotonic() + seconds
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise JournalError(
                        f"another process has worked on container {container_id[:12]} for {seconds:g} seconds",
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
