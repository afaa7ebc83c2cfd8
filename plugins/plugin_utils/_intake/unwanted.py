# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was found to be wanted by nobody a moment ago, so that a flood of the same costs little."""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Facets

MOMENT = 1.0
"""How long that is taken to be so, in seconds. Policy sets are looked at as often."""
_MOST = 1_000
"""Floods have few; each may take 10 KB where somebody wants them to."""


class Unwanted:
    """Facets of alerts, by sender, as it depends on the sender whom an alert concerns."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_sender: dict[str, set[Facets]] = {}
        self._count = 0
        self._until = 0.0
        self._digest = ""

    def by(self, sender: str, digest: str) -> Container[Facets]:
        """What is known to be unwanted from a sender.

        Args:
            sender: name.
            digest: of the policy set in force. Nothing is known of another one.
        """
        now = self._clock()
        if now >= self._until or digest != self._digest:
            self.forget()
            self._until, self._digest = now + MOMENT, digest
        return self._by_sender.get(sender, frozenset())

    def add(self, sender: str, facets: Facets) -> None:
        """An alert was dropped. Attackers choose rules, so only so many are kept."""
        if self._count < _MOST:
            self._by_sender.setdefault(sender, set()).add(facets)
            self._count += 1

    def forget(self) -> None:
        """What hosts have confirmed is not what it was."""
        self._by_sender, self._count = {}, 0
