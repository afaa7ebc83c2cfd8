# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating while the engine freezes, dies and comes back: whatever the guard says is true."""

from __future__ import annotations

import contextlib
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN, refused
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld, interfaces_of
from ansible_collections.ironpost.container_guard.tests.integration.guarded import (
    CUT,
    LOOPBACK,
    PAUSE,
    Guarded,
    static,
    steps,
)
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

DEATHS = 3
"""How often an engine is killed in the middle of a call: each time at another moment of it."""


@pytest.fixture
def guarded(docker_world: HostWorld, tmp_path: pathlib.Path) -> Guarded:
    return Guarded(docker_world, tmp_path)


class FreezingEngine(DockerEngine):
    """The real client, on whose host the engine is frozen just before it is asked to pause."""

    host: Host

    def pause(self, container_id: str) -> None:
        self.host.freeze_engine()
        super().pause(container_id)


def networked(world: HostWorld, suffix: str = "c", **options: t.Any) -> str:
    network = world.make_network(f"n-{suffix}")
    return world.make_container(suffix, {network: static(world, network)}, **options)


def pid_of(world: HostWorld, container: str) -> int:
    return int(world.engine.inspect_container(container)["State"]["Pid"])


@pytest.mark.fact("A9", "C.faults.2")
def test_a_call_that_nobody_waits_for_is_carried_out(
    faulty_host: Host, docker_world: HostWorld, guarded: Guarded
) -> None:
    container = networked(docker_world)
    before = guarded.seen(container)
    engine = FreezingEngine(docker_world.docker_host, timeout=1)
    engine.host = faulty_host
    with contextlib.closing(engine):
        outcome = guarded.guard_of(engine, max_attempts=0).isolate(container, [PAUSE, CUT])
    assert (outcome.outcome, (outcome.error or {})["kind"]) == ("unknown", "engine_timeout")
    # The others would wait for the same engine.
    assert [(step.action, step.status) for step in outcome.steps] == [("pause", "unknown")]
    faulty_host.thaw_engine()
    docker_world.until(lambda: docker_world.state(container) == "paused", "what was abandoned is carried out")
    assert guarded.breaches(container) == ["reconnected", "interrupted"]
    assert steps(guarded.isolate(container, [PAUSE, CUT])) == ["disconnect"]
    guarded.release(container)
    assert guarded.seen(container) == before


@pytest.mark.fact("C.faults.1", "C.faults.4")
def test_an_engine_that_is_down(faulty_host: Host, docker_world: HostWorld, guarded: Guarded) -> None:
    container = networked(docker_world)
    pid = pid_of(docker_world, container)
    faulty_host.kill_engine()
    for work in (guarded.guard.isolate, lambda one, _actions: guarded.guard.release(one)):
        with pytest.raises(EngineUnreachable) as caught:
            work(container, [PAUSE, CUT])
        assert "containers run on meanwhile" in str(caught.value.to_dict()["remedy"])
    assert guarded.journal.entries() == ([], []), "nothing was touched"
    assert interfaces_of(pid) == {"lo", "eth0"}
    faulty_host.start_engine()


@pytest.mark.fact("A2", "C.faults.3")
def test_an_engine_that_dies_in_the_middle_of_a_disconnect(
    faulty_host: Host, docker_world: HostWorld, guarded: Guarded
) -> None:
    """The interface is gone, and what the engine wrote down last says otherwise."""
    faulty_host.restart_engine(live_restore=True)
    for number in range(DEATHS):
        container = networked(docker_world, f"c{number}")
        pid = pid_of(docker_world, container)
        died = threading.Event()

        def disconnect(one: str = container, told: threading.Event = died) -> None:
            with contextlib.closing(DockerEngine(docker_world.docker_host)) as engine:
                # It may be killed after it has answered, too.
                with contextlib.suppress(EngineUnreachable):
                    (network,) = docker_world.keys(one)
                    engine.disconnect(network, one)
                told.set()

        thread = threading.Thread(target=disconnect)
        thread.start()
        docker_world.until(lambda its=pid: interfaces_of(its) == LOOPBACK, "its interface is gone")
        faulty_host.kill_engine()
        thread.join()
        assert died.is_set()
        faulty_host.start_engine(live_restore=True)
        assert docker_world.interfaces(container) == LOOPBACK
        listed = bool(docker_world.keys(container))
        print(f"killed in disconnect {number}: inspect {'still shows' if listed else 'has forgotten'} the network")
        outcome = guarded.guard.isolate(container, [CUT])
        # It is cut off either way. Where the engine contradicts itself, the guard does not say so, nor that it is not.
        assert outcome.outcome in ("isolated", "unknown"), outcome
        assert (outcome.outcome == "isolated") == (not docker_world.keys(container)), outcome
        if outcome.outcome == "unknown":
            assert (outcome.error or {})["kind"] == "contradiction"


