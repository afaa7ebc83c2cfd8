# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating and releasing every kind of container on real engines: it is cut off, and comes back as it was."""

from __future__ import annotations

import concurrent.futures
import pathlib
import threading
import typing as t

import docker.errors
import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN, refused
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import IMAGE, SLEEP, HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.guarded import (
    BOTH,
    CUT,
    KILL,
    LOOPBACK,
    PAUSE,
    STOP,
    WEB,
    Guarded,
    differences,
    not_restored,
    static,
    steps,
)

# Takes one session, and keeps what it says. When it is started again, it takes another one.
LISTENER = ("sh", "-c", "tail -f /dev/null | nc -l -p 7 >>/root/received")
# Holds one session open, and says in it what is appended to a file.
TALKER = "touch /root/said; tail -f /root/said | { nc %s 7; touch /root/ended; }; exec sleep 3600"


@pytest.fixture
def guarded(docker_world: HostWorld, tmp_path: pathlib.Path) -> Guarded:
    return Guarded(docker_world, tmp_path)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.fact("C.disconnect.1", "C.disconnect.10", "C.connect.1", "C.connect.3", "C.pause.3")
def test_static_addresses_and_aliases(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n", ipv6=True)
    settings = static(docker_world, network, aliases=("database", "db"))
    container = docker_world.make_container("c", {network: settings}, command=WEB, restart_policy=("on-failure", 7))
    peer = docker_world.make_container("peer", {network: PLAIN})

    def resolves() -> bool:
        return docker_world.exec(peer, "ping", "-c", "1", "-W", "2", "database")[0] == 0

    docker_world.until(lambda: guarded.reaches(peer, container, network), "it serves")
    assert resolves()
    before = guarded.seen(container)
    outcome = guarded.isolate(container)
    assert steps(outcome) == ["pause", "disconnect", "set_restart_policy"]
    assert not guarded.reaches(peer, container, network)
    assert docker_world.exec(peer, "nslookup", "database")[0] != 0
    guarded.release(container)
    assert guarded.seen(container) == before
    assert guarded.reaches(peer, container, network)
    assert resolves()


@pytest.mark.fact("C.disconnect.11", "C.disconnect.12")
def test_disconnected_alone_it_runs_on_and_reaches_itself(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n", ipv6=True)
    container = docker_world.make_container("c", {network: PLAIN})

    def reaches_itself(address: str) -> bool:
        return docker_world.exec(container, "ping", "-c", "1", "-W", "1", address)[0] == 0

    assert reaches_itself("127.0.0.1")
    assert reaches_itself("::1")
    before = guarded.seen(container)
    guarded.isolate(container, [CUT])
    assert docker_world.state(container) == "running"
    assert reaches_itself("127.0.0.1")
    # 20.10 turns IPv6 off with the last network that has it.
    assert reaches_itself("::1") == docker_world.engine_from(26)
    guarded.release(container)
    assert guarded.seen(container) == before
    assert reaches_itself("::1")


@pytest.mark.fact("C.connect.1", "C.connect.14", "C.connect.15")
def test_several_networks(docker_world: HostWorld, guarded: Guarded) -> None:
    networks = [docker_world.make_network(name) for name in ("b", "a", "c")]
    wanted = {network: EndpointSettings(aliases=(f"on-{number}",)) for number, network in enumerate(networks)}
    container = docker_world.make_container("c", wanted)

    def default_route() -> str:
        lines = docker_world.exec(container, "ip", "route")[1].splitlines()
        return next(line.split()[2] for line in lines if line.startswith("default"))

    before = default_route()
    guarded.there_and_back(container, [CUT])
    assert default_route() == before


@pytest.mark.fact("C.connect.1", "C.connect.6")
def test_driver_options_and_gateway_priority(docker_world: HostWorld, guarded: Guarded) -> None:
    first, second = docker_world.make_network("n1"), docker_world.make_network("n2")
    settings = EndpointSettings(driver_opts={"com.example.option": "1"}, gw_priority=7)
    container = docker_world.make_container("c", {first: PLAIN, second: settings})
    key = docker_world.key(container, second)
    assert key["DriverOpts"] == {"com.example.option": "1"}
    assert key.get("GwPriority") == (7 if docker_world.engine_from(28) else None)
    guarded.there_and_back(container)


@pytest.mark.fact("C.connect.1")
def test_legacy_links(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    docker_world.make_container("db", {network: PLAIN})
    links = EndpointSettings(links=(f"{docker_world.name('db')}:store",))
    container = docker_world.make_container("c", {network: links})
    guarded.there_and_back(container, [CUT])
    assert docker_world.exec(container, "ping", "-c", "1", "-W", "2", "store")[0] == 0


@pytest.mark.fact("C.connect.1", "C.connect.12", "C.mode.8")
def test_default_bridge(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c")
    guarded.there_and_back(container)
    mode = docker_world.engine.inspect_container(container)["HostConfig"]["NetworkMode"]
    assert mode == ("bridge" if docker_world.engine_from(26) else "default")


@pytest.mark.fact("C.connect.5")
def test_a_mac_address_that_somebody_configured(docker_world: HostWorld, guarded: Guarded) -> None:
    network, asked = docker_world.make_network("n"), "02:42:00:00:00:99"
    created = docker_world.api.create_container(
        IMAGE,
        list(SLEEP),
        mac_address=asked,
        labels=docker_world.labels,
        host_config=docker_world.api.create_host_config(network_mode=docker_world.name("n")),
    )
    container = str(created["Id"])
    docker_world.engine.start(container)
    assert docker_world.key(container, network)["MacAddress"] == asked
    _isolated, released = guarded.there_and_back(container)
    given_back = docker_world.key(container, network)["MacAddress"] == asked
    assert given_back != docker_world.engine_from(26)
    lost = [f"mac_address on network {docker_world.name('n')}"]
    assert differences(released) == ([] if given_back else lost)


@pytest.mark.fact("C.disconnect.9")
def test_published_ports(docker_world: HostWorld, guarded: Guarded) -> None:
    fixed, network = docker_world.free_host_port(), docker_world.make_network("n")
    published = {"80/tcp": fixed, "81/tcp": None}
    container = docker_world.make_container("c", {network: PLAIN}, command=WEB, published=published)

    def ephemeral() -> str:
        ports = docker_world.engine.inspect_container(container)["NetworkSettings"]["Ports"]
        return str(ports["81/tcp"][0]["HostPort"])

    docker_world.until(lambda: guarded.host_reaches(fixed), "it serves")
    before = ephemeral()
    guarded.isolate(container, [CUT])
    assert not guarded.host_reaches(fixed)
    released = guarded.release(container)
    assert guarded.host_reaches(fixed)
    assert ("host port of 81/tcp" in differences(released)) == (ephemeral() != before)


@pytest.mark.fact("C.disconnect.13")
def test_one_network_of_two_leaves_published_ports_open(docker_world: HostWorld, guarded: Guarded) -> None:
    port = docker_world.free_host_port()
    networks = [docker_world.make_network(name) for name in ("a", "b")]
    wanted: dict[str, EndpointSettings] = dict.fromkeys(networks, PLAIN)
    container = docker_world.make_container("c", wanted, command=WEB, published={"80/tcp": port})
    peers = [docker_world.make_container(f"peer-{network[:6]}", {network: PLAIN}) for network in networks]
    docker_world.until(lambda: guarded.host_reaches(port), "it serves")
    assert [guarded.reaches(*pair) for pair in zip(peers, (container,) * 2, networks, strict=True)] == [True, True]
    before = guarded.seen(container)
    outcome = guarded.guard.isolate(container, [Action("network_disconnect", networks=("*-a",))])
    assert (outcome.outcome, outcome.after["networks"]) == ("isolated", [docker_world.name("b")])
    assert f"its published ports stay reachable through network {docker_world.name('b')}" in outcome.warnings
    assert [guarded.reaches(*pair) for pair in zip(peers, (container,) * 2, networks, strict=True)] == [False, True]
    assert guarded.host_reaches(port)
    guarded.release(container)
    assert guarded.seen(container) == before
    assert [guarded.reaches(*pair) for pair in zip(peers, (container,) * 2, networks, strict=True)] == [True, True]


@pytest.mark.fact("C.disconnect.14")
def test_many_leave_one_network_at_the_same_time(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    containers = [docker_world.make_container(f"c{number}", {network: PLAIN}) for number in range(10)]
    outcomes = at_once(*(lambda one=one: guarded.guard.isolate(one, BOTH) for one in containers))
    assert [outcome.outcome for outcome in outcomes] == ["isolated"] * 10
    assert docker_world.engine.inspect_network(network)["Containers"] == {}
    docker_world.remove_network(network)  # it is free of endpoints that nothing shows


# --- network modes ----------------------------------------------------------------------------------------------------


@pytest.mark.fact("C.mode.1")
def test_the_network_of_the_host(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c", network_mode="host")
    guarded.refuses(lambda: guarded.guard.isolate(container, [CUT]), container, "it uses the network of the host")
    isolated, _released = guarded.there_and_back(container)
    assert steps(isolated) == ["pause"]
    assert "cannot be taken from it" in isolated.warnings[0]


@pytest.mark.fact("C.mode.3")
def test_no_network(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c", network_mode="none")
    isolated, _released = guarded.there_and_back(container)
    assert steps(isolated) == ["pause"]


@pytest.mark.fact("C.mode.4")
def test_the_network_of_another_container(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    owner = docker_world.make_container("owner", {network: static(docker_world, network)}, command=WEB)
    sidecar, other = (
        docker_world.make_container(name, network_mode=f"container:{owner}") for name in ("sidecar", "other")
    )
    peer = docker_world.make_container("peer", {network: PLAIN})
    docker_world.until(lambda: guarded.reaches(peer, owner, network), "it serves")
    before = {one: guarded.seen(one) for one in (owner, sidecar, other)}
    outcome = guarded.isolate(sidecar)
    assert steps(outcome) == ["pause", "isolate_network"]
    assert [docker_world.state(one) for one in (owner, sidecar, other)] == ["running", "paused", "running"]
    assert [docker_world.interfaces(one) for one in (owner, sidecar, other)] == [LOOPBACK] * 3
    assert not guarded.reaches(peer, owner, network)
    guarded.refuses(lambda: guarded.guard.release(owner), owner, f"{docker_world.name('sidecar')} uses its network")
    # Another one of its kind needs the network off as long.
    guarded.isolate(other)
    released = guarded.guard.release(sidecar)
    assert released.outcome == "released"
    assert docker_world.interfaces(sidecar) == LOOPBACK
    guarded.release(other)
    assert {one: guarded.seen(one) for one in (owner, sidecar, other)} == before
    assert guarded.reaches(peer, owner, network)
    assert guarded.journal.entries() == ([], [])


# --- states -----------------------------------------------------------------------------------------------------------


@pytest.mark.fact("A4", "C.restart-policy.4")
def test_restarting(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN}, state="restarting", restart_policy=("always", 0))
    outcome = guarded.isolate(container)
    assert steps(outcome) == ["set_restart_policy", "stop", "disconnect"]
    assert (docker_world.state(container), docker_world.keys(container)) == ("exited", {})
    guarded.release(container)
    docker_world.come_back(container)
    assert docker_world.is_member(container, network)
    policy = docker_world.engine.inspect_container(container)["HostConfig"]["RestartPolicy"]["Name"]
    assert policy == "always"


@pytest.mark.fact("C.stop.1")
def test_auto_remove(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN}, auto_remove=True)
    for ending in (KILL, STOP):
        guarded.refuses(lambda one=ending: guarded.guard.isolate(container, [one]), container, "auto-remove")
    before = guarded.seen(container)
    guarded.isolate(container)
    guarded.refuses(lambda: guarded.guard.release(container, restart=True), container, "auto-remove")
    guarded.release(container)
    assert guarded.seen(container) == before
    assert steps(guarded.guard.isolate(container, [KILL], force=True)) == ["kill"]
    docker_world.wait_gone(container)


@pytest.mark.fact("C.pause.2", "C.disconnect.1")
def test_paused_before(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN}, state="paused")
    isolated, released = guarded.there_and_back(container)
    assert steps(isolated) == ["disconnect"]
    assert not released.sessions_may_resume
    outcome = guarded.guard.isolate(container, [STOP])
    assert outcome.outcome == "refused"
    guarded.there_and_back(container, [CUT, KILL])


@pytest.mark.fact("C.disconnect.2")
def test_disconnected_before(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN})
    docker_world.engine.disconnect(network, container)
    with refused(500, "is not connected"):
        docker_world.engine.disconnect(network, container)
    with pytest.raises(docker.errors.APIError, match="is not connected"):
        docker_world.api.disconnect_container_from_network(container, network, force=True)
    isolated, _released = guarded.there_and_back(container)
    assert steps(isolated) == ["pause"]
    assert docker_world.keys(container) == {}


@pytest.mark.fact("A7", "C.disconnect.3", "C.disconnect.5")
def test_stopped(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: static(docker_world, network)}, state="exited")
    guarded.there_and_back(container)
    guarded.isolate(container)
    docker_world.engine.start(container)
    assert docker_world.interfaces(container) == LOOPBACK
    assert guarded.breaches(container) == ["restarted", "unpaused"]
    guarded.isolate(container)
    assert docker_world.state(container) == "paused"
    released = guarded.release(container)
    assert docker_world.key(container, network)["IPAddress"] == docker_world.address(network, 50)
    assert [conflict["what"] for conflict in released.conflicts] == ["state"]


@pytest.mark.fact("C.disconnect.4")
def test_never_started(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    wanted = {network: static(docker_world, network, aliases=("web",))}
    container = docker_world.make_container("c", wanted, state="created")
    guarded.isolate(container)
    assert docker_world.keys(container) == {}
    guarded.release(container)
    docker_world.engine.start(container)
    key = docker_world.key(container, network)
    assert key["IPAddress"] == docker_world.address(network, 50)
    assert "web" in key["Aliases"]


@pytest.mark.fact("C.restart-policy.1")
@pytest.mark.parametrize("policy", [("always", 0), ("unless-stopped", 0), ("on-failure", 7)], ids=lambda pair: pair[0])
def test_restart_policies(docker_world: HostWorld, guarded: Guarded, policy: tuple[str, int]) -> None:
    container = docker_world.make_container("c", restart_policy=policy)
    guarded.isolate(container, [PAUSE])
    guarded.release(container)
    found = docker_world.engine.inspect_container(container)["HostConfig"]["RestartPolicy"]
    assert (found["Name"], found["MaximumRetryCount"]) == policy


# --- ending it --------------------------------------------------------------------------------------------------------


@pytest.mark.fact("A5", "C.pause.7", "C.stop.2")
def test_paused_then_cut_off_then_killed(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container(
        "c", {network: static(docker_world, network)}, restart_policy=("always", 0), tmpfs={"/memory": ""}
    )
    assert docker_world.exec(container, "touch", "/memory/secret", "/dev/shm/secret", "/root/kept")[0] == 0
    isolated, released = guarded.there_and_back(container, [PAUSE, CUT, KILL])
    assert steps(isolated) == ["pause", "disconnect", "set_restart_policy", "kill"]
    assert steps(released) == ["connect", "set_restart_policy", "start"]
    assert differences(released) == ["processes"]
    assert docker_world.exec(container, "ls", "/memory", "/dev/shm")[1].split() == ["/dev/shm:", "/memory:"]
    assert docker_world.exec(container, "ls", "/root")[1].split() == ["kept"]


@pytest.mark.fact("A5")
def test_paused_and_killed_later(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
    before = guarded.seen(container)
    guarded.isolate(container, [PAUSE])
    outcome = guarded.isolate(container, [KILL])
    assert steps(outcome) == ["kill"]
    assert docker_world.state(container) == "exited"
    guarded.release(container)
    assert guarded.seen(container) == before


@pytest.mark.fact("A5")
def test_somebody_signals_a_paused_container(docker_world: HostWorld, guarded: Guarded) -> None:
    plain = docker_world.api.create_container(IMAGE, list(SLEEP), labels=docker_world.labels)
    container, other = str(plain["Id"]), docker_world.make_container("other")
    docker_world.engine.start(container)
    before = guarded.seen(container)
    guarded.isolate(container)
    guarded.isolate(other)
    for one in (container, other):
        docker_world.api.kill(one, "SIGUSR2")  # PID 1 has no handler, and ignores it
    # Where a stop signal is configured, only that one and SIGKILL thaw it.
    assert (docker_world.state(container), docker_world.state(other)) == ("running", "paused")
    assert guarded.breaches(container) == ["unpaused"]
    outcome = guarded.isolate(container)
    assert steps(outcome) == ["pause"]
    guarded.release(container)
    assert guarded.seen(container) == before


# --- sessions ---------------------------------------------------------------------------------------------------------


class Session:
    """A TCP session from one container to another."""

    def __init__(self, world: HostWorld) -> None:
        self._world = world
        network = world.make_network("n")
        self.listener = world.make_container("listener", {network: static(world, network)}, command=LISTENER)
        address = world.address(network, 50)
        self._talker = world.make_container("talker", {network: PLAIN}, command=("sh", "-c", TALKER % address))
        self.say("first")
        world.until(lambda: "first" in self.received(), "the session carries data")

    def say(self, word: str) -> None:
        assert self._world.exec(self._talker, "sh", "-c", f"echo {word} >>/root/said")[0] == 0

    def received(self) -> list[str]:
        return self._world.exec(self.listener, "cat", "/root/received")[1].split()

    def has_ended(self) -> bool:
        return self._world.exec(self._talker, "test", "-e", "/root/ended")[0] == 0


@pytest.mark.fact("A8")
def test_a_session_goes_on_after_a_release(docker_world: HostWorld, guarded: Guarded) -> None:
    session = Session(docker_world)
    guarded.isolate(session.listener)
    session.say("second")
    outcome = guarded.release(session.listener)
    assert outcome.sessions_may_resume
    docker_world.until(lambda: session.received() == ["first", "second"], "what was queued arrives")
    assert not session.has_ended()


@pytest.mark.fact("A8")
def test_a_release_with_restart_ends_the_sessions(docker_world: HostWorld, guarded: Guarded) -> None:
    session = Session(docker_world)
    before = guarded.seen(session.listener)
    guarded.isolate(session.listener)
    session.say("second")
    outcome = guarded.release(session.listener, restart=True)
    assert steps(outcome) == ["kill", "connect", "start"]
    assert not outcome.sessions_may_resume
    assert guarded.seen(session.listener) == before
    docker_world.until(session.has_ended, "the session ends")
    assert session.received() == ["first"]


# --- what others did meanwhile ----------------------------------------------------------------------------------------


@pytest.mark.fact("C.disconnect.7")
def test_a_network_that_is_gone_and_comes_back(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    subnet = docker_world.engine.inspect_network(network)["IPAM"]["Config"][0]["Subnet"]
    container = docker_world.make_container("c", {network: static(docker_world, network)})
    before = guarded.seen(container)
    guarded.isolate(container)
    docker_world.remove_network(network)
    guarded.refuses(lambda: guarded.guard.release(container), container, "no longer exists")
    again = docker_world.make_network("n", subnet=subnet)
    outcome = guarded.release(container)
    name = docker_world.name("n")
    assert not_restored(outcome) == [{"what": f"id of network {name}", "before": network, "after": again}]
    before["networks"][name]["NetworkID"] = again
    assert guarded.seen(container) == before


@pytest.mark.fact("A3", "C.connect.8")
def test_an_address_that_somebody_took(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: static(docker_world, network)})
    before = guarded.seen(container)
    guarded.isolate(container)
    thief = docker_world.make_container("thief", {network: static(docker_world, network)})
    guarded.refuses(lambda: guarded.guard.release(container), container, "is taken by container")
    docker_world.engine.disconnect(network, thief)
    guarded.release(container)
    assert guarded.seen(container) == before


@pytest.mark.fact("A1")
def test_a_port_that_somebody_took(docker_world: HostWorld, guarded: Guarded) -> None:
    network, port = docker_world.make_network("n"), docker_world.free_host_port()
    container = docker_world.make_container("c", {network: PLAIN}, published={"80/tcp": port})
    before = guarded.seen(container)
    guarded.isolate(container)
    thief = docker_world.make_container("thief", published={"80/tcp": port})
    guarded.refuses(lambda: guarded.guard.release(container), container, "is taken by container")
    docker_world.engine.kill(thief)
    guarded.release(container)
    assert guarded.seen(container) == before


def test_another_restart_policy(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c", restart_policy=("on-failure", 7))
    guarded.isolate(container)
    docker_world.engine.set_restart_policy(container, "always", 0)
    assert guarded.breaches(container) == ["restart_policy"]
    outcome = guarded.release(container)
    assert [conflict["what"] for conflict in outcome.conflicts] == ["restart policy"]
    policy = docker_world.engine.inspect_container(container)["HostConfig"]["RestartPolicy"]["Name"]
    assert policy == "always"


def test_connected_again_with_another_address(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: static(docker_world, network)})
    guarded.isolate(container)
    docker_world.engine.connect(network, container, static(docker_world, network, 77))
    assert guarded.breaches(container) == ["reconnected"]
    outcome = guarded.release(container)
    assert [conflict["what"] for conflict in outcome.conflicts] == [f"settings on network {docker_world.name('n')}"]
    assert docker_world.key(container, network)["IPAddress"] == docker_world.address(network, 77)
    assert docker_world.state(container) == "running"


def test_connected_to_another_network(docker_world: HostWorld, guarded: Guarded) -> None:
    first, second = docker_world.make_network("n1"), docker_world.make_network("n2")
    container = docker_world.make_container("c", {first: PLAIN})
    guarded.isolate(container)
    docker_world.engine.connect(second, container, PLAIN)
    assert guarded.breaches(container) == ["reconnected"]
    outcome = guarded.isolate(container)
    assert steps(outcome) == ["disconnect"]
    guarded.release(container)
    assert docker_world.keys(container).keys() == {docker_world.name("n1"), docker_world.name("n2")}


@pytest.mark.fact("A10")
def test_isolated_and_released_at_the_same_time(docker_world: HostWorld, guarded: Guarded) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
    before = guarded.seen(container)
    guarded.isolate(container)
    for _round in range(3):
        outcomes = at_once(lambda: guarded.guard.isolate(container, BOTH), lambda: guarded.guard.release(container))
        assert [outcome.ok for outcome in outcomes] == [True, True]
        assert (outcomes[0].outcome in ("isolated", "held"), outcomes[1].outcome) == (True, "released")
        if guarded.journal.load(container):
            assert guarded.breaches(container) == []
            assert docker_world.interfaces(container) == LOOPBACK
        else:
            assert guarded.seen(container) == before
    guarded.isolate(container)
    guarded.release(container)
    assert guarded.seen(container) == before


# --- what compose and swarm do cannot be had here; that they are warned of can ----------------------------------------


@pytest.mark.fact("C.orchestrators.1", "C.orchestrators.2", "C.orchestrators.3")
def test_labels_of_compose_and_swarm(docker_world: HostWorld, guarded: Guarded) -> None:
    labels = {"com.docker.compose.project": "shop", "com.docker.swarm.service.name": "web"}
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN}, labels=labels)
    expected: tuple[tuple[t.Sequence[Action], tuple[str, ...]], ...] = (
        (BOTH, ()),
        ([CUT], ("docker compose up may re-create it",)),
        ([STOP], ("swarm starts another one", "docker compose up starts it again")),
        ([PAUSE, CUT, KILL], ("swarm starts another one", "docker compose up starts it again")),
    )
    for actions, warnings in expected:
        isolated, _released = guarded.there_and_back(container, actions)
        assert isolated.orchestrator == labels
        of_others = [warning for warning in isolated.warnings if "prune" not in warning]
        assert len(of_others) == len(warnings)
        assert all(map(str.startswith, of_others, warnings)), isolated.warnings


# --- accidents --------------------------------------------------------------------------------------------------------


@pytest.mark.fact("A1")
def test_what_a_failed_connect_leaves_is_not_called_isolated(docker_world: HostWorld, guarded: Guarded) -> None:
    network, port = docker_world.make_network("n"), docker_world.free_host_port()
    container = docker_world.make_container("c", {network: PLAIN}, command=WEB, published={"80/tcp": port})
    peer = docker_world.make_container("peer", {network: PLAIN})
    before = guarded.seen(container)
    docker_world.engine.disconnect(network, container)
    thief = docker_world.make_container("thief", published={"80/tcp": port})
    with refused(500, "port is already allocated"):
        docker_world.engine.connect(network, container, PLAIN)
    with pytest.raises(docker.errors.APIError, match="is not connected"):
        docker_world.api.disconnect_container_from_network(container, network, force=True)
    docker_world.until(lambda: guarded.reaches(peer, container, network), "it serves")

    outcome = guarded.guard.isolate(container, [CUT])
    assert (outcome.outcome, (outcome.error or {})["kind"]) == ("unknown", "contradiction")
    assert guarded.reaches(peer, container, network)
    # Once it has ended, it can be taken off the network for good.
    outcome = guarded.guard.isolate(container, [CUT, KILL])
    assert (outcome.outcome, docker_world.keys(container)) == ("isolated", {})
    assert not guarded.reaches(peer, container, network)
    docker_world.engine.kill(thief)
    guarded.release(container)
    assert guarded.seen(container) == before


@pytest.mark.fact("A3")
def test_a_network_without_an_interface_is_no_attachment(docker_world: HostWorld, guarded: Guarded) -> None:
    network = docker_world.make_network("n")
    taken = static(docker_world, network)
    docker_world.make_container("owner", {network: taken})
    container = docker_world.make_container("c", {network: PLAIN})
    docker_world.engine.disconnect(network, container)
    with refused(403, "Address already in use"):
        docker_world.engine.connect(network, container, taken)
    assert docker_world.keys(container)
    outcome = guarded.isolate(container)
    assert steps(outcome) == ["pause"]
    # It was on no network, and comes back on none.
    assert steps(guarded.release(container)) == ["unpause"]
    assert docker_world.interfaces(container) == LOOPBACK


def at_once(*works: t.Callable[[], Outcome]) -> list[Outcome]:
    """What came of all that, done at the same time."""
    barrier = threading.Barrier(len(works))

    def run(work: t.Callable[[], Outcome]) -> Outcome:
        barrier.wait()
        return work()

    with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))
