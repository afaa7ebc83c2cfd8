# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions that repeat themselves: the first is recorded in full, those that follow within a time are counted."""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent

PERIOD = 3600
"""Seconds within which repeats are counted, where the policy has no C(cooldown)."""
MAX_COUNTED = 1000
"""Decisions whose repeats are counted at a time."""
# Of the last repeat these are kept; the first says the rest.
_KEPT = ("outcome", "trace_id", "alert_id", "policy_id", "source", "rule", "host", "container")


class Repeats:
    """The decisions that were recorded of late, and how often each was repeated.

    Args:
        moment: seconds since the epoch.
        known: by the digest of a decision: C(until), C(count), and the C(event) that counts them.
    """

    def __init__(self, moment: float, known: dict[str, dict[str, t.Any]]) -> None:
        self._now = moment
        self._known = known
        self._ended: list[dict[str, t.Any]] = []

    @classmethod
    def from_json(cls, content: bytes | None, moment: float) -> Repeats:
        """What to_json wrote; nothing where it is damaged, as the first repeat is then recorded in full."""
        try:
            known = json.loads(content or b"{}")
            for entry in known.values():
                ActionEvent(**entry["event"], count=entry["until"] + entry["period"] + entry["count"])
        except (ValueError, KeyError, TypeError, AttributeError):
            known = {}
        return cls(moment, known)

    def to_json(self) -> str:
        """The content of the file."""
        return json.dumps(self._known, sort_keys=True, separators=(",", ":")) + "\n"

    def take(self, event: ActionEvent, periods: t.Mapping[str, int]) -> list[ActionEvent]:
        """The event where it is to be recorded in full; nothing where it is a repeat that is counted."""
        if not event.alert_id:  # what people ask for is recorded each time
            return [event]
        key = _key(event)
        entry = self._known.get(key)
        # A clock that was set back must not count for longer than the period.
        if entry and self._now < entry["until"] <= self._now + entry["period"] and not event.changed:
            entry["count"] += 1
            entry["event"].update(_shown(event), id=event.id, time=event.time)
            first = entry["event"].get("timeline", {}).get("first", event.time)
            entry["event"]["timeline"] = {"first": first, "last": event.time}
            return []
        if entry:
            self._end(key)
        period = periods.get(event.policy_id) or PERIOD
        self._known[key] = {
            "until": self._now + period,
            "period": period,
            "count": 0,
            "event": {**_shown(event), "repeat_of": event.id, "id": event.id, "time": event.time},
        }
        if len(self._known) > MAX_COUNTED:
            self._end(min(self._known, key=lambda other: float(self._known[other]["until"])))
        return [event]

    def due_counts(self) -> list[dict[str, t.Any]]:
        """The records of repeats whose time is over."""
        for key, entry in list(self._known.items()):
            if not self._now < entry["until"] <= self._now + entry["period"]:
                self._end(key)
        return self._ended

    def all_counts(self) -> list[dict[str, t.Any]]:
        """The records of all repeats so far."""
        for key in list(self._known):
            self._end(key)
        return self._ended

    def _end(self, key: str) -> None:
        entry = self._known.pop(key)
        if entry["count"]:
            event = ActionEvent(**entry["event"], count=entry["count"])
            self._ended.append(event.to_dict())


def _key(event: ActionEvent) -> str:
    container = event.container or {}
    kind = (event.error or {}).get("kind", "")
    told = [
        event.outcome,
        event.policy_id,
        event.source,
        event.rule,
        container.get("id", ""),
        container.get("name", ""),
    ]
    return hashlib.sha256(json.dumps([*told, kind]).encode("ascii")).hexdigest()[:16]


def _shown(event: ActionEvent) -> dict[str, t.Any]:
    shown = {name: getattr(event, name) for name in _KEPT}
    return {**shown, "container": dict(event.container) if event.container else None}
