# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many containers of a real engine in one request: isolated, repaired, protected and given back."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.breaches import inspect
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import NO_FILTER, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import (
    Requests,
    Result,
    Selection,
    claimed,
    expired_at,
)
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

BOTH = (Action("pause"), Action("network_disconnect"))
KILL = (Action("network_disconnect"), Action("kill"))
CONCURRENCY = 10


class Guard:
    """The guard on one host. Each request is of its own, as each run of a module is."""

    def __init__(self, world: DockerWorld, state_dir: pathlib.Path) -> None:
        self.world = world
        self.journal = Journal(str(state_dir))
        self.isolator = Isolator(world.engine, self.journal)

    @property
    def selection(self) -> Selection:
        return Selection(Resolver(self.world.engine), self.journal)

    def requests(self, docker_host: str = "") -> Requests:
        resolver = Resolver(self.world.engine)
        protection = Protection(resolver, docker_host=docker_host)
        return Requests(self.isolator, self.journal, resolver, protection, CONCURRENCY)

    def isolate(self, *names: str, actions: t.Sequence[Action] = BOTH, **options: t.Any) -> list[Result]:
        """Isolate those of these names."""
        targets = self.selection.named(self.world.name(name) for name in names)
        return self.requests().isolate(targets, actions, Cause(reason="a test"), **options)

    def breaches(self) -> dict[str, list[str]]:
        """The kinds of what does not agree, by name."""
        entries, damaged = self.journal.entries()
        assert damaged == []
        resolver = Resolver(self.world.engine)
        return {
            entry.snapshot.name.removeprefix(self.world.name("")): [
                breach.kind for breach in inspect(self.isolator, resolver, entry).breaches
            ]
            for entry in entries
        }


@pytest.fixture
def guard(docker_world: DockerWorld, tmp_path: pathlib.Path) -> Guard:
    return Guard(docker_world, tmp_path / "state")


def outcomes(world: DockerWorld, results: t.Sequence[Result]) -> dict[str, str]:
    return {
        result.target.name.removeprefix(world.name("")): (
            result.outcome.outcome if result.outcome else result.error.kind if result.error else ""
        )
        for result in results
    }


def networks(world: DockerWorld, container_id: str) -> dict[str, t.Any]:
    found = world.engine.inspect_container(container_id)["NetworkSettings"]["Networks"]
    return {
        name: (settings["IPAMConfig"], settings["IPAddress"], sorted(settings["Aliases"] or ()))
        for name, settings in found.items()
    }


def test_all_that_match_leave_the_network_that_they_share_and_come_back(
    docker_world: DockerWorld, guard: Guard
) -> None:
    front = docker_world.make_network("front")
    subnet = docker_world.engine.inspect_network(front)["IPAM"]["Config"][0]["Subnet"].rpartition(".")[0]
    containers = [
        docker_world.make_container(f"web-{number}", {front: EndpointSettings(ipv4_address=f"{subnet}.{50 + number}")})
        for number in range(CONCURRENCY + 2)
    ]
    other = docker_world.make_container("other", {front: EndpointSettings()})
    before = {container: networks(docker_world, container) for container in containers}
    wanted = TargetFilter(container_names=(docker_world.name("web-*"),))
    results = guard.requests().isolate(guard.selection.matching(wanted, NO_FILTER), BOTH, Cause())
    assert set(outcomes(docker_world, results).values()) == {"isolated"}
    assert len(results) == len(containers)
    assert list(docker_world.engine.inspect_network(front)["Containers"]) == [other]

    released = guard.requests().release(guard.selection.recorded())
    assert set(outcomes(docker_world, released).values()) == {"released"}
    assert {container: networks(docker_world, container) for container in containers} == before
    assert guard.journal.entries() == ([], [])


def test_what_others_did_to_several_is_found_out_and_mended(docker_world: DockerWorld, guard: Guard) -> None:
    front = docker_world.make_network("front")
    suffixes = ("kept", "unpaused", "reconnected", "restarted", "recreated", "removed")
    containers = {
        suffix: docker_world.make_container(suffix, {front: EndpointSettings()}, restart_policy=("always", 0))
        for suffix in suffixes
    }
    assert all(result.ok for result in guard.isolate(*suffixes, release_after=3600))
    assert guard.breaches() == {suffix: [] for suffix in suffixes}

    docker_world.engine.unpause(containers["unpaused"])
    docker_world.engine.connect(front, containers["reconnected"], EndpointSettings())
    docker_world.engine.kill(containers["restarted"])
    docker_world.engine.start(containers["restarted"])
    for suffix in ("recreated", "removed"):
        docker_world.api.remove_container(containers[suffix], force=True)
    containers["recreated"] = docker_world.make_container("recreated", {front: EndpointSettings()})
    assert guard.breaches() == {
        "kept": [],
        "unpaused": ["unpaused"],
        "reconnected": ["reconnected"],
        "restarted": ["restarted", "unpaused"],
        "recreated": ["recreated"],
        "removed": ["removed"],
    }

    results = guard.requests().repair(guard.selection.recorded())
    assert outcomes(docker_world, results) == {
        **dict.fromkeys(suffixes, "isolated"),
        "kept": "held",
        "removed": "container_gone",
    }
    assert {name for name, kinds in guard.breaches().items() if kinds} == {"removed"}
    del containers["removed"]
    for container in containers.values():
        assert (docker_world.state(container), networks(docker_world, container)) == ("paused", {})

    released = guard.requests().release(guard.selection.recorded(), force=True)
    assert set(outcomes(docker_world, released).values()) == {"released"}
    for container in containers.values():
        assert docker_world.state(container) == "running"
        assert list(networks(docker_world, container)) == [docker_world.name("front")]


