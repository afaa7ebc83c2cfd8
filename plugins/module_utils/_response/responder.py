# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Responding: alerts in; decisions, actions and their records out."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import ResolutionError, Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent

DEFAULT_CONCURRENCY = 10
_UNRESOLVED = {"ambiguous": "ambiguous", "stale": "stale"}
# Decisions that a policy made, or would have made had one container been meant: these leave a record.
_RECORDED = ("isolate", "audit", "protected", "ambiguous", "stale")


class Response(t.NamedTuple):
    """What was decided about an alert, and the record of what was done, where there is one."""

    decision: Decision
    event: ActionEvent | None

    def to_dict(self) -> dict[str, t.Any]:
        """The response as modules return it."""
        return {"decision": self.decision.to_dict(), "event": self.event.to_dict() if self.event else None}


class Responder:
    """Answers alerts on one host.

    Args:
        policies: the compiled policy set.
        resolver: finds containers.
        isolator: isolates them.
        host: inventory name of this host; empty where it has none.
        concurrency: how many containers are worked on at a time, 1 to 100.
        check: only say what would be done.
    """

    def __init__(
        self,
        policies: PolicyEngine,
        resolver: Resolver,
        isolator: Isolator,
        host: str = "",
        concurrency: int = DEFAULT_CONCURRENCY,
        check: bool = False,
    ) -> None:
        self._policies = policies
        self._resolver = resolver
        self._isolator = isolator
        self._host = host
        self._concurrency = concurrency
        self._check = check
        self._misses: dict[t.Hashable, list[str]] = {}

    def respond(self, alerts: t.Sequence[Alert]) -> list[Response]:
        """Decide all, then act: one response for each alert, in their order.

        Raises EngineError where containers cannot be listed or read; then nothing was touched.
        """
        decisions = [self.decide(alert) for alert in alerts]
        events = [
            self._event(alert, decision) if decision.outcome in _RECORDED else None
            for alert, decision in zip(alerts, decisions)
        ]
        # Alerts of one batch that one policy answers with the same container are one attempt.
        groups: dict[tuple[str, str], list[int]] = {}
        for index, decision in enumerate(decisions):
            if decision.outcome == "isolate" and decision.container:
                groups.setdefault((decision.container["id"], decision.policy_id), []).append(index)
        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            attempts = [
                pool.submit(self._act, container_id, alerts[indexes[0]], decisions[indexes[0]])
                for (container_id, _policy_id), indexes in groups.items()
            ]
        for indexes, attempt in zip(groups.values(), attempts):
            events[indexes[0]] = leader = attempt.result()
            for index in indexes[1:]:
                events[index] = dataclasses.replace(
                    self._event(alerts[index], decisions[index]),
                    outcome=leader.outcome,
                    error=leader.error,
                    repeat_of=leader.id,
                )
        return [Response(decision, event) for decision, event in zip(decisions, events)]

    def decide(self, alert: Alert) -> Decision:
        """What is to be done about the alert on this host. Raises EngineError."""
        addressed = self._addressed(alert)
        if addressed is False:
            return self._decision(alert, "other_host", f"it is about host {alert.inventory_host}")
        if not self._policies.wants(alert):
            return self._no_policy(alert, None)
        if not alert.container:
            return self._decision(alert, "unresolved", "it names no container")
        try:
            container = self._resolve(alert, addressed is True)
        except ResolutionError as error:
            return self._decision(alert, _UNRESOLVED.get(error.kind, "unresolved"), str(error))
        policy = self._policies.decide(alert, container)
        if policy is None:
            return self._no_policy(alert, container)
        reasons = [str(condition) for condition in policy.alert_conditions(alert) + policy.target_conditions(container)]
        protection = self._policies.protection(container)
        outcome = "audit" if policy.mode == "audit" else "isolate"
        if protection:
            outcome = "protected"
            reasons.append(f"protected: {protection}")
        return Decision(
            outcome=outcome,
            alert_id=alert.id,
            trace_id=alert.trace_id,
            policy_id=policy.id,
            container=_shown(container),
            actions=policy.actions,
            reasons=tuple(reasons),
        )

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

    def _no_policy(self, alert: Alert, container: Container | None) -> Decision:
        # A batch repeats itself, and finding the nearest misses reads every policy.
        key = (alert.severity, alert.source, alert.rule, alert.tags, container.id if container else "")
        if key not in self._misses:
            self._misses[key] = [
                "{}: {}".format(policy.id, "; ".join(map(str, unmet)))
                for policy, unmet in self._policies.nearest_misses(alert, container)
            ] or ["the policy set has no enabled policy"]
        reasons = self._misses[key]
        return dataclasses.replace(
            self._decision(alert, "no_policy", *reasons), container=_shown(container) if container else None
        )

    def _decision(self, alert: Alert, outcome: str, *reasons: str) -> Decision:
        return Decision(outcome=outcome, alert_id=alert.id, trace_id=alert.trace_id, reasons=reasons)

    def _event(self, alert: Alert, decision: Decision) -> ActionEvent:
        return ActionEvent(
            outcome=decision.outcome,
            trace_id=alert.trace_id,
            alert_id=alert.id,
            policy_id=decision.policy_id,
            host=self._host,
            container=decision.container,
            actions=tuple(action.to_dict() for action in decision.actions),
            reasons=decision.reasons,
            timeline={"accepted": alert.received_at, "decided": timestamp.now()},
        )

    def _act(self, container_id: str, alert: Alert, decision: Decision) -> ActionEvent:
        event = self._event(alert, decision)
        cause = Cause(
            reason=f"{alert.source}: {alert.rule}",
            trace_id=alert.trace_id,
            alert_id=alert.id,
            policy_id=decision.policy_id,
        )
        try:
            return event.with_outcome(self._isolator.isolate(container_id, decision.actions, cause, self._check))
        except GuardError as error:
            return event.with_error(error)


def _shown(container: Container) -> dict[str, t.Any]:
    # Image references and label values come from whoever starts containers.
    return {name: text.display(value) for name, value in container.to_dict().items()}
