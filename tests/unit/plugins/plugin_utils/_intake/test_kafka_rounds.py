# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is taken of topics in a round, from a client that stands in for the real one, into a real spool."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import time
import typing as t
from collections.abc import AsyncIterator, Collection

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import kafka
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accounting import ANSWERED
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka import KafkaInput
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_client import KafkaError, key_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.offsets import Partition
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import (
    Accepted,
    Ended,
    Spool,
    SpoolLimits,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import Wanted

A, B = Partition("alerts", 0), Partition("alerts", 1)
HOST = "web-1"


@dataclasses.dataclass(frozen=True)
class Record:
    offset: int
    value: bytes | None
    timestamp: int


class Consumer:
    """The client, as far as it is used. What was drained is lost where a record behind it cannot be decoded.

    Attributes:
        log: the values of each partition; None for what cannot be decoded.
        at: the position in each.
        of_group: what is committed.
        known: topics that there are.
    """

    def __init__(self, log: dict[Partition, list[bytes | None]]) -> None:
        self.log = log
        self.at = dict.fromkeys(log, 0)
        self.of_group: dict[Partition, int] = {}
        self.known = {"alerts"}
        self.held: set[Partition] = set()
        self.time = int(time.time() * 1000) - 1000

    async def getmany(self, *keys: t.Any, timeout_ms: int, max_records: int) -> dict[t.Any, list[Record]]:
        assert timeout_ms
        drained: dict[t.Any, list[Record]] = {}
        for partition in [Partition(*key) for key in keys] or sorted(self.log.keys() - self.held):
            at = self.at[partition]
            records = []
            for offset, value in list(enumerate(self.log[partition]))[at : at + max_records]:
                if value is None:
                    raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no UTF-8")
                records.append(Record(offset, value, self.time))
            if records:
                self.at[partition] += len(records)
                drained[key_of(partition)] = records
        return drained

    async def position(self, key: t.Any) -> int:
        return self.at[Partition(*key)]

    async def committed(self, key: t.Any) -> int | None:
        return self.of_group.get(Partition(*key))

    async def commit(self, offsets: dict[t.Any, int]) -> None:
        self.of_group.update({Partition(*key): offset for key, offset in offsets.items()})

    async def beginning_offsets(self, keys: Collection[t.Any]) -> dict[t.Any, int]:
        return dict.fromkeys(keys, 0)

    async def end_offsets(self, keys: Collection[t.Any]) -> dict[t.Any, int]:
        return {key: len(self.log[Partition(*key)]) for key in keys}

    def seek(self, key: t.Any, offset: int) -> None:
        self.at[Partition(*key)] = offset

    def paused(self) -> set[t.Any]:
        return {key_of(partition) for partition in self.held}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return {0, 1} if topic in self.known else None

    async def topics(self) -> set[str]:
        return self.known


class Member:
    """In the place of a member of the group, to which partitions are given by the test."""

    def __init__(self, log: dict[Partition, list[bytes | None]]) -> None:
        self.consumer: t.Any = Consumer(log)
        self.partitions = set(log)

    def hold(self, wanted: Collection[Partition]) -> None:
        self.consumer.held = set(wanted) & self.partitions


class Source:
    """A source that reads topics round by round."""

    def __init__(self, member: Member, spool: Spool, counters: Counters, **options: t.Any) -> None:
        given = {"bootstrap_servers": ["127.0.0.1:1"], "topics": ["alerts"], **options}
        parsed = parse_options({"kafka": given, "hosts": [HOST], "body_limit": 4096, "lookup_hosts": []})
        assert parsed.kafka
        self.member: t.Any = member
        self.spool = spool
        self.counters = counters
        self.came: list[Accepted] = []
        spool.watch(self.came.extend)
        admission = Admission(parsed, spool, Wanted(None, 3600), counters)
        self.input: t.Any = KafkaInput(parsed.kafka, admission, spool, {}, parsed.body_limit, counters)
        self.given()

    def given(self) -> None:
        """All partitions are given to this member, as at the start, and after another one came or went."""
        self.input._assigned(self.member.partitions)

    async def rounds(self, count: int = 3) -> None:
        for _round in range(count):
            await self.input._round(self.member)

    @property
    def rules(self) -> list[str]:
        """What was taken, in its order."""
        return [one.kind.partition("/")[2] for one in self.came]

    async def answer(self) -> None:
        """All that was taken has ended."""
        record = {HOST: {"outcome": "isolated", "answers": True}}
        await self.spool.settle(
            [Ended(one.seq, one.trace_id, time.time(), ANSWERED, "isolated", record) for one in self.came]
        )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_COMMIT", 0.0)
    monkeypatch.setattr(kafka, "_AGAIN", 0.0)
    monkeypatch.setattr(kafka, "_ROUND", 0.01)


@contextlib.asynccontextmanager
async def reading(
    log: dict[Partition, list[bytes | None]],
    directory: pathlib.Path,
    limits: SpoolLimits | None = None,
    **options: t.Any,
) -> AsyncIterator[Source]:
    spool = await Spool.open(directory / "spool", limits)
    try:
        yield Source(Member(log), spool, Counters(), **options)
    finally:
        await spool.close()


def alert(rule: str, severity: str = "high") -> bytes:
    return json.dumps({"source": "sensor", "rule": rule, "severity": severity, "host": HOST}).encode()


def alerts(name: str, count: int, severity: str = "high") -> list[bytes | None]:
    return [alert(f"{name}{number}", severity) for number in range(count)]


@pytest.mark.parametrize("offsets", [{}, {A: 0, B: 0}], ids=["new to the group", "known to the group"])
async def test_what_came_with_a_record_that_cannot_be_decoded_is_not_lost(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, offsets: dict[Partition, int]
) -> None:
    monkeypatch.setattr(kafka, "_TAKEN", 4)
    log = {A: alerts("a", 6), B: [alert("b0"), None, alert("b2")]}
    async with reading(log, tmp_path) as source:
        source.member.consumer.of_group = dict(offsets)
        await source.rounds(8)
        assert sorted(source.rules) == ["a0", "a1", "a2", "a3", "a4", "a5", "b0", "b2"]
        await source.answer()
        await source.rounds(1)
        assert source.member.consumer.of_group == {A: 6, B: 3}
    assert source.counters.by("elements_rejected_total", "kind") == {"unreadable": 1}


async def test_what_was_fetched_of_partitions_that_were_given_anew_meanwhile_leaves_no_gap(
    tmp_path: pathlib.Path,
) -> None:
    async with reading({A: alerts("a", 6)}, tmp_path) as source:
        await source.rounds(1)
        # The client drains, partitions are given anew, and what was drained is looked at only then.
        source.member.consumer.at[A] = 3
        source.input._fresh.clear()
        fetched = await source.input._fetch(source.member)
        assert [record.offset for record in fetched[A]] == [3, 4, 5]
        source.given()
        source.input._held = {A: fetched[A]}
        await source.rounds(2)
        assert source.rules == ["a0", "a1", "a2", "a3", "a4", "a5"]


async def test_many_records_that_cannot_be_decoded_do_not_hold_up_other_partitions(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted off in slices of some time. Here that is over at once: one record is taken in a slice."""
    monkeypatch.setattr(kafka, "_SLICE", 0.0)
    async with reading({A: [None] * 20, B: []}, tmp_path) as source:
        await source.rounds(3)
        source.member.consumer.log[B].append(alert("other"))
        await source.rounds(1)
        assert source.rules == ["other"]
        assert source.spool.accounts["rejected"] < 20
        await source.rounds(20)
        assert source.spool.accounts["rejected"] == 20


async def test_a_partition_without_room_is_passed_over(tmp_path: pathlib.Path) -> None:
    log = {A: alerts("a", 20, "low"), B: [alert("critical", "critical")]}
    async with reading(log, tmp_path, SpoolLimits(max_alerts=10)) as source:
        await source.rounds(2)
        assert source.rules == [*(f"a{number}" for number in range(8)), "critical"]
        assert "the spool" in source.input.troubles()[1]


async def test_of_what_was_fetched_no_more_is_stored_than_may_wait(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "_UNFINISHED", 5)
    async with reading({A: alerts("a", 20), B: [alert("other")]}, tmp_path) as source:
        source.input._at_once = 1
        await source.rounds(4)
        assert sorted(source.rules) == sorted([*(f"a{number}" for number in range(7)), "other"])
        await source.answer()
        await source.rounds(1)
        assert len(source.rules) > 8


@pytest.mark.parametrize("given", [True, False], ids=["with partitions", "without partitions"])
async def test_a_topic_that_is_not_there_is_told(tmp_path: pathlib.Path, given: bool) -> None:
    async with reading({A: [], B: []}, tmp_path, topics=["alerts", "alrets"]) as source:
        if not given:
            source.member.partitions = set()
        await source.input._look(source.member)
        assert [trouble.partition("): ")[2] for trouble in source.input.troubles()[1:]] == [
            "there is no topic alrets, or it may not be read"
        ]
        source.member.consumer.known.add("alrets")
        await source.input._look(source.member)
        assert source.input.troubles()[1:] == []


@pytest.mark.parametrize("taking", [True, False])
async def test_only_who_takes_records_can_have_stalled(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, taking: bool
) -> None:
    monkeypatch.setattr(kafka, "_LOOK", 0.001)
    async with reading({A: alerts("a", 3)}, tmp_path) as source:
        source.input._away = ""
        if not taking:
            source.input.take_no_more()
        watching = asyncio.create_task(source.input._watch(source.member))
        looks = 0
        count = source.member.consumer.position

        async def counted(key: t.Any) -> int:
            nonlocal looks
            looks += 1
            return await count(key)

        source.member.consumer.position = counted
        while looks <= kafka._STALLED + 2 and not watching.done():
            await asyncio.sleep(0.001)
        assert watching.done() == taking
        watching.cancel()
        (ended,) = await asyncio.gather(watching, return_exceptions=True)
        assert isinstance(ended, KafkaError if taking else asyncio.CancelledError)


async def test_a_partition_that_ends_before_what_was_taken_is_not_committed_back(tmp_path: pathlib.Path) -> None:
    async with reading({A: alerts("a", 6)}, tmp_path) as source:
        await source.rounds(2)
        # An alert waits here, others have committed, and the newest records are gone with a broker.
        source.member.consumer.of_group[A] = 4
        del source.member.consumer.log[A][5:]
        source.given()
        commits = []
        commit = source.member.consumer.commit

        async def noted(offsets: dict[t.Any, int]) -> None:
            commits.extend(offsets.values())
            await commit(offsets)

        source.member.consumer.commit = noted
        await source.rounds(2)
        assert [offset for offset in commits if offset < 4] == []
        await source.answer()
        await source.rounds(2)
        assert source.member.consumer.of_group[A] == 5


async def test_a_record_of_the_future_is_not_taken_again_where_partitions_are_given_anew(
    tmp_path: pathlib.Path,
) -> None:
    async with reading({A: alerts("a", 3)}, tmp_path) as source:
        source.member.consumer.time += 86_400_000
        await source.rounds(2)
        source.given()
        await source.rounds(2)
        assert source.rules == ["a0", "a1", "a2"]
        assert source.counters.by("kafka_records_total", "result") == {"taken": 3, "known": 3}
