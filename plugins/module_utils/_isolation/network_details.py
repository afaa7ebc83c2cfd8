# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is set on the interfaces of a container and inspect does not show, so that a release can tell what was lost.

An interface goes with the network that it leads to, and with it goes what was done to it from inside: its MTU, its
sysctls, addresses and routes. The engine makes another one, under a name of its own choice.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import socket
import threading
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.text import display
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import cgroup, netlink, sysctl
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.netlink import Device, Route
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import Endpoint

# The container is not paused yet while this is read, and whoever has NET_ADMIN in it can make as many as he likes.
_MOST_READ = 500
_MOST_KEPT = 100
_MOST_TOLD = 200
_PATIENCE = 0.25
# Routes that come and go by themselves: RTPROT_REDIRECT, RTPROT_KERNEL and RTPROT_RA.
_MADE_BY_ITSELF = (1, 2, 9)
_MAIN_TABLE = 254
_KINDS = {1: "", 2: "local ", 3: "broadcast ", 4: "anycast ", 5: "multicast ", 6: "blackhole ", 7: "unreachable "}
_KINDS.update({8: "prohibit ", 9: "throw ", 10: "nat "})


@dataclasses.dataclass(frozen=True)
class Interface:
    """The interface that leads to a network.

    Attributes:
        name: as text for display.
        mtu: in bytes.
        settings: by kind of sysctl, the values in the order of the kernel, separated by spaces.
    """

    name: str
    mtu: int
    settings: t.Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Details:
    """What is set in the network namespace of a container.

    Attributes:
        interfaces: by name of the network.
        made: routes and addresses that neither the kernel nor the address of an endpoint explains, as texts for
            display, sorted; a bounded number of them.
        more: how many there are besides, as far as they were counted.
    """

    interfaces: t.Mapping[str, Interface]
    made: tuple[str, ...] = ()
    more: int = 0

    def in_order(self, endpoints: t.Iterable[Endpoint]) -> tuple[Endpoint, ...]:
        """The endpoints in the order of their interfaces; those that have none in their own, and last.

        Engines from 28 on give the lowest free name: connected in this order, each gets its own.
        """
        names = {network: interface.name for network, interface in self.interfaces.items()}

        def place(endpoint: Endpoint) -> tuple[bool, int, str]:
            name = names.get(endpoint.network, "")
            return not name, len(name), name

        return tuple(sorted(endpoints, key=place))

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Details:
        """What dataclasses.asdict made of it. Raises KeyError or TypeError where it is something else."""
        interfaces = {network: Interface(**interface) for network, interface in value["interfaces"].items()}
        return cls(interfaces, tuple(value["made"]), value["more"])


def differences(before: Details | None, after: Details | None) -> list[dict[str, str]]:
    """What was lost: each with what, before, after. Nothing where one of them is not known."""
    if before is None or after is None:
        return []
    found: list[dict[str, str]] = []
    for network, old in before.interfaces.items():
        if network in after.interfaces:
            found += _differences_of(network, old, after.interfaces[network])
    if not after.more:
        there = set(after.made)
        found += [{"what": one, "before": "present", "after": "missing"} for one in before.made if one not in there]
    if before.more > after.more:
        # They are not kept, so nobody can say which.
        what = "number of further routes and addresses, as far as they were counted"
        found.append({"what": what, "before": str(before.more), "after": str(after.more)})
    rest = len(found) - _MOST_TOLD
    if rest > 0:
        what = "number of further settings of its networks that were lost"
        found[_MOST_TOLD:] = [{"what": what, "before": "0", "after": str(rest)}]
    return found


