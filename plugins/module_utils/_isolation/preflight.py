# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of a release, found out before anything is touched.

A connect that fails halfway leaves a state that only stopping the container mends (measured): a live interface that no
disconnect takes away.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import name_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    ContainerState,
    Endpoint,
    HostPort,
)


class Preflight(t.NamedTuple):
    """What a release will meet.

    Attributes:
        snapshot: with the ids of networks that were re-created meanwhile under the same name.
        problems: what has to be mended first.
        recreated: names of those networks, with the id before and after.
    """

    snapshot: ContainerState
    problems: tuple[str, ...]
    recreated: tuple[t.Mapping[str, str], ...]


def check_release(engine: Engine, state: ContainerState, snapshot: ContainerState, goal: Goal) -> Preflight:
    """Look for networks that are gone, and for addresses and ports that others took. Raises EngineError."""
    problems: list[str] = []
    recreated: list[t.Mapping[str, str]] = []
    endpoints = []
    reconnects = False
    for endpoint in snapshot.endpoints:
        if goal.cuts(endpoint) and state.endpoint_like(endpoint) is None:
            reconnects = True
            network = _network(engine, endpoint)
            if network is None:
                problems.append(f"network {endpoint.network} no longer exists")
            else:
                problems += _taken_addresses(endpoint, network, state.id)
                if endpoint.network_id and network["Id"] != endpoint.network_id:
                    what = f"id of network {endpoint.network}"
                    recreated.append({"what": what, "before": endpoint.network_id, "after": network["Id"]})
                    endpoint = dataclasses.replace(endpoint, network_id=network["Id"])
        endpoints.append(endpoint)
    if reconnects and state.running:
        problems += _taken_ports(engine, snapshot)
    return Preflight(dataclasses.replace(snapshot, endpoints=tuple(endpoints)), tuple(problems), tuple(recreated))


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


def _taken_addresses(endpoint: Endpoint, network: dict[str, t.Any], container_id: str) -> list[str]:
    wanted = {endpoint.settings.ipv4_address, endpoint.settings.ipv6_address} - {""}
    return [
        f"address {address} on network {endpoint.network} is taken by container {member.get('Name', other[:12])}"
        for other, member in (network.get("Containers") or {}).items()
        for address in (str(member.get(key) or "").partition("/")[0] for key in ("IPv4Address", "IPv6Address"))
        if other != container_id and address in wanted
    ]


def _taken_ports(engine: Engine, snapshot: ContainerState) -> list[str]:
    if not snapshot.fixed_ports:
        return []
    return [
        f"host port {wanted.port} is taken by container {name_of(entry)}"
        for entry in engine.list_containers()
        if entry["Id"] != snapshot.id
        for taken in {_published(binding) for binding in entry.get("Ports") or ()}
        for wanted in snapshot.fixed_ports
        if taken.port == wanted.port and _overlap(taken.address, wanted.address)
    ]


def _published(binding: t.Mapping[str, t.Any]) -> HostPort:
    return HostPort(str(binding.get("IP") or ""), f"{binding.get('PublicPort')}/{binding.get('Type')}")


def _overlap(one: str, other: str) -> bool:
    anywhere = ("", "0.0.0.0", "::")  # noqa: S104 - compared, nothing listens
    return one == other or one in anywhere or other in anywhere
