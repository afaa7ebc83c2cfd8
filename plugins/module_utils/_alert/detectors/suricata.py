# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Suricata: EVE JSON, one object a line, of which the events of the type C(alert) are alerts.

It knows no containers, only the two addresses of a flow. The alert may stand on the answer, so that the source of the
packet need not be who began the flow.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    Detector,
    PassedOver,
    either_side,
    first_text,
    part,
    texts,
)

NAME = "suricata"

SEVERITIES = {
    "critical": "critical",
    "major": "high",
    "minor": "low",
    "informational": "info",
    "1": "high",
    "2": "medium",
    "3": "low",
}
"""signature_severity of the rule, or else its priority -> severity of the guard."""
_OTHER_PRIORITIES = "info"
"""Of 4 to 255."""


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of an EVE record."""
    return isinstance(message.get("event_type"), str) and ("timestamp" in message or "ts" in message)


def convert(message: dict[str, t.Any]) -> dict[str, t.Any] | PassedOver:
    """The record in the generic shape, or why it needs no answer."""
    if message["event_type"] != "alert":
        return PassedOver.NO_ALERT
    alert = part(message, "alert")
    metadata = part(alert, "metadata")
    signature_id = text.display(alert.get("signature_id"), 32)
    rule = first_text(alert.get("signature")) or (f"signature {signature_id}" if signature_id else "")
    return {
        "source": NAME,
        "rule": rule,
        "severity": _severity(metadata, alert.get("severity")),
        "time": first_text(message.get("timestamp"), message.get("ts")),
        "host": message.get("host"),
        "container": either_side(_initiator(message), message.get("src_ip"), message.get("dest_ip")),
        "tags": [
            *filter(None, (signature_id, first_text(alert.get("category")))),
            *(tag for key in ("tag", "mitre_technique_id") for tag in texts(metadata.get(key))),
        ],
        "message": f"{rule}: {_flow(message)}",
    }


def _severity(metadata: dict[str, t.Any], priority: object) -> object:
    """What the authors of the rule say counts before its priority, which is 1 for malware and look-ups alike."""
    said = next(iter(texts(metadata.get("signature_severity"))), "")
    return said if said.lower() in SEVERITIES else priority


def _initiator(message: dict[str, t.Any]) -> object:
    """The side that began the flow."""
    source, target = message.get("src_ip"), message.get("dest_ip")
    began = part(message, "flow").get("src_ip")
    if text.address(began) and text.address(began) in (text.address(source), text.address(target)):
        return began
    return target if message.get("direction") == "to_client" else source


def _flow(message: dict[str, t.Any]) -> str:
    sides = (
        " ".join(filter(None, (text.display(message.get(key), 64) for key in (f"{side}_ip", f"{side}_port"))))
        for side in ("src", "dest")
    )
    return "{} to {}".format(*sides)


DETECTOR = Detector(NAME, recognises, convert, SEVERITIES, default=_OTHER_PRIORITIES)
