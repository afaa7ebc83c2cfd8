# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating and releasing one container on the fake engine, which behaves as Engine 20.10 was measured to."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    NotFound,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import Hold
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import RELEASING, Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import HERE
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine, Lie
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth, Unreadable, link

PAUSE, CUT, STOP = Action("pause"), Action("network_disconnect"), Action("stop", grace=0)
KILL = Action("kill")
BOTH = [PAUSE, CUT]


class Killed(BaseException):
    """Stands for a process that ends in the middle: nothing catches it."""


def _no_space(*_arguments: object) -> None:
    raise JournalError("cannot write: No space left on device")


def networks(engine: FakeEngine, container_id: str) -> dict[str, t.Any]:
    """The networks of a container as inspect shows them, but for the ids of the endpoints."""
    found = engine.inspect_container(container_id)["NetworkSettings"]["Networks"]
    return {name: {**settings, "EndpointID": ""} for name, settings in found.items()}


def state(engine: FakeEngine, container_id: str) -> dict[str, t.Any]:
    found: dict[str, t.Any] = engine.inspect_container(container_id)["State"]
    return found


def steps(outcome: Outcome) -> list[str]:
    return [f"{step.action} {step.detail}".strip() for step in outcome.steps]


@pytest.fixture
def web(engine: FakeEngine) -> str:
    """A container on two networks, one of which knows it by a static address and an alias."""
    engine.add_network("front", "10.1.0.0/24")
    engine.add_network("back")
    return engine.add_container(
        "web",
        networks={
            "front": EndpointSettings(ipv4_address="10.1.0.50", aliases=("shop",)),
            "back": EndpointSettings(),
        },
        restart_policy=("on-failure", 7),
    )


