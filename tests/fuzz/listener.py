# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs for the listener: the real event source in a process of its own, over a socket."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gzip
import json
import pathlib
import random
import socket
import subprocess
import sys
import time
import types
import typing as t
import zlib

from ansible_collections.ironpost.container_guard.tests.fuzz.inputs import Input
from ansible_collections.ironpost.container_guard.tests.fuzz.parsers import Counts, FailedError, assert_inert
from ansible_collections.ironpost.container_guard.tests.fuzz.source import TOKEN
from ansible_collections.ironpost.container_guard.tests.fuzz.watch import Growth

SENDERS = 4
ANSWER = 30.0
"""Seconds within which a whole request is answered."""
_GIVEN_UP = 0.2
"""Seconds that one waits for the answer to what is no whole request, and may have none."""
_START = 30.0
_STATUS = (200, 202, 400, 401, 404, 405, 408, 413, 414, 415, 417, 431, 503)
_ALERT = json.dumps({"source": "sensor", "rule": "Shell", "severity": "low", "host": "web-1"}).encode()


class Source:
    """The event source, as long as its context lasts.

    Attributes:
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._directory = directory
        self._log = directory / "source.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Source:
        """Start it, and wait until it listens."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-W",
                    "error",
                    pathlib.Path(__file__).with_name("source.py"),
                    str(self.port),
                    self._directory,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            self.check()
            if time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise AssertionError(f"the source does not listen:\n{self.log}")
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """End it."""
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(errors="replace")

    def check(self) -> None:
        """Raise AssertionError where it has ended, or has logged a fault of its own."""
        assert self._process is not None
        assert self._process.poll() is None, f"the source has ended:\n{self.log}"
        assert "Traceback" not in self.log, self.log


