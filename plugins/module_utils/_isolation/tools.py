# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all walks on one engine share: how a container is read, and how what was read is verified."""

from __future__ import annotations

import dataclasses
import datetime
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.act import NetworkLocks
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import GroundTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import Proof, read_proof
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import Verification, verify

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import Details

_SETTLE_POLL = 0.05


class MacPin:
    """Whether an engine gives a MAC address back on connect, found out once.

    It does from API 1.52 on, where a configured one is no longer told from one that was made, and both are random
    (measured on 1.55). So every one is kept there. Before, none is honoured.
    """

    def __init__(self) -> None:
        self._works: bool | None = None

    def works(self, engine: Engine) -> bool:
        """Raises EngineError."""
        if self._works is None:
            major, _separator, minor = engine.version().api.partition(".")
            self._works = major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= (1, 52)
        return self._works


def _nothing(_container_id: str) -> dict[str, t.Any] | None:
    return None


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
        mac_pin: whether MAC addresses can be given back.
        remembered: what the engine said last of a container, as inspect gives it, where somebody keeps that right by
            the event stream; else None.
    """

    engine: Engine
    journal: Journal
    truth: GroundTruth
    retry: Retry
    settle_timeout: float
    busy_timeout: float
    now: t.Callable[[], datetime.datetime]
    locks: NetworkLocks = dataclasses.field(default_factory=NetworkLocks)
    mac_pin: MacPin = dataclasses.field(default_factory=MacPin)
    remembered: t.Callable[[str], dict[str, t.Any] | None] = _nothing

    def read(self, container_id: str) -> ContainerState:
        """The state of the container with that full id now. Raises EngineError."""
        found = self.retry.call(lambda: self.engine.inspect_container(container_id))
        if found["Id"] != container_id:
            # The engine looks for names, too, and somebody may have named a container with the id of one that is gone.
            raise NotFound(f"container {container_id[:12]} no longer exists", status=404)
        return ContainerState.from_inspect(found, pins_mac=self.mac_pin.works(self.engine))

    def recall(self, container_id: str) -> ContainerState | None:
        """The state by what is remembered of the container, or None. Raises EngineError, where it never was asked."""
        found = self.remembered(container_id)
        return ContainerState.from_inspect(found, pins_mac=self.mac_pin.works(self.engine)) if found else None

    def name_of(self, container_id: str) -> str:
        """What people call it: the first digits of its id where the engine does not say."""
        try:
            return self.read(container_id).name
        except EngineError:
            return container_id[:12]

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

    def details(self, state: ContainerState) -> Details | None:
        """What is set on its interfaces; None where it has none of its own, or that cannot be known."""
        if not (state.pid and state.own_network and state.live_endpoints):
            return None
        return self.truth.details(state.pid, state.id, state.live_endpoints)

    def with_details(self, entry: Entry, state: ContainerState) -> Entry:
        """The entry, with what is set on the interfaces of the process of its snapshot, before they are taken."""
        leaves = any(entry.hold.cuts(endpoint) for endpoint in state.live_endpoints)
        if entry.details or not leaves or not state.pid or state.started_at != entry.snapshot.started_at:
            return entry
        details = self.details(state)
        if details is None:
            return entry
        snapshot = dataclasses.replace(entry.snapshot, endpoints=details.in_order(entry.snapshot.endpoints))
        return dataclasses.replace(entry, snapshot=snapshot, details=details)


def want_of(entry: Entry) -> Want:
    """What the claims of an entry want."""
    return Want(entry.snapshot, entry.hold, entry.held, entry.owes_start, entry.end_first, runs=entry.runs)
