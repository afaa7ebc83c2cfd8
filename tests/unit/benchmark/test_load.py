# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The senders of the benchmarks."""

from __future__ import annotations

import http.server
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.benchmark import load
from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import falco, request


class Server(http.server.ThreadingHTTPServer):
    """Keeps what it is sent, and answers with a status."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.bodies: list[bytes] = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{")
        self.wfile.write(b"}")

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def serve() -> t.Iterator[t.Callable[[int], Server]]:
    servers: list[Server] = []

    def start(status: int) -> Server:
        servers.append(Server(status))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


REQUEST = request(falco(load.NUMBER.decode()))


def test_as_many_as_wanted_are_sent_and_each_is_another(serve: t.Callable[[int], Server]) -> None:
    server = serve(202)
    found = load._send(server.server_port, [REQUEST], 7 << 32, 3, None, 20)
    assert found.answered == 20
    assert sorted(server.bodies) == [
        REQUEST.partition(b"\r\n\r\n")[2].replace(load.NUMBER, b"%012x" % (number + (7 << 32))) for number in range(20)
    ]


def test_for_as_long_as_wanted(serve: t.Callable[[int], Server]) -> None:
    server = serve(200)
    found = load._send(server.server_port, [REQUEST], 0, 2, 0.2, None)
    assert found.answered == len(server.bodies) > 2
    assert found.seconds >= 0.2
    assert found.each == found.seconds / found.answered


def test_who_refuses_is_not_measured(serve: t.Callable[[int], Server]) -> None:
    with pytest.raises(RuntimeError, match=r"refused: b'HTTP/1\.1 503"):
        load._send(serve(503).server_port, [REQUEST], 0, 2, None, 5)
