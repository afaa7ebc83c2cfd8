# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A log line for what can happen thousands of times a second."""

from __future__ import annotations

import logging
import time


class Throttle:
    """Logs a warning of each kind at most once a minute, so that a flood of requests is no flood of the log."""

    def __init__(self, logger: logging.Logger, interval: float = 60.0) -> None:
        self._logger = logger
        self._interval = interval  # seconds
        self._next: dict[str, float] = {}

    def warning(self, kind: str, message: str, *args: object) -> None:
        """Log C(message) unless one of that kind was logged within the interval. Kinds must be few: they are kept."""
        now = time.monotonic()
        if now >= self._next.get(kind, 0.0):
            self._next[kind] = now + self._interval
            self._logger.warning(message, *args)
