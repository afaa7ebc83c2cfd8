# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating: record, act, verify, and say what is true."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import (
    format_timestamp,
    now,
    parse_timestamp,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import journal as journal_phases
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import (
    JournalError,
    Refused,
    StepFailed,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import (
    UNSTATED,
    Cause,
    Entry,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import (
    ISOLATED,
    REFUSED,
    Outcome,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import (
    Goal,
    Step,
    applicable,
    isolation_steps,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.reconciler import Attempt
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.releaser import Releaser
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    NO_NETWORK,
    ContainerState,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import (
    Verification,
    verify_isolated,
    verify_released,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action

MAX_RELEASE_AFTER = 31_536_000
"""Longest time after which an isolation may end by itself, in seconds: a year."""


class Isolator(Releaser):
    """Isolates and releases the containers of one engine."""

    def isolate(
        self,
        container_id: str,
        actions: t.Sequence[Action],
        cause: Cause = UNSTATED,
        check: bool = False,
        *,
        force: bool = False,
        release_after: int = 0,
    ) -> Outcome:
        """Cut the container off.

        A container that uses the network of another one is cut off by taking that one off its networks.

        Args:
            container_id: full id.
            actions: what to do; joined with what holds already.
            cause: why, for the journal.
            check: only say what would be done.
            force: end it also where the engine deletes it then.
            release_after: seconds after which it may be released, 0 for never. Of several the one that ends last holds.

        Raises:
            EngineError, JournalError, PolicyError: before anything was touched. Afterwards every trouble is part of the
                outcome.
        """
        return self.hold(container_id, Goal.of(actions), cause, check, force=force, release_after=release_after)

    def hold(
        self,
        container_id: str,
        wanted: Goal,
        cause: Cause = UNSTATED,
        check: bool = False,
        *,
        force: bool = False,
        release_after: int | None = 0,
        for_sharer: str = "",
    ) -> Outcome:
        """As isolate, by a goal.

        Args:
            container_id, cause, check, force: as for isolate.
            release_after: as for isolate; None to leave it as it is.
            wanted: the goal.
            for_sharer: the container that uses its network and for the sake of which it is done, or empty.
        """
        with self._lock(container_id, check):
            attempt = Attempt(self.read(container_id))
            before = attempt.before
            owner = self.read_owner(before)
            entry = self._current(container_id, before)
            try:
                if entry:
                    entry.goal.joined(wanted)  # says so where they exclude each other
                wanted, reasons = applicable(before, wanted, force, owner)
                goal = entry.goal.joined(wanted) if entry else wanted
            except Refused as refusal:
                return attempt.outcome(REFUSED, error=refusal)
            attempt.warnings += [f"not applied: {reason}" for reason in reasons]
            attempt.warnings += _warnings_of_others(before, goal)
            planned = _entry_for(entry, before, goal, cause, release_after, for_sharer)
            attempt.changed = planned != entry

            def plan(state: ContainerState) -> list[Step]:
                nonlocal planned
                extended = _with_endpoints(planned, state)
                if extended != planned:
                    if not check:
                        self._journal.store(extended)
                    planned = extended
                if state.restarting and not planned.ended:
                    # Nothing but a stop ends that, so that whoever releases it has to start it.
                    planned = dataclasses.replace(planned, ended=True)
                    if not check:
                        self._journal.store(planned)
                steps = isolation_steps(state, goal)
                if owner and goal.networks and not self._is_off_for(owner.id, before.id, goal):
                    # After it is paused, before it is ended.
                    at = next((index for index, step in enumerate(steps) if step.action != "pause"), len(steps))
                    steps.insert(at, self._isolate_owner_step(owner, before.id, goal, cause))
                return steps

            steps = plan(before)
            if check:
                attempt.plan(steps)
                return _finished(attempt.outcome(ISOLATED), before, goal, planned)
            if planned != entry:
                self._journal.store(planned)
            outcome = self._converge(
                attempt,
                steps,
                plan=plan,
                verify=lambda state: self._verify(state, planned.snapshot, goal),
                reached=ISOLATED,
            )
            outcome = _finished(outcome, before, goal, planned)
            return self._confirmed(outcome, planned, attempt.after) if outcome.ok else outcome

    def verify(self, entry: Entry) -> tuple[ContainerState, Verification]:
        """The state of an isolated container, and whether the isolation holds. Raises EngineError."""
        state = self.read(entry.snapshot.id)
        return state, self._verify(state, entry.snapshot, entry.goal)

    def _verify(self, state: ContainerState, snapshot: ContainerState, goal: Goal) -> Verification:
        owner = self.read_owner(state)
        return verify_isolated(self._engine, state, snapshot, goal, self._interfaces, owner)

    def _current(self, container_id: str, state: ContainerState) -> Entry | None:
        """The isolation that the journal has of the container. Raises JournalError, EngineError."""
        entry = self._journal.load(container_id)
        if entry is None or entry.phase != journal_phases.RELEASING:
            return entry
        # Where only the removal of the entry failed it was released, and the snapshot is history.
        return None if verify_released(self._engine, state, entry.snapshot, entry.to_undo) else entry

    def _confirmed(self, outcome: Outcome, planned: Entry, state: ContainerState | None) -> Outcome:
        """The outcome, once the journal says that it was verified, and of which process."""
        started_at = state.started_at if state else ""
        confirmed = dataclasses.replace(planned, phase=journal_phases.ISOLATED, started_at=started_at)
        if confirmed != planned:
            try:
                self._journal.store(confirmed)
            except JournalError as error:
                # It is isolated, and the entry of before the first action is enough to release it.
                warning = f"the journal still says that it is being isolated: {error.message}"
                return dataclasses.replace(outcome, warnings=(*outcome.warnings, warning))
        return outcome

    # --- containers that use the network of another one ---------------------------------------------------------------

    def _is_off_for(self, owner_id: str, sharer: str, goal: Goal) -> bool:
        """Whether the owner of a network is off what must be left, and stays so while the sharer is isolated.

        Raises EngineError, JournalError.
        """
        held = self._journal.load(owner_id)
        if held is not None and (sharer not in held.for_sharers or held.phase != journal_phases.ISOLATED):
            return False
        return not any(goal.cuts(endpoint) for endpoint in self.read(owner_id).live_endpoints)

    def _isolate_owner_step(self, owner: ContainerState, sharer: str, goal: Goal, cause: Cause) -> Step:
        def run(_engine: Engine) -> None:
            try:
                outcome = self.hold(owner.id, Goal(networks=goal.networks), cause, for_sharer=sharer)
            except GuardError as error:
                raise StepFailed(error.message) from error
            if not outcome.ok:
                raise StepFailed((outcome.error or {})["message"], changed=outcome.changed)

        return Step("isolate_network", run, owner.name)


def _finished(outcome: Outcome, before: ContainerState, goal: Goal, entry: Entry) -> Outcome:
    """The outcome, with a warning where the container stays reachable by a published port."""
    outcome = dataclasses.replace(outcome, expires_at=entry.expires_at)
    left = [name for name in outcome.after.get("networks", ()) if name != NO_NETWORK]
    if not (goal.networks and left and any(before.ports.values())):
        return outcome
    # Taking it off the network that is its gateway moves published ports to another one (measured).
    warning = f"its published ports stay reachable through network {', '.join(left)}"
    return dataclasses.replace(outcome, warnings=(*outcome.warnings, warning))


def _warnings_of_others(state: ContainerState, goal: Goal) -> list[str]:
    """What compose, swarm and whoever watches its health will do to a container that is isolated so (measured)."""
    swarm = any(name.startswith("com.docker.swarm.") for name in state.labels)
    compose = any(name.startswith("com.docker.compose.") for name in state.labels)
    warnings = []
    if goal.ends and swarm:
        warnings.append("swarm starts another one in its place within seconds; pause keeps it from that")
    if goal.ends and compose:
        warnings.append("docker compose up starts it again; pause keeps it from that")
    if goal.networks and compose and not (goal.pause or goal.ends):
        warnings.append("docker compose up may re-create it, as it misses a network; pause keeps it from that")
    if goal.pause and state.health_checked:
        warnings.append("it turns unhealthy while it is paused, and what watches its health may restart it")
    return warnings


def _entry_for(
    entry: Entry | None, state: ContainerState, goal: Goal, cause: Cause, release_after: int | None, for_sharer: str
) -> Entry:
    """The entry of the journal that the isolation needs before it goes on."""
    if entry is None:
        entry = Entry(
            # A key without an interface is no attachment (measured), and nothing to give back.
            snapshot=dataclasses.replace(state, endpoints=state.live_endpoints),
            goal=goal,
            phase=journal_phases.ISOLATING,
            cause=cause,
            since=now(),
            own=not for_sharer,
        )
        return _with_sharer(_expiring(entry, release_after, first=True), for_sharer)
    extended = _with_sharer(_with_endpoints(dataclasses.replace(entry, goal=goal), state), for_sharer)
    if not for_sharer:
        extended = dataclasses.replace(_expiring(extended, release_after, first=not entry.own), own=True)
    same_process = not entry.started_at or entry.started_at == state.started_at
    if extended == entry and entry.phase != journal_phases.RELEASING and same_process:
        return entry
    return dataclasses.replace(extended, phase=journal_phases.ISOLATING)


def _with_sharer(entry: Entry, sharer: str) -> Entry:
    if not sharer or sharer in entry.for_sharers:
        return entry
    return dataclasses.replace(entry, for_sharers=(*entry.for_sharers, sharer))


def _expiring(entry: Entry, release_after: int | None, first: bool) -> Entry:
    """The entry with the time at which it ends: of all that were asked for, the last one, and never is later than any.

    What was asked for already does not count again, so that a second run changes nothing.
    """
    if release_after is None:
        return entry
    known = parse_timestamp(entry.expires_at)
    moment = datetime.datetime.now(datetime.timezone.utc)
    if known is not None and known <= moment:
        first, known = True, None  # it was to be over, and begins anew
    if not first and (release_after <= entry.release_after or known is None) and release_after:
        return entry
    if not release_after:
        return dataclasses.replace(entry, release_after=0, expires_at="")
    ends = moment + datetime.timedelta(seconds=release_after)
    latest = ends if known is None else max(ends, known)
    return dataclasses.replace(entry, release_after=release_after, expires_at=format_timestamp(latest))


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
