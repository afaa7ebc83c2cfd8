# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Falco: http_output and file_output, one object a message; also what falcosidekick forwards.

The keys of output_fields are literal dotted names. output, tags and output_fields can each be left out by
configuration.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import HOST, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Detector, said
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError

NAME = "falco"

SEVERITIES = {
    "emergency": "critical",
    "alert": "critical",
    "critical": "critical",
    "error": "high",
    "warning": "medium",
    "notice": "low",
    "informational": "info",
    "info": "info",
    "debug": "info",
}
"""Priority of Falco, lower case -> severity of the guard."""

_INTERNAL = "internal"
_INTERNAL_RULES = "Falco internal"
_OF_SYSCALLS = (None, "", "syscall", "syscalls")
"""The source of what happened on the host, as Falco and falcosidekick call it, and older ones do not."""
_TEXT_MESSAGE = re.compile(
    rb"(?:\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d{1,9}(?:[+-]\d{4}|Z)?: "
    rb"(?:Emergency|Alert|Critical|Error|Warning|Notice|Informational|Info|Debug) "
)


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of a Falco message: only Falco says priority and rule."""
    return "priority" in message and "rule" in message


def convert(message: dict[str, t.Any]) -> dict[str, t.Any]:
    """The message in the generic shape. Raises AlertError."""
    fields = message.get("output_fields")
    if fields is None:
        fields = {}
    if not isinstance(fields, dict):
        raise AlertError("output_fields is not an object")
    return {
        "id": message.get("uuid"),
        "source": NAME,
        "rule": message["rule"],
        "severity": message["priority"],
        "time": message.get("time"),
        "host": message.get("hostname"),
        "container": _container(message, fields),
        "tags": message.get("tags"),
        "message": message.get("output") or message.get("message"),
    }


def remedy_for(body: bytes) -> str:
    """What to do where this is no JSON: empty unless it is a message of Falco as text."""
    return "Set json_output: true in falco.yaml" if _TEXT_MESSAGE.match(body.lstrip()[:100]) else ""


def _container(message: dict[str, t.Any], fields: dict[str, t.Any]) -> dict[str, t.Any] | None:
    """The container of the generic shape; None where the message says nothing about containers."""
    source, rule = message.get("source"), message["rule"]
    if source == _INTERNAL or (isinstance(rule, str) and rule.startswith(_INTERNAL_RULES)):
        return None
    short, name = _field(fields, "container.id"), _field(fields, "container.name")
    full = text.container_id(_field(fields, "container.full_id"))
    if full and short is not None and not (isinstance(short, str) and full.startswith(short)):
        raise AlertError("container.full_id does not start with container.id")
    given_id = full or short
    if given_id == HOST or (given_id is None and name == HOST):
        # Falco says "host" for both of what runs outside of containers.
        return {"subject": Subject.NOT_DOCKER.value}
    name = text.container_name(name)
    image = _image(fields)
    if isinstance(given_id, str) and not text.container_id(given_id):
        # Falco knows containers of other engines, too, whose ids look otherwise: "101" of lxc.
        return {"name": name, "image": image, "subject": Subject.NOT_DOCKER.value}
    if text.container_id(name):
        # Falco 0.41 puts the id there. Anybody can name a container so, which makes it no id.
        name = ""
    if given_id is None and not name and source not in _OF_SYSCALLS:
        return None  # plugins for audit logs of a cloud, and the like
    return {"id": given_id, "name": name, "image": image, "pid": text.process_id(_field(fields, "proc.pid"))}


def _image(fields: dict[str, t.Any]) -> str:
    whole = _field(fields, "container.image")
    if whole:
        return text.display(whole)
    repository, tag = _field(fields, "container.image.repository"), _field(fields, "container.image.tag")
    if not isinstance(repository, str):
        return ""
    return f"{repository}:{tag}" if isinstance(tag, str) else repository


def _field(fields: dict[str, t.Any], dotted: str) -> t.Any:
    """What a field holds, or None where Falco does not know."""
    # falcosidekick replaces the dots where it writes to Elasticsearch with flattenfields, also for other outputs.
    return said(fields[dotted] if dotted in fields else fields.get(dotted.replace(".", "_")))


DETECTOR = Detector(NAME, recognises, convert, SEVERITIES, says_severity="priority")
