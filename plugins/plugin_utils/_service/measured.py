# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the service measures of itself, beside what the intake does: how long answers take, and what was undone."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import AWAITING_APPROVAL, ISOLATED
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import (
    COUNTER,
    GAUGE,
    Family,
    Histogram,
    Labels,
)

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""
STEPS = ("decided", "acted", "verified")
METRICS: Mapping[str, str] = {
    "answer_seconds": "seconds from when an alert was accepted until a step of isolating its container, by step: "
    "decided, acted, verified",
    "breaches_total": "isolations that were undone, by kind of what was found, and by what became of it: repaired, "
    "escalated, reported or failed",
    "service_state": "1 for the state that the service is in: starting, ready, degraded, draining",
    "containers": "containers of the host, running or not",
    "containers_known": "those of them that need not be asked for before they are paused",
}
"""The metrics of this module, and what they are."""


class Measures:
    """Takes what was done, and tells it as metrics. Safe to share between threads.

    Args:
        breaches: how often what was undone, by kind and what became of it.
        containers: how many there are, and how many of them are known.
        state: of the service.
    """

    def __init__(
        self,
        breaches: Callable[[], Mapping[tuple[str, str], int]],
        containers: Callable[[], tuple[int, int]],
        state: Callable[[], str],
    ) -> None:
        self._breaches = breaches
        self._containers = containers
        self._state = state
        self._lock = threading.Lock()
        self._counts = {step: [0] * (len(BOUNDS) + 1) for step in STEPS}
        self._sums = dict.fromkeys(STEPS, 0.0)

    def take(self, events: Iterable[ActionEvent]) -> None:
        """Measure the isolations among what was put on record."""
        for event in events:
            accepted = parse_timestamp(event.timeline.get("accepted"))
            if accepted is None or event.outcome not in (ISOLATED, AWAITING_APPROVAL) or not event.changed:
                continue
            for step in STEPS:
                moment = parse_timestamp(event.timeline.get(step))
                if moment is not None:
                    self._observe(step, max((moment - accepted).total_seconds(), 0.0))

    def families(self) -> list[Family | Histogram]:
        """All of them."""
        known, breaches, state = self._containers(), dict(self._breaches()), self._state()
        with self._lock:
            samples: dict[Labels, tuple[list[int], float]] = {
                (("step", step),): (list(self._counts[step]), self._sums[step]) for step in STEPS
            }
        return [
            Histogram("answer_seconds", METRICS["answer_seconds"], BOUNDS, samples),
            Family(
                "breaches_total",
                COUNTER,
                METRICS["breaches_total"],
                {(("kind", kind), ("done", done)): count for (kind, done), count in breaches.items()},
            ),
            Family("service_state", GAUGE, METRICS["service_state"], {(("state", state),): 1}),
            Family("containers", GAUGE, METRICS["containers"], {(): known[0]}),
            Family("containers_known", GAUGE, METRICS["containers_known"], {(): known[1]}),
        ]

    def _observe(self, step: str, seconds: float) -> None:
        with self._lock:
            self._counts[step][bisect.bisect_left(BOUNDS, seconds)] += 1
            self._sums[step] += seconds
