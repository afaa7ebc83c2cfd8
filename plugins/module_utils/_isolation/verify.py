# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verification: whether what was wanted is also true.

The engine is not believed on one answer. After a failed connect, a container has a live interface while disconnect says
"is not connected" and the network does not list it; a key among the networks may stand for no interface at all
(measured). So inspect, the membership of the networks and, where the host can be read, the network namespace itself are
compared.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings, Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Goal, must_start
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    NO_NETWORK,
    ContainerState,
    Endpoint,
)

# Fallback devices that the kernel adds to every network namespace once the module of a tunnel is loaded. They are down
# and lead nowhere.
_INERT_INTERFACES = frozenset(
    ["lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"]
)

Interfaces = t.Callable[[int, str], t.Optional[t.Set[str]]]
"""Interfaces in the network namespace of a process, given its pid and the id of its container; None if unreadable."""


class Finding(t.NamedTuple):
    """Something that is not as wanted.

    Attributes:
        kind: C(unpaused), C(running), C(restarting), C(restart_policy) or C(reconnected) of a container that should be
            isolated; C(still_paused), C(not_running), C(not_paused), C(restart_policy), C(not_connected),
            C(not_restarted) or C(other_settings) of one that should be released.
        message: for people.
    """

    kind: str
    message: str

    def __str__(self) -> str:
        return self.message


class Verification(t.NamedTuple):
    """What was found.

    Attributes:
        unmet: what is not as wanted.
        contradictions: where two answers exclude each other, so that nothing is known.
    """

    unmet: tuple[Finding, ...] = ()
    contradictions: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not (self.unmet or self.contradictions)


def verify_isolated(
    engine: Engine,
    state: ContainerState,
    snapshot: ContainerState,
    goal: Goal,
    interfaces: Interfaces,
    owner: ContainerState | None = None,
) -> Verification:
    """Whether the goal is reached, for a state that was read just now. Raises EngineError.

    Args:
        engine: the engine.
        state: of the container.
        snapshot: of the container, before it was isolated.
        goal: what is wanted.
        interfaces: reads network namespaces.
        owner: of its network, where it uses that of another container.
    """
    unmet, contradictions = [], []
    live_endpoints = (owner or state).live_endpoints
    if state.restarting:
        unmet.append(Finding("restarting", "it is restarting"))
    elif goal.pause and state.running and not (state.paused or goal.kill):
        unmet.append(Finding("unpaused", "it is not paused"))
    if goal.ends and state.running and not state.restarting:
        unmet.append(Finding("running", "it still runs"))
    if state.restart_policy.name != "no":
        unmet.append(Finding("restart_policy", f"its restart policy is {state.restart_policy}"))
    if goal.networks:
        for endpoint in live_endpoints:
            if not goal.cuts(endpoint):
                continue
            unmet.append(Finding("reconnected", f"it is on network {endpoint.network}"))
            if state.pid and not owner and not _is_member(engine, endpoint.reference, state.id):
                # What a failed connect leaves, or a disconnect that the engine did not live to finish (measured).
                contradictions.append(f"inspect says it is on network {endpoint.network}, which does not list it")
        contradictions += [
            f"inspect says it left network {endpoint.network}, which still lists it"
            for endpoint in snapshot.endpoints
            if goal.cuts(endpoint)
            and state.endpoint_like(endpoint) is None
            and _is_member(engine, endpoint.reference, state.id)
        ]
        contradictions += _stray_interfaces(state, live_endpoints, interfaces)
    return Verification(tuple(unmet), tuple(contradictions))


def verify_released(engine: Engine, state: ContainerState, snapshot: ContainerState, goal: Goal) -> Verification:
    """Whether the container is as in the snapshot, as far as the goal changed it. Raises EngineError."""
    unmet = []
    if goal.pause and state.paused and not snapshot.paused:
        unmet.append(Finding("still_paused", "it is still paused"))
    if must_start(state, snapshot, goal):
        unmet.append(Finding("not_running", "it does not run"))
    if goal.ends and snapshot.paused and state.running and not state.paused:
        unmet.append(Finding("not_paused", "it is not paused, as it was before"))
    if state.restart_policy != snapshot.restart_policy:
        unmet.append(
            Finding("restart_policy", f"its restart policy is {state.restart_policy}, not {snapshot.restart_policy}")
        )
    unmet += verify_reconnected(engine, state, snapshot, goal)
    return Verification(tuple(unmet))


def verify_reconnected(engine: Engine, state: ContainerState, snapshot: ContainerState, goal: Goal) -> list[Finding]:
    """Which networks of the snapshot the container is not really back on. Raises EngineError."""
    missing = []
    for wanted in snapshot.endpoints:
        if not goal.cuts(wanted):
            continue
        found = state.endpoint_like(wanted)
        if found is None:
            missing.append(Finding("not_connected", f"it is not on network {wanted.network}"))
        elif state.running and not _is_member(engine, wanted.reference, state.id):
            # A connect that failed for a taken address leaves the network in inspect, and no interface (measured).
            message = f"inspect says it is on network {wanted.network}, which does not list it"
            missing.append(Finding("not_connected", message))
        elif comparable(found.settings) != comparable(wanted.settings):
            message = f"its settings on network {wanted.network} are not those of before"
            missing.append(Finding("other_settings", message))
    return missing


def not_restored(state: ContainerState, snapshot: ContainerState, goal: Goal) -> list[dict[str, str]]:
    """What the engine chose anew, because nothing can pin it: each with what, before, after."""
    differences = []
    if snapshot.running and not state.running:
        # One that was between two restarts when it was isolated: nothing starts it while its restart policy is no.
        differences.append({"what": "state", "before": snapshot.status, "after": state.status})
    for before in snapshot.endpoints:
        after = state.endpoint_like(before)
        if after is None or not goal.cuts(before) or not (snapshot.running and state.running):
            continue
        # A MAC address counts where somebody configured it; others change with the IP address, or at random.
        names = ("ipv4_address", "ipv6_address", *(("mac_address",) if before.settings.mac_address else ()))
        for name in names:
            old, new = getattr(before, name), getattr(after, name)
            if old and old != new:
                differences.append({"what": f"{name} on network {before.network}", "before": old, "after": new})
    for port, old_bindings in snapshot.ports.items():
        new_bindings = state.ports.get(port, ())
        if old_bindings != new_bindings and snapshot.running and state.running:
            differences.append(
                {"what": f"host port of {port}", "before": ", ".join(old_bindings), "after": ", ".join(new_bindings)}
            )
    return differences


def comparable(settings: EndpointSettings) -> EndpointSettings:
    """What two settings of an endpoint are compared by."""
    # Whether a MAC address is honoured depends on the driver; where it is not, not_restored says so.
    return dataclasses.replace(settings, mac_address="", aliases=tuple(sorted(settings.aliases)))


def _is_member(engine: Engine, network_id: str, container_id: str) -> bool:
    try:
        return container_id in (engine.inspect_network(network_id).get("Containers") or {})
    except NotFound:
        return False


def _stray_interfaces(state: ContainerState, live_endpoints: t.Sequence[Endpoint], interfaces: Interfaces) -> list[str]:
    if not state.pid or state.network_mode == "host":
        return []
    found = interfaces(state.pid, state.id)
    if found is None:
        return []
    stray = sorted(found - _INERT_INTERFACES)
    expected = sum(endpoint.network != NO_NETWORK for endpoint in live_endpoints)
    if len(stray) <= expected:
        return []
    return ["its network namespace holds {}, but inspect knows of {} network(s)".format(", ".join(stray), expected)]


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
