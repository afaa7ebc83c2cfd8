# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating and releasing the containers of one engine."""

from __future__ import annotations

import contextlib
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import Change, Hold, Take
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import (
    UNSTATED,
    Approval,
    Cause,
    Claim,
    Claims,
    every_claim,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import (
    GroundTruth,
    HostTruth,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.tools import Tools, want_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import Verification
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.walk import Walk, network_owner
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action

MAX_RELEASE_AFTER = 31_536_000
"""Longest time after which an isolation may end by itself, in seconds: a year."""
DEFAULT_RETRY = Retry()


class Isolator:
    """Isolates and releases the containers of one engine.

    Args:
        engine: the engine.
        journal: of the same host.
        truth: the kernel of its host; None for that of this one, without knowledge of its ports.
        retry: how often to try again what may pass.
        settle_timeout: seconds to wait for a restarting container to stand still.
        busy_timeout: seconds to wait for another run that works on the same container.
        now: the time by the clock of the controller.
        remembered: what is known of a container without asking the engine, as inspect gives it, or None: as good as
            asking but for moments, so that it is paused by that, and all else waits for the truth.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        truth: GroundTruth | None = None,
        retry: Retry = DEFAULT_RETRY,
        settle_timeout: float = 30,
        busy_timeout: float = 10,
        now: t.Callable[[], datetime.datetime] = utc_now,
        remembered: t.Callable[[str], dict[str, t.Any] | None] = lambda _container_id: None,
    ) -> None:
        self._tools = Tools(
            engine,
            journal,
            truth or HostTruth(),
            retry,
            settle_timeout,
            busy_timeout,
            now,
            remembered=remembered,
        )

    def now(self) -> datetime.datetime:
        """The time by the clock of the controller."""
        return self._tools.now()

    def walk(self, container_id: str, change: Change, check: bool = False, patient: bool = True) -> Walk:
        """An attempt on one container, not begun yet. Of a batch, all are begun before the first one is finished."""
        return Walk(self._tools, container_id, change, check, patient)

    def claim(self, actions: t.Sequence[Action], cause: Cause = UNSTATED, release_after: int = 0) -> Claim:
        """The claim of the policy that the cause names, or of a person.

        Args:
            actions: what to do. One that waits for approval is not done, but wanted by the claim.
            cause: why.
            release_after: seconds after which it ends, 0 for never. Of several requests the one that ends last holds.

        Raises:
            PolicyError: where the actions exclude each other.
        """
        moment = self._tools.now()
        return Claim.of(Goal.of(actions), cause, moment, release_after, Approval.of(actions, cause, moment))

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
            release_after: as for claim.

        Raises:
            EngineError, JournalError, PolicyError: before anything was touched. Afterwards every trouble is part of the
                outcome.
        """
        return self.hold(container_id, (self.claim(actions, cause, release_after),), check, force=force)

    def hold(self, container_id: str, claims: Claims = (), check: bool = False, *, force: bool = False) -> Outcome:
        """As isolate, by claims; without any, hold up again those that are there."""
        return self.walk(container_id, Hold(claims, force), check).run()

    def release(
        self,
        container_id: str,
        check: bool = False,
        restart: bool = False,
        *,
        which: t.Callable[[Claim], bool] = every_claim,
        cause: Cause = UNSTATED,
        force: bool = False,
        recreate_networks: bool = False,
        remembered: bool = True,
    ) -> Outcome:
        """Give the container back as it was, from the snapshot alone.

        Where none is in the journal, nothing is done; a container that is cut off nevertheless is refused, as it is not
        given back. What somebody else changed meanwhile is left as it is, and told in C(conflicts). Where giving back
        fails halfway, what was held is held again.

        Args:
            container_id: full id.
            check: only say what would be done.
            restart: end its processes before it comes back on its networks, and start it anew, so that no session of
                before goes on.
            which: whose isolation ends; all by default. What others hold up stays.
            cause: who asked for it, and why.
            force: also where it cannot be given back in full.
            recreate_networks: make networks anew that are gone, of what was kept of them.
            remembered: no alert that was received before isolates it again: a person wants it released.

        Raises:
            EngineError, JournalError: before anything was touched.
        """
        change = Take(which, restart, cause, force=force, recreate_networks=recreate_networks, remembered=remembered)
        return self.walk(container_id, change, check).run()

    def verify(self, entry: Entry) -> tuple[ContainerState, Verification]:
        """The state of an isolated container, and whether it is as its claims want it. Raises EngineError."""
        state = self._tools.read(entry.snapshot.id)
        return state, self._tools.verify(state, want_of(entry))[0]

    def forget(self, entry: Entry, check: bool = False) -> None:
        """Drop the isolation of a container that is gone, and give back the network that another left for its sake.

        Args:
            entry: the isolation.
            check: only find out whether that works.

        Raises:
            EngineError, JournalError: it is kept.
        """
        journal, container_id = self._tools.journal, entry.snapshot.id
        # A lock is a file, and check mode writes nothing.
        with contextlib.nullcontext() if check else journal.lock(container_id):
            owner = entry.snapshot.network_owner
            held = journal.load(owner) if owner and entry.held.networks else None
            if held is not None and (container_id in held.sharers or not held.claims):
                network_owner(self._tools, container_id).give_back(owner, check)
            if not check:
                journal.remove(container_id)
