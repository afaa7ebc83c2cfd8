# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the alerts of an event are written: such that one can read them, or packed where they are many.

The rule engine writes each event as YAML in its event loop, by code in Python, and nothing else is done meanwhile, not
even alerts are taken. That takes 60 microseconds for each key and each value, and 0.6 to 1 for each character: 1 to 2
milliseconds for a small alert, but 25 for 500 of them as one text that is compressed to a tenth.
"""

from __future__ import annotations

import base64
import binascii
import json
import typing as t
import zlib
from collections.abc import Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

READABLE_BYTES = 24_576
"""Alerts that are written so that one can read them at most, as JSON, unless it is a single one."""
PACKED_BYTES = 40_960
"""Text of those that are packed at most."""
_MOST_BYTES = 1_048_576
"""What is unpacked at most: a delivery has a quarter of that. As data it takes 25 times as much memory, or less."""

Json = t.Any
Event = dict[str, Json]


class PackedError(GuardError):
    """What an event holds beside its alerts is not what the source packs."""


def written(alerts: Sequence[Mapping[str, Json]]) -> tuple[Event, int]:
    """Alerts as an event holds them, and how many of them do: the others come later.

    All in C(alerts), where they are few; else the first one, and others in C(packed_alerts), without the messages as
    received.

    Args:
        alerts: at least one; what matters most comes first.
    """
    if len(json.dumps(alerts)) <= READABLE_BYTES:
        return {"alerts": list(alerts)}, len(alerts)
    rest = [{**alert, "raw": "", "raw_sha256": ""} for alert in alerts[1:]]
    number, text = len(rest), _pack(rest)
    while len(text) > PACKED_BYTES:
        # Nothing but noise is so large that this goes around more than once or twice.
        number = number * PACKED_BYTES // len(text)
        text = _pack(rest[:number])
    return {"alerts": [alerts[0]], **({"packed_alerts": text} if number else {})}, 1 + number


def alerts_of(event: Mapping[str, Json]) -> list[Json] | None:
    """All alerts of an event, None where it is about none. Raises PackedError."""
    alerts = event.get("alerts")
    if not isinstance(alerts, (list, tuple)):
        return None
    return [*alerts, *_unpack(event.get("packed_alerts"))]


def _pack(alerts: Sequence[Json]) -> str:
    text = json.dumps(alerts, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode("ascii"))).decode("ascii")


def _unpack(text: Json) -> list[Json]:
    if text is None:
        return []
    try:
        unpacking = zlib.decompressobj()
        alerts = json.loads(unpacking.decompress(base64.b64decode(text, validate=True), _MOST_BYTES))
    except (TypeError, ValueError, RecursionError, binascii.Error, zlib.error):
        alerts = None
    if not isinstance(alerts, list):
        raise PackedError(
            "packed_alerts of the event cannot be read",
            kind="bad_event",
            remedy="Nothing was touched. Give the playbook the event as the source has made it",
        )
    return alerts
