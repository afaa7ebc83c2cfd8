# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports of the host that processes listen on: what a published port meets when it is opened again."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

_LISTENS = {"tcp": "0A", "udp": "07"}
_ANY = frozenset(["0.0.0.0", "::"])  # noqa: S104 - compared, nothing listens


class Listener(t.NamedTuple):
    """A socket that is bound to a port of the host.

    Attributes:
        address: the address, empty for all.
        port: such as C(80/tcp).
        inode: number of the socket.
    """

    address: str
    port: str
    inode: str


def listeners(docker_host: str) -> list[Listener] | None:
    """The sockets that listen where the engine publishes ports; None where that cannot be known.

    The engine may run in another network namespace than this process, or on another host: its own process is asked for,
    which the kernel tells of the peer of its socket.

    Args:
        docker_host: where the engine is reached.
    """
    pid = _engine_process(docker_host)
    found: list[Listener] = []
    for protocol in ("tcp", "udp") if pid else ():
        for version in ("", "6"):
            try:
                with open(f"/proc/{pid}/net/{protocol}{version}", encoding="ascii") as file:
                    found += _parsed(file.read().splitlines()[1:], protocol)
            except (OSError, ValueError):
                if not version:  # a kernel without IPv6 has no file for it
                    return None
    return found if pid else None


def process_of(listener: Listener) -> str:
    """Name and pid of the process that has the socket, for people, or empty where that cannot be known."""
    wanted = f"socket:[{listener.inode}]"
    for pid in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if not pid.isdigit():
                continue
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == wanted:
                    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                        return f"{text.display(file.read().strip())}, pid {pid}"
    return ""


def _engine_process(docker_host: str) -> int:
    """The pid of the engine, 0 where that is not known."""
    scheme, _separator, path = docker_host.partition("://")
    if scheme != "unix":
        return 0
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return 0
    return int(struct.unpack("3i", credentials)[0])


def _parsed(lines: t.Iterable[str], protocol: str) -> t.Iterator[Listener]:
    """Raises ValueError."""
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTENS[protocol]:
            address, _separator, port = fields[1].partition(":")
            shown = _address(bytes.fromhex(address))
            yield Listener("" if shown in _ANY else shown, f"{int(port, 16)}/{protocol}", fields[9])


def _address(raw: bytes) -> str:
    # Words of four bytes in the order of the machine.
    packed = b"".join(struct.pack(">I", *struct.unpack("=I", raw[at : at + 4])) for at in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
