# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Acting: doing steps, and keeping what happens on the way."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    NotSupported,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import is_transient
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import StepFailed
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import (
    DONE,
    FAILED_STEP,
    PLANNED,
    SKIPPED,
    UNANSWERED,
    Outcome,
    StepResult,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Step, predict
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import BUSY


class NetworkLocks:
    """Lets containers leave a network one after the other.

    Engine 20.10 leaks an endpoint now and then when containers leave one network at the same time (measured with 10 and
    with 20 threads): the network cannot be removed then until the engine restarts.
    """

    def __init__(self) -> None:
        self._locks: dict[str, threading.Lock] = {}

    def hold(self, step: Step) -> t.ContextManager[t.Any]:
        """The lock that the step needs."""
        if step.action != "disconnect":
            return contextlib.nullcontext()
        return self._locks.setdefault(step.network, threading.Lock())  # atomic, as the interpreter holds its own lock


class Attempt:
    """What happens while one container is worked on."""

    def __init__(self, before: ContainerState) -> None:
        self.before = before
        self.after: ContainerState | None = before
        self.changed = False
        self.warnings: list[str] = []
        self.steps: list[StepResult] = []
        self.unsupported: list[str] = []
        self.busy = ""  # which other run was in the way of a step
        # By time.monotonic(): one that is paused already was so by now.
        self.paused_at = time.monotonic()
        self._started_at = now()
        self._acted_at = ""
        self._prediction: dict[str, t.Any] | None = None

    def plan(self, steps: list[Step]) -> None:
        """Record what would be done."""
        self.changed = self.changed or bool(steps)
        self.steps = [StepResult(step.action, step.detail, PLANNED) for step in steps]
        self._prediction = predict(self.before, steps)

    def run(self, step: Step, engine: Engine) -> EngineError | None:
        """Do a step and record how it went; the error that it met."""
        started = time.monotonic()
        failure: EngineError | None = None
        status = DONE
        self.after = None  # not known until it is read back
        try:
            step.run(engine)
        except EngineError as error:
            failure = error
            if error.kind == BUSY:
                self.busy = error.message
            if isinstance(error, NotSupported) and step.action not in self.unsupported:
                self.unsupported.append(step.action)
            # Without an answer it may have been carried out, or be so later (measured).
            status = UNANSWERED if isinstance(error, (EngineTimeout, EngineUnreachable)) else FAILED_STEP
        self.changed = self.changed or status != FAILED_STEP or (isinstance(failure, StepFailed) and failure.changed)
        self._acted_at = now()
        if step.action == "pause":
            self.paused_at = time.monotonic()
        duration = round((time.monotonic() - started) * 1000, 1)
        self.steps.append(StepResult(step.action, step.detail, status, duration, failure.message if failure else ""))
        return failure

    def skip(self, step: Step, reason: str) -> None:
        """Record that a step was not tried."""
        self.steps.append(StepResult(step.action, step.detail, SKIPPED, message=reason))

    def refused(self) -> list[str]:
        """What the engine answered to steps that did not succeed at last, where all is as wanted nevertheless."""
        last = {(step.action, step.detail): step for step in self.steps}
        return [
            f"{step.action} {step.detail}".rstrip() + f": {step.message}; it is as wanted nevertheless"
            for step in last.values()
            if step.status == FAILED_STEP
        ]

    def outcome(self, outcome: str, error: GuardError | None = None) -> Outcome:
        """The outcome, now."""
        after = self._prediction
        if after is None:
            after = self.after.summary() if self.after else {}
        return Outcome(
            outcome=outcome,
            changed=self.changed,
            container_id=self.before.id,
            container_name=self.before.name,
            before=self.before.summary(),
            after=after,
            steps=tuple(self.steps),
            error=error.to_dict() if error else None,
            warnings=tuple(self.warnings),
            unsupported=tuple(self.unsupported) if error else (),
            orchestrator=self.before.labels,
            started_at=self._started_at,
            acted_at=self._acted_at,
            verified_at="" if self._prediction is not None or error else now(),
        )


class Acted(t.NamedTuple):
    """What came of some steps.

    Attributes:
        tried: the steps that were tried.
        may_pass: one of them failed in a way that may pass.
        unanswered: the last one got no answer.
    """

    tried: frozenset[str] = frozenset()
    may_pass: bool = False
    unanswered: bool = False

    def and_then(self, later: Acted) -> Acted:
        """These and later ones."""
        return Acted(self.tried | later.tried, self.may_pass or later.may_pass, self.unanswered or later.unanswered)


NOTHING_DONE = Acted()


def perform(
    steps: t.Iterable[Step],
    engine: Engine,
    attempt: Attempt,
    locks: NetworkLocks,
    hold_back: t.Callable[[Step], str] = lambda _step: "",
) -> Acted:
    """Do the steps.

    A step that is refused does not stop the others: a container off its networks is better than none. One that got no
    answer does: it may be carried out still (measured), and the others would wait for the same engine.

    Args:
        steps: in their order.
        engine: the engine.
        attempt: keeps what happens.
        locks: those of all containers that are worked on at the same time.
        hold_back: why a step must not be done now, and none after it; or empty. Raises EngineError.
    """
    tried: set[str] = set()
    may_pass = False
    for step in steps:
        reason = hold_back(step)
        if reason:
            attempt.skip(step, reason)
            break
        tried.add(str(step))
        with locks.hold(step):
            error = attempt.run(step, engine)
        may_pass = may_pass or (error is not None and is_transient(error))
        if isinstance(error, (EngineTimeout, EngineUnreachable)):
            return Acted(frozenset(tried), may_pass, unanswered=True)
    return Acted(frozenset(tried), may_pass)
