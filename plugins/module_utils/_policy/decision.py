# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Decision: what a policy set says about one alert on one host, and why."""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils import _outcomes
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import NO_EVIDENCE, Evidence

ISOLATE = "isolate"
"""The one outcome of a decision that acts."""
OUTCOMES = (ISOLATE, *_outcomes.OUTCOMES)


def _unsaid() -> tuple[str, ...]:
    return ()


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is to be done about an alert.

    Attributes:
        outcome: one of OUTCOMES. C(isolate) is the only one that acts; the others say why nothing is done.
        alert_id: id of the alert.
        trace_id: trace id of the alert.
        policy_id: id of the policy that answers, or empty.
        container: id, name and image of the container, or None.
        actions: what the policy does.
        fallback: what is done instead where none of the actions can work on the container.
        evidence: what the policy wants collected.
        release_after: seconds until the container is to be released; 0 for never.
        explain: works the reasons out.
    """

    outcome: str
    alert_id: str
    trace_id: str
    policy_id: str = ""
    container: dict[str, t.Any] | None = None
    actions: tuple[Action, ...] = ()
    fallback: tuple[Action, ...] = ()
    evidence: Evidence = NO_EVIDENCE
    release_after: int = 0
    explain: t.Callable[[], tuple[str, ...]] = dataclasses.field(default=_unsaid, compare=False, repr=False)

    @functools.cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why, for people. Worked out when they are asked for: acting does not wait for explanations."""
        return tuple(self.explain())

    def turned_down(self, outcome: str, *reasons: str) -> Decision:
        """The decision with another outcome, and why."""
        return dataclasses.replace(self, outcome=outcome, explain=lambda: (*self.reasons, *reasons))

    def to_dict(self) -> dict[str, t.Any]:
        """The decision as modules return it."""
        return {
            "outcome": self.outcome,
            "alert_id": self.alert_id,
            "trace_id": self.trace_id,
            "policy_id": self.policy_id,
            "container": dict(self.container) if self.container else None,
            "actions": [action.to_dict() for action in self.actions],
            "fallback": [action.to_dict() for action in self.fallback],
            "evidence": self.evidence.to_list(),
            "release_after": self.release_after,
            "reasons": list(self.reasons),
        }
