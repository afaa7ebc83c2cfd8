# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which alerts say again what another one said a moment ago."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.dedup import key_of

MOST = 10_000
"""Alerts that are remembered, in some 2 MB."""


class Repeats:
    """Remembers alerts for a time.

    Args:
        window: how long after an alert others count as its repeats, in seconds; 0 for never.
        clock: this moment, in seconds.
    """

    def __init__(self, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.window = window
        self._clock = clock
        self._seen: collections.OrderedDict[bytes, float] = collections.OrderedDict()

    def is_repeat(self, alert: Alert) -> bool:
        """Whether an alert that was no repeat said the same within the window. Otherwise it is remembered.

        A repeat does not lengthen the window, so that what goes on for ever is passed on now and then.
        """
        now = self._clock()
        while self._seen and now - next(iter(self._seen.values())) >= self.window:
            self._seen.popitem(last=False)
        key = key_of(alert)
        if key in self._seen:
            return True
        if self.window > 0:
            if len(self._seen) >= MOST:
                self._seen.popitem(last=False)
            self._seen[key] = now
        return False

    def forget(self) -> None:
        """Remember nothing of before."""
        self._seen.clear()
