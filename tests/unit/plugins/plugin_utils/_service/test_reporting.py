# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports from a service to what takes them on the controller, over HTTP that fails where a test wants it to."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import sqlite3
import typing as t
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web

from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import RefusedError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reporting import Reports
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.holding import Breach
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.link import Controller, Link
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.outbox import Outbox
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.reporting import Reporter
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import free_port

TOKEN = "correct-horse-battery"
HOST = "web-1"
CONTAINER = "ab" * 32
IMAGE = f"sha256:{'cd' * 32}"


def action(policy_id: str, **fields: t.Any) -> ActionEvent:
    container = {"id": CONTAINER, "name": "shop", "image": "shop:1"}
    return ActionEvent("isolated", policy_id=policy_id, alert_id="a-1", container=container, changed=True, **fields)


class Receiver:
    """What takes reports on the controller, and the server before it."""

    def __init__(self, reports: Reports) -> None:
        self.reports = reports
        self.bodies: list[dict[str, t.Any]] = []
        self.events: list[dict[str, t.Any]] = []
        self.changed = asyncio.Event()
        self.lose_answers = 0
        """Requests that are taken, and whose answers are lost."""
        self.refuse: list[int] = []
        """Statuses of the next answers."""
        self.body_limit = 1_000_000

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.path == "/events"
        body = await request.read()
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "who is that"}, status=401)
        if self.refuse:
            return web.json_response({}, status=self.refuse.pop(0))
        if len(body) > self.body_limit:
            return web.json_response({"error": "too large"}, status=413)
        self.bodies.append(json.loads(body))
        try:
            taken = await self.reports.take(body, lambda host: host == HOST, "test")
        except RefusedError as error:
            return web.json_response(error.to_dict(), status=error.status)
        if self.lose_answers:
            self.lose_answers -= 1
            assert request.transport
            request.transport.abort()
        return web.json_response(taken, status=202)

    async def put(self, event: dict[str, t.Any]) -> None:
        self.events.append(event)
        self.changed.set()

    async def until(self, condition: t.Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.05)

    @property
    def actions(self) -> list[str]:
        return [event["action"]["policy_id"] for event in self.events if "action" in event]

    @property
    def heartbeats(self) -> list[dict[str, t.Any]]:
        return [body["heartbeat"] for body in self.bodies if "heartbeat" in body]


@dataclasses.dataclass
class World:
    """A directory for each side, and the port between them."""

    directory: pathlib.Path
    port: int
    state: str = "ready"

    @contextlib.asynccontextmanager
    async def controller(self) -> AsyncIterator[Receiver]:
        (self.directory / "controller").mkdir(exist_ok=True)
        reports = await Reports.open(self.directory / "controller", Counters())
        receiver = Receiver(reports)
        runner = web.ServerRunner(web.Server(receiver.answer))  # type: ignore[arg-type]  # of a BaseRequest, which it is
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
        giving = asyncio.create_task(reports.run(receiver.put))
        try:
            yield receiver
        finally:
            await runner.cleanup()
            giving.cancel()
            await asyncio.wait([giving])
            await reports.close()

    @contextlib.asynccontextmanager
    async def service(self, host: str = HOST, interval: float = 30.0, **settings: t.Any) -> AsyncIterator[Reporter]:
        settings = {"token": TOKEN, **settings}
        link = Link(Controller(url=f"http://127.0.0.1:{self.port}/", **settings))
        outbox = Outbox.open(self.directory / "host")
        reporter = Reporter(
            host, outbox, link, interval, lambda container_id: IMAGE if container_id == CONTAINER else ""
        )
        running = asyncio.create_task(reporter.run(self.beat))
        try:
            yield reporter
        finally:
            running.cancel()
            await asyncio.wait([running])
            outbox.close()

    async def beat(self) -> dict[str, t.Any]:
        return {"state": self.state, "troubles": [], "policy_set_digest": "ff", "accounts": {"received": 3}}


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path, free_port())


async def recorded(reporter: Reporter, policies: Sequence[object]) -> None:
    """As the threads of the service do."""
    for policy in policies:
        await asyncio.to_thread(reporter.recorded, [action(str(policy))])


