# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import errno
import json
import resource
import socket
import ssl
import time
import typing as t
from collections.abc import Iterator

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import accept as module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accept import (
    connections_possible,
    listen,
)

BODY = json.dumps({"source": "sensor", "rule": "Shell spawned", "severity": "high", "host": "web-1"})

Start = t.Any


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as this user may have: a test is on both ends of its connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def half_open(port: int, number: int, addresses: int = 10) -> list[socket.socket]:
    """Connections on which nothing is ever said."""
    found = []
    for index in range(number):
        connection = socket.socket()
        connection.bind((f"127.0.0.{2 + index % addresses}", 0))
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", port))
        found.append(connection)
    return found


@pytest.mark.parametrize("tls", [False, True])
async def test_half_open_connections_keep_nobody_out(
    start: Start, authority: t.Any, many_files: None, caplog: pytest.LogCaptureFixture, tls: bool
) -> None:
    certificate, key = authority.issue("guard")
    context = ssl.create_default_context(cafile=authority.path)
    options: t.Any = {"certfile": certificate, "keyfile": key} if tls else {}
    sending: t.Any = {"ssl": context} if tls else {}
    async with start(**options) as intake:
        flood = half_open(intake.port, 1100)
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert (await intake.post(BODY, headers={"Connection": "close"}, **sending))[0] == 202
            slowest = max(slowest, time.monotonic() - began)
            # More of them come all the while.
            flood += half_open(intake.port, 20)
        metrics = await intake.metrics(**sending)
        assert metrics["connections"] <= metrics["connections_max"]
        if metrics["connections_max"] < 1100:
            assert metrics['connections_closed_total{reason="shed"}'] > 0
        for connection in flood:
            connection.close()
    assert slowest < 5
    assert len(intake.alerts) == 20
    assert len(caplog.text) < 10_000


async def test_a_connection_without_a_request_is_closed(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start(read_timeout=1) as intake:
        reader, writer = await intake.connect()
        writer.write(b"POST /alerts HTTP/1.1\r\nHost: x\r\n")  # and never the end of its head
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        assert (await intake.metrics())['connections_closed_total{reason="silent"}'] == 1
    assert "Closed a connection of 127.0.0.1: no request came on it" in caplog.text


async def test_a_handshake_that_does_not_go_on_is_given_up(
    start: Start, authority: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_TIMEOUT", 0.5)
    certificate, key = authority.issue("guard")
    async with start(certfile=certificate, keyfile=key) as intake:
        reader, writer = await intake.connect()
        assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
        context = ssl.create_default_context(cafile=authority.path)
        await intake.metric('handshakes_failed_total{reason="timeout"}', ssl=context)


async def test_one_address_does_not_take_all_places(start: Start) -> None:
    async with start(max_connections_per_address=5) as intake:
        flood = half_open(intake.port, 50, addresses=1)
        await intake.metric('connections_closed_total{reason="refused"}', 45)
        assert (await intake.metrics())["connections"] <= 6
        for connection in flood:
            connection.close()


async def test_known_senders_are_never_closed_for_others(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start(max_connections=2) as intake:
        request = (
            f"POST /alerts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer correct-horse-battery\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
        ).encode()
        known = []
        for _ in range(2):
            reader, writer = await intake.connect()
            writer.write(request)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202")
            known.append((reader, writer))
        late, late_writer = await intake.connect("127.0.0.2")
        assert await asyncio.wait_for(late.read(), 10) == b""
        late_writer.close()
        for _, writer in known:
            writer.write(request)
            await writer.drain()
        async with asyncio.timeout(10):
            while len(intake.alerts) < 4:
                await asyncio.sleep(0.01)
        for _, writer in known:
            writer.close()
    assert "Refused a connection of 127.0.0.2" in caplog.text


async def test_where_the_system_has_no_more_descriptors(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    # asyncio writes a traceback for each place of its queue then, every second, and 21 MB within 15 of them.
    async with start() as intake:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        waiting = socket.socket()
        used = waiting.fileno() + 1
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", intake.port))
            async with asyncio.timeout(20):
                while "Cannot accept connections for now" not in caplog.text:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(3 * module._PAUSE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caplog.text.count("Cannot accept") == 1
        assert "Traceback" not in caplog.text
        # What waited in the queue of the kernel is answered then.
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(waiting, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(loop.sock_recv(waiting, 100), 20)).startswith(b"HTTP/1.1 200")
        waiting.close()
        metrics = await intake.metrics()
        assert 1 <= metrics[f'accept_errors_total{{error="{errno.errorcode[errno.EMFILE]}"}}'] < 20


def test_no_more_connections_than_files_that_may_be_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
        assert [connections_possible(wanted) for wanted in (100, 1024)] == [100, 512]
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert connections_possible(1024) == 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_all_addresses_of_a_host() -> None:
    sockets = listen("localhost", 0)
    assert {listening.getsockname()[0] for listening in sockets} <= {"127.0.0.1", "::1"}
    for listening in sockets:
        listening.close()


def test_a_port_in_use_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: address already in use"):
            listen("127.0.0.1", port)
