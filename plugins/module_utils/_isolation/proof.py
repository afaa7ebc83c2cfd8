# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Proof: what is read beside the container itself, to find out whether what it says is true.

The engine is not believed on one answer. After a failed connect, a container has a live interface while disconnect says
"is not connected" and the network does not list it; a key among the networks may stand for no interface at all
(measured). So inspect, the membership of the networks and, where the host can be read, the network namespace itself are
compared.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState, Endpoint

Interfaces = t.Callable[[int, str], t.Optional[t.Set[str]]]
"""Interfaces in the network namespace of a process, given its pid and the id of its container; None if unreadable."""


@dataclasses.dataclass(frozen=True)
class Proof:
    """What was read.

    Attributes:
        networks: what the engine answered about networks, by what calls name them; None for one that it does not have.
        interfaces: in the network namespace of the container; None where that cannot be read.
        owner: of its network, where it uses that of another container which still exists.
        owner_held: why its network is still off where it is to come back, or empty.
    """

    networks: t.Mapping[str, t.Mapping[str, t.Any] | None] = dataclasses.field(default_factory=dict)
    interfaces: t.AbstractSet[str] | None = None
    owner: ContainerState | None = None
    owner_held: str = ""

    def lists(self, endpoint: Endpoint, container_id: str) -> bool | None:
        """Whether the network says that the container is on it; None where it does not say."""
        network = self.networks.get(endpoint.reference)
        if network is None:
            return False
        members = network.get("Containers")
        return container_id in members if isinstance(members, dict) else None


def read_proof(
    engine: Engine,
    interfaces: Interfaces,
    state: ContainerState,
    want: Want,
    owner: ContainerState | None,
    owner_held: str = "",
) -> Proof:
    """Read what proves or disproves that a container is as wanted. Raises EngineError."""
    concerned = [
        endpoint for endpoint in want.snapshot.endpoints if want.hold.cuts(endpoint) or want.gives_back(endpoint)
    ]
    concerned += [endpoint for endpoint in state.live_endpoints if want.hold.cuts(endpoint)]
    networks: dict[str, t.Mapping[str, t.Any] | None] = {}
    for endpoint in concerned:
        if endpoint.reference not in networks:
            networks[endpoint.reference] = _network(engine, endpoint.reference)
    readable = bool(want.hold.networks) and bool(state.pid) and state.network_mode != "host"
    return Proof(networks, interfaces(state.pid, state.id) if readable else None, owner, owner_held)


def _network(engine: Engine, reference: str) -> t.Mapping[str, t.Any] | None:
    try:
        return engine.inspect_network(reference)
    except NotFound:
        return None


def interfaces_of(pid: int, container_id: str) -> set[str] | None:
    """Interfaces in the network namespace of a process, from C(/proc/PID/net/dev); None where that cannot be known.

    The engine may run on another host, where the pid means another process: the control group of the process must name
    the container.
    """
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii") as file:
            if container_id not in file.read():
                return None
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except (OSError, UnicodeDecodeError):
        return None
    return {line.partition(":")[0].strip() for line in lines}
