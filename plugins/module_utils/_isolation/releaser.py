# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releasing: giving a container back as the journal remembers it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import journal as journal_phases
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import (
    JournalError,
    Refused,
    StepFailed,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import (
    REFUSED,
    RELEASED,
    Outcome,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import (
    RESUMING,
    Goal,
    Step,
    kill_step,
    release_steps,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.preflight import (
    Preflight,
    check_release,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.reconciler import (
    Attempt,
    Reconciler,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import (
    Finding,
    Verification,
    not_restored,
    verify_reconnected,
    verify_released,
)


class Releaser(Reconciler):
    """Releases the containers of one engine."""

    def release(self, container_id: str, check: bool = False, restart: bool = False) -> Outcome:
        """Give the container back as it was, from the snapshot alone.

        Where none is in the journal, nothing is done; a container that is cut off nevertheless is refused, as it is not
        given back. What somebody else changed meanwhile is left as it is, and told in C(conflicts).

        Args:
            container_id: full id.
            check: only say what would be done.
            restart: end its processes before it comes back on its networks, and start it anew, so that no session of
                before goes on.

        Raises:
            EngineError, JournalError: before anything was touched.
        """
        with self._lock(container_id, check):
            entry = self._journal.load(container_id)
            if entry is None:
                return _not_recorded(Attempt(self.read(container_id)))
            entry = self._without_gone_sharers(entry)
            if entry.for_sharers:
                attempt = Attempt(self.read(container_id))
                return attempt.outcome(REFUSED, error=self._needed_by_others(entry))
            return self._release(entry, check, restart)

    def forget(self, entry: Entry) -> None:
        """Drop the isolation of a container that is gone, and give back the network that another left for its sake.

        Raises StepFailed, JournalError.
        """
        with self._lock(entry.snapshot.id, check=False):
            if self._holds_owner(entry):
                self._release_owner_step(entry, check=False).run(self._engine)
            self._journal.remove(entry.snapshot.id)

    def _release(self, entry: Entry, check: bool, restart: bool) -> Outcome:
        """Release what the entry holds, under the lock of its container."""
        attempt = Attempt(self.read(entry.snapshot.id))
        before = attempt.before
        preflight = check_release(self._engine, before, entry.snapshot, entry.goal)
        refusal = _refusal(before, preflight, restart)
        if refusal:
            return attempt.outcome(REFUSED, error=refusal)
        snapshot = preflight.snapshot
        restart = restart and snapshot.running
        # The journal says so before it is killed: whoever goes on after a crash has to start the container.
        entry = dataclasses.replace(entry, restart=restart or entry.restart)
        goal = entry.to_undo

        def plan(state: ContainerState) -> list[Step]:
            if restart and state.running and state.started_at == before.started_at:
                # Nothing comes back before it is known to have ended; check mode shows what would follow.
                ended = dataclasses.replace(state, running=False, paused=False, started_at="")
                return [kill_step(state), *(plan(ended) if check else ())]
            owner = [self._release_owner_step(entry, check)] if self._holds_owner(entry) else []
            return [*owner, *release_steps(state, snapshot, goal)]

        def hold_back(step: Step) -> list[Finding]:
            # One that runs again, or that the engine may start again, must have all its networks.
            return self._cut_off_still(entry, self.read(before.id), snapshot, goal) if step.action in RESUMING else []

        def verify(state: ContainerState) -> Verification:
            found = verify_released(self._engine, state, snapshot, goal)
            same = restart and before.running and state.started_at == before.started_at
            old = [Finding("not_restarted", "its processes of before still run")] if same and state.running else []
            return found._replace(unmet=(*found.unmet, *old, *self._owner_still_held(entry)))

        steps = plan(before)
        if check:
            attempt.plan(steps)
            attempt.changed = True
            return _reported(attempt, attempt.outcome(RELEASED), goal.ends, preflight)
        releasing = dataclasses.replace(entry, phase=journal_phases.RELEASING)
        if releasing != self._journal.load(before.id):
            self._journal.store(releasing)
            attempt.changed = True
        outcome = self._converge(attempt, steps, plan=plan, verify=verify, reached=RELEASED, hold_back=hold_back)
        new_process = attempt.after is not None and attempt.after.started_at != snapshot.started_at
        outcome = _reported(attempt, outcome, new_process, preflight, goal)
        held = self._owner_entry(entry)
        if held is not None:
            warning = f"its network stays off, as container {held.snapshot.name} is isolated, too"
            outcome = dataclasses.replace(outcome, sessions_may_resume=False, warnings=(warning, *outcome.warnings))
        if not outcome.ok:
            return outcome
        try:
            self._journal.remove(before.id)
        except JournalError as error:
            return dataclasses.replace(outcome, changed=True, error=error.to_dict())
        return dataclasses.replace(outcome, changed=True)

    # --- containers that use the network of another one ---------------------------------------------------------------

    def _needed_by_others(self, entry: Entry) -> Refused:
        names = []
        for sharer in entry.for_sharers:
            found = self._journal.load(sharer)
            names.append(found.snapshot.name if found else sharer[:12])
        return Refused(
            "container {} cannot be released: {} {} its network and {} isolated".format(
                entry.snapshot.name, ", ".join(names), *(("uses", "is") if len(names) == 1 else ("use", "are"))
            ),
            remedy="Nothing was touched. Release {} first".format(", ".join(names)),
        )

    def _without_gone_sharers(self, entry: Entry, leaving: str = "") -> Entry:
        """The entry without one sharer, and without those that the journal forgot: they keep no network off."""
        left = tuple(sharer for sharer in entry.for_sharers if sharer != leaving and self._journal.load(sharer))
        return dataclasses.replace(entry, for_sharers=left)

    def _owner_entry(self, entry: Entry) -> Entry | None:
        """The isolation of the container whose network the one of the entry uses. Raises JournalError."""
        owner = entry.snapshot.network_owner
        return self._journal.load(owner) if owner and entry.goal.networks else None

    def _holds_owner(self, entry: Entry) -> bool:
        held = self._owner_entry(entry)
        # One that is there for nobody is left of a release that was interrupted.
        return held is not None and (entry.snapshot.id in held.for_sharers or not (held.own or held.for_sharers))

    def _owner_still_held(self, entry: Entry) -> list[Finding]:
        if not self._holds_owner(entry):
            return []
        return [Finding("not_connected", "the container whose network it uses is still off its networks")]

    def _cut_off_still(
        self, entry: Entry, state: ContainerState, snapshot: ContainerState, goal: Goal
    ) -> list[Finding]:
        return [*verify_reconnected(self._engine, state, snapshot, goal), *self._owner_still_held(entry)]

    def _release_owner_step(self, entry: Entry, check: bool) -> Step:
        owner_id = entry.snapshot.network_owner

        def run(_engine: Engine) -> None:
            try:
                give_back()
            except JournalError as error:
                raise StepFailed(error.message) from error

        def give_back() -> None:
            with self._lock(owner_id, check):
                held = self._owner_entry(entry)
                if held is None:
                    return
                held = self._without_gone_sharers(held, leaving=entry.snapshot.id)
                if held.own or held.for_sharers:
                    self._journal.store(held)
                    return
                try:
                    outcome = self._release(held, check=False, restart=False)
                except NotFound:
                    self._journal.remove(owner_id)
                    return
                if not outcome.ok:
                    raise StepFailed((outcome.error or {})["message"], changed=outcome.changed)

        held = self._owner_entry(entry)
        return Step("release_network", run, held.snapshot.name if held else owner_id[:12])


def _refusal(state: ContainerState, preflight: Preflight, restart: bool) -> Refused | None:
    if restart and state.auto_remove:
        return Refused(
            f"container {state.name} cannot be restarted: the engine would delete it (auto-remove)",
            remedy="Nothing was touched. Release it without restart",
        )
    if preflight.problems:
        return Refused(
            "container {} cannot be released: {}".format(state.name, "; ".join(preflight.problems)),
            remedy="Nothing was touched. Mend what is named, then release it again",
        )
    return None


def _not_recorded(attempt: Attempt) -> Outcome:
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


def _reported(
    attempt: Attempt, outcome: Outcome, new_process: bool, preflight: Preflight, goal: Goal | None = None
) -> Outcome:
    """The outcome, with what is not as it was. Without a goal it is a prediction."""
    after, snapshot = attempt.after, preflight.snapshot
    differences: list[t.Mapping[str, str]] = [*preflight.recreated]
    if new_process and snapshot.running and not snapshot.restarting:
        # What they held in memory, in tmpfs and in /dev/shm is gone for good.
        differences.append({"what": "processes", "before": "running", "after": "started anew"})
    if goal and after and outcome.verified_at:
        differences += not_restored(after, snapshot, goal)
    # Its sockets outlive pause and disconnect, and peers retransmit into the reconnected interface (measured).
    resume = snapshot.running and not (snapshot.paused or snapshot.restarting or new_process)
    warnings = ["{what} was {before!r} and is {after!r} now".format(**difference) for difference in differences]
    warnings += [
        "{what} was {before!r}; somebody made it {found!r} meanwhile, and it is left so".format(**conflict)
        for conflict in preflight.conflicts
    ]
    if resume and outcome.ok:
        warnings.append("TCP sessions of before may go on, with what was queued in them; restart ends them")
    return dataclasses.replace(
        outcome,
        not_restored=tuple(differences),
        conflicts=preflight.conflicts,
        sessions_may_resume=resume,
        warnings=(*outcome.warnings, *warnings),
    )