def read_details(pid: int, container_id: str, endpoints: t.Sequence[Endpoint]) -> Details | None:
    """What is set in the network namespace of a process of a container; None where that cannot be known, or not soon.

    That is so where the process is gone or on another host, without CAP_SYS_ADMIN and CAP_SYS_PTRACE, and where there
    is too much of it.

    Args:
        pid: of the process, as the engine tells it.
        container_id: of the container, in full: a control group of the process must name it.
        endpoints: those that it is on.
    """
    read: list[Details] = []

    def run() -> None:
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            read.append(_read(stack, pid, container_id, endpoints))

    # A thread goes there and ends there. The kernel may keep it waiting while it takes down namespaces of others, which
    # must not keep a container from being paused.
    thread = threading.Thread(target=run, name="container-guard-details", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    thread.join(_PATIENCE)
    return read[0] if read else None


def _read(stack: contextlib.ExitStack, pid: int, container_id: str, endpoints: t.Sequence[Endpoint]) -> Details:
    process = _opened(stack, f"/proc/{pid}", os.O_DIRECTORY)
    if not cgroup.names(cgroup.memberships_of(process), container_id):
        raise ValueError("the process is not of the container")
    opened = stack.enter_context(contextlib.closing(netlink.enter(_opened(stack, "ns/net", dir_fd=process))))
    devices = netlink.read_devices(opened, _MOST_READ)
    return details_of(
        devices,
        netlink.read_neighbour_settings(opened, 2 * _MOST_READ + 2),
        netlink.read_addresses(opened, _MOST_READ),
        netlink.read_routes(opened, _MOST_READ),
        endpoints,
    )


def details_of(
    devices: t.Sequence[Device],
    neighbours: t.Iterable[netlink.NeighbourSettings],
    addresses: t.Iterable[netlink.Address],
    routes: t.Iterable[Route],
    endpoints: t.Iterable[Endpoint],
) -> Details:
    """What is set, of what the kernel tells. Raises ValueError for what is not fit for that."""
    endpoints = tuple(endpoints)
    on = _networks_of(devices, endpoints)
    settings = {
        device.link.ifindex: {sysctl.IPV4: _joined(device.ipv4), sysctl.IPV6: _joined(device.ipv6)}
        for device in devices
        if device.link.ifindex in on
    }
    for one in neighbours:
        if one.ifindex in on:
            kind = sysctl.IPV4_NEIGHBOURS if one.family == socket.AF_INET else sysctl.IPV6_NEIGHBOURS
            settings[one.ifindex][kind] = _joined(sysctl.of_neighbours(one.values))
    interfaces = {
        on[device.link.ifindex]: Interface(display(device.link.name), device.mtu, settings[device.link.ifindex])
        for device in devices
        if device.link.ifindex in on
    }
    places = {device.link.ifindex: _place(device, on.get(device.link.ifindex, "")) for device in devices}
    known = {address for endpoint in endpoints for address in (endpoint.ipv4_address, endpoint.ipv6_address)}
    made = [
        display(f"address {address.text}/{address.prefix}{places[address.ifindex]}")
        for address in addresses
        if address.ifindex in on and not address.scope and address.text not in known
    ]
    made += [
        display(_shown(route, places))
        for route in routes
        if route.family in (socket.AF_INET, socket.AF_INET6)
        and route.protocol not in _MADE_BY_ITSELF
        and not route.cached
    ]
    made = sorted(set(made))
    return Details(interfaces, tuple(made[:_MOST_KEPT]), max(0, len(made) - _MOST_KEPT))


def _networks_of(devices: t.Iterable[Device], endpoints: t.Iterable[Endpoint]) -> dict[int, str]:
    """Which interface leads to which network, by the MAC address; none where several have the same."""
    mac_addresses = [(endpoint.mac_address.lower(), endpoint.network) for endpoint in endpoints if endpoint.mac_address]
    # What sits on an interface in the same namespace has its address, too, and leads nowhere by itself.
    out = [device for device in devices if device.link.peer_nsid is not None]
    by_address = collections.Counter(device.address for device in out)
    by_address.update(address for address, _network in mac_addresses)
    networks = dict(mac_addresses)
    return {
        device.link.ifindex: networks[device.address]
        for device in out
        if device.address in networks and by_address[device.address] == 2
    }


def _differences_of(network: str, old: Interface, new: Interface) -> t.Iterator[dict[str, str]]:
    if old.name != new.name:
        yield {"what": f"name of the interface on network {network}", "before": old.name, "after": new.name}
    if old.mtu != new.mtu:
        yield {"what": f"MTU on network {network}", "before": str(old.mtu), "after": str(new.mtu)}
    for kind in sorted(old.settings.keys() & new.settings.keys()):
        values = zip(old.settings[kind].split(), new.settings[kind].split())
        for index, (was, found) in enumerate(values):
            name = sysctl.name_of(kind, old.name, index)
            # The kernel makes this one follow the MTU of the interface.
            if was == found or (name == f"{sysctl.IPV6}.{old.name}.mtu" and old.mtu != new.mtu):
                continue
            yield {
                "what": f"sysctl {name}",
                "before": sysctl.shown(kind, index, int(was)),
                "after": sysctl.shown(kind, index, int(found)),
            }


def _shown(route: Route, places: t.Mapping[int, str]) -> str:
    hops = ",".join(
        (f" via {gateway}" if gateway else "") + places.get(ifindex, "") for gateway, ifindex in sorted(route.hops)
    )
    return "route {}{}{}{}{}".format(
        _KINDS.get(route.kind, f"type {route.kind} "),
        route.destination or ("default" if route.family == socket.AF_INET else "default (IPv6)"),
        hops,
        f" metric {route.metric}" if route.metric else "",
        f" table {route.table}" if route.table != _MAIN_TABLE else "",
    )


def _place(device: Device, network: str) -> str:
    """Where an interface leads to. Its name says nothing where the engine chooses another one each time."""
    if network:
        return f" on network {network}"
    return "" if device.link.peer_nsid is not None else f" dev {device.link.name}"


def _joined(values: t.Iterable[int]) -> str:
    return " ".join(map(str, values))


def _opened(stack: contextlib.ExitStack, path: str, flags: int = 0, dir_fd: int | None = None) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=dir_fd)
    stack.callback(os.close, descriptor)
    return descriptor
