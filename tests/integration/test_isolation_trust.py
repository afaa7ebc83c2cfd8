# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an isolation is worth beside containers that do as they like, and what a release is refused for beforehand."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import typing as t

import docker
import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld

BOTH = (Action("pause"), Action("network_disconnect"))
CGROUPS = pathlib.Path("/sys/fs/cgroup")


@pytest.fixture
def isolator(docker_world: HostWorld, tmp_path: pathlib.Path) -> Isolator:
    return Isolator(docker_world.engine, Journal(str(tmp_path / "state")), HostTruth(docker_world.docker_host))


def pid_of(world: HostWorld, container: str) -> int:
    return int(world.engine.inspect_container(container)["State"]["Pid"])


def ip(world: HostWorld, container: str, *arguments: str) -> None:
    """Run ip in the network namespace of a container."""
    command = ("nsenter", "-t", str(pid_of(world, container)), "-n", "ip", *arguments)
    subprocess.run(command, check=True, capture_output=True)


def refused(outcome: Outcome) -> str:
    assert outcome.outcome == "refused", outcome
    return str((outcome.error or {})["message"])


class TestInterfaces:
    def test_c1_what_a_vpn_client_and_an_inner_engine_make_is_a_warning(
        self, docker_world: HostWorld, isolator: Isolator
    ) -> None:
        container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
        ip(docker_world, container, "tuntap", "add", "tun0", "mode", "tun")
        ip(docker_world, container, "link", "add", "docker0", "type", "bridge")
        ip(docker_world, container, "link", "add", "va", "type", "veth", "peer", "name", "vb")
        outcome = isolator.isolate(container, BOTH)
        assert outcome.outcome == "isolated", outcome.error
        (warning,) = (text for text in outcome.warnings if "interfaces of its own" in text)
        for own in ("tun0 (tun)", "docker0 (bridge)", "va (veth)", "vb (veth)"):
            assert own in warning
        assert isolator.isolate(container, BOTH).outcome == "held"
        assert isolator.release(container).outcome == "released"

    def test_c1_an_interface_that_was_put_in_from_outside_is_a_contradiction(
        self, docker_world: HostWorld, isolator: Isolator
    ) -> None:
        container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
        name = f"cg{os.getpid()}"[:12]
        pid = str(pid_of(docker_world, container))
        add = ("ip", "link", "add", name, "type", "veth", "peer", "name", "eth9", "netns", pid)
        subprocess.run(add, check=True, capture_output=True)
        try:
            outcome = isolator.isolate(container, BOTH)
            assert (outcome.outcome, outcome.error and outcome.error["kind"]) == ("unknown", "contradiction")
            assert "eth9 (veth)" in (outcome.error or {})["message"]
            assert docker_world.state(container) == "paused", "what can be done is done"
            assert docker_world.keys(container) == {}
        finally:
            subprocess.run(("ip", "link", "delete", name), check=True, capture_output=True)
        assert isolator.isolate(container, BOTH).ok


class TestFreezer:
    def test_c3_a_process_outside_the_freezer_is_a_contradiction(
        self, docker_world: HostWorld, isolator: Isolator
    ) -> None:
        container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
        command = docker_world.api.exec_create(container, ["sleep", "3600"])["Id"]
        docker_world.api.exec_start(command, detach=True)
        pid = docker_world.until(lambda: docker_world.api.exec_inspect(command)["Pid"], "it runs")
        versions = (CGROUPS / "freezer/cgroup.procs", CGROUPS / "cgroup.procs")
        next(path for path in versions if path.exists()).write_text(str(pid))
        outcome = isolator.isolate(container, BOTH)
        assert outcome.outcome == "unknown", outcome
        assert f"process {pid} (sleep)" in (outcome.error or {})["message"]


class TestPorts:
    def test_d2_a_host_port_that_a_process_of_the_host_holds(self, docker_world: HostWorld, isolator: Isolator) -> None:
        port = docker_world.free_host_port()
        network = docker_world.make_network("n")
        container = docker_world.make_container("c", {network: PLAIN}, published={"80/tcp": port})
        assert isolator.isolate(container, BOTH).ok
        with listening(docker_world, port) as listener:
            message = refused(isolator.release(container))
            assert f"host port {port}/tcp is taken by a process of the host (python3, pid {listener})" in message
        assert isolator.release(container).outcome == "released"


@contextlib.contextmanager
def listening(world: HostWorld, port: int) -> t.Iterator[int]:
    """A process that listens on a port of the host of the engine; its pid."""
    script = (
        f"import socket, sys; s = socket.create_server(('127.0.0.1', {port})); print(1, flush=True); sys.stdin.read()"
    )
    engine = socket.socket(socket.AF_UNIX)
    with engine:
        engine.connect(world.docker_host.partition("://")[2])
        host_pid = int.from_bytes(engine.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), "little")
    command = ("nsenter", "-t", str(host_pid), "-n", "python3", "-c", script)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.communicate(b"\n")


