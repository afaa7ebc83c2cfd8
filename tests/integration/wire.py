# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection on which each byte is sent on its own, as no client library would."""

from __future__ import annotations

import json
import socket
import typing as t

Json = dict[str, t.Any]


class Wire:
    """A connection on which each byte is sent on its own. Use it as a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = self._socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._received.close()
        self._socket.close()

    def send(self, data: bytes) -> None:
        for byte in data:
            self._socket.sendall(bytes([byte]))

    def line(self) -> str:
        return self._received.readline().decode().rstrip("\r\n")

    def answer(self) -> tuple[int, Json]:
        """Status and content of an answer, which leaves the connection open."""
        status = int(self.line().split()[1])
        headers = {}
        while line := self.line():
            name, _colon, value = line.partition(":")
            headers[name.lower()] = value.strip()
        assert headers.get("connection", "keep-alive").lower() == "keep-alive"
        found: Json = json.loads(self._received.read(int(headers["content-length"])))
        return status, found
