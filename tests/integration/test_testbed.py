# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The testbed itself: its hosts are what tests take them for, and leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineTimeout,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import (
    DockerWorld,
    HostWorld,
    interfaces_of,
)
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS
from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import recipes
from ansible_collections.ironpost.container_guard.tests.testbed.small_disk import SmallDisk
from ansible_collections.ironpost.container_guard.tests.testbed.vm import VirtualMachine

CGROUPS = pathlib.Path("/sys/fs/cgroup")
# In each directory make a directory and a file, remove them, and print what did not work.
MAKE_BOTH = """
import errno, json, os, pathlib, sys
failed = {}
for place in map(pathlib.Path, sys.argv[1:]):
    for make, remove in ((os.mkdir, os.rmdir), (lambda path: pathlib.Path(path).write_text("x"), os.unlink)):
        try:
            make(place / "probe")
            remove(place / "probe")
        except OSError as error:
            failed.setdefault(str(place), []).append(errno.errorcode[error.errno])
print(json.dumps({place: " ".join(names) for place, names in failed.items()}))
"""


@pytest.fixture
def closing() -> t.Iterator[contextlib.ExitStack]:
    """Connections to close at the end."""
    with contextlib.ExitStack() as stack:
        yield stack


def pid_of(world: DockerWorld, container: str) -> int:
    return int(world.engine.inspect_container(container)["State"]["Pid"])


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is more than a zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_engine_is_the_one_it_is_called(docker_world: HostWorld, testbed_engine: str) -> None:
    # Debian sid moves on. Once it has a newer engine, name that in the recipe, and see what it answers to the contract.
    assert docker_world.host.version.startswith(f"{testbed_engine}.")


def test_pids_are_those_of_this_machine(docker_world: HostWorld) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
    assert interfaces_of(pid_of(docker_world, container)) == {"lo", "eth0"}


def test_containers_reach_each_other_by_ipv6(docker_world: HostWorld) -> None:
    network = docker_world.make_network("n", ipv6=True)
    one, other = (docker_world.make_container(suffix, {network: PLAIN}) for suffix in ("one", "other"))
    address = docker_world.key(other, network)["GlobalIPv6Address"]
    status, output = docker_world.exec(one, "ping", "-6", "-c", "1", "-W", "5", address)
    assert status == 0, output


def test_ansible_runs_modules_on_the_host_with_its_own_python(docker_world: HostWorld, tmp_path: pathlib.Path) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
    inventory, playbook = tmp_path / "inventory.json", tmp_path / "playbook.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"target": docker_world.host.inventory}}}))
    options = {"container": container, "state_dir": f"/run/{docker_world.prefix}"}
    tasks: list[dict[str, t.Any]] = [
        {"ironpost.container_guard.isolation": {**options, "state": state}} for state in ("isolated", "released")
    ]
    playbook.write_text(json.dumps([{"hosts": "target", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "--inventory", str(inventory), str(playbook)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)},
    )
    assert done.returncode == 0, done.stdout
    assert "changed=2" in done.stdout
    assert docker_world.interfaces(container) > {"lo"}


@pytest.mark.fact("C.faults.1", "C.faults.4", "C.faults.5")
def test_a_killed_engine_takes_its_containers_along_when_it_comes_back(
    faulty_host: Host, docker_world: HostWorld
) -> None:
    container = docker_world.make_container("c")
    pid, dockerd = pid_of(docker_world, container), faulty_host.engine_pid
    faulty_host.kill_engine()
    assert not is_alive(dockerd)
    assert is_alive(pid)
    with pytest.raises(EngineUnreachable):
        DockerEngine(faulty_host.docker_host)
    faulty_host.start_engine()
    assert docker_world.state(container) == "exited"
    assert not is_alive(pid)


@pytest.mark.fact("A7", "C.faults.5")
def test_with_live_restore_containers_outlive_a_killed_engine(faulty_host: Host, docker_world: HostWorld) -> None:
    faulty_host.restart_engine(live_restore=True)
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN}, state="paused")
    pid = pid_of(docker_world, container)
    faulty_host.kill_engine()
    faulty_host.start_engine(live_restore=True)
    assert (docker_world.state(container), pid_of(docker_world, container)) == ("paused", pid)
    faulty_host.restart_engine(live_restore=True)
    assert (docker_world.state(container), pid_of(docker_world, container)) == ("paused", pid)


