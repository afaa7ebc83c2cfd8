# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verification: whether what was wanted is also true. Pure functions of what was read."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import Proof
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    NO_NETWORK,
    ContainerState,
)

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import Findings


class Finding(t.NamedTuple):
    """Something that is not as wanted.

    Attributes:
        kind: C(unpaused), C(running), C(restarting), C(restart_policy) or C(reconnected) of a container that should be
            isolated; C(still_paused), C(not_running), C(not_paused), C(restart_policy), C(not_connected),
            C(not_restarted) or C(other_settings) of one that should be released; C(not_done) where a step is left.
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
        warnings: what people should know although it is as wanted.
    """

    unmet: tuple[Finding, ...] = ()
    contradictions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not (self.unmet or self.contradictions)


def verify(state: ContainerState, want: Want, proof: Proof) -> Verification:
    """Whether a container is as wanted, for a state and a proof that were read just now."""
    # Imported here, as pausing does not wait for what proves it.
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import freezer

    unmet = [*(_not_holding(state, want, proof) if want.hold else ()), *_not_given_back(state, want, proof)]
    ways = _ways_out(state, want, proof)
    contradictions = [
        *_contradictions(state, want, proof),
        *ways.contradictions,
        *freezer.contradictions(proof.frozen, proof.unfrozen),
    ]
    return Verification(tuple(unmet), tuple(contradictions), tuple(ways.warnings))


def _not_holding(state: ContainerState, want: Want, proof: Proof) -> list[Finding]:
    hold = want.hold
    unmet = []
    if state.restarting:
        unmet.append(Finding("restarting", "it is restarting"))
    elif hold.pause and state.running and not (state.paused or hold.kill):
        unmet.append(Finding("unpaused", "it is not paused"))
    if hold.ends and state.running and not state.restarting:
        unmet.append(Finding("running", "it still runs"))
    if state.restart_policy.name != "no":
        unmet.append(Finding("restart_policy", f"its restart policy is {state.restart_policy}"))
    unmet += [
        Finding("reconnected", f"it is on network {endpoint.network}")
        for endpoint in (proof.owner or state).live_endpoints
        if hold.cuts(endpoint)
    ]
    return unmet


def _not_given_back(state: ContainerState, want: Want, proof: Proof) -> list[Finding]:
    snapshot, hold, held = want.snapshot, want.hold, want.held
    unmet = []
    if want.end_first and state.running and state.started_at == want.end_first:
        unmet.append(Finding("not_restarted", "its processes of before still run"))
    if held.pause and not hold.pause and state.paused and not snapshot.paused:
        unmet.append(Finding("still_paused", "it is still paused"))
    if want.must_start(state):
        unmet.append(Finding("not_running", "it does not run"))
    ended = want.gives_back_processes and (held.ends or want.end_first or want.owes_start)
    if ended and snapshot.paused and state.running and not state.paused:
        unmet.append(Finding("not_paused", "it is not paused, as it was before"))
    if not hold and state.restart_policy != snapshot.restart_policy:
        message = f"its restart policy is {state.restart_policy}, not {snapshot.restart_policy}"
        unmet.append(Finding("restart_policy", message))
    return unmet + missing_networks(state, want, proof)


def missing_networks(state: ContainerState, want: Want, proof: Proof) -> list[Finding]:
    """Which networks that are given back the container is not really on. While there are any, it must not run."""
    missing = [Finding("not_connected", proof.owner_held)] if proof.owner_held else []
    for wanted in want.snapshot.endpoints:
        if not want.gives_back(wanted):
            continue
        found = state.endpoint_like(wanted)
        if found is None:
            missing.append(Finding("not_connected", f"it is not on network {wanted.network}"))
        elif state.running and not proof.lists(wanted, state.id):
            # A connect that failed for a taken address leaves the network in inspect, and no interface (measured).
            message = f"inspect says it is on network {wanted.network}, which does not list it"
            missing.append(Finding("not_connected", message))
        elif comparable(found.settings) != comparable(wanted.settings):
            message = f"its settings on network {wanted.network} are not those of before"
            missing.append(Finding("other_settings", message))
    return missing


def _contradictions(state: ContainerState, want: Want, proof: Proof) -> list[str]:
    hold = want.hold
    if not hold.networks:
        return []
    connected = proof.owner or state
    found = []
    if not proof.owner:
        # What a failed connect leaves, or a disconnect that the engine did not live to finish (measured).
        found += [
            f"inspect says it is on network {endpoint.network}, which does not list it"
            for endpoint in state.live_endpoints
            if hold.cuts(endpoint) and state.pid and not proof.lists(endpoint, state.id)
        ]
    found += [
        f"inspect says it left network {endpoint.network}, which still lists it"
        for endpoint in want.snapshot.endpoints
        if hold.cuts(endpoint) and state.endpoint_like(endpoint) is None and proof.lists(endpoint, state.id)
    ]
    if proof.links is not None or not state.running or state.network_mode == "host":
        return found
    # Nobody has looked into the network namespace, so an engine that says too little is not taken at its word.
    found += [
        f"inspect lists network {endpoint.network} and does not say whether it is connected"
        for endpoint in connected.endpoints
        if hold.cuts(endpoint) and not endpoint.attached
    ]
    found += [
        f"network {endpoint.network} does not say which containers are on it"
        for endpoint in want.snapshot.endpoints
        if hold.cuts(endpoint) and proof.lists(endpoint, state.id) is None
    ]
    return found


def _ways_out(state: ContainerState, want: Want, proof: Proof) -> Findings:
    """What the interfaces in its network namespace say."""
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import (
        Findings,
        findings,
    )

    if proof.links is None or not want.hold.networks:
        return Findings()
    attached = [endpoint for endpoint in (proof.owner or state).live_endpoints if endpoint.network != NO_NETWORK]
    return findings(proof.links, len(attached), any(map(proof.is_overlay, attached)))


def not_restored(state: ContainerState, want: Want) -> list[dict[str, str]]:
    """What the engine chose anew, because nothing can pin it: each with what, before, after."""
    snapshot = want.snapshot
    differences = []
    if snapshot.running and not state.running:
        # One that was between two restarts when it was isolated: nothing starts it while its restart policy is no.
        differences.append({"what": "state", "before": snapshot.status, "after": state.status})
    for before in snapshot.endpoints:
        after = state.endpoint_like(before)
        if after is None or not want.gives_back(before) or not (snapshot.running and state.running):
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
