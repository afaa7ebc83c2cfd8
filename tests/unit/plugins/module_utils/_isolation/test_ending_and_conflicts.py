# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ending a container, giving it back anew, and giving back what somebody else changed meanwhile."""

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

PAUSE, CUT, KILL, STOP = Action("pause"), Action("network_disconnect"), Action("kill"), Action("stop", grace=0)
BOTH = [PAUSE, CUT]


def steps(outcome: Outcome) -> list[str]:
    return [f"{step.action} {step.detail}".strip() for step in outcome.steps]


def status(engine: FakeEngine, container_id: str) -> str:
    return str(engine.inspect_container(container_id)["State"]["Status"])


def conflicts(outcome: Outcome) -> dict[str, tuple[str, str]]:
    return {conflict["what"]: (conflict["before"], conflict["found"]) for conflict in outcome.conflicts}


@pytest.fixture
def web(engine: FakeEngine) -> str:
    engine.add_network("front", "10.1.0.0/24")
    settings = EndpointSettings(ipv4_address="10.1.0.50", aliases=("shop",))
    return engine.add_container("web", networks={"front": settings}, restart_policy=("on-failure", 7))


class TestKill:
    def test_comes_last_and_the_container_stays_down(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        outcome = isolator.isolate(web, [KILL, CUT, PAUSE])
        assert steps(outcome) == ["pause", "disconnect front", "set_restart_policy no", "kill"]
        assert (outcome.outcome, status(engine, web)) == ("isolated", "exited")
        assert isolator.isolate(web, [KILL, CUT, PAUSE]).changed is False

    def test_follows_a_pause_that_holds_already(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [PAUSE])
        assert steps(isolator.isolate(web, [KILL])) == ["kill"]
        assert status(engine, web) == "exited"

    @pytest.mark.parametrize("state", ["running", "paused", "exited"])
    def test_release_gives_back_the_state_of_before(self, engine: FakeEngine, isolator: Isolator, state: str) -> None:
        container = engine.add_container("one", state=state)
        isolator.isolate(container, [KILL, CUT])
        outcome = isolator.release(container)
        assert (outcome.outcome, status(engine, container)) == ("released", state)
        gone = [difference["what"] for difference in outcome.not_restored]
        assert ("processes" in gone) == (state != "exited")
        assert outcome.sessions_may_resume is False

    def test_would_delete_a_container_with_auto_remove(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("brief", auto_remove=True)
        assert isolator.isolate(container, [KILL]).outcome == "refused"
        outcome = isolator.isolate(container, [PAUSE, KILL])
        assert (outcome.outcome, status(engine, container)) == ("isolated", "paused")
        assert "auto-remove" in outcome.warnings[0]

    def test_excludes_stop(self, isolator: Isolator, web: str) -> None:
        with pytest.raises(PolicyError, match="stop and kill"):
            isolator.isolate(web, [STOP, KILL])


class TestRestart:
    def test_ends_the_processes_before_the_networks_come_back(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        outcome = isolator.release(web, restart=True)
        assert steps(outcome) == ["kill", "connect front", "set_restart_policy on-failure:7", "start"]
        assert (outcome.outcome, status(engine, web), outcome.sessions_may_resume) == ("released", "running", False)

    def test_check_mode_says_so_and_touches_nothing(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH)
        before = len(engine.changes)
        outcome = isolator.release(web, restart=True, check=True)
        assert steps(outcome)[0] == "kill"
        assert outcome.after == {
            "running": True,
            "paused": False,
            "restart_policy": "on-failure:7",
            "networks": ["front"],
        }
        assert len(engine.changes) == before

    def test_whoever_goes_on_after_a_crash_starts_it(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH)
        for _ in range(3):
            engine.fail_next("start", EngineError("no", status=500))
        assert isolator.release(web, restart=True).outcome == "failed"
        assert status(engine, web) == "exited"
        assert isolator.release(web).outcome == "released"
        assert status(engine, web) == "running"

    def test_one_that_is_isolated_again_instead_is_not_killed_for_that(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        for _ in range(3):
            engine.fail_next("kill", EngineError("no", status=500))
        outcome = isolator.release(web, restart=True)
        assert (outcome.outcome, set(steps(outcome))) == ("failed", {"kill"}), "nothing comes back before it has ended"
        assert isolator.isolate(web, BOTH).outcome == "held"
        assert status(engine, web) == "paused"

    def test_would_delete_a_container_with_auto_remove(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("brief", auto_remove=True)
        isolator.isolate(container, BOTH)
        assert isolator.release(container, restart=True).outcome == "refused"
        assert isolator.release(container).outcome == "released"

    def test_one_that_did_not_run_is_not_started(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("idle", state="exited")
        isolator.isolate(container, [CUT])
        assert isolator.release(container, restart=True).outcome == "released"
        assert status(engine, container) == "exited"


class TestConflicts:
    def test_another_restart_policy_is_left(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH)
        engine.set_restart_policy(web, "always", 0)
        outcome = isolator.release(web)
        assert outcome.outcome == "released"
        assert conflicts(outcome) == {"restart policy": ("on-failure:7", "always")}
        assert engine.inspect_container(web)["HostConfig"]["RestartPolicy"]["Name"] == "always"
        assert any("somebody made it 'always'" in warning for warning in outcome.warnings)

    def test_other_settings_on_a_network_are_left(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH)
        engine.connect("front", web, EndpointSettings(ipv4_address="10.1.0.77"))
        outcome = isolator.release(web)
        assert outcome.outcome == "released"
        before, found = conflicts(outcome)["settings on network front"]
        assert ("10.1.0.50" in before, "10.1.0.77" in found) == (True, True)
        key = engine.inspect_container(web)["NetworkSettings"]["Networks"]["front"]
        assert key["IPAMConfig"]["IPv4Address"] == "10.1.0.77"

    def test_one_that_was_stopped_before_and_runs_now_is_left(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("idle", state="exited")
        isolator.isolate(container, [CUT])
        engine.start(container)
        outcome = isolator.release(container)
        assert conflicts(outcome)["state"] == ("not running", "running")
        assert status(engine, container) == "running"

    def test_one_that_was_paused_before_and_runs_now_is_left(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("asleep", state="paused")
        isolator.isolate(container, BOTH)
        engine.unpause(container)
        assert conflicts(isolator.release(container))["state"] == ("paused", "running")
        assert status(engine, container) == "running"

    def test_nothing_changed_is_no_conflict(self, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH)
        assert isolator.release(web).conflicts == ()


class TestExpiry:
    def test_the_last_of_several_holds_and_a_repetition_changes_nothing(
        self, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        first = isolator.isolate(web, BOTH, release_after=3600)
        assert first.expires_at
        again = isolator.isolate(web, BOTH, release_after=3600)
        assert (again.changed, again.expires_at) == (False, first.expires_at)
        assert isolator.isolate(web, BOTH, release_after=60).expires_at == first.expires_at
        assert isolator.isolate(web, BOTH, release_after=7200).expires_at > first.expires_at

    def test_never_is_later_than_any(self, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH, release_after=3600)
        assert isolator.isolate(web, BOTH).expires_at == ""
        assert isolator.isolate(web, BOTH, release_after=60).expires_at == ""


class TestOrchestrators:
    def test_stopping_what_compose_or_swarm_manage_is_warned_of(self, engine: FakeEngine, isolator: Isolator) -> None:
        labels = {"com.docker.swarm.task.id": "t1", "com.docker.compose.project": "shop", "other": "x"}
        container = engine.add_container("task", labels=labels)
        outcome = isolator.isolate(container, [STOP])
        assert dict(outcome.orchestrator) == {name: labels[name] for name in sorted(labels) if name != "other"}
        assert any("swarm starts another one" in warning for warning in outcome.warnings)
        assert any("compose up starts it again" in warning for warning in outcome.warnings)
        assert isolator.release(container).outcome == "released"
        assert isolator.isolate(container, BOTH).warnings == ()


class TestNetworkMadeAnew:
    """A container that is down keeps a key by the id of a network that is gone, which keeps it from starting."""

    def made_anew(self, engine: FakeEngine, subnet: str = "10.1.0.0/24") -> str:
        engine.remove_network("front")
        return engine.add_network("front", subnet)

    def test_one_that_was_killed_comes_back_on_the_new_one(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        before = engine.inspect_container(web)["NetworkSettings"]["Networks"]["front"]
        isolator.isolate(web, [KILL])
        new = self.made_anew(engine)
        check = isolator.release(web, check=True)
        assert (check.outcome, steps(check)[:2]) == ("would_release", ["disconnect front", "connect front"])
        outcome = isolator.release(web)
        assert outcome.outcome == "released", outcome.error
        key = engine.inspect_container(web)["NetworkSettings"]["Networks"]["front"]
        assert (key["NetworkID"], key["IPAMConfig"], sorted(key["Aliases"])) == (
            new,
            before["IPAMConfig"],
            sorted(before["Aliases"]),
        )
        assert web in engine.inspect_network(new)["Containers"]
        assert [one["what"] for one in outcome.not_restored] == ["id of network front", "processes"]
        assert journal.entries() == ([], [])

    @pytest.mark.parametrize("method", ["connect", "start"])
    def test_what_fails_on_the_way_does_not_lose_the_network(
        self, engine: FakeEngine, isolator: Isolator, web: str, method: str
    ) -> None:
        isolator.isolate(web, [KILL])
        new = self.made_anew(engine)
        for _ in range(20):
            engine.fail_next(method, EngineError("no", status=409))
        outcome = isolator.release(web)
        assert outcome.outcome == "failed"
        assert "it is isolated again, as it was before" in outcome.warnings
        engine._failures.clear()
        assert isolator.hold(web).ok
        assert status(engine, web) == "exited"
        outcome = isolator.release(web)
        assert (outcome.outcome, outcome.conflicts) == ("released", ())
        assert web in engine.inspect_network(new)["Containers"]

    def test_one_that_is_gone_is_named_beforehand(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [KILL])
        engine.remove_network("front")
        outcome = isolator.release(web)
        assert outcome.outcome == "refused"
        assert "network front no longer exists; docker network create front" in str(outcome.error)

    def test_an_address_that_lies_in_no_subnet_of_the_new_one_is_named_beforehand(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, [KILL])
        self.made_anew(engine, "10.9.0.0/24")
        outcome = isolator.release(web)
        assert outcome.outcome == "refused"
        assert "address 10.1.0.50 is in no subnet of network front" in str(outcome.error)

    def test_an_overlay_network_that_the_node_forgot_is_left_to_the_swarm(
        self, engine: FakeEngine, isolator: Isolator
    ) -> None:
        engine.add_network("over", "10.7.0.0/24", network_id="x8cqz6zqy3v0n2b7k1m4p9d5s")
        task = engine.add_container("task", networks={"over": EndpointSettings()})
        isolator.isolate(task, [KILL])
        engine.remove_network("over")
        outcome = isolator.release(task, check=True)
        assert (outcome.outcome, steps(outcome)) == ("would_release", ["start"])

    def test_it_leaves_what_no_longer_exists(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [KILL])
        new = self.made_anew(engine)
        outcome = isolator.isolate(web, [CUT])
        assert outcome.outcome == "isolated", outcome.error
        assert engine.inspect_container(web)["NetworkSettings"]["Networks"] == {}
        assert isolator.release(web).outcome == "released"
        assert web in engine.inspect_network(new)["Containers"]

    def test_one_that_somebody_connected_by_its_name_while_it_was_down_is_the_network_of_before(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, [CUT, KILL])
        new = self.made_anew(engine)
        engine.connect("front", web, EndpointSettings(ipv4_address="10.1.0.50", aliases=("shop",)))
        outcome = isolator.release(web)
        assert outcome.outcome == "released", outcome.error
        assert status(engine, web) == "running"
        assert web in engine.inspect_network(new)["Containers"]
        assert "id of network front" in [one["what"] for one in outcome.not_restored]

    def test_the_default_network_may_have_another_id_after_a_restart_of_the_engine(
        self, engine: FakeEngine, isolator: Isolator
    ) -> None:
        plain = engine.add_container("plain")
        isolator.isolate(plain, [KILL])
        engine.remove_network("bridge")
        engine.add_network("bridge", "172.17.0.0/16")
        outcome = isolator.release(plain, check=True)
        assert (outcome.outcome, steps(outcome)) == ("would_release", ["start"])

    def test_one_that_a_prune_took_after_it_came_back_is_made_anew(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        engine.set_restart_policy(web, "always", 0)
        shells = Cause(policy_id="shells")
        isolator.isolate(web, [CUT], shells)
        isolator.isolate(web, [PAUSE])
        isolator.release(web, which=lambda claim: claim.subject == "shells")
        engine.kill(web)
        engine.remove_network("front")
        assert "recreate_networks makes it anew" in str(isolator.release(web).error)
        outcome = isolator.release(web, recreate_networks=True)
        assert (outcome.outcome, steps(outcome)[:3]) == (
            "released",
            ["create_network front", "disconnect front", "connect front"],
        ), outcome.error
        assert web in engine.inspect_network("front")["Containers"]
