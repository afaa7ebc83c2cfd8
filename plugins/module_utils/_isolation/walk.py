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
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import advice, report
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.act import (
    NOTHING_DONE,
    Attempt,
    perform,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import (
    Change,
    Found,
    Hold,
    Take,
    with_endpoints,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import (
    SHARER,
    Claim,
    every_claim,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.converge import converge
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import ISOLATED as VERIFIED
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import (
    ISOLATING,
    RELEASING,
    Entry,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError, Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.giving_back import Preflight
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Tombstone
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import FAILED_STEP, Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.owner import NetworkOwner
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import (
    RESUMING,
    Step,
    Want,
    missing_steps,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import Proof
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.tools import Tools, want_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import (
    Verification,
    missing_networks,
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
        self._owner = network_owner(tools, container_id)
        self._lock = contextlib.ExitStack()
        self._busy: JournalError | None = None
        self._outcome: Outcome | None = None  # once there is one, the walk is over
        self._attempt: Attempt
        self._before: Entry | None = None
        self._entry: Entry
        self._preflight: Preflight
        self._steps: list[Step] = []
        self._acted = NOTHING_DONE
        self._recalled = False  # whether all is by what is remembered, and not by what is true

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
        """Do the rest, and say what is true.

        Raises as begin(), where another run kept this one waiting, or where the container has gone meanwhile.
        """
        with self._lock:
            if self._busy:
                self._wait_for_the_other(self._busy)
            if self._recalled and self._outcome is None:
                self._ground()
            if self._outcome is None:
                outcome, proof = self._converge()
                self._outcome = self._concluded(outcome, proof)
        return self._outcome

    def run(self) -> Outcome:
        """Both parts."""
        return self.begin().finish()

    @property
    def turn(self) -> int:
        """When it is finished in a batch, low numbers first.

        A container that uses the network of another one takes that one's lock, too, which may be held by this batch.
        One that another run works on waits for that.
        """
        return 2 if self._busy else int(bool(self._attempt.before.network_owner))

    @property
    def acts(self) -> bool:
        """Once begun: whether it has changed something, or is about to. False where another run keeps it waiting."""
        if self._outcome or self._busy or not hasattr(self, "_attempt"):
            return False
        return self._attempt.changed or bool(self._attempt.steps or self._steps)

    @property
    def interrupted(self) -> Entry | None:
        """Once begun: the isolation or release that it found unfinished: cut short, or without success."""
        return self._before if self._before and self._before.phase != VERIFIED else None

    def _prepare(self) -> None:
        """From reading to the pause, under the lock."""
        for stage in (self._read, self._change_claims, self._plan, self._record):
            try:
                stage()
            except JournalError as error:  # of this container, or of the one whose network it uses
                self._contain(error)
            if self._outcome:
                return
        self._pause()

    @property
    def _want(self) -> Want:
        return self._preflight.want

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
        before = self._tools.journal.load(self._id)
        state = self._remembered() if before is None else None
        self._recalled = state is not None
        self._attempt = Attempt(state or self._tools.read(self._id))
        if before and before.phase == RELEASING and not before.claims and self._adds_claims:
            # Where only the removal of the entry failed it was released, and the snapshot is history.
            verification, _proof = self._tools.verify(self._attempt.before, want_of(before))
            before = None if verification else before
        self._before = before

    @property
    def _adds_claims(self) -> bool:
        return isinstance(self._change, Hold) and bool(self._change.claims)

    @property
    def _wants_pause(self) -> bool:
        return isinstance(self._change, Hold) and any(claim.goal.pause for claim in self._change.claims)

    def _remembered(self) -> ContainerState | None:
        """The state to go by until it is paused, where that is known: no pause is to wait for an answer of the engine.

        Raises EngineError.
        """
        if self._check or not self._wants_pause:
            return None
        state = self._tools.recall(self._id)
        plain = state and state.running and not (state.paused or state.restarting or state.network_owner)
        return state if plain else None

    # --- claims, wanted state -----------------------------------------------------------------------------------------

    def _change_claims(self) -> None:
        try:
            self._outcome = self._told_at_once()
            if self._outcome is None:
                self._preflight = self._preflight_of(self._changed())
        except Refused as refusal:
            self._outcome = self._attempt.outcome(REFUSED, error=refusal)

    def _told_at_once(self) -> Outcome | None:
        """The outcome where no claim is to change: a release of what nobody holds, an alert of before a release."""
        change, attempt = self._change, self._attempt
        if isinstance(change, Take):
            if self._before is not None:
                self._before = self._without_gone_sharers(self._before)
                return None
            refusal = report.not_in_journal(attempt.before)
            if refusal:
                raise refusal
            attempt.warnings.append("it is not in the journal, so there is nothing to give back")
            self._remember()
            return attempt.outcome(WOULD_RELEASE if self._check else RELEASED)
        return self._superseded(change)

    def _superseded(self, change: Hold) -> Outcome | None:
        """The outcome where a person released it after the alert was received."""
        attempt = self._attempt
        tombstones = self._tools.journal.tombstones(self._id) if change.received_at else []
        policy_id = next((claim.subject for claim in change.claims), "")
        tombstone = next((one for one in tombstones if one.supersedes(change.received_at, policy_id)), None)
        if tombstone is None:
            return None
        attempt.warnings.append(
            f"{tombstone.actor or 'somebody'} asked for its release at {tombstone.time}, after the alert was received"
        )
        return attempt.outcome(SUPERSEDED)

    def _changed(self) -> Entry:
        """The entry with other claims. Raises Refused."""
        change, state = self._change, self._attempt.before
        found = Found(state, self._tools.read_owner(state), self._tools.now())
        if isinstance(change, Hold):
            changed = change.apply(self._before, found)
        else:
            changed = change.apply(t.cast(Entry, self._before), found, lambda claim: _named(claim, self._tools))
        self._attempt.warnings += changed.warnings
        return changed.entry

    def _preflight_of(self, entry: Entry) -> Preflight:
        """What is wanted by the entry, and what stands in the way of it. Raises Refused."""
        change, state = self._change, self._attempt.before
        preflight, down = Preflight(want_of(entry)), ""
        if preflight.want.gives_back_anything:
            # Isolating does not need it, and is not to wait for it.
            from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.preflight import (
                check_giving_back,
            )

            owner = self._tools.read_owner(state)
            recreate = isinstance(change, Take) and change.recreate_networks
            preflight = check_giving_back(
                self._tools.engine, self._tools.truth, state, preflight.want, owner, entry, recreate
            )
            entry = dataclasses.replace(entry, held=preflight.want.held)
            preflight = preflight.with_problem(self._owner.refusal(preflight.want))
            if preflight.want.must_start(state):
                down = self._owner.stays_down(state, owner)
                preflight = preflight.with_problem(down)
        if preflight.problems:
            problems = "; ".join(preflight.problems)
            if isinstance(change, Hold) and entry.hold:
                # What an interrupted release owes is no reason not to cut it off.
                self._attempt.warnings.append(f"not given back yet: {problems}")
                preflight = Preflight(dataclasses.replace(want_of(entry), held=entry.hold))
            elif down or not (isinstance(change, Take) and change.force):  # no force starts it without that network
                raise Refused(
                    f"container {state.name} cannot be released: {problems}",
                    remedy="Nothing was touched. Mend what is named, then release it again",
                )
            else:
                self._attempt.warnings.append(f"released all the same: {problems}")
        if preflight.want.must_start(state) or (state.restarting and entry.hold):
            # On record before it is started, or before a pending restart is ended, which nothing but a stop does:
            # whoever goes on after a crash has to know that the guard did it.
            entry = dataclasses.replace(entry, owes_start=True)
            preflight = preflight._replace(want=dataclasses.replace(preflight.want, owes_start=True))
        self._entry = entry
        return preflight

    def _without_gone_sharers(self, entry: Entry) -> Entry:
        """The entry without sharers that the journal forgot: they keep no network off."""
        left = tuple(claim for claim in entry.claims if claim.kind != SHARER or self._is_known(claim.subject))
        return entry if left == entry.claims else dataclasses.replace(entry, claims=left)

    def _is_known(self, sharer: str) -> bool:
        try:
            return self._tools.journal.load(sharer) is not None
        except JournalError:
            return True  # what cannot be read is never guessed at

    # --- plan, record -------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        attempt, want = self._attempt, self._want
        if want.hold and isinstance(self._change, Hold):
            attempt.warnings += advice.of_isolating(attempt.before, want.hold, self._entry.snapshot.paused)
        attempt.changed = self._entry != self._before
        self._steps = self._missing(attempt.before)
        if self._check:
            self._outcome = self._predicted()

    def _missing(self, state: ContainerState) -> list[Step]:
        """The steps that are missing in a state, those on the owner of its network included."""
        steps = missing_steps(state, self._want)
        if [step.action for step in steps] == ["kill"] and self._want.end_first:
            # Nothing comes back before it is known to have ended; check mode shows what would follow.
            ended = dataclasses.replace(state, running=False, paused=False, started_at="")
            return [*steps, *(self._missing(ended) if self._check else ())]
        return self._owner.with_steps(steps, self._want, self._entry)

    def _record(self) -> None:
        if self._entry == self._before:
            return
        self._remember()  # also where it is killed before its end
        self._tools.journal.store(self._entry)

    def _contain(self, trouble: JournalError) -> None:
        """Containment before book-keeping: where the journal cannot be used, a container can still be paused."""
        if self._check or not self._wants_pause:
            raise trouble
        attempt = self._attempt = Attempt(self._tools.read(self._id))
        self._recalled = False
        self._outcome = self._superseded(t.cast(Hold, self._change))
        if self._outcome:
            return
        state, pause = attempt.before, Goal(pause=True)
        steps = [step for step in missing_steps(state, Want(state, pause, pause)) if step.action == "pause"]
        perform(steps, self._tools.engine, attempt, self._tools.locks)
        self._only_paused(trouble)

    def _only_paused(self, trouble: GuardError) -> None:
        """Leave it at the pause, and say so."""
        attempt, state = self._attempt, self._attempt.before
        try:
            attempt.after = self._tools.read(self._id)
        except EngineError as error:
            said = f"whether container {state.name} is paused cannot be read back: {error.message}; it is not cut off"
        else:
            said = f"container {state.name} is {'paused ' if attempt.after.paused else ''}and not cut off"
        self._outcome = attempt.outcome(
            FAILED if attempt.after else UNKNOWN,
            error=GuardError(
                f"{said}: {trouble.message}",
                kind=trouble.kind,
                # Nothing on record says who paused it, and a later release would leave it as it was found.
                remedy=f"{trouble.remedy}. Then isolate it again; once that is released, docker unpause {state.name} "
                "gives it back"
                if not self._recalled
                else f"{trouble.remedy}. It is in the journal, so that a release gives it back",
            ),
        )

    def _ground(self) -> None:
        """Go by what is true from now on, which is read once it is paused, and before anything else.

        Raises:
            EngineError: nothing was touched, as there is no such container any more.
        """
        attempt, paused = self._attempt, [step for step in self._attempt.steps if step.status != FAILED_STEP]
        try:
            state = self._tools.read(self._id)
        except NotFound:
            if not paused:
                self._tools.journal.remove(self._id)
                raise
            return  # it was removed since, which is told at the end
        except EngineError as error:
            self._only_paused(error)
            return
        attempt.after = state
        was = dataclasses.replace(state, paused=False, status="running") if paused and state.paused else state
        if was == attempt.before:
            return
        attempt.before, attempt.warnings = was, []
        self._change_claims()
        if self._outcome:  # which would say that nothing was touched
            self._outcome = None
            self._only_paused(GuardError("it is not what it was a moment ago", kind="changed", remedy="Look at it"))
            return
        self._plan()
        self._steps = self._missing(state)
        try:
            self._tools.journal.store(self._entry)
        except JournalError as error:
            self._only_paused(error)

    # --- act, verify --------------------------------------------------------------------------------------------------

    def _pause(self) -> None:
        if self._steps and self._steps[0].action == "pause":
            self._acted = perform(self._steps[:1], self._tools.engine, self._attempt, self._tools.locks)
            self._steps = self._steps[1:]

    def _converge(self) -> tuple[Outcome, Proof]:
        """What was reached, and what proves it."""
        attempt, name = self._attempt, self._attempt.before.name
        reached = ISOLATED if self._want.hold else RELEASED

        def plan(state: ContainerState) -> list[Step]:
            self._extend(state)
            return self._missing(state)

        self._keep_details()
        try:
            verification, proof = converge(
                self._tools,
                attempt,
                self._steps,
                self._acted,
                plan=plan,
                verify=self._verified,
                hold_back=self._hold_back,
            )
        except (EngineError, JournalError) as error:
            trouble = GuardError(
                f"whether container {name} is {reached} cannot be read back: {error.message}",
                kind=error.kind,
                remedy=error.remedy or "Run again once the engine answers; the journal has kept the snapshot",
            )
            return attempt.outcome(FAILED if isinstance(error, NotFound) else UNKNOWN, error=trouble), Proof()
        return self._judged(verification), proof

    def _judged(self, verification: Verification) -> Outcome:
        """The outcome of what was found once nothing more is done."""
        attempt = self._attempt
        reached = ISOLATED if self._want.hold else RELEASED
        attempt.warnings += verification.warnings
        if verification:
            attempt.warnings += attempt.refused()
            held = bool(self._want.hold) and not attempt.steps and self._held_before
            return attempt.outcome(HELD if held else reached)
        answers = [f"{step.action}: {step.message}" for step in attempt.steps if step.message]
        wanted = RELEASED if isinstance(self._change, Take) else reached
        trouble = report.not_reached(attempt.before.name, wanted, verification, answers, attempt.busy)
        if trouble.kind == BUSY:
            return attempt.outcome(BUSY, error=trouble)
        return attempt.outcome(UNKNOWN if verification.contradictions else FAILED, error=trouble)

    def _verified(self, state: ContainerState) -> tuple[Verification, Proof]:
        return self._tools.verify(state, self._want, self._owner.still_off(self._want), self._attempt.paused_at)

    @property
    def _held_before(self) -> bool:
        before = self._before
        started_at = self._attempt.before.started_at
        return before is not None and before.phase == VERIFIED and before.started_at in ("", started_at)

    def _keep_details(self) -> None:
        """Record what is set on its interfaces before they are taken, for which the pause does not wait."""
        detailed = self._tools.with_details(self._entry, self._attempt.before)
        if detailed == self._entry:
            return
        try:
            self._tools.journal.store(detailed)
        except JournalError as error:
            self._attempt.warnings.append(f"what is set on its interfaces could not be kept: {error.message}")
        else:
            self._entry = detailed
            self._preflight = self._preflight._replace(want=dataclasses.replace(self._want, snapshot=detailed.snapshot))

    def _extend(self, state: ContainerState) -> None:
        """Record what has to be known before the next steps: networks that it joined meanwhile, a pending restart."""
        if self._check or not self._want.hold:
            return
        extended = with_endpoints(self._entry, state)
        if state.restarting:
            extended = dataclasses.replace(extended, owes_start=True)
        if extended != self._entry:
            self._tools.journal.store(extended)
            want = dataclasses.replace(self._want, snapshot=extended.snapshot, owes_start=extended.owes_start)
            self._entry, self._preflight = extended, self._preflight._replace(want=want)

    def _hold_back(self, step: Step) -> str:
        """Why a step must not be done now: one that runs again, or may be started, must have all its networks."""
        if step.action not in (("start",) if self._want.hold else RESUMING):
            return ""
        state = self._tools.read(self._id)
        _verification, proof = self._tools.verify(state, self._want, self._owner.still_off(self._want))
        return "; ".join(map(str, missing_networks(state, self._want, proof)))

    # --- outcome ------------------------------------------------------------------------------------------------------

    def _concluded(self, outcome: Outcome, proof: Proof) -> Outcome:
        """The outcome, once the journal says what was reached."""
        if not outcome.ok:
            return self._put_back(outcome) if isinstance(self._change, Take) else outcome
        if self._want.hold:
            return self._confirmed(outcome, proof)
        outcome = dataclasses.replace(self._given_back(outcome, self._attempt.after), changed=True)
        try:
            # In this order: an alert that waits for the lock must find one of them.
            self._remember()
            self._tools.journal.remove(self._id)
        except JournalError as error:
            return dataclasses.replace(outcome, error=error.to_dict())
        return outcome

    def _confirmed(self, outcome: Outcome, proof: Proof) -> Outcome:
        """The outcome of holding, once the journal says that it was verified, and of which process."""
        entry = report.confirmed(self._entry, t.cast(ContainerState, self._attempt.after), proof)
        if self._want.held != self._entry.held:
            entry = dataclasses.replace(entry, held=self._entry.held)  # what could not be given back is still owed
        ended = any(step.action in ("stop", "kill") for step in self._attempt.steps)
        if entry.ended_at and entry.ended_at != self._entry.ended_at and not ended:
            outcome = report.with_end(outcome, t.cast(ContainerState, self._attempt.after))
        outcome = report.with_ports_left(outcome, self._attempt.before, self._want)
        if outcome.outcome == ISOLATED:
            outcome = report.with_warnings(outcome, *advice.of_pruning(entry, proof))
        if entry != self._entry:
            try:
                self._tools.journal.store(entry)
            except JournalError as error:
                # It is isolated, and the entry of before the first action is enough to release it.
                outcome = report.with_warnings(
                    outcome, f"the journal still says that it is being isolated: {error.message}"
                )
        outcome = report.with_claims(outcome, entry)
        return self._partly_given_back(outcome, entry) if isinstance(self._change, Take) else outcome

    def _partly_given_back(self, outcome: Outcome, entry: Entry) -> Outcome:
        """The outcome of a release that others keep from being a whole one."""
        outcome = dataclasses.replace(outcome, outcome=HELD, changed=True)
        try:
            self._remember()
        except JournalError as error:
            return dataclasses.replace(outcome, error=error.to_dict())
        return self._still_held(outcome, entry)

    def _still_held(self, outcome: Outcome, entry: Entry) -> Outcome:
        """The outcome of such a release, or of its prediction: it says who holds the container."""
        change = t.cast(Take, self._change)
        if change.sharer:
            return outcome
        who = ", ".join(_named(claim, self._tools) for claim in entry.claims)
        still = f"container {entry.snapshot.name} is still held by {who}: {', '.join(entry.hold.actions())}"
        if not change.remembered:
            return report.with_warnings(outcome, still)
        trouble = GuardError(still, kind="still_held", remedy="What was to end has ended. Release what holds it, too")
        return dataclasses.replace(outcome, error=trouble.to_dict())

    def _remember(self) -> None:
        """See to it that no alert that was received before can undo a person's release. Raises JournalError."""
        change = self._change
        if not isinstance(change, Take) or not change.remembered or self._check:
            return
        if change.which is every_claim:
            taken: tuple[str, ...] = ()  # all
        else:
            # What others hold was not released: only alerts of those whose claims were taken are superseded.
            claims = self._before.own_claims if self._before else ()
            taken = tuple(claim.subject for claim in claims if change.takes(claim))
            if not taken:
                return
        self._tools.journal.bury(self._id, Tombstone.of(self._tools.now(), change.cause.actor, taken))

    def _given_back(self, outcome: Outcome, after: ContainerState | None) -> Outcome:
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import (
            differences,
        )

        try:
            stays_off = self._owner.stays_off(self._want)
        except JournalError as error:
            stays_off = f"whether its network stays off is not known: {error.message}"
        details = self._tools.details(after) if after and outcome.ok else None
        lost = differences(self._entry.details, details)
        return report.given_back(outcome, self._attempt.before, after, self._preflight, stays_off, lost)

    def _put_back(self, outcome: Outcome) -> Outcome:
        """After giving back failed halfway: hold again what was held before, as far as that can be done."""
        before, tools = self._before, self._tools
        if not self._want.hold:
            outcome = self._given_back(outcome, self._attempt.after)
        if before is None or not before.claims or outcome.outcome == UNKNOWN:
            return outcome
        try:
            state = tools.read(self._id)
            owes_start = before.owes_start or (self._entry.owes_start and not state.running)
            entry = dataclasses.replace(before, phase=ISOLATING, owes_start=owes_start, held=self._entry.held)
            tools.journal.store(entry)
            # What else is owed comes back with whatever is done next.
            want = dataclasses.replace(want_of(entry), held=entry.hold)
            steps = self._owner.with_steps(missing_steps(state, want), want, entry)
            perform(steps, tools.engine, self._attempt, tools.locks)
            self._attempt.after = state = tools.read_settled(self._id)
            verification, proof = tools.verify(state, want)
            if verification:
                tools.journal.store(dataclasses.replace(report.confirmed(entry, state, proof), held=entry.held))
        except GuardError as error:
            return report.with_warnings(outcome, f"it may not be isolated again: {error.message}")
        found = "; ".join([*verification.contradictions, *map(str, verification.unmet)])
        again = self._attempt.outcome(outcome.outcome)
        outcome = dataclasses.replace(outcome, steps=again.steps, after=again.after)
        return report.with_warnings(
            outcome, f"it is not isolated again: {found}" if found else "it is isolated again, as it was before"
        )

    def _predicted(self) -> Outcome:
        """What check mode says."""
        attempt, want = self._attempt, self._want
        holds = isinstance(self._change, Hold)
        if want.hold and holds and not self._steps and self._held_before:
            verification, _proof = self._verified(attempt.before)
            outcome = self._judged(verification)
            return report.with_claims(dataclasses.replace(outcome, changed=attempt.changed), self._entry)
        attempt.plan(self._steps)
        if not want.hold:
            return self._given_back(dataclasses.replace(attempt.outcome(WOULD_RELEASE), changed=True), None)
        outcome = attempt.outcome(WOULD_ISOLATE if holds else WOULD_RELEASE)
        outcome = report.with_claims(report.with_ports_left(outcome, attempt.before, want), self._entry)
        return outcome if holds else self._still_held(outcome, self._entry)

    # --- another run --------------------------------------------------------------------------------------------------

    def _wait_for_the_other(self, busy: JournalError) -> None:
        """Go on once another run has let go of the container; where it does not, say what it made of it so far."""
        self._busy = None
        if not self._patient and self._enter(self._tools.busy_timeout):
            self._prepare()
            return
        if self._outcome:
            return  # it was paused, as the journal cannot be used
        attempt = self._attempt = Attempt(self._tools.read(self._id))
        entry = self._tools.journal.load(self._id)
        if isinstance(self._change, Hold) and entry is not None:
            moment = self._tools.now()
            wanted = all(any(one.covers(claim, moment) for one in entry.claims) for claim in self._change.claims)
            if wanted and entry.hold and self._tools.verify(attempt.before, want_of(entry))[0]:
                attempt.warnings.append("another run isolated it, and is still at it")
                self._outcome = attempt.outcome(HELD)
                return
        self._outcome = attempt.outcome(BUSY, error=self._busy or busy)


def network_owner(tools: Tools, sharer: str) -> NetworkOwner:
    """The owner of the network that a container uses."""

    def walk_on(owner: str, change: Change, check: bool) -> Outcome:
        # What isolates waits for another run no longer than for one that works on the container itself.
        return Walk(tools, owner, change, check, patient=isinstance(change, Take)).run()

    return NetworkOwner(tools, sharer, walk_on)


def _named(claim: Claim, tools: Tools) -> str:
    """Who claims, for people."""
    if claim.kind != SHARER:
        return f"policy {claim.subject}" if claim.subject else claim.cause.actor or "a person"
    try:
        sharer = tools.journal.load(claim.subject)
    except JournalError:
        return f"{tools.name_of(claim.subject)} (its journal entry cannot be read)"
    return sharer.snapshot.name if sharer else claim.subject[:12]
