# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proof: what is read beside the container itself, to find out whether what it says is true.

The engine is not believed on one answer. After a failed connect, a container has a live interface while disconnect says
"is not connected" and the network does not list it; a key among the networks may stand for no interface at all
(measured). So inspect, the membership of the networks and, where the host can be read, the network namespace and the
freezer are compared.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState, Endpoint

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.freezer import Process
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import GroundTruth
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import Links


@dataclasses.dataclass(frozen=True)
class Proof:
    """What was read.

    Attributes:
        networks: what the engine answered about networks, by what calls name them; None for one that it does not have.
        links: the interfaces in the network namespace of the container; None where that cannot be read.
        frozen: whether the kernel says that it is; None where that is not known, or not asked.
        unfrozen: its processes that are not in its freezer; None likewise.
        owner: of its network, where it uses that of another container which still exists.
        owner_held: why its network is still off where it is to come back, or empty.
    """

    networks: t.Mapping[str, t.Mapping[str, t.Any] | None] = dataclasses.field(default_factory=dict)
    links: Links | None = None
    frozen: bool | None = None
    unfrozen: tuple[Process, ...] | None = None
    owner: ContainerState | None = None
    owner_held: str = ""

    def is_overlay(self, endpoint: Endpoint) -> bool:
        """Whether it is on an overlay network, beside which the engine attaches a container to docker_gwbridge."""
        return (self.networks.get(endpoint.reference) or {}).get("Driver") == "overlay"

    def lists(self, endpoint: Endpoint, container_id: str) -> bool | None:
        """Whether the network says that the container is on it; None where it does not say."""
        network = self.networks.get(endpoint.reference)
        if network is None:
            return False
        members = network.get("Containers")
        return container_id in members if isinstance(members, dict) else None


def read_proof(
    engine: Engine,
    truth: GroundTruth,
    state: ContainerState,
    want: Want,
    owner: ContainerState | None = None,
    owner_held: str = "",
    paused_at: float = float("inf"),
) -> Proof:
    """Read what proves or disproves that a container is as wanted. Raises EngineError.

    Args:
        engine: the engine.
        truth: the kernel of its host.
        state: of the container, as it was read just now.
        want: what is wanted.
        owner: of its network, where it uses that of another container which still exists.
        owner_held: why its network is still off where it is to come back, or empty.
        paused_at: when it was paused at the latest, by time.monotonic().
    """
    hold = want.hold
    concerned = [endpoint for endpoint in want.snapshot.endpoints if hold.cuts(endpoint) or want.gives_back(endpoint)]
    concerned += (owner or state).live_endpoints if hold.networks else ()
    networks: dict[str, t.Mapping[str, t.Any] | None] = {}
    for endpoint in concerned:
        if endpoint.reference not in networks:
            networks[endpoint.reference] = _network(engine, endpoint.reference)
    proof = Proof(networks, owner=owner, owner_held=owner_held)
    if hold.networks and state.pid and state.network_mode != "host":
        proof = dataclasses.replace(proof, links=truth.links(state.pid, state.id))
    if hold.pause and state.paused and state.pid:
        frozen, unfrozen = truth.frozen(state.pid, state.id), truth.unfrozen(state.pid, state.id, paused_at)
        proof = dataclasses.replace(proof, frozen=frozen, unfrozen=unfrozen)
    return proof


def _network(engine: Engine, reference: str) -> t.Mapping[str, t.Any] | None:
    try:
        return engine.inspect_network(reference)
    except NotFound:
        return None
