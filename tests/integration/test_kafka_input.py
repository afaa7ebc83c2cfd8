# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Topics of a real broker go into a real spool, and are committed as far as the alerts have ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pathlib
import time
import typing as t
from collections.abc import AsyncIterator, Callable

import pytest
from aiokafka.consumer import fetcher
from aiokafka.producer import message_accumulator
from aiokafka.record.util import calc_crc32c

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import kafka, kafka_client
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accounting import ANSWERED
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka import KafkaInput
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import (
    Accepted,
    Ended,
    Spool,
    SpoolLimits,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import Wanted
from ansible_collections.ironpost.container_guard.tests.integration.kafka_broker import Broker

PATIENCE = 180
HOST = "web-1"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test has, of a topic and of the group that reads it."""
    return request.node.name[:100].replace("[", "-").replace("]", "")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_AGAIN", 0.1)
    monkeypatch.setattr(kafka, "_COMMIT", 0.1)
    monkeypatch.setattr(kafka, "_LOOK", 0.3)
    monkeypatch.setattr(kafka, "_PATIENCE", 5.0)
    monkeypatch.setattr(kafka_client, "_METADATA_AGE", 1.0)


def alert(rule: str, **more: t.Any) -> bytes:
    return json.dumps({"source": "sensor", "rule": rule, "severity": "high", "host": HOST, **more}).encode()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.05)


class Reading:
    """A source that reads topics, and has no deliveries."""

    def __init__(self, spool: Spool, counters: Counters) -> None:
        self.spool = spool
        self.counters = counters
        self.input: t.Any = None
        self.came: list[Accepted] = []

    async def contents(self) -> list[dict[str, t.Any]]:
        """The alerts that were taken and wait, in their order."""
        found = await self.spool.contents([one.seq for one in self.came], ())
        return [found[seq] for seq in sorted(found)]

    async def answer(self, *rules: str) -> None:
        """These alerts have ended."""
        contents = await self.spool.contents([one.seq for one in self.came], ())
        ended = [one for one in self.came if one.seq in contents and contents[one.seq]["rule"] in rules]
        assert len(ended) == len(rules)
        record = {HOST: {"outcome": "isolated", "answers": True}}
        await self.spool.settle(
            [Ended(one.seq, one.trace_id, time.time(), ANSWERED, "isolated", record) for one in ended]
        )


@contextlib.asynccontextmanager
async def reading(
    broker: Broker, topic: str, directory: pathlib.Path, limits: SpoolLimits | None = None, **options: t.Any
) -> AsyncIterator[Reading]:
    """A source with its spool in that directory."""
    given = {"bootstrap_servers": [broker.address], "topics": [topic], "group_id": topic, **options}
    parsed = parse_options({"kafka": given, "hosts": [HOST, "web-2"], "body_limit": 4096, "lookup_hosts": []})
    assert parsed.kafka
    spool = await Spool.open(directory, limits)
    counters = Counters()
    found = Reading(spool, counters)
    spool.watch(found.came.extend)
    admission = Admission(parsed, spool, Wanted(None, 3600), counters)
    found.input = KafkaInput(parsed.kafka, admission, spool, {}, parsed.body_limit, counters)
    task = asyncio.create_task(found.input.run())
    task.add_done_callback(lambda done: done.cancelled() or done.result())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await spool.close()


async def committed(broker: Broker, topic: str, wanted: dict[int, int]) -> None:
    """Wait until the group has committed that."""
    found = None
    try:
        async with asyncio.timeout(PATIENCE):
            while found != wanted:
                found = {part: offset for part, offset in (await broker.committed(topic, topic)).items() if offset > 0}
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{found} is committed, and not {wanted}") from None


async def test_a_record_is_committed_once_all_alerts_up_to_it_have_ended(
    broker: Broker, topic: str, tmp_path: pathlib.Path
) -> None:
    await broker.make_topic(topic)
    async with reading(broker, topic, tmp_path / "spool") as source:
        await broker.send(topic, [(0, HOST.encode(), alert(rule)) for rule in ("one", "two", "three")])
        await until(lambda: len(source.came) == 3)
        await source.answer("two")
        # One more that is done at once tells that there was time to commit.
        await broker.send(topic, [(0, None, b"nonsense")])
        await until(lambda: source.spool.accounts["rejected"] == 1)
        assert (await broker.committed(topic, topic)).get(0, -1) <= 0
        await source.answer("one")
        await committed(broker, topic, {0: 2})
        await source.answer("three")
        await committed(broker, topic, {0: 4})
    assert source.spool.accounts["received"] == 4


async def test_what_is_not_acceptable_is_rejected_and_told_and_the_topic_goes_on(
    broker: Broker,
    topic: str,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await broker.make_topic(topic)
    async with reading(broker, topic, tmp_path / "spool") as source:
        values = [None, b"", b"nonsense", b"[" * 3000, b" " * 5000, b"\xff\xfe\x00", json.dumps({"a": 1}).encode()]
        await broker.send(topic, [(0, b"key", value) for value in values])
        await broker.send(topic, [(0, None, alert("foreign", host="web-9"))])
        # The client raises where it should decode this, and gives nothing of what came with it.
        with monkeypatch.context() as patched:
            patched.setattr(message_accumulator.BatchBuilder, "_build", _undecodable)
            await broker.send(topic, [(0, None, alert("never"))] * 2, headers=[(_NAME, b"value")])
        lines = alert("array") + b"\n" + b"nonsense\n" + alert("line")
        await broker.send(topic, [(0, None, alert("one")), (0, None, lines)])
        await until(lambda: len(source.came) == 3)
        assert [one["rule"] for one in await source.contents()] == ["one", "array", "line"]
        await until(lambda: source.spool.accounts["rejected"] == len(values) + 1 + 2 + 1)
        await source.answer("one", "array", "line")
        await committed(broker, topic, {0: len(values) + 1 + 2 + 2})
    kinds = source.counters.by("elements_rejected_total", "kind")
    assert kinds["unreadable"] == 2
    assert kinds["too_large"] == 1
    assert kinds["unknown_host"] == 1
    assert f"sender kafka (topic {topic}, partition 0, offset 4): the record has 5000 bytes, of at most" in caplog.text
    assert f"(topic {topic}, partition 0, offset 8): the record cannot be decoded (UnicodeDecodeError)" in caplog.text


async def test_what_came_with_a_record_that_cannot_be_decoded_is_not_lost(
    broker: Broker, topic: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.make_topic(topic, 2)
    # The client takes of the first partition, and raises at the second one. Else it shuffles them.
    monkeypatch.setattr(fetcher.random, "shuffle", lambda partitions: partitions.sort())
    await broker.send(topic, [(0, None, alert(f"first {number}")) for number in range(30)])
    with monkeypatch.context() as patched:
        patched.setattr(message_accumulator.BatchBuilder, "_build", _undecodable)
        await broker.send(topic, [(1, None, alert("never"))], headers=[(_NAME, b"value")])
    await broker.send(topic, [(0, None, alert(f"then {number}")) for number in range(30)])
    await broker.send(topic, [(1, None, alert("behind"))])
    async with reading(broker, topic, tmp_path / "spool") as source:
        await until(lambda: len(source.came) == 61)
        await until(lambda: source.spool.accounts["rejected"] == 1)
        await source.answer(*(f"{when} {number}" for when in ("first", "then") for number in range(30)), "behind")
        await committed(broker, topic, {0: 60, 1: 2})


_NAME = "name of a header"
_CRC, _CHECKED = slice(17, 21), slice(21, None)
"""Of a batch of records: the checksum, and what it is of."""
_build = message_accumulator.BatchBuilder._build


def _undecodable(builder: t.Any) -> t.Any:
    """A batch of records in which the name of a header is no UTF-8. No client of Java or Python makes one."""
    batch = bytearray(_build(builder)).replace(_NAME.encode(), b"\xff" * len(_NAME))
    batch[_CRC] = calc_crc32c(bytes(batch[_CHECKED])).to_bytes(4, "big")
    builder._buffer = batch
    return batch


async def test_what_came_before_a_restart_is_known_and_holds_back_the_commit(
    broker: Broker, topic: str, tmp_path: pathlib.Path
) -> None:
    await broker.make_topic(topic)
    async with reading(broker, topic, tmp_path / "spool") as source:
        await broker.send(topic, [(0, None, alert(rule)) for rule in ("one", "two", "three")])
        await until(lambda: len(source.came) == 3)
        await source.answer("two")
    async with reading(broker, topic, tmp_path / "spool") as source:
        await broker.send(topic, [(0, None, alert("four"))])
        await until(lambda: len(source.came) == 3)
        assert [one["rule"] for one in await source.contents()] == ["one", "three", "four"]
        assert source.counters.by("kafka_records_total", "result") == {"known": 3, "taken": 1}
        await source.answer("three", "four")
        await broker.send(topic, [(0, None, b"nonsense")])
        await until(lambda: source.spool.accounts["rejected"] == 1)
        assert (await broker.committed(topic, topic)).get(0, -1) <= 0
        await source.answer("one")
        await committed(broker, topic, {0: 5})
        assert source.spool.accounts["received"] == 5


async def test_another_controller_makes_the_same_alerts_of_what_is_not_committed(
    broker: Broker, topic: str, tmp_path: pathlib.Path
) -> None:
    await broker.make_topic(topic)
    values = [alert("one"), alert("two") + b"\n" + alert("three"), alert("four", id="its-own")]
    await broker.send(topic, [(0, None, value) for value in values])
    found = []
    for name in ("first", "second"):
        async with reading(broker, topic, tmp_path / name) as source:
            await until(lambda source=source: len(source.came) == 4)
            found.append(await source.contents())
    assert found[0] == found[1]
    assert found[0][3]["id"] == "its-own"
    assert len({one["id"] for one in found[0]} | {one["trace_id"] for one in found[0]}) == 8


async def test_members_share_the_partitions_and_one_that_leaves_gives_its_own_to_the_others(
    broker: Broker, topic: str, tmp_path: pathlib.Path
) -> None:
    await broker.make_topic(topic, 4)
    async with reading(broker, topic, tmp_path / "first") as first:
        await until(lambda: first.input.figures()["kafka_partitions"] == 4)
        await broker.send(topic, [(part, None, alert(f"before {part}")) for part in range(4)])
        await until(lambda: len(first.came) == 4)
        async with reading(broker, topic, tmp_path / "second") as second:
            for source in (first, second):
                await until(lambda source=source: source.input.figures()["kafka_partitions"] == 2)
            # What was not answered is delivered by both; who has the partition commits.
            await until(lambda: len(second.came) == 2)
            await broker.send(topic, [(part, None, alert(f"after {part}")) for part in range(4)])
            await until(lambda: len(second.came) == 4)
            await until(lambda: len(first.came) == 6)
            theirs = [one["rule"] for one in await second.contents()]
            await second.answer(*theirs)
            parts = {int(rule.split()[1]) for rule in theirs}
            await committed(broker, topic, dict.fromkeys(parts, 2))
            # Their end here is no matter of those who have the partition.
            await first.answer(*(f"before {part}" for part in parts))
        await until(lambda: first.input.figures()["kafka_partitions"] == 4)
        rest = {one["rule"] for one in await first.contents()}
        assert rest == {f"{when} {part}" for when in ("before", "after") for part in set(range(4)) - parts}
        await first.answer(*rest)
        await committed(broker, topic, dict.fromkeys(range(4), 2))


async def test_where_the_spool_is_full_the_topic_waits(
    broker: Broker, topic: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.make_topic(topic, 2)
    count = 60
    async with reading(broker, topic, tmp_path / "spool", SpoolLimits(max_alerts=10)) as source:
        await broker.send(topic, [(number % 2, None, alert(f"rule {number}")) for number in range(count)])
        await until(lambda: any("the spool" in trouble for trouble in source.input.troubles()))
        answered = 0
        async with asyncio.timeout(PATIENCE):
            while answered < count:
                rules = [one["rule"] for one in await source.contents()]
                await source.answer(*rules)
                answered += len(rules)
                await asyncio.sleep(0.02)
        await committed(broker, topic, {0: count // 2, 1: count // 2})
        assert sorted(one.seq for one in source.came) == list(range(1, count + 1))
        await until(lambda: source.input.troubles() == [])
    assert "waits: " in caplog.text


async def test_of_a_partition_of_which_too_much_waits_no_more_is_taken(
    broker: Broker, topic: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "_UNFINISHED", 5)
    monkeypatch.setattr(kafka, "_TAKEN", 3)
    await broker.make_topic(topic, 2)
    async with reading(broker, topic, tmp_path / "spool") as source:
        await broker.send(topic, [(0, None, alert(f"rule {number}")) for number in range(20)])
        await broker.send(topic, [(1, None, alert("other"))])
        await until(lambda: "other" in source_rules(source))
        taken = [rule for rule in source_rules(source) if rule != "other"]
        assert len(taken) < 20
        answered: set[str] = set()
        async with asyncio.timeout(PATIENCE):
            while len(answered) < 21:
                rules = [one["rule"] for one in await source.contents()]
                assert len(rules) <= 5 + 3 + 1
                await source.answer(*rules)
                answered.update(rules)
                await asyncio.sleep(0.02)
        await committed(broker, topic, {0: 20, 1: 1})


def source_rules(source: Reading) -> list[str]:
    return [one.kind.partition("/")[2] for one in source.came]


async def test_what_its_folding_waits_for_holds_a_record_back(
    broker: Broker, topic: str, tmp_path: pathlib.Path
) -> None:
    await broker.make_topic(topic, 2)
    async with reading(broker, topic, tmp_path / "spool") as source:
        await broker.send(topic, [(0, None, alert("one"))])
        await until(lambda: len(source.came) == 1)
        await broker.send(topic, [(1, None, alert("one")), (1, None, alert("two"))])
        await until(lambda: len(source.came) == 2)
        assert source.spool.accounts["folded"] == 1
        await source.answer("two")
        await broker.send(topic, [(0, None, b"nonsense"), (1, None, b"nonsense")])
        await until(lambda: source.spool.accounts["rejected"] == 2)
        assert all(offset <= 0 for offset in (await broker.committed(topic, topic)).values())
        await source.answer("one")
        await committed(broker, topic, {0: 2, 1: 3})


async def test_brokers_and_topics_may_come_later_and_be_away(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "broker").mkdir()
    topic = "alerts"
    broker = Broker(tmp_path / "broker")
    async with reading(broker, topic, tmp_path / "spool") as source:
        await until(lambda: source.counters.by("kafka_failures_total", "what").get("connect"))
        assert source.input.figures() == {"kafka_connected": 0, "kafka_partitions": 0, "kafka_lag_records": 0}
        with broker:
            name = f"kafka ({topic} at {broker.address})"
            await until(lambda: source.input.troubles() == [f"{name}: there is no topic alerts, or it may not be read"])
            await broker.make_topic(topic)
            await broker.send(topic, [(0, None, alert("one"))])
            await until(lambda: len(source.came) == 1)
            await until(lambda: source.input.troubles() == [])
            await until(lambda: source.input.figures()["kafka_partitions"] == 1)

            broker.end()
            await until(lambda: source.input.figures()["kafka_connected"] == 0)
            (trouble,) = source.input.troubles()
            assert trouble.startswith(f"{name}: ")
            await source.answer("one")
            assert source.counters.by("kafka_failures_total", "what")["look"] > 0
            await asyncio.to_thread(broker.start)
            await until(lambda: source.input.figures()["kafka_connected"] == 1)
            assert source.input.troubles() == []
            await committed(broker, topic, {0: 1})
            await broker.send(topic, [(0, None, alert("two"))])
            await until(lambda: len(source.came) == 2)
    assert caplog.text.count("look failed, and is tried again") == 1


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_both_sides_prove_themselves(
    broker: Broker, topic: str, tmp_path: pathlib.Path, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.make_topic(topic)
    options = {**broker.secure, "sasl_mechanism": mechanism}
    async with reading(broker, topic, tmp_path / "spool", **options) as source:
        await broker.send(topic, [(0, None, alert("one"))])
        await until(lambda: len(source.came) == 1)
        await source.answer("one")
        await committed(broker, topic, {0: 1})
    wrong = {"sasl_password": "another one"}, {"cafile": None}, {"certfile": None}
    for number, change in enumerate(wrong):
        async with reading(broker, topic, tmp_path / f"wrong-{number}", **{**options, **change}) as source:
            await until(lambda source=source: source.counters.by("kafka_failures_total", "what").get("connect"))
            await until(lambda source=source: "not connected yet" not in source.input.troubles()[0])
            assert source.came == []
    assert "another one" not in caplog.text


async def test_a_group_that_is_new_to_a_topic_may_begin_at_its_end(
    broker: Broker, topic: str, tmp_path: pathlib.Path
) -> None:
    await broker.make_topic(topic)
    await broker.send(topic, [(0, None, alert("past"))])
    async with reading(broker, topic, tmp_path / "spool", auto_offset_reset="latest") as source:
        await committed(broker, topic, {0: 1})
    # What comes while nobody is there is taken by whoever comes next.
    await broker.send(topic, [(0, None, alert("meanwhile"))])
    async with reading(broker, topic, tmp_path / "another", auto_offset_reset="latest") as source:
        await until(lambda: source_rules(source) == ["meanwhile"])


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(
    broker: Broker, topic: str, tmp_path: pathlib.Path
) -> None:
    await broker.make_topic(topic)
    async with reading(broker, topic, tmp_path / "spool") as source:
        await broker.send(topic, [(0, None, alert(f"rule {number}")) for number in range(3)])
        await until(lambda: len(source.came) == 3)
        await source.answer("rule 0", "rule 1", "rule 2")
        await committed(broker, topic, {0: 3})
    await broker.remove_topic(topic)
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(Exception):
                await broker.make_topic(topic)
                await broker.send(topic, [(0, None, alert("anew"))])
                break
            await asyncio.sleep(0.2)
    async with reading(broker, topic, tmp_path / "spool") as source:
        await until(lambda: source_rules(source) == ["anew"])
        await source.answer("anew")
        await committed(broker, topic, {0: 1})
