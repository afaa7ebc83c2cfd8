# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source as a whole, with its real spool and deliveries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import socket
import sys
import typing as t
from collections.abc import AsyncIterator

import aiohttp
import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import signals
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.source import limits_of, serve
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import SpoolError

TOKEN = "correct-horse-battery"
ALERT = {"source": "sensor", "rule": "Shell spawned", "severity": "high", "host": "web-1"}
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}

Start = t.Any


class Serving:
    """A source that serves, and what the engine would have got."""

    def __init__(self, url: str, queue: asyncio.Queue[t.Any], task: asyncio.Task[None], stop: asyncio.Event) -> None:
        self.url = url
        self.queue = queue
        self.task = task
        self.stop = stop

    async def post(self, *alerts: t.Any) -> tuple[int, t.Any]:
        async with aiohttp.request("POST", f"{self.url}/alerts", json=list(alerts), headers=AUTHORIZED) as answer:
            return answer.status, await answer.json()

    async def report(self, host: str, sequence: int, token: str = TOKEN, path: str = "/events") -> tuple[int, t.Any]:
        body = {
            "host": host,
            "spool": "s-1",
            "reports": [{"sequence": sequence, "kind": "breach", "breach": {"name": "shop"}}],
            "heartbeat": {"interval": 30, "state": "degraded", "troubles": ["{{ x }}"]},
        }
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.request("POST", f"{self.url}{path}", json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def health(self) -> tuple[int, t.Any]:
        async with aiohttp.request("GET", f"{self.url}/healthz") as answer:
            return answer.status, await answer.json()

    async def metrics(self) -> str:
        async with aiohttp.request("GET", f"{self.url}/metrics") as answer:
            return await answer.text()

    async def event(self) -> t.Any:
        return await asyncio.wait_for(self.queue.get(), 20)

    async def acknowledge(self, event: t.Any, outcome: str = "isolated") -> int:
        """What the action plugin of alert_response does as the task of a host ends."""
        delivery = event["delivery"]
        receipt = {
            **{key: delivery[key] for key in ("hosts", "pattern", "deadline")},
            "trace_ids": [alert["trace_id"] for alert in event["alerts"]],
            "delivery": delivery["id"],
            "host": delivery["hosts"][0],
            "run_hosts": delivery["hosts"],
            "state": "answered",
            "policy_set_digest": "",
            "message": "",
            "alerts": [{"trace_id": alert["trace_id"], "outcome": outcome} for alert in event["alerts"]],
        }
        headers = {"Authorization": f"Receipt {delivery['capability']}"}
        async with aiohttp.request("POST", delivery["receipt_url"], json=receipt, headers=headers) as answer:
            return answer.status


@pytest.fixture
def serving(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> t.Callable[..., t.Any]:
    """A function that serves with the given options."""
    caplog.set_level("INFO")
    stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def stop_asked() -> AsyncIterator[asyncio.Event]:
        yield stop

    # Signals of this process are for pytest; tests/integration sends them to the real engine.
    monkeypatch.setattr(signals, "stop_asked", stop_asked)

    @contextlib.asynccontextmanager
    async def running(queue: t.Any = None, **options: t.Any) -> AsyncIterator[Serving]:
        stop.clear()
        caplog.clear()
        queue = asyncio.Queue() if queue is None else queue
        parsed = parse_options(
            {"token": TOKEN, "port": 0, "spool": str(tmp_path / "spool"), "hosts": ["web-1"], **options}
        )
        task = asyncio.create_task(serve(queue, parsed))
        try:
            while not (listening := re.search(r"Taking .* (http://[0-9.]+:\d+)/", caplog.text)):
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)
            yield Serving(listening[1], queue, task, stop)
        finally:
            task.cancel()
            await asyncio.wait([task])

    return running


async def test_an_alert_is_answered(serving: t.Any) -> None:
    async with serving() as source:
        status, answer = await source.post(ALERT)
        assert (status, answer["accepted"]) == (202, 1)
        event = await source.event()
        assert event["meta"] == {"hosts": ["web-1"]}
        assert [alert["rule"] for alert in event["alerts"]] == ["Shell spawned"]
        assert json.loads(json.dumps(event)) == event
        assert await source.acknowledge(event) == 200
        assert (await source.health())[1]["elements"] == {
            "received": 1,
            "answered": 1,
            "unanswered": 0,
            "handed_over": 0,
            "folded": 0,
            "dropped": 0,
            "rejected": 0,
            "passed_over": 0,
            "waiting": 0,
        }
        metrics = await source.metrics()
    assert 'container_guard_elements_total{account="answered"} 1\n' in metrics
    assert "container_guard_waiting_alerts 0\n" in metrics
    assert "container_guard_oldest_alert_seconds 0\n" in metrics


async def test_receipts_of_jobs(serving: t.Any) -> None:
    """Nobody listens for others then, and where the controller cannot be asked, it is told."""
    controller = {"controller_url": "http://127.0.0.1:1", "controller_token": TOKEN}
    async with serving(receipts="artifacts", **controller) as source:
        assert (await source.health())[0] == 200
        await source.post(ALERT)
        event = await source.event()
        assert set(event["delivery"]) == {"id", "hosts", "pattern", "deadline", "capability"}
        async with asyncio.timeout(20):
            while (found := await source.health())[0] == 200:
                await asyncio.sleep(0.05)
        assert found[1]["troubles"] == [
            "receipts cannot be read: the controller cannot be reached: ClientConnectorError"
        ]


async def test_receipts_of_jobs_need_a_controller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDA_CONTROLLER_URL", raising=False)
    monkeypatch.delitem(sys.modules, "ansible_rulebook.job_template_runner", raising=False)
    options = parse_options({"token": TOKEN, "port": 0, "receipts": "artifacts"})
    with pytest.raises(ValueError, match="there is no controller to read them from"):
        await serve(asyncio.Queue(), options)


async def test_what_was_accepted_is_delivered_after_a_restart_and_receipts_go_to_the_same_port(serving: t.Any) -> None:
    async with serving() as source:
        await source.post(ALERT)
        first = await source.event()
    async with serving() as source:
        second = await source.event()
        assert second["alerts"] == first["alerts"]
        assert second["delivery"]["receipt_url"] == first["delivery"]["receipt_url"]
        # Who answers the first one, which began before, has answered.
        assert await source.acknowledge(first) == 200
        assert (await source.health())[1]["elements"]["answered"] == 1


async def test_to_stop_it_takes_nothing_more_and_lets_deliveries_end(serving: t.Any) -> None:
    async with serving() as source:
        await source.post(ALERT)
        event = await source.event()
        source.stop.set()
        async with asyncio.timeout(20):
            with contextlib.suppress(aiohttp.ClientConnectionError):
                while (await source.post(ALERT))[0] in (202, 503):
                    pass
        assert not source.task.done()
        assert await source.acknowledge(event) == 200
        await asyncio.wait_for(source.task, 20)


async def test_a_request_that_hangs_does_not_keep_a_broken_source_from_ending(
    serving: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking(asyncio.Queue[t.Any]):
        async def put(self, item: object) -> None:
            raise RuntimeError("the engine is gone")

    async with serving(queue=Breaking(), read_timeout=30) as source:
        port = int(source.url.rpartition(":")[2])
        _reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9\r\n\r\n".encode()
        )
        assert (await source.post(ALERT))[0] == 202
        with pytest.raises(RuntimeError, match="the engine is gone"):
            await asyncio.wait_for(asyncio.shield(source.task), 10)
        writer.close()


async def test_a_second_source_on_one_spool(serving: t.Any, tmp_path: pathlib.Path) -> None:
    async with serving():
        options = parse_options({"token": TOKEN, "port": 0, "spool": str(tmp_path / "spool")})
        with pytest.raises(SpoolError) as caught:
            await serve(asyncio.Queue(), options)
    assert caught.value.kind == "spool_in_use"


async def test_a_port_in_use(tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        options = parse_options({"token": TOKEN, "port": other.getsockname()[1], "spool": str(tmp_path / "spool")})
        with pytest.raises(OSError, match="address already in use"):
            await serve(asyncio.Queue(), options)
    assert not (tmp_path / "spool").exists()


async def test_the_source_ends_when_events_go_nowhere(serving: t.Any) -> None:
    class Broken(asyncio.Queue[t.Any]):
        async def put(self, item: object) -> None:
            raise RuntimeError("the engine is gone")

    async with serving(queue=Broken()) as source:
        assert (await source.post(ALERT))[0] == 202
        with pytest.raises(RuntimeError, match="the engine is gone"):
            await asyncio.wait_for(asyncio.shield(source.task), 20)
        with pytest.raises(aiohttp.ClientConnectionError):
            await source.health()


async def test_plain_http_beyond_this_machine_is_warned_about(serving: t.Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving():
        assert "clear text" not in caplog.text
    async with serving(host="0.0.0.0"):  # noqa: S104 - that is what is warned about
        assert "cross the network in clear text" in caplog.text


@pytest.mark.parametrize(
    ("options", "senders"),
    [
        ({"token": TOKEN}, 1),
        ({"token": TOKEN, "path_token": f"{TOKEN}-2", "files": ["/f", "/g"]}, 2),
        ({"senders": [{"name": name, "tokens": [f"{TOKEN}-{name}"], "hosts": [name]} for name in "abc"]}, 3),
        ({"token": TOKEN, "senders": [{"name": "a", "tokens": [f"{TOKEN}-a"], "hosts": ["a"]}]}, 2),
    ],
    ids=str,
)
def test_how_many_senders_share_the_spool(options: dict[str, t.Any], senders: int) -> None:
    assert limits_of(parse_options(options)).senders == senders


async def test_with_files_alone_nobody_posts(
    serving: t.Any, caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "falco.json"
    path.touch()
    async with serving(token=None, files=[str(path)]) as source:
        assert "Taking alerts from files alone" in caplog.text
        status, answer = await source.post(ALERT)
        assert (status, answer["error"]["kind"]) == (401, "unauthorized")
        assert "Set token" in answer["error"]["remedy"]
        assert (await source.health())[0] == 200
        # Written until it is followed: what was there before is not read.
        async with asyncio.timeout(20):
            while source.queue.empty():
                with path.open("a") as file:
                    file.write(json.dumps(ALERT) + "\n")
                await asyncio.sleep(0.1)
        assert [alert["rule"] for alert in (await source.event())["alerts"]] == ["Shell spawned"]


async def test_hosts_that_are_not_in_the_inventory_are_told(serving: t.Any, tmp_path: pathlib.Path) -> None:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text("docker: {hosts: {web-2: , web-3: }}")
    async with serving(inventory=str(inventory), lookup_hosts=["docker"]) as source:
        async with asyncio.timeout(60):
            while not (warnings := (await source.health())[1]["warnings"]):
                await asyncio.sleep(0.1)
        assert warnings == ["hosts: not in the inventory: web-1. Alerts about them reach no host"]
        await source.post({**ALERT, "host": "unknown"})
        hosts: list[str] = []
        while len(hosts) < 2:
            hosts += (await source.event())["meta"]["hosts"]
        assert sorted(hosts) == ["web-2", "web-3"]


async def test_receipts_off(serving: t.Any) -> None:
    async with serving(receipts=False) as source:
        await source.post(ALERT)
        assert "delivery" not in await source.event()
        async with asyncio.timeout(20):
            while not (await source.health())[1]["elements"]["handed_over"]:
                await asyncio.sleep(0.01)
        status, health = await source.health()
        assert status == 200
        assert "receipts are off" in health["warnings"][0]


async def test_reports_of_a_host_service(serving: t.Any) -> None:
    async with serving() as source:
        assert (await source.report("web-1", 1, token="wrong-horse-battery"))[1]["error"]["kind"] == "unauthorized"
        assert await source.report("web-1", 1) == (202, {"taken": 1, "known": 0, "rejected": []})
        assert (await source.event())["breach"]["name"] == "shop"
        assert (await source.event())["degraded"]["troubles"] == ["{ { x }}"]
        assert (await source.report("web-1", 1))[1]["known"] == 1
        status, answer = await source.report("web-2", 1)  # not one of the hosts that are known
        assert (status, answer["error"]["kind"]) == (403, "foreign_host")
        metrics = await source.metrics()
    assert "container_guard_hosts_degraded 1\n" in metrics
    assert "container_guard_hosts_missing 0\n" in metrics
    assert 'container_guard_reports_total{kind="breach"} 1\n' in metrics
    assert re.search(r'container_guard_heartbeat_age_seconds\{host="web-1"\} [0-9]', metrics)
    assert 'host="web-2"' not in metrics


async def test_a_host_reports_what_is_its_own(serving: t.Any) -> None:
    tokens = {name: f"correct-horse-of-{name}" for name in ("web-1", "web-2")}
    senders = [{"name": name, "hosts": [name], "tokens": [token]} for name, token in tokens.items()]
    async with serving(senders=senders) as source:
        for path in ("/events", "/events/"):
            found = (await source.report("web-1", 1, token=tokens["web-2"], path=path))[1]["error"]
            assert found["kind"] == ("foreign_host" if path == "/events" else "not_found")
        assert (
            "sender web-2 does not speak for host web-1"
            in (await source.report("web-1", 1, token=tokens["web-2"]))[1]["error"]["message"]
        )
        assert (await source.report("web-1", 1, token=tokens["web-1"]))[0] == 202
        assert (await source.event())["host"] == "web-1"


async def test_nobody_can_report_where_nobody_can_post(serving: t.Any, tmp_path: pathlib.Path) -> None:
    async with serving(token=None, files=[str(tmp_path / "alerts.json")]) as source:
        assert (await source.report("web-1", 1))[0] == 404
