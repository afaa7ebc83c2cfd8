# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which offsets of a topic may be committed: none beyond a record of which some alert is not at its end."""

from __future__ import annotations

import collections
import dataclasses
import typing as t
from collections.abc import Iterable, Mapping


class Partition(t.NamedTuple):
    """One partition of a topic."""

    topic: str
    partition: int


@dataclasses.dataclass
class _Record:
    """A record that alerts wait for which are not at their end.

    Attributes:
        offset: that must not be committed as done before.
        waiting: how many alerts.
    """

    offset: int
    waiting: int


@dataclasses.dataclass
class _Log:
    """What is known of a partition.

    Attributes:
        ours: whether it is assigned to this member of the group.
        committed: what the group has committed; -1 where it is nothing.
        next: after the last record that was taken; -1 before the first one.
        records: that were taken and are not at their end, or are behind one that is not; by offset.
        waiting: trace ids of alerts that have not ended -> the first record that needs them.
    """

    ours: bool = False
    committed: int = -1
    next: int = -1
    records: collections.deque[_Record] = dataclasses.field(default_factory=collections.deque)
    waiting: dict[str, _Record] = dataclasses.field(default_factory=dict)

    def done(self) -> int:
        """The offset after what is done; -1 where nothing is."""
        while self.records and not self.records[0].waiting:
            self.records.popleft()
        return self.records[0].offset if self.records else self.next


class Offsets:
    """The records that were taken, and what of them has not ended.

    A partition that is taken away and comes back is known still: its alerts are answered here meanwhile.

    Args:
        held: trace ids of alerts of before a restart, of which it is not known what records need them. Nothing is
            committed before they have ended.
    """

    def __init__(self, held: Iterable[str] = ()) -> None:
        self._held = set(held)
        self._logs: dict[Partition, _Log] = {}

    def unfinished(self, partition: Partition) -> int:
        """How many alerts that records of a partition need have not ended."""
        log = self._logs.get(partition)
        return len(log.waiting) if log else 0

    def assigned(self, partition: Partition, committed: int | None) -> None:
        """A partition is this member's from now on, and begins where the group has committed, if it has."""
        log = self._log(partition)
        log.ours = True
        log.committed = -1 if committed is None else committed
        for record in log.records:
            # Others have brought it to its end; the alert may be needed by later ones as well.
            record.offset = max(record.offset, log.committed)

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """They are this member's no more: nothing is committed for them."""
        for partition in partitions:
            self._log(partition).ours = False

    def began_anew(self, partition: Partition, offset: int) -> None:
        """The records of a partition from an offset on are others than those that were taken before.

        That may be a mistake. So what has not ended of these holds back all of the others. What the group has committed
        stays so, unless the partition begins before that.
        """
        log = self._log(partition)
        first = min([offset, *(record.offset for record in log.records if record.waiting)])
        self._logs[partition] = anew = _Log(log.ours, log.committed if log.committed <= offset else -1)
        if log.waiting:
            record = _Record(first, len(log.waiting))
            anew.records.append(record)
            anew.waiting.update(dict.fromkeys(log.waiting, record))

    def take(self, partition: Partition, offset: int, waiting: Iterable[str] = ()) -> None:
        """A record was stored, now or before, or there was nothing in it to store.

        Args:
            partition: where it is.
            offset: of it; what is taken again counts once.
            waiting: trace ids of what has not ended of it, or of what its alerts were folded into.
        """
        log = self._log(partition)
        if offset < log.next:
            return
        log.next = offset + 1
        needed = set(waiting) - log.waiting.keys()
        if needed:
            record = _Record(offset, len(needed))
            log.records.append(record)
            log.waiting.update(dict.fromkeys(needed, record))

    def ended(self, trace_ids: Iterable[str], again: Mapping[str, str]) -> None:
        """Alerts have ended.

        Args:
            trace_ids: of them.
            again: of such -> of alerts that wait in their place.
        """
        for trace_id in trace_ids:
            self._end(trace_id, again.get(trace_id))
        for trace_id in again.keys() - set(trace_ids):
            self._end(trace_id, again[trace_id])

    def to_commit(self) -> dict[Partition, int]:
        """What may be committed now, and is not: partition -> the offset after what is done."""
        if self._held:
            return {}
        return {
            partition: log.done() for partition, log in self._logs.items() if log.ours and log.done() > log.committed
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """The group has committed that."""
        for partition, offset in offsets.items():
            self._log(partition).committed = offset

    def _log(self, partition: Partition) -> _Log:
        return self._logs.setdefault(partition, _Log())

    def _end(self, trace_id: str, instead: str | None) -> None:
        """One has ended, and another one may wait in its place."""
        if trace_id in self._held:
            self._held.discard(trace_id)
            self._held.update([instead] if instead else [])
        for log in self._logs.values():
            record = log.waiting.pop(trace_id, None)
            if record and instead:
                log.waiting[instead] = record
            elif record:
                record.waiting -= 1
