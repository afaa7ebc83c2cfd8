# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import typing as t
from collections.abc import AsyncIterator

import aiohttp
import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.server import serve

TOKEN = "correct-horse-battery"
PATH_TOKEN = "staple_correct.horse~battery"
ALERT = {"source": "sensor", "rule": "Shell spawned", "severity": "high", "host": "web-1"}
BODY = json.dumps(ALERT)

Start = t.Any


def http(*headers: str, body: bytes = b"") -> bytes:
    head = ["POST /alerts HTTP/1.1", "Host: guard", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


AUTHORIZED = f"Authorization: Bearer {TOKEN}"


async def test_an_alert_becomes_an_event(start: Start) -> None:
    async with start(hosts=["web-1"]) as intake:
        status, answer = await intake.post(json.dumps({**ALERT, "id": "a-1", "trace_id": "t-1"}))
        assert (status, answer) == (202, {"accepted": 1, "alerts": [{"id": "a-1", "trace_id": "t-1"}]})
        event = await intake.event()
    assert event["meta"] == {"hosts": ["web-1"]}
    assert [alert["rule"] for alert in event["alerts"]] == ["Shell spawned"]
    assert json.loads(json.dumps(event)) == event


async def test_an_array_is_taken_as_a_whole_or_not_at_all(start: Start) -> None:
    async with start() as intake:
        status, answer = await intake.post(json.dumps([ALERT, {**ALERT, "severity": "urgent"}]))
        assert status == 400
        assert answer["error"]["message"].startswith("element 1: severity is not one of")
        status, answer = await intake.post(json.dumps([ALERT, ALERT]))
        assert (status, answer["accepted"], len(answer["alerts"])) == (202, 2, 2)
        assert len((await intake.event())["alerts"]) == 2


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        ("/alerts", f"Bearer {TOKEN}"),
        ("/alerts", f"bearer  {TOKEN} "),
        (f"/alerts/{PATH_TOKEN}", None),
        (f"/alerts/{PATH_TOKEN}", "Bearer wrong"),
        ("/alerts/wrong", f"Bearer {TOKEN}"),
    ],
)
async def test_either_token_is_enough(start: Start, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with start(path_token=PATH_TOKEN) as intake:
        assert (await intake.post(BODY, path, token=None, headers=headers))[0] == 202


@pytest.mark.parametrize("option", ["token", "path_token"])
@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        ("/alerts", ""),
        ("/alerts", "Bearer"),
        ("/alerts", "Bearer wrong"),
        ("/alerts", f"Basic {TOKEN}"),
        ("/alerts", TOKEN),
        ("/alerts", f"Bearer {TOKEN}x"),
        ("/alerts", f"Bearer {PATH_TOKEN}"),
        ("/alerts", "Bearer \u00fc\u20ac"),
        (f"/alerts/{TOKEN}", ""),
        ("/alerts/None", ""),
        ("/alerts/%00%ff%2f", ""),
    ],
)
async def test_all_strangers_get_the_same_answer(start: Start, option: str, path: str, authorization: str) -> None:
    secrets = {"token": None, "path_token": None, option: TOKEN if option == "token" else PATH_TOKEN}
    async with (
        start(**secrets) as intake,
        intake.client.post(path, data=BODY, headers={"Authorization": authorization}) as answer,
    ):
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert await answer.json() == {
            "error": {
                "kind": "unauthorized",
                "message": "the token is missing or wrong",
                "remedy": "Send 'Authorization: Bearer TOKEN', or post to /alerts/PATH_TOKEN",
            }
        }


async def test_a_stranger_is_refused_before_the_body_is_read(start: Start) -> None:
    async with start() as intake:
        assert (await intake.raw(http("Content-Length: 1000"))).startswith("HTTP/1.1 401 ")
        answer = await intake.raw(http("Content-Length: 1000", "Expect: 100-continue"))
        assert answer.startswith("HTTP/1.1 401 ")