class _Sender:
    """Sends requests, over one connection as long as that lasts."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, request: bytes, whole: bool) -> int:
        """The status of the answer; 0 where there is none, as there may be to what is no whole request."""
        reader, writer = await self._connection()
        try:
            writer.write(request)
            await writer.drain()
            if not whole:
                writer.write_eof()
            async with asyncio.timeout(ANSWER if whole else _GIVEN_UP):
                status, headers, body = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError):  # a timeout, too
            assert not whole, "a request was not answered"
            self.close()
            return 0
        if not whole or b"close" in headers.get(b"connection", b"").lower():
            self.close()
        if body and b"json" in headers.get(b"content-type", b""):
            assert_inert(json.loads(body))
        return status

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self._reader, self._writer

    def close(self) -> None:
        """Close the connection."""
        if self._writer:
            self._writer.transport.abort()
        self._reader = self._writer = None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an answer; that the sender may go on is none."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")[:-2]
        version, status = first.split(b" ")[:2]
        assert version in (b"HTTP/1.1", b"HTTP/1.0"), first
        headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(b":") for line in lines)}
        if status != b"100":
            return int(status), headers, await reader.readexactly(int(headers.get(b"content-length", b"0")))


def request_of(made: Input) -> tuple[bytes, bool]:
    """The bytes of a request, and whether they are a whole one as senders send them."""
    chance, body = made.random, made.body()
    if chance.random() < 0.03:
        return chance.randbytes(chance.randrange(2_000)), False
    path = chance.choice((*("/alerts",) * 6, "/alerts/falco", "/alerts/tetragon", "/alerts/" + TOKEN))
    headers = {"Host": "guard", "Authorization": f"Bearer {TOKEN}"}
    if chance.random() < 0.05:
        encode = chance.choice((gzip.compress, zlib.compress))
        headers["Content-Encoding"] = "gzip" if encode is gzip.compress else "deflate"
        body = encode(body)
    if chance.random() < 0.05:
        headers["Expect"] = "100-continue"
    if chance.random() < 0.1:
        headers["Transfer-Encoding"] = "chunked"
        body = _chunked(body, chance)
    else:
        headers["Content-Length"] = str(len(body))
    if chance.random() < 0.9:
        return _request("POST", path, headers, body), True
    return _strange(path, headers, body, chance), False


def _strange(path: str, headers: dict[str, str], body: bytes, chance: random.Random) -> bytes:
    """A request with something wrong in its head, or without its end."""
    method, choice = "POST", chance.randrange(10)
    if choice == 0:
        method = chance.choice(("GET", "PUT", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "{{ x }}", ""))
    elif choice == 1:
        path = chance.choice(
            ("/", "*", "http://guard/alerts", "/alerts/" * 50, "/%00", "/alerts/%zz", "/\u20ac", "/healthz", "//")
        )
    elif choice == 2:
        headers["Content-Length"] = chance.choice(("-1", "0x10", "1e3", "", "9" * 100, str(len(body) + 1), "1, 2"))
    elif choice == 3:
        headers["Authorization"] = chance.choice(("", "Bearer", "Basic e30=", "Bearer \u20ac", "Bearer " + "x" * 9_000))
    elif choice == 4:
        headers["Content-Encoding"] = chance.choice(("gzip", "br", "zstd", "identity", "{{ x }}", "gzip, gzip"))
    elif choice == 5:
        headers.pop("Content-Length", None)
    elif choice == 6:
        headers["Transfer-Encoding"] = chance.choice(("chunked", "gzip, chunked", "identity", "chunked, chunked"))
    elif choice == 7:
        headers.update({f"X-{number}": "y" * chance.randrange(500) for number in range(chance.randrange(300))})
    elif choice == 8:
        headers[chance.choice(("Bad Name", "\0", ":", "{{ x }}"))] = chance.choice(("\0", "a\r\n b", "\u20ac"))
    request = _request(method, path, headers, body)
    return request[: chance.randrange(len(request))] if choice == 9 else request


def _request(method: str, path: str, headers: t.Mapping[str, str], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def _chunked(body: bytes, chance: random.Random) -> bytes:
    chunks, start = b"", 0
    while start < len(body):
        size = chance.randrange(1, len(body) - start + 1)
        chunks += b"%x\r\n%b\r\n" % (size, body[start : start + size])
        start += size
    return chunks + b"0\r\n\r\n"


async def _all(source: Source, seed: int, numbers: range) -> Counts:
    counts: Counts = collections.Counter()
    growth, waiting = Growth(len(numbers), source.pid), iter(numbers)

    async def sending() -> None:
        sender = _Sender(source.port)
        for number in waiting:
            growth.seen(number - numbers.start)
            try:
                request, whole = request_of(Input(seed, number))
                status = await sender.send(request, whole)
                assert not status or status in _STATUS, f"the answer has status {status}"
                if number % 5_000 == 0:
                    source.check()
            except Exception as error:
                raise FailedError("listener", seed, number) from error
            counts[f"status {status}" if status else "no answer"] += 1
        sender.close()

    async with asyncio.TaskGroup() as group:
        for _sender in range(SENDERS):
            group.create_task(sending())
    last = _Sender(source.port)
    headers = {"Host": "guard", "Authorization": f"Bearer {TOKEN}", "Content-Length": str(len(_ALERT))}
    assert await last.send(_request("POST", "/alerts", headers, _ALERT), whole=True) == 202
    # It tells that there are no receipts.
    assert await last.send(_request("GET", "/healthz", {"Host": "guard"}, b""), whole=True) in (200, 503)
    last.close()
    if len(numbers) >= 10_000:
        growth.grown()
    return counts


def run(directory: pathlib.Path, seed: int, numbers: range) -> Counts:
    """Send the inputs of these numbers, and count what is answered. Raises FailedError, AssertionError.

    Args:
        directory: for what the source writes.
        seed: of the run.
        numbers: of the inputs.
    """
    with Source(directory) as source:
        counts = asyncio.run(_all(source, seed, numbers))
        source.check()
    return counts
