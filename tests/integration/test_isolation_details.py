# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What containers lose with their interfaces, and that a release tells it, all of it and nothing else.

Needs root, as the guard does on a host: test hosts share the /proc of this machine.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import socket
import subprocess
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import netlink, sysctl
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import (
    Details,
    read_details,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.guarded import not_restored

BOTH = (Action("pause"), Action("network_disconnect"))


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Journal:
    return Journal(str(tmp_path / "state"))


@pytest.fixture
def isolator(docker_world: HostWorld, journal: Journal) -> Isolator:
    return Isolator(docker_world.engine, journal)


def state_of(world: HostWorld, container: str) -> ContainerState:
    return ContainerState.from_inspect(world.engine.inspect_container(container))


def details_of(world: HostWorld, container: str) -> Details:
    state = state_of(world, container)
    found = read_details(state.pid, state.id, state.live_endpoints)
    assert found is not None
    return found


def inside(world: HostWorld, container: str, *commands: str) -> None:
    """Run commands in its network namespace, as a process in it with NET_ADMIN can."""
    for command in commands:
        arguments = ["nsenter", "-t", str(state_of(world, container).pid), "-n", "sh", "-ec", command]
        done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stderr)


def lost(outcome: Outcome) -> dict[str, tuple[str, str]]:
    """What was lost, but for the names that engines before 28 choose anew."""
    assert outcome.outcome == "released", outcome.error
    return {one["what"]: (one["before"], one["after"]) for one in not_restored(outcome)}


@pytest.mark.fact("C.connect.14")
@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_d5_one_that_lost_nothing_but_names_tells_nothing_else(
    docker_world: HostWorld, isolator: Isolator, ipv6: bool
) -> None:
    networks = [docker_world.make_network(name, ipv6=ipv6) for name in ("b", "c", "a")]
    container = docker_world.make_container("c", {networks[0]: PLAIN})
    for other in networks[1:]:
        docker_world.engine.connect(other, container, PLAIN)
    before = details_of(docker_world, container)
    assert [(network[-1], one.name) for network, one in sorted(before.interfaces.items())] == [
        *(("a", "eth2"), ("b", "eth0"), ("c", "eth1"))
    ]
    isolator.isolate(container, BOTH)
    outcome = isolator.release(container)
    assert lost(outcome) == {}
    after = details_of(docker_world, container)
    told = {one["what"]: (one["before"], one["after"]) for one in outcome.not_restored}
    assert told == {
        f"name of the interface on network {network}": (interface.name, after.interfaces[network].name)
        for network, interface in before.interfaces.items()
        if interface.name != after.interfaces[network].name
    }
    # C.connect.14: since 28 it is the lowest free name, so that each gets its own in the order of before.
    assert (told == {}) == docker_world.engine_from(28)


@pytest.mark.fact("C.connect.18")
def test_d5_mtu_route_address_and_sysctls_are_told(docker_world: HostWorld, isolator: Isolator) -> None:
    network = docker_world.make_network("n")
    name = docker_world.name("n")
    container = docker_world.make_container("c", {network: PLAIN})
    gateway, extra = docker_world.key(container, network)["Gateway"], docker_world.address(network, 200)
    inside(
        docker_world,
        container,
        "ip link set eth0 mtu 1300",
        f"ip route add 203.0.113.0/24 via {gateway}",
        f"ip route add 192.0.2.0/24 via {gateway} table 100",
        f"ip address add {extra}/24 dev eth0",
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/log_martians",
        "echo 120 > /proc/sys/net/ipv4/neigh/eth0/gc_stale_time",
    )
    isolator.isolate(container, BOTH)
    expected = {
        f"MTU on network {name}": ("1300", "1500"),
        f"address {extra}/24 on network {name}": ("present", "missing"),
        f"route 203.0.113.0/24 via {gateway} on network {name}": ("present", "missing"),
        f"route 192.0.2.0/24 via {gateway} on network {name} table 100": ("present", "missing"),
        "sysctl net.ipv4.conf.eth0.log_martians": ("1", "0"),
        "sysctl net.ipv4.neigh.eth0.gc_stale_time": ("120", "60"),
    }
    assert lost(isolator.release(container)) == expected
    # What is gone was told once; a second isolation loses nothing.
    isolator.isolate(container, BOTH)
    assert lost(isolator.release(container)) == {}


def test_d5_what_the_namespace_keeps_is_not_told(docker_world: HostWorld, isolator: Isolator) -> None:
    """A tunnel of its own with its routes, and what new interfaces begin with, outlive the networks."""
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN})
    inside(
        docker_world,
        container,
        "ip tuntap add tun0 mode tun",
        "ip address add 192.0.2.1/24 dev tun0",
        "ip link set tun0 up",
        "ip route add 203.0.113.0/24 dev tun0",
        "for one in default eth0; do echo 1 > /proc/sys/net/ipv4/conf/$one/arp_notify; done",
    )
    assert any("203.0.113.0/24 dev tun0" in made for made in details_of(docker_world, container).made)
    isolator.isolate(container, BOTH)
    assert lost(isolator.release(container)) == {}


