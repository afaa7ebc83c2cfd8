# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What engines do with the overlay networks and the services of a swarm, on two nodes."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import random
import typing as t
import uuid

import docker
import docker.types
import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN, refused
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import IMAGE, SLEEP, HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.guarded import (
    BOTH,
    CUT,
    LOOPBACK,
    Guarded,
)
from ansible_collections.ironpost.container_guard.tests.testbed.swarm import Swarm

GATEWAY_BRIDGE = "docker_gwbridge"


class Overlay:
    """An overlay network of a swarm, and a corner of the engines of both nodes.

    Attributes:
        manager, worker: the corners.
        id, name: of the network.
        peer: a container of the manager on it, which looks around.
    """

    def __init__(self, manager: HostWorld, worker: HostWorld) -> None:
        self.manager, self.worker = manager, worker
        self.name = f"{worker.prefix}-{uuid.uuid4().hex[:8]}"
        pool = docker.types.IPAMPool(subnet=f"198.{random.choice((18, 19))}.{random.randrange(256)}.0/24")  # noqa: S311 - a draw, no secret
        self.id = str(
            manager.api.create_network(
                self.name, driver="overlay", attachable=True, ipam=docker.types.IPAMConfig(pool_configs=[pool])
            )["Id"]
        )
        self.peer = self._attached(manager, "peer")

    def container(self, suffix: str = "c") -> str:
        """A container of the worker that is on it."""
        return self._attached(self.worker, suffix)

    def _attached(self, world: HostWorld, suffix: str) -> str:
        """A container that is on it. Busy managers give up now and then after 20 seconds (measured on 26.1)."""
        for left in (2, 1, 0):
            try:
                return world.make_container(suffix, network_mode=self.name)
            except EngineError as error:
                if not left or "attaching to network failed" not in error.message:
                    raise
                world.api.remove_container(world.name(suffix), force=True)
        raise AssertionError("not reached")

    def key(self, container: str) -> dict[str, t.Any]:
        return dict(self.worker.keys(container)[self.name])

    def is_known(self, reference: str) -> bool:
        """Whether the worker knows it by that."""
        try:
            return bool(self.worker.engine.inspect_network(reference))
        except NotFound:
            return False

    def wait_until_forgotten(self) -> None:
        self.worker.until(lambda: not self.is_known(self.id), "the worker forgets the network")

    def reaches(self, address: str) -> bool:
        """Whether the peer reaches an address."""
        status, _output = self.manager.exec(self.peer, "ping", "-c", "1", "-W", "2", address)
        return status == 0

    def addresses_of(self, name: str) -> set[str]:
        """What the peer is told when it asks for the addresses of a name."""
        _status, output = self.manager.exec(self.peer, "nslookup", "-type=a", f"{name}.", "127.0.0.11")
        answer = output.partition("Name:")[2]
        return {line.split()[1] for line in answer.splitlines() if line.startswith("Address")}


@pytest.fixture
def overlay(swarm: Swarm) -> t.Iterator[Overlay]:
    manager, worker = HostWorld(swarm.manager), HostWorld(swarm.worker)
    with manager, worker:
        yield Overlay(manager, worker)


@contextlib.contextmanager
def service(overlay: Overlay, name: str) -> t.Iterator[t.Callable[[], dict[str, str]]]:
    """A service of two tasks on the worker, and the states of those that it ever had, by the id of their container."""
    api: t.Any = overlay.manager.api
    template = docker.types.TaskTemplate(
        docker.types.ContainerSpec(IMAGE, command=list(SLEEP), stop_signal="SIGKILL"),
        networks=[overlay.name],
        placement=docker.types.Placement(constraints=["node.role==worker"]),
        restart_policy=docker.types.RestartPolicy(condition="any", delay=0),
    )
    service_id = api.create_service(template, name=name, mode=docker.types.ServiceMode("replicated", 2))["ID"]

    def tasks() -> dict[str, str]:
        found = [task["Status"] for task in api.tasks({"service": name})]
        return {
            status["ContainerStatus"]["ContainerID"]: status["State"]
            for status in found
            if status.get("ContainerStatus", {}).get("ContainerID")
        }

    try:
        overlay.worker.until(lambda: list(tasks().values()) == ["running", "running"], "both tasks run")
        yield tasks
    finally:
        made = tasks()
        api.remove_service(service_id)
        for container in made:
            with contextlib.suppress(docker.errors.NotFound):
                overlay.worker.api.remove_container(container, force=True)