async def test_reports_arrive_in_order(world: World) -> None:
    async with world.controller() as receiver, world.service() as reporter:
        await recorded(reporter, range(5))
        await asyncio.to_thread(reporter.breached, Breach(CONTAINER, "shop", ("unpaused",), "repaired"))
        alert = {"trace_id": "t-1", "host": HOST, "container": None, "why": "failed", "attempts": 2}
        await asyncio.to_thread(reporter.unanswered, [alert])
        await receiver.until(lambda: len(receiver.events) == 7)
        assert receiver.actions == ["0", "1", "2", "3", "4"]
        isolated = receiver.events[0]["isolated"]
        assert (isolated["container_id"], isolated["image_id"]) == (CONTAINER, IMAGE)
        assert receiver.events[5]["breach"]["kinds"] == ["unpaused"]
        assert receiver.events[6]["unanswered"][0]["trace_id"] == "t-1"
        (beat,) = receiver.heartbeats
        assert (beat["state"], beat["interval"], beat["accounts"], beat["dropped"]) == ("ready", 30, {"received": 3}, 0)
        assert reporter.troubles() == reporter.link.troubles() == []


async def test_what_was_done_while_the_controller_was_down_arrives_once_it_is_up(world: World) -> None:
    async with world.service(interval=1) as reporter:
        await recorded(reporter, range(3))
        async with asyncio.timeout(30):
            while not reporter.link.troubles():
                await asyncio.sleep(0.01)
        assert "the controller takes no reports: " in reporter.link.troubles()[0]
        assert reporter.troubles() == []  # alerts are answered, and nothing is lost
    # Neither side is there any more: what waits is on disk.
    async with world.service(interval=1) as reporter:
        await recorded(reporter, range(3, 5))
        async with world.controller() as receiver:
            await receiver.until(lambda: len(receiver.actions) == 5)
            assert receiver.actions == ["0", "1", "2", "3", "4"]
            assert reporter.link.troubles() == []


async def test_a_lost_answer_costs_and_doubles_nothing(world: World) -> None:
    async with world.controller() as receiver:
        receiver.lose_answers = 1
        async with world.service(interval=1) as reporter:
            await recorded(reporter, range(3))
            await receiver.until(lambda: len(receiver.bodies) > 1 and len(receiver.actions) == 3)
        assert receiver.actions == ["0", "1", "2"]


async def test_a_kill_between_answer_and_note_doubles_nothing(world: World) -> None:
    async with world.service() as reporter:
        await recorded(reporter, range(3))
    shutil.copytree(world.directory / "host", world.directory / "before")
    async with world.controller() as receiver:
        async with world.service():
            await receiver.until(lambda: len(receiver.actions) == 3)
        shutil.rmtree(world.directory / "host")
        (world.directory / "before").rename(world.directory / "host")
        async with world.service() as reporter:
            await recorded(reporter, range(3, 4))
            await receiver.until(lambda: len(receiver.actions) >= 4)
        assert receiver.actions == ["0", "1", "2", "3"]
        sequences = [one["sequence"] for body in receiver.bodies for one in body["reports"]]
        assert sequences[:3] == [1, 2, 3]
        assert len(sequences) > 4  # they were sent again


async def test_the_controller_forgets_nothing_by_a_restart(world: World) -> None:
    async with world.controller() as receiver:
        receiver.lose_answers = 1
        async with world.service():
            await receiver.until(lambda: receiver.bodies)
        async with world.service() as reporter:
            receiver.lose_answers = 100
            await recorded(reporter, range(2))
            await receiver.until(lambda: len(receiver.actions) == 2)
            await receiver.until(lambda: not receiver.reports.figures()["reports_waiting"])
    async with world.controller() as receiver, world.service() as reporter:
        await recorded(reporter, range(2, 3))
        await receiver.until(lambda: receiver.actions)
        assert receiver.actions == ["2"]
        assert receiver.bodies[0]["reports"][0]["sequence"] == 1


async def test_only_the_newest_heartbeat_is_sent(world: World) -> None:
    async with world.service(interval=1) as reporter:
        world.state = "degraded"
        async with asyncio.timeout(30):
            while not reporter.link.troubles():
                await asyncio.sleep(0.01)
        world.state = "ready"
        async with world.controller() as receiver:
            await receiver.until(lambda: receiver.heartbeats)
            assert [beat["state"] for beat in receiver.heartbeats] == ["ready"]
            await receiver.until(lambda: len(receiver.heartbeats) == 2)


