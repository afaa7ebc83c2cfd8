# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tetragon: the JSON of its export, one object a line, with one event in each.

What a TracingPolicy asks for is an alert. Starts and ends of processes, of which there is one for each on the host, are
none. Tetragon knows no severity.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    Detector,
    PassedOver,
    first_text,
    part,
    texts,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity

NAME = "tetragon"

_OF_POLICIES = ("process_kprobe", "process_tracepoint", "process_uprobe", "process_lsm", "process_usdt")
_OTHERS = (
    "process_exec",
    "process_exit",
    "process_loader",
    "process_throttle",
    "rate_limit_info",
    "test",
    # In its documentation of 2022, and gone since.
    "process_connect",
    "process_close",
    "process_listen",
)


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of an event of Tetragon."""
    return sum(isinstance(message.get(event), dict) for event in (*_OF_POLICIES, *_OTHERS)) == 1


def convert(message: dict[str, t.Any]) -> dict[str, t.Any] | PassedOver:
    """The event in the generic shape. Raises AlertError."""
    event = next((part(message, name) for name in _OF_POLICIES if name in message), None)
    if event is None:
        return PassedOver.NO_ALERT
    # The parent has the same keys, and may be in another container.
    process = part(event, "process")
    function = first_text(event.get("function_name"), event.get("symbol"), event.get("event"))
    command = " ".join(filter(None, (first_text(process.get(key)) for key in ("binary", "arguments"))))
    return {
        "source": NAME,
        "rule": first_text(event.get("policy_name"), function),
        "severity": None,
        "time": message.get("time"),
        "host": message.get("node_name"),
        "container": _container(process),
        "tags": [*texts(event.get("tags")), *filter(None, (function, first_text(event.get("action"))))],
        "message": ": ".join(filter(None, (first_text(event.get("message")), command))),
    }


def _container(process: dict[str, t.Any]) -> dict[str, t.Any]:
    in_pod, docker = part(process, "pod", "container"), process.get("docker")
    engine, is_full, full = first_text(in_pod.get("id")).partition("://")
    if is_full and engine != "docker":
        return {"subject": Subject.NOT_DOCKER.value}
    if full and docker and not full.startswith(docker if isinstance(docker, str) else "-"):
        raise AlertError("process.pod.container.id does not start with process.docker")
    pid = text.process_id(process.get("pid"))
    # What is cut to 31 characters is any long name of a control group, and need not be an id.
    container_id = text.container_id(full) or text.container_id(docker)
    if not container_id and not docker and not pid:
        return {"subject": Subject.NOT_DOCKER.value}
    # Before 1.7.0 (January 2026), docker can be missing on hosts without Kubernetes: only the process says where it is.
    return {"id": container_id, "image": part(in_pod, "image").get("name"), "pid": pid}


DETECTOR = Detector(NAME, recognises, convert, severities={}, default=str(Severity.MEDIUM))
