# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container whose network an isolated one uses: it leaves its networks for the sake of that one, and comes back."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import Change, Hold, Take
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import SHARER, Claim, sum_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import (
    ISOLATED,
    RELEASING,
    Entry,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError, StepFailed
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Step, Want
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.tools import Tools, want_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import REFUSED

WalkOn = t.Callable[[str, Change, bool], Outcome]
"""Leads another container to what its claims want, or only says what would be done: a walk inside a walk."""


class NetworkOwner:
    """The owner of the network of one container that is worked on.

    All methods raise EngineError, JournalError.

    Args:
        tools: of the walk.
        sharer: id of the container that uses the network.
        walk_on: leads the owner to what its claims want.
    """

    def __init__(self, tools: Tools, sharer: str, walk_on: WalkOn) -> None:
        self._tools = tools
        self._sharer = sharer
        self._walk_on = walk_on

    def with_steps(self, steps: list[Step], want: Want, entry: Entry) -> list[Step]:
        """The steps on the container, with those on the owner that are missing."""
        owner = want.snapshot.network_owner
        if owner and want.hold.networks and self._must_leave(owner, want):
            # After the container is paused, before it is ended.
            at = next((index for index, step in enumerate(steps) if step.action != "pause"), len(steps))
            goal = Goal(networks=want.hold.networks)
            claim = dataclasses.replace(
                Claim.of(goal, entry.cause, self._tools.now()), kind=SHARER, subject=self._sharer
            )
            return [*steps[:at], self._step("isolate_network", owner, Hold((claim,))), *steps[at:]]
        if self.still_off(want):
            return [self._step("release_network", owner, Take(sharer=self._sharer)), *steps]
        return steps

    def refusal(self, want: Want) -> str:
        """Why the network cannot come back, found out before anything is touched, or empty."""
        owner = want.snapshot.network_owner
        if not self.still_off(want):
            return ""
        try:
            outcome = self._walk_on(owner, Take(sharer=self._sharer), True)
        except NotFound:
            return ""
        return str((outcome.error or {})["message"]) if outcome.outcome == REFUSED else ""

    def still_off(self, want: Want) -> str:
        """Why the network is still off where it is to come back, or empty."""
        held = self._entry(want)
        # One that is there for nobody is left of a release that was interrupted.
        if held is None or want.hold.networks or (held.claims and self._sharer not in held.sharers):
            return ""
        return "the container whose network it uses is still off its networks"

    def stays_off(self, want: Want) -> str:
        """Whom the network stays off for once the container is released, or empty."""
        held = self._entry(want)
        others = [claim for claim in held.claims if claim.key != (SHARER, self._sharer)] if held else []
        if held is None or not sum_of(others).networks or want.hold.networks:
            return ""
        return f"its network stays off, as container {held.snapshot.name} is isolated, too"

    def stays_down(self, state: ContainerState, owner: ContainerState | None) -> str:
        """Why its network cannot be joined at a start once the container is released, or empty.

        Args:
            state: of the container.
            owner: the container whose network it uses, where that still exists.
        """
        if not state.network_owner or (owner and owner.running):
            return ""
        if owner is None:
            return (
                f"container {state.network_owner[:12]}, whose network it uses, no longer exists, and it cannot start "
                f"without: docker rm -f {state.name}, make both anew, and release {state.name} by its name"
            )
        down = f"container {owner.name}, whose network it uses, does not run"
        held = self._load(owner.id)
        if held and (self._sharer in held.sharers or not held.claims):
            left = tuple(claim for claim in held.claims if claim.key != (SHARER, self._sharer))
            held = dataclasses.replace(held, claims=left, phase=RELEASING)
            if want_of(held).must_start(owner):
                return ""  # it is started before
        if held and held.own_claims:
            return f"{down}, and is isolated itself: release {owner.name}, too"
        return f"{down}: docker start {owner.name}"

    def give_back(self, owner: str, check: bool = False) -> None:
        """Let the owner have its network back, as far as nobody else needs that off, or find out whether that works.

        One that is gone has nothing to be given back. Raises StepFailed, too.
        """
        self._lead(owner, Take(sharer=self._sharer), check)

    def _lead(self, owner: str, change: Change, check: bool = False) -> None:
        try:
            outcome = self._walk_on(owner, change, check)
        except NotFound:
            if isinstance(change, Hold):
                raise
            if not check:
                self._forget_claim(owner)
            return
        if not outcome.ok:
            error = outcome.error or {}
            raise StepFailed(error["message"], kind=error["kind"], changed=outcome.changed)

    def _forget_claim(self, owner: str) -> None:
        """Need the network of a container that is gone no longer. What others want of it is for its successor."""
        journal = self._tools.journal
        with journal.lock(owner):
            held = self._load(owner)
            if held is None:
                return
            left = tuple(claim for claim in held.claims if claim.key != (SHARER, self._sharer))
            if left:
                journal.store(dataclasses.replace(held, claims=left))
            else:
                journal.remove(owner)

    def _must_leave(self, owner: str, want: Want) -> bool:
        """Whether it is on what must be left, or could come back there meanwhile."""
        held = self._load(owner)
        if held is not None and (self._sharer not in held.sharers or held.phase != ISOLATED):
            return True
        try:
            state = self._tools.read(owner)
        except NotFound:
            return False
        return any(want.hold.cuts(endpoint) for endpoint in state.live_endpoints)

    def _entry(self, want: Want) -> Entry | None:
        """Its isolation, where the container needs it off its networks, or needed it."""
        owner = want.snapshot.network_owner
        return self._load(owner) if owner and want.held.networks else None

    def _step(self, action: str, owner: str, change: Change) -> Step:
        def run(_engine: Engine) -> None:
            try:
                self._lead(owner, change)
            except StepFailed:
                raise
            except GuardError as error:
                raise StepFailed(error.message, kind=error.kind) from error

        return Step(action, run, self._name(owner))

    def _load(self, owner: str) -> Entry | None:
        try:
            return self._tools.journal.load(owner)
        except JournalError as error:
            message = f"container {self._tools.name_of(owner)}, whose network it uses: {error.message}"
            raise JournalError(message, kind=error.kind, remedy=error.remedy) from error

    def _name(self, owner: str) -> str:
        held = self._load(owner)
        return held.snapshot.name if held else self._tools.name_of(owner)
