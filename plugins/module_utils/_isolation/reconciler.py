# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Acting and reading again until nothing is missing: what isolating and releasing have in common."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    NotFound,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry, is_transient
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError, StepFailed
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import (
    DONE,
    FAILED,
    ISOLATED,
    PLANNED,
    RELEASED,
    SKIPPED,
    UNKNOWN,
    Outcome,
    StepResult,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Step, predict
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import (
    Finding,
    Interfaces,
    Verification,
    interfaces_of,
)

MAX_ROUNDS = 3
"""How often to read, plan and act before the state that is left counts, where nothing failed in a way that may pass."""
_SETTLE_POLL = 0.05
DEFAULT_RETRY = Retry()

REMEDIES = {
    ISOLATED: "Do not count on it being cut off. Run again; if that does not help, stop it or cut the host off",
    RELEASED: "The journal has kept the snapshot. Mend what is named, then release it again. What a failed connect "
    "leaves behind goes away only when the container is stopped",
}


class Reconciler:
    """Leads containers of one engine to a wanted state.

    Args:
        engine: the engine.
        journal: of the same host.
        interfaces: reads the network namespace of a process.
        retry: how often to try again what may pass.
        settle_timeout: seconds to wait for a restarting container to stand still.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        interfaces: Interfaces = interfaces_of,
        retry: Retry = DEFAULT_RETRY,
        settle_timeout: float = 30,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._interfaces = interfaces
        self._retry = retry
        self._settle_timeout = settle_timeout
        self._network_locks = _NetworkLocks()

    def read(self, container_id: str) -> ContainerState:
        """The state of the container with that full id now. Raises EngineError."""
        found = self._retry.call(lambda: self._engine.inspect_container(container_id))
        if found["Id"] != container_id:
            # The engine looks for names, too, and somebody may have named a container with the id of one that is gone.
            raise NotFound(f"container {container_id[:12]} no longer exists", status=404)
        return ContainerState.from_inspect(found)

    def read_owner(self, state: ContainerState) -> ContainerState | None:
        """The container whose network this one uses; None where it uses none, or that is gone. Raises EngineError."""
        if not state.network_owner:
            return None
        try:
            return self.read(state.network_owner)
        except NotFound:
            return None

    def _lock(self, container_id: str, check: bool) -> t.ContextManager[None]:
        # Check mode writes nothing, and a lock is a file.
        return contextlib.nullcontext() if check else self._journal.lock(container_id)

    def _converge(
        self,
        attempt: Attempt,
        steps: list[Step],
        *,
        plan: t.Callable[[ContainerState], list[Step]],
        verify: t.Callable[[ContainerState], Verification],
        reached: str,
        hold_back: t.Callable[[Step], list[Finding]] = lambda _step: [],
    ) -> Outcome:
        """Act and read again until nothing is missing. What was read last decides, whatever the steps answered.

        Args:
            attempt: keeps what happens.
            steps: what to begin with.
            plan: the steps that are missing in a state.
            verify: whether a state is what is wanted.
            reached: the outcome then.
            hold_back: why a step must not be done now.
        """
        delays = self._retry.delays()
        rounds = 0
        try:
            while True:
                tried, may_pass = self._act(attempt, steps, hold_back)
                attempt.after = state = self._settled(attempt.before.id)
                steps = plan(state)
                verification = self._retry.call(functools.partial(verify, state))
                # Where answers exclude each other, asking again gives the same ones (measured).
                if not steps or verification.contradictions:
                    break
                delay = next(delays, None) if may_pass else None
                if delay is not None:
                    self._retry.sleep(delay)
                    continue
                rounds += 1
                untried = any(str(step) not in tried for step in steps)
                if rounds == MAX_ROUNDS or (may_pass and not untried):
                    break
        except (EngineError, JournalError) as error:
            return attempt.outcome(
                FAILED if isinstance(error, NotFound) else UNKNOWN,
                error=GuardError(
                    f"whether container {attempt.before.name} is {reached} cannot be read back: {error.message}",
                    kind=error.kind,
                    remedy=error.remedy or "Run again once the engine answers; the journal has kept the snapshot",
                ),
            )
        if verification:
            return attempt.outcome(reached)
        troubles = [*verification.contradictions, *map(str, verification.unmet)]
        answers = [f"{step.action}: {step.message}" for step in attempt.steps if step.message]
        return attempt.outcome(
            UNKNOWN if verification.contradictions else FAILED,
            error=GuardError(
                "container {} is not {}: {}".format(attempt.before.name, reached, "; ".join(troubles)),
                kind="contradiction" if verification.contradictions else f"not_{reached}",
                remedy=REMEDIES[reached],
                details={"answers": answers},
            ),
        )

    def _act(
        self, attempt: Attempt, steps: list[Step], hold_back: t.Callable[[Step], list[Finding]]
    ) -> tuple[set[str], bool]:
        """Do the steps. Which were tried, and whether one failed in a way that may pass.

        A step that is refused does not stop the others: a container off its networks is better than none. One that got
        no answer does: it may be carried out still (measured), and the others would wait for the same engine.
        """
        tried: set[str] = set()
        may_pass = False
        for step in steps:
            reasons = hold_back(step)
            if reasons:
                attempt.skip(step, "; ".join(map(str, reasons)))
                break
            tried.add(str(step))
            with self._network_locks.hold(step):
                error = attempt.run(step, self._engine)
            may_pass = may_pass or (error is not None and is_transient(error))
            if isinstance(error, (EngineTimeout, EngineUnreachable)):
                break
        return tried, may_pass

    def _settled(self, container_id: str) -> ContainerState:
        """The state once the container is no longer between two runs. Raises EngineError."""
        deadline = time.monotonic() + self._settle_timeout
        state = self.read(container_id)
        while state.restarting and time.monotonic() < deadline:
            time.sleep(_SETTLE_POLL)
            state = self.read(container_id)
        return state


class _NetworkLocks:
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
            # Without an answer it may have been carried out, or be so later (measured).
            status = UNKNOWN if isinstance(error, (EngineTimeout, EngineUnreachable)) else FAILED
        self.changed = self.changed or status != FAILED or (isinstance(failure, StepFailed) and failure.changed)
        self._acted_at = now()
        duration = round((time.monotonic() - started) * 1000, 1)
        self.steps.append(StepResult(step.action, step.detail, status, duration, failure.message if failure else ""))
        return failure

    def skip(self, step: Step, reason: str) -> None:
        """Record that a step was not tried."""
        self.steps.append(StepResult(step.action, step.detail, SKIPPED, message=reason))

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
            orchestrator=self.before.labels,
            started_at=self._started_at,
            acted_at=self._acted_at,
            verified_at="" if self._prediction is not None or error else now(),
        )
