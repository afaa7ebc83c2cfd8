# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import contextlib
import typing as t
from collections.abc import AsyncIterator

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.batcher import (
    Batcher,
    Event,
    NotTakenError,
    event_of,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options

DEADLINE = 10.0
"""For what must happen, in seconds: far more than it takes, also on a busy machine."""


def alert(rule: str = "r", host: str = "") -> Alert:
    return Alert.from_dict({"source": "s", "rule": rule, "severity": "low", "host": host})


def rules(event: Event) -> list[str]:
    return [alert["rule"] for alert in event["alerts"]]


@contextlib.asynccontextmanager
async def running(queue: asyncio.Queue[Event], **options: t.Any) -> AsyncIterator[Batcher]:
    batcher = Batcher(Options(**options), queue.put)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def next_event(queue: asyncio.Queue[Event]) -> Event:
    async with asyncio.timeout(DEADLINE):
        return await queue.get()


async def test_a_lone_alert_does_not_wait_for_the_whole_window() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue, batch_window=4.0) as batcher:
        batcher.offer([alert()])
        async with asyncio.timeout(3.5):
            await queue.get()
    assert (batcher.accepted, batcher.emitted, batcher.waiting) == (1, 1, 0)


async def test_a_burst_is_one_event() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue) as batcher:
        for number in range(5):
            batcher.offer([alert(str(number)), alert("x")])
            await asyncio.sleep(0)
        assert len(rules(await next_event(queue))) == 10
    assert queue.empty()


async def test_a_steady_stream_leaves_at_the_end_of_the_window() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue, batch_window=0.2, queue_max=1_000_000) as batcher:

        async def stream() -> t.NoReturn:
            while True:
                batcher.offer([alert()])
                await asyncio.sleep(0.001)

        streaming = asyncio.create_task(stream())
        try:
            assert len(rules(await next_event(queue))) > 1
        finally:
            streaming.cancel()


async def test_the_interval_keeps_events_apart() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue, batch_window=0, batch_interval=3600, batch_max=2) as batcher:
        batcher.offer([alert("first")])
        assert rules(await next_event(queue)) == ["first"]
        batcher.offer([alert("second"), alert("third"), alert("fourth")])
        await asyncio.sleep(0.05)
        assert queue.empty()
        assert batcher.waiting == 3


async def test_a_full_event_waits_for_no_company() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue, batch_window=3600, batch_interval=0, batch_max=2) as batcher:
        batcher.offer([alert(str(number)) for number in range(5)])
        assert rules(await next_event(queue)) == ["0", "1"]
        assert rules(await next_event(queue)) == ["2", "3"]
        await asyncio.sleep(0.05)
        assert queue.empty()
        assert batcher.waiting == 1


async def test_alerts_gather_while_the_engine_is_busy() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue(1)
    await queue.put({})
    async with running(queue, batch_window=0, batch_interval=0, queue_max=3) as batcher:
        batcher.offer([alert("0")])
        await asyncio.sleep(0.05)  # by now its event waits for room in the queue
        batcher.offer([alert("1"), alert("2")])
        assert batcher.waiting == 3
        with pytest.raises(NotTakenError, match="3 alerts wait already, of at most 3") as caught:
            batcher.offer([alert("3")])
        assert caught.value.kind == "full"
        await next_event(queue)
        assert rules(await next_event(queue)) == ["0"]
        assert rules(await next_event(queue)) == ["1", "2"]
    assert (batcher.accepted, batcher.waiting) == (3, 0)


async def test_of_an_offer_that_does_not_fit_nothing_is_taken() -> None:
    batcher = Batcher(Options(queue_max=2), asyncio.Queue[Event]().put)
    batcher.offer([alert()])
    with pytest.raises(NotTakenError):
        batcher.offer([alert(), alert()])
    assert (batcher.accepted, batcher.waiting) == (1, 1)


async def test_closed() -> None:
    batcher = Batcher(Options(), asyncio.Queue[Event]().put)
    batcher.close()
    with pytest.raises(NotTakenError) as caught:
        batcher.offer([alert()])
    assert caught.value.kind == "shutting_down"


async def test_flush_emits_everything_at_once() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    batcher = Batcher(Options(batch_window=10, batch_interval=3600, batch_max=2), queue.put)
    batcher.offer([alert(str(number)) for number in range(3)])
    await batcher.flush()
    assert [rules(queue.get_nowait()) for _ in range(queue.qsize())] == [["0", "1"], ["2"]]


async def test_what_the_engine_did_not_take_is_kept_over_a_cancellation() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue(1)
    await queue.put({})
    async with running(queue, batch_window=0) as batcher:
        batcher.offer([alert()])
        await asyncio.sleep(0.05)
    queue.get_nowait()
    assert batcher.waiting == 1
    await batcher.flush()
    assert rules(queue.get_nowait()) == ["r"]


async def test_a_failure_to_emit_ends_the_run() -> None:
    async def emit(event: Event) -> None:
        raise RuntimeError("the engine is gone")

    batcher = Batcher(Options(batch_window=0), emit)
    batcher.offer([alert()])
    with pytest.raises(RuntimeError, match="the engine is gone"):
        await asyncio.wait_for(batcher.run(), DEADLINE)
    assert batcher.waiting == 1


async def test_hosts_are_mapped() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue, hosts=("web-2",), host_map={"0aa": "web-1"}) as batcher:
        batcher.offer([alert("a", "web-2"), alert("b", "0aa"), alert("c", "web-2")])
        event = await next_event(queue)
    assert [alert["inventory_host"] for alert in event["alerts"]] == ["web-2", "web-1", "web-2"]
    assert event["meta"] == {"hosts": ["web-1", "web-2"]}


async def test_lookup_hosts_are_asked_about_unknown_hosts() -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue, hosts=("web-2",), lookup_hosts=("web-9", "docker")) as batcher:
        batcher.offer([alert("a", "web-2"), alert("b", "all"), alert("c")])
        event = await next_event(queue)
    assert [alert["inventory_host"] for alert in event["alerts"]] == ["web-2", "", ""]
    assert event["meta"] == {"hosts": ["docker", "web-2", "web-9"]}


async def test_without_lookup_hosts_alerts_of_unknown_hosts_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    queue: asyncio.Queue[Event] = asyncio.Queue()
    async with running(queue, hosts=("web-2",), lookup_hosts=()) as batcher:
        taken = batcher.offer([alert("a", "web-3"), alert("b", "web-2"), alert("c", "web-4")])
        assert [alert.rule for alert in taken] == ["b"]
        assert batcher.offer([alert("d", "web-3")]) == []
        event = await next_event(queue)
    assert rules(event) == ["b"]
    assert event["meta"] == {"hosts": ["web-2"]}
    assert (batcher.accepted, batcher.unknown_host) == (1, 3)
    assert len(caplog.messages) == 1
    assert "'web-3'" in caplog.messages[0]


def test_an_event_always_has_hosts() -> None:
    with pytest.raises(ValueError, match="every host of the inventory"):
        event_of([alert()], [])


def test_events_share_nothing() -> None:
    shared = alert()
    first, second = event_of([shared], ["all"]), event_of([shared], ["all"])
    first["meta"]["hosts"].append("x")
    first["meta"]["uuid"] = "x"
    first["alerts"][0]["container"]["id"] = "x"
    assert second == event_of([shared], ["all"])
