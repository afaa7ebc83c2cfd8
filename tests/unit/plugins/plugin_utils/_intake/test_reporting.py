# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import sqlite3
import typing as t
from collections.abc import AsyncIterator

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import report_store, reporting
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import RefusedError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.report_store import NAME, ReportStore
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reporting import Reports, ReportsError


class EngineGoneError(Exception):
    """The rule engine does not take events any more."""


class Controller:
    """What takes reports, a rule engine, and a clock."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.counters = Counters()
        self.now = 100.0
        self.events: asyncio.Queue[dict[str, t.Any]] = asyncio.Queue()
        self.broken_after: int | None = None

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Reports]:
        clocks = {"now": lambda: self.now, "wall": lambda: 1_775_000_000 + self.now}
        reports = await Reports.open(self.directory, self.counters, **clocks)
        try:
            yield reports
        finally:
            await reports.close()

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[Reports]:
        async with self.open() as reports:
            task = asyncio.create_task(reports.run(self.put))
            try:
                yield reports
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, EngineGoneError):
                    await task

    async def put(self, event: dict[str, t.Any]) -> None:
        if self.broken_after == 0:
            raise EngineGoneError
        self.broken_after = None if self.broken_after is None else self.broken_after - 1
        await self.events.put(event)

    async def event(self) -> dict[str, t.Any]:
        return await asyncio.wait_for(self.events.get(), 20)

    async def policies(self, number: int) -> list[str]:
        return [(await self.event())["action"]["policy_id"] for _ in range(number)]


@pytest.fixture
def controller(tmp_path: pathlib.Path) -> Controller:
    return Controller(tmp_path)


def body(*sequences: int, host: str = "web-1", spool: str = "s-1", **more: t.Any) -> bytes:
    reports = [
        {"sequence": number, "kind": "action", "action": ActionEvent("held", policy_id=f"p-{number}").to_dict()}
        for number in sequences
    ]
    return json.dumps({"host": host, "spool": spool, "reports": reports, **more}).encode()


def beat(state: str = "ready", host: str = "web-1", interval: float = 10) -> bytes:
    return body(host=host, heartbeat={"interval": interval, "state": state})


async def settled(reports: Reports, waiting: int = 0) -> None:
    """Until no more events wait: one that the engine has, and of which that was not noted, is given to it again."""
    async with asyncio.timeout(20):
        while reports.figures()["reports_waiting"] != waiting:
            await asyncio.sleep(0.01)


async def take(reports: Reports, given: bytes) -> dict[str, t.Any]:
    return await reports.take(given, lambda _host: True, "test")


async def test_an_event_has_an_id_by_which_it_is_known(controller: Controller) -> None:
    async with controller.run() as reports:
        assert await take(reports, body(7)) == {"taken": 1, "known": 0, "rejected": []}
        event = await controller.event()
    assert (event["id"], event["meta"], event["host"]) == ("web-1/s-1/7", {}, "web-1")


async def test_each_number_counts_once_and_by_host_and_file(controller: Controller) -> None:
    async with controller.run() as reports:
        assert (await take(reports, body(1, 2)))["taken"] == 2
        assert await take(reports, body(1, 2, 3)) == {"taken": 1, "known": 2, "rejected": []}
        assert (await take(reports, body(2)))["known"] == 1
        assert (await take(reports, body(1, host="web-2")))["taken"] == 1
        assert (await take(reports, body(1, spool="s-2")))["taken"] == 1
        assert sorted(await controller.policies(5)) == ["p-1", "p-1", "p-1", "p-2", "p-3"]
        await settled(reports)
    async with controller.run() as reports:
        assert (await take(reports, body(3, 4)))["known"] == 1
        assert await controller.policies(1) == ["p-4"]
    assert controller.counters.by("reports_total", "kind") == {"action": 6, "known": 4}


async def test_what_was_taken_outlives_a_restart_before_the_engine_has_it(controller: Controller) -> None:
    async with controller.open() as reports:
        await take(reports, body(1, 2, 3))
        assert reports.figures()["reports_waiting"] == 3
    controller.broken_after = 1
    async with controller.run() as reports:
        assert await controller.policies(1) == ["p-1"]
        await settled(reports, 2)
    controller.broken_after = None
    async with controller.run() as reports:
        assert await controller.policies(2) == ["p-2", "p-3"]
        assert (await take(reports, body(1, 2, 3)))["known"] == 3


async def test_an_engine_that_breaks_ends_it(controller: Controller) -> None:
    controller.broken_after = 0
    async with controller.open() as reports:
        await take(reports, body(1))
        with pytest.raises(EngineGoneError):
            await asyncio.wait_for(reports.run(controller.put), 20)


async def test_a_kill_in_the_middle_of_the_engine_gives_the_event_again(controller: Controller) -> None:
    """As the process dies after the engine has it, and before that is noted."""
    async with controller.open() as reports:
        await take(reports, body(1, 2))
        took = asyncio.Event()

        async def put(event: dict[str, t.Any]) -> None:
            await controller.put(event)
            took.set()
            await asyncio.sleep(3600)

        task = asyncio.create_task(reports.run(put))
        await asyncio.wait_for(took.wait(), 20)
        task.cancel()
        await asyncio.wait([task])
    first = await controller.event()
    async with controller.run():
        again = await controller.event()
        assert again == first
        assert (await controller.event())["id"] == "web-1/s-1/2"


async def test_a_report_that_cannot_be_used_is_answered_and_counted(
    controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    reports_given = [{"sequence": 1, "kind": "news"}, {"sequence": 2, "kind": "breach", "breach": {}}]
    given = json.dumps({"host": "web-1", "spool": "s-1", "reports": reports_given}).encode()
    async with controller.run() as reports:
        answer = await take(reports, given)
        assert answer == {"taken": 1, "known": 0, "rejected": [{"sequence": 1, "reason": "its kind is not known here"}]}
        assert "breach" in await controller.event()
        assert (await take(reports, given))["known"] == 2
    assert "Rejected a report of host web-1: its kind is not known here" in caplog.text
    assert controller.counters.by("reports_total", "kind") == {"rejected": 1, "breach": 1, "known": 2}


async def test_a_host_that_the_sender_does_not_speak_for(controller: Controller) -> None:
    async with controller.run() as reports:
        with pytest.raises(RefusedError, match="sender db-1 does not speak for host web-1") as caught:
            await reports.take(body(1, heartbeat={"interval": 10, "state": "ready"}), "db-1".__eq__, "db-1")
        assert (caught.value.status, caught.value.kind) == (403, "foreign_host")
        assert reports.figures() == {
            "reports_waiting": 0,
            "hosts_reporting": 0,
            "hosts_missing": 0,
            "hosts_degraded": 0,
        }
        assert (await take(reports, body(1)))["taken"] == 1


async def test_a_missing_host_is_told_once_over_restarts(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "_LOOK", 0.01)
    async with controller.run() as reports:
        await take(reports, beat("degraded"))
        assert "degraded" in await controller.event()
        for _ in range(8):  # not at once: that would be a controller that stood still
            controller.now += 4
            await asyncio.sleep(0.1)
        assert (await controller.event())["missing"]["host"] == "web-1"
        assert reports.figures()["hosts_missing"] == 1
        assert reports.ages() == {"web-1": 32}
        await settled(reports)
    async with controller.run() as reports:
        assert reports.figures()["hosts_missing"] == 1
        await take(reports, beat("degraded"))
        back = await controller.event()
        assert back["back"]["host"] == "web-1"
        assert back["id"]
    assert controller.events.empty()


async def test_reports_come_before_what_their_heartbeat_says(controller: Controller) -> None:
    async with controller.run() as reports:
        await take(reports, body(1, heartbeat={"interval": 10, "state": "degraded"}))
        assert "action" in await controller.event()
        assert "degraded" in await controller.event()


async def test_where_too_many_wait_for_the_engine(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MOST_WAITING", 2)
    async with controller.open() as reports:
        await take(reports, body(1, 2))
        with pytest.raises(ReportsError, match="too many reports wait") as caught:
            await take(reports, body(3))
        assert caught.value.kind == "spool_full"
        await take(reports, beat())  # how hosts are is known all the same
    async with controller.run() as reports:
        await controller.policies(2)
        await settled(reports)
        assert (await take(reports, body(3)))["taken"] == 1


async def test_a_host_that_reports_without_end_holds_up_no_other(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "MOST_OF_HOST", 100)
    async with controller.open() as reports:
        await take(reports, body(*range(1, 101)))
        with pytest.raises(ReportsError, match="too many reports of host web-1 wait"):
            await take(reports, body(101))
        await take(reports, body(1, 2, host="web-2"))
        await take(reports, body(1, host="web-3"))
    async with controller.run():
        hosts = [(await controller.event())["host"] for _ in range(103)]
    assert hosts[:6] == ["web-1", "web-2", "web-3", "web-1", "web-2", "web-1"]
    assert set(hosts[6:]) == {"web-1"}


async def test_a_host_that_changes_without_end_fills_nothing(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "MOST_OF_HOST", 2)
    async with controller.open() as reports:
        await take(reports, body(1, 2))
        for number in range(100):
            await take(reports, beat("ready" if number % 2 else "degraded"))
        with pytest.raises(ReportsError, match="too many reports of host web-1 wait"):
            await take(reports, beat("degraded"))
        assert reports.figures()["reports_waiting"] == 102


async def test_a_disk_that_takes_nothing_loses_nothing(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    async with controller.run() as reports:

        def store(*_arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patching:
            patching.setattr(ReportStore, "store", store)
            for given in (body(1), beat("degraded")):
                with pytest.raises(ReportsError, match="reports of hosts cannot be stored: database or disk is full"):
                    await take(reports, given)
            assert reports.troubles() == ["reports of hosts cannot be stored: database or disk is full"]
        await take(reports, body(1))
        await take(reports, beat("degraded"))
        assert await controller.policies(1) == ["p-1"]
        assert "degraded" in await controller.event()
        assert reports.troubles() == []


async def test_few_files_are_remembered_of_a_host(controller: Controller) -> None:
    async with controller.open() as reports:
        for number in range(20):
            controller.now += 1
            await take(reports, body(1, spool=f"s-{number}"))
    with contextlib.closing(sqlite3.connect(controller.directory / NAME)) as connection:
        assert connection.execute("SELECT count(*) FROM taken").fetchone() == (report_store._SPOOLS,)


@pytest.mark.parametrize("content", [b"this is no database", b""])
async def test_a_file_that_cannot_be_used(controller: Controller, content: bytes) -> None:
    if content:
        (controller.directory / NAME).write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(controller.directory / NAME)) as other:
            other.execute("PRAGMA user_version = 7")
    with pytest.raises(ReportsError, match=r"reports\.db cannot be used: .*Check owner"):
        await Reports.open(controller.directory, controller.counters)
