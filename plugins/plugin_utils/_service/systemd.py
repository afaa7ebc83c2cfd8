# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd and a service say to each other: sockets that it hands over, and how the service is.

The protocol is one datagram to a socket (sd_notify(3)), and file descriptors from 3 on (sd_listen_fds(3)).
"""

from __future__ import annotations

import contextlib
import os
import socket

FIRST = 3
"""The first descriptor that is handed over."""
_LAST_WATCHDOG = 3600
"""Seconds within which it is to hear of a service that ends."""


class Manager:
    """The service manager; nobody, where there is none.

    Args:
        environment: of the process. What is for this process alone is taken out of it.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        self._address = variables.pop("NOTIFY_SOCKET", "")
        mine = variables.pop("LISTEN_PID", "") == str(os.getpid())
        number = variables.pop("LISTEN_FDS", "0")
        variables.pop("LISTEN_FDNAMES", None)
        self._descriptors = int(number) if mine and number.isdecimal() else 0
        microseconds = variables.pop("WATCHDOG_USEC", "")
        watched = variables.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog = int(microseconds) / 1_000_000 if watched and microseconds.isdecimal() else 0.0
        """Seconds within which it wants to hear of the service; 0 for never."""

    def sockets(self) -> list[socket.socket]:
        """The sockets that it has opened for the service, which listen already."""
        found = []
        for descriptor in range(FIRST, FIRST + self._descriptors):
            os.set_inheritable(descriptor, False)
            listening = socket.socket(fileno=descriptor)
            listening.setblocking(False)
            found.append(listening)
        self._descriptors = 0
        return found

    def ready(self, status: str) -> None:
        """The service works."""
        self._say(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """What C(systemctl status) shows, one line."""
        self._say(f"STATUS={status}")

    def alive(self) -> None:
        """Keep the watchdog from ending the service."""
        if self.watchdog:
            self._say("WATCHDOG=1")

    def stopping(self, status: str) -> None:
        """The service ends."""
        # What it does for the engine ends with its time limits, and at the very end nothing says that it is alive. How
        # long that may take altogether is for TimeoutStopSec to say.
        watchdog = f"\nWATCHDOG_USEC={_LAST_WATCHDOG * 1_000_000}" if self.watchdog else ""
        self._say(f"STOPPING=1\nSTATUS={status}{watchdog}")

    def _say(self, text: str) -> None:
        if not self._address:
            return
        # A name that begins so is one of the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
            sending.setblocking(False)
            sending.sendto(text.encode("utf-8"), address)
