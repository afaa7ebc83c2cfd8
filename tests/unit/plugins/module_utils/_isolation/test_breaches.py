# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody, or the engine, did to an isolated container: each kind is told."""

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, EngineTimeout
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.breaches import Inspection, inspect
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine, Lie

PAUSE, CUT, KILL = Action("pause"), Action("network_disconnect"), Action("kill")
BOTH = [PAUSE, CUT]


class Guard:
    """An isolator, with what it found out of one container."""

    def __init__(self, engine: FakeEngine, isolator: Isolator, journal: Journal) -> None:
        self.engine = engine
        self.isolator = isolator
        self.journal = journal

    def inspect(self, container_id: str) -> Inspection:
        entry = self.journal.load(container_id)
        assert entry is not None
        return inspect(self.isolator, Resolver(self.engine), entry)

    def kinds(self, container_id: str) -> list[str]:
        return [breach.kind for breach in self.inspect(container_id).breaches]


@pytest.fixture
def guard(engine: FakeEngine, isolator: Isolator, journal: Journal) -> Guard:
    return Guard(engine, isolator, journal)


@pytest.fixture
def web(engine: FakeEngine, isolator: Isolator) -> str:
    engine.add_network("front", "10.1.0.0/24")
    container = engine.add_container("web", networks={"front": EndpointSettings()}, restart_policy=("always", 0))
    assert isolator.isolate(container, BOTH).ok
    return container


def test_an_isolation_that_holds_has_none(guard: Guard, web: str) -> None:
    inspection = guard.inspect(web)
    assert inspection.breaches == ()
    assert inspection.state is not None
    assert inspection.state.paused


def test_unpaused(guard: Guard, web: str) -> None:
    guard.engine.unpause(web)
    assert guard.inspect(web).breaches == (("unpaused", "it is not paused"),)


def test_reconnected(guard: Guard, web: str) -> None:
    guard.engine.connect("front", web, EndpointSettings())
    assert guard.inspect(web).breaches == (("reconnected", "it is on network front"),)


def test_restart_policy(guard: Guard, web: str) -> None:
    guard.engine.set_restart_policy(web, "always", 0)
    assert guard.inspect(web).breaches == (("restart_policy", "its restart policy is always"),)


def test_restarted(guard: Guard, web: str) -> None:
    """What was frozen is gone, also where the new process is frozen by now."""
    guard.engine.kill(web)
    guard.engine.start(web)
    assert guard.kinds(web) == ["restarted", "unpaused"]
    guard.engine.pause(web)
    (breach,) = guard.inspect(web).breaches
    assert breach.kind == "restarted"
    assert breach.message.startswith("its process began at 20")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_ended(guard: Guard, web: str, end: str) -> None:
    """Whoever it was, or a reboot: what was frozen is gone, and that is told."""
    getattr(guard.engine, end)(web, *([0] if end == "stop" else []))
    (breach,) = guard.inspect(web).breaches
    assert breach.kind == "ended"
    assert "exit code 137" in breach.message
    assert "in memory, in tmpfs and in /dev/shm" in breach.message
    assert guard.isolator.isolate(web, BOTH).ok, "a repair takes note of it"
    assert guard.kinds(web) == []


def test_one_that_the_guard_ended_is_no_breach(guard: Guard, web: str) -> None:
    guard.isolator.isolate(web, [KILL])
    assert guard.kinds(web) == []


def test_running(guard: Guard, web: str) -> None:
    guard.isolator.isolate(web, [KILL])
    assert guard.kinds(web) == []
    guard.engine.start(web)
    assert guard.kinds(web) == ["restarted", "running"]


def test_restarting(guard: Guard, web: str) -> None:
    guard.engine.set_restart_policy(web, "always", 0)
    guard.engine.unpause(web)
    guard.engine.crash(web)
    assert guard.kinds(web) == ["restarting", "restart_policy"]


def test_removed(guard: Guard, web: str) -> None:
    guard.engine.remove_container(web)
    inspection = guard.inspect(web)
    assert (inspection.state, inspection.breaches) == (None, (("removed", "it no longer exists"),))


def test_recreated(guard: Guard, web: str) -> None:
    guard.engine.remove_container(web)
    successor = guard.engine.add_container("web")
    message = f"it no longer exists, and container {successor[:12]} has its name"
    assert guard.inspect(web).breaches == (("recreated", message),)


def test_one_that_is_named_with_the_id_of_one_that_is_gone_is_not_taken_for_it(guard: Guard, web: str) -> None:
    guard.engine.remove_container(web)
    guard.engine.add_container(web)
    assert guard.kinds(web) == ["removed"]


def test_contradiction(guard: Guard, web: str) -> None:
    network = guard.engine.inspect_network("front")["Id"]
    guard.engine.lie(Lie.FAILED_CONNECT, web, network)
    with pytest.raises(EngineError, match="port is already allocated"):
        guard.engine.connect("front", web, EndpointSettings())
    assert "contradiction" in guard.kinds(web)


def test_unreadable(guard: Guard, web: str) -> None:
    for _ in range(3):
        guard.engine.fail_next("inspect_container", EngineTimeout("the engine did not answer within 30 seconds"))
    inspection = guard.inspect(web)
    assert inspection.state is None
    assert inspection.breaches == (("unreadable", "the engine did not answer within 30 seconds"),)


def test_interrupted(guard: Guard, web: str) -> None:
    guard.engine.fail_next("unpause", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        guard.isolator.release(web)
    message = "the journal says releasing: a run was interrupted or did not succeed"
    assert guard.inspect(web).breaches[-1] == ("interrupted", message)


def test_what_others_do_to_the_owner_of_its_network(guard: Guard) -> None:
    guard.engine.add_network("front", "10.1.0.0/24")
    owner = guard.engine.add_container("owner", networks={"front": EndpointSettings()})
    sidecar = guard.engine.add_container("sidecar", network_mode=f"container:{owner}")
    assert guard.isolator.isolate(sidecar, BOTH).ok
    guard.engine.connect("front", owner, EndpointSettings())
    assert (guard.kinds(sidecar), guard.kinds(owner)) == (["reconnected"], ["reconnected"])


@pytest.mark.parametrize("undo", ["unpause", "reconnect", "restart"])
def test_isolating_again_mends_it(guard: Guard, web: str, undo: str) -> None:
    if undo == "unpause":
        guard.engine.unpause(web)
    elif undo == "reconnect":
        guard.engine.connect("front", web, EndpointSettings())
    else:
        guard.engine.kill(web)
        guard.engine.start(web)
    assert guard.kinds(web) != []
    assert guard.isolator.isolate(web, BOTH).ok
    assert guard.kinds(web) == []