class TestIsolate:
    def test_pauses_first_then_leaves_every_network_then_keeps_it_down(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        outcome = isolator.isolate(web, BOTH)
        assert steps(outcome) == ["pause", "disconnect back", "disconnect front", "set_restart_policy no"]
        assert (outcome.outcome, outcome.changed, outcome.error) == ("isolated", True, None)
        assert outcome.after == {"running": True, "paused": True, "restart_policy": "no", "networks": []}
        assert state(engine, web)["Paused"] is True
        assert engine.interfaces(web) == {"lo"}

    def test_the_order_in_which_actions_are_given_does_not_matter(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        assert steps(isolator.isolate(web, [CUT, PAUSE]))[0] == "pause"

    def test_a_second_run_changes_nothing_and_still_verifies(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        before = len(engine.changes)
        again = isolator.isolate(web, BOTH)
        assert (again.outcome, again.changed, again.steps) == ("held", False, ())
        assert again.verified_at
        assert len(engine.changes) == before

    def test_only_the_networks_of_the_globs_are_left(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        outcome = isolator.isolate(web, [Action("network_disconnect", networks=("f*",))])
        assert outcome.outcome == "isolated"
        assert set(networks(engine, web)) == {"back"}

    def test_actions_add_up_and_the_snapshot_stays_the_first(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, [PAUSE])
        outcome = isolator.isolate(web, [CUT])
        assert outcome.after["paused"] is True
        entry = journal.load(web)
        assert entry is not None
        assert entry.snapshot.paused is False
        assert [endpoint.network for endpoint in entry.snapshot.endpoints] == ["back", "front"]

    def test_the_end_of_its_processes_is_told_once(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [CUT])
        engine.kill(web)
        outcome = isolator.isolate(web, [CUT])
        assert (outcome.ok, outcome.changed) == (True, True)
        assert any("with what they had in memory" in warning for warning in outcome.warnings)
        again = isolator.isolate(web, [CUT])
        assert (again.outcome, again.changed, again.warnings) == ("held", False, ())

    def test_what_the_engine_said_of_a_step_that_it_did_is_told(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        def leaves() -> None:
            engine.disconnect("front", web)
            raise EngineError("no space left on device", status=500)

        engine.before("disconnect", leaves)
        outcome = isolator.isolate(web, [Action("network_disconnect", networks=("front",))])
        assert outcome.ok
        assert "disconnect front: no space left on device; it is as wanted nevertheless" in outcome.warnings

    def test_what_somebody_undid_is_done_again(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH)
        engine.unpause(web)
        engine.connect("back", web, EndpointSettings())
        outcome = isolator.isolate(web, BOTH)
        assert (outcome.outcome, outcome.changed) == ("isolated", True)
        assert steps(outcome) == ["pause", "disconnect back"]

    def test_the_journal_is_written_before_the_container_is_touched(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        seen = []
        engine.before("pause", lambda: seen.append(journal.load(web)))
        isolator.isolate(web, BOTH, Cause(reason="why", trace_id="trace-1"))
        assert [entry.phase for entry in seen if entry] == ["isolating"]
        entry = journal.load(web)
        assert entry is not None
        assert (entry.phase, entry.cause.reason, entry.cause.trace_id) == ("isolated", "why", "trace-1")

    def test_it_is_paused_and_nothing_else_when_the_journal_cannot_be_written(
        self, engine: FakeEngine, journal: Journal, isolator: Isolator, web: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "store", _no_space)
        outcome = isolator.isolate(web, BOTH)
        assert (outcome.outcome, outcome.changed, outcome.ok) == ("failed", True, False)
        assert outcome.error is not None
        assert "is paused and not cut off: cannot write" in outcome.error["message"]
        assert "docker unpause web" in outcome.error["remedy"]
        assert [call for call, _arguments in engine.changes] == ["pause"]

    @pytest.mark.parametrize("method", ["load", "lock"])
    def test_it_is_paused_when_the_journal_cannot_be_used_at_all(
        self,
        engine: FakeEngine,
        journal: Journal,
        isolator: Isolator,
        web: str,
        monkeypatch: pytest.MonkeyPatch,
        method: str,
    ) -> None:
        monkeypatch.setattr(journal, method, _no_space)
        assert isolator.isolate(web, BOTH).outcome == "failed"
        assert state(engine, web)["Paused"] is True

    def test_without_a_journal_nothing_but_the_pause_is_done(
        self, engine: FakeEngine, journal: Journal, isolator: Isolator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "store", _no_space)
        looping = engine.add_container("looping", state="restarting", restart_policy=("always", 0))
        assert isolator.isolate(looping, BOTH).outcome == "failed"
        assert engine.changes == []
        web = engine.add_container("web", restart_policy=("always", 0))
        for _ in range(2):
            assert isolator.isolate(web, BOTH).outcome == "failed"
        assert [call for call, _arguments in engine.changes] == ["pause"]
        monkeypatch.undo()
        # Nobody can know any more who paused it: that is told before anybody relies on the release.
        outcome = isolator.isolate(web, BOTH)
        assert "it was paused already, and is left so when it is released" in outcome.warnings

    def test_nothing_is_touched_without_a_journal_where_no_pause_is_wanted(
        self, engine: FakeEngine, journal: Journal, isolator: Isolator, web: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal, "store", _no_space)
        with pytest.raises(JournalError, match="No space left"):
            isolator.isolate(web, [CUT])
        assert engine.changes == []

    def test_unknown_container(self, engine: FakeEngine, isolator: Isolator, journal: Journal) -> None:
        with pytest.raises(NotFound):
            isolator.isolate("f" * 64, BOTH)
        assert journal.entries() == ([], [])

    def test_actions_that_exclude_each_other_are_an_error(self, isolator: Isolator, web: str) -> None:
        with pytest.raises(PolicyError, match="exclude"):
            isolator.isolate(web, [PAUSE, STOP])

    def test_stop_after_pause_is_refused(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [PAUSE])
        before = len(engine.changes)
        outcome = isolator.isolate(web, [STOP])
        assert outcome.outcome == "refused"
        assert outcome.error is not None
        assert outcome.error["remedy"] == "Use kill, or release it first"
        assert len(engine.changes) == before

    def test_a_container_named_with_the_id_of_one_that_is_gone_is_not_taken_for_it(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        """Finding 11, for a full id: the engine then finds the other one by its name."""
        engine.remove_container(web)
        engine.add_container(web)
        for work in (lambda: isolator.isolate(web, BOTH), lambda: isolator.release(web)):
            with pytest.raises(NotFound):
                work()
        assert engine.changes == []

    def test_an_isolation_that_the_journal_cannot_confirm_is_told(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = journal.store
        stored: list[Entry] = []

        def full_after_the_first(entry: Entry) -> None:
            if stored:
                _no_space()
            stored.append(entry)
            store(entry)

        monkeypatch.setattr(journal, "store", full_after_the_first)
        outcome = isolator.isolate(web, BOTH)
        assert (outcome.outcome, outcome.changed) == ("isolated", True)
        assert any("No space left" in warning for warning in outcome.warnings)
        monkeypatch.undo()
        assert isolator.release(web).outcome == "released"

    def test_networks_in_another_order_are_the_same(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [Action("network_disconnect", networks=("front", "back"))])
        assert isolator.isolate(web, [Action("network_disconnect", networks=("back", "front"))]).changed is False

    def test_the_last_goal_is_what_release_undoes(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        before = networks(engine, web)
        isolator.isolate(web, [PAUSE])
        isolator.isolate(web, [CUT])
        isolator.release(web)
        assert networks(engine, web) == before

    def test_a_partial_cut_warns_of_ports_that_stay_reachable(self, engine: FakeEngine, isolator: Isolator) -> None:
        engine.add_network("front")
        engine.add_network("back")
        both = {"front": EndpointSettings(), "back": EndpointSettings()}
        container = engine.add_container("web", networks=both, published={"80/tcp": 8080})
        cut = [Action("network_disconnect", networks=("front",))]
        predicted = isolator.isolate(container, cut, check=True)
        outcome = isolator.isolate(container, cut)
        assert outcome.outcome == "isolated"
        assert outcome.warnings[0] == predicted.warnings[0]
        assert "stay reachable through network back" in outcome.warnings[0]


class TestSpecialContainers:
    def test_host_network_can_only_be_paused(self, engine: FakeEngine, isolator: Isolator, journal: Journal) -> None:
        container = engine.add_container("host-mode", network_mode="host")
        refused = isolator.isolate(container, [CUT])
        assert (refused.outcome, refused.changed) == ("refused", False)
        assert refused.error is not None
        assert "host" in refused.error["message"]
        assert engine.changes == []
        assert journal.load(container) is None
        paused = isolator.isolate(container, BOTH)
        assert (paused.outcome, steps(paused)) == ("isolated", ["pause"])
        assert "network of the host" in paused.warnings[0]
        assert isolator.isolate(container, BOTH).changed is False

    def test_network_none_is_no_network_to_leave(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("alone", network_mode="none")
        outcome = isolator.isolate(container, BOTH)
        assert (outcome.outcome, steps(outcome)) == ("isolated", ["pause"])

    def test_a_crash_loop_is_ended_and_released_as_one(self, engine: FakeEngine, isolator: Isolator) -> None:
        """A4: it would come back once more, with its networks, whatever its restart policy says by then."""
        container = engine.add_container("loop", state="restarting", restart_policy=("always", 0))
        predicted = isolator.isolate(container, BOTH, check=True)
        outcome = isolator.isolate(container, BOTH)
        assert steps(outcome) == steps(predicted) == ["set_restart_policy no", "stop", "disconnect bridge"]
        assert (outcome.outcome, outcome.after) == ("isolated", predicted.after)
        assert state(engine, container)["Status"] == "exited"
        assert isolator.isolate(container, BOTH).changed is False
        released = isolator.release(container)
        assert (released.outcome, steps(released)[-1]) == ("released", "start")
        assert state(engine, container)["Running"] is True
        assert engine.inspect_container(container)["HostConfig"]["RestartPolicy"]["Name"] == "always"

    def test_a_crash_loop_that_comes_back_meanwhile_is_caught(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("loop", state="restarting", restart_policy=("always", 0))
        engine.before("set_restart_policy", lambda: engine.come_back(container))
        assert isolator.isolate(container, BOTH).outcome == "isolated"
        assert state(engine, container)["Running"] is False

    def test_auto_remove_is_not_stopped(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("one-shot", auto_remove=True)
        outcome = isolator.isolate(container, [STOP])
        assert outcome.outcome == "refused"
        assert outcome.error is not None
        assert "auto-remove" in outcome.error["message"]
        assert isolator.isolate(container, BOTH).outcome == "isolated"

    def test_a_stopped_container_cannot_come_back(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("down", state="exited", restart_policy=("always", 0))
        outcome = isolator.isolate(container, BOTH)
        assert (outcome.outcome, steps(outcome)) == ("isolated", ["disconnect bridge", "set_restart_policy no"])

    def test_a_container_that_never_ran(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("fresh", state="created")
        before = networks(engine, container)
        assert isolator.isolate(container, BOTH).outcome == "isolated"
        assert networks(engine, container) == {}
        assert isolator.release(container).outcome == "released"
        assert set(networks(engine, container)) == set(before)

    def test_stop_ends_it_off_its_networks_and_release_starts_it(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        before = networks(engine, web)
        outcome = isolator.isolate(web, [STOP, CUT])
        assert steps(outcome)[-2:] == ["set_restart_policy no", "stop"]
        assert (outcome.outcome, outcome.after["running"]) == ("isolated", False)
        released = isolator.release(web)
        assert (released.outcome, released.sessions_may_resume) == ("released", False)
        assert steps(released)[-1] == "start"
        assert networks(engine, web) == before


class TestTruth:
    def test_a_live_interface_that_the_engine_denies_is_unknown(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        """Finding 1: disconnect answers 500 "is not connected", the network omits it, and packets flow."""
        other = engine.add_network("third", "10.3.0.0/24")
        engine.lie(Lie.FAILED_CONNECT, web, other)
        with pytest.raises(EngineError, match="already allocated"):
            engine.connect(other, web, EndpointSettings())
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome in ("unknown", "failed")
        assert outcome.error is not None
        assert outcome.after["paused"] is True

    def test_a_stray_interface_is_a_contradiction(self, engine: FakeEngine, journal: Journal, web: str) -> None:
        truth = FakeTruth(engine)
        truth.more = [link("tunl0", "ipip", HERE)._replace(up=False), link("eth7")]
        isolator = Isolator(engine, journal, truth)
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "unknown"
        assert outcome.error is not None
        assert outcome.error["kind"] == "contradiction"
        assert "eth7" in outcome.error["message"]
        assert "tunl0" not in outcome.error["message"]

    def test_a_host_that_cannot_be_read_is_judged_by_the_engine(
        self, engine: FakeEngine, journal: Journal, web: str
    ) -> None:
        isolator = Isolator(engine, journal, Unreadable())
        assert isolator.isolate(web, BOTH).outcome == "isolated"

    def test_a_failing_step_does_not_stop_the_others(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        for _ in range(3):
            engine.fail_next("pause", EngineError("freezer is broken", status=500))
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "failed"
        assert outcome.error is not None
        assert "not paused" in outcome.error["message"]
        assert "freezer is broken" in outcome.error["answers"][0]
        assert engine.interfaces(web) == {"lo"}, "it is off its networks all the same"

    def test_a_transient_error_is_tried_again(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        engine.fail_next("disconnect", EngineError("try later", status=503))
        assert isolator.isolate(web, BOTH).outcome == "isolated"

    def test_a_timeout_that_was_carried_out_is_read_back(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        """Finding 9: a request abandoned on client timeout was executed later."""
        engine.fail_next("pause", EngineTimeout("no answer"), after=True)
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "isolated"
        assert [step.status for step in outcome.steps if step.action == "pause"] == ["unknown"]

    def test_an_engine_that_goes_away_midway_leaves_an_unknown_and_the_snapshot(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        engine.fail_next("disconnect", EngineUnreachable("it died"))
        engine.fail_next("inspect_container", None)
        for _ in range(3):
            engine.fail_next("inspect_container", EngineUnreachable("it died"))
        outcome = isolator.isolate(web, BOTH)
        assert (outcome.outcome, outcome.changed, outcome.after) == ("unknown", True, {})
        assert outcome.error is not None
        assert outcome.error["kind"] == "engine_unreachable"
        entry = journal.load(web)
        assert entry is not None
        assert entry.phase == "isolating"
        assert isolator.isolate(web, BOTH).outcome == "isolated"

    def test_a_connection_that_broke_off_is_read_back(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        engine.fail_next("pause", EngineUnreachable("connection reset"), after=True)
        outcome = isolator.isolate(web, BOTH)
        assert (outcome.outcome, outcome.changed) == ("isolated", True)
        assert [step.status for step in outcome.steps if step.action == "pause"] == ["unknown"]

    def test_a_container_that_vanishes_midway_is_not_called_isolated(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        engine.before("disconnect", lambda: engine.remove_container(web))
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "failed"
        assert outcome.error is not None
        assert outcome.error["kind"] == "not_found"

    def test_a_race_that_unpauses_it_is_seen(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        engine.before("set_restart_policy", lambda: engine.unpause(web))
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "isolated"
        assert steps(outcome)[-1] == "pause"


class TestRelease:
    def test_gives_back_all_but_the_endpoint_ids(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        before, host_config = networks(engine, web), engine.inspect_container(web)["HostConfig"]
        isolator.isolate(web, BOTH)
        outcome = isolator.release(web)
        assert steps(outcome) == ["connect back", "connect front", "set_restart_policy on-failure:7", "unpause"]
        assert (outcome.outcome, outcome.changed, outcome.not_restored) == ("released", True, ())
        assert outcome.sessions_may_resume is True
        assert networks(engine, web) == before
        assert engine.inspect_container(web)["HostConfig"] == host_config
        assert state(engine, web)["Paused"] is False

    def test_a_second_release_does_nothing(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH)
        isolator.release(web)
        before = len(engine.changes)
        outcome = isolator.release(web)
        assert (outcome.outcome, outcome.changed, len(engine.changes)) == ("released", False, before)
        assert "not in the journal" in outcome.warnings[0]

    def test_what_was_paused_before_stays_paused(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("asleep", state="paused")
        isolator.isolate(container, BOTH)
        outcome = isolator.release(container)
        assert outcome.outcome == "released"
        assert state(engine, container)["Paused"] is True

    def test_a_static_address_that_was_taken_meanwhile_is_refused_before_anything_is_touched(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        squatter = engine.add_container("squatter", networks={"front": EndpointSettings(ipv4_address="10.1.0.50")})
        before = len(engine.changes)
        for check in (True, False):
            outcome = isolator.release(web, check=check)
            assert (outcome.outcome, outcome.changed) == ("refused", False)
            assert outcome.error is not None
            assert "10.1.0.50 on network front is taken by container squatter" in outcome.error["message"]
        assert len(engine.changes) == before
        engine.remove_container(squatter)
        assert isolator.release(web).outcome == "released"

    def test_it_does_not_run_again_before_all_its_networks_are_back(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        """Finding 3: a static address that somebody took in the last moment."""
        before = networks(engine, web)
        isolator.isolate(web, BOTH)
        settings = EndpointSettings(ipv4_address="10.1.0.50")
        engine.before("connect", lambda: engine.add_container("squatter", networks={"front": settings}))
        outcome = isolator.release(web)
        assert outcome.outcome == "failed"
        assert outcome.error is not None
        assert "front" in outcome.error["message"]
        assert "Address already in use" in str(outcome.error["answers"])
        assert (outcome.after["paused"], outcome.after["restart_policy"]) == (True, "no")
        assert "it is isolated again, as it was before" in outcome.warnings
        entry = journal.load(web)
        assert entry is not None
        assert (entry.phase, len(entry.claims)) == ("isolated", 1)
        engine.remove_container("squatter")
        assert isolator.release(web).outcome == "released", "the key that the failed connect left is no hindrance"
        assert networks(engine, web) == before

    def test_a_network_that_is_gone_is_refused_before_anything_is_touched(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        engine.remove_network("back")
        before = len(engine.changes)
        outcome = isolator.release(web)
        assert outcome.outcome == "refused"
        assert outcome.error is not None
        assert "network back no longer exists" in outcome.error["message"]
        assert len(engine.changes) == before

    def test_a_network_that_was_made_anew_is_taken_and_told(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        engine.remove_network("back")
        renewed = engine.add_network("back")
        outcome = isolator.release(web)
        assert outcome.outcome == "released"
        assert networks(engine, web)["back"]["NetworkID"] == renewed
        assert outcome.not_restored[0]["what"] == "id of network back"
        assert any("id of network back" in warning for warning in outcome.warnings)

    def test_a_host_port_that_was_taken_meanwhile_is_refused(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("web", published={"80/tcp": 8080})
        isolator.isolate(container, BOTH)
        engine.add_container("replacement", published={"80/tcp": 8080})
        outcome = isolator.release(container)
        assert outcome.outcome == "refused"
        assert outcome.error is not None
        assert "host port 8080/tcp is taken by container replacement" in outcome.error["message"]

    def test_an_ephemeral_host_port_that_changed_is_told(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("web", published={"80/tcp": None})
        isolator.isolate(container, BOTH)
        outcome = isolator.release(container)
        assert outcome.outcome == "released"
        assert [difference["what"] for difference in outcome.not_restored] == ["host port of 80/tcp"]

    def test_a_network_joined_before_the_second_isolate_is_given_back_too(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, [PAUSE])
        engine.connect(engine.add_network("third"), web, EndpointSettings())
        before = networks(engine, web)
        isolator.isolate(web, BOTH)
        assert isolator.release(web).outcome == "released"
        assert networks(engine, web) == before

    def test_a_network_joined_while_it_is_isolated_is_told(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        engine.connect(engine.add_network("third"), web, EndpointSettings())
        outcome = isolator.release(web)
        assert {"what": "network third", "before": "not connected", "found": "connected"} in [
            dict(conflict) for conflict in outcome.conflicts
        ]

    @pytest.mark.parametrize("method", ["unpause", "set_restart_policy", "connect"])
    def test_a_step_that_has_no_effect_is_not_called_released(
        self, engine: FakeEngine, isolator: Isolator, web: str, method: str
    ) -> None:
        isolator.isolate(web, BOTH)
        for _ in range(20):
            engine.fail_next(method, EngineError("no", status=500))
        outcome = isolator.release(web)
        assert outcome.outcome == "failed"
        assert outcome.error is not None
        assert outcome.error["kind"] == "not_released"

    def test_a_start_that_has_no_effect_is_not_called_released(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, [STOP])
        for _ in range(3):
            engine.fail_next("start", EngineError("no", status=500))
        outcome = isolator.release(web)
        assert outcome.outcome == "failed"
        assert outcome.error is not None
        assert "does not run" in outcome.error["message"]

    def test_what_somebody_else_cut_off_is_not_called_released(self, engine: FakeEngine, isolator: Isolator) -> None:
        paused = engine.add_container("asleep", state="paused")
        outcome = isolator.release(paused)
        assert outcome.outcome == "refused"
        assert outcome.error is not None
        assert outcome.error["kind"] == "not_in_journal"

    def test_a_released_container_whose_entry_could_not_be_removed_is_isolated_from_a_new_snapshot(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        isolator.isolate(web, BOTH)
        with monkeypatch.context() as patch:
            patch.setattr(journal, "remove", _no_space)
            outcome = isolator.release(web)
        assert (outcome.outcome, outcome.changed) == ("released", True)
        assert outcome.error is not None
        assert outcome.error["kind"] == "journal_error"
        engine.connect(engine.add_network("third"), web, EndpointSettings())
        before = networks(engine, web)
        isolator.isolate(web, BOTH)
        isolator.release(web)
        assert networks(engine, web) == before

    def test_a_dynamic_address_that_was_taken_is_reported(self, engine: FakeEngine, isolator: Isolator) -> None:
        engine.add_network("pool", "10.2.0.0/24")
        container = engine.add_container("dynamic", networks={"pool": EndpointSettings()})
        isolator.isolate(container, BOTH)
        engine.add_container("newcomer", networks={"pool": EndpointSettings()})
        outcome = isolator.release(container)
        assert outcome.outcome == "released"
        assert {"what": "ipv4_address on network pool", "before": "10.2.0.2", "after": "10.2.0.3"} in [
            dict(difference) for difference in outcome.not_restored
        ]

    def test_an_interrupted_isolate_can_be_released(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        before = networks(engine, web)
        engine.fail_next("disconnect", None)
        engine.fail_next("disconnect", Killed())
        with pytest.raises(Killed):
            isolator.isolate(web, BOTH)
        assert isolator.release(web).outcome == "released"
        assert networks(engine, web) == before

    def test_an_interrupted_release_can_be_isolated_again(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        before = networks(engine, web)
        isolator.isolate(web, BOTH)
        engine.fail_next("set_restart_policy", Killed())
        with pytest.raises(Killed):
            isolator.release(web)
        assert isolator.isolate(web, BOTH).outcome == "isolated"
        assert isolator.release(web).outcome == "released"
        assert networks(engine, web) == before


class TestCheckMode:
    @pytest.mark.parametrize("actions", [[PAUSE], [CUT], BOTH, [STOP], [STOP, CUT], [KILL], [*BOTH, KILL]], ids=str)
    @pytest.mark.parametrize("status", ["created", "running", "paused", "exited", "restarting"])
    def test_predicts_exactly_what_the_run_then_does(
        self, engine: FakeEngine, isolator: Isolator, actions: list[Action], status: str
    ) -> None:
        engine.add_network("front", "10.1.0.0/24")
        container = engine.add_container(
            "web", networks={"front": EndpointSettings()}, state=status, restart_policy=("always", 0)
        )
        for work in (
            lambda check: isolator.isolate(container, actions, check=check),
            lambda check: isolator.isolate(container, actions, check=check),
            lambda check: isolator.release(container, check=check),
            lambda check: isolator.release(container, check=check),
        ):
            before = len(engine.changes)
            predicted = work(True)
            assert len(engine.changes) == before
            done = work(False)
            assert _comparable(predicted) == _comparable(done)

    def test_touches_nothing_where_somebody_undoes_it_just_then(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        def undone_at_the_next() -> None:
            engine.before("inspect_container", lambda: engine.unpause(web))

        isolator.isolate(web, BOTH)
        before = len(engine.changes)
        engine.before("inspect_container", undone_at_the_next)
        outcome = isolator.isolate(web, BOTH, check=True)
        assert (outcome.steps, engine.changes[before:]) == ((), [])

    def test_writes_nothing(self, isolator: Isolator, web: str, tmp_path: t.Any) -> None:
        isolator.isolate(web, BOTH, check=True)
        assert list(tmp_path.iterdir()) == []


def _comparable(outcome: Outcome) -> dict[str, t.Any]:
    found = dataclasses.asdict(outcome)
    as_done = {"would_isolate": "isolated", "would_release": "released"}
    return {
        **{name: found[name] for name in ("changed", "before", "after", "sessions_may_resume")},
        # Who else is on a network is found out when it was left.
        "warnings": [warning for warning in outcome.warnings if "the last one on network" not in warning],
        "outcome": as_done.get(outcome.outcome, outcome.outcome),
        "steps": [(step.action, step.detail) for step in outcome.steps],
        "kind": (outcome.error or {}).get("kind"),
    }


class TestBusy:
    """Another run works on the container."""

    def test_one_that_is_not_cut_off_yet_is_left_alone(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        for work in (lambda: isolator.isolate(web, BOTH), lambda: isolator.release(web)):
            with journal.lock(web):
                outcome = work()
            assert (outcome.outcome, outcome.ok, outcome.changed) == ("busy", False, False)
            assert outcome.error is not None
            assert outcome.error["kind"] == "busy"
        assert engine.changes == []

    def test_what_the_other_run_made_of_it_is_verified(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        with journal.lock(web):
            outcome = isolator.isolate(web, [PAUSE])
        assert (outcome.outcome, outcome.ok) == ("held", True)
        engine.unpause(web)
        with journal.lock(web):
            assert isolator.isolate(web, [PAUSE]).outcome == "busy"

    def test_less_than_was_asked_for_is_not_called_held(self, isolator: Isolator, journal: Journal, web: str) -> None:
        isolator.isolate(web, [PAUSE])
        with journal.lock(web):
            assert isolator.isolate(web, BOTH).outcome == "busy"

    def test_what_is_not_on_record_is_not_called_held(self, isolator: Isolator, journal: Journal, web: str) -> None:
        isolator.isolate(web, BOTH, Cause(policy_id="shells"), release_after=60)
        with journal.lock(web):
            assert isolator.isolate(web, BOTH, Cause(policy_id="miners")).outcome == "busy"
            assert isolator.isolate(web, BOTH, Cause(policy_id="shells"), release_after=600).outcome == "busy"
            assert isolator.isolate(web, BOTH, Cause(policy_id="shells")).outcome == "busy"
            assert isolator.isolate(web, BOTH, Cause(policy_id="shells"), release_after=60).outcome == "held"

    def test_what_another_run_gives_back_is_not_called_held(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        engine.fail_next("set_restart_policy", Killed())
        with pytest.raises(Killed):
            isolator.release(web)
        engine.unpause(web)
        with journal.lock(web):
            assert isolator.hold(web).outcome == "busy"
        # Also where all but the entry is as before: a release that is about to remove it.
        engine.set_restart_policy(web, *policy_of(journal, web))
        with journal.lock(web):
            assert isolator.hold(web).outcome == "busy"

    def test_one_that_could_only_be_paused_after_waiting_says_so(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        walk = isolator.walk(web, Hold((isolator.claim(BOTH),)), patient=False)
        with journal.lock(web):
            walk.begin()
        monkeypatch.setattr(journal, "lock", _no_space)
        outcome = walk.finish()
        assert (outcome.outcome, outcome.changed) == ("failed", True)
        assert [step.action for step in outcome.steps] == ["pause"]

    def test_one_of_a_batch_waits_at_the_end_only(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        walk = isolator.walk(web, Hold((isolator.claim(BOTH),)), patient=False)
        with journal.lock(web):
            walk.begin()
        assert engine.changes == []
        assert walk.finish().outcome == "isolated"


def policy_of(journal: Journal, container_id: str) -> tuple[str, int]:
    """The restart policy that a container had before it was isolated."""
    entry = journal.load(container_id)
    assert entry is not None
    return entry.snapshot.restart_policy.name, entry.snapshot.restart_policy.maximum_retry_count


class TestOrder:
    """What must not be done before something else is known."""

    def test_it_runs_again_only_once_all_its_networks_are_back(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        engine.fail_next("connect", EngineError("no", status=409))
        outcome = isolator.release(web)
        assert outcome.outcome == "released"
        assert [(step.action, step.status) for step in outcome.steps] == [
            ("connect", "failed"),
            ("connect", "done"),
            ("set_restart_policy", "skipped"),
            ("connect", "done"),
            ("set_restart_policy", "done"),
            ("unpause", "done"),
        ]
        assert "it is not on network" in outcome.steps[2].message

    def test_after_a_pause_without_an_answer_the_state_is_read_before_anything_else_is_done(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        engine.fail_next("pause", EngineTimeout("no answer"))
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "isolated"
        assert [(step.action, step.status) for step in outcome.steps][:3] == [
            ("pause", "unknown"),
            ("pause", "done"),
            ("disconnect", "done"),
        ]

    def test_a_snapshot_of_which_only_the_removal_failed_is_history(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        entry = journal.load(web)
        assert entry is not None
        assert isolator.release(web).outcome == "released"
        journal.store(dataclasses.replace(entry, claims=(), phase=RELEASING))
        engine.stop(web, 0)
        engine.start(web)
        assert isolator.isolate(web, BOTH).outcome == "isolated"
        outcome = isolator.release(web)
        assert outcome.outcome == "released"
        assert [difference["what"] for difference in outcome.not_restored if difference["what"] == "processes"] == []
