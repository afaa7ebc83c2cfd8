# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Responding: alerts in; decisions, actions and their records out."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    LIMIT,
    OUTCOMES,
    REFUSED,
    UNKNOWN,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge, Verdict
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits import Limiter

if t.TYPE_CHECKING:  # most policies want no evidence, and what is not imported costs no time
    from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection import Collection
    from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering


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
        judge: decides.
        isolator: isolates.
        limiter: keeps it from doing too much.
        host: inventory name of this host, for the records.
        concurrency: how many containers are worked on at a time, 1 to 100.
        check: only say what would be done.
        gathering: collects evidence; None where no policy wants any.
    """

    def __init__(
        self,
        judge: Judge,
        isolator: Isolator,
        limiter: Limiter,
        host: str = "",
        concurrency: int = 10,
        check: bool = False,
        gathering: Gathering | None = None,
    ) -> None:
        self._gathering = gathering
        self._judge = judge
        self._isolator = isolator
        self._limiter = limiter
        self._host = host
        self._concurrency = concurrency
        self._check = check

    def respond(self, alerts: t.Sequence[Alert]) -> list[Response]:
        """Decide all, then act: one response for each alert and container, in the order of the alerts.

        Raises EngineError where containers cannot be listed or read; then nothing was touched.
        """
        verdicts = [verdict for alert in alerts for verdict in self._judge.decide(alert)]
        # Alerts of one batch that one policy answers with the same container are one attempt.
        attempts: dict[tuple[str, str], list[int]] = {}
        for index, verdict in enumerate(verdicts):
            if verdict.decision.outcome == "isolate":
                attempts.setdefault(_subject(verdict), []).append(index)
        wishes = list(dict.fromkeys(container_id for container_id, _policy_id in attempts))
        admissions = dict(zip(wishes, self._limiter.admit(wishes, self._check)))
        for subject, indexes in list(attempts.items()):
            admission = admissions[subject[0]]
            if admission.outcome != "isolate":
                del attempts[subject]
                for index in indexes:
                    verdicts[index] = verdicts[index].turned_down(admission.outcome, admission.reason)
        events = [self._event(verdict) if verdict.leaves_record else None for verdict in verdicts]
        # Policies that want the same container take turns, in their order: what holds in the end must not be chance.
        leaders: dict[str, list[Verdict]] = {}
        for (container_id, _policy_id), indexes in attempts.items():
            leaders.setdefault(container_id, []).append(verdicts[indexes[0]])
        done: dict[tuple[str, str], ActionEvent] = {}
        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            for events_of_one in pool.map(self._act_in_turn, leaders.values()):
                done.update(events_of_one)
        for subject, indexes in attempts.items():
            events[indexes[0]] = leader = done[subject]
            for index in indexes[1:]:
                events[index] = dataclasses.replace(
                    self._event(verdicts[index]), outcome=leader.outcome, error=leader.error, repeat_of=leader.id
                )
        isolated = [subject[0] for subject, event in done.items() if event.changed and OUTCOMES[event.outcome].counts]
        self._limiter.settle(isolated, self._check)
        return [Response(verdict.decision, event) for verdict, event in zip(verdicts, events)]

    def _event(self, verdict: Verdict) -> ActionEvent:
        alert, decision, error = verdict.alert, verdict.decision, verdict.error
        if decision.outcome == LIMIT:
            error = GuardError(decision.reasons[-1], kind=LIMIT, remedy="It is still connected: isolate it by hand")
        return ActionEvent(
            outcome="failed" if verdict.error else decision.outcome,
            error=error.to_dict() if error else None,
            trace_id=alert.trace_id,
            alert_id=alert.id,
            policy_id=decision.policy_id,
            source=alert.source,
            rule=alert.rule,
            host=self._host,
            container=decision.container,
            actions=tuple(action.to_dict() for action in decision.actions),
            reasons=decision.reasons,
            timeline={"accepted": alert.received_at, "decided": timestamp.now()},
        )

    def _act_in_turn(self, verdicts: list[Verdict]) -> dict[tuple[str, str], ActionEvent]:
        ordered = sorted(verdicts, key=lambda verdict: (_wish(verdict)[0].priority, _wish(verdict)[0].id))
        return {_subject(verdict): self._act(verdict) for verdict in ordered}

    def _act(self, verdict: Verdict) -> ActionEvent:
        alert, decision = verdict.alert, verdict.decision
        event = self._event(verdict)
        cause = Cause(
            reason=f"{alert.source}: {alert.rule}",
            trace_id=alert.trace_id,
            alert_id=alert.id,
            policy_id=decision.policy_id,
        )
        container_id = _subject(verdict)[0]
        begun: Collection | None = None
        try:
            outcome, begun = self._isolate(container_id, decision.actions, decision, cause)
            if outcome.outcome == REFUSED and decision.fallback:
                refusal = f"fallback, as {(outcome.error or {})['message']}"
                outcome, begun = self._isolate(container_id, decision.fallback, decision, cause)
                outcome = dataclasses.replace(outcome, warnings=(refusal, *outcome.warnings))
                event = dataclasses.replace(event, actions=tuple(action.to_dict() for action in decision.fallback))
        except GuardError as error:
            return event.with_error(error)
        except Exception as error:  # a defect of the guard must not lose the records of the other containers
            return event.with_error(GuardError(f"internal error: {error!r}", kind="internal_error"))
        event = event.with_outcome(outcome, self._check)
        # Of a container that is isolated already there is evidence, and alerts repeat themselves.
        if self._gathering and decision.evidence and outcome.changed and not self._check:
            self._gathering.want(event, decision.evidence, cause, begun)
        return dataclasses.replace(
            event, warnings=(*event.warnings, *self._judge.neighbour_warnings(container_id, event.actions))
        )

    def _isolate(
        self, container_id: str, actions: t.Sequence[Action], decision: Decision, cause: Cause
    ) -> tuple[Outcome, Collection | None]:
        """Isolate; where that ends the processes, take the evidence that goes with them in between."""

        def isolate(actions: t.Sequence[Action], check: bool = False) -> Outcome:
            return self._isolator.isolate(
                container_id, actions, cause, check or self._check, release_after=decision.release_after
            )

        holding = [action for action in actions if action.type not in ("stop", "kill")]
        ends = len(holding) < len(actions)
        if not (self._gathering and decision.evidence and ends) or self._check:
            return isolate(actions), None
        planned = isolate(actions, check=True)
        if not (planned.ok and planned.changed):
            return isolate(actions), None
        first = isolate(holding) if holding else None
        begun = self._gathering.begin(container_id, decision.evidence, cause)
        try:
            outcome = isolate(actions)
        except GuardError as error:
            if first is None:
                raise
            outcome = dataclasses.replace(first, outcome=UNKNOWN, error=error.to_dict(), verified_at="", steps=())
        if first:
            outcome = dataclasses.replace(
                outcome,
                changed=first.changed or outcome.changed,
                before=first.before,
                steps=(*first.steps, *outcome.steps),
                started_at=first.started_at,
            )
        return outcome, begun


def _subject(verdict: Verdict) -> tuple[str, str]:
    """The container and the policy of a verdict that isolates."""
    return (verdict.decision.container or {})["id"], verdict.decision.policy_id


def _wish(verdict: Verdict) -> tuple[Policy, str]:
    return t.cast(Policy, verdict.policy), _subject(verdict)[0]
