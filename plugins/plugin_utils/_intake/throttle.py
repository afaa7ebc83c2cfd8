# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A log line for what can happen thousands of times a second."""

from __future__ import annotations

import logging
import time


class Throttle:
    """Logs what is of one kind at most once a minute, so that a flood of requests is no flood of the log."""

    def __init__(self, logger: logging.Logger, interval: float = 60.0) -> None:
        self._logger = logger
        self._interval = interval  # seconds
        self._next: dict[str, float] = {}

    def warning(self, kind: str, message: str, *args: object) -> None:
        """Log C(message) unless one of that kind was logged within the interval. Kinds must be few: they are kept."""
        self._log(logging.WARNING, kind, message, *args)

    def error(self, kind: str, message: str, *args: object, exc_info: bool = False) -> None:
        """Log an error likewise, with the traceback of the exception that is handled, if that is wanted."""
        self._log(logging.ERROR, kind, message, *args, exc_info=exc_info)

    def _log(self, level: int, kind: str, message: str, *args: object, exc_info: bool = False) -> None:
        now = time.monotonic()
        if now >= self._next.get(kind, 0.0):
            self._next[kind] = now + self._interval
            self._logger.log(level, message, *args, exc_info=exc_info)