@pytest.mark.fact("A7", "C.restart-policy.3")
@pytest.mark.parametrize("live_restore", [False, True], ids=["without live-restore", "with live-restore"])
def test_an_engine_that_is_restarted(
    faulty_host: Host, docker_world: HostWorld, guarded: Guarded, live_restore: bool
) -> None:
    faulty_host.restart_engine(live_restore=live_restore)
    container = networked(docker_world, restart_policy=("always", 0))
    before = guarded.seen(container)
    guarded.isolate(container, [PAUSE, CUT])
    faulty_host.restart_engine(live_restore=live_restore)
    # Its restart policy is no, so nothing starts it, and the disconnect holds in any case.
    assert docker_world.state(container) == ("paused" if live_restore else "exited")
    assert docker_world.keys(container) == {}
    assert guarded.breaches(container) == ([] if live_restore else ["ended"])
    if not live_restore:
        docker_world.engine.start(container)
        assert docker_world.interfaces(container) == LOOPBACK
        assert guarded.breaches(container) == ["restarted", "unpaused"]
        assert steps(guarded.isolate(container, [PAUSE, CUT])) == ["pause"]
    guarded.release(container)
    assert guarded.seen(container) == before


@pytest.mark.fact("A7", "C.restart-policy.3")
def test_what_comes_back_with_an_engine_by_itself(faulty_host: Host, docker_world: HostWorld) -> None:
    made = {
        "always stopped": docker_world.make_container("a", state="exited", restart_policy=("always", 0)),
        "always paused": docker_world.make_container("b", state="paused", restart_policy=("always", 0)),
        "on-failure": docker_world.make_container("c", restart_policy=("on-failure", 0)),
        "unless-stopped stopped": docker_world.make_container(
            "d", state="exited", restart_policy=("unless-stopped", 0)
        ),
        "unless-stopped paused": docker_world.make_container("e", state="paused", restart_policy=("unless-stopped", 0)),
        "no": docker_world.make_container("f"),
    }
    network = docker_world.make_network("n")
    cut = docker_world.make_container("g", {network: PLAIN}, restart_policy=("always", 0))
    docker_world.engine.disconnect(network, cut)
    faulty_host.restart_engine()
    expected = {name: "exited" if name in ("unless-stopped stopped", "no") else "running" for name in made}

    def states() -> dict[str, str]:
        return {name: docker_world.state(container) for name, container in made.items()}

    with contextlib.suppress(TimeoutError):  # what the states are says more than that
        docker_world.until(lambda: states() == expected, "they come back", seconds=10)
    assert states() == expected
    docker_world.come_back(cut)
    assert docker_world.interfaces(cut) == LOOPBACK


@pytest.mark.fact("C.connect.13")
def test_an_endpoint_made_between_two_restarts_stays(faulty_host: Host, docker_world: HostWorld) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", state="restarting", restart_policy=("always", 0))
    if docker_world.engine_from(28):
        # It makes the endpoint in the network namespace of the container, which has none now.
        with refused(404, "network sandbox for container .* not found"):
            docker_world.engine.connect(network, container, PLAIN)
        docker_world.engine.kill(container)
        docker_world.remove_network(network)
        return
    docker_world.engine.connect(network, container, PLAIN)
    docker_world.api.remove_container(container, force=True)
    left = docker_world.engine.inspect_network(network)["Containers"]
    assert [endpoint["Name"] for endpoint in left.values()] == [docker_world.name("c")]
    with refused(403, "has active endpoints"):
        docker_world.remove_network(network)
    docker_world.api.disconnect_container_from_network(docker_world.name("c"), network, force=True)
    docker_world.remove_network(network)


@pytest.mark.fact("C.pause.8")
def test_fast_toggles_leave_nothing_that_isolating_cannot_mend(docker_world: HostWorld, guarded: Guarded) -> None:
    container = networked(docker_world)
    answers: set[int | None] = set()
    for toggle in [docker_world.engine.pause, docker_world.engine.unpause] * 20:
        try:
            toggle(container)
        except EngineError as error:
            answers.add(error.status)
    # Seldom by 26.1, on a machine that is busy.
    assert answers <= {409, 500}
    guarded.there_and_back(container)


@pytest.mark.fact("C.faults.6")
def test_of_concurrent_pauses_one_succeeds(docker_world: HostWorld) -> None:
    container = docker_world.make_container("c")
    barrier, answers = threading.Barrier(3), []

    def pause() -> None:
        barrier.wait()
        try:
            docker_world.engine.pause(container)
            answers.append(204)
        except EngineError as error:
            answers.append(error.status or 0)

    threads = [threading.Thread(target=pause) for _number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [204, 409, 409]
    assert docker_world.state(container) == "paused"
