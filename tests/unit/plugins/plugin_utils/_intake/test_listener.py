# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import datetime
import email.utils
import gzip
import hashlib
import hmac
import json
import typing as t
from collections.abc import AsyncIterator

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import listener
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import SpoolError

TOKEN = "correct-horse-battery"
PATH_TOKEN = "staple_correct.horse~battery"
ALERT = {"source": "sensor", "rule": "Shell spawned", "severity": "high", "host": "web-1"}
BODY = json.dumps(ALERT)
FALCO = {"priority": "Critical", "rule": "Drop and execute", "source": "syscall", "output_fields": {}}

Start = t.Any


def http(*headers: str, body: bytes = b"", path: str = "/alerts", method: str = "POST") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: guard", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


AUTHORIZED = f"Authorization: Bearer {TOKEN}"


async def test_an_alert_is_stored_with_its_host(start: Start) -> None:
    async with start(hosts=["web-1"]) as intake:
        status, answer = await intake.post(json.dumps({**ALERT, "id": "a-1", "trace_id": "t-1"}))
        assert (status, answer) == (
            202,
            {
                "accepted": 1,
                "alerts": [{"id": "a-1", "trace_id": "t-1"}],
                "dropped": 0,
                "passed_over": {},
                "rejected": [],
            },
        )
    (offer,) = intake.spool.offers
    assert offer.targets == ("web-1",)
    assert (offer.alert.rule, offer.alert.inventory_host) == ("Shell spawned", "web-1")


async def test_put_is_post(start: Start) -> None:
    async with (
        start() as intake,
        intake.client.put("/alerts", data=BODY, headers={"Authorization": f"Bearer {TOKEN}"}) as answer,
    ):
        assert answer.status == 202
    assert len(intake.alerts) == 1


async def test_each_element_is_taken_for_itself(start: Start) -> None:
    async with start() as intake:
        status, answer = await intake.post(json.dumps([{**ALERT, "severity": "urgent"}, ALERT, 1]))
        assert (status, answer["accepted"]) == (202, 1)
        assert [(one["index"], one["kind"]) for one in answer["rejected"]] == [
            (0, "invalid_alert"),
            (2, "not_an_alert"),
        ]
        assert answer["rejected"][0]["reason"].startswith("severity is not one of")
        assert "remedy" in answer["rejected"][0]
        status, answer = await intake.post(json.dumps([1, {**ALERT, "severity": "urgent"}]))
        assert (status, answer["error"]["kind"]) == (400, "not_an_alert")
        assert answer["error"]["message"].startswith("element 0: ")
    assert len(intake.alerts) == 1


async def test_what_is_folded_says_into_what(start: Start) -> None:
    async with start() as intake:
        _, first = await intake.post(BODY)
        _, second = await intake.post(BODY)
    assert second["alerts"][0]["folded_into"] == first["alerts"][0]["trace_id"]


async def test_what_no_policy_wants_is_dropped_and_that_is_no_error(start: Start) -> None:
    async with start(hosts=["web-1"]) as intake:
        intake.wanted.rules = {"Shell spawned"}
        status, answer = await intake.post(BODY)
        assert (status, answer["accepted"], answer["dropped"]) == (202, 0, 1)
    assert intake.alerts == []
    assert intake.wanted.asked == [("web-1",)]
    assert intake.spool.counts == {"dropped": 1}


