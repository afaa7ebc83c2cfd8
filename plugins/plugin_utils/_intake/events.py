# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events as a rulebook gets them: C(alerts), and C(meta.hosts), which the engine limits a playbook run to."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable, Iterator, Sequence

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.hosts import Placed

MAX_BYTES = 262_144
"""Largest event, in bytes as JSON: the engine writes it with a slow serialiser in its own event loop."""
MAX_ALERTS = 500
_FRAME = 64
"""Bytes as JSON around alerts and hosts."""


class AlertEvent(dict[str, t.Any]):
    """An event of alerts. No text in it is a template to Ansible.

    Its type tells it from a message, which is a plain dictionary whatever a sender writes in it.

    Attributes:
        placed: the alerts of the event.
    """

    def __init__(self, placed: Sequence[Placed], with_raw: bool = True) -> None:
        alerts = [_content(each, with_raw) for each in placed]
        super().__init__(alerts=alerts, meta={"hosts": sorted({host for each in placed for host in each.targets})})
        self.placed = tuple(placed)


def events_of(placed: Iterable[Placed]) -> list[AlertEvent]:
    """Events of these alerts, each of whom somebody is asked about; one event, where they fit into one.

    Messages as received are left out where not all of them fit into one event.
    """
    placed = list(placed)
    if not placed:
        return []
    event = AlertEvent(placed)
    if len(placed) == 1 or (len(placed) <= MAX_ALERTS and len(json.dumps(event)) <= MAX_BYTES):
        return [event]
    return [AlertEvent(part, with_raw=False) for part in _parts(placed)]


def _parts(placed: Sequence[Placed]) -> Iterator[list[Placed]]:
    part: list[Placed] = []
    room = 0
    for each in placed:
        size = len(json.dumps([_content(each, with_raw=False), each.targets]))
        if part and (size > room or len(part) == MAX_ALERTS):
            yield part
            part = []
        if not part:
            room = MAX_BYTES - _FRAME
        part.append(each)
        room -= size
    yield part


def _content(placed: Placed, with_raw: bool) -> dict[str, t.Any]:
    content = placed.alert.to_dict()
    return content if with_raw else {**content, "raw": ""}
