# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wazuh: the JSON of its alerts, as an integration script posts them, as C(shuffle) or an index wraps them.

All values under data are texts. What its listener reports of Docker is an alert where somebody does something in a
container, or with what is in it. All other changes of state are what Docker was told to do, by the guard among others.

Whoever writes to a log that Wazuh reads chooses what stands under data and predecoder, and perhaps the name of the log.
Under data a container is named only where Wazuh itself says who wrote it: the listener, by its location, or Falco, by a
decoder or the group of a rule.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    Detector,
    PassedOver,
    first_text,
    part,
    said,
    texts,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors import falco

NAME = "wazuh"

SEVERITIES = {
    **dict.fromkeys(("0", "1", "2", "3"), "info"),
    **dict.fromkeys(("4", "5", "6"), "low"),
    **dict.fromkeys(("7", "8", "9", "10", "11"), "medium"),
    **dict.fromkeys(("12", "13", "14"), "high"),
    **dict.fromkeys(("15", "16"), "critical"),
}
"""Level of the rule -> severity of the guard."""

_INSIDE = frozenset(
    (
        "87907",  # command launched
        "87908",  # shell started
        "87910",  # file copied to the container
        "87911",  # file copied from the container
        "87917",  # image committed
        "87922",  # streams attached
        "87923",  # filesystem exported
        "87926",  # processes listed
    )
)
"""Of Wazuh's own rules about Docker, 879xx, those about what somebody does in a container; the others are not."""
_STATE_CHANGES = frozenset(
    (
        *(
            "create",
            "start",
            "restart",
            "stop",
            "kill",
            "die",
            "oom",
            "pause",
            "unpause",
            "destroy",
            "delete",
            "remove",
        ),
        *("rename", "update", "resize", "health_status", "detach", "exec_die", "exec_detach", "checkpoint", "prune"),
        *("connect", "disconnect", "mount", "unmount", "reload", "enable", "disable"),
    )
)
"""What Docker calls them, whatever rule fired."""
_LISTENER = re.compile(r"(?:\([\w.-]+\) [\w.:/]+->)?Wazuh-Docker", re.ASCII)
"""The location of what the listener of Docker tells, perhaps with the agent before it. A path may end likewise."""
_LONGEST_NAME = 256
"""Longest name of a field that others are looked for in: names of a thousand levels would add up."""


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of an alert of Wazuh, wrapped or not."""
    alert = _unwrapped(message)
    return {"level", "id"} <= part(alert, "rule").keys() and isinstance(alert.get("agent"), dict)


def convert(message: dict[str, t.Any]) -> dict[str, t.Any] | PassedOver:
    """The alert in the generic shape, or why it needs no answer. Raises AlertError."""
    alert = _unwrapped(message)
    data = part(alert, "data") or _in_full_log(alert)
    host = first_text(part(alert, "agent").get("name"))
    if falco.recognises(data) and _is_of_falco(alert):
        found = falco.convert(_of_falco(data))
        return {**found, "id": alert.get("id"), "host": host, "time": first_text(found["time"], alert.get("timestamp"))}
    rule, event = part(alert, "rule"), part(data, "docker") if _is_of_listener(alert) else {}
    rule_id = text.display(rule.get("id"))
    if "Wodle event" in event:
        return PassedOver.NO_ALERT
    if _is_state_change(rule_id, event):
        return PassedOver.STATE_CHANGE
    return {
        "id": alert.get("id"),
        "source": NAME,
        "rule": first_text(rule.get("description"), rule_id),
        "severity": rule.get("level"),
        "time": alert.get("timestamp"),
        "host": host,
        "container": _container(event) if event else None,
        "tags": [rule_id, *texts(rule.get("groups")), *texts(part(rule, "mitre").get("id"))],
        "message": first_text(alert.get("full_log"), _action(event)),
    }


def _unwrapped(message: dict[str, t.Any]) -> dict[str, t.Any]:
    return part(message, "all_fields") or part(message, "_source") or message


def _in_full_log(alert: dict[str, t.Any]) -> dict[str, t.Any]:
    """The data of an alert of 2018, which are JSON in a text."""
    try:
        return part(json.loads(first_text(alert.get("full_log"))))
    except (ValueError, RecursionError):
        return {}


def _is_of_listener(alert: dict[str, t.Any]) -> bool:
    return _LISTENER.fullmatch(first_text(alert.get("location"))) is not None


def _is_of_falco(alert: dict[str, t.Any]) -> bool:
    """Whether the decoder or a group of the rule is Falco's: whoever set Wazuh up has named these."""
    named = texts([part(alert, "decoder").get("name"), *texts(part(alert, "rule").get("groups"))])
    return falco.NAME in (each.lower() for each in named)


def _is_state_change(rule_id: str, event: dict[str, t.Any]) -> bool:
    # Of other objects, an image or a network, all that is told is what was done to them.
    return (
        (len(rule_id) == 5 and rule_id.startswith("879") and rule_id not in _INSIDE)
        or _action(event).partition(":")[0] in _STATE_CHANGES
        or event.get("Type", "container") != "container"
    )


def _action(event: dict[str, t.Any]) -> str:
    return first_text(event.get("Action"), event.get("status")).strip()


def _container(event: dict[str, t.Any]) -> dict[str, t.Any]:
    attributes = part(event, "Actor", "Attributes")
    return {
        # Engines before 29 say it twice, older versions of Wazuh once.
        "id": text.container_id(part(event, "Actor").get("ID")) or text.container_id(event.get("id")),
        "name": text.container_name(attributes.get("name")),
        "image": first_text(attributes.get("image"), event.get("from")),
    }


def _of_falco(data: dict[str, t.Any]) -> dict[str, t.Any]:
    """A message of Falco of which Wazuh's JSON decoder made objects and texts."""
    fields = part(data, "output_fields")
    return {**data, "output_fields": dict(_flat(fields)), "tags": texts(data.get("tags"))}


def _flat(fields: dict[str, t.Any]) -> t.Iterator[tuple[str, t.Any]]:
    """The fields under the names that Falco gave them, be they nested by their dots or not."""
    left = list(fields.items())
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            if len(name) <= _LONGEST_NAME:
                left += [(f"{name}.{key}", each) for key, each in value.items()]
        else:
            yield name, None if value == "null" else said(value)


DETECTOR = Detector(NAME, recognises, convert, {**SEVERITIES, **falco.SEVERITIES}, says_severity="rule.level")
