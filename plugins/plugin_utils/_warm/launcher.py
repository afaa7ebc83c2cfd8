# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In the place of ansible-playbook: has the warm process run it, and ends as it does.

It is in the way of every alert, and takes a third of the time without the modules socket and signal. Where the warm
process is not there it becomes the real ansible-playbook, so that nothing is worse than without.

What it sends: its standard streams, its working directory, and all else that a process hands on. See server.py.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # signal is written in Python, and takes longer
import _socket
import fcntl
import os
import sys
import termios

READY = b"warm-1\n"
"""What the warm process says first, with the version of what they say to each other."""
PATIENCE = 5.0
"""Seconds until it has said so. Nothing was sent until then, so that nothing can be run twice."""
FORWARDED = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2)
_LOST = 1


def main() -> None:
    """Run what the command line says."""
    terminal = os.isatty(0)
    connection = None
    # On a terminal that somebody else uses, too, such as a shell, it could not be handed on.
    if not terminal or leads_on_it():
        connection = connect(os.environ["GUARD_WARM_SOCKET"])
    if connection is None:
        os.write(2, b"ansible-playbook starts as usual: no warm process takes the run\n")
        real = os.environ["GUARD_WARM_REAL"]
        os.execv(real, [real, *sys.argv[1:]])  # noqa: S606 - it is what was asked for
    hangup = _signal.getsignal(_signal.SIGHUP)
    if terminal:
        # The run makes it its own, so that it is where it would be without: at the head of a session on a terminal.
        _signal.signal(_signal.SIGHUP, _signal.SIG_IGN)
        fcntl.ioctl(0, termios.TIOCNOTTY)
        _signal.signal(_signal.SIGHUP, hangup)
    send(connection, sys.argv[1:], ignores_hangup=hangup == _signal.SIG_IGN)
    for number in FORWARDED if hangup == _signal.SIG_IGN else (*FORWARDED, _signal.SIGHUP):
        _signal.signal(number, lambda number, _frame: forward(connection, number))
    end_as(status_of(connection))


def leads_on_it() -> bool:
    """Whether the terminal is that of the session of this process, which leads it."""
    try:
        os.tcgetpgrp(0)
    except OSError:
        return False
    return os.getsid(0) == os.getpid()


def connect(path: str) -> _socket.socket | None:
    """The warm process, ready to take a run, or None."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        peer = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        uid = int.from_bytes(peer[4:8], sys.byteorder)  # struct ucred: pid, uid, gid
        if uid == os.geteuid() and connection.recv(len(READY)) == READY:
            connection.settimeout(None)
            return connection
    except OSError:
        pass
    connection.close()
    return None


def send(connection: _socket.socket, arguments: list[str], ignores_hangup: bool) -> None:
    """Hand the run over."""
    mask = os.umask(0o077)
    os.umask(mask)
    environment = [name + b"=" + value for name, value in os.environb.items()]
    fields = [b"%d" % mask, b"%d" % ignores_hangup, b"%d" % len(arguments), *map(os.fsencode, arguments), *environment]
    content = b"\0".join(fields)
    descriptors = [0, 1, 2, os.open(".", os.O_RDONLY | os.O_DIRECTORY)]
    rights = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
    connection.sendmsg([len(content).to_bytes(4, "big")], ancillary)
    connection.sendall(content)


def forward(connection: _socket.socket, number: int) -> None:
    """Hand a signal on to the run."""
    try:  # noqa: SIM105 - contextlib takes long to import
        connection.send(bytes([number]))
    except OSError:
        pass  # it has just ended


def status_of(connection: _socket.socket) -> int:
    """How the run ended, as wait(2) says it."""
    found = b""
    while len(found) < 4:
        received = connection.recv(4 - len(found))
        if not received:
            os.write(2, b"The process that watched over this run of ansible-playbook has gone\n")
            return _LOST << 8
        found += received
    return int.from_bytes(found, "big")


def end_as(status: int) -> None:
    """End like the run."""
    number = status & 0x7F
    if number:
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(status >> 8)


if __name__ == "__main__":
    main()
