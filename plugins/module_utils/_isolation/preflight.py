# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of a release, found out before anything is touched.

A connect that fails halfway leaves a state that only stopping the container mends (measured): a live interface that no
disconnect takes away.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import name_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings, Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.advice import PREDEFINED
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.giving_back import Preflight
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import GroundTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.host_ports import process_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    ContainerState,
    Endpoint,
    HostPort,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import comparable

_LOCAL_ID = 64
"""Digits of the id of a network that is not one of a swarm."""


def check_giving_back(
    engine: Engine,
    truth: GroundTruth,
    state: ContainerState,
    want: Want,
    owner: ContainerState | None,
    entry: Entry,
    recreate: bool,
) -> Preflight:
    """Look for networks that are gone, for addresses and ports that others took, and for what others changed.

    Args:
        engine: the engine.
        truth: the kernel of its host.
        state: of the container.
        want: what is wanted of it.
        owner: of its network, where it uses that of another container which still exists.
        entry: of the journal.
        recreate: make networks anew that are gone.

    Raises:
        EngineError.
    """
    snapshot = want.snapshot
    problems = _stranded(state, want, owner, entry.owner_started_at)
    recreated: list[t.Mapping[str, str]] = []
    conflicts = _conflicts(state, want) if not want.hold else []
    if not want.hold and state.restart_policy.name != "no" and state.restart_policy != snapshot.restart_policy:
        conflicts.append(_conflict("restart policy", str(snapshot.restart_policy), str(state.restart_policy)))
        snapshot = dataclasses.replace(snapshot, restart_policy=state.restart_policy)
    endpoints = []
    creates: dict[str, t.Mapping[str, t.Any]] = {}
    gone: list[str] = []
    reconnects, starts = False, want.must_start(state)
    for endpoint in snapshot.endpoints:
        found = state.endpoint_like(endpoint)
        if want.hold.cuts(endpoint):
            pass  # it stays off
        elif found is None and not want.held.cuts(endpoint):
            conflicts.append(_conflict(f"network {endpoint.network}", "connected", "not connected"))
        else:
            if found is not None and comparable(found.settings) != comparable(endpoint.settings):
                what = f"settings on network {endpoint.network}"
                conflicts.append(_conflict(what, _shown(endpoint.settings), _shown(found.settings)))
                endpoint = dataclasses.replace(endpoint, settings=found.settings)
            reconnects = reconnects or found is None
            # The engine starts it on those of its own, whose ids it may make anew, by their names.
            takes_up = starts and endpoint.network not in PREDEFINED
            network = _network(engine, found or endpoint) if takes_up or found is None else None
            if found is not None and takes_up and _is_stale(found, network):
                gone.append(found.network_id)
                found = None
            if found is not None and network is None:
                pass  # it is there, or a node learns of it again when it starts
            elif network is None and entry.networks.get(endpoint.network, {}).get("Scope") == "swarm":
                # A node forgets an overlay network with its last container there, and learns of it again by its name.
                endpoint = dataclasses.replace(endpoint, network_id="")
            elif network is None and recreate and endpoint.network in entry.networks:
                creates[endpoint.network] = entry.networks[endpoint.network]
                recreated.append({"what": f"network {endpoint.network}", "before": "there", "after": "made anew"})
                endpoint = dataclasses.replace(endpoint, network_id="")
            elif network is None:
                remedy = (
                    "recreate_networks makes it anew"
                    if endpoint.network in entry.networks
                    else f"docker network create {endpoint.network}, with the driver and the subnets that it had"
                )
                problems.append(f"network {endpoint.network} no longer exists; {remedy}")
            else:
                problems += _unusable_addresses(endpoint, network, state.id)
                if endpoint.network_id and network["Id"] != endpoint.network_id:
                    what = f"id of network {endpoint.network}"
                    recreated.append({"what": what, "before": endpoint.network_id, "after": network["Id"]})
                    endpoint = dataclasses.replace(endpoint, network_id=network["Id"])
        endpoints.append(endpoint)
    snapshot = dataclasses.replace(snapshot, endpoints=tuple(endpoints))
    # What it has to leave for others to take its place is to be given back, whatever comes in between.
    left = Goal(networks=tuple(endpoint.network for endpoint in state.endpoints if endpoint.network_id in gone))
    want = dataclasses.replace(
        want, snapshot=snapshot, creates=creates, gone=tuple(gone), held=want.held.with_all_of(left)
    )
    opens = any(not want.hold.cuts(endpoint) for endpoint in endpoints)
    if opens and (starts or (reconnects and state.running)):
        problems += _taken_ports(engine, truth, state, snapshot)
    return Preflight(want, tuple(problems), tuple(recreated), tuple(conflicts))


def _stranded(state: ContainerState, want: Want, owner: ContainerState | None, owner_started_at: str) -> list[str]:
    """Why a container that uses the network of another one would come back without any."""
    if not state.network_owner or want.hold or not want.held.networks or not state.running or want.end_first:
        return []
    if owner is None:
        return [
            f"container {state.network_owner[:12]}, whose network it uses, no longer exists, and it is left with none"
        ]
    # By the clock of the engine alone: that of whoever isolated it may be another one.
    this, that = parse_timestamp(owner.started_at), parse_timestamp(state.started_at)
    if owner.running and owner.started_at != owner_started_at and this and that and this > that:
        # Started anew, the owner has another network namespace, and those that used the old one stay in it (measured).
        return [f"container {owner.name}, whose network it uses, was started anew meanwhile, and it is left with none"]
    return []


