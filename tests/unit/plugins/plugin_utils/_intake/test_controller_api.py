# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller: which it is, and that it alone gets the token."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import sys
import types
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import controller_api as module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.controller_api import (
    Access,
    ControllerApi,
    ControllerError,
    access_of,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options, parse_options
from ansible_collections.ironpost.container_guard.tests import loopback

TOKEN = "correct-horse-battery"


def options(**given: t.Any) -> Options:
    return parse_options({"token": TOKEN, "receipts": "artifacts", **given})


class Server(loopback.LoopbackServer):
    """Answers whatever it is told to.

    Attributes:
        answers: status, headers and body, by path.
        requests: path and header C(Authorization) of each.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.requests: list[tuple[str, str]] = []
        server = self

        class Handler(loopback.Handler):
            def do_GET(self) -> None:
                server.requests.append((self.path, self.headers.get("Authorization", "")))
                status, headers, body = server.answers.get(self.path, (200, {}, b'{"results": []}'))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), "Set-Cookie": "a=b", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

        super().__init__(Handler, context=context)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


async def ask(access: Access, path: str = "jobs/", **query: str | int) -> t.Mapping[str, t.Any]:
    api = ControllerApi(access)
    try:
        return await api.get(path, query)
    finally:
        await api.close()


def access(server: Server, **given: t.Any) -> Access:
    return Access(f"{server.url}/api/v2/", **{"token": TOKEN, **given})


class TestAccess:
    @pytest.fixture(autouse=True)
    def nothing_around(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("URL", "TOKEN", "USERNAME", "PASSWORD", "SSL_VERIFY"):
            monkeypatch.delenv(f"EDA_CONTROLLER_{name}", raising=False)
        monkeypatch.delitem(sys.modules, "ansible_rulebook.job_template_runner", raising=False)

    def engine(self, monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
        """What the engine was told, by whatever way."""
        runner = types.SimpleNamespace(job_template_runner=types.SimpleNamespace(**values))
        monkeypatch.setitem(sys.modules, "ansible_rulebook.job_template_runner", t.cast("types.ModuleType", runner))

    @pytest.mark.parametrize(
        ("url", "api"),
        [
            ("https://awx.example.com", "https://awx.example.com/api/v2/"),
            ("https://awx.example.com/", "https://awx.example.com/api/v2/"),
            ("https://aap.example.com/api/controller", "https://aap.example.com/api/controller/v2/"),
            ("https://aap.example.com/api/controller/", "https://aap.example.com/api/controller/v2/"),
        ],
    )
    def test_the_path_is_what_the_engine_takes(self, monkeypatch: pytest.MonkeyPatch, url: str, api: str) -> None:
        self.engine(monkeypatch, host=url, token="the-token-of-it", verify_ssl="yes", username="", password="")
        assert access_of(options()) == Access(api, "the-token-of-it")

    def test_of_the_real_engine(self) -> None:
        from ansible_rulebook.job_template_runner import JobTemplateRunner

        runner = JobTemplateRunner(token=TOKEN)
        runner.host = "https://aap.example.com/api/controller"
        with pytest.MonkeyPatch.context() as patch:
            self.engine(patch, **{name: getattr(runner, name) for name in ("host", "token", "verify_ssl")})
            assert access_of(options()) == Access(runner.host + runner._api_slug_prefix(), TOKEN)

    def test_that_the_real_engine_was_not_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ansible_rulebook.job_template_runner import JobTemplateRunner

        names = ("host", "token", "verify_ssl", "username", "password")
        self.engine(monkeypatch, **{name: getattr(JobTemplateRunner(), name) for name in names})
        with pytest.raises(ValueError, match="there is no controller"):
            access_of(options())
        monkeypatch.setenv("EDA_CONTROLLER_URL", "https://awx")
        assert access_of(options(controller_token=TOKEN)).url == "https://awx/api/v2/"

    def test_a_token_is_for_the_controller_beside_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDA_CONTROLLER_TOKEN", TOKEN)
        self.engine(monkeypatch, host="https://other/", token="", verify_ssl="yes")
        with pytest.raises(ValueError, match="there is no token"):
            access_of(options())

    def test_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDA_CONTROLLER_URL", "https://awx")
        monkeypatch.setenv("EDA_CONTROLLER_USERNAME", "guard")
        monkeypatch.setenv("EDA_CONTROLLER_PASSWORD", "secret")
        monkeypatch.setenv("EDA_CONTROLLER_SSL_VERIFY", "/etc/awx-ca.pem")
        found = access_of(options())
        assert found == Access("https://awx/api/v2/", "", "guard", "secret", "/etc/awx-ca.pem")
        assert "secret" not in repr(found)
        monkeypatch.setenv("EDA_CONTROLLER_TOKEN", TOKEN)
        assert access_of(options()).token == TOKEN

    def test_of_the_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine(monkeypatch, host="https://other/", token="its-own-token", verify_ssl="no")
        found = access_of(options(controller_token=TOKEN))
        assert (found.url, found.token, found.verifies) == ("https://other/api/v2/", TOKEN, False)
        found = access_of(options(controller_token=TOKEN, controller_url="https://awx"))
        assert (found.url, found.token) == ("https://awx/api/v2/", TOKEN)

    @pytest.mark.parametrize("url", ["awx.example.com", "https://", "https://a:b@awx", "https://awx/?a=b", "file:///x"])
    def test_an_address_that_is_none(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        monkeypatch.setenv("EDA_CONTROLLER_URL", url)
        with pytest.raises(ValueError, match="the address of the controller is none"):
            access_of(options(controller_token=TOKEN))

    def test_that_nobody_has_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ValueError, match="there is no controller"):
            access_of(options())
        monkeypatch.setenv("EDA_CONTROLLER_URL", "https://awx")
        with pytest.raises(ValueError, match="there is no token"):
            access_of(options())

    def test_what_is_not_as_it_should_be_is_told(self) -> None:
        assert Access("https://awx/api/v2/").notes() == Access("http://127.0.0.1/api/v2/").notes() == []
        assert "not verified" in Access("https://awx/api/v2/", verify="no").notes()[0]
        assert "clear text" in Access("http://awx/api/v2/").notes()[0]


async def test_an_answer(server: Server) -> None:
    assert await ask(access(server), order_by="-id") == {"results": []}
    assert server.requests == [("/api/v2/jobs/?order_by=-id", f"Bearer {TOKEN}")]


async def test_a_user_with_a_password(server: Server) -> None:
    await ask(access(server, token="", username="guard", password="secret"))
    assert base64.b64decode(server.requests[0][1].removeprefix("Basic ")) == b"guard:secret"


async def test_neither_redirects_nor_proxies_are_followed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as other:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url)
        server.answers["/api/v2/jobs/"] = (302, {"Location": f"{other.url}/api/v2/jobs/"}, b"")
        with pytest.raises(ControllerError, match="redirects, which is not followed: it answered 302"):
            await ask(access(server))
        assert other.requests == []


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "answered 401. Give"), (403, "403. The token"), (404, "404. Say the address"), (500, "answered 500$")],
)
async def test_what_is_refused(server: Server, status: int, message: str) -> None:
    server.answers["/api/v2/jobs/"] = (status, {}, b'{"detail": "{{ no }}"}')
    with pytest.raises(ControllerError, match=message):
        await ask(access(server))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"[" * 100_000], ids=lambda body: repr(body[:8]))
async def test_what_is_no_api(server: Server, body: bytes) -> None:
    server.answers["/api/v2/jobs/"] = (200, {}, body)
    with pytest.raises(ControllerError, match="no API of a controller"):
        await ask(access(server))


async def test_an_answer_that_is_cut_off(server: Server) -> None:
    server.answers["/api/v2/jobs/"] = (200, {"Content-Length": "100", "Connection": "close"}, b"{}")
    with pytest.raises(ControllerError, match="cannot be reached: ClientPayloadError"):
        await ask(access(server))


async def test_an_answer_that_is_too_large(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER_LIMIT", 1000)
    server.answers["/api/v2/jobs/"] = (200, {}, json.dumps({"results": ["x" * 1000]}).encode())
    with pytest.raises(ControllerError, match="larger than 1000 bytes"):
        await ask(access(server))


async def test_an_answer_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(ControllerError, match="did not answer within"):
            await ask(Access(url, TOKEN))


async def test_nobody_there() -> None:
    with pytest.raises(ControllerError, match="cannot be reached: ClientConnectorError") as raised:
        await ask(Access("http://127.0.0.1:1/api/v2/", TOKEN))
    assert "127.0.0.1" not in str(raised.value)
    assert "127.0.0.1" in raised.value.details["why"]


async def test_its_certificate_is_verified(authority: t.Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("awx"))
    with Server(context) as server:
        with pytest.raises(ControllerError, match="Certificate"):
            await ask(access(server))
        assert server.requests == []
        await ask(access(server, verify=authority.path))
        await ask(access(server, verify="no"))
        assert len(server.requests) == 2