@pytest.mark.fact("C.orchestrators.4")
@pytest.mark.parametrize("by", ["id", "name"])
def test_a_node_forgets_an_overlay_network_with_its_last_container_there(overlay: Overlay, by: str) -> None:
    reference = {"id": overlay.id, "name": overlay.name}[by]
    assert not overlay.is_known(overlay.id)
    container = overlay.container()
    assert overlay.worker.engine.inspect_network(overlay.id)["Scope"] == "swarm"
    overlay.worker.engine.disconnect(overlay.id, container)
    overlay.wait_until_forgotten()
    assert not overlay.is_known(overlay.name)
    assert overlay.name not in [network["Name"] for network in overlay.worker.api.networks()]
    # Both bring it back.
    overlay.worker.engine.connect(reference, container, PLAIN)
    assert overlay.worker.engine.inspect_network(overlay.id)["Name"] == overlay.name
    assert overlay.reaches(overlay.key(container)["IPAddress"])


@pytest.mark.fact("C.orchestrators.4")
def test_a_paused_container_leaves_an_overlay_network_and_comes_back(overlay: Overlay) -> None:
    container = overlay.container()
    overlay.worker.engine.pause(container)
    overlay.worker.engine.disconnect(overlay.id, container)
    overlay.wait_until_forgotten()
    overlay.worker.engine.connect(overlay.name, container, PLAIN)
    overlay.worker.engine.unpause(container)
    assert overlay.reaches(overlay.key(container)["IPAddress"])


@pytest.mark.fact("C.orchestrators.5")
def test_an_overlay_network_comes_with_an_interface_that_inspect_does_not_show(overlay: Overlay) -> None:
    container = overlay.container()
    assert set(overlay.worker.keys(container)) == {overlay.name}
    assert overlay.worker.interfaces(container) == {"lo", "eth0", "eth1"}
    members = overlay.worker.engine.inspect_network(GATEWAY_BRIDGE)["Containers"]
    # It is a member of the bridge under a name that is not its own.
    assert [member["Name"] for one, member in members.items() if one == container] == [
        f"gateway_{_sandbox(overlay, container)[:12]}"
    ]
    overlay.worker.engine.disconnect(overlay.id, container)
    assert overlay.worker.interfaces(container) == LOOPBACK
    assert container not in overlay.worker.engine.inspect_network(GATEWAY_BRIDGE)["Containers"]


def _sandbox(overlay: Overlay, container: str) -> str:
    return str(overlay.worker.engine.inspect_container(container)["NetworkSettings"]["SandboxID"])


@pytest.mark.fact("C.orchestrators.6")
def test_an_address_that_the_swarm_chose_looks_like_one_that_was_asked_for(overlay: Overlay) -> None:
    container = overlay.container()
    key = overlay.key(container)
    assert key["IPAMConfig"] == {"IPv4Address": key["IPAddress"]}
    overlay.worker.engine.disconnect(overlay.id, container)
    overlay.wait_until_forgotten()
    overlay.worker.engine.connect(overlay.name, container, EndpointSettings(ipv4_address=key["IPAddress"]))
    assert overlay.key(container)["IPAddress"] == key["IPAddress"]


@pytest.mark.fact("C.orchestrators.7")
def test_a_stopped_container_leaves_a_forgotten_network_by_name_only(overlay: Overlay) -> None:
    container = overlay.container()
    overlay.worker.engine.stop(container, 0)
    overlay.wait_until_forgotten()
    assert set(overlay.worker.keys(container)) == {overlay.name}
    with refused(500, "is not connected to"):
        overlay.worker.engine.disconnect(overlay.id, container)
    overlay.worker.engine.disconnect(overlay.name, container)
    assert overlay.worker.keys(container) == {}
    overlay.worker.engine.start(container)
    assert overlay.worker.interfaces(container) == LOOPBACK


