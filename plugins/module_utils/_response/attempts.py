# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attempts: what policies want of containers is carried out, all paused before the first one leaves its networks.

Policies that want the same container take turns, in their order: what holds in the end must not be chance, and what one
policy cannot have must not keep another from it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.batch import Walked, in_two_passes
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import Hold
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import DONE, Outcome, inert
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.walk import Walk
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    AWAITING_APPROVAL,
    HELD,
    ISOLATED,
    REFUSED,
    UNKNOWN,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import (
    ActionEvent,
    approval_in,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents

if t.TYPE_CHECKING:  # most policies want no evidence, and what is not imported costs no time
    from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering


@dataclasses.dataclass
class Attempt:
    """What one policy wants of one container, and what came of it.

    Attributes:
        decision: of the policy.
        event: what is to become the record, without what came of it.
        cause: why.
        received_at: when the newest of its alerts was received.
        held: it is isolated already, by the journal.
        outcome: what came of it; None where it ended before anything was touched.
        error: why it ended then.
        fallback: whether the fallback was taken.
        begun: id of the case with the evidence that was taken before the processes were ended, or empty.
        approval: what the policy wants beyond that and waits for, as the record shows it, or None.
    """

    decision: Decision
    event: ActionEvent
    cause: Cause
    received_at: str
    held: bool = False
    outcome: Outcome | None = None
    error: GuardError | None = None
    fallback: bool = False
    begun: str = ""
    approval: t.Mapping[str, t.Any] | None = None

    @property
    def container_id(self) -> str:
        """Full id."""
        return str((self.decision.container or {})["id"])

    def take(self, walked: Walked) -> None:
        """Add what came of a turn to what came of those before."""
        before, outcome = self.outcome, walked.outcome
        if before is None:
            self.outcome, self.error = outcome, walked.error
        elif outcome is None:
            trouble = walked.error.to_dict() if walked.error else None
            self.outcome = dataclasses.replace(before, outcome=UNKNOWN, error=trouble, verified_at="")
        else:
            self.outcome = dataclasses.replace(
                outcome,
                changed=before.changed or outcome.changed,
                before=before.before,
                steps=(*before.steps, *outcome.steps),
                started_at=before.started_at,
            )
            # What the engine can never do was tried again, and what it can was so already.
            if self.held and outcome.outcome == ISOLATED and all(step.status != DONE for step in self.outcome.steps):
                self.outcome = dataclasses.replace(self.outcome, outcome=HELD, changed=False)

    def note_what_waits(self) -> None:
        """Say so where it is held until somebody approves of what the policy wants, for the alert that wanted it first.

        Later ones find it held; one that is delivered again is the first.
        """
        outcome = self.outcome
        if outcome is None or outcome.outcome not in (ISOLATED, HELD):
            return
        self.approval = approval_in(outcome.claims, self.cause.policy_id)
        if self.approval and not self.approval["decision"] and self.approval["trace_id"] == self.cause.trace_id:
            self.outcome = dataclasses.replace(outcome, outcome=AWAITING_APPROVAL)

    def record(self, check: bool, declared: t.Collection[str]) -> ActionEvent:
        """The record of what came of it, and in check mode would come of it."""
        actions = self.decision.fallback if self.fallback else self.decision.actions
        # One that had to wait for another run may have acted all the same.
        acted = self.event.intended in declared or bool(self.outcome and self.outcome.changed)
        event = dataclasses.replace(
            self.event,
            actions=tuple(action.to_dict() for action in actions),
            intended=self.event.intended if acted else "",
            approval=self.approval,
        )
        return event.with_outcome(self.outcome, check) if self.outcome else event.with_error(_known(self.error))


class Turn(t.NamedTuple):
    """A part of an attempt that is one walk.

    Attributes:
        attempt: of which it is a part.
        actions: what is to hold.
        last: what comes of it is what comes of the attempt.
        gathers: what the container has while it has processes is taken first.
        without: actions that the engine can never do, and that are given up.
    """

    attempt: Attempt
    actions: tuple[Action, ...]
    last: bool = True
    gathers: bool = False
    without: tuple[str, ...] = ()


class Attempts:
    """Carries attempts out on one host.

    Args:
        isolator: isolates.
        concurrency: how many containers are worked on at a time, 1 to 100.
        check: only say what would be done.
        intents: where it is declared; None in check mode.
        gathering: collects evidence; None where no policy wants any.
    """

    def __init__(
        self, isolator: Isolator, concurrency: int, check: bool, intents: Intents | None, gathering: Gathering | None
    ) -> None:
        self._isolator = isolator
        self._concurrency = concurrency
        self._check = check
        self._intents = intents
        self._gathering = gathering

    def carry_out(self, attempts: t.Iterable[Attempt]) -> None:
        """Carry them out; those on one container in their order. Each then has an outcome or an error."""
        queues: dict[str, collections.deque[Turn]] = {}
        for attempt in attempts:
            queue = queues.setdefault(attempt.container_id, collections.deque())
            queue.extend(self._turns(attempt, attempt.decision.actions))
        while queues:
            heads = [queue[0] for queue in queues.values()]
            # No container stays connected while evidence of another one is taken.
            wave = [turn for turn in heads if not turn.gathers] or heads
            for turn, walked in zip(wave, self._walked(wave)):
                queue = queues[turn.attempt.container_id]
                queue.popleft()
                queue.extendleft(reversed(self._taken(turn, walked)))
            queues = {container_id: queue for container_id, queue in queues.items() if queue}

    def _turns(self, attempt: Attempt, actions: tuple[Action, ...], without: tuple[str, ...] = ()) -> list[Turn]:
        """One, or where evidence is wanted of what is to be ended, one that holds it before."""
        holding = tuple(action for action in actions if not action.ends)
        gathers = bool(self._gathering and attempt.decision.evidence) and holding != actions and not self._check
        first = [Turn(attempt, holding, last=False, without=without)] if gathers and holding else []
        return [*first, Turn(attempt, actions, gathers=gathers, without=without)]

    def _walked(self, wave: t.Sequence[Turn]) -> list[Walked]:
        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            prepared = list(pool.map(self._prepared, wave) if wave[0].gathers else map(self._prepared, wave))
        begun = [(one, turn.attempt.event) for one, turn in zip(prepared, wave) if isinstance(one, Walk)]

        def declare() -> None:
            if self._intents:
                self._intents.declare(begun)

        results = iter(in_two_passes([walk for walk, _event in begun], self._concurrency, declare))
        return [next(results) if isinstance(one, Walk) else Walked(error=one) for one in prepared]

    def _prepared(self, turn: Turn) -> Walk | GuardError:
        try:
            return self._walk(turn)
        except GuardError as error:
            return error
        except Exception as error:  # a defect of the guard must not lose the records of the other containers
            return GuardError(f"internal error: {error!r}", kind="internal_error")

    def _walk(self, turn: Turn) -> Walk:
        attempt, decision = turn.attempt, turn.attempt.decision
        claim = self._isolator.claim(turn.actions, attempt.cause, decision.release_after)
        change = Hold((claim,), without=turn.without, received_at=attempt.received_at)
        if turn.gathers and self._gathering:
            planned = self._isolator.walk(attempt.container_id, change, check=True).run()
            if planned.ok and planned.changed:
                attempt.begun = self._gathering.begin(attempt.container_id, decision.evidence, attempt.cause)
        return self._isolator.walk(attempt.container_id, change, self._check, patient=False)

    def _taken(self, turn: Turn, walked: Walked) -> list[Turn]:
        """What is to follow a turn at once: the fallback, where the actions cannot work on this engine."""
        attempt, outcome = turn.attempt, walked.outcome
        attempt.take(walked)
        attempt.note_what_waits()
        fallback = attempt.decision.fallback
        if outcome is None or outcome.ok or attempt.fallback or not (turn.last and fallback):
            return []
        if outcome.outcome != REFUSED and not outcome.unsupported:
            return []
        attempt.fallback = True
        answers = [step.message for step in outcome.steps if step.message]
        why = "; ".join(["fallback, as {}".format((outcome.error or {})["message"]), *answers])
        attempt.event = dataclasses.replace(attempt.event, warnings=(inert(why), *attempt.event.warnings))
        return self._turns(attempt, fallback, outcome.unsupported)


def _known(error: GuardError | None) -> GuardError:
    return error or GuardError("nothing came of it", kind="internal_error")
