# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ironpost: the AlertEvent of its pipelines, as serde would write it.

It names neither host nor container. Addresses count where it saw the packets: whoever writes a line of a log chooses
what stands in it. ironpost itself writes no JSON of an event, so that moments are read in both forms that a bridge may
choose.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    Detector,
    either_side,
    first_text,
    part,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES

NAME = "ironpost"

_SEES_PACKETS = "ebpf-engine"


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of an AlertEvent."""
    return "source_module" in part(message, "metadata") and isinstance(message.get("alert"), dict)


def convert(message: dict[str, t.Any]) -> dict[str, t.Any]:
    """The event in the generic shape."""
    metadata, alert = part(message, "metadata"), part(message, "alert")
    module = first_text(metadata.get("source_module"))
    title, description = (first_text(alert.get(key)) for key in ("title", "description"))
    return {
        "id": message.get("id"),
        "trace_id": metadata.get("trace_id"),
        "source": NAME,
        "rule": first_text(alert.get("rule_name"), title),
        # The severity of the event decides in ironpost, where that of its alert differs.
        "severity": first_text(message.get("severity"), alert.get("severity")),
        "time": _moment(metadata.get("timestamp")) or _moment(alert.get("created_at")),
        "container": either_side(alert.get("source_ip"), alert.get("target_ip")) if module == _SEES_PACKETS else None,
        "tags": [module],
        "message": ": ".join(filter(None, (title, description))),
    }


def _moment(value: object) -> str:
    """RFC 3339, or empty where there is none."""
    seconds = part(value).get("secs_since_epoch")
    found = timestamp.of_epoch(seconds) if seconds is not None else timestamp.parse_timestamp(value)
    return timestamp.format_timestamp(found) if found else ""


DETECTOR = Detector(NAME, recognises, convert, severities={severity: severity for severity in SEVERITIES})
