# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Advice: what people should know although it worked."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import Proof
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    NO_NETWORK,
    ContainerState,
)

PREDEFINED = ("bridge", "host", "none")
"""Networks that nobody can remove."""


def of_isolating(state: ContainerState, hold: Goal, was_paused: bool = False) -> list[str]:
    """What others will do to a container that is isolated so, and what it can still do itself (measured)."""
    swarm, compose, nomad = (
        any(name.startswith(prefix) for name in state.labels)
        for prefix in ("com.docker.swarm.", "com.docker.compose.", "com.hashicorp.nomad.")
    )
    warnings = []
    if state.engine_socket and not (hold.pause or hold.ends):
        warnings.append(
            f"the socket of the engine is mounted in it ({state.engine_socket}): off its networks it still controls "
            "every container of the host; pause or kill it"
        )
    if hold.ends and swarm:
        warnings.append("swarm starts another one in its place within seconds; pause keeps it from that")
    if hold.ends:
        warnings.append("docker container prune removes it while it is down, and what it wrote with it")
    if hold.ends and nomad:
        warnings.append("nomad starts another one in its place, here or elsewhere; stop its job, too")
    if hold.networks and nomad and not hold.ends:
        warnings.append("nomad may take it for unhealthy and replace it; stop its job, too")
    if hold.ends and compose:
        warnings.append("docker compose up starts it again; pause keeps it from that")
    if hold.networks and compose and not (hold.pause or hold.ends):
        warnings.append("docker compose up may re-create it, as it misses a network; pause keeps it from that")
    if was_paused and hold.pause:
        warnings.append("it was paused already, and is left so when it is released")
    if hold.pause and state.health_checked:
        warnings.append("it turns unhealthy while it is paused, and what watches its health may restart it")
    return warnings


def of_an_end(state: ContainerState) -> str:
    """What was lost with the processes of a container that somebody ended while it was isolated (measured)."""
    return (
        f"its processes ended at {state.finished_at} (exit code {state.exit_code}), with what they had in memory, in "
        "tmpfs and in /dev/shm"
    )


def of_what_is_left(state: ContainerState, networks: t.Sequence[str], hold: Goal) -> list[str]:
    """Where the container stays reachable by a published port.

    Args:
        state: before it was isolated.
        networks: names of those that it is on now.
        hold: what is held up.
    """
    left = [name for name in networks if name != NO_NETWORK]
    if not (hold.networks and left and any(state.ports.values())):
        return []
    # Taking it off the network that is its gateway moves published ports to another one (measured).
    return [f"its published ports stay reachable through network {', '.join(left)}"]


def of_pruning(entry: Entry, proof: Proof) -> list[str]:
    """What a prune takes while it is isolated."""
    hold = entry.hold
    return [
        f"it was the last one on network {endpoint.network}, which docker network prune removes now; a release with "
        "recreate_networks makes it anew"
        for endpoint in entry.snapshot.endpoints
        for network in [proof.networks.get(endpoint.reference)]
        if network and hold.cuts(endpoint) and not network.get("Containers") and endpoint.network not in PREDEFINED
    ]


def of_service_task(state: ContainerState, want: Want) -> list[str]:
    """What swarm does not give back to a task of a service that was off its overlay network (measured)."""
    service = state.labels.get("com.docker.swarm.service.name")
    if not (service and want.snapshot.running and any(map(want.gives_back, want.snapshot.endpoints))):
        return []
    told = (
        f"it stays out of the service discovery and the load balancing of service {service} until swarm puts another "
        "task in its place: docker service update --force does"
    )
    return [told]


def of_releasing(
    not_restored: t.Iterable[t.Mapping[str, str]],
    conflicts: t.Iterable[t.Mapping[str, str]],
    resume: bool,
    health_checked: bool,
) -> list[str]:
    """What is not as it was, and what goes on."""
    warnings = ["{what} was {before!r} and is {after!r} now".format(**difference) for difference in not_restored]
    warnings += [
        "{what} was {before!r}; somebody made it {found!r} meanwhile, and it is left so".format(**conflict)
        for conflict in conflicts
    ]
    if health_checked:
        warnings.append(
            "it may be shown as unhealthy until its health is checked next, and what watches that may restart it"
        )
    if resume:
        warnings.append("TCP sessions of before may go on, with what was queued in them; restart ends them")
    return warnings