async def test_a_flood_of_it_is_not_read_whole_until_anything_changes(start: Start) -> None:
    async with start(hosts=["web-1"]) as intake:
        intake.wanted.rules = {"Shell spawned"}
        for _ in range(50):
            assert (await intake.post(BODY))[1]["dropped"] == 1
        assert intake.spool.counts == {"dropped": 50}
        assert len(intake.wanted.asked) < 50
        intake.wanted.rules, intake.wanted.digest = set(), "set-2"
        assert (await intake.post(BODY))[1]["accepted"] == 1
        intake.wanted.rules = {"Shell spawned"}
        await intake.post(BODY)
        intake.wanted.rules = set()
        intake.intake.confirmed("web-1", "set-1")
        assert (await intake.post(BODY))[1]["accepted"] == 1


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        ("/alerts", f"Bearer {TOKEN}"),
        ("/alerts", f"bearer  {TOKEN} "),
        ("/alerts", "Bearer the-next-token-of-all"),
        (f"/alerts/{PATH_TOKEN}", None),
        (f"/alerts/{PATH_TOKEN.replace('~', '%7E')}?x=1", None),
        (f"/alerts/generic/{PATH_TOKEN}", None),
        ("/alerts/the-next-path-token", None),
        (f"/alerts/{PATH_TOKEN}", "Bearer wrong"),
        ("/alerts/wrong", f"Bearer {TOKEN}"),
        ("/alerts/generic", f"Bearer {TOKEN}"),
    ],
)
async def test_any_token_is_enough(start: Start, path: str, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    options = {"tokens": ["the-next-token-of-all"], "path_token": PATH_TOKEN, "path_tokens": ["the-next-path-token"]}
    async with start(**options) as intake:
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
        (f"/alerts/falco/{TOKEN}", ""),
        ("/alerts/falco", ""),
        ("/alerts/a/b", ""),
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
    assert intake.alerts == []


async def test_a_path_may_name_the_detector(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start(path_token=PATH_TOKEN) as intake:
        # What is by its shape one of Falco is none for the generic parser, which it is forced upon.
        assert (await intake.post(json.dumps(FALCO), "/alerts/falco"))[0] == 202
        assert (await intake.post(json.dumps(FALCO), f"/alerts/falco/{PATH_TOKEN}", token=None))[0] == 202
        status, answer = await intake.post(json.dumps(FALCO), "/alerts/generic")
        assert (status, answer["error"]["kind"]) == (400, "invalid_alert")
        assert "unknown detector" not in caplog.text
        # A detector that reads no answer must not lose alerts because of a typo.
        assert (await intake.post(json.dumps(FALCO), f"/alerts/flaco/{PATH_TOKEN}", token=None))[0] == 202
    assert "the path of an unknown detector. Known are: " in caplog.text


async def test_a_stranger_is_refused_before_the_body_is_read(start: Start) -> None:
    async with start() as intake:
        assert (await intake.raw(http("Content-Length: 1000"))).startswith("HTTP/1.1 401 ")
        answer = await intake.raw(http("Content-Length: 1000", "Expect: 100-continue"))
        assert answer.startswith("HTTP/1.1 401 ")


async def test_a_sender_may_ask_before_it_sends(start: Start) -> None:
    async with start() as intake:
        body = BODY.encode()
        reader, writer = await intake.connect()
        writer.write(http(AUTHORIZED, f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202 ")
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> tuple[bytes, t.Any]:
    """Status line and content of one answer on a connection that stays open."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
    return head.partition(b"\r")[0], json.loads(await reader.readexactly(length))


async def test_as_falco_sends(start: Start) -> None:
    """What libcurl 7.88 was seen to send with the options of Falco's http_output and keep_alive, byte by byte."""
    body = json.dumps({**FALCO, "output": "x" * 1200}).encode()
    common = (
        f"POST /alerts/{PATH_TOKEN} HTTP/1.1\r\nHost: guard.example.com:5000\r\nUser-Agent: falcosecurity/falco\r\n"
        "Accept: */*\r\nContent-Type: application/json\r\n"
    )
    async with start(path_token=PATH_TOKEN) as intake:
        reader, writer = await intake.connect()

        async def send(data: bytes) -> None:
            for position in range(len(data)):
                writer.write(data[position : position + 1])
                await writer.drain()
                if position % 100 == 0:
                    await asyncio.sleep(0)

        async with asyncio.timeout(30):
            # Above 1 KB: it asks first.
            await send(f"{common}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await send(body)
            assert (await answer_of(reader))[0] == b"HTTP/1.1 202 Accepted"
            # On the same connection, chunked (http_output without a length, by configuration).
            await send(f"{common}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode())
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            for chunk in (body[:700], body[700:]):
                await send(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            await send(b"0\r\n\r\n")
            assert (await answer_of(reader))[0] == b"HTTP/1.1 202 Accepted"
            # A small one asks for nothing.
            small = json.dumps(FALCO).encode()
            await send(f"{common}Content-Length: {len(small)}\r\n\r\n".encode() + small)
            assert (await answer_of(reader))[0] == b"HTTP/1.1 202 Accepted"
        writer.close()
        assert len(intake.alerts) == 3
        assert (await intake.metrics())["connections"] <= 2


async def test_as_libcurl_sends(start: Start) -> None:
    body = json.dumps({**FALCO, "output": "x" * 1200})
    async with start(path_token=PATH_TOKEN) as intake:
        one = [
            *("--silent", "--show-error", "--max-time", "20", "--header", "Expect: 100-continue", "--data", body),
            *("--write-out", " %{http_code} %{num_connects}\\n", f"http://127.0.0.1:{intake.port}/alerts/{PATH_TOKEN}"),
        ]
        command = ["curl", *one, "--next", *one, "--header", "Transfer-Encoding: chunked"]
        curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await curl.communicate()
    # The second on the connection of the first.
    assert [line.rsplit(" ", 2)[1:] for line in output.decode().splitlines()] == [["202", "1"], ["202", "0"]]
    assert len(intake.alerts) == 2


@pytest.mark.parametrize("path", ["/", "/alert", "/alerts/", "/alerts//x", "/alerts/a/b/c", "/healthz/x", "/{{x}}"])
async def test_there_is_nothing_else(start: Start, path: str) -> None:
    async with start() as intake:
        status, answer = await intake.post(BODY, path)
    assert status == 404
    assert answer["error"]["kind"] == "not_found"
    assert "x" not in answer["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/alerts", "POST, PUT"), ("POST", "/healthz", "GET, HEAD"), ("DELETE", "/metrics", "GET, HEAD")],
)
async def test_other_methods(start: Start, method: str, path: str, allowed: str) -> None:
    async with start() as intake, intake.client.request(method, path) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == allowed
        assert (await answer.json())["error"]["kind"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("body", "kind"),
    [("", "not_"), ("\ud83d", "not_json"), ("{}", "not_an_alert"), ('{"rule": 1}', "invalid_alert")],
)
async def test_no_alert(start: Start, body: str, kind: str) -> None:
    async with start() as intake:
        status, answer = await intake.post(body.encode("utf-8", "surrogatepass"))
    assert status == 400
    assert answer["error"]["kind"].startswith(kind)


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


async def test_large_ones_are_read_while_others_are_answered(start: Start) -> None:
    async with start() as intake:
        status, answer = await intake.post(json.dumps([{**ALERT, "message": "x" * 500}] * 500))
    assert (status, answer["accepted"]) == (202, 500)


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
        _, writer = await intake.connect()
        writer.write(http(AUTHORIZED, f"Content-Length: {len(BODY) + 1}", body=BODY.encode()))
        await writer.drain()
        writer.close()
        await intake.metric('requests_refused_total{listener="alerts",kind="unreadable_body"}')
    assert intake.alerts == []


async def test_one_that_asks_and_goes_away_is_no_line_of_code_in_the_log(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with start(token=None, hmac_secret="a-key-of-somebody") as intake:
        for _ in range(20):
            _, writer = await intake.connect()
            writer.write(http("Content-Length: 100", "Expect: 100-continue"))
            await writer.drain()
            writer.transport.abort()
        await intake.metric('requests_refused_total{listener="alerts",kind="unreadable_body"}', 20)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "request_",
    [
        http(
            AUTHORIZED, *(f"X-{number}: 1" for number in range(70)), f"Content-Length: {len(BODY)}", body=BODY.encode()
        ),
        http(AUTHORIZED, "X-Large: " + "x" * 9000, f"Content-Length: {len(BODY)}", body=BODY.encode()),
        http(AUTHORIZED.replace(":", " :"), body=BODY.encode()),
        b"\x00\x01\x02\r\n\r\n",
    ],
    ids=["too many headers", "a header too large", "malformed", "no text"],
)
async def test_what_is_no_http_or_beyond_its_limits(
    start: Start, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    async with start() as intake:
        answer = await intake.raw(request_)
        assert " 400 " in answer
        assert '"kind": "bad_request"' in answer
        assert (await intake.metrics())["malformed_requests_total"] == 1
    assert intake.alerts == []
    assert "it is no HTTP, or beyond its limits" in caplog.text
    assert "Traceback" not in caplog.text
    assert TOKEN not in caplog.text


async def test_tls_to_a_plain_listener(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start() as intake:
        await intake.raw(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x07" * 160)
    assert "it speaks TLS, and certfile is not set" in caplog.text


async def test_full(start: Start) -> None:
    async with start() as intake:
        intake.spool.failure = SpoolError("2 alerts wait already, of at most 2", kind="spool_full")
        async with intake.client.post(
            "/alerts", json=[ALERT, ALERT], headers={"Authorization": f"Bearer {TOKEN}"}
        ) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert (await answer.json())["error"]["kind"] == "spool_full"
        intake.spool.failure = None
        assert (await intake.post(BODY))[0] == 202
        assert (await intake.metrics())['requests_refused_total{listener="alerts",kind="spool_full"}'] == 1


async def test_too_many_alerts(start: Start) -> None:
    async with start(queue_max=2) as intake:
        status, answer = await intake.post(json.dumps([ALERT] * 3))
        assert (status, answer["error"]["kind"]) == (413, "too_many_alerts")


async def test_too_many_requests_wait_and_then_are_told(start: Start) -> None:
    async with start(max_requests=1, read_timeout=1) as intake:
        intake.spool.go_on.clear()
        first = asyncio.create_task(intake.post(BODY))
        async with asyncio.timeout(10):
            while not intake.wanted.asked:
                await asyncio.sleep(0.01)
        status, answer = await intake.post(BODY)
        assert (status, answer["error"]["kind"]) == (503, "busy")
        second = asyncio.create_task(intake.post(BODY))
        intake.spool.go_on.set()
        assert [(await first)[0], (await second)[0]] == [202, 202]
    assert len(intake.alerts) == 2


async def test_a_signature_is_needed_in_addition(start: Start) -> None:
    def signed(key: str, body: str = BODY, prefix: str = "sha256=") -> dict[str, str]:
        return {"X-Hub-Signature-256": prefix + hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()}

    keys = ["the-first-of-the-keys", "the-second-of-the-keys"]
    async with start(hmac_secret=keys[0], hmac_secrets=keys[1:]) as intake:
        for headers in ({}, signed("another-key-that-is-wrong"), signed(keys[0], "x")):
            status, answer = await intake.post(BODY, headers=headers)
            assert (status, answer["error"]["kind"]) == (401, "wrong_signature")
        for key, prefix in ((keys[0], "sha256="), (keys[1], "")):
            assert (await intake.post(BODY, headers=signed(key, prefix=prefix)))[0] == 202
        assert (await intake.post(BODY, token=None, headers=signed(keys[0])))[0] == 401
    async with start(token=None, hmac_secret=keys[0], hmac_header="X-Grafana-Alerting-Signature") as intake:
        headers = {"X-Grafana-Alerting-Signature": signed(keys[0], prefix="")["X-Hub-Signature-256"]}
        assert (await intake.post(BODY, token=None, headers=headers))[0] == 202
        assert (await intake.post(BODY, token=None, headers=signed(keys[0])))[0] == 401


async def test_a_sender_speaks_for_its_hosts_only(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    senders = [
        {"name": "one", "tokens": ["the-token-of-web-1"], "hosts": ["web-1"]},
        {"name": "two", "path_tokens": ["the-path-of-the-others"], "hosts": ["web-2", "web-3"]},
    ]
    async with start(token=None, senders=senders, host_map={"0aa": "web-2"}) as intake:
        token = "the-token-of-web-1"
        assert (await intake.post(json.dumps({**ALERT, "rule": "own"}), token=token))[0] == 202
        # Falco in a container says an id that nobody knows; whoever sends says which host it is.
        assert (await intake.post(json.dumps({**ALERT, "rule": "id", "host": "054aab939018"}), token=token))[0] == 202
        status, answer = await intake.post(json.dumps({**ALERT, "host": "0aa"}), token=token)
        assert (status, answer["error"]["kind"]) == (400, "foreign_host")
        assert answer["error"]["message"] == "sender one does not speak for host web-2"
        path = "/alerts/the-path-of-the-others"
        assert (await intake.post(json.dumps({**ALERT, "rule": "web", "host": "web-3"}), path, token=None))[0] == 202
        assert (await intake.post(json.dumps({**ALERT, "rule": "any", "host": ""}), path, token=None))[0] == 202
        assert (await intake.post(BODY))[0] == 401
        metrics = await intake.metrics()
    assert {offer.alert.rule: (offer.alert.inventory_host, offer.targets) for offer in intake.spool.offers} == {
        "own": ("web-1", ("web-1",)),
        "id": ("web-1", ("web-1",)),
        "web": ("web-3", ("web-3",)),
        "any": ("", ("web-2", "web-3")),
    }
    assert metrics['elements_of_sender_total{sender="one"}'] == 3
    assert metrics['elements_of_sender_total{sender="two"}'] == 2
    assert metrics['elements_rejected_total{kind="foreign_host"}'] == 1
    assert intake.spool.counts == {"rejected": 1}
    assert "Rejected an alert of sender one: sender one does not speak for host web-2" in caplog.text


async def test_health_tells_troubles_and_no_secret(start: Start) -> None:
    async with start(path_token=PATH_TOKEN, notes=["The variable guard_hots is not read"]) as intake:
        await intake.post("", token="wrong")
        await intake.post("{")
        await intake.post("{")
        assert await intake.health() == (
            200,
            {
                "status": "ok",
                "troubles": [],
                "warnings": ["The variable guard_hots is not read"],
                "elements": {"received": 0, "waiting": 0},
                "refused": {"unauthorized": 1, "not_json": 2},
            },
        )
        intake.spool.trouble = ["the disk is full"]
        intake.deliveries.trouble = ["the engine takes no events"]
        status, health = await intake.health()
        assert (status, health["status"]) == (503, "failing")
        assert health["troubles"] == ["the disk is full", "the engine takes no events"]
        assert (await intake.metrics())["troubles"] == 2
        async with intake.client.head("/healthz") as answer:
            assert answer.status == 503


async def test_the_log_tells_how_and_no_secret(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start(path_token=PATH_TOKEN) as intake:
        await intake.post(BODY, f"/alerts/{PATH_TOKEN}")
        await intake.post("{", f"/alerts/{PATH_TOKEN}")
    started = f"Taking alerts at http://127.0.0.1:{intake.port}/alerts (checked: token, path token)"
    refused = "Refused a request of 127.0.0.1 with 400: the message is not JSON (Expecting property name"
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("ansible_collections")]
    assert len(ours) == 2
    assert ours[0] == started
    assert ours[1].startswith(refused)
    assert TOKEN not in caplog.text
    assert PATH_TOKEN not in caplog.text


async def test_an_unexpected_failure_is_answered_and_logged(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> t.NoReturn:
        raise RuntimeError("a bug")

    monkeypatch.setattr(listener, "read_message", fail)
    async with start() as intake:
        status, answer = await intake.post(BODY)
    assert (status, answer["error"]["kind"]) == (500, "internal_error")
    assert "RuntimeError: a bug" in caplog.text


@pytest.mark.parametrize(
    ("method", "version", "asked", "said"),
    [
        ("GET", "1.1", "", None),
        ("GET", "1.1", "Connection: close\r\n", "close"),
        ("GET", "1.0", "", "close"),
        ("GET", "1.0", "Connection: keep-alive\r\n", "keep-alive"),
        ("HEAD", "1.1", "", None),
    ],
)
async def test_the_head_of_an_answer(start: Start, method: str, version: str, asked: str, said: str | None) -> None:
    async with start() as intake:
        head, _empty, body = (
            await intake.raw(f"{method} /healthz HTTP/{version}\r\nHost: x\r\n{asked}\r\n".encode())
        ).partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert status == "HTTP/1.1 200 OK"
    assert fields.pop("Server") == "container-guard"
    sent = email.utils.parsedate_to_datetime(fields.pop("Date"))
    assert abs(sent - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    length = int(fields.pop("Content-Length"))
    assert length > 0
    assert len(body) == (0 if method == "HEAD" else length)
    expected = {"Content-Type": "application/json"}
    assert fields == (expected | {"Connection": said} if said else expected)


async def test_requests_that_come_together_are_answered_one_after_the_other(start: Start) -> None:
    body = BODY.encode()
    length = f"Content-Length: {len(body)}"
    async with start() as intake:
        left = await intake.raw(
            http(AUTHORIZED, length, body=body)
            + http(length, body=body)  # of a stranger: what it sent is passed over
            + http(AUTHORIZED, "Expect: 100-continue", length, body=body)  # and did not wait
            + http(path="/metrics", method="HEAD")
            + http(AUTHORIZED, "Transfer-Encoding: chunked", body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            + http("Connection: close", path="/healthz", method="GET")
        )
    found = []
    while left:
        head, _empty, left = left.partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        size = 0 if "text/plain" in head else int(dict(line.split(": ", 1) for line in lines)["Content-Length"])
        found.append((status.split()[1], len(left[:size]) == size))
        left = left[size:]
    assert found == [("202", True), ("401", True), ("202", True), ("200", True), ("202", True), ("200", True)]
    assert len(intake.alerts) == 3


async def test_requests_on_open_connections_during_a_shutdown(start: Start) -> None:
    async with start() as intake:
        assert (await intake.post(BODY))[0] == 202  # the connection stays open
        intake.spool.go_on.clear()
        under_way = asyncio.create_task(intake.post(BODY))
        async with asyncio.timeout(10):
            while len(intake.wanted.asked) < 2:
                await asyncio.sleep(0.01)
        reader, writer = await intake.connect()
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await answer_of(reader)
        intake.stop.set()
        await asyncio.sleep(0)
        writer.write(http(AUTHORIZED, f"Content-Length: {len(BODY)}", body=BODY.encode()))
        async with asyncio.timeout(10):
            while len(intake.wanted.asked) < 3:
                await asyncio.sleep(0.01)
        intake.spool.go_on.set()
        # Most senders send once: to refuse the alert would be to lose it.
        assert (await answer_of(reader))[0][:12] == b"HTTP/1.1 202"
        assert await reader.read() == b""
        assert (await under_way)[0] == 202
        await asyncio.wait_for(intake.task, 20)
        writer.close()
    assert intake.deliveries.drained is not None


async def test_who_has_to_sign_is_known_once_he_has(start: Start) -> None:
    async with start(token=None, hmac_secret="a-key-of-somebody", max_connections=2) as intake:
        strangers = [await intake.connect() for _ in range(2)]
        for reader, writer in strangers:
            writer.write(http("Content-Length: 100", "Expect: 100-continue"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        signature = hmac.new(b"a-key-of-somebody", BODY.encode(), hashlib.sha256).hexdigest()
        status, _ = await intake.post(BODY, token=None, headers={"X-Hub-Signature-256": signature})
        assert status == 202
        for _, writer in strangers:
            writer.close()


async def test_places_are_given_back(start: Start) -> None:
    async with start(max_requests=2, read_timeout=1) as intake:
        for _ in range(5):
            assert (await intake.post("{"))[0] == 400
            intake.spool.failure = SpoolError("full", kind="spool_full")
            assert (await intake.post(BODY))[0] == 503
            intake.spool.failure = None
        assert (await intake.post(BODY))[0] == 202


async def test_concurrent_senders(start: Start) -> None:
    async with start() as intake:
        answers = await asyncio.gather(*(intake.post(BODY) for _ in range(100)))
        assert {status for status, _ in answers} == {202}
    assert len(intake.alerts) == 100
