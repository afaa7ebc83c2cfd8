# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Senders that ask as fast as they are answered, in a process of their own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import multiprocessing
import selectors
import socket
import time
import typing as t
from collections.abc import Iterator, Sequence

NUMBER = b"0123456789ab"
"""What stands in a request for its number, as 12 hexadecimal digits: a container id, for one."""
_PATIENCE = 60.0
"""Longest silence of a server, in seconds."""
_MOST_BUSY = 0.9
"""Share of a core from which on the sender may be what is measured."""


@dataclasses.dataclass(frozen=True)
class Load:
    """How senders fared.

    Attributes:
        answered: requests that were answered with success.
        seconds: from the first request to the last answer.
        busy: share of a core that the senders took.
        slowest: longest time to an answer, in seconds.
    """

    answered: int
    seconds: float
    busy: float
    slowest: float

    @property
    def each(self) -> float:
        """Seconds for each request."""
        return self.seconds / self.answered


class Senders:
    """One process of senders, that serves one call after the other. Use it as a context manager."""

    def __init__(self) -> None:
        # Threads of the benchmark are not to be copied, and nothing else of it is needed.
        self._pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._next = 0

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def for_seconds(self, port: int, requests: Sequence[bytes], seconds: float, connections: int = 16) -> Load:
        """Send these requests again and again, over connections that stay open.

        Raises RuntimeError where one is refused, or where the senders have no time to spare.
        """
        load = self.begin(port, requests, connections, seconds=seconds).result()
        if load.busy > _MOST_BUSY:
            raise RuntimeError(f"the senders take {load.busy:.0%} of a core, and may be what is measured")
        return load

    def begin(
        self,
        port: int,
        requests: Sequence[bytes],
        connections: int,
        *,
        seconds: float | None = None,
        count: int | None = None,
    ) -> concurrent.futures.Future[Load]:
        """Begin to send them, for so many seconds or so many of them.

        C(NUMBER) in a request is replaced by a number that no other request has.
        """
        # Each call has room for more requests than can be answered.
        self._next += 1
        return self._pool.submit(_send, port, tuple(requests), self._next << 32, connections, seconds, count)


def _send(
    port: int, requests: Sequence[bytes], first: int, connections: int, seconds: float | None, count: int | None
) -> Load:
    numbered = _numbered(requests, first)
    pending = numbered if count is None else itertools.islice(numbered, count)
    answered, slowest, busy = 0, 0.0, time.process_time()
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        senders = [_Sender(stack, port) for _ in range(connections)]
        started = time.monotonic()
        deadline = started + (seconds or float("inf"))
        open_ones = 0
        for sender in senders:
            request = next(pending, None)
            if request is not None:
                selector.register(sender.socket, selectors.EVENT_READ, sender)
                sender.send(request)
                open_ones += 1
        while open_ones:
            ready = selector.select(_PATIENCE)
            if not ready:
                raise TimeoutError(f"no answer within {_PATIENCE:.0f} seconds, after {answered} of them")
            for key, _events in ready:
                sender = t.cast(_Sender, key.data)
                waited = sender.receive()
                if waited is None:
                    continue
                answered += 1
                slowest = max(slowest, waited)
                request = next(pending, None) if time.monotonic() < deadline else None
                if request is None:
                    selector.unregister(sender.socket)
                    open_ones -= 1
                else:
                    sender.send(request)
        took = time.monotonic() - started
    return Load(answered, took, (time.process_time() - busy) / took, slowest)


def _numbered(requests: Sequence[bytes], first: int) -> Iterator[bytes]:
    for number, request in zip(itertools.count(first), itertools.cycle(requests), strict=False):
        yield request.replace(NUMBER, b"%012x" % number)


class _Sender:
    """A connection with one request under way at most."""

    def __init__(self, stack: contextlib.ExitStack, port: int) -> None:
        self.socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), _PATIENCE))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        self._since = 0.0

    def send(self, request: bytes) -> None:
        self._since = time.monotonic()
        self.socket.sendall(request)

    def receive(self) -> float | None:
        """Read what has come; how long it took, in seconds, once the answer is whole. Raises RuntimeError."""
        some = self.socket.recv(65_536)
        if not some:
            raise RuntimeError(f"the server hung up after {bytes(self._received[:200])!r}")
        self._received += some
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._received[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(self._received) < end + 4 + length:
            return None
        if not head.startswith((b"http/1.1 200", b"http/1.1 202")):
            raise RuntimeError(f"refused: {bytes(self._received[:500])!r}")
        self._received.clear()
        return time.monotonic() - self._since
