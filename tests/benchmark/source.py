# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event source in a process of its own, without a rule engine: what it takes in, and what memory it needs.

Run as a program, it takes the options as JSON, writes each event as a line of JSON, and ends when its input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import pathlib
import socket
import subprocess
import sys
import threading
import types
import typing as t
import urllib.parse
from collections.abc import Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import ISOLATED
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import accept
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options, parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import alerts_of, written
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.source import Intake, serve
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Offer, Stored
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import Wanted
from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import TOKEN, Json

_PATIENCE = 60.0


class Source:
    """The process. Use it as a context manager: it takes alerts once that is entered.

    Its alerts are answered at once, as if each host isolated what they are about.

    Args:
        directory: for its spool; made here.
        keeping: with a spool, deliveries and receipts, or without: what it takes is in memory until it is handed on.
        options: of the source, beside what it needs.

    Attributes:
        port: where it takes alerts.
    """

    def __init__(self, directory: pathlib.Path, keeping: bool, **options: t.Any) -> None:
        directory.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        given = {"port": self.port, "token": TOKEN, "spool": str(directory / "spool"), **options}
        self._command = [sys.executable, str(pathlib.Path(__file__)), json.dumps(given)]
        self._command += [] if keeping else ["--in-memory"]
        self._log = directory / "source.log"

    def __enter__(self) -> t.Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        # Its first line says that it listens.
        if not t.cast(t.IO[str], self._process.stdout).readline():
            raise RuntimeError(f"the source ended at once: {self._log.read_text()}")
        self._hosts = threading.Thread(target=self._answer, daemon=True)
        self._hosts.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        t.cast(t.IO[str], self._process.stdin).close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._hosts.join(_PATIENCE)
        if error is not None:
            error.add_note(f"log of the source:\n{self._log.read_text()[-5000:]}")

    @property
    def memory(self) -> int:
        """Its resident set, in bytes."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def _answer(self) -> None:
        for line in t.cast(t.IO[str], self._process.stdout):
            event = json.loads(line)
            if "delivery" in event:
                with contextlib.suppress(OSError, http.client.HTTPException):  # it has ended
                    _acknowledge(event)


def _acknowledge(event: Json) -> None:
    """Send the receipt of each host of a delivery."""
    delivery, alerts = event["delivery"], alerts_of(event) or []
    url = urllib.parse.urlsplit(delivery["receipt_url"])
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=_PATIENCE)
    with contextlib.closing(connection):
        for host in delivery["hosts"]:
            receipt = {
                **{name: delivery[name] for name in ("hosts", "pattern", "deadline")},
                "trace_ids": [alert["trace_id"] for alert in alerts],
                "delivery": delivery["id"],
                "host": host,
                "run_hosts": delivery["hosts"],
                "state": "answered",
                "alerts": [
                    {"trace_id": alert["trace_id"], "outcome": ISOLATED, "milliseconds": 1}
                    for alert in alerts
                    if alert["inventory_host"] == host
                ],
            }
            connection.request(
                "POST", url.path, json.dumps(receipt), {"Authorization": f"Receipt {delivery['capability']}"}
            )
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"a receipt was refused: {answer.status} {text!r}")


# --- the program ------------------------------------------------------------------------------------------------------


class InMemory:
    """In the place of the spool and of the deliveries: hands alerts on, and wants no receipts.

    Args:
        queue: of the rule engine.
        pause: seconds between two events.
        most: alerts in an event.
    """

    accounts: Mapping[str, int] = {}

    def __init__(self, queue: Lines, pause: float, most: int) -> None:
        self._queue, self._pause, self._most = queue, pause, most
        self._waiting: list[Alert] = []

    async def store(
        self,
        offers: Sequence[Offer],
        counts: Mapping[str, int] | None = None,
        position: tuple[str, Json] | None = None,
    ) -> list[Stored]:
        self._waiting += [offer.alert for offer in offers]
        return [Stored(offer.alert.trace_id) for offer in offers]

    def troubles(self) -> Sequence[str]:
        return ()

    def health(self) -> Sequence[str]:
        return ()

    def figures(self) -> Mapping[str, float]:
        return {}

    async def run(self) -> t.NoReturn:
        while True:
            await asyncio.sleep(self._pause)
            if self._waiting:
                event, number = written([alert.to_dict() for alert in self._waiting[: self._most]])
                del self._waiting[:number]
                await self._queue.put(event)

    async def drain(self, timeout: float) -> None:
        return

    async def receipt(self, authorization: str, body: bytes) -> None:
        return

    def position(self, name: str) -> Json | None:
        return None

    def confirmed(self, host: str, digest: str) -> None:
        return


class Lines:
    """In the place of the rule engine: takes every event at once."""

    async def put(self, event: Json, /) -> None:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


async def run(options: Options, keeping: bool) -> None:
    """Take alerts until the input ends."""
    if keeping:
        work = asyncio.create_task(serve(Lines(), options))
    else:
        memory = InMemory(Lines(), options.batch_interval, options.batch_max)
        sockets = accept.listen(options.host, options.port)
        intake = Intake(options, memory, memory, Wanted(None, 0))
        work = asyncio.create_task(intake.run(asyncio.Event(), sockets))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await _listening(options, work)
    print("listening", flush=True)
    await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _listening(options: Options, work: asyncio.Task[t.Any]) -> None:
    """Wait until it listens. Raises what the source raises."""
    while True:
        try:
            _reader, writer = await asyncio.open_connection(options.host, options.port)
        except OSError:
            if work.done():
                work.result()
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("options", type=json.loads)
    parser.add_argument("--in-memory", action="store_true")
    arguments = parser.parse_args()
    asyncio.run(run(parse_options(arguments.options), not arguments.in_memory))
