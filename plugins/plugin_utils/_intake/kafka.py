# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts from topics of Kafka: what is not answered stays in the topic, so that another controller answers it.

What is read goes into the spool as all alerts do. A record is committed once its alerts, and those of all records
before it, have ended: there the group goes on when this controller dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import typing as t
from collections.abc import Callable, Collection, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Overrides
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_client import (
    UNDECODABLE,
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    Member,
    TopicAuthorizationFailedError,
    check,
    explain,
    key_of,
    within,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_options import LATEST, KafkaOptions
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_records import (
    Position,
    Read,
    Reader,
    Record,
    Unreadable,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.offsets import Offsets, Partition
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import FROM_KAFKA
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import Sender
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import SpoolError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle

logger = logging.getLogger(__name__)

_TAKEN = 500
"""Records that are taken at once."""
_UNFINISHED = 5_000
"""Alerts of a partition that may wait in the spool. Where as many do, the others wait in the topic."""
_ONE = 1000
"""Milliseconds for which a partition is asked for its next record, where they are taken one by one."""
_SLICE = 2.0
"""Seconds after which no more are taken one by one, as other partitions wait meanwhile."""
_ROUND = 0.5
"""Seconds between two looks at what is to be done, while no record comes."""
_AGAIN = 1.0
"""Seconds until the spool is tried again where it takes nothing. A topic waits, unlike a detector."""
_COMMIT = 1.0
"""Seconds between two commits."""
_LOOK = 5.0
"""Seconds between two looks whether the brokers are there."""
_PATIENCE = 10.0
"""Seconds after which a broker that says nothing is away."""
_STALLED = 6
"""Looks in a row that find records of which none comes, after which the client is made anew."""
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before the client is made anew, the more often it failed."""
_LAST = 5.0
"""Seconds that the last commit of partitions may take."""


class Store(t.Protocol):
    """What is needed of the spool."""

    def position(self, name: str) -> t.Any:
        """What was last stored by that name, or None."""

    def waiting(self) -> Sequence[str]:
        """Trace ids of all alerts that wait."""

    def waits(self, trace_id: str) -> bool:
        """Whether an alert waits."""

    def watch_ends(self, watcher: Callable[[Sequence[str], Mapping[str, str]], None]) -> None:
        """Have a function called with the trace ids of alerts that have ended, and of what waits in their place."""


class KafkaInput:
    """The topics that are read.

    Args:
        options: which they are.
        admission: lets alerts in.
        spool: where they are.
        severities: before those of the detectors.
        most: bytes of a record.
        counters: of the source.

    Raises:
        ValueError: no client can be made of the options.
    """

    def __init__(
        self,
        options: KafkaOptions,
        admission: Admission,
        spool: Store,
        severities: Overrides,
        most: int,
        counters: Counters,
    ) -> None:
        check(options)
        self._options = options
        self._admission = admission
        self._spool = spool
        self._most = most
        self._counters = counters
        self._reader = Reader(options.detector, severities, most)
        self._sender = Sender(FROM_KAFKA, options.hosts)
        self._offsets = Offsets(spool.waiting())
        spool.watch_ends(self._offsets.ended)
        self._positions: dict[Partition, Position] = {}
        self._held: dict[Partition, list[Record]] = {}
        self._fresh: set[Partition] = set()
        self._next: dict[Partition, int] = {}  # of partitions that have begun: the offset after what was fetched
        self._taking = True
        self._member: Member | None = None
        self._fetching: asyncio.Task[t.Any] | None = None
        self._throttle = Throttle(logger)
        self._away = "not connected yet"
        self._waits = ""
        self._absent = ""
        self._refused, self._refused_at = "", float("-inf")
        self._lag = 0
        self._came = 0
        self._at_once = _TAKEN
        self._full_until = 0.0
        self._commit_at = 0.0

    @property
    def name(self) -> str:
        """For people."""
        return f"kafka ({', '.join(self._options.topics)} at {', '.join(self._options.bootstrap_servers)})"

    def troubles(self) -> list[str]:
        """Why records are not taken at the moment, for people."""
        refused = self._refused if time.monotonic() < self._refused_at + 2 * _LOOK else ""
        return [f"{self.name}: {trouble}" for trouble in (self._away, self._absent, refused, self._waits) if trouble]

    def figures(self) -> dict[str, float]:
        """For metrics, cheap."""
        partitions = self._member.partitions if self._member else ()
        return {
            "kafka_connected": float(not self._away),
            "kafka_partitions": len(partitions),
            "kafka_lag_records": self._lag,
        }

    def take_no_more(self) -> None:
        """Take no records any more, but go on to commit what ends."""
        self._taking = False

    async def run(self) -> t.NoReturn:
        """Take records until cancelled; what has ended by then is committed."""
        failures = 0
        while True:
            came = self._came
            try:
                await self._be_a_member()
            except Exception as error:
                # Brokers may be away, and files of certificates gone. Whatever the client stumbles over, it is made
                # anew, and other inputs go on meanwhile.
                failures = failures + 1 if came == self._came else 1
                self._failed("connect", error)
                self._away = explain(error)
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES)) - 1])

    async def _be_a_member(self) -> t.NoReturn:
        """Join the group and take records. Raises KafkaError, OSError, ValueError."""
        member = self._member = Member(self._options, self._most, self._revoked, self._assigned)
        watching: asyncio.Task[t.NoReturn] | None = None
        try:
            await member.join(_PATIENCE)
            watching = asyncio.create_task(self._watch(member))
            while True:
                await self._round(member)
                if watching.done():
                    watching.result()
        finally:
            for task in (watching, self._fetching):
                if task:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
            self._fetching = None
            await self._revoked()
            self._member = None
            await member.leave(_LAST)

    async def _round(self, member: Member) -> None:
        """Take what there is, and commit what is done."""
        for partition, records in (await self._fetch(member)).items():
            if partition in self._next:
                self._next[partition] = records[-1].offset + 1
            elif partition not in self._fresh:
                continue  # it was taken away meanwhile
            self._held.setdefault(partition, []).extend(records)
            self._came += len(records)
        await self._begin(member)
        if self._taking:
            await self._admit_held()
        self._pace(member)
        if time.monotonic() >= self._commit_at:
            self._commit_at = time.monotonic() + _COMMIT
            await self._commit(member, _PATIENCE)

    # --- what comes ---------------------------------------------------------------------------------------------------

    async def _fetch(self, member: Member) -> Mapping[Partition, Sequence[Record]]:
        """Records, if there are any before long. Raises KafkaError."""
        if not self._taking:
            await asyncio.sleep(_ROUND)
            return {}
        # It is not cancelled when it takes long, as it does while partitions are given anew.
        if self._fetching is None:
            if self._fresh:
                return {}  # see _begin
            wanted = member.consumer.getmany(timeout_ms=int(_ROUND * 1000), max_records=_TAKEN)
            self._fetching = asyncio.create_task(wanted)
        done, _pending = await asyncio.wait([self._fetching], timeout=2 * _ROUND)
        if not done:
            return {}
        fetched, self._fetching = self._fetching, None
        try:
            found = fetched.result()
        except UNDECODABLE as error:
            self._rewind(member)
            return {} if self._fresh else await self._pick(member, error)
        except TopicAuthorizationFailedError as error:
            # There may be others that can be read.
            self._failed("read", error)
            self._refused, self._refused_at = f"it may not be read: {explain(error)}", time.monotonic()
            await asyncio.sleep(_ROUND)
            return {}
        return {Partition(*key): records for key, records in found.items()}

    def _rewind(self, member: Member) -> None:
        """Have all that was fetched and not given fetched again.

        The client takes records of one partition after the other. Where one cannot be decoded it throws away what it
        had taken of the others, and goes on behind that.
        """
        for partition in self._next.keys() - self._held.keys():
            with contextlib.suppress(IllegalStateError):  # it is being taken away
                member.consumer.seek(key_of(partition), self._next[partition])

    async def _pick(self, member: Member, error: Exception) -> Mapping[Partition, Sequence[Record]]:
        """Records one by one, as some cannot be decoded. Raises KafkaError where none can be had."""
        partitions = sorted(member.partitions - self._held.keys())
        picked = await asyncio.gather(*(self._one_by_one(member, partition) for partition in partitions))
        if not any(picked):
            raise KafkaError(f"records cannot be read: {explain(error)}")
        return {partition: records for partition, records in zip(partitions, picked, strict=True) if records}

    async def _one_by_one(self, member: Member, partition: Partition) -> list[Record]:
        """The next records of a partition, also where they cannot be decoded; one at least, if there is any.

        Raises KafkaError.
        """
        consumer, key = member.consumer, key_of(partition)
        found: list[Record] = []
        failed = -1
        until = time.monotonic() + _SLICE
        while not found or (len(found) < _TAKEN and time.monotonic() < until):
            try:
                one = await consumer.getmany(key, timeout_ms=_ONE, max_records=1)
            except UNDECODABLE as error:
                offset = await within(_PATIENCE, consumer.position(key))
                if offset == failed:  # it has come from the broker once more, and is no better
                    found.append(Unreadable(offset, type(error).__name__))
                    consumer.seek(key, offset + 1)
                failed = offset
            else:
                if not one:
                    break
                found += one[key]
        return found

    async def _admit_held(self) -> None:
        """Store what was taken, as far as there is room."""
        if time.monotonic() < self._full_until:
            return
        full = False
        for partition in [each for each in self._held if each not in self._fresh]:
            while (records := self._held.get(partition)) and self._offsets.unfinished(partition) < _UNFINISHED:
                known = 0
                position = self._position(partition)
                while known < len(records) and position.has(records[known], time.time()):
                    self._offsets.take(partition, records[known].offset)
                    known += 1
                if known:
                    self._counters.add("kafka_records_total", known, result="known")
                    del records[:known]
                elif await self._take_some(partition, records):
                    full = True
                    break  # there may be room for one of another partition: some is kept for critical alerts
                if not records and self._held.get(partition) is records:
                    del self._held[partition]
        if full:
            self._full_until = time.monotonic() + _AGAIN
        else:
            self._waits = ""

    async def _take_some(self, partition: Partition, records: list[Record]) -> bool:
        """Store the first of the records that were taken, and take them off. Returns whether there is no room."""
        unwanted = self._admission.unwanted(self._sender)
        read = await asyncio.to_thread(self._reader.read, partition, records[: self._at_once], unwanted)
        taken = records[: len(read.offsets)]
        if not all(self._reader.has_time(record) for record in taken if record.value):
            self._throttle.warning(
                "time",
                "Records of topic %s have no time, or one of the future: what a dead controller has answered of them "
                "may be answered again. Check the clocks of the producers, or set message.timestamp.type=LogAppendTime",
                partition.topic,
            )
        try:
            await self._store(partition, read, taken)
        except SpoolError as error:
            if len(taken) > 1:
                self._at_once = len(taken) // 2  # there may be room for fewer
                return False
            self._hold_back(error)
            return True
        self._at_once = min(2 * self._at_once, _TAKEN)
        self._counters.add("kafka_records_total", len(taken), result="taken")
        del records[: len(taken)]
        return False

    async def _store(self, partition: Partition, read: Read, records: Sequence[Record]) -> None:
        """Put what records hold into the spool, together with the position after them. Raises SpoolError."""
        before = self._position(partition)
        after = before.after(records, time.time())
        if records[0].offset < before.next:
            self._throttle.warning(
                "anew",
                "Topic %s, partition %d has other records than before, and they are taken from offset %d on",
                *partition,
                records[0].offset,
            )
            self._offsets.began_anew(partition, records[0].offset)

        def where(place: int) -> str:
            return f" (topic {partition.topic}, partition {partition.partition}, offset {read.offset(place)})"

        admitted = await self._admission.admit(
            read.reading, self._sender, position=(self._name_of(partition), after.to_dict()), where=where
        )
        self._positions[partition] = after
        waiting: dict[int, list[str]] = {offset: [] for offset in read.offsets}
        for place, (_alert, stored) in zip(admitted.places, admitted.stored, strict=True):
            trace_id = stored.folded_into or stored.trace_id
            if self._spool.waits(trace_id):
                waiting[read.offset(place)].append(trace_id)
        for offset, trace_ids in waiting.items():
            self._offsets.take(partition, offset, trace_ids)

    def _hold_back(self, error: SpoolError) -> None:
        if not self._waits:
            logger.error("%s waits: %s", self.name, error)
        self._waits = error.message

    def _pace(self, member: Member) -> None:
        """Take nothing from partitions of which too much waits, here or in the spool."""
        full = {partition for partition in member.partitions if self._offsets.unfinished(partition) >= _UNFINISHED}
        member.hold(full | self._held.keys())

    def _position(self, partition: Partition) -> Position:
        if partition not in self._positions:
            found = self._spool.position(self._name_of(partition))
            try:
                self._positions[partition] = Position() if found is None else Position.from_dict(found)
            except ValueError as error:
                logger.error("What was taken of topic %s, partition %d is not known (%s)", *partition, error)
                self._positions[partition] = Position()
        return self._positions[partition]

    def _name_of(self, partition: Partition) -> str:
        return f"kafka {self._options.group_id} {partition.topic}/{partition.partition}"

    # --- what is this member's, and what of it is done ----------------------------------------------------------------

    def _assigned(self, partitions: Collection[Partition]) -> None:
        """They begin where the group has committed, whatever was taken of them before."""
        self._held.clear()
        self._next.clear()
        self._fresh = set(partitions)
        logger.info("Partitions of this member of group %s: %s", self._options.group_id, _listed(partitions))

    async def _revoked(self) -> None:
        """Commit what is done of all partitions: others may have them now. What is in the spool is answered here."""
        member = self._member
        if member is None:
            return
        await self._commit(member, _LAST)
        self._offsets.revoked(member.partitions)
        self._held.clear()
        self._next.clear()
        self._fresh.clear()

    async def _begin(self, member: Member) -> None:
        """Ask what the group has committed of new partitions: before that nothing is taken from them, or committed.

        They begin exactly there. What the client has fetched of them may be of before they were given anew, and what
        it fetched first may be lost (see _rewind).
        """
        fresh = sorted(self._fresh)
        if not fresh or self._fetching:
            return
        try:
            keys = [key_of(partition) for partition in fresh]
            starts = await within(_PATIENCE, member.consumer.beginning_offsets(keys))
            ends = await within(_PATIENCE, member.consumer.end_offsets(keys))
            committed = [await self._beginning(member, partition) for partition in fresh]
        except (KafkaError, OSError) as error:
            if not isinstance(error, IllegalStateError):  # they were taken away meanwhile
                self._failed("begin", error)
            await asyncio.sleep(_ROUND)
            return
        for partition, offset in zip(fresh, committed, strict=True):
            if partition not in self._fresh:
                continue  # it was taken away meanwhile
            key = key_of(partition)
            start = starts[key] if offset is None else offset
            try:
                member.consumer.seek(key, start)
            except IllegalStateError:
                continue  # it is being taken away
            self._fresh.discard(partition)
            self._held.pop(partition, None)
            self._next[partition] = start
            self._offsets.assigned(partition, offset)
            if ends[key] < self._position(partition).next:
                self._positions[partition] = Position()
                self._offsets.began_anew(partition, start if start <= ends[key] else 0)

    async def _beginning(self, member: Member, partition: Partition) -> int | None:
        """What the group has committed of a partition. Raises KafkaError."""
        key = key_of(partition)
        committed: int | None = await within(_PATIENCE, member.consumer.committed(key))
        if committed is None and self._options.auto_offset_reset == LATEST:
            # Else what comes while nobody is there would not be taken by whoever comes next.
            held = self._held.get(partition)
            committed = held[0].offset if held else await within(_PATIENCE, member.consumer.position(key))
            await within(_PATIENCE, member.consumer.commit({key: committed}))
        return committed

    async def _commit(self, member: Member, patience: float) -> None:
        ours = member.partitions
        done = {partition: offset for partition, offset in self._offsets.to_commit().items() if partition in ours}
        if not done:
            return
        try:
            await within(patience, member.consumer.commit({key_of(each): offset for each, offset in done.items()}))
        except (CommitFailedError, IllegalStateError) as error:
            logger.debug("Partitions are given anew, and nothing is committed: %s", error)
        except (KafkaError, OSError) as error:
            self._failed("commit", error)
        else:
            self._offsets.committed(done)

    # --- the brokers --------------------------------------------------------------------------------------------------

    async def _watch(self, member: Member) -> t.NoReturn:
        """See whether the brokers are there, as the client tells nobody. Raises KafkaError where it has stalled."""
        stalled = came = 0
        while True:
            try:
                self._lag = await self._look(member)
                if self._away:
                    logger.info("%s: connected", self.name)
                self._away = ""
            except (KafkaError, OSError) as error:
                self._failed("look", error)
                self._away = explain(error)
            waits = self._lag > 0 and not member.consumer.paused() and not self._away
            idle = self._taking and waits and came == self._came
            stalled, came = stalled + 1 if idle else 0, self._came
            if stalled >= _STALLED:
                raise KafkaError(f"there are {self._lag} records and none comes")
            await asyncio.sleep(_LOOK)

    async def _look(self, member: Member) -> int:
        """How many records there are beyond those that were taken. Raises KafkaError, OSError."""
        missing = {topic for topic in self._options.topics if not member.consumer.partitions_for_topic(topic)}
        if missing:  # or it is not known yet
            missing -= await within(_PATIENCE, member.consumer.topics())
        self._absent = f"there is no topic {', '.join(sorted(missing))}, or it may not be read" if missing else ""
        partitions = [key_of(partition) for partition in member.partitions]
        if not partitions:
            return 0
        ends = await within(_PATIENCE, member.consumer.end_offsets(partitions))
        lag = 0
        for partition, end in ends.items():
            with contextlib.suppress(IllegalStateError):  # it was taken away meanwhile
                lag += max(0, end - await within(_PATIENCE, member.consumer.position(partition)))
        return lag

    def _failed(self, what: str, error: BaseException) -> None:
        self._counters.add("kafka_failures_total", what=what)
        fault = not isinstance(error, (KafkaError, OSError, ValueError))
        self._throttle.error(
            what, "%s: %s failed, and is tried again: %s", self.name, what, explain(error), exc_info=fault
        )


def _listed(partitions: Collection[Partition]) -> str:
    return ", ".join(f"{topic}/{number}" for topic, number in sorted(partitions)) or "none"