def test_d5_what_was_lost_with_one_network_is_told_by_its_name(docker_world: HostWorld, isolator: Isolator) -> None:
    first, second = docker_world.make_network("a"), docker_world.make_network("b")
    container = docker_world.make_container("c", {first: PLAIN, second: PLAIN})
    name = docker_world.name("b")
    # Which of them is eth0 is for the engine to choose.
    interfaces = {network: one.name for network, one in details_of(docker_world, container).interfaces.items()}
    other = interfaces[docker_world.name("a")]
    inside(docker_world, container, f"ip link set {interfaces[name]} mtu 1300", f"ip link set {other} mtu 1400")
    isolator.isolate(container, [Action("network_disconnect", networks=(name,))])
    assert lost(isolator.release(container)) == {f"MTU on network {name}": ("1300", "1500")}


@pytest.mark.fact("C.connect.17")
def test_d5_a_sysctl_that_is_asked_of_the_engine_comes_back(docker_world: HostWorld, isolator: Isolator) -> None:
    network = docker_world.make_network("n")
    option = "com.docker.network.endpoint.sysctls"
    asked = EndpointSettings(driver_opts={option: "net.ipv4.conf.IFNAME.log_martians=1"})
    container = docker_world.make_container("c", {network: asked})
    isolator.isolate(container, BOTH)
    assert lost(isolator.release(container)) == {}


def test_d5_one_that_is_started_anew_has_lost_its_routes(docker_world: HostWorld, isolator: Isolator) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN})
    gateway = docker_world.key(container, network)["Gateway"]
    inside(docker_world, container, f"ip route add 203.0.113.0/24 via {gateway}")
    isolator.isolate(container, (*BOTH, Action("kill")))
    assert lost(isolator.release(container)) == {
        "processes": ("running", "started anew"),
        f"route 203.0.113.0/24 via {gateway} on network {docker_world.name('n')}": ("present", "missing"),
    }


def test_d5_thousands_of_routes_are_neither_kept_nor_do_they_keep_it_from_being_isolated(
    docker_world: HostWorld, isolator: Isolator, journal: Journal, tmp_path: pathlib.Path
) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN})
    routes = tmp_path / "routes"
    routes.write_text("".join(f"route add 10.{n // 256}.{n % 256}.0/24 dev eth0\n" for n in range(20_000)))
    inside(docker_world, container, f"ip -batch {routes}")
    assert isolator.isolate(container, BOTH).outcome == "isolated"
    entry = journal.load(container)
    assert entry is not None
    assert entry.details is not None
    assert (len(entry.details.made), len(entry.to_json()) < 50_000) == (100, True)
    told = lost(isolator.release(container))
    assert told["number of further routes and addresses, as far as they were counted"][1] == "0"
    assert len(told) == 101


# What rtnetlink does not tell, and other names for what it tells by one.
NOT_TOLD = {"stable_secret", "regen_min_advance", "ra_honor_pio_life", "ra_honor_pio_pflag", "mc_forwarding"}
OTHER_NAMES = {"base_reachable_time", "retrans_time", "unres_qlen"}


def test_d5_the_kernel_of_this_machine_calls_and_shows_the_sysctls_so() -> None:
    """Each sysctl of an interface is changed, in a namespace of its own: that one and no other differs then."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        wrong, known = pool.submit(sysctls_that_are_called_otherwise).result()
    assert wrong == {}
    assert len(known) > 80


def sysctls_that_are_called_otherwise() -> tuple[dict[str, object], set[str]]:
    """Those for which something else is told than was changed; and the others. Moves its thread for good."""
    os.unshare(os.CLONE_NEWNET)
    for command in ("link add eth0 type veth peer name peer", "link set peer up", "link set eth0 up"):
        subprocess.run(["ip", *command.split()], check=True)
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with contextlib.closing(netlink.enter(namespace)) as opened:
        os.close(namespace)

        def told() -> dict[str, str]:
            (device,) = (one for one in netlink.read_devices(opened, 9) if one.link.name == "eth0")
            values: dict[str, t.Sequence[int]] = {sysctl.IPV4: device.ipv4, sysctl.IPV6: device.ipv6}
            for one in netlink.read_neighbour_settings(opened, 99):
                if one.ifindex == device.link.ifindex:
                    kind = sysctl.IPV4_NEIGHBOURS if one.family == socket.AF_INET else sysctl.IPV6_NEIGHBOURS
                    values[kind] = sysctl.of_neighbours(one.values)
            return {
                sysctl.name_of(kind, "eth0", index): sysctl.shown(kind, index, value)
                for kind, found in values.items()
                for index, value in enumerate(found)
            }

        wrong: dict[str, object] = {}
        known: set[str] = set()
        for kind in (sysctl.IPV4, sysctl.IPV6, sysctl.IPV4_NEIGHBOURS, sysctl.IPV6_NEIGHBOURS):
            for path in sorted(pathlib.Path("/proc/sys", *kind.split("."), "eth0").iterdir()):
                if path.name in NOT_TOLD | OTHER_NAMES:
                    continue
                name, before, was = f"{kind}.eth0.{path.name}", told(), path.read_text().strip()
                now = next(now for value in ("1", "2", "0", "1400") if (now := changed(path, value)) != was)
                differing = {one: (before[one], found) for one, found in told().items() if before[one] != found}
                if differing == {name: (was, now)}:
                    known.add(name)
                else:
                    wrong[name] = differing
                changed(path, was)
    return wrong, known


def changed(path: pathlib.Path, value: str) -> str:
    """What a sysctl is once that was written, if it may be."""
    with contextlib.suppress(OSError):
        path.write_text(value)
    return path.read_text().strip()
