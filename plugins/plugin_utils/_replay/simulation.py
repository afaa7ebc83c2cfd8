# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guard would have done: isolations, repeats, cooldown and limits at the times of the alerts themselves.

Alerts may come in any order: the times of two are compared by how far they lie apart, not by which was read first.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits

OUTCOMES = (
    "isolations",
    "repeats",
    "cooldown",
    "limit",
    "protected",
    "audit",
    "undecidable",
    "no_container",
    "unresolved",
    "not_simulated",
)
"""What can come of an alert that a policy wants, each counted under this name."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """How much a replay remembers.

    Attributes:
        containers: most containers; of alerts for others it is only counted that there were some.
        cooldowns: most pairs of policy and container that acted; the oldest are forgotten.
        hosts: most hosts whose limit is watched; those seen first are forgotten.
        rules: most rules that no policy wants, and most reasons for refusal, that are counted at a time.
        sample: most containers that are shown of a policy.
        shown_rules: most rules, and most reasons, that are shown.
    """

    containers: int = 100_000
    cooldowns: int = 100_000
    hosts: int = 10_000
    rules: int = 1_000
    sample: int = 20
    shown_rules: int = 50


class ContainerState:
    """What happened to one container.

    Attributes:
        policies: the policies that its alerts came to; bit i for policy i.
        isolated_at: when it was isolated last, seconds since the epoch; in the past where it never was.
        isolated_for: seconds until it is released.
    """

    __slots__ = ("isolated_at", "isolated_for", "policies")

    def __init__(self) -> None:
        self.policies = 0
        self.isolated_at = -math.inf
        self.isolated_for = 0.0


class Fleet:
    """The containers and hosts that alerts were about.

    Attributes:
        reached: names of the bounds that were reached.
    """

    def __init__(self, limits: Limits, bounds: Bounds) -> None:
        self._limits = limits
        self._bounds = bounds
        self._states: dict[tuple[str, str], ContainerState] = {}
        self._acted: dict[tuple[str, tuple[str, str]], float] = {}
        self._isolations: dict[str, list[float]] = {}
        self.reached: set[str] = set()

    def state(self, subject: tuple[str, str]) -> ContainerState | None:
        """The state of the container of a host, or None for one too many."""
        state = self._states.get(subject)
        if state is None:
            if len(self._states) >= self._bounds.containers:
                self.reached.add("containers")
                return None
            state = self._states[subject] = ContainerState()
        return state

    def isolate(self, policy: Policy, subject: tuple[str, str], state: ContainerState, now: float) -> str:
        """Let the policy isolate the container of that state.

        Args:
            policy: in mode C(enforce).
            subject: host and container.
            state: of the subject.
            now: time of the alert, seconds since the epoch.

        Returns:
            C(isolations), or one of OUTCOMES that says why nothing happened.
        """
        if abs(now - state.isolated_at) < state.isolated_for:
            return "repeats"
        acted = self._acted.get((policy.id, subject))
        if acted is not None and abs(now - acted) < policy.cooldown:
            return "cooldown"
        if self._limits.max_isolations and not self._within_limit(subject[0], now):
            return "limit"
        state.isolated_at, state.isolated_for = now, policy.release_after or math.inf
        if policy.cooldown and policy.release_after:  # without a release all that follows is a repeat
            self._acted[policy.id, subject] = now
            self._forget_oldest(self._acted, "cooldowns", self._bounds.cooldowns)
        return "isolations"

    def _within_limit(self, host: str, now: float) -> bool:
        """Whether the host may isolate one more container; then it counts."""
        times = self._isolations.setdefault(host, [])
        self._forget_oldest(self._isolations, "hosts", self._bounds.hosts)
        most, window = self._limits.max_isolations, self._limits.window
        if bisect.bisect_left(times, now + window) - bisect.bisect_right(times, now - window) >= most:
            return False
        bisect.insort(times, now)
        if len(times) > 2 * most:
            # No more than these can lie within a window on both sides. What lies farthest off matters least, be it
            # before or after: the files of a log can be given in any order.
            times.pop(0 if now - times[0] > times[-1] - now else -1)
        return True

    def _forget_oldest(self, memory: dict[t.Any, t.Any], name: str, most: int) -> None:
        if len(memory) > most:
            del memory[next(iter(memory))]
            self.reached.add(name)