@pytest.mark.fact("C.orchestrators.3", "C.orchestrators.8", "C.orchestrators.9")
def test_a_service_task_that_was_cut_off_stays_out_of_service_discovery(overlay: Overlay) -> None:
    name = f"s-{uuid.uuid4().hex[:8]}"
    with service(overlay, name) as tasks:
        one, other = tasks()
        addresses = {container: overlay.key(container)["IPAddress"] for container in (one, other)}
        everybody = f"tasks.{name}"
        overlay.worker.until(lambda: overlay.addresses_of(everybody) == set(addresses.values()), "both are found")
        virtual = overlay.addresses_of(name)
        assert len(virtual) == 1
        assert not virtual & set(addresses.values())

        overlay.worker.engine.disconnect(overlay.id, one)
        alone = {addresses[other]}
        overlay.worker.until(lambda: overlay.addresses_of(everybody) == alone, "one is found")
        overlay.worker.engine.connect(overlay.name, one, EndpointSettings(aliases=(name, everybody)))
        # What nodes tell each other comes in order: once this one is found, all that was said before it is known.
        overlay.worker.engine.pause(other)
        overlay.container("marker")
        name_of_marker = overlay.worker.name("marker")
        overlay.worker.until(lambda: overlay.addresses_of(name_of_marker), "the marker is found")
        # It is reached by its address, and nobody is told of it.
        assert overlay.reaches(overlay.key(one)["IPAddress"])
        assert overlay.addresses_of(everybody) == alone
        assert overlay.addresses_of(name) == virtual
        # The swarm minds neither that nor a pause.
        assert tasks() == {one: "running", other: "running"}
        overlay.worker.engine.unpause(other)

        # What helps is to end it: the swarm puts another one in its place, which is found.
        overlay.worker.engine.kill(one)
        overlay.worker.until(lambda: sorted(tasks().values()) == ["failed", "running", "running"], "it is replaced")
        overlay.worker.until(lambda: len(overlay.addresses_of(everybody)) == 2, "both are found")
        # Started again it runs beside the two, unknown to the swarm.
        overlay.worker.engine.start(one)
        assert overlay.worker.state(one) == "running"
        assert tasks()[one] == "failed"


# --- the guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [BOTH, (CUT,)], ids=["pause and disconnect", "disconnect"])
def test_a_release_brings_back_a_network_that_the_node_forgot(
    overlay: Overlay, tmp_path: pathlib.Path, actions: tuple[t.Any, ...]
) -> None:
    guarded = Guarded(overlay.worker, tmp_path)
    container = overlay.container()
    address = overlay.key(container)["IPAddress"]
    before = guarded.seen(container)
    guarded.isolate(container, actions)
    overlay.wait_until_forgotten()
    assert not overlay.reaches(address)
    assert guarded.breaches(container) == []
    guarded.release(container)
    assert guarded.seen(container) == before
    # The nodes tell each other where it is, and the peer had given it up.
    overlay.manager.until(lambda: overlay.reaches(address), "the peer reaches it again")


def test_one_of_two_networks_is_left_and_the_gateway_bridge_is_known(overlay: Overlay, tmp_path: pathlib.Path) -> None:
    guarded = Guarded(overlay.worker, tmp_path)
    container = overlay.container()
    other = overlay.worker.make_network("other")
    overlay.worker.engine.connect(other, container, PLAIN)
    before = guarded.seen(container)
    cut = dataclasses.replace(CUT, networks=(overlay.worker.name("other"),))
    outcome = guarded.guard.isolate(container, [cut])
    assert (outcome.outcome, outcome.error) == ("isolated", None), outcome
    assert guarded.breaches(container) == []
    guarded.release(container)
    assert guarded.seen(container) == before


def test_a_release_tells_that_a_service_task_stays_out_of_service_discovery(
    overlay: Overlay, tmp_path: pathlib.Path
) -> None:
    guarded = Guarded(overlay.worker, tmp_path)
    with service(overlay, f"s-{uuid.uuid4().hex[:8]}") as tasks:
        one, _other = tasks()
        guarded.isolate(one)
        outcome = guarded.release(one)
        assert any("service discovery" in text for text in outcome.warnings), outcome.warnings
