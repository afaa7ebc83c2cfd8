# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Those who send alerts to a rulebook, and what it says of them. As a command, they send for Molecule scenarios."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import http.client
import itertools
import json
import pathlib
import queue
import ssl
import threading
import time
import typing as t
from collections.abc import Iterable

TOKEN = "a-token-of-the-test-suite"
_AGAIN = 0.05
"""Seconds until a sender tries again."""

Json = dict[str, t.Any]


def post(
    port: int, message: object, path: str = "/alerts", token: str = TOKEN, tls: ssl.SSLContext | None = None
) -> tuple[int, Json]:
    """Post a message, or a body; status and content of the answer. Raises OSError, HTTPException."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    if tls is not None:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=tls)
    with contextlib.closing(connection):
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def health(port: int) -> Json:
    """What /healthz says, whatever its status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        found: Json = json.load(connection.getresponse())
        return found


def elements(port: int) -> dict[str, int]:
    """How many elements are where, by account."""
    found: dict[str, int] = health(port)["elements"]
    return found


def metric(port: int, name: str) -> float:
    """The value of a metric without labels, from /metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"container_guard_{name} "))


def falco(container: str, host: str, rule: str = "Terminal shell in container", priority: str = "Critical") -> Json:
    """What Falco says about a container of a host."""
    return {
        "hostname": host,
        "priority": priority,
        "rule": rule,
        "source": "syscall",
        "tags": ["container", "shell"],
        "time": "2026-04-05T12:43:02.928967267Z",
        "output": "A shell was spawned (cmdline={{ lookup('pipe', 'false') }})",
        "output_fields": {"container.id": container[:12], "evt.time.iso8601": 1775392982928967267},
    }


@dataclasses.dataclass(frozen=True)
class Accepted:
    """An alert that was answered 202.

    Attributes:
        container: that it is about.
        host: of the container.
        trace_id: by which it is answered: its own, or that of the alert that it was folded into.
    """

    container: str
    host: str
    trace_id: str


class Senders:
    """Several threads that send alerts as a relay does: again, until they are answered 202. A context manager.

    Attributes:
        accepted: alerts that were answered 202, in any order.
        unheard: requests that may have been taken, and whose answer did not come.
        refused: answers that are neither 202 nor 503; there should be none.
    """

    def __init__(self, port: int, threads: int = 4, *, token: str = TOKEN, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._token = token
        self._tls = tls
        self._alerts: queue.Queue[tuple[str, str, Json] | None] = queue.Queue()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(threads)]
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.accepted: list[Accepted] = []
        self.unheard = 0
        self.refused: list[tuple[int, Json]] = []

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for _thread in self._threads:
            self._alerts.put(None)
        for thread in self._threads:
            thread.join()

    def send(self, alerts: Iterable[tuple[str, str, Json]]) -> None:
        """Have alerts sent: container, host and message of each."""
        for alert in alerts:
            self._alerts.put(alert)

    def wait(self) -> None:
        """Wait until all that was to be sent was answered."""
        self._alerts.join()

    @property
    def done(self) -> bool:
        """Whether all that was to be sent was answered."""
        return self._alerts.unfinished_tasks == 0

    def _send(self) -> None:
        while (alert := self._alerts.get()) is not None:
            container, host, message = alert
            while not self._stop.is_set() and not self._post(container, host, message):
                time.sleep(_AGAIN)
            self._alerts.task_done()

    def _post(self, container: str, host: str, message: Json) -> bool:
        """Whether it is done."""
        try:
            status, answer = post(self._port, message, token=self._token, tls=self._tls)
        except ConnectionRefusedError:
            return False  # nobody is there
        except (OSError, http.client.HTTPException, ValueError):
            with self._lock:
                self.unheard += 1
            return False
        if status == 503:
            return False
        with self._lock:
            if status != 202 or answer.get("accepted") != 1:
                self.refused.append((status, answer))
            else:
                (alert,) = answer["alerts"]
                self.accepted.append(Accepted(container, host, alert.get("folded_into") or alert["trace_id"]))
        return True


def main() -> None:
    """Send alerts, each by a rule of its own, as long as a file is there, and print what came of it, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", type=pathlib.Path, help="the file. JSON: ids of containers by names of their hosts")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cafile", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--run", required=True, help="tells rules of several runs apart")
    options = parser.parse_args()
    targets: dict[str, str] = json.loads(options.targets.read_text())
    tls = ssl.create_default_context(cafile=options.cafile)
    with Senders(options.port, token=options.token, tls=tls) as senders:
        for number in itertools.count():
            if not options.targets.exists():
                break
            rule = f"Terminal shell {options.run} {number}"
            senders.send((container, host, falco(container, host, rule)) for host, container in targets.items())
            senders.wait()
    print(json.dumps({"accepted": len(senders.accepted), "unheard": senders.unheard, "refused": senders.refused}))


if __name__ == "__main__":
    main()
