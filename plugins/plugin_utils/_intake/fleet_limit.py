# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The limit of isolations over all hosts: what they told of late, so that a mistake does not spread over a fleet.

It counts what is told. What is under way when it is reached is not recalled: hosts have limits of their own for that.
"""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

Json = t.Any
NAME = "fleet_isolations"
"""By which the spool remembers it."""


class FleetLimit:
    """Containers that hosts told that they isolated, within a window.

    Args:
        most: how many there may be; 0 for no limit.
        window: in seconds.
        remembered: what C(remembered) was before a restart, or None.
    """

    def __init__(self, most: int, window: int, remembered: Json = None) -> None:
        self._most = most
        self._window = window
        self._isolated: dict[tuple[str, str], float] = {}  # when, by host and id; the latest last
        for host, container_id, at in (most and remembered) or ():
            self._isolated[host, container_id] = at

    @property
    def remembered(self) -> Json:
        """As JSON."""
        return [[*key, at] for key, at in self._isolated.items()]

    def take(self, host: str, container_ids: Sequence[str], now: float) -> bool:
        """A host isolated these at that time, in seconds since the epoch. Returns whether that is to be remembered."""
        if not (self._most and container_ids):
            return False
        for container_id in container_ids:
            self._isolated.pop((host, container_id), None)
            self._isolated[host, container_id] = now
        while len(self._isolated) > self._most:  # so many are as good as more
            del self._isolated[next(iter(self._isolated))]
        return True

    def reached(self, now: float) -> bool:
        """Whether as many were isolated within the window as may be."""
        # What a clock that was set back puts into the future counts as now.
        within = sum(abs(now - at) < self._window for at in self._isolated.values())
        return bool(self._most) and within >= self._most
