# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert of a drill."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import alert_from_object
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.alarm import (
    Address,
    AlarmError,
    alert_about,
    raise_alarm,
)

CONTAINER = {"id": "ab" * 32, "name": "container-guard-drill-1", "image": "busybox:1"}
ALERT = alert_about(CONTAINER, "web-1", "2026-04-05T12:43:02Z")
ACCEPTED = {"accepted": 1, "alerts": [{"id": "i", "trace_id": "t-1"}], "dropped": 0, "rejected": []}


@contextlib.contextmanager
def source(status: int, answer: t.Any) -> t.Iterator[tuple[str, list[t.Any]]]:
    """A server that answers so; its address, and the headers, paths and bodies that it is sent."""
    requests: list[t.Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            requests.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: t.Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/alerts", requests
        finally:
            server.shutdown()
            thread.join()


def test_it_is_one_that_the_source_reads() -> None:
    element = alert_from_object(ALERT)
    assert (element.source, element.rule, str(element.severity)) == ("container-guard", "container-guard drill", "high")
    assert (element.host, element.container.id, element.tags) == ("web-1", CONTAINER["id"], ("drill",))


def test_what_is_sent_and_what_is_answered() -> None:
    with source(202, ACCEPTED) as (url, requests):
        assert raise_alarm(Address(url, token="s-secret"), ALERT) == "t-1"
        assert raise_alarm(Address(f"{url}/p-secret"), ALERT) == "t-1"
    assert requests == [("/alerts", "Bearer s-secret", ALERT), ("/alerts/p-secret", None, ALERT)]


def test_one_that_is_folded_has_the_trace_of_the_other() -> None:
    with source(202, {"alerts": [{"trace_id": "t-2", "folded_into": "t-1"}]}) as (url, _requests):
        assert raise_alarm(Address(url), ALERT) == "t-1"


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (401, {"error": {"message": "the token is missing or wrong"}}, "answered 401: the token is missing or wrong"),
        (302, {}, "answered 302"),
        (502, b"<html>", "answered 502"),
        (202, {"alerts": [], "dropped": 1}, "no policy of its policy_set wants it"),
        (202, {"alerts": [], "rejected": [{"message": "host web-1 {{ x }}"}]}, "accepted nothing: host web-1 { { x }}"),
        (202, [], "accepted nothing"),
        (202, {"alerts": [{"trace_id": "{{ x }}"}]}, "accepted nothing"),
    ],
)
def test_what_is_not_taken_is_an_error(status: int, answer: t.Any, why: str) -> None:
    with source(status, answer) as (url, _requests), pytest.raises(AlarmError) as caught:
        raise_alarm(Address(url), ALERT)
    assert why in str(caught.value)
    assert caught.value.kind == "alert_not_taken"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/alerts", "file:///etc/passwd", "guard.example.com", "http://", ""])
def test_where_nobody_answers(url: str) -> None:
    with pytest.raises(AlarmError, match="does not answer"):
        raise_alarm(Address(url), ALERT, timeout=1)


def test_proxies_of_the_environment_do_not_learn_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with source(502, {}) as (proxy, seen), source(202, ACCEPTED) as (url, _requests):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("no_proxy", "")
        assert raise_alarm(Address(url, token="s-secret"), ALERT) == "t-1"
    assert seen == []