@pytest.mark.fact("C.faults.1", "C.faults.2")
def test_a_frozen_engine_takes_connections_and_answers_none(faulty_host: Host, docker_world: HostWorld) -> None:
    container = docker_world.make_container("c")
    faulty_host.freeze_engine()
    with pytest.raises(EngineTimeout):
        DockerEngine(faulty_host.docker_host, timeout=1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(faulty_host.docker_host.removeprefix("unix://"))
    faulty_host.thaw_engine()
    assert docker_world.state(container) == "running"


def test_a_host_that_is_stopped_leaves_nothing_behind(testbed_engine: str, closing: contextlib.ExitStack) -> None:
    # It is the private host of this run, which starts it again where it needs it again.
    (recipe,) = recipes([testbed_engine])
    host = fleet.private_host(recipe)
    closing.callback(host.close)
    try:
        host.start()
        world = HostWorld(host)
        closing.callback(world.api.close)
        closing.callback(world.engine.close)
        network = world.make_network("n")
        containers = [world.make_container(state, {network: PLAIN}, state=state) for state in ("running", "paused")]
        pids = [host.engine_pid, *(pid_of(world, container) for container in containers)]
        groups = [group for container in containers for group in CGROUPS.glob(f"**/{container}")]
        assert groups
        # The engine is in no state to help.
        host.kill_engine()
    finally:
        host.stop()
    world.until(lambda: not any(map(is_alive, pids)), "all processes are gone")
    world.until(lambda: not any(group.exists() for group in groups), "all control groups are gone")
    assert host.name not in pathlib.Path("/proc/self/mounts").read_text()
    assert not pathlib.Path(host.docker_host.removeprefix("unix://")).parent.exists()


def test_a_host_that_is_cut_off_is_not_logged_in_to_and_its_engine_goes_on(
    faulty_host: Host, docker_world: HostWorld
) -> None:
    def logged_in() -> bool:
        return subprocess.run([*shlex.split(faulty_host.ssh_command), "true"], check=False).returncode == 0

    assert logged_in()
    for _twice in range(2):
        faulty_host.cut_off()
    assert not logged_in()
    assert docker_world.state(docker_world.make_container("c")) == "running"
    faulty_host.reconnect()
    assert logged_in()


def test_a_disk_that_is_full_or_read_only_and_heals(small_disk: SmallDisk) -> None:
    host = small_disk.host
    disk, memory = ["/etc", "/home", "/root", "/tmp", "/usr/bin", "/var/lib", "/var/tmp"], ["/run", "/dev/shm"]

    def refused_by(places: list[str]) -> dict[str, str]:
        """Where neither a directory nor a file can be made, and why."""
        status, output = host.exec("python3", "-c", MAKE_BOTH, *places)
        assert status == 0, output
        return dict(json.loads(output))

    for work, reason in ((small_disk.fill, "ENOSPC"), (small_disk.make_read_only, "EROFS")):
        assert refused_by(disk) == {}
        work()
        assert refused_by(disk) == dict.fromkeys(disk, f"{reason} {reason}")
        assert refused_by(memory) == {}
        small_disk.heal()
    assert refused_by(disk) == {}
    # The engine has a disk of its own.
    with contextlib.closing(DockerEngine(host.docker_host)) as engine:
        assert engine.list_containers() == []


def test_the_virtual_machine_has_what_containers_have_not(virtual_machine: VirtualMachine) -> None:
    for command, said in {
        "systemctl is-system-running": "running\n",
        "systemctl is-active docker ssh": "active\nactive\n",
        "stat --file-system --format %T /sys/fs/cgroup": "cgroup2fs\n",
    }.items():
        assert virtual_machine.exec("sh", "-c", command) == (0, said)
    status, output = virtual_machine.exec("docker", "ps", user="operator")
    assert status != 0, output
    assert virtual_machine.exec("sudo", "-n", "id", "-u", user="operator") == (0, "0\n")
