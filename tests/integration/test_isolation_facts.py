# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings that need an engine that dies, freezes or takes its time, and what the guard makes of them."""

from __future__ import annotations

import concurrent.futures
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import NO_RETRY, Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.breaches import inspect
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld, HostWorld
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

PAUSE, CUT = Action("pause"), Action("network_disconnect")
BOTH = (PAUSE, CUT)


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Journal:
    return Journal(str(tmp_path / "state"))


@pytest.fixture
def isolator(docker_world: DockerWorld, journal: Journal) -> Isolator:
    return Isolator(docker_world.engine, journal)


def breaches(world: DockerWorld, isolator: Isolator, journal: Journal, container: str) -> set[str]:
    entry = journal.load(container)
    assert entry is not None
    return {breach.kind for breach in inspect(isolator, Resolver(world.engine), entry).breaches}


@pytest.mark.fact("A2")
def test_a2_an_engine_killed_in_the_middle_of_a_disconnect_is_not_taken_at_its_word(
    faulty_host: Host, docker_world: HostWorld, journal: Journal
) -> None:
    faulty_host.restart_engine(live_restore=True)
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN})
    engine = DockerEngine(faulty_host.docker_host, timeout=5)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        disconnect = pool.submit(engine.disconnect, network, container)
        # As soon as the interface is gone, before the engine has written that down.
        docker_world.until(lambda: docker_world.interfaces(container) == {"lo"} or disconnect.done(), "it is off")
        faulty_host.kill_engine()
        concurrent.futures.wait([disconnect])
    engine.close()
    faulty_host.start_engine(live_restore=True)
    outcome = Isolator(docker_world.engine, journal, retry=NO_RETRY).isolate(container, BOTH)
    lists = network in {key["NetworkID"] for key in docker_world.keys(container).values()}
    # Whether the kill came in time is the engine's affair: what counts is that no contradiction is called isolated.
    assert outcome.outcome == ("unknown" if lists else "isolated"), outcome.error
    assert docker_world.state(container) == "paused"


@pytest.mark.fact("A6")
def test_a6_a_paused_container_turns_unhealthy(docker_world: DockerWorld, isolator: Isolator) -> None:
    second = 10**9
    health = {"test": ["CMD", "true"], "interval": second, "timeout": second, "retries": 1}
    api = docker_world.api
    container = api.create_container(
        "container-guard/busybox:latest",
        ["sleep", "3600"],
        name=docker_world.name("c"),
        labels=docker_world.labels,
        healthcheck=health,
        stop_signal="SIGKILL",
    )["Id"]
    docker_world.engine.start(container)

    def status() -> str:
        return str(docker_world.engine.inspect_container(container)["State"]["Health"]["Status"])

    docker_world.until(lambda: status() == "healthy", "it is healthy")
    outcome = isolator.isolate(container, BOTH)
    assert any("turns unhealthy" in warning for warning in outcome.warnings)
    docker_world.until(lambda: status() == "unhealthy", "it is unhealthy")
    assert isolator.release(container).outcome == "released"


@pytest.mark.fact("A7")
@pytest.mark.parametrize("live_restore", [False, True])
def test_a7_a_cut_outlives_a_restart_of_the_engine_and_a_pause_does_only_with_live_restore(
    faulty_host: Host, docker_world: HostWorld, isolator: Isolator, journal: Journal, live_restore: bool
) -> None:
    faulty_host.restart_engine(live_restore=live_restore)
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN}, restart_policy=("always", 0))
    assert isolator.isolate(container, BOTH).outcome == "isolated"
    faulty_host.restart_engine(live_restore=live_restore)
    assert docker_world.keys(container) == {}
    # Without live-restore it is down, and stays so: its restart policy was taken from it.
    assert docker_world.state(container) == ("paused" if live_restore else "exited")
    assert breaches(docker_world, isolator, journal, container) == (set() if live_restore else {"ended"})
    released = isolator.release(container)
    assert released.outcome == "released"
    # The guard took its restart policy, so the guard starts it; what its processes had is lost.
    assert docker_world.state(container) == "running"
    assert [difference["what"] for difference in released.not_restored] == ([] if live_restore else ["processes"])
    assert released.sessions_may_resume is live_restore


@pytest.mark.fact("A9")
def test_a9_a_call_without_an_answer_is_read_back(faulty_host: Host, docker_world: HostWorld, journal: Journal) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
    engine = DockerEngine(faulty_host.docker_host, timeout=2)
    thawed = threading.Event()

    def thaw(_seconds: float) -> None:
        if not thawed.is_set():
            thawed.set()
            faulty_host.thaw_engine()

    isolator = Isolator(engine, journal, retry=Retry(max_attempts=3, sleep=thaw))
    journal_store = journal.store

    def freeze_once_recorded(entry: t.Any) -> None:
        journal_store(entry)
        if not thawed.is_set():
            faulty_host.freeze_engine()

    journal.store = freeze_once_recorded  # type: ignore[method-assign]  # the moment between the record and the action
    outcome = isolator.isolate(container, BOTH)
    engine.close()
    assert outcome.outcome == "isolated", outcome.error
    assert "unknown" in {step.status for step in outcome.steps}
    assert (docker_world.state(container), docker_world.keys(container)) == ("paused", {})


@pytest.mark.fact("A9")
def test_a9_an_engine_that_stays_frozen_is_unknown_and_nothing_is_lost(
    faulty_host: Host, docker_world: HostWorld, journal: Journal
) -> None:
    container = docker_world.make_container("c", {docker_world.make_network("n"): PLAIN})
    engine = DockerEngine(faulty_host.docker_host, timeout=1)
    isolator = Isolator(engine, journal, retry=NO_RETRY)
    store = journal.store

    def freeze_once_recorded(entry: t.Any) -> None:
        store(entry)
        faulty_host.freeze_engine()

    journal.store = freeze_once_recorded  # type: ignore[method-assign]  # the moment between the record and the action
    outcome = isolator.isolate(container, BOTH)
    assert (outcome.outcome, outcome.after) == ("unknown", {})
    journal.store = store  # type: ignore[method-assign]  # as it was
    faulty_host.thaw_engine()
    assert Isolator(docker_world.engine, journal).isolate(container, BOTH).outcome == "isolated"
    assert Isolator(docker_world.engine, journal).release(container).outcome == "released"
    engine.close()
