# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events over a real socket that breaks, falls silent, or is not that of an engine."""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import tempfile
import threading
import typing as t
import urllib.parse

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EVENTS
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineForbidden,
    EngineTimeout,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.event_stream import LONGEST_EVENT

VERSION = b'{"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

Answer = t.Callable[[socket.socket], None]


def event(action: str = "pause", kind: str = "container") -> bytes:
    return json.dumps({"Type": kind, "Action": action, "Actor": {"ID": "c" * 64}, "timeNano": 1}).encode() + b"\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


class Server:
    """Says its version to the first who asks, and to the next what a test wants said."""

    def __init__(self, path: pathlib.Path) -> None:
        self.url = f"unix://{path}"
        self.request = b""
        self.answer: Answer = lambda connection: None
        self.ended = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._thread.join(timeout=30)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            self._answer_version()
            while True:
                connection, _address = self._listener.accept()
                with connection:
                    self.request = connection.recv(65536)
                    self.answer(connection)

    def _answer_version(self) -> None:
        connection, _address = self._listener.accept()
        with connection:
            connection.recv(65536)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(VERSION)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + VERSION)


@pytest.fixture
def server() -> t.Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="cg-") as directory:
        server = Server(pathlib.Path(directory) / "s")
        yield server
        server.close()


@pytest.fixture
def engine(server: Server) -> t.Iterator[DockerEngine]:
    with contextlib.closing(DockerEngine(server.url, timeout=1)) as engine:
        yield engine


def sending(server: Server, *parts: bytes, stay: bool = False) -> None:
    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        if stay:
            server.ended.wait(timeout=30)

    server.answer = answer


def followed(engine: DockerEngine, silence: float = 30) -> t.Generator[str, None, None]:
    with contextlib.closing(engine.events(silence=silence)) as stream:
        for found in stream:
            yield found["Action"]


def test_what_is_asked_for(server: Server, engine: DockerEngine) -> None:
    sending(server, HEAD, END)
    with contextlib.closing(engine.events(since=1_234_567_890_000_000_007)):
        pass
    query = urllib.parse.parse_qs(server.request.split()[1].decode().partition("?")[2])
    assert query["since"] == ["1234567890.000000007"]
    filters = json.loads(query["filters"][0])
    assert filters["type"] == list(EVENTS)
    assert set(filters["event"]) == {action for actions in EVENTS.values() for action in actions}


def test_events_come_in_any_pieces(server: Server, engine: DockerEngine) -> None:
    first, second = event("pause"), event("unpause")
    sending(server, HEAD, chunk(first[:10]), chunk(first[10:] + second[:-1]), chunk(b"\n\n" + event("die")), stay=True)
    events = followed(engine)
    assert [next(events) for _event in range(3)] == ["pause", "unpause", "die"]
    events.close()


@pytest.mark.parametrize("parts", [[END], []], ids=["ended", "broken off"])
def test_half_a_line_at_the_end_is_a_break(server: Server, engine: DockerEngine, parts: list[bytes]) -> None:
    sending(server, HEAD, chunk(event()), chunk(event("die")[:20]), *parts)
    events = followed(engine)
    assert next(events) == "pause"
    with pytest.raises(EngineUnreachable) as caught:
        next(events)
    assert caught.value.remedy


@pytest.mark.parametrize("part", [b"", chunk(event("die")[:20]), chunk(event("die"))[:20]])
def test_a_silence_ends_it(server: Server, engine: DockerEngine, part: bytes) -> None:
    """Also in the middle of a line, or of a chunk."""
    sending(server, HEAD, chunk(event()) + part, stay=True)
    assert list(followed(engine, silence=0.05)) == ["pause"]


def test_a_silence_longer_than_the_timeout_of_calls_is_none(server: Server, engine: DockerEngine) -> None:
    late = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(event()))
        late.wait(timeout=1.5)  # the timeout of the engine is a second
        connection.sendall(chunk(event("die")))

    server.answer = answer
    events = followed(engine)
    assert [next(events), next(events)] == ["pause", "die"]
    with pytest.raises(EngineUnreachable):
        next(events)


def test_what_was_not_asked_for_is_left_out(server: Server, engine: DockerEngine) -> None:
    """The engine ignores filters that it does not know."""
    flood = [event("exec_start: sh"), event("health_status: healthy"), event("mount", "volume"), event("connect")]
    sending(server, HEAD, chunk(b"".join(flood) + event()), stay=True)
    assert list(followed(engine, silence=0.05)) == ["pause"]


@pytest.mark.parametrize(
    "line",
    [
        b"<h1>It works!</h1>\n",
        b"[]\n",
        b"1\n",
        b"{}\n",
        b'{"Type": [], "Action": "x"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000,
    ],
)
def test_what_is_no_event(server: Server, engine: DockerEngine, line: bytes) -> None:
    sending(server, HEAD, chunk(line + b"\n"), stay=True)
    with pytest.raises(EngineUnreachable, match="does not speak as a Docker engine does"):
        list(followed(engine))


def test_a_line_without_an_end(server: Server, engine: DockerEngine) -> None:
    """It must not fill the memory."""
    sending(server, HEAD, *[chunk(b"x" * 65536)] * (LONGEST_EVENT // 65536 + 1), stay=True)
    with pytest.raises(EngineUnreachable, match="a line without an end"):
        list(followed(engine))


def test_an_engine_that_does_not_answer(server: Server, engine: DockerEngine) -> None:
    sending(server, stay=True)
    with pytest.raises(EngineTimeout, match=r"cannot follow events: .* did not answer within 1 s"):
        engine.events()


def test_an_engine_that_refuses(server: Server, engine: DockerEngine) -> None:
    sending(server, b'HTTP/1.1 400 Bad\r\nContent-Length: 18\r\n\r\n{"message": "bad"}')
    with pytest.raises(EngineError, match="cannot follow events: bad") as caught:
        engine.events()
    assert caught.value.status == 400


def test_a_proxy_that_refuses(server: Server, engine: DockerEngine) -> None:
    sending(server, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nNo!")
    with pytest.raises(EngineForbidden, match="the proxy in front of"):
        engine.events()


def test_closed_by_another_thread(server: Server, engine: DockerEngine) -> None:
    sending(server, HEAD, chunk(event()), stay=True)
    stream = engine.events()
    found, first = [], threading.Event()

    def read() -> None:
        for one in stream:
            found.append(one["Action"])
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert first.wait(timeout=30)
    stream.close()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert found == ["pause"]


def test_closed_before_it_is_read(server: Server, engine: DockerEngine) -> None:
    sending(server, HEAD, chunk(event()), stay=True)
    stream = engine.events()
    stream.close()
    stream.close()
    assert list(stream) == []


def test_a_server_that_closes_the_connection_after_the_answer(server: Server, engine: DockerEngine) -> None:
    """As some proxies do. The silence is that of calls then."""
    sending(server, HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), chunk(event()), stay=True)
    assert list(followed(engine)) == ["pause"]