def test_an_owner_and_those_that_use_its_network_in_one_request(docker_world: DockerWorld, guard: Guard) -> None:
    front = docker_world.make_network("front")
    owner = docker_world.make_container("owner", {front: EndpointSettings()})
    for suffix in ("one", "two"):
        docker_world.make_container(suffix, network_mode=f"container:{owner}")
    assert all(result.ok for result in guard.isolate("owner", "one", "two"))
    assert networks(docker_world, owner) == {}
    released = guard.requests().release(guard.selection.recorded())
    assert outcomes(docker_world, released) == dict.fromkeys(("owner", "one", "two"), "released")
    assert list(networks(docker_world, owner)) == [docker_world.name("front")]
    assert guard.journal.entries() == ([], [])


def test_one_that_cannot_be_isolated_does_not_keep_the_others(docker_world: DockerWorld, guard: Guard) -> None:
    docker_world.make_container("web")
    docker_world.make_container("host", network_mode="host")
    brief = docker_world.make_container("brief", auto_remove=True)
    docker_world.make_container("stopped", state="exited")
    results = guard.isolate("web", "host", "brief", "nobody", "stopped", actions=(Action("network_disconnect"),))
    assert outcomes(docker_world, results) == {
        "web": "isolated",
        "host": "refused",
        "brief": "isolated",
        "nobody": "not_found",
        "stopped": "isolated",
    }
    assert outcomes(docker_world, guard.isolate("brief", actions=(Action("kill"),))) == {"brief": "refused"}
    assert docker_world.state(brief) == "running"


def test_only_what_is_over_is_given_back(docker_world: DockerWorld, guard: Guard) -> None:
    for suffix in ("over", "later", "never"):
        docker_world.make_container(suffix)
    guard.isolate("over", release_after=1)
    guard.isolate("later", release_after=3600)
    guard.isolate("never")
    targets = docker_world.until(
        lambda: claimed(guard.selection.recorded(), expired_at(datetime.datetime.now(datetime.UTC))), "one is over"
    )
    assert outcomes(docker_world, guard.requests().release(targets)) == {"over": "released"}
    assert sorted(guard.breaches()) == ["later", "never"]


def test_several_are_started_anew(docker_world: DockerWorld, guard: Guard) -> None:
    containers = [docker_world.make_container(suffix) for suffix in ("one", "two")]
    pids = [docker_world.engine.inspect_container(container)["State"]["Pid"] for container in containers]
    guard.isolate("one", "two")
    results = guard.requests().release(guard.selection.recorded(), restart=True)
    assert all(result.ok for result in results)
    now = [docker_world.engine.inspect_container(container)["State"]["Pid"] for container in containers]
    assert all(pid and pid != before for pid, before in zip(now, pids, strict=True))


def test_several_are_ended_and_started_anew(docker_world: DockerWorld, guard: Guard) -> None:
    containers = [docker_world.make_container(suffix, restart_policy=("always", 0)) for suffix in ("one", "two")]
    assert all(result.ok for result in guard.isolate("one", "two", actions=KILL))
    assert [docker_world.state(container) for container in containers] == ["exited"] * 2
    assert all(result.ok for result in guard.requests().release(guard.selection.recorded()))
    assert [docker_world.state(container) for container in containers] == ["running"] * 2


def test_the_container_that_publishes_the_port_of_the_engine_is_left_alone(
    docker_world: DockerWorld, guard: Guard
) -> None:
    port = docker_world.free_host_port()
    docker_world.make_container("proxy", published={"2375/tcp": port})
    docker_world.make_container("web")
    targets = guard.selection.named(docker_world.name(suffix) for suffix in ("proxy", "web"))
    results = guard.requests(f"tcp://127.0.0.1:{port}").isolate(targets, BOTH, Cause())
    assert outcomes(docker_world, results) == {"proxy": "refused", "web": "isolated"}
    assert results[0].outcome is not None
    assert f"it publishes port {port}, by which the guard" in (results[0].outcome.error or {})["message"]


