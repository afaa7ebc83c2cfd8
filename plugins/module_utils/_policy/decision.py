# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Decision: what a policy set says about one alert on one host, and why."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import NO_EVIDENCE, Evidence

OUTCOMES = (
    "isolate",
    "audit",
    "no_policy",
    "protected",
    "cooldown",
    "limit",
    "unresolved",
    "ambiguous",
    "stale",
    "error",
    "other_host",
)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is to be done about an alert.

    Attributes:
        outcome: C(isolate) is the only one that acts. C(audit): a policy in that mode would have. C(no_policy): no
            policy answers. C(protected): one does, and the container must not be isolated. C(cooldown): it acted on the
            container a short time ago. C(limit): the guard would do more by itself than the policy set allows.
            C(unresolved), C(ambiguous), C(stale): not exactly one container is meant. C(error): the engine does not say
            what the container is. C(other_host): the alert is about another host.
        alert_id: id of the alert.
        trace_id: trace id of the alert.
        policy_id: id of the policy that answers, or empty.
        container: id, name and image of the container, or None.
        actions: what the policy does.
        fallback: what is done instead where none of the actions can work on the container.
        evidence: what the policy wants collected.
        release_after: seconds until the container is to be released; 0 for never.
        reasons: why, for people.
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
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, t.Any]:
        """The decision as modules return it."""
        return {
            **dataclasses.asdict(self),
            "actions": [action.to_dict() for action in self.actions],
            "fallback": [action.to_dict() for action in self.fallback],
            "evidence": self.evidence.to_list(),
            "reasons": list(self.reasons),
        }
