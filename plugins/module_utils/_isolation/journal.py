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
import json
import os
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import (
    format_timestamp,
    parse_timestamp,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import (
    DEFAULT_STATE_DIR,
    Busy,
    StateDir,
    StateDirError,
)

TOMBSTONE_AGE = datetime.timedelta(days=7)
"""How long a release is remembered. No alert waits for so long: max_alert_age is a day at most."""
_ENTRIES, _TOMBSTONES, _SUFFIX = "isolations", "released", ".json"
_MANY_TOMBSTONES = 1000
"""So many releases are kept whatever their age."""


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

    def older_than(self, other: Tombstone, age: datetime.timedelta) -> bool:
        """Whether it was so long before another one, or at no moment that can be read."""
        this, that = parse_timestamp(self.time), parse_timestamp(other.time)
        return this is None or (that is not None and that - this > age)

    def supersedes(self, received_at: str, policy_id: str) -> bool:
        """Whether an alert that was received then must not act by that policy any more."""
        released, received = parse_timestamp(self.time), parse_timestamp(received_at)
        if released is None or received is None or (self.policies and policy_id not in self.policies):
            return False
        return received <= released

    def implies(self, older: Tombstone) -> bool:
        """Whether it says all that an older one says."""
        return not self.policies or (bool(older.policies) and set(older.policies) <= set(self.policies))


class Journal:
    """The isolations of this host.

    Args:
        state_dir: where the guard keeps files; a path for one that is made here.
        lock_timeout: seconds to wait for another process that works on the same container.
    """

    def __init__(self, state_dir: StateDir | str = DEFAULT_STATE_DIR, lock_timeout: float = 60) -> None:
        self._files = StateDir(state_dir) if isinstance(state_dir, str) else state_dir
        self._lock_timeout = lock_timeout

    def load(self, container_id: str) -> Entry | None:
        """The isolation of the container with that full id, or None. Raises JournalError."""
        name = _entry(container_id)
        with _as_journal_errors():
            content = self._files.read(name)
        if content is None:
            return None
        path = os.path.join(self._files.path, name)
        try:
            return Entry.from_json(content.decode("utf-8"))
        except JournalError as error:
            message = f"the journal entry {path}: {error.message}"
            raise JournalError(message, kind=error.kind, remedy=error.remedy) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise JournalError(
                f"the journal entry {path} is damaged ({error!r})",
                kind="journal_damaged",
                remedy="Restore it from a backup, or release the container by hand and delete it",
            ) from error

    def entries(self) -> tuple[list[Entry], list[JournalError]]:
        """All isolations, oldest first, and what is wrong with those that cannot be read. Raises JournalError."""
        with _as_journal_errors():
            names = self._files.names(_ENTRIES)
        entries, damaged = [], []
        for name in names:
            try:
                entry = self.load(name[len(_ENTRIES) + 1 : -len(_SUFFIX)]) if name.endswith(_SUFFIX) else None
            except JournalError as error:
                damaged.append(error)
                continue
            if entry:  # else it was released just now
                entries.append(entry)
        return sorted(entries, key=lambda entry: (entry.since, entry.snapshot.id)), damaged

    def store(self, entry: Entry) -> None:
        """Write the entry so that it is on disk whole, or not at all. Raises JournalError."""
        with _as_journal_errors():
            self._files.write(_entry(entry.snapshot.id), entry.to_json())

    def remove(self, container_id: str) -> None:
        """Forget an isolation that ended. Raises JournalError."""
        with _as_journal_errors():
            self._files.remove(_entry(container_id))

    def bury(self, container_id: str, tombstone: Tombstone) -> None:
        """Remember that a person released the container, and forget releases of long ago. Raises JournalError."""
        with _as_journal_errors():
            kept = [older for older in self.tombstones(container_id) if not tombstone.implies(older)]
            content = json.dumps([dataclasses.asdict(one) for one in (*kept, tombstone)])
            self._files.write(_tombstone(container_id), content + "\n")
            names = self._files.names(_TOMBSTONES)
            for name in names if len(names) > _MANY_TOMBSTONES else ():
                if all(old.older_than(tombstone, TOMBSTONE_AGE) for old in self._tombstones(name)):
                    self._files.remove(name)

    def tombstones(self, container_id: str) -> list[Tombstone]:
        """The releases of the container by persons that are remembered, the last one last. Unreadable ones are none."""
        return self._tombstones(_tombstone(container_id))

    def _tombstones(self, name: str) -> list[Tombstone]:
        try:
            return [
                Tombstone(str(one["time"]), str(one["actor"]), tuple(one["policies"]))
                for one in json.loads(self._files.read(name) or b"[]")
            ]
        except (StateDirError, ValueError, KeyError, TypeError):
            return []

    @contextlib.contextmanager
    def lock(self, container_id: str, timeout: float | None = None) -> t.Iterator[None]:
        """Hold the lock of the container: a release beside an isolate ends in neither (measured).

        Args:
            container_id: its full id.
            timeout: seconds to wait for another process that works on it; None for lock_timeout.

        Raises:
            JournalError: C(busy) when another process holds it for longer.
        """
        with contextlib.ExitStack() as held:
            with _as_journal_errors():
                held.enter_context(self._files.lock(container_id, self._lock_timeout if timeout is None else timeout))
            yield


def _entry(container_id: str) -> str:
    return f"{_ENTRIES}/{container_id}{_SUFFIX}"


def _tombstone(container_id: str) -> str:
    return f"{_TOMBSTONES}/{container_id}{_SUFFIX}"


@contextlib.contextmanager
def _as_journal_errors() -> t.Iterator[None]:
    try:
        yield
    except StateDirError as error:
        kind = "busy" if isinstance(error, Busy) else None
        raise JournalError(error.message, kind=kind, remedy=error.remedy) from error