async def test_what_is_too_large_together_is_sent_in_parts_and_what_is_too_large_alone_is_dropped(world: World) -> None:
    async with world.controller() as receiver:
        receiver.body_limit = 4000
        async with world.service(interval=1) as reporter:
            noise = ("x" * 1000,)
            events = [action("0", reasons=noise), action("1", reasons=noise * 8), action("2", reasons=noise)]
            await asyncio.to_thread(reporter.recorded, events)
            await receiver.until(lambda: len(receiver.actions) == 2 and receiver.heartbeats[-1]["dropped"] == 1)
            assert receiver.actions == ["0", "2"]
            assert reporter.troubles() == []  # the controller knows


async def test_a_report_without_end_is_cut(world: World) -> None:
    async with world.controller() as receiver, world.service() as reporter:
        await asyncio.to_thread(reporter.recorded, [action("0", reasons=("x" * 200_000,), before={"a": "{{" * 90_000})])
        await receiver.until(lambda: receiver.actions)
        (event,) = receiver.events
        assert "reasons" not in event["action"]
        assert "see the action log" in event["action"]["warnings"][0]
        assert event["isolated"]["container_id"] == CONTAINER


async def test_many_unanswered_alerts_are_several_reports(world: World) -> None:
    alerts = [{"trace_id": f"t-{number}", "host": HOST, "why": "w" * 900} for number in range(400)]
    async with world.controller() as receiver, world.service() as reporter:
        await asyncio.to_thread(reporter.unanswered, alerts)
        await receiver.until(lambda: sum(len(event["unanswered"]) for event in receiver.events) == 400)
        found = [alert["trace_id"] for event in receiver.events for alert in event["unanswered"]]
        assert found == [alert["trace_id"] for alert in alerts]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"token": "wrong-horse-battery"}, "it answered 401: .* Give the host a token"),
        ({"host": "web-2"}, "it answered 403: .*does not speak for host web-2.* see its hosts in the options"),
    ],
)
async def test_why_the_controller_refuses_is_told(world: World, settings: dict[str, str], why: str) -> None:
    async with world.controller() as receiver, world.service(**settings) as reporter:
        await recorded(reporter, range(1))
        await receiver.until(reporter.link.troubles)
        (trouble,) = reporter.link.troubles()
        assert re.search(why, trouble)
        assert receiver.events == []


async def test_another_token_in_its_file_holds_at_once(world: World) -> None:
    path = world.directory / "token"
    path.write_text("wrong-horse-battery\n")
    service = world.service(token="", token_file=str(path), interval=1)
    async with world.controller() as receiver, service as reporter:
        await recorded(reporter, range(1))
        await receiver.until(reporter.link.troubles)
        path.write_text(f"{TOKEN}\n")
        await receiver.until(lambda: receiver.actions)
        await receiver.until(lambda: not reporter.link.troubles())


async def test_a_disk_that_takes_nothing_is_a_trouble_until_the_controller_knows(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.controller() as receiver, world.service(interval=1) as reporter:
        await receiver.until(lambda: receiver.heartbeats)

        def add(_box: Outbox, *_reports: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patching:
            patching.setattr(Outbox, "add", add)
            await recorded(reporter, range(1))
        assert reporter.troubles()[0] == "reports to the controller cannot be kept: database or disk is full"
        await recorded(reporter, range(1, 2))
        await receiver.until(lambda: receiver.heartbeats[-1]["dropped"] == 1)
        await receiver.until(lambda: not reporter.troubles())
        assert receiver.actions == ["1"]


async def test_records_that_a_kill_kept_from_becoming_reports_are_made_up_for(world: World) -> None:
    log = ActionLog(StateDir(str(world.directory / "state")))
    log.append([action("before there was a controller", actor="service")])
    async with world.service() as reporter:
        reporter.catch_up(log, "service")
        events = [action(f"{number}", actor="service") for number in range(4)]
        log.append(events[:1])
        await asyncio.to_thread(reporter.recorded, events[:1])
        # Killed here: two more records, of which one is that of a module.
        log.append([events[1], action("by hand", actor="alice"), events[2]])
    async with world.controller() as receiver:
        for _start in range(2):
            async with world.service() as reporter:
                reporter.catch_up(log, "service")
                await receiver.until(lambda: len(receiver.actions) >= 3)
        async with world.service() as reporter:
            await asyncio.to_thread(reporter.recorded, events[3:])
            await receiver.until(lambda: len(receiver.actions) >= 4)
        assert receiver.actions == ["0", "1", "2", "3"]
        assert all(event["isolated"]["image_id"] == IMAGE for event in receiver.events)
        assert "hash" not in receiver.events[1]["action"]
