# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What detectors send to both sides of a benchmark."""

from __future__ import annotations

import http.client
import json
import typing as t
from collections.abc import Sequence

TOKEN = "benchmark-of-container-guard"
CRITICAL, ERROR, NOTICE = "Critical", "Error", "Notice"
"""Priorities of Falco: critical, high and low to the guard."""
SHELL = "Terminal shell in container"
_HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
_PATIENCE = 600.0

Json = dict[str, t.Any]


def falco(
    container: str,
    name: str = "",
    *,
    host: str = "localhost",
    priority: str = CRITICAL,
    rule: str = SHELL,
    command: str = "sh -i",
) -> Json:
    """What Falco says about a container.

    Args:
        container: its id.
        name: its name.
        host: the host.
        priority: in words of Falco.
        rule: its name.
        command: what was run. It stands there three times, as it does in real alerts.
    """
    return {
        "hostname": host,
        "priority": priority,
        "rule": rule,
        "source": "syscall",
        "tags": ["container", "shell", "mitre_execution"],
        "time": "2026-04-05T12:43:02.928967267Z",
        "output": f"A shell was spawned in a container with an attached terminal (container_name={name} {command})",
        "output_fields": {
            "container.id": container[:12],
            "container.name": name,
            "container.image.repository": "container-guard/busybox",
            "container.image.tag": "latest",
            "proc.cmdline": command,
            "proc.pcmdline": command,
            "user.name": "root",
        },
    }


def request(message: Json | Sequence[Json]) -> bytes:
    """The bytes of a request that posts one alert, or several as an array."""
    body = json.dumps(message).encode()
    head = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **_HEADERS}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST /alerts HTTP/1.1\r\n{lines}\r\n".encode() + body


def post(port: int, message: Json) -> Json:
    """Post one alert over a connection of its own; the answer, empty where it is no JSON. Raises RuntimeError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("POST", "/alerts", json.dumps(message).encode(), _HEADERS)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise RuntimeError(f"{answer.status} {text.decode(errors='replace')}")
    try:
        found: Json = json.loads(text)
    except ValueError:
        return {}
    return found


def elements(port: int) -> dict[str, int]:
    """The accounts of the guard."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/healthz")
        found: dict[str, int] = json.load(connection.getresponse())["elements"]
        return found
    finally:
        connection.close()
