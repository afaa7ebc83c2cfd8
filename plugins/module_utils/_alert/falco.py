# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Falco: http_output and file_output, one object a message; also what falcosidekick forwards.

The keys of output_fields are literal dotted names. output, tags and output_fields can each be left out by
configuration.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
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


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of a Falco message: only Falco says priority and rule."""
    return "priority" in message and "rule" in message


def convert(message: dict[str, t.Any]) -> dict[str, t.Any]:
    """The message in the generic shape. Raises AlertError."""
    priority = message["priority"]
    severity = SEVERITIES.get(priority.strip().lower()) if isinstance(priority, str) else None
    if severity is None:
        raise AlertError("priority is not one of Falco's: {}".format(", ".join(sorted(SEVERITIES))))
    fields = message.get("output_fields")
    if fields is None:
        fields = {}
    if not isinstance(fields, dict):
        raise AlertError("output_fields is not an object")
    return {
        "id": message.get("uuid"),
        "source": NAME,
        "rule": message["rule"],
        "severity": severity,
        "time": message.get("time"),
        "host": message.get("hostname"),
        "container": _container(fields),
        "tags": message.get("tags"),
        "message": message.get("output"),
    }


def _container(fields: dict[str, t.Any]) -> dict[str, t.Any] | None:
    full = text.container_id(fields.get("container.full_id"))
    short = fields.get("container.id") or full
    if short in (None, "", "host", "<NA>"):
        # Without an id Falco still fills in other fields ("host" as the name of the host): never a container.
        return None
    image = fields.get("container.image")
    if not image:
        parts = (fields.get("container.image.repository"), fields.get("container.image.tag"))
        image = ":".join(part for part in parts if isinstance(part, str) and part not in ("", "<NA>"))
    if full and not (isinstance(short, str) and full.startswith(short)):
        raise AlertError("container.full_id does not start with container.id")
    return {"id": full or short, "name": fields.get("container.name"), "image": image}
