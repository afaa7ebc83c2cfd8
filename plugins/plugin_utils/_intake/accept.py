# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections, until a protocol has them: accepted within limits, their handshakes made, and failures told.

An asyncio server tells nobody of a handshake that failed, and where descriptors run out it writes a traceback for each
place in the queue of the kernel, every second: 21 MB in 15 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import resource
import socket
import ssl
import typing as t
from collections.abc import Callable, Sequence

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import (
    Connection,
    Connections,
    peer_of,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Handshake, Tls, explain

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT = 10.0
"""How long a handshake may take, in seconds."""
_HEAR_ALERT = 1.0
"""How long a connection stays after its handshake failed, so that the sender reads why, in seconds."""
_AT_ONCE = 64
"""Connections accepted before others have their turn."""
_LAST_HANDSHAKES = 0.5
"""How long those who have just connected have to end their handshakes when nobody is accepted any more, in seconds."""
_PAUSE = 0.5
"""How long nothing is accepted after it failed, in seconds. They wait in the queue of the kernel."""
_BACKLOG = 1024
_OTHERS = 512
"""Descriptors left to the playbook runs and the rest of the rule engine."""
_FEWEST = 64


def connections_possible(wanted: int) -> int:
    """How many connections there may be of those that are wanted, as the process may not open more files."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(_FEWEST, soft - _OTHERS))


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of a host. Raises OSError, and then none is open."""
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as opened:
        for family, kind, protocol, _name, address in dict.fromkeys(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        ):
            listening = opened.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listening.bind(address)
            except OSError as error:
                why = (error.strerror or str(error)).lower()
                raise OSError(error.errno, f"cannot listen on {host} port {port}: {why}") from None
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            sockets.append(listening)
        opened.pop_all()
    return sockets


def reached(host: str) -> str:
    """How this machine itself reaches a listener."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return host if address.version == 4 else f"[{host}]"


class Acceptor:
    """Accepts connections and hands them to protocols."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        protocol: Callable[[Connection], asyncio.Protocol],
        connections: Connections,
        counters: Counters,
        *,
        tls: Tls | None,
        silence: float,
    ) -> None:
        """Make one that accepts nothing yet.

        Args:
            sockets: that listen; closed with this.
            protocol: makes the protocol of a connection. It says C(spoke) and C(known) of it, and forgets it when it is
                lost.
            connections: where they are counted.
            counters: where failures are.
            tls: None for plain connections.
            silence: how long a connection may be without the head of a request, in seconds.
        """
        self._sockets = list(sockets)
        self._protocol = protocol
        self._connections = connections
        self._counters = counters
        self._tls = tls
        self._silence = silence
        self._throttle = Throttle(logger)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> t.NoReturn:
        """Accept until cancelled. Connections that a protocol has stay open then."""
        loop = asyncio.get_running_loop()
        try:
            for listening in self._sockets:
                loop.add_reader(listening, self._ready, listening)
            while True:
                await asyncio.sleep(1)
                for connection in self._connections.silent_since(loop.time() - self._silence):
                    self._close(connection, "silent")
        finally:
            for listening in self._sockets:
                loop.remove_reader(listening)
                listening.close()
            self._sockets.clear()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_LAST_HANDSHAKES)
            for task in self._tasks:
                task.cancel()

    def _ready(self, listening: socket.socket) -> None:
        for _number in range(_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._cannot_accept(listening, error)
                return
            self._admit(accepted, address)

    def _cannot_accept(self, listening: socket.socket, error: OSError) -> None:
        loop = asyncio.get_running_loop()
        self._counters.add("accept_errors_total", error=errno.errorcode.get(error.errno or 0, "other"))
        self._throttle.warning("accept", "Cannot accept connections for now: %s", error)
        loop.remove_reader(listening)

        def again() -> None:
            if listening in self._sockets:
                loop.add_reader(listening, self._ready, listening)

        loop.call_later(_PAUSE, again)

    def _admit(self, accepted: socket.socket, address: t.Any) -> None:
        loop = asyncio.get_running_loop()
        remote = address[0] if isinstance(address, tuple) else "this machine"
        connection = Connection(peer_of(remote), loop.time(), accepted.close)
        admitted, victim = self._connections.admit(connection)
        if victim is not None:
            self._close(victim, "shed")
        if not admitted:
            self._counters.add("connections_closed_total", reason="refused")
            self._throttle.warning(
                "refused", "Refused a connection of %s: as many as there may be are open, all of known senders", remote
            )
            accepted.close()
            return
        accepted.setblocking(False)
        task = loop.create_task(self._connect(accepted, connection, remote))
        connection.close = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, accepted: socket.socket, connection: Connection, remote: str) -> None:
        loop = asyncio.get_running_loop()
        task = t.cast("asyncio.Task[None]", asyncio.current_task())
        handshake, options = None, {}
        if self._tls is not None:
            handshake = Handshake(self._tls.context, lambda: loop.call_later(_HEAR_ALERT, task.cancel))
            options = {"ssl_handshake_timeout": HANDSHAKE_TIMEOUT, "ssl_shutdown_timeout": 1.0}
        try:
            transport, _protocol = await loop.connect_accepted_socket(
                lambda: self._protocol(connection), accepted, ssl=t.cast(ssl.SSLContext | None, handshake), **options
            )
        except (OSError, asyncio.CancelledError) as error:
            # A cancelled task may not have come as far as to hand the socket over.
            accepted.close()
            self._connections.forget(connection)
            failure = handshake.failure if handshake else None
            if failure is not None or isinstance(error, OSError):
                self._failed(failure or error, remote)
            return
        connection.close = transport.abort

    def _failed(self, error: BaseException, remote: str) -> None:
        reason, why = explain(error)
        self._counters.add("handshakes_failed_total", reason=reason)
        self._throttle.warning(reason, "A TLS handshake with %s failed: %s", remote, why)

    def _close(self, connection: Connection, reason: str) -> None:
        self._connections.forget(connection)
        self._counters.add("connections_closed_total", reason=reason)
        self._throttle.warning(
            reason,
            "Closed a connection of %s: %s",
            connection.peer,
            "no request came on it" if reason == "silent" else "too many are open on which nobody proved himself",
        )
        connection.close()
