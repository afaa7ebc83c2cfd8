# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trying again, where that can help: an engine that restarts, is overloaded, or had an accident of its own."""

from __future__ import annotations

import dataclasses
import random
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    NotSupported,
)

T = t.TypeVar("T")
MAX_DELAY = 30.0
"""Longest wait between two attempts, in seconds."""


def is_transient(error: EngineError) -> bool:
    """Whether the same call may succeed a moment later: no connection, no answer in time, or a fault of the engine.

    What the engine cannot do at all is answered with the same numbers as its accidents, and an SDK that does not work
    has no number.
    """
    if isinstance(error, NotSupported):
        return False
    return isinstance(error, (EngineTimeout, EngineUnreachable)) or (error.status or 0) >= 500


def backoff(base: float, attempt: int) -> float:
    """Seconds to wait before a further attempt: twice as long each time, up to MAX_DELAY, less up to a half by chance.

    Args:
        base: seconds before the first one.
        attempt: how many there were, from 0.
    """
    # Hosts that lost the same engine must not all come back at the same moment.
    return min(base * 2.0 ** min(attempt, 16), MAX_DELAY) * random.uniform(0.5, 1)  # noqa: S311 - no secret


@dataclasses.dataclass(frozen=True)
class Retry:
    """How often to try again, and how long to wait before.

    Attributes:
        max_attempts: further attempts after the first, 0 to 10.
        backoff_base: seconds before the second attempt, 0 to 30. It doubles with each attempt.
        sleep: waits.
    """

    max_attempts: int = 3
    backoff_base: float = 0.5
    sleep: t.Callable[[float], object] = time.sleep

    def delays(self) -> t.Iterator[float]:
        """Seconds to wait before each further attempt."""
        for attempt in range(self.max_attempts):
            yield backoff(self.backoff_base, attempt)

    def call(self, function: t.Callable[[], T]) -> T:
        """What the function returns at last. It must be safe to repeat. Raises what its last attempt raised."""
        delays = self.delays()
        while True:
            try:
                return function()
            except EngineError as error:
                delay = next(delays, None) if is_transient(error) else None
                if delay is None:
                    raise
            self.sleep(delay)


NO_RETRY = Retry(max_attempts=0)
