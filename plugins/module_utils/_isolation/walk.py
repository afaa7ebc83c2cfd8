# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The walk: one container, led from what it is to what its claims want.

Isolating, releasing, repairing and ending by time are the same walk with another change of claims:

    read -> claims -> wanted state -> plan -> record -> act -> verify -> outcome

A walk has two parts, so that all containers of a batch are paused before the first one leaves its networks: begin()
goes as far as the pause, finish() does the rest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import advice
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import entry as phases
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.act import (
    NOTHING_DONE,
    Attempt,
    NetworkLocks,
    perform,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import (
    Change,
    Found,
    Hold,
    Take,
    with_endpoints,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import SHARER, Claim, sum_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry, shown_claims
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import (
    JournalError,
    Refused,
    StepFailed,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import GroundTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal, Tombstone
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import (
    RESUMING,
    Step,
    Want,
    comes_back_by_itself,
    missing_steps,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.preflight import (
    Preflight,
    check_giving_back,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import (
    Proof,
    read_proof,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import (
    Verification,
    missing_networks,
    not_restored,
    verify,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    BUSY,
    FAILED,
    HELD,
    ISOLATED,
    REFUSED,
    RELEASED,
    SUPERSEDED,
    UNKNOWN,
    WOULD_ISOLATE,
    WOULD_RELEASE,
)

MAX_ROUNDS = 3
"""How often to read, plan and act before the state that is left counts, where nothing failed in a way that may pass."""
_SETTLE_POLL = 0.05

_REMEDIES = {
    ISOLATED: "Do not count on it being cut off. Run again; if that does not help, stop it or cut the host off",
    RELEASED: "The journal has kept the snapshot. Mend what is named, then release it again. What a failed connect "
    "leaves behind goes away only when the container is stopped",
}


@dataclasses.dataclass(frozen=True)
class Tools:
    """What a walk works with.

    Attributes:
        engine: the engine.
        journal: of the same host.
        truth: the kernel of that host.
        retry: how often to try again what may pass.
        settle_timeout: seconds to wait for a restarting container to stand still.
        busy_timeout: seconds to wait for another run that works on the same container to end, before what that run
            made of it is verified.
        now: the time by the clock of the controller.
        locks: those of the networks, for all walks at the same time.
    """

    engine: Engine
    journal: Journal
    truth: GroundTruth
    retry: Retry
    settle_timeout: float
    busy_timeout: float
    now: t.Callable[[], datetime.datetime]
    locks: NetworkLocks = dataclasses.field(default_factory=NetworkLocks)

    def read(self, container_id: str) -> ContainerState:
        """The state of the container with that full id now. Raises EngineError."""
        found = self.retry.call(lambda: self.engine.inspect_container(container_id))
        if found["Id"] != container_id:
            # The engine looks for names, too, and somebody may have named a container with the id of one that is gone.
            raise NotFound(f"container {container_id[:12]} no longer exists", status=404)
        return ContainerState.from_inspect(found)

    def read_settled(self, container_id: str) -> ContainerState:
        """The state once the container is no longer between two runs. Raises EngineError."""
        deadline = time.monotonic() + self.settle_timeout
        state = self.read(container_id)
        while state.restarting and time.monotonic() < deadline:
            time.sleep(_SETTLE_POLL)
            state = self.read(container_id)
        return state

    def read_owner(self, state: ContainerState) -> ContainerState | None:
        """The container whose network this one uses; None where it uses none, or that is gone. Raises EngineError."""
        if not state.network_owner:
            return None
        try:
            return self.read(state.network_owner)
        except NotFound:
            return None

    def verify(
        self, state: ContainerState, want: Want, owner_held: str = "", paused_at: float = float("inf")
    ) -> tuple[Verification, Proof]:
        """Whether a state that was read just now is as wanted, and what proves it. Raises EngineError."""
        owner = self.read_owner(state)
        proof = read_proof(self.engine, self.truth, state, want, owner, owner_held, paused_at)
        return verify(state, want, proof), proof


def want_of(entry: Entry, end_first: str = "") -> Want:
    """What the claims of an entry want."""
    return Want(entry.snapshot, entry.hold, entry.held, entry.owes_start, end_first)


class Walk:
    """One attempt on one container.

    Args:
        tools: what it works with.
        container_id: full id.
        change: what is to become of its claims.
        check: only say what would be done.
        patient: wait for another run that works on the container before anything is done, rather than afterwards.
    """

    def __init__(
        self, tools: Tools, container_id: str, change: Change, check: bool = False, patient: bool = True
    ) -> None:
        self._tools = tools
        self._id = container_id
        self._change = change
        self._check = check
        self._patient = patient
        self._lock = contextlib.ExitStack()
        self._outcome: Outcome | None = None
        self._busy: JournalError | None = None
        self._attempt: Attempt  # from reading on
        self._before: Entry | None = None
        self._entry: Entry
        self._preflight: Preflight
        self._steps: list[Step] = []
        self._acted = NOTHING_DONE
        self._proof = Proof()

    # --- the driver ---------------------------------------------------------------------------------------------------

    def begin(self) -> Walk:
        """Read, plan, record, and pause where that is wanted.

        Raises:
            EngineError, JournalError: before anything was touched. Afterwards every trouble is part of the outcome.
        """
        try:
            if self._enter(None if self._patient else 0):
                self._prepare()
        except BaseException:
            self._lock.close()
            raise
        if self._outcome:
            self._lock.close()
        return self

    def finish(self) -> Outcome:
        """Do the rest, and say what is true. Raises as begin(), where another run kept this one waiting."""
        with self._lock:
            if self._busy:
                self._wait_for_the_other()
            if self._outcome is None:
                self._outcome = self._carry_out()
        return self._outcome

    def run(self) -> Outcome:
        """Both parts."""
        return self.begin().finish()

    @property
    def shares_network(self) -> bool:
        """Whether the container uses the network of another one, once begun."""
        attempt = getattr(self, "_attempt", None)
        return attempt is not None and bool(attempt.before.network_owner)

    def _prepare(self) -> None:
        """From reading to the pause, under the lock."""
        self._read()
        if self._outcome is None:
            self._plan()
        if self._outcome is None:
            self._record()
        if self._outcome is None and self._steps and self._steps[0].action == "pause":
            self._acted = perform(self._steps[:1], self._tools.engine, self._attempt, self._tools.locks)
            self._steps = self._steps[1:]

    def _carry_out(self) -> Outcome:
        """From the first step after the pause to the outcome, under the lock."""
        outcome = self._converge()
        if self._want.hold:
            return self._confirmed(outcome) if outcome.ok else self._put_back(outcome)
        return self._given_back(outcome) if outcome.ok else self._put_back(outcome)

    # --- read ---------------------------------------------------------------------------------------------------------

    def _enter(self, timeout: float | None) -> bool:
        """Whether this walk has the container for itself."""
        if self._check:
            return True  # it writes nothing, and a lock is a file
        try:
            self._lock.enter_context(self._tools.journal.lock(self._id, timeout))
        except JournalError as error:
            if error.kind != "busy":
                self._contain(error)
                return False
            self._busy = error
            return False
        return True

    def _read(self) -> None:
        tools = self._tools
        self._attempt = Attempt(tools.read(self._id))
        try:
            self._before = tools.journal.load(self._id)
        except JournalError as error:
            self._contain(error)
            return
        if self._before and self._before.phase == phases.RELEASING and not self._before.claims:
            want = want_of(self._before)
            if isinstance(self._change, Hold) and self._change.claims and tools.verify(self._attempt.before, want)[0]:
                # Where only the removal of the entry failed it was released, and the snapshot is history.
                self._before = None

    # --- claims, wanted state, plan -----------------------------------------------------------------------------------

    def _plan(self) -> None:
        state, before, change = self._attempt.before, self._before, self._change
        if isinstance(change, Take) and before is None:
            self._outcome = self._not_recorded()
            return
        superseded = self._superseded()
        if superseded:
            self._attempt.warnings.append(superseded)
            self._outcome = self._attempt.outcome(SUPERSEDED)
            return
        owner = self._tools.read_owner(state)
        try:
            if isinstance(change, Take):
                before = self._before = self._without_gone_sharers(t.cast(Entry, before))
                self._check_taking(before)
            entry, warnings = change.apply(before, Found(state, owner, self._tools.now()))  # type: ignore[arg-type]
            end_first = state.started_at if isinstance(change, Take) and change.restart and state.running else ""
            want = want_of(entry, "" if entry.claims or not entry.snapshot.running else end_first)
            self._preflight = Preflight(want)
            if want.held != want.hold or not want.hold:
                self._preflight = check_giving_back(self._tools.engine, state, want, owner, entry.since)
                self._check_problems()
            if self._want.must_start(state):
                # On record before it is started, so that whoever goes on after a crash knows that the guard did it.
                entry = dataclasses.replace(entry, owes_start=True)
                self._preflight = self._preflight._replace(want=dataclasses.replace(self._want, owes_start=True))
        except Refused as refusal:
            self._outcome = self._attempt.outcome(REFUSED, error=refusal)
            return
        self._entry = entry
        self._attempt.warnings += warnings
        if want.hold and isinstance(change, Hold):
            self._attempt.warnings += advice.of_isolating(state, want.hold)
        self._attempt.changed = self._entry != before
        self._steps = self._missing(state)
        if self._check:
            self._outcome = self._predicted()

    @property
    def _want(self) -> Want:
        return self._preflight.want

    def _superseded(self) -> str:
        received_at = self._change.received_at if isinstance(self._change, Hold) else ""
        tombstone = self._tools.journal.tombstone(self._id) if received_at else None
        policy_id = next((claim.subject for claim in t.cast(Hold, self._change).claims), "") if received_at else ""
        if tombstone is None or not tombstone.supersedes(received_at, policy_id):
            return ""
        return f"{tombstone.actor or 'somebody'} released it at {tombstone.time}, after the alert was received"

    def _check_taking(self, entry: Entry) -> None:
        change = t.cast(Take, self._change)
        if entry.claims and not any(change.takes(claim) for claim in entry.claims):
            if not entry.own_claims and not change.sharer:
                raise self._needed_by_sharers(entry, "cannot be released")
            raise Refused(
                f"nobody whose isolation is to end holds container {entry.snapshot.name}",
                kind="not_claimed",
                remedy="Nothing was touched. isolation_info says who holds it",
            )

    def _check_problems(self) -> None:
        if not self._preflight.problems:
            return
        problems = "; ".join(self._preflight.problems)
        if isinstance(self._change, Take) and self._change.force:
            self._attempt.warnings.append(f"released all the same: {problems}")
            return
        raise Refused(
            f"container {self._attempt.before.name} cannot be released: {problems}",
            remedy="Nothing was touched. Mend what is named, then release it again",
        )

    def _missing(self, state: ContainerState) -> list[Step]:
        """The steps that are missing in a state, those on the owner of its network included."""
        want = self._want
        steps = missing_steps(state, want)
        if want.end_first and steps and steps[0].action == "kill":
            if not self._check:
                return steps
            # Check mode shows what would follow.
            ended = dataclasses.replace(state, running=False, paused=False, started_at="")
            return [*steps, *self._missing(ended)]
        owner = want.snapshot.network_owner
        if not owner:
            return steps
        if want.hold.networks and self._owner_must_leave(owner):
            # After it is paused, before it is ended.
            at = next((index for index, step in enumerate(steps) if step.action != "pause"), len(steps))
            steps.insert(at, self._on_owner("isolate_network", owner))
        if want.held.networks and not want.hold.networks and self._owner_is_held():
            steps.insert(0, self._on_owner("release_network", owner))
        return steps

    # --- record -------------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        if self._attempt.before.restarting and self._want.hold and not self._entry.owes_start:
            # Nothing but a stop ends that, so that whoever releases it has to start it.
            self._entry = dataclasses.replace(self._entry, owes_start=True)
        if self._entry == self._before:
            return
        try:
            self._tools.journal.store(self._entry)
        except JournalError as error:
            self._contain(error)

    def _contain(self, trouble: JournalError) -> None:
        """Containment before book-keeping: where the journal cannot be used, a container can still be paused."""
        pauses = isinstance(self._change, Hold) and any(claim.goal.pause for claim in self._change.claims)
        if not pauses or self._check:
            raise trouble
        attempt = self._attempt = Attempt(self._tools.read(self._id))
        state = attempt.before
        if state.running and not state.paused:
            step = next(iter(missing_steps(state, Want(state, Goal(pause=True), Goal(pause=True)))))
            perform([step], self._tools.engine, attempt, self._tools.locks)
            attempt.after = self._tools.read(self._id)
        paused = attempt.after is not None and attempt.after.paused
        self._outcome = attempt.outcome(
            FAILED,
            error=GuardError(
                "container {} is {}and not cut off: {}".format(
                    state.name, "paused " if paused else "", trouble.message
                ),
                kind=trouble.kind,
                remedy=f"{trouble.remedy}. Then isolate it again, or give it back by docker unpause {state.name}",
            ),
        )

    # --- act and verify -----------------------------------------------------------------------------------------------

    def _converge(self) -> Outcome:
        """Act and read again until nothing is missing. What was read last decides, whatever the steps answered."""
        tools, attempt = self._tools, self._attempt
        reached = ISOLATED if self._want.hold else RELEASED
        delays, rounds = tools.retry.delays(), 0
        try:
            while True:
                acted = self._acted.and_then(
                    perform(self._steps, tools.engine, attempt, tools.locks, self._hold_back)
                    if not self._acted.unanswered
                    else NOTHING_DONE
                )
                self._acted = NOTHING_DONE
                attempt.after = state = tools.read_settled(self._id)
                self._extend(state)
                self._steps = self._missing(state)
                verification, self._proof = tools.retry.call(
                    functools.partial(tools.verify, state, self._want, self._owner_still_held(), attempt.paused_at)
                )
                if not self._steps:
                    break
                delay = next(delays, None) if acted.may_pass else None
                if delay is not None:
                    tools.retry.sleep(delay)
                    continue
                rounds += 1
                untried = any(str(step) not in acted.tried for step in self._steps)
                if rounds == MAX_ROUNDS or (acted.may_pass and not untried):
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
        attempt.warnings += verification.warnings
        if verification:
            held = bool(self._want.hold) and not attempt.steps and self._held_before(state)
            return attempt.outcome(HELD if held else reached)
        troubles = [*verification.contradictions, *map(str, verification.unmet)]
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

    def _held_before(self, state: ContainerState) -> bool:
        before = self._before
        return before is not None and before.phase == phases.ISOLATED and before.started_at in ("", state.started_at)

    def _extend(self, state: ContainerState) -> None:
        """Record what has to be known before the next steps: networks that it joined meanwhile, a pending restart."""
        if not self._want.hold:
            return
        extended = with_endpoints(self._entry, state)
        if state.restarting:
            extended = dataclasses.replace(extended, owes_start=True)
        if extended != self._entry:
            self._tools.journal.store(extended)
            self._entry = extended
            self._preflight = self._preflight._replace(want=want_of(extended))

    def _hold_back(self, step: Step) -> str:
        """Why a step must not be done now: one that runs again, or may be started, must have all its networks."""
        if self._want.hold or step.action not in RESUMING:
            return ""
        state = self._tools.read(self._id)
        _verification, proof = self._tools.verify(state, self._want, self._owner_still_held())
        return "; ".join(map(str, missing_networks(state, self._want, proof)))

    # --- outcome ------------------------------------------------------------------------------------------------------

    def _confirmed(self, outcome: Outcome) -> Outcome:
        """The outcome, once the journal says that it was verified, and of which process."""
        state = t.cast(ContainerState, self._attempt.after)
        hold, entry = self._want.hold, self._entry
        ended = entry.snapshot.running and not state.running and not hold.ends
        networks = {**entry.networks, **_definitions(self._proof, entry)}
        confirmed = dataclasses.replace(
            entry,
            phase=phases.ISOLATED,
            started_at=state.started_at,
            held=hold,
            owes_start=entry.owes_start
            or (entry.held.ends and not hold.ends)
            or (ended and comes_back_by_itself(entry.snapshot.restart_policy, state)),
            ended_at=state.finished_at if ended else "",
            networks=networks,
        )
        warnings = [*outcome.warnings, *advice.of_what_is_left(self._attempt.before, _networks_of(outcome), hold)]
        if confirmed != entry:
            try:
                self._tools.journal.store(confirmed)
            except JournalError as error:
                # It is isolated, and the entry of before the first action is enough to release it.
                warnings.append(f"the journal still says that it is being isolated: {error.message}")
        outcome = dataclasses.replace(outcome, warnings=tuple(warnings), **_claims_of(confirmed))
        if isinstance(self._change, Take):
            return self._partly_given_back(outcome, confirmed)
        return outcome

    def _given_back(self, outcome: Outcome) -> Outcome:
        """The outcome, once the journal has forgotten the isolation and remembers the release."""
        outcome = dataclasses.replace(self._reported(outcome), changed=True)
        # In this order: an alert that waits for the lock must find one of them.
        for book_keeping in (self._bury, lambda: self._tools.journal.remove(self._id)):
            try:
                book_keeping()
            except JournalError as error:
                outcome = dataclasses.replace(outcome, error=error.to_dict())
        return outcome

    def _partly_given_back(self, outcome: Outcome, entry: Entry) -> Outcome:
        """The outcome of a release that others keep from being a whole one."""
        change = t.cast(Take, self._change)
        outcome = dataclasses.replace(outcome, outcome=HELD, changed=True)
        try:
            self._bury()
        except JournalError as error:
            return dataclasses.replace(outcome, error=error.to_dict())
        if change.sharer:
            return outcome
        who = ", ".join(_named(claim, self._tools.journal) for claim in entry.claims)
        still = f"container {entry.snapshot.name} is still held by {who}: {', '.join(entry.hold.actions())}"
        if not change.remembered:
            return dataclasses.replace(outcome, warnings=(still, *outcome.warnings))
        trouble = GuardError(still, kind="still_held", remedy="What was to end has ended. Release what holds it, too")
        return dataclasses.replace(outcome, error=trouble.to_dict())

    def _bury(self) -> None:
        """Remember a person's release, so that no alert that was received before it isolates the container again."""
        change = self._change
        if not (isinstance(change, Take) and change.remembered) or self._check:
            return
        before = self._before
        left = self._entry.own_claims if before else ()
        taken = [claim.subject for claim in before.own_claims if change.takes(claim)] if before else []
        moment = self._tools.now()
        self._tools.journal.bury(self._id, Tombstone.of(moment, change.cause.actor, taken if left else ()))

    def _put_back(self, outcome: Outcome) -> Outcome:
        """After giving back failed halfway: hold up again what was held before, as far as that can be done."""
        before = self._before
        if not isinstance(self._change, Take) or before is None or not before.claims or outcome.outcome == UNKNOWN:
            return self._reported(outcome)
        try:
            state = self._tools.read(self._id)
            owes_start = before.owes_start or (self._entry.owes_start and not state.running)
            entry = dataclasses.replace(before, phase=phases.ISOLATING, owes_start=owes_start)
            want = want_of(entry)
            self._tools.journal.store(entry)
            perform(missing_steps(state, want), self._tools.engine, self._attempt, self._tools.locks)
            self._attempt.after = state = self._tools.read_settled(self._id)
            verification, _proof = self._tools.verify(state, want)
            if verification:
                confirmed = dataclasses.replace(entry, phase=phases.ISOLATED, started_at=state.started_at)
                self._tools.journal.store(confirmed)
        except GuardError as error:
            return dataclasses.replace(outcome, warnings=(*outcome.warnings, f"not cut off again: {error.message}"))
        said = (
            "it is isolated again"
            if verification
            else "it is not isolated again: {}".format(
                "; ".join([*verification.contradictions, *map(str, verification.unmet)])
            )
        )
        again = self._attempt.outcome(outcome.outcome)
        return dataclasses.replace(outcome, steps=again.steps, after=again.after, warnings=(*outcome.warnings, said))

    def _reported(self, outcome: Outcome) -> Outcome:
        """The outcome of giving back, with what is not as it was."""
        if self._want.hold:
            return outcome
        want, state = self._want, self._attempt.after
        snapshot = want.snapshot
        predicted = self._check
        new_process = (
            bool(want.end_first) or want.held.ends or not snapshot.running
            if predicted
            else state is not None and (state.started_at != snapshot.started_at or not state.running)
        )
        if predicted and self._attempt.before.started_at != snapshot.started_at:
            new_process = True
        differences: list[t.Mapping[str, str]] = [*self._preflight.recreated]
        if new_process and snapshot.running and not snapshot.restarting and (predicted or (state and state.running)):
            # What they held in memory, in tmpfs and in /dev/shm is gone for good.
            differences.append({"what": "processes", "before": "running", "after": "started anew"})
        if state and outcome.verified_at and not predicted:
            differences += not_restored(state, want)
        # Its sockets outlive pause and disconnect, and peers retransmit into the reconnected interface (measured).
        resume = snapshot.running and not (snapshot.paused or snapshot.restarting or new_process)
        warnings = [*outcome.warnings]
        owner_stays = self._owner_stays()
        if owner_stays:
            warnings.insert(0, owner_stays)
            resume = False
        warnings += advice.of_releasing(differences, self._preflight.conflicts, resume and outcome.ok)
        return dataclasses.replace(
            outcome,
            not_restored=tuple(differences),
            conflicts=self._preflight.conflicts,
            sessions_may_resume=resume,
            warnings=tuple(warnings),
        )

    def _predicted(self) -> Outcome:
        """What check mode says."""
        attempt, want, entry = self._attempt, self._want, self._entry
        if want.hold and not self._steps and self._held_before(attempt.before) and isinstance(self._change, Hold):
            return dataclasses.replace(self._converge(), changed=entry != self._before, **_claims_of(entry))
        attempt.plan(self._steps)
        if not want.hold:
            attempt.changed = True
            return self._reported(attempt.outcome(WOULD_RELEASE))
        outcome = attempt.outcome(WOULD_ISOLATE if isinstance(self._change, Hold) else WOULD_RELEASE)
        left = advice.of_what_is_left(attempt.before, _networks_of(outcome), want.hold)
        return dataclasses.replace(outcome, warnings=(*outcome.warnings, *left), **_claims_of(entry))

    def _not_recorded(self) -> Outcome:
        attempt, state = self._attempt, self._attempt.before
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
        outcome = attempt.outcome(RELEASED)
        try:
            self._bury()
        except JournalError as error:
            return dataclasses.replace(outcome, error=error.to_dict())
        return outcome

    # --- another run --------------------------------------------------------------------------------------------------

    def _wait_for_the_other(self) -> None:
        """Go on once another run has let go of the container; where it does not, say what it made of it so far."""
        busy, self._busy = self._busy, None
        if not self._patient and self._enter(self._tools.busy_timeout):
            self._prepare()
            return
        self._attempt = Attempt(self._tools.read(self._id))
        entry = self._tools.journal.load(self._id)
        if isinstance(self._change, Hold) and entry is not None and self._asked_for(entry):
            verification, _proof = self._tools.verify(self._attempt.before, want_of(entry))
            if verification:
                self._attempt.warnings.append("another run isolated it, and is still at it")
                self._outcome = self._attempt.outcome(HELD)
                return
        self._outcome = self._attempt.outcome(BUSY, error=self._busy or busy)

    def _asked_for(self, entry: Entry) -> bool:
        wanted = sum_of(t.cast(Hold, self._change).claims)
        return entry.hold.with_all_of(wanted) == entry.hold

    # --- containers that use the network of another one ---------------------------------------------------------------

    def _owner_must_leave(self, owner: str) -> bool:
        """Whether the owner of its network is on what must be left, or could come back there meanwhile.

        Raises EngineError, JournalError.
        """
        held = self._tools.journal.load(owner)
        if held is not None and (self._id not in held.sharers or held.phase != phases.ISOLATED):
            return True
        try:
            state = self._tools.read(owner)
        except NotFound:
            return False
        return any(self._want.hold.cuts(endpoint) for endpoint in state.live_endpoints)

    def _owner_entry(self) -> Entry | None:
        """The isolation of the container whose network this one uses. Raises JournalError."""
        owner = self._want.snapshot.network_owner
        return self._tools.journal.load(owner) if owner and self._want.held.networks else None

    def _owner_is_held(self) -> bool:
        held = self._owner_entry()
        # One that is there for nobody is left of a release that was interrupted.
        return held is not None and (self._id in held.sharers or not held.claims)

    def _owner_still_held(self) -> str:
        if self._want.hold.networks or not self._owner_is_held():
            return ""
        return "the container whose network it uses is still off its networks"

    def _owner_stays(self) -> str:
        held = self._owner_entry() if not self._want.hold.networks else None
        if held is None or (self._check and not [c for c in held.claims if c.key != (SHARER, self._id)]):
            return ""
        return f"its network stays off, as container {held.snapshot.name} is isolated, too"

    def _on_owner(self, action: str, owner: str) -> Step:
        """A walk on the owner of its network, as one step of this one."""
        tools, entry = self._tools, self._entry
        change: Change
        if action == "isolate_network":
            moment = tools.now()
            goal = Goal(networks=self._want.hold.networks)
            claim = dataclasses.replace(Claim.of(goal, entry.cause, moment), kind=SHARER, subject=self._id)
            change = Hold((claim,))
        else:
            change = Take(sharer=self._id)

        def run(_engine: Engine) -> None:
            try:
                outcome = Walk(tools, owner, change).run()
            except NotFound as error:
                if isinstance(change, Hold):
                    raise StepFailed(error.message) from error
                tools.journal.remove(owner)
                return
            except GuardError as error:
                raise StepFailed(error.message) from error
            if not outcome.ok:
                raise StepFailed((outcome.error or {})["message"], changed=outcome.changed)

        held = tools.journal.load(owner)
        return Step(action, run, held.snapshot.name if held else self._owner_name(owner))

    def _owner_name(self, owner: str) -> str:
        try:
            return self._tools.read(owner).name
        except NotFound:
            return owner[:12]

    def _without_gone_sharers(self, entry: Entry) -> Entry:
        """The entry without sharers that the journal forgot: they keep no network off."""
        left = tuple(c for c in entry.claims if c.kind != SHARER or self._tools.journal.load(c.subject))
        return entry if left == entry.claims else dataclasses.replace(entry, claims=left)

    def _needed_by_sharers(self, entry: Entry, what: str) -> Refused:
        names = [_named(claim, self._tools.journal) for claim in entry.claims]
        return Refused(
            "container {} {}: {} {} its network and {} isolated".format(
                entry.snapshot.name, what, ", ".join(names), *(("uses", "is") if len(names) == 1 else ("use", "are"))
            ),
            remedy="Nothing was touched. Release {} first".format(", ".join(names)),
        )


def _named(claim: Claim, journal: Journal) -> str:
    """Who claims, for people."""
    if claim.kind != SHARER:
        return f"policy {claim.subject}" if claim.subject else claim.cause.actor or "a person"
    sharer = journal.load(claim.subject)
    return sharer.snapshot.name if sharer else claim.subject[:12]


def _networks_of(outcome: Outcome) -> t.Sequence[str]:
    return tuple(outcome.after.get("networks", ()))


def _claims_of(entry: Entry) -> dict[str, t.Any]:
    return {"claims": tuple(shown_claims(entry)), "expires_at": entry.expires_at}


def _definitions(proof: Proof, entry: Entry) -> dict[str, t.Mapping[str, t.Any]]:
    """What is needed to make the networks anew that it left."""
    found: dict[str, t.Mapping[str, t.Any]] = {}
    for endpoint in entry.snapshot.endpoints:
        network = proof.networks.get(endpoint.reference)
        if network and entry.hold.cuts(endpoint):
            found[endpoint.network] = {name: network[name] for name in _DEFINITION if name in network}
    return found


_DEFINITION = (
    "Name",
    "Id",
    "Scope",
    "Driver",
    "EnableIPv4",
    "EnableIPv6",
    "IPAM",
    "Internal",
    "Attachable",
    "Options",
    "Labels",
)
