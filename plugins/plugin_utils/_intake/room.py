# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Room in the spool: what one sender may take of it, so that the others have some, whatever that one sends.

A fifth of the room is kept for high and critical alerts, an equal part of it for each sender. The rest is for all
alerts; of that a sender may have a quarter, or its equal part where there are fewer than four.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity

_KEPT = 5
"""The part of the room that is kept: a fifth."""
_SHARE = 4
"""The part of the rest that a sender may have: a quarter."""
_WITH_RAW = 2
"""The part of that which messages as received may take: half, so that there is room for alerts without them."""


class Place(t.NamedTuple):
    """What an alert takes.

    Attributes:
        sender: name.
        severity: 0 to 4.
        bytes: of it.
    """

    sender: str
    severity: int
    bytes: int


class Room:
    """The alerts that wait, by trace id.

    Args:
        alerts: at most.
        size: bytes of them at most.
        senders: how many there may be, at least 1.
    """

    def __init__(self, alerts: int, size: int, senders: int = 1) -> None:
        self._places: dict[str, Place] = {}
        self._alerts = _Measure("alerts", alerts, senders)
        self._bytes = _Measure("bytes", size, senders)

    def __contains__(self, trace_id: str) -> bool:
        return trace_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    @property
    def alerts(self) -> int:
        """How many alerts wait."""
        return self._alerts.total

    @property
    def bytes(self) -> int:
        """How many bytes they have."""
        return self._bytes.total

    def refusal(self, places: Mapping[str, Place], with_raw: bool = False) -> str:
        """Why there is no room for all of these; empty where there is.

        Args:
            places: by trace id.
            with_raw: they have their messages as received, which can be left out.
        """
        alerts: dict[str, _Use] = {}
        sizes: dict[str, _Use] = {}
        for place in places.values():
            _add(alerts, place.sender, *_use(place, 1))
            _add(sizes, place.sender, *_use(place, place.bytes))
        return self._alerts.refusal(alerts) or self._bytes.refusal(sizes, _WITH_RAW if with_raw else 1)

    def take(self, places: Mapping[str, Place]) -> None:
        """Alerts that wait from now on, whether there is room for them or not."""
        self._places.update(places)
        for place in places.values():
            self._count(place, 1)

    def give_back(self, trace_ids: Iterable[str]) -> None:
        """Alerts that wait no more."""
        for trace_id in trace_ids:
            place = self._places.pop(trace_id, None)
            if place:
                self._count(place, -1)

    def troubles(self) -> list[str]:
        """Who has no room left for an alert below high, for people: all, or some senders."""
        for measure in (self._alerts, self._bytes):
            if full := measure.refusal({"": (1, 0)}):
                return [full]
        senders = sorted({*self._alerts.senders(), *self._bytes.senders()})
        uses = ({sender: (1, 0)} for sender in senders)
        return [full for use in uses if (full := self._alerts.refusal(use) or self._bytes.refusal(use))]

    def _count(self, place: Place, sign: int) -> None:
        self._alerts.add(place.sender, *_use(place, sign))
        self._bytes.add(place.sender, *_use(place, sign * place.bytes))


_Use = tuple[int, int]
"""What a sender has: for other alerts, and for high and critical ones."""
_NOTHING: _Use = (0, 0)


def _use(place: Place, number: int) -> _Use:
    return (0, number) if place.severity >= Severity.HIGH else (number, 0)


def _add(uses: dict[str, _Use], sender: str, ordinary: int, urgent: int) -> None:
    before = uses.get(sender, _NOTHING)
    uses[sender] = (before[0] + ordinary, before[1] + urgent)


class _Measure:
    """Alerts or bytes, and who has how many."""

    def __init__(self, unit: str, most: int, senders: int) -> None:
        self.total = 0
        self._unit = unit
        self._most = most
        self._kept = most // _KEPT // senders  # of each sender
        self._common = most - most // _KEPT
        self._share = self._common // min(senders, _SHARE)
        self._of_common = 0
        self._uses: dict[str, _Use] = {}

    def senders(self) -> Iterable[str]:
        """Those that have something."""
        return self._uses

    def add(self, sender: str, ordinary: int, urgent: int) -> None:
        before = self._uses.get(sender, _NOTHING)
        after = (before[0] + ordinary, before[1] + urgent)
        self.total += ordinary + urgent
        self._of_common += self._in_common(*after) - self._in_common(*before)
        if after == _NOTHING:
            self._uses.pop(sender, None)
        else:
            self._uses[sender] = after

    def refusal(self, uses: Mapping[str, _Use], part: int = 1) -> str:
        """Why there is no room for this, by sender. Empty where there is, also if that room is one part only."""
        new, more, over = 0, 0, ""
        for sender, (ordinary, urgent) in uses.items():
            before = self._uses.get(sender, _NOTHING)
            after = self._in_common(before[0] + ordinary, before[1] + urgent)
            grows = after - self._in_common(*before)
            new += ordinary + urgent
            more += grows
            # Whoever has nothing may take more at once: it could not be taken in any other way.
            if grows and before != _NOTHING and after > self._share // part:
                over = (
                    f"sender {sender} has its share of the spool: {sum(before)} {self._unit} wait,"
                    f" of at most {self._share} and {self._kept} more for high and critical alerts"
                )
        if (more and self._of_common + more > self._common // part) or self.total + new > self._most:
            return (
                f"the spool is full: {self.total} {self._unit} wait, of at most {self._most},"
                f" {self._most - self._common} of them for high and critical alerts"
            )
        return over

    def _in_common(self, ordinary: int, urgent: int) -> int:
        """What a sender has of the room that is for all."""
        return ordinary + (urgent - self._kept if urgent > self._kept else 0)
