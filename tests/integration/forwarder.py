# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A TCP port of this machine that leads to another one or to a socket, until a test has the host behind it go down."""

from __future__ import annotations

import contextlib
import socket
import threading
import typing as t


class Forwarder:
    """Forwards connections as long as its context lasts.

    Args:
        target: the port that it leads to, on 127.0.0.1, or the path of a socket.
        heard: is given what clients send, as it comes.

    Attributes:
        port: where it listens, on 127.0.0.1, also while the host is down.
    """

    def __init__(self, target: int | str, heard: t.Callable[[bytes], None] = lambda _some: None) -> None:
        self._target = target
        self._heard = heard
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._state: t.Literal["up", "down", "silent"] = "up"
        self._open: set[socket.socket] = set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Forwarder:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_down()
        with contextlib.suppress(OSError):  # what is not connected cannot be shut down, but that wakes the acceptor
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()

    def go_down(self, *, silent: bool = False) -> None:
        """Cut all connections, and hang up on new ones; where C(silent), take them and never say anything instead."""
        with self._lock:
            self._state = "silent" if silent else "down"
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def come_up(self) -> None:
        """Forward again. Those who got no answer hear that they are cut off."""
        self.go_down()
        with self._lock:
            self._state = "up"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(client)
            with self._lock:
                state = self._state
                if state == "down":
                    return
                self._keep(stack, client)
            if state == "silent":
                while client.recv(65_536):
                    pass
                return
            with contextlib.suppress(OSError):
                server = stack.enter_context(self._connect())
                with self._lock:
                    self._keep(stack, server)
                back = threading.Thread(target=_pump, args=[server, client], daemon=True)
                back.start()
                _pump(client, server, self._heard)
                back.join()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, int):
            return socket.create_connection(("127.0.0.1", self._target))
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self._target)
        except OSError:
            connection.close()
            raise
        return connection

    def _keep(self, stack: contextlib.ExitStack, connection: socket.socket) -> None:
        self._open.add(connection)
        stack.callback(self._forget, connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)


def _pump(source: socket.socket, sink: socket.socket, heard: t.Callable[[bytes], None] = lambda _some: None) -> None:
    with contextlib.suppress(OSError):
        while some := source.recv(65_536):
            heard(some)
            sink.sendall(some)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