async def test_a_sender_may_ask_before_it_sends(start: Start) -> None:
    async with start() as intake:
        body = BODY.encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
        writer.write(http(AUTHORIZED, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
        writer.close()


@pytest.mark.parametrize("path", ["/", "/alert", "/alerts/", "/alerts/a/b", "/healthz/x", "/{{x}}"])
async def test_there_is_nothing_else(start: Start, path: str) -> None:
    async with start() as intake:
        status, answer = await intake.post(BODY, path)
    assert status == 404
    assert answer["error"]["kind"] == "not_found"
    assert "x" not in answer["error"]["message"]


@pytest.mark.parametrize(("method", "path", "allowed"), [("GET", "/alerts", "POST"), ("POST", "/healthz", "GET,HEAD")])
async def test_other_methods(start: Start, method: str, path: str, allowed: str) -> None:
    async with start() as intake, intake.client.request(method, path) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == allowed
        assert (await answer.json())["error"]["kind"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("body", "kind"),
    [("", "not_json"), ("\ud83d", "not_json"), ("{}", "not_an_alert"), ('{"rule": 1}', "invalid_alert")],
)
async def test_no_alert(start: Start, body: str, kind: str) -> None:
    async with start() as intake:
        status, answer = await intake.post(body.encode("utf-8", "surrogatepass"))
    assert status == 400
    assert answer["error"]["kind"] == kind


async def test_answers_do_not_echo_templates(start: Start) -> None:
    async with start() as intake:
        status, answer = await intake.post(json.dumps({**ALERT, "{{ lookup('pipe', 'id') }}\x1b[2J": 1}))
    assert status == 400
    assert answer["error"]["message"] == r"unknown key { { lookup('pipe', 'id') }}\x1b[2J"


async def test_slow_body(start: Start) -> None:
    async with start(read_timeout=1) as intake:
        answer = await intake.raw(http(AUTHORIZED, "Content-Length: 1000", body=b"{"))
    assert answer.startswith("HTTP/1.1 408 ")
    assert '"kind": "slow_body"' in answer


async def chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * size


async def test_too_large(start: Start) -> None:
    async with start(body_limit=2048) as intake:
        assert (await intake.post(BODY.ljust(2048)))[0] == 202
        status, answer = await intake.post(BODY.ljust(2049))
        assert (status, answer["error"]["kind"]) == (413, "too_large")
        assert "2048 bytes" in answer["error"]["message"]
        assert (await intake.post(chunks(512, 5)))[0] == 413


async def test_compressed(start: Start) -> None:
    encoding = {"Content-Encoding": "gzip"}
    async with start(body_limit=65_536) as intake:
        assert (await intake.post(gzip.compress(BODY.encode()), headers=encoding))[0] == 202
        bomb = gzip.compress(b" " * 20_000_000)
        assert len(bomb) < 65_536
        assert (await intake.post(bomb, headers=encoding))[0] == 413
        status, answer = await intake.post("no gzip at all", headers=encoding)
        assert (status, answer["error"]["kind"]) == (400, "unreadable_body")


async def test_a_sender_that_goes_away_is_no_alert(start: Start) -> None:
    async with start() as intake:
        _, writer = await asyncio.open_connection("127.0.0.1", intake.port)
        writer.write(http(AUTHORIZED, f"Content-Length: {len(BODY) + 1}", body=BODY.encode()))
        await writer.drain()
        writer.close()
        async with asyncio.timeout(10):
            while not (health := await intake.get("/healthz"))["rejected"]:
                await asyncio.sleep(0.01)
    assert health["rejected"] == {"unreadable_body": 1}
    assert health["accepted"] == 0


async def test_full(start: Start) -> None:
    queue: asyncio.Queue[t.Any] = asyncio.Queue(1)
    await queue.put("the engine is busy")
    async with start(queue=queue, queue_max=2, batch_interval=30) as intake:
        assert (await intake.post(BODY))[0] == 202
        async with intake.client.post(
            "/alerts", json=[ALERT, ALERT], headers={"Authorization": f"Bearer {TOKEN}"}
        ) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "30"
            assert (await answer.json())["error"]["kind"] == "full"
        assert (await intake.get("/healthz"))["waiting"] == 1
        assert (await intake.post(BODY))[0] == 202
        status, answer = await intake.post(json.dumps([ALERT] * 3))
        assert (status, answer["error"]["kind"]) == (413, "too_many_alerts")


async def test_healthz_counts_and_tells_no_secret(start: Start) -> None:
    async with start(path_token=PATH_TOKEN, hosts=["web-1"], lookup_hosts=[]) as intake:
        assert await intake.get("/healthz") == {
            "status": "ok",
            "accepted": 0,
            "waiting": 0,
            "events": 0,
            "dropped": {"unknown_host": 0},
            "rejected": {},
        }
        await intake.post(json.dumps([ALERT, ALERT]))
        await intake.post(json.dumps({**ALERT, "host": "web-9"}))
        await intake.post("", token="wrong")
        await intake.post("{")
        await intake.post("{")
        await intake.event()
        health = await intake.get("/healthz")
    assert health == {
        "status": "ok",
        "accepted": 2,
        "waiting": 0,
        "events": 1,
        "dropped": {"unknown_host": 1},
        "rejected": {"unauthorized": 1, "not_json": 2},
    }


async def test_the_log_tells_how_and_no_secret(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start(path_token=PATH_TOKEN) as intake:
        await intake.post(BODY, f"/alerts/{PATH_TOKEN}")
        await intake.post("{", f"/alerts/{PATH_TOKEN}")
        await intake.raw(http(AUTHORIZED.replace(":", " :")))  # malformed: aiohttp would log the line
        await intake.event()
    started = f"Taking alerts at http://127.0.0.1:{intake.port}/alerts (checked: token, path token)"
    refused = "Refused a request of 127.0.0.1 with 400: the message is not JSON (Expecting property name"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("ansible_collections")]
    assert len(ours) == 2
    assert ours[0] == started
    assert ours[1].startswith(refused)
    assert TOKEN not in caplog.text
    assert PATH_TOKEN not in caplog.text


async def test_plain_http_beyond_this_machine_is_warned_about(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start():
        assert "clear text" not in caplog.text
    caplog.clear()
    async with start(host="0.0.0.0"):  # noqa: S104 - that is what is warned about
        assert "cross the network in clear text" in caplog.text


async def test_an_unexpected_failure_is_answered_and_logged(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(body: bytes) -> t.NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(f"{serve.__module__}.alerts_from_bytes", fail)
    async with start() as intake:
        status, answer = await intake.post(BODY)
    assert (status, answer["error"]["kind"]) == (500, "internal_error")
    assert "RuntimeError: a bug" in caplog.text


async def test_a_shutdown_hands_over_what_waits(start: Start) -> None:
    async with start(batch_window=10, batch_interval=3600) as intake:
        await intake.post(BODY)
        assert intake.queue.empty()
        intake.task.cancel()
        await asyncio.wait([intake.task])
        assert intake.task.cancelled()
        assert len(intake.queue.get_nowait()["alerts"]) == 1
        with pytest.raises(aiohttp.ClientConnectionError):
            await intake.post(BODY)


async def test_a_shutdown_does_not_wait_for_an_engine_that_is_gone(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    queue: asyncio.Queue[t.Any] = asyncio.Queue(1)
    await queue.put("nobody takes this")
    async with start(queue=queue) as intake:
        await intake.post(json.dumps([ALERT, ALERT]))
        intake.task.cancel()
        done, _ = await asyncio.wait([intake.task], timeout=10)
        assert done
    assert "Lost 2 alerts" in caplog.text


async def test_requests_during_a_shutdown_are_refused(start: Start) -> None:
    queue: asyncio.Queue[t.Any] = asyncio.Queue(1)
    await queue.put("nobody takes this")
    async with start(queue=queue) as intake:
        await intake.post(BODY)  # the connection stays open
        intake.task.cancel()
        await asyncio.sleep(0)
        status, answer = await intake.post(BODY)
    assert (status, answer["error"]["kind"]) == (503, "shutting_down")


async def test_the_source_ends_when_events_go_nowhere(start: Start) -> None:
    class Broken(asyncio.Queue[t.Any]):
        async def put(self, item: object) -> None:
            raise RuntimeError("the engine is gone")

    async with start(queue=Broken()) as intake:
        assert (await intake.post(BODY))[0] == 202
        with pytest.raises(RuntimeError, match="the engine is gone"):
            await asyncio.wait_for(intake.task, 10)
        with pytest.raises(aiohttp.ClientConnectionError):
            await intake.get("/healthz")


async def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        options = parse_options({"token": TOKEN, "port": other.getsockname()[1]})
        with pytest.raises(OSError, match="address already in use"):
            await serve(asyncio.Queue(), options)


async def test_concurrent_senders_share_events(start: Start) -> None:
    async with start() as intake:
        answers = await asyncio.gather(*(intake.post(BODY) for _ in range(100)))
        assert {status for status, _ in answers} == {202}
        sizes = [len((await intake.event())["alerts"])]
        while sum(sizes) < 100:
            sizes.append(len((await intake.event())["alerts"]))
    assert sum(sizes) == 100
    assert len(sizes) <= 3


async def test_mutual_tls(start: Start, certificates: t.Any, caplog: pytest.LogCaptureFixture) -> None:
    options = {"certfile": certificates.server, "keyfile": certificates.server_key, "cafile": certificates.ca}
    stranger = ssl.create_default_context(cafile=certificates.ca)
    known = ssl.create_default_context(cafile=certificates.ca)
    known.load_cert_chain(certificates.client, certificates.client_key)
    async with start(token=None, scheme="https", **options) as intake:
        assert "at https://127.0.0.1" in caplog.text
        assert "(checked: client certificate)" in caplog.text
        assert (await intake.post(BODY, token=None, ssl=known))[0] == 202
    caplog.clear()
    async with start(scheme="https", **options) as intake:
        # With TLS 1.3 the client learns of the refusal when it reads.
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await intake.post(BODY, ssl=stranger)
        assert (await intake.post(BODY, token=None, ssl=known))[0] == 401
        assert (await intake.post(BODY, ssl=known))[0] == 202


async def test_tls_without_client_certificates(start: Start, certificates: t.Any) -> None:
    known = ssl.create_default_context(cafile=certificates.ca)
    async with start(scheme="https", certfile=certificates.server, keyfile=certificates.server_key) as intake:
        assert (await intake.post(BODY, ssl=known))[0] == 202


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certfile": "/nowhere"}, "certfile '/nowhere' and keyfile .* cannot be used"),
        ({"keyfile": None}, "keyfile None cannot be used"),
        ({"cafile": "/nowhere"}, "cafile '/nowhere' cannot be used"),
        ({"cafile": "server_key"}, "cafile .* cannot be used"),
        ({"keyfile": "locked_key"}, "the key without a password"),
    ],
)
async def test_unusable_certificate_files(certificates: t.Any, change: dict[str, str | None], message: str) -> None:
    files = {"certfile": certificates.server, "keyfile": certificates.server_key, "cafile": certificates.ca}
    changed = {name: getattr(certificates, value or "", value) for name, value in change.items()}
    with pytest.raises(ValueError, match=message):
        await serve(asyncio.Queue(), parse_options({"port": 0, **files, **changed}))