# --- pods -------------------------------------------------------------------------------------------------------------


def make_pod(world: DockerWorld, *sidecars: str, policy: str = "unless-stopped") -> dict[str, str]:
    """A container, and others that use its network: their ids, by name."""
    owner = world.make_container("owner", restart_policy=(policy, 0))
    return {"owner": owner} | {
        name: world.make_container(name, network_mode=f"container:{owner}", restart_policy=(policy, 0))
        for name in sidecars
    }


def release(guard: Guard, *names: str, **options: t.Any) -> list[Result]:
    targets = guard.selection.named([guard.world.name(name) for name in names], releasing=True)
    return guard.requests().release(targets, **options)


@pytest.mark.parametrize(
    ("isolated", "actions"),
    [(("one", "other"), BOTH), (("owner", "one", "other"), KILL), (("owner", "one", "other"), (KILL[1],))],
    ids=["the sidecars", "all, by kill", "all, by kill alone"],
)
def test_a_pod_that_is_down_is_released_by_one_request(
    docker_world: DockerWorld, guard: Guard, isolated: tuple[str, ...], actions: tuple[Action, ...]
) -> None:
    pod = make_pod(docker_world, "one", "other")
    assert all(result.ok for result in guard.isolate(*isolated, actions=actions))
    for container in pod.values():  # as by a reboot
        if docker_world.state(container) == "paused":
            docker_world.engine.unpause(container)
        if docker_world.state(container) == "running":
            docker_world.engine.kill(container)
    results = release(guard, "owner", "one", "other")
    assert outcomes(docker_world, results) == dict.fromkeys(pod, "released"), results
    assert {name: docker_world.state(container) for name, container in pod.items()} == dict.fromkeys(pod, "running")
    assert [docker_world.interfaces(container) for container in pod.values()] == [{"lo", "eth0"}] * 3
    assert guard.breaches() == {}


def test_an_owner_is_started_for_its_first_sidecar_without_its_network(docker_world: DockerWorld, guard: Guard) -> None:
    pod = make_pod(docker_world, "one", "other")
    assert all(result.ok for result in guard.isolate("one", "other"))
    for name in ("one", "other", "owner"):
        if name != "owner":
            docker_world.engine.unpause(pod[name])
        docker_world.engine.kill(pod[name])
    assert all(result.ok for result in release(guard, "one"))
    assert {name: docker_world.state(container) for name, container in pod.items()} == {
        "owner": "running",
        "one": "running",
        "other": "exited",
    }
    assert docker_world.interfaces(pod["one"]) == {"lo"}
    assert guard.breaches() == {"owner": [], "other": ["ended"]}
    assert all(result.ok for result in release(guard, "other"))
    assert docker_world.interfaces(pod["one"]) == {"lo", "eth0"}


def make_anew(world: DockerWorld, pod: dict[str, str], *names: str) -> dict[str, str]:
    """Remove the pod, or the container whose network it uses alone, and make these anew under the same names."""
    for name in reversed(names):
        world.api.remove_container(pod[name], force=True)
    return make_pod(world, *(name for name in names if name != "owner"))


def test_the_release_of_a_sidecar_does_not_forget_the_isolation_of_an_owner_that_was_made_anew(
    docker_world: DockerWorld, guard: Guard
) -> None:
    pod = make_pod(docker_world, "one")
    assert all(result.ok for result in guard.isolate("owner", "one"))
    new = make_anew(docker_world, pod, "owner")
    (refused,) = release(guard, "one")
    assert "no longer exists" in str(refused.outcome and refused.outcome.error)
    assert [result.outcome and result.outcome.outcome for result in release(guard, "one", force=True)] == ["released"]
    assert guard.breaches() == {"owner": ["recreated"]}
    assert [result.ok for result in guard.requests().repair(guard.selection.to_repair())] == [True]
    assert docker_world.state(new["owner"]) == "paused"
    assert docker_world.interfaces(new["owner"]) == {"lo"}


def test_a_pod_that_was_made_anew_and_is_released_by_name_is_not_isolated_again(
    docker_world: DockerWorld, guard: Guard
) -> None:
    pod = make_pod(docker_world, "one")
    assert all(result.ok for result in guard.isolate("one"))
    new = make_anew(docker_world, pod, "owner", "one")
    results = release(guard, "one")
    assert [result.outcome and result.outcome.outcome for result in results] == ["released"] * 2, results
    assert guard.selection.to_repair() == []
    assert {docker_world.state(container) for container in new.values()} == {"running"}
