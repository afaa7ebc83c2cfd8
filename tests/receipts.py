# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where receipts go: a server that keeps them, and answers as it is told."""

from __future__ import annotations

import json
import threading
import time
import typing as t

from ansible_collections.ironpost.container_guard.tests import loopback

Json = dict[str, t.Any]


class ReceiptServer(loopback.LoopbackServer):
    """Takes receipts at C(url) as long as its context lasts.

    Args:
        answers: statuses of the first answers; then, and by default, it is 204.

    Attributes:
        receipts: those that were taken, in the order in which they came.
        requests: how many requests there were, and the header C(Authorization) of each.
    """

    CAPABILITY = "c0" * 32

    def __init__(self, answers: t.Iterable[int] = ()) -> None:
        self.receipts: list[Json] = []
        self.requests: list[str] = []
        self._answers = list(answers)
        self._came = threading.Condition()
        taken = self

        class Handler(loopback.Handler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(taken._take(self.headers["Authorization"], self.path, body))
                self.send_header("Content-Length", "0")
                self.end_headers()

        super().__init__(Handler, "/receipts")

    def delivery(self, *hosts: str) -> Json:
        """What an event says of how it is acknowledged."""
        return {
            "id": "delivery-1",
            "hosts": list(hosts),
            "pattern": False,
            "deadline": "2040-04-05T12:00:00.000000Z",
            "receipt_url": self.url,
            "capability": self.CAPABILITY,
        }

    def of(self, host: str, timeout: float = 60.0) -> Json:
        """The receipt of a host, waiting for it. Raises AssertionError where none comes within so many seconds."""
        deadline = time.monotonic() + timeout
        with self._came:
            while True:
                for receipt in self.receipts:
                    if receipt["host"] == host:
                        return receipt
                assert self._came.wait(deadline - time.monotonic()), f"no receipt of {host}: {self.receipts}"

    def _take(self, authorization: str, path: str, body: bytes) -> int:
        with self._came:
            self.requests.append(authorization)
            status = self._answers.pop(0) if self._answers else 204
            if path == "/receipts" and status < 300:
                self.receipts.append(json.loads(body))
            self._came.notify_all()
        return status
