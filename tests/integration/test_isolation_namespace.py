# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network namespaces and freezers of real containers, as this machine shows them: test hosts share its /proc.

Needs root, as the guard does on a host: namespaces are entered and control groups written to.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import typing as t
import uuid

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import cgroup, namespace
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.freezer import (
    is_frozen,
    outside_freezer,
    read_processes,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import (
    INNER,
    OUTSIDE,
    Findings,
    Link,
    Links,
    findings,
)
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

NETWORKING = {"cap_add": ["NET_ADMIN", "SYS_ADMIN"], "security_opt": ["seccomp=unconfined", "apparmor=unconfined"]}


class Victim:
    """A container on one network."""

    def __init__(self, world: DockerWorld, **options: t.Any) -> None:
        self.world = world
        suffix = uuid.uuid4().hex[:4]
        self.network = world.make_network(f"n{suffix}")
        self.id = world.make_container(f"c{suffix}", {self.network: PLAIN}, **options)

    @property
    def pid(self) -> int:
        return int(self.world.engine.inspect_container(self.id)["State"]["Pid"])

    def cut(self) -> None:
        self.world.engine.disconnect(self.network, self.id)

    def links(self) -> Links:
        found = namespace.links_of(self.pid, self.id)
        assert found is not None
        return found

    def link(self, name: str) -> Link:
        (found,) = [link for link in self.links().links if link.name == name]
        return found

    def ip(self, *arguments: str) -> None:
        """Change its interfaces, as a process in it with NET_ADMIN can."""
        run("nsenter", "-t", str(self.pid), "-n", "ip", *arguments)

    def start(self, *command: str, ready: t.Callable[[int], object] = bool) -> int:
        """Run a command in it that goes on; its pid on this machine, once it is ready."""
        before = set(self.processes())
        exec_id = self.world.api.exec_create(self.id, list(command))["Id"]
        self.world.api.exec_start(exec_id, detach=True)

        def started() -> int:
            new = set(self.processes()) - before
            return next((pid for pid in sorted(new) if _command(pid) == "sleep" and ready(pid)), 0)

        return self.world.until(started, f"{command} runs")

    def processes(self) -> list[int]:
        group = self.group()
        return list(group.pids())

    def group(self) -> cgroup.Group:
        with open_directory(f"/proc/{self.pid}") as process:
            found = cgroup.group_of(cgroup.memberships_of(process), self.id)
        assert found is not None
        return found


@contextlib.contextmanager
def open_directory(path: str) -> t.Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _command(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def outer() -> t.Iterator[str]:
    """The name of an interface to make on this machine, which is removed afterwards, unless it was moved away."""
    name = f"cg{uuid.uuid4().hex[:8]}"
    yield name
    subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


# --- interfaces -------------------------------------------------------------------------------------------------------


def test_c1_a_container_has_a_way_out_for_each_network_and_none_without(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    link = victim.link("eth0")
    assert (link.kind, link.up, link.place) == ("veth", True, OUTSIDE)
    assert findings(victim.links(), known=1) == Findings()
    assert findings(victim.links(), known=0).contradictions != ()
    victim.cut()
    assert findings(victim.links(), known=0) == Findings()


@pytest.mark.fact("C.mode.9")
def test_c1_its_own_tun_bridge_dummy_and_veth_pair_are_a_warning(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world, **NETWORKING)
    # By a process of the container, as a VPN client does.
    client = "mkdir -p /dev/net && mknod /dev/net/tun c 10 200 && tunctl -t tun0"
    status, output = docker_world.exec(victim.id, "sh", "-c", client)
    assert status == 0, output
    victim.ip("tuntap", "add", "tap0", "mode", "tap")
    victim.ip("link", "add", "docker0", "type", "bridge")
    victim.ip("link", "add", "ifb9", "type", "ifb")
    victim.ip("link", "add", "va", "type", "veth", "peer", "name", "vb")
    victim.ip("link", "set", "va", "master", "docker0", "up")
    victim.ip("link", "add", "vx0", "type", "vxlan", "id", "5", "dstport", "4789", "remote", "192.0.2.1")
    victim.cut()
    found = findings(victim.links(), known=0)
    assert found.contradictions == ()
    (warning,) = found.warnings
    for own in ("tun0 (tun)", "tap0 (tun)", "docker0 (bridge)", "ifb9 (ifb)", "va (veth)", "vb (veth)", "vx0 (vxlan)"):
        assert own in warning


def test_c1_containers_of_an_inner_engine_are_a_warning(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world, **NETWORKING)
    own = os.stat(f"/proc/{victim.pid}/ns/net").st_ino
    inner = victim.start(
        "unshare", "-n", "sleep", "3600", ready=lambda pid: os.stat(f"/proc/{pid}/ns/net").st_ino != own
    )
    victim.ip("link", "add", "veth1", "type", "veth", "peer", "name", "eth9")
    victim.ip("link", "set", "eth9", "netns", str(inner))
    victim.cut()
    assert victim.link("veth1").place == INNER
    found = findings(victim.links(), known=0)
    assert found.contradictions == ()
    assert "veth1 (veth)" in found.warnings[0]


def test_c1_an_inner_namespace_that_leads_out_itself_is_a_contradiction(docker_world: DockerWorld, outer: str) -> None:
    victim = Victim(docker_world, **NETWORKING)
    own = os.stat(f"/proc/{victim.pid}/ns/net").st_ino
    inner = victim.start(
        "unshare", "-n", "sleep", "3600", ready=lambda pid: os.stat(f"/proc/{pid}/ns/net").st_ino != own
    )
    victim.ip("link", "add", "veth1", "type", "veth", "peer", "name", "eth9")
    victim.ip("link", "set", "eth9", "netns", str(inner))
    run("ip", "link", "add", outer, "type", "veth", "peer", "name", f"{outer}x")
    run("ip", "link", "set", f"{outer}x", "netns", str(inner))
    victim.cut()
    assert victim.link("veth1").place == OUTSIDE
    assert "veth1 (veth)" in findings(victim.links(), known=0).contradictions[0]


def test_c1_a_process_in_the_namespace_of_another_container_makes_that_no_inner_one(docker_world: DockerWorld) -> None:
    victim, other = Victim(docker_world, **NETWORKING), Victim(docker_world)
    theirs = os.stat(f"/proc/{other.pid}/ns/net").st_ino
    intruder = victim.start("sleep", "3600")
    with subprocess.Popen(["nsenter", "-t", str(other.pid), "-n", "sleep", "3600"]) as process:
        try:
            docker_world.until(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino == theirs, "it is there")
            move(process.pid, victim.group().directory)
            victim.ip("link", "add", "veth1", "type", "veth", "peer", "name", "eth9")
            victim.ip("link", "set", "eth9", "netns", str(other.pid))
            victim.cut()
            assert {intruder, process.pid} <= set(victim.processes())
            assert victim.link("veth1").place == OUTSIDE
            other.cut()
            # Now nothing leads out of that one either.
            assert victim.link("veth1").place == INNER
        finally:
            process.kill()


@pytest.mark.fact("C.mode.9")
@pytest.mark.parametrize(
    "kind",
    [
        ("veth", "peer", "name", "cgpeer"),
        ("vxlan", "id", "77", "dstport", "4789", "remote", "192.0.2.1"),
    ],
    ids=["veth", "vxlan"],
)
def test_c1_an_interface_that_was_put_in_from_outside_is_a_contradiction(
    docker_world: DockerWorld, outer: str, kind: tuple[str, ...]
) -> None:
    victim = Victim(docker_world)
    name, *options = kind
    run("ip", "link", "add", f"{outer}x", "type", name, *(outer if word == "cgpeer" else word for word in options))
    run("ip", "link", "set", f"{outer}x", "netns", str(victim.pid))
    assert f"{outer}x ({name})" in findings(victim.links(), known=1).contradictions[0]
    victim.cut()
    assert f"{outer}x ({name})" in findings(victim.links(), known=0).contradictions[0]


def test_c1_a_veth_whose_peer_is_in_a_namespace_of_nobody_in_the_container_is_a_contradiction(
    docker_world: DockerWorld,
) -> None:
    victim = Victim(docker_world)
    with subprocess.Popen(["unshare", "-n", "sleep", "3600"]) as stranger:
        try:
            docker_world.until(lambda: _command(stranger.pid) == "sleep", "it has its namespace")
            victim.ip("link", "add", "veth1", "type", "veth", "peer", "name", "eth9")
            victim.ip("link", "set", "eth9", "netns", str(stranger.pid))
            victim.cut()
            assert victim.link("veth1").place == OUTSIDE
        finally:
            stranger.kill()


def test_a_name_with_escape_sequences_is_shown_as_text(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    victim.ip("link", "add", "\x1b[2J{{1}}", "type", "bridge")
    victim.cut()
    (warning,) = findings(victim.links(), known=0).warnings
    assert warning.endswith(": \\x1b[2J{ {1}} (bridge)")
    assert warning.isprintable()


@pytest.mark.parametrize("setns", ["of Python 3.12", "of the C library"])
def test_reading_leaves_every_thread_where_it_was_and_nothing_open(
    docker_world: DockerWorld, monkeypatch: pytest.MonkeyPatch, setns: str
) -> None:
    if setns == "of the C library":
        monkeypatch.delattr(os, "setns", raising=False)
    victim = Victim(docker_world)
    own = os.readlink("/proc/self/ns/net")
    pid = victim.pid
    namespace.links_of(pid, victim.id)
    open_before, threads_before = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    for _ in range(50):
        found = namespace.links_of(pid, victim.id)
        assert found is not None
        assert found.complete
        assert {link.name for link in found.links} == {"lo", "eth0"}
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert set(threading.enumerate()) == threads_before
    assert {os.readlink(f"/proc/self/task/{task}/ns/net") for task in os.listdir("/proc/self/task")} == {own}


READER = """
import json, os, sys
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import freezer, namespace
pid, container, user = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
found = namespace.links_of(pid, container)
print(json.dumps({
    "names": sorted(link.name for link in found.links) if found else [],
    "complete": found and found.complete,
    "contradictions": namespace.findings(found, 0).contradictions if found else [],
    "frozen": freezer.is_frozen(pid, container),
    "outside": freezer.outside_freezer(pid, container),
}))
"""
NOBODY = 65534


def read_with(victim: Victim, *setpriv: str, user: int = 0) -> dict[str, t.Any]:
    command = [*setpriv, sys.executable, "-c", READER, str(victim.pid), victim.id, str(user)]
    found: dict[str, t.Any] = json.loads(run(*command))
    return found


def test_c1_who_may_not_enter_the_namespace_has_names_alone(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    victim.ip("link", "add", "tun0", "type", "ifb")
    found = read_with(victim, "setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    assert (found["names"], found["complete"]) == (["eth0", "lo", "tun0"], False)
    assert "eth0, tun0, of which nothing but the names could be read" in found["contradictions"][0]


def test_an_ordinary_user_knows_names_and_the_freezer_and_not_who_is_outside_of_it(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world, state="paused")
    found = read_with(victim, user=NOBODY)
    assert (found["frozen"], found["outside"]) == (True, None)
    assert (found["names"], found["complete"]) == (["eth0", "lo"], False)


# --- the freezer ------------------------------------------------------------------------------------------------------


@pytest.mark.fact("C.pause.9")
def test_c3_the_kernel_says_whether_a_container_is_frozen(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    assert is_frozen(victim.pid, victim.id) is False
    docker_world.engine.pause(victim.id)
    assert is_frozen(victim.pid, victim.id) is True
    # Behind the back of the engine, which goes on saying that it is paused.
    (pathlib.Path(victim.group().directory) / "freezer.state").write_text("THAWED")
    assert docker_world.state(victim.id) == "paused"
    assert is_frozen(victim.pid, victim.id) is False
    (pathlib.Path(victim.group().directory) / "freezer.state").write_text("FROZEN")


def move(pid: int, directory: pathlib.Path | str, file: str = "cgroup.procs") -> None:
    (pathlib.Path(directory) / file).write_text(str(pid))


@pytest.mark.fact("C.pause.9")
def test_c3_a_process_outside_the_freezer_is_found(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    moved = victim.start("sleep", "3600")
    group = victim.group()
    assert outside_freezer(victim.pid, victim.id) == ()
    move(moved, pathlib.Path(group.directory).parent)
    docker_world.engine.pause(victim.id)
    (found,) = outside_freezer(victim.pid, victim.id) or ()
    assert (found.pid, found.tid, found.name) == (moved, moved, "sleep")
    assert found.group == os.path.dirname(group.path)
    assert docker_world.state(victim.id) == "paused"
    move(moved, group.directory)
    assert outside_freezer(victim.pid, victim.id) == ()


def test_c3_the_first_process_outside_the_freezer_is_found(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    move(victim.pid, pathlib.Path(victim.group().directory).parent)
    found = outside_freezer(victim.pid, victim.id) or ()
    assert [process.pid for process in found] == [victim.pid]
    docker_world.engine.pause(victim.id)
    assert is_frozen(victim.pid, victim.id) is True
    assert outside_freezer(victim.pid, victim.id) == found


def test_c3_one_look_at_all_processes_does_for_many_containers(docker_world: DockerWorld) -> None:
    victims = [Victim(docker_world) for _ in range(3)]
    moved = victims[1].start("sleep", "3600")
    move(moved, pathlib.Path(victims[1].group().directory).parent)
    processes = read_processes()
    assert processes is not None
    found = [outside_freezer(victim.pid, victim.id, processes) for victim in victims]
    assert [[process.pid for process in one or ()] for one in found] == [[], [moved], []]


def test_c3_a_forged_group_is_not_taken_for_that_of_the_container(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    group = victim.group()
    forged = pathlib.Path(group.directory).parent / f"x{victim.id}"
    forged.mkdir()
    try:
        move(victim.pid, forged)
        docker_world.engine.pause(victim.id)
        assert victim.group() == group
        assert is_frozen(victim.pid, victim.id) is True
        assert [process.pid for process in outside_freezer(victim.pid, victim.id) or ()] == [victim.pid]
        move(victim.pid, group.directory)
    finally:
        forged.rmdir()


def test_c3_groups_below_that_of_the_container_are_inside(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    below = pathlib.Path(victim.group().directory) / "below"
    below.mkdir()
    move(victim.start("sleep", "3600"), below)
    assert outside_freezer(victim.pid, victim.id) == ()


def test_c3_a_process_in_a_pid_namespace_below_is_found(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world, **NETWORKING)
    own = os.readlink(f"/proc/{victim.pid}/ns/pid")
    nested = victim.start(
        "unshare", "-pf", "sleep", "3600", ready=lambda pid: os.readlink(f"/proc/{pid}/ns/pid") != own
    )
    assert outside_freezer(victim.pid, victim.id) == ()
    move(nested, pathlib.Path(victim.group().directory).parent)
    assert [process.pid for process in outside_freezer(victim.pid, victim.id) or ()] == [nested]


def test_c3_what_has_ended_and_was_not_waited_for_is_not_outside(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    # Its parent goes on as a program that waits for nobody.
    parent = victim.start("sh", "-c", "true & exec sleep 3600")

    def zombies() -> list[int]:
        children = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        states = {int(child): pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(") ")[2] for child in children}
        return [child for child, state in states.items() if state.startswith("Z")]

    docker_world.until(zombies, "there is a zombie")
    assert outside_freezer(victim.pid, victim.id) == ()


def test_c3_with_the_pid_namespace_of_the_host_nothing_is_claimed(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world, pid_mode="host")
    assert outside_freezer(victim.pid, victim.id) == ()
    assert is_frozen(victim.pid, victim.id) is False


def test_c3_who_shares_the_pid_namespace_is_not_outside(docker_world: DockerWorld) -> None:
    owner = Victim(docker_world)
    sharer = Victim(docker_world, pid_mode=f"container:{owner.id}")
    assert os.readlink(f"/proc/{owner.pid}/ns/pid") == os.readlink(f"/proc/{sharer.pid}/ns/pid")
    assert outside_freezer(owner.pid, owner.id) == ()
    assert outside_freezer(sharer.pid, sharer.id) == ()
    moved = sharer.start("sleep", "3600")
    # In the freezer alone: its other control groups still say whose it is.
    move(moved, owner.group().directory)
    assert [process.pid for process in outside_freezer(sharer.pid, sharer.id) or ()] == [moved]


def test_c3_a_container_that_has_ended_says_nothing(docker_world: DockerWorld) -> None:
    victim = Victim(docker_world)
    pid = victim.pid
    docker_world.engine.stop(victim.id, 0)
    assert (is_frozen(pid, victim.id), outside_freezer(pid, victim.id)) == (None, None)
    assert namespace.links_of(pid, victim.id) is None


# --- control groups of version 2, and threads, without an engine ------------------------------------------------------

THREADS = """
import threading, time
started = threading.Event()
def wait(): started.set(); time.sleep(3600)
threading.Thread(target=wait, daemon=True).start()
started.wait(); print(flush=True); time.sleep(3600)
"""


@pytest.fixture(params=["cgroup", "cgroup2"])
def group(request: pytest.FixtureRequest) -> t.Iterator[cgroup.Group]:
    """A control group of each version, named after a container."""
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    hierarchy = cgroup.find_hierarchy(line for line in lines if f" - {request.param} " in line)
    assert hierarchy is not None, f"this machine mounts no freezer of {request.param}"
    path = f"/{uuid.uuid4().hex}{uuid.uuid4().hex}"
    directory = hierarchy.directory_of(path)
    assert directory is not None
    os.mkdir(directory)
    yield cgroup.Group(hierarchy, path, directory)
    os.rmdir(directory)


@pytest.fixture
def threads(group: cgroup.Group) -> t.Iterator[int]:
    """The first process of a pid namespace in the group, with two threads."""
    command = ["unshare", "-pf", "--kill-child", sys.executable, "-c", THREADS]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as unshare:
        assert unshare.stdout
        unshare.stdout.readline()
        pid = int(pathlib.Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text())
        move(pid, group.directory)
        yield pid
        thaw(group)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
    wait(lambda: not list(group.pids()))


def wait(condition: t.Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def freeze(group: cgroup.Group, frozen: bool = True) -> None:
    if group.hierarchy.version == 1:
        (pathlib.Path(group.directory) / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
    else:
        (pathlib.Path(group.directory) / "cgroup.freeze").write_text(str(int(frozen)))


def thaw(group: cgroup.Group) -> None:
    freeze(group, frozen=False)


def test_c3_both_versions_of_control_groups_say_whether_they_are_frozen(group: cgroup.Group, threads: int) -> None:
    container = group.path[1:]
    assert is_frozen(threads, container, hierarchy=group.hierarchy) is False
    freeze(group)
    wait(lambda: is_frozen(threads, container, hierarchy=group.hierarchy))
    thaw(group)
    wait(lambda: is_frozen(threads, container, hierarchy=group.hierarchy) is False)


def test_c3_in_both_versions_a_process_outside_is_found(group: cgroup.Group, threads: int) -> None:
    container = group.path[1:]
    assert outside_freezer(threads, container, hierarchy=group.hierarchy) == ()
    # Now no control group of the process names the container.
    move(threads, group.hierarchy.directory)
    found = outside_freezer(threads, container, hierarchy=group.hierarchy) or ()
    assert {process.tid for process in found} == {int(task) for task in os.listdir(f"/proc/{threads}/task")}
    assert {(process.pid, process.group) for process in found} == {(threads, "/")}
    assert is_frozen(threads, container, hierarchy=group.hierarchy) is False


def test_c3_a_single_thread_outside_is_found_where_the_kernel_lets_it_go(group: cgroup.Group, threads: int) -> None:
    (thread,) = {int(task) for task in os.listdir(f"/proc/{threads}/task")} - {threads}
    if group.hierarchy.version == 1:
        move(thread, group.hierarchy.directory, "tasks")
        (found,) = outside_freezer(threads, group.path[1:], hierarchy=group.hierarchy) or ()
        assert (found.pid, found.tid) == (threads, thread)
    else:
        with pytest.raises(OSError, match="not supported"):
            move(thread, group.hierarchy.directory, "cgroup.threads")
