# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolated containers, and the host is rebooted, in a virtual machine with systemd and control groups of version 2.

It is slow: the tests share one reboot and one power cut, and each has containers of its own.
"""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.remote import Json, Remote
from ansible_collections.ironpost.container_guard.tests.testbed.vm import VirtualMachine

ACTIONS = {
    "frozen": ["pause", "network_disconnect"],
    "cut": ["network_disconnect"],
    "killed": ["kill", "network_disconnect"],
}
ALWAYS = ("always", 0)


class MachineWorld(DockerWorld):
    """A corner of the engine of the virtual machine."""

    def __init__(self, machine: VirtualMachine) -> None:
        super().__init__(machine.docker_host)
        self.machine = machine

    def interfaces(self, container_id: str) -> set[str]:
        pid = self.engine.inspect_container(container_id)["State"]["Pid"]
        status, output = self.machine.exec("cat", f"/proc/{pid}/net/dev")
        assert status == 0, output
        return {line.partition(":")[0].strip() for line in output.splitlines()[2:]}


@dataclasses.dataclass(frozen=True)
class Rebooted:
    """What was isolated on the virtual machine before it was rebooted.

    Attributes:
        world: a corner of its engine.
        remote: Ansible, which logs in as an ordinary user with sudo.
        containers: their ids.
        isolated: what the module said when it isolated each.
        found: what isolation_info says of each afterwards.
    """

    world: MachineWorld
    remote: Remote
    containers: t.Mapping[str, str]
    isolated: t.Mapping[str, Json]
    found: t.Mapping[str, Json]


@pytest.fixture(scope="module")
def world(virtual_machine: VirtualMachine) -> t.Iterator[MachineWorld]:
    found = MachineWorld(virtual_machine)
    with found:
        yield found


@pytest.fixture(scope="module")
def remote(virtual_machine: VirtualMachine, tmp_path_factory: pytest.TempPathFactory) -> Remote:
    return Remote(tmp_path_factory.mktemp("remote"), virtual_machine.operator_inventory, "--become")


@pytest.fixture(scope="module")
def rebooted(virtual_machine: VirtualMachine, world: MachineWorld, remote: Remote) -> Rebooted:
    network = world.make_network("n")
    containers = {
        suffix: world.make_container(suffix, {network: PLAIN}, restart_policy=ALWAYS) for suffix in ("free", *ACTIONS)
    }
    isolated = remote.modules(*(_isolate(containers[suffix], actions) for suffix, actions in ACTIONS.items()))
    virtual_machine.reboot()
    return Rebooted(world, remote, containers, dict(zip(ACTIONS, isolated, strict=True)), _found(remote))


def _isolate(container: str, actions: list[str]) -> tuple[str, Json]:
    return "isolation", {"container": container, "state": "isolated", "actions": [{"type": one} for one in actions]}


def _found(remote: Remote) -> dict[str, Json]:
    """What isolation_info says of each container, by the last part of its name."""
    (result,) = remote.modules(("isolation_info", {}))
    assert not result.get("failed"), result
    assert result["damaged"] == []
    return {entry["container"]["name"].rpartition("-")[2]: entry for entry in result["isolations"]}


def test_containers_that_nobody_isolated_come_back_with_a_reboot(rebooted: Rebooted) -> None:
    free = rebooted.containers["free"]
    rebooted.world.come_back(free)
    assert rebooted.world.interfaces(free) == {"lo", "eth0"}


@pytest.mark.fact("A7", "C.restart-policy.3")
@pytest.mark.parametrize("suffix", ACTIONS)
def test_what_is_isolated_is_cut_off_after_a_reboot(rebooted: Rebooted, suffix: str) -> None:
    container = rebooted.containers[suffix]
    assert rebooted.isolated[suffix]["outcome"] == "isolated", rebooted.isolated[suffix]
    assert rebooted.world.state(container) == "exited"
    assert rebooted.world.keys(container) == {}
    entry = rebooted.found[suffix]
    assert (entry["container"]["id"], entry["phase"]) == (container, "isolated")
    assert set(entry["actions"]) == set(ACTIONS[suffix])


@pytest.mark.fact("A7", "C.disconnect.5")
def test_whoever_starts_it_after_a_power_cut_finds_it_cut_off(
    virtual_machine: VirtualMachine, world: MachineWorld, remote: Remote
) -> None:
    """The power is cut, at once after the module has said that it is isolated: the journal is on the disk."""
    container = world.make_container("late", {world.make_network("m"): PLAIN}, restart_policy=ALWAYS)
    (isolated,) = remote.modules(_isolate(container, ACTIONS["frozen"]))
    virtual_machine.reset()
    assert isolated["outcome"] == "isolated", isolated
    world.engine.start(container)
    assert world.interfaces(container) == {"lo"}
    (released,) = remote.modules(("isolation", {"container": container, "state": "released"}))
    assert released["outcome"] == "released", released
    assert world.interfaces(container) == {"lo", "eth0"}
    assert world.engine.inspect_container(container)["HostConfig"]["RestartPolicy"]["Name"] == "always"


# --- what is told, and given back -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(rebooted: Rebooted) -> dict[str, Json]:
    """What the module said when it released each of them, after all else was looked at."""
    containers = [rebooted.containers[suffix] for suffix in ACTIONS]
    (result,) = rebooted.remote.modules(("isolation", {"containers": containers, "state": "released"}))
    return {one["container"]["name"].rpartition("-")[2]: one for one in result["results"]}


@pytest.mark.parametrize("suffix", ["frozen", "cut"])
def test_what_a_reboot_ended_is_a_breach_of_its_own_kind(rebooted: Rebooted, suffix: str) -> None:
    entry = rebooted.found[suffix]
    assert entry["agree"] is False
    assert [breach["kind"] for breach in entry["breaches"]] == ["ended"]


def test_what_the_guard_ended_itself_is_no_breach_after_a_reboot(rebooted: Rebooted) -> None:
    assert rebooted.found["killed"]["breaches"] == []


@pytest.mark.parametrize("suffix", ACTIONS)
def test_a_release_starts_what_its_restart_policy_would_have_brought_back(
    rebooted: Rebooted, released: dict[str, Json], suffix: str
) -> None:
    container, result = rebooted.containers[suffix], released[suffix]
    assert result["outcome"] == "released", result
    assert rebooted.world.state(container) == "running"
    assert rebooted.world.interfaces(container) == {"lo", "eth0"}
    assert rebooted.world.engine.inspect_container(container)["HostConfig"]["RestartPolicy"]["Name"] == "always"


@pytest.mark.parametrize("suffix", ACTIONS)
def test_sessions_of_processes_that_a_reboot_ended_do_not_resume(released: dict[str, Json], suffix: str) -> None:
    assert released[suffix]["sessions_may_resume"] is False
    assert "processes" in [difference["what"] for difference in released[suffix]["not_restored"]]
