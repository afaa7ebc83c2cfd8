# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding alerts on one host: which container is meant, what the policies say, and what must not be touched."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import ResolutionError, Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import Judgement, PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.neighbours import neighbour_warnings
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection

_UNRESOLVED = {"ambiguous": "ambiguous", "stale": "stale"}


class Verdict(t.NamedTuple):
    """A decision, and what it came from."""

    alert: Alert
    decision: Decision
    policy: Policy | None = None
    error: GuardError | None = None
    recorded: bool = True

    @property
    def leaves_record(self) -> bool:
        """Whether a policy made the decision, or would have, had one container been meant."""
        return self.recorded and self.decision.outcome not in ("no_policy", "other_host")

    def turned_down(self, outcome: str, reason: str) -> Verdict:
        """The verdict with another outcome, and why."""
        decision = dataclasses.replace(self.decision, outcome=outcome, reasons=(*self.decision.reasons, reason))
        return self._replace(decision=decision)


class Judge:
    """Decides alerts on one host, and touches nothing.

    Args:
        policies: the compiled policy set.
        resolver: finds containers.
        host: inventory name of this host; empty where it has none.
        docker_host: where the engine is reached, so that a proxy in front of it is not cut off.
    """

    def __init__(self, policies: PolicyEngine, resolver: Resolver, host: str = "", docker_host: str = "") -> None:
        self._policies = policies
        self._resolver = resolver
        self._protection = Protection(resolver, policies, docker_host)
        self._host = host

    def decide(self, alert: Alert) -> list[Verdict]:
        """What is to be done about the alert on this host: one verdict, or one for each container it reaches.

        Raises EngineError.
        """
        addressed = self._addressed(alert)
        if addressed is False:
            return [_verdict(alert, "other_host", f"it is about host {alert.inventory_host}")]
        if self._host:
            # Policies ask for the host that the container is on, and it is looked for here.
            alert = dataclasses.replace(alert, inventory_host=self._host)
        if not self._policies.wants(alert):
            return [self._judged(alert, None)]
        try:
            if not alert.container:
                return self._decide_matching(alert, addressed is True)
            return [self._judged(alert, self._resolve(alert, addressed is True))]
        except ResolutionError as error:
            outcome = _UNRESOLVED.get(error.kind, "unresolved")
            # Where the host is not known all hosts are asked, and all but one of them do not have the container.
            return [_verdict(alert, outcome, str(error), recorded=addressed is True or outcome != "unresolved")]
        except EngineError as error:
            if not self._resolver.listed:
                raise
            # One container that cannot be inspected must not keep others from being isolated.
            return [_verdict(alert, "error", str(error), error=error)]

    def neighbour_warnings(self, container_id: str, actions: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[str, ...]:
        """What to say of other containers once this one was isolated by these actions."""
        return neighbour_warnings(self._resolver, container_id, actions)

    def _addressed(self, alert: Alert) -> bool | None:
        """Whether the alert is about this host; None where that is not known."""
        if alert.inventory_host:
            return alert.inventory_host == self._host
        return True if alert.host and alert.host == self._host else None

    def _resolve(self, alert: Alert, host_known: bool) -> Container:
        if alert.container.id:
            return self._resolver.by_id(alert.container.id)
        if not host_known:
            # Names repeat over a fleet; only an id says which host is meant.
            raise ResolutionError(
                "it names its container, but its host is not known to be this one",
                remedy="Map the host name that the detector sends to the inventory",
            )
        seen = timestamp.parse_timestamp(alert.time) or timestamp.parse_timestamp(alert.received_at)
        return self._resolver.by_name(alert.container.name, seen)

    def _decide_matching(self, alert: Alert, host_known: bool) -> list[Verdict]:
        if not host_known:
            return [_verdict(alert, "unresolved", "it names no container, and its host is not known to be this one")]
        verdicts = [self._judged(alert, container) for container in self._resolver.all()]
        wanted = [verdict for verdict in verdicts if verdict.policy]
        if not wanted:
            return [self._judged(alert, None)]
        acting = sum(verdict.decision.outcome == "isolate" for verdict in wanted)
        most = self._policies.limits.max_containers_per_alert
        if acting <= most:
            return wanted
        reason = f"it names no container, and {acting} containers match, of at most {most}"
        return [
            verdict.turned_down("limit", reason) if verdict.decision.outcome == "isolate" else verdict
            for verdict in wanted
        ]

    def _judged(self, alert: Alert, container: Container | None) -> Verdict:
        judgement: Judgement = self._policies.judge(alert, container)
        policy = judgement.policy
        decision = Decision(
            outcome=judgement.outcome,
            alert_id=alert.id,
            trace_id=alert.trace_id,
            container=_shown(container) if container else None,
            reasons=judgement.reasons,
        )
        if policy:
            decision = dataclasses.replace(
                decision,
                policy_id=policy.id,
                actions=policy.actions,
                fallback=policy.fallback,
                evidence=policy.evidence,
                release_after=policy.release_after,
            )
        verdict = Verdict(alert, decision, policy)
        if policy and container and decision.outcome == "isolate":
            reason = self._protection.reason(container, (*policy.actions, *policy.fallback))
            if reason:
                return verdict.turned_down("protected", reason)
        return verdict


def _verdict(
    alert: Alert, outcome: str, reason: str, error: GuardError | None = None, recorded: bool = True
) -> Verdict:
    decision = Decision(outcome=outcome, alert_id=alert.id, trace_id=alert.trace_id, reasons=(reason,))
    return Verdict(alert, decision, error=error, recorded=recorded)


def _shown(container: Container) -> dict[str, t.Any]:
    # Image references and label values come from whoever starts containers.
    return {name: text.display(value) for name, value in container.to_dict().items()}
