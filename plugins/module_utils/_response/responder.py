# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Responding: alerts in; decisions, actions and their records out.

First all alerts are decided, then containers are isolated, and only then is explained why.
"""

from __future__ import annotations

import dataclasses
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import ISOLATED as VERIFIED
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    FAILED,
    OUTCOMES,
    WOULD_ISOLATE,
    is_green,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import ISOLATE, Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answered import (
    Answer,
    Answered,
    key_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.attempts import Attempt, Attempts
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge, Verdict
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits import Limiter

if t.TYPE_CHECKING:  # most policies want no evidence, and what is not imported costs no time
    from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering


class Response(t.NamedTuple):
    """What was decided about an alert, and the record of what was done, where there is one.

    C(key) is that by which the alert is known when it is delivered again.
    """

    decision: Decision
    event: ActionEvent | None
    key: str = ""

    @property
    def outcome(self) -> str:
        """What became of the alert."""
        return self.event.outcome if self.event else self.decision.outcome

    @property
    def answer(self) -> Answer:
        """What is to be said where the alert is delivered again."""
        container, event = self.decision.container or {}, self.event
        record_id = (event.repeat_of or event.id) if event else ""
        return Answer(self.key, self.outcome, container.get("id", ""), self.decision.policy_id, record_id)

    def to_dict(self) -> dict[str, t.Any]:
        """The response as modules return it."""
        return {"decision": self.decision.to_dict(), "event": self.event.to_dict() if self.event else None}


class Responder:
    """Answers alerts on one host.

    Args:
        judge: decides.
        isolator: isolates.
        journal: of the host.
        limiter: keeps it from doing too much.
        host: inventory name of this host, for the records.
        actor: who answers, for the records.
        concurrency: how many containers are worked on at a time, 1 to 100.
        check: only say what would be done.
        answered: knows which alerts were answered before; None where each alert counts anew.
        intents: where it is declared what is about to be done; None to leave that.
        gathering: collects evidence; None where no policy wants any.
    """

    def __init__(
        self,
        judge: Judge,
        isolator: Isolator,
        journal: Journal,
        limiter: Limiter,
        host: str = "",
        actor: str = "",
        concurrency: int = 10,
        check: bool = False,
        answered: Answered | None = None,
        intents: Intents | None = None,
        gathering: Gathering | None = None,
    ) -> None:
        self._judge = judge
        self._journal = journal
        self._limiter = limiter
        self._host = host
        self._actor = actor
        self._check = check
        self._answered = answered
        self._intents = intents
        self._gathering = gathering
        self._attempts = Attempts(isolator, concurrency, check, intents, gathering)

    def respond(self, alerts: t.Sequence[Alert]) -> list[Response]:
        """One response for each alert and container, in the order of the alerts.

        Trouble with the engine is in the responses of those alerts that it concerns.
        """
        verdicts = self._decided(alerts)
        decided = timestamp.now()
        wanted: dict[tuple[str, str], list[int]] = {}
        for index, verdict in enumerate(verdicts):
            if verdict.decision.outcome == ISOLATE:
                wanted.setdefault(_subject(verdict), []).append(index)
        # Alerts of one batch that one policy answers with the same container are one attempt.
        attempts = {
            subject: self._attempt([verdicts[index] for index in indexes], decided)
            for subject, indexes in sorted(wanted.items(), key=lambda item: _order(verdicts[item[1][0]]))
        }
        turned_down = self._carry_out(list(attempts.values()))

        for (container_id, _policy_id), indexes in wanted.items():
            for index in indexes if container_id in turned_down else ():
                verdicts[index] = verdicts[index].turned_down(*turned_down[container_id])
        events = [self._record(verdict, decided) if verdict.leaves_record else None for verdict in verdicts]
        for subject, indexes in wanted.items():
            if subject[0] not in turned_down:
                self._tell(attempts[subject], events, indexes)
        return [Response(verdict.decision, event, key_of(verdict.alert)) for verdict, event in zip(verdicts, events)]

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _decided(self, alerts: t.Sequence[Alert]) -> list[Verdict]:
        keys = [key_of(alert) if self._answered else "" for alert in alerts]
        known = self._answered.recall(keys) if self._answered else {}
        return [
            verdict
            for alert, key in zip(alerts, keys)
            for verdict in ([_as_before(alert, answer) for answer in known.get(key, ())] or self._decide(alert))
        ]

    def _decide(self, alert: Alert) -> list[Verdict]:
        try:
            return self._judge.decide(alert)
        except GuardError as error:
            trouble = error
        except Exception as error:  # a defect of the guard must not keep the other alerts from being answered
            trouble = GuardError(f"internal error: {error!r}", kind="internal_error")
        decision = Decision(FAILED, alert.id, alert.trace_id, explain=lambda: (str(trouble),))
        return [Verdict(alert, decision, error=trouble)]

    # --- acting -------------------------------------------------------------------------------------------------------

    def _attempt(self, verdicts: t.Sequence[Verdict], decided: str) -> Attempt:
        """The attempt for alerts that one policy answers with one container."""
        alert, decision = verdicts[0].alert, verdicts[0].decision
        event = self._event(verdicts[0], decided, "" if self._check else str(uuid.uuid4()))
        cause = Cause(
            reason=f"{alert.source}: {alert.rule}",
            trace_id=alert.trace_id,
            alert_id=alert.id,
            policy_id=decision.policy_id,
            actor=self._actor,
            intended=event.intended,
        )
        # One that was received after a release acts, whatever came before. What a person gives is received now.
        newest = max((verdict.alert.received_at for verdict in verdicts), key=_moment) if self._answered else ""
        return Attempt(decision, event, cause, newest)

    def _carry_out(self, attempts: t.Sequence[Attempt]) -> dict[str, tuple[str, str]]:
        """Carry out what the limit leaves room for; by container, the outcome of the others and why."""
        container_ids = dict.fromkeys(attempt.container_id for attempt in attempts)
        now = {container_id for container_id in container_ids if self._holds(container_id)}
        for attempt in attempts:
            attempt.held = attempt.container_id in now
        waiting = [container_id for container_id in container_ids if container_id not in now]
        while now or waiting:
            admissions = dict(zip(waiting, self._limiter.admit(waiting, self._check)))
            now |= {one for one, admission in admissions.items() if admission.outcome == ISOLATE}
            if not now:
                return {one: (admission.outcome, admission.reason) for one, admission in admissions.items()}
            batch = [attempt for attempt in attempts if attempt.container_id in now]
            self._attempts.carry_out(batch)
            self._limiter.settle({attempt.container_id for attempt in batch if self._counts(attempt)}, self._check)
            # A place that came free is for those that were turned down.
            waiting, now = [container_id for container_id in waiting if container_id not in now], set()
        return {}

    def _holds(self, container_id: str) -> bool:
        """Whether it is isolated, by the journal: then it is verified, and costs no place."""
        try:
            entry = self._journal.load(container_id)
        except GuardError:
            return False
        return entry is not None and entry.phase == VERIFIED

    def _counts(self, attempt: Attempt) -> bool:
        outcome = attempt.outcome
        if outcome is None or not outcome.changed:
            return False
        return outcome.outcome == WOULD_ISOLATE if self._check else OUTCOMES[outcome.outcome].counts

    # --- explaining ---------------------------------------------------------------------------------------------------

    def _event(self, verdict: Verdict, decided: str, intended: str = "") -> ActionEvent:
        """The record without what came of it, and without reasons, for which acting does not wait."""
        alert, decision = verdict.alert, verdict.decision
        return ActionEvent(
            outcome=decision.outcome,
            trace_id=alert.trace_id,
            alert_id=alert.id,
            policy_id=decision.policy_id,
            source=alert.source,
            rule=alert.rule,
            actor=self._actor,
            host=self._host,
            container=decision.container,
            actions=tuple(action.to_dict() for action in decision.actions),
            warnings=verdict.warnings,
            timeline={"accepted": alert.received_at, "decided": decided},
            intended=intended,
        )

    def _record(self, verdict: Verdict, decided: str) -> ActionEvent:
        """The record of a decision that does not act, or did not come to it."""
        decision, error = verdict.decision, verdict.error
        event = dataclasses.replace(self._event(verdict, decided), reasons=decision.reasons)
        if error is None and decision.outcome != ISOLATE and not is_green(decision.outcome):
            why = decision.reasons[-1] if decision.reasons else decision.outcome
            error = GuardError(why, kind=decision.outcome, remedy=_REMEDIES.get(decision.outcome, ""))
        return dataclasses.replace(event, error=error.to_dict() if error else None)

    def _tell(self, attempt: Attempt, events: list[ActionEvent | None], indexes: t.Sequence[int]) -> None:
        """Put what came of an attempt into the records of the alerts that it was made for."""
        first, *others = indexes
        declared = self._intents.declared if self._intents else ()
        event = attempt.record(self._check, declared)
        if attempt.outcome and attempt.outcome.ok:
            peers = self._judge.neighbour_warnings(attempt.container_id, event.actions)
            event = dataclasses.replace(event, warnings=(*event.warnings, *peers))
        explained = t.cast(ActionEvent, events[first])
        events[first] = event = dataclasses.replace(event, reasons=explained.reasons)
        # Of a container that is isolated already there is evidence, and alerts repeat themselves.
        if self._gathering and attempt.decision.evidence and event.changed and not self._check:
            self._gathering.want(event, attempt.decision.evidence, attempt.cause, attempt.begun)
        for index in others:
            repeat = t.cast(ActionEvent, events[index])
            events[index] = dataclasses.replace(
                repeat, outcome=event.outcome, error=event.error, actions=event.actions, repeat_of=event.id
            )


_REMEDIES = {"limit": "It is still connected: isolate it by hand"}


def _as_before(alert: Alert, answer: Answer) -> Verdict:
    """The verdict on an alert that was answered before: nothing is done."""
    container = {"id": answer.container_id, "name": "", "image": ""} if answer.container_id else None
    why = f"it was answered before, by record {answer.record_id}" if answer.record_id else "it was answered before"
    decision = Decision(answer.outcome, alert.id, alert.trace_id, answer.policy_id, container, explain=lambda: (why,))
    return Verdict(alert, decision, recorded=False)


def _subject(verdict: Verdict) -> tuple[str, str]:
    """The container and the policy of a verdict that isolates."""
    return (verdict.decision.container or {})["id"], verdict.decision.policy_id


def _moment(received_at: str) -> float:
    moment = timestamp.parse_timestamp(received_at)
    return moment.timestamp() if moment else 0.0


def _order(verdict: Verdict) -> tuple[int, str]:
    policy = t.cast(Policy, verdict.policy)
    return policy.priority, policy.id
