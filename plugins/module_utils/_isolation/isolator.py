# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating and releasing one container: record, act, verify, and say what is true."""

from __future__ import annotations

import contextlib
import dataclasses
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
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import journal as journal_phases
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError, Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import (
    UNSTATED,
    Cause,
    Entry,
    Journal,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import (
    DONE,
    FAILED,
    ISOLATED,
    PLANNED,
    REFUSED,
    RELEASED,
    UNKNOWN,
    Outcome,
    StepResult,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import (
    Goal,
    Step,
    applicable,
    isolation_steps,
    predict,
    release_steps,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.preflight import check_release
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    NO_NETWORK,
    ContainerState,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import (
    Interfaces,
    Verification,
    interfaces_of,
    not_restored,
    verify_isolated,
    verify_reconnected,
    verify_released,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action

MAX_ROUNDS = 3
"""How often to read, plan and act before the state that is left counts."""
_SETTLE_POLL = 0.05


class Isolator:
    """Isolates and releases the containers of one engine.

    Args:
        engine: the engine.
        journal: of the same host.
        interfaces: reads the network namespace of a process.
        settle_timeout: seconds to wait for a restarting container to stand still.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        interfaces: Interfaces = interfaces_of,
        settle_timeout: float = 30,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._interfaces = interfaces
        self._settle_timeout = settle_timeout
        self._version = engine.version()
        # Engine 20.10 leaks an endpoint now and then when containers leave one network at the same time (measured with
        # 10 and with 20 threads): the network cannot be removed then until the engine restarts.
        self._one_disconnect = threading.Lock()

    def isolate(
        self, container_id: str, actions: t.Sequence[Action], cause: Cause = UNSTATED, check: bool = False
    ) -> Outcome:
        """Cut the container off.

        Args:
            container_id: full id.
            actions: what to do; joined with what holds already.
            cause: why, for the journal.
            check: only say what would be done.

        Raises:
            EngineError, JournalError, PolicyError: before anything was touched. Afterwards every trouble is part of the
                outcome.
        """
        wanted = Goal.of(actions)
        with self._lock(container_id, check):
            attempt = _Attempt(self.read(container_id))
            entry = self._current(container_id, attempt.before)
            try:
                if entry:
                    entry.goal.joined(wanted)  # says so where they exclude each other
                wanted, reasons = applicable(attempt.before, wanted)
                goal = entry.goal.joined(wanted) if entry else wanted
            except Refused as refusal:
                return attempt.outcome(REFUSED, error=refusal)
            attempt.warnings += [f"not applied: {reason}" for reason in reasons]
            steps = isolation_steps(attempt.before, goal)
            planned = _entry_for(entry, attempt.before, goal, cause)
            attempt.changed = planned != entry
            if check:
                attempt.changed = attempt.changed or bool(steps)
                attempt.plan(steps)
                return _with_port_warning(attempt.outcome(ISOLATED), attempt.before, goal)
            if planned != entry:
                self._journal.store(planned)

            def plan(state: ContainerState) -> list[Step]:
                nonlocal planned
                extended = _with_endpoints(planned, state)
                if extended != planned:
                    self._journal.store(extended)
                    planned = extended
                return isolation_steps(state, goal)

            outcome = self._converge(
                attempt,
                steps,
                plan=plan,
                verify=lambda state: verify_isolated(self._engine, state, planned.snapshot, goal, self._interfaces),
                reached=ISOLATED,
            )
            outcome = _with_port_warning(outcome, attempt.before, goal)
            if not outcome.ok:
                return outcome
            if planned.phase != journal_phases.ISOLATED:
                try:
                    self._journal.store(dataclasses.replace(planned, phase=journal_phases.ISOLATED))
                except JournalError as error:
                    # It is isolated, and the entry of before the first action is enough to release it.
                    warning = f"the journal still says that it is being isolated: {error.message}"
                    return dataclasses.replace(outcome, warnings=(*outcome.warnings, warning))
            return outcome

    def release(self, container_id: str, check: bool = False) -> Outcome:
        """Give the container back as it was, from the snapshot alone.

        Where none is in the journal, nothing is done; a container that is cut off nevertheless is refused, as it is not
        given back.

        Args:
            container_id: full id.
            check: only say what would be done.

        Raises:
            EngineError, JournalError: before anything was touched.
        """
        with self._lock(container_id, check):
            entry = self._journal.load(container_id)
            attempt = _Attempt(self.read(container_id))
            if entry is None:
                return self._not_recorded(attempt)
            goal = entry.goal
            preflight = check_release(self._engine, attempt.before, entry.snapshot, goal)
            if preflight.problems:
                return attempt.outcome(
                    REFUSED,
                    error=Refused(
                        "container {} cannot be released: {}".format(
                            attempt.before.name, "; ".join(preflight.problems)
                        ),
                        remedy="Nothing was touched. Mend what is named, then release it again",
                    ),
                )
            snapshot = preflight.snapshot
            steps = release_steps(attempt.before, snapshot, goal)
            if check:
                attempt.changed = True
                attempt.plan(steps)
                return self._released(attempt, attempt.outcome(RELEASED), snapshot, goal, preflight.recreated)
            if entry.phase != journal_phases.RELEASING:
                self._journal.store(dataclasses.replace(entry, phase=journal_phases.RELEASING))
                attempt.changed = True
            outcome = self._converge(
                attempt,
                steps,
                plan=lambda state: release_steps(state, snapshot, goal),
                verify=lambda state: verify_released(self._engine, state, snapshot, goal),
                reached=RELEASED,
                # One that runs again, or that the engine may start again, must have all its networks.
                before_running=lambda: verify_reconnected(self._engine, self.read(container_id), snapshot, goal),
            )
            outcome = self._released(attempt, outcome, snapshot, goal, preflight.recreated)
            if not outcome.ok:
                return outcome
            try:
                self._journal.remove(container_id)
            except JournalError as error:
                return dataclasses.replace(outcome, changed=True, error=error.to_dict())
            return dataclasses.replace(outcome, changed=True)

    def read(self, container_id: str) -> ContainerState:
        """The state of the container with that full id now. Raises EngineError."""
        found = self._engine.inspect_container(container_id)
        if found["Id"] != container_id:
            # The engine looks for names, too, and somebody may have named a container with the id of one that is gone.
            raise NotFound(f"container {container_id[:12]} no longer exists", status=404)
        return ContainerState.from_inspect(found, self._version)

    def verify(self, entry: Entry) -> tuple[ContainerState, Verification]:
        """The state of an isolated container, and whether the isolation holds. Raises EngineError."""
        state = self.read(entry.snapshot.id)
        return state, verify_isolated(self._engine, state, entry.snapshot, entry.goal, self._interfaces)

    def _current(self, container_id: str, state: ContainerState) -> Entry | None:
        """The isolation that the journal has of the container. Raises JournalError, EngineError."""
        entry = self._journal.load(container_id)
        if entry is None or entry.phase != journal_phases.RELEASING:
            return entry
        # Where only the removal of the entry failed it was released, and the snapshot is history.
        return None if verify_released(self._engine, state, entry.snapshot, entry.goal) else entry

    def _not_recorded(self, attempt: _Attempt) -> Outcome:
        state = attempt.before
        if state.paused or (state.running and state.own_network and not state.live_endpoints):
            return attempt.outcome(
                REFUSED,
                error=Refused(
                    "container {} is {}, but the journal does not know of it".format(
                        state.name, "paused" if state.paused else "on no network"
                    ),
                    kind="not_in_journal",
                    remedy="Check state_dir. If somebody else cut it off, give it back by hand",
                ),
            )
        attempt.warnings.append("it is not in the journal, so there is nothing to give back")
        return attempt.outcome(RELEASED)

    def _lock(self, container_id: str, check: bool) -> t.ContextManager[None]:
        # Check mode writes nothing, and a lock is a file.
        return contextlib.nullcontext() if check else self._journal.lock(container_id)

    def _converge(
        self,
        attempt: _Attempt,
        steps: list[Step],
        *,
        plan: t.Callable[[ContainerState], list[Step]],
        verify: t.Callable[[ContainerState], Verification],
        reached: str,
        before_running: t.Callable[[], list[str]] = list,
    ) -> Outcome:
        """Act and read again until nothing is missing. What was read last decides, whatever the steps answered."""
        try:
            for _round in range(MAX_ROUNDS):
                for step in steps:
                    if reached == RELEASED and step.action in ("set_restart_policy", "start", "unpause"):
                        missing = before_running()
                        if missing:
                            attempt.skip(step, "; ".join(missing))
                            break
                    with self._one_disconnect if step.action == "disconnect" else contextlib.nullcontext():
                        attempt.run(step, self._engine)
                attempt.after = state = self._settled(attempt.before.id)
                steps = plan(state)
                if not steps:
                    break
            verification = verify(state)
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
        troubles = [*verification.contradictions, *verification.unmet]
        answers = [f"{step.action}: {step.message}" for step in attempt.steps if step.message]
        return attempt.outcome(
            UNKNOWN if verification.contradictions else FAILED,
            error=GuardError(
                "container {} is not {}: {}".format(attempt.before.name, reached, "; ".join(troubles)),
                kind="contradiction" if verification.contradictions else f"not_{reached}",
                remedy=_REMEDIES[reached],
                details={"answers": answers},
            ),
        )

    def _settled(self, container_id: str) -> ContainerState:
        """The state once the container is no longer between two runs. Raises EngineError."""
        deadline = time.monotonic() + self._settle_timeout
        state = self.read(container_id)
        while state.restarting and time.monotonic() < deadline:
            time.sleep(_SETTLE_POLL)
            state = self.read(container_id)
        return state

    def _released(
        self,
        attempt: _Attempt,
        outcome: Outcome,
        snapshot: ContainerState,
        goal: Goal,
        recreated: tuple[t.Mapping[str, str], ...],
    ) -> Outcome:
        after = attempt.after
        differences: list[t.Mapping[str, str]] = [*recreated]
        if after and outcome.verified_at:
            differences += not_restored(after, snapshot, goal)
        # Its sockets outlive pause and disconnect, and peers retransmit into the reconnected interface (measured).
        resume = snapshot.running and not (snapshot.paused or snapshot.restarting or goal.stop)
        warnings = ["{what} was {before!r} and is {after!r} now".format(**difference) for difference in differences]
        if resume and outcome.ok:
            warnings.append("TCP sessions of before may go on, with what was queued in them")
        return dataclasses.replace(
            outcome,
            not_restored=tuple(differences),
            sessions_may_resume=resume,
            warnings=(*outcome.warnings, *warnings),
        )


def _with_port_warning(outcome: Outcome, before: ContainerState, goal: Goal) -> Outcome:
    """The outcome, with a warning where the container stays reachable by a published port."""
    left = [name for name in outcome.after.get("networks", ()) if name != NO_NETWORK]
    if not (goal.networks and left and any(before.ports.values())):
        return outcome
    # Taking it off the network that is its gateway moves published ports to another one (measured).
    warning = f"its published ports stay reachable through network {', '.join(left)}"
    return dataclasses.replace(outcome, warnings=(*outcome.warnings, warning))


def _entry_for(entry: Entry | None, state: ContainerState, goal: Goal, cause: Cause) -> Entry:
    """The entry of the journal that the isolation needs before it goes on."""
    if entry is None:
        return Entry(snapshot=state, goal=goal, phase=journal_phases.ISOLATING, cause=cause, since=now())
    extended = _with_endpoints(dataclasses.replace(entry, goal=goal), state)
    if extended == entry and entry.phase != journal_phases.RELEASING:
        return entry
    return dataclasses.replace(extended, phase=journal_phases.ISOLATING)


def _with_endpoints(entry: Entry, state: ContainerState) -> Entry:
    """The entry, with the networks in its snapshot that the container joined since and is about to leave."""
    known = {endpoint.network for endpoint in entry.snapshot.endpoints}
    joined = tuple(
        endpoint for endpoint in state.live_endpoints if endpoint.network not in known and entry.goal.cuts(endpoint)
    )
    if not joined:
        return entry
    snapshot = dataclasses.replace(entry.snapshot, endpoints=(*entry.snapshot.endpoints, *joined))
    return dataclasses.replace(entry, snapshot=snapshot)


_REMEDIES = {
    ISOLATED: "Do not count on it being cut off. Run again; if that does not help, stop it or cut the host off",
    RELEASED: "The journal has kept the snapshot. Mend what is named, then release it again. What a failed connect "
    "leaves behind goes away only when the container is stopped",
}


class _Attempt:
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
        self.steps = [StepResult(step.action, step.detail, PLANNED) for step in steps]
        self._prediction = predict(self.before, steps)

    def run(self, step: Step, engine: Engine) -> None:
        """Do a step. A step that fails does not stop the others: a container off its networks is better than none."""
        started = time.monotonic()
        status, message = DONE, ""
        self.after = None  # not known until it is read back
        try:
            step.run(engine)
        except (EngineTimeout, EngineUnreachable) as error:
            # It may have been carried out, or be so later (measured).
            status, message = "unknown", error.message
        except EngineError as error:
            status, message = "failed", error.message
        self.changed = self.changed or status != "failed"
        self._acted_at = now()
        duration = round((time.monotonic() - started) * 1000, 1)
        self.steps.append(StepResult(step.action, step.detail, status, duration, message))

    def skip(self, step: Step, reason: str) -> None:
        """Record that a step was not tried."""
        self.steps.append(StepResult(step.action, step.detail, "skipped", message=reason))

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
            started_at=self._started_at,
            acted_at=self._acted_at,
            verified_at="" if self._prediction is not None or error else now(),
        )