def _conflicts(state: ContainerState, want: Want) -> list[t.Mapping[str, str]]:
    """What somebody changed that a release does not touch at all."""
    snapshot = want.snapshot
    conflicts = []
    if state.name != snapshot.name:
        conflicts.append(_conflict("name", snapshot.name, state.name))
    known = {endpoint.network for endpoint in snapshot.endpoints}
    conflicts += [
        _conflict(f"network {endpoint.network}", "not connected", "connected")
        for endpoint in state.live_endpoints
        if endpoint.network not in known
    ]
    if state.running and not (want.held.ends or want.owes_start or want.end_first):
        if state.paused and not (want.held.pause or snapshot.paused) and snapshot.running:
            conflicts.append(_conflict("state", "running", "paused"))
        was = "not running" if not snapshot.running else "paused" if snapshot.paused else "running"
        if (was == "paused" and not state.paused) or was == "not running":
            conflicts.append(_conflict("state", was, "paused" if state.paused else "running"))
    return conflicts


def _conflict(what: str, before: str, found: str) -> t.Mapping[str, str]:
    return {"what": what, "before": before, "found": found}


def _shown(settings: EndpointSettings) -> str:
    asked = {name: value for name, value in dataclasses.asdict(settings).items() if value}
    return json.dumps(asked, sort_keys=True, default=list) if asked else "defaults"


def _network(engine: Engine, endpoint: Endpoint) -> dict[str, t.Any] | None:
    for reference in dict.fromkeys((endpoint.reference, endpoint.network)):
        try:
            return engine.inspect_network(reference)
        except NotFound:
            continue
        except EngineError as error:
            if error.status != 400:  # two networks of that name: "is ambiguous"
                raise
    return None


def _is_stale(key: Endpoint, network: dict[str, t.Any] | None) -> bool:
    """Whether a container that is down cannot start, as its key has the id of a network that is gone (measured).

    Where it has none yet, the engine goes by the name. The id of a network of a swarm, which a node may have forgotten
    for a while, is shorter.
    """
    current = network["Id"] if network else ""
    return len(key.network_id) == _LOCAL_ID and key.network_id != current


def _unusable_addresses(endpoint: Endpoint, network: dict[str, t.Any], container_id: str) -> list[str]:
    wanted = [
        address
        for address in map(_address, (endpoint.settings.ipv4_address, endpoint.settings.ipv6_address))
        if address is not None
    ]
    subnets = [
        subnet
        for config in (network.get("IPAM") or {}).get("Config") or ()
        for subnet in [_subnet(config.get("Subnet"))]
        if subnet is not None
    ]
    outside = [
        f"address {address} is in no subnet of network {endpoint.network}"
        for address in wanted
        if subnets and not any(address in subnet for subnet in subnets)
    ]
    return outside + [
        f"address {address} on network {endpoint.network} is taken by container {member.get('Name', other[:12])}"
        for other, member in (network.get("Containers") or {}).items()
        for address in (
            _address(str(member.get(key) or "").partition("/")[0]) for key in ("IPv4Address", "IPv6Address")
        )
        if other != container_id and address in wanted
    ]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    # One address has many spellings.
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _subnet(text: object) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError:
        return None


def _taken_ports(engine: Engine, truth: GroundTruth, state: ContainerState, snapshot: ContainerState) -> list[str]:
    """The host ports that it was made with and that somebody else has, with who that is."""
    if not snapshot.fixed_ports:
        return []
    taken = {
        port: f"container {name_of(entry)}"
        for entry in engine.list_containers()
        for port in _overlapping({_published(binding) for binding in entry.get("Ports") or ()}, snapshot.fixed_ports)
        if entry["Id"] != snapshot.id and _still_runs(engine, entry["Id"])
    }
    # Of a container that keeps another network the engine has opened them there (measured).
    own = {binding.rpartition(":")[2] for bindings in state.ports.values() for binding in bindings}
    for listener in truth.listeners() or ():
        for port in _overlapping([HostPort(listener.address, listener.port)], snapshot.fixed_ports):
            if port not in taken and port.port.partition("/")[0] not in own:
                process = process_of(listener)
                taken[port] = f"a process of the host ({process})" if process else "a process of the host"
    return [f"host port {port.port} is taken by {who}" for port, who in taken.items()]


def _overlapping(taken: t.Iterable[HostPort], wanted: t.Sequence[HostPort]) -> list[HostPort]:
    """Which of the ports that are wanted cannot be had beside those that are taken."""
    return [
        port for port in wanted for other in taken if port.port == other.port and _overlap(other.address, port.address)
    ]


def _still_runs(engine: Engine, container_id: str) -> bool:
    # The list lags behind a stop by some milliseconds, for which inspect waits (measured).
    try:
        return bool(engine.inspect_container(container_id)["State"]["Running"])
    except NotFound:
        return False


def _published(binding: t.Mapping[str, t.Any]) -> HostPort:
    return HostPort(str(binding.get("IP") or ""), f"{binding.get('PublicPort')}/{binding.get('Type')}")


def _overlap(one: str, other: str) -> bool:
    anywhere = ("", "0.0.0.0", "::")  # noqa: S104 - compared, nothing listens
    return one == other or one in anywhere or other in anywhere