class TestNetworks:
    def test_d2_an_address_outside_the_subnet_of_a_network_that_was_made_anew(
        self, docker_world: HostWorld, isolator: Isolator
    ) -> None:
        network = docker_world.make_network("n")
        settings = EndpointSettings(ipv4_address=docker_world.address(network, 50))
        container = docker_world.make_container("c", {network: settings})
        assert isolator.isolate(container, BOTH).ok
        docker_world.remove_network(network)
        docker_world.make_network("n", subnet="192.0.2.0/24")
        assert "is in no subnet of network" in refused(isolator.release(container))

    def test_d4_a_network_that_a_prune_took_is_made_anew(self, docker_world: HostWorld, isolator: Isolator) -> None:
        network = docker_world.make_network("n", ipv6=True)
        described = docker_world.engine.inspect_network(network)
        settings = EndpointSettings(ipv4_address=docker_world.address(network, 50), aliases=("shop",))
        container = docker_world.make_container("c", {network: settings})
        outcome = isolator.isolate(container, BOTH)
        assert any("was the last one on network" in warning for warning in outcome.warnings)
        docker_world.api.prune_networks({"label": [f"{name}={value}" for name, value in docker_world.labels.items()]})
        with pytest.raises(docker.errors.NotFound):
            docker_world.api.inspect_network(network)
        assert "recreate_networks makes it anew" in refused(isolator.release(container))
        outcome = isolator.release(container, recreate_networks=True)
        assert outcome.outcome == "released", outcome.error
        anew = docker_world.engine.inspect_network(docker_world.name("n"))
        same = ("Driver", "EnableIPv6", "Internal", "Options", "Labels")
        assert {name: anew[name] for name in same} == {name: described[name] for name in same}
        subnets = [[pool["Subnet"] for pool in one["IPAM"]["Config"]] for one in (anew, described)]
        assert sorted(subnets[0]) == sorted(subnets[1])
        assert docker_world.key(container, anew["Id"])["IPAddress"] == settings.ipv4_address


class TestSharers:
    def test_d6_one_whose_owner_was_started_anew_is_refused_beforehand(
        self, docker_world: HostWorld, isolator: Isolator
    ) -> None:
        owner = docker_world.make_container("owner", {docker_world.make_network("n"): PLAIN})
        sidecar = docker_world.make_container("sidecar", network_mode=f"container:{owner}")
        assert isolator.isolate(sidecar, BOTH).ok
        docker_world.api.restart(owner, timeout=0)
        assert "was started anew meanwhile, and it is left with none" in refused(isolator.release(sidecar))
        assert docker_world.state(sidecar) == "paused"
        assert isolator.release(sidecar, restart=True).outcome == "released"
        assert len(docker_world.interfaces(sidecar)) > 1


class TestNetworksMadeAnew:
    """A container that is down, and whose network was removed and made anew meanwhile."""

    @pytest.fixture
    def web(self, docker_world: HostWorld) -> str:
        return docker_world.make_container("web", {docker_world.make_network("n"): EndpointSettings(aliases=("shop",))})

    def make_anew(self, world: HostWorld) -> str:
        world.remove_network(world.name("n"))
        return world.make_network("n")

    @pytest.mark.parametrize("cut", [False, True], ids=["", "it leaves the one that is gone"])
    def test_one_that_was_killed_starts_on_the_new_one(
        self, docker_world: HostWorld, isolator: Isolator, web: str, cut: bool
    ) -> None:
        assert isolator.isolate(web, [Action("kill")]).outcome == "isolated"
        new = self.make_anew(docker_world)
        if cut:
            outcome = isolator.isolate(web, [Action("network_disconnect")])
            assert outcome.outcome == "isolated", outcome.error
        assert isolator.release(web, check=True).outcome == "would_release"
        outcome = isolator.release(web)
        assert outcome.outcome == "released", outcome.error
        assert web in docker_world.engine.inspect_network(new)["Containers"]
        (key,) = docker_world.keys(web).values()
        assert "shop" in key["Aliases"]

    def test_one_whose_network_is_gone_is_refused(self, docker_world: HostWorld, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [Action("kill")])
        docker_world.remove_network(docker_world.name("n"))
        name = docker_world.name("n")
        assert f"network {name} no longer exists; docker network create {name}" in refused(isolator.release(web))

    def test_one_that_an_operator_connected_while_it_was_down_stays_on_the_new_one(
        self, docker_world: HostWorld, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, [Action("network_disconnect"), Action("kill")])
        new = self.make_anew(docker_world)
        docker_world.engine.connect(docker_world.name("n"), web, EndpointSettings(aliases=("shop",)))
        outcome = isolator.release(web)
        assert outcome.outcome == "released", outcome.error
        assert docker_world.state(web) == "running"
        assert web in docker_world.engine.inspect_network(new)["Containers"]
