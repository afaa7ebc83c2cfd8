# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims: several who want a container held, each with an end of its own."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, EngineTimeout
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import Hold
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause, Claim
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

PAUSE, CUT, KILL, STOP = Action("pause"), Action("network_disconnect"), Action("kill"), Action("stop", grace=0)
BOTH = [PAUSE, CUT]
SHELLS, MINERS = Cause(policy_id="shells", trace_id="t-1"), Cause(policy_id="miners", trace_id="t-2")
ALICE = Cause(reason="INC-1", actor="alice")
CarryOver = t.Callable[[str], Entry]
FORMAT_1 = sorted(pathlib.Path(__file__).with_name("journal_format_1").glob("*.json"))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.moment = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)

    def __call__(self) -> datetime.datetime:
        return self.moment

    def text(self, seconds: float = 0) -> str:
        return format_timestamp(self.moment + datetime.timedelta(seconds=seconds))

    def passes(self, seconds: float) -> None:
        self.moment += datetime.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def isolator(engine: FakeEngine, journal: Journal, clock: Clock) -> Isolator:
    retry = Retry(max_attempts=0)
    return Isolator(
        engine, journal, truth=FakeTruth(engine), retry=retry, settle_timeout=0.2, busy_timeout=0, now=clock
    )


@pytest.fixture
def web(engine: FakeEngine) -> str:
    engine.add_network("front", "10.1.0.0/24")
    engine.add_network("back", "10.2.0.0/24")
    networks = {"front": EndpointSettings(ipv4_address="10.1.0.50"), "back": EndpointSettings()}
    return engine.add_container("web", networks=networks, restart_policy=("on-failure", 7))


def entry(journal: Journal, container_id: str) -> Entry:
    found = journal.load(container_id)
    assert found is not None
    return found


def keys(journal: Journal, container_id: str) -> list[tuple[str, str]]:
    return [claim.key for claim in entry(journal, container_id).claims]


def state(engine: FakeEngine, container_id: str) -> tuple[str, list[str], str]:
    """Status, networks and restart policy."""
    found = engine.inspect_container(container_id)
    policy = found["HostConfig"]["RestartPolicy"]["Name"]
    return found["State"]["Status"], sorted(found["NetworkSettings"]["Networks"]), policy


def of_policy(policy_id: str) -> t.Callable[[Claim], bool]:
    return lambda claim: claim.cause.policy_id == policy_id


class TestSum:
    def test_what_holds_is_the_sum(self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str) -> None:
        isolator.isolate(web, [PAUSE], SHELLS)
        isolator.isolate(web, [CUT], MINERS)
        isolator.isolate(web, [Action("network_disconnect", networks=("front",))], ALICE)
        assert keys(journal, web) == [("policy", "shells"), ("policy", "miners"), ("person", "")]
        assert state(engine, web) == ("paused", [], "no")

    def test_the_same_one_asking_again_changes_nothing(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS, release_after=60)
        before = entry(journal, web)
        outcome = isolator.isolate(web, BOTH, SHELLS, release_after=60)
        assert (outcome.outcome, outcome.changed) == ("held", False)
        assert entry(journal, web) == before

    def test_another_one_asking_for_what_holds_is_on_record(
        self, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        outcome = isolator.isolate(web, BOTH, ALICE)
        assert (outcome.outcome, outcome.changed, outcome.steps) == ("held", True, ())
        assert keys(journal, web) == [("policy", "shells"), ("person", "")]
        assert [claim["actor"] for claim in outcome.claims] == ["", "alice"]

    def test_what_excludes_what_others_hold_is_refused(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, [PAUSE], SHELLS)
        before = entry(journal, web)
        assert isolator.isolate(web, [STOP], MINERS).outcome == "refused"
        assert entry(journal, web) == before


class TestExpiry:
    def test_takes_its_own_and_what_others_hold_stays(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, clock: Clock, web: str
    ) -> None:
        isolator.isolate(web, [PAUSE], SHELLS, release_after=60)
        isolator.isolate(web, [Action("network_disconnect", networks=("front",))], MINERS, release_after=3600)
        assert entry(journal, web).expires_at == clock.text(3600)
        clock.passes(60)
        outcome = isolator.release(web, which=lambda claim: claim.expired(clock()), remembered=False)
        assert (outcome.outcome, outcome.ok, outcome.changed) == ("held", True, True)
        assert any("still held by policy miners: network_disconnect" in warning for warning in outcome.warnings)
        assert keys(journal, web) == [("policy", "miners")]
        assert state(engine, web) == ("running", ["back"], "no")
        clock.passes(3600)
        outcome = isolator.release(web, which=lambda claim: claim.expired(clock()), remembered=False)
        assert outcome.outcome == "released"
        assert state(engine, web) == ("running", ["back", "front"], "on-failure")

    def test_one_without_an_end_holds_for_good(
        self, isolator: Isolator, journal: Journal, clock: Clock, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS, release_after=60)
        isolator.isolate(web, BOTH, ALICE)
        assert entry(journal, web).expires_at == ""

    def test_one_that_is_over_begins_anew(self, isolator: Isolator, journal: Journal, clock: Clock, web: str) -> None:
        isolator.isolate(web, BOTH, SHELLS, release_after=60)
        clock.passes(61)
        outcome = isolator.isolate(web, BOTH, SHELLS, release_after=30)
        assert outcome.expires_at == clock.text(30)


class TestReleaseOfSome:
    def test_by_policy_ends_what_that_one_asked_for(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, [CUT], SHELLS)
        isolator.isolate(web, [PAUSE], ALICE)
        outcome = isolator.release(web, which=of_policy("shells"))
        assert (outcome.outcome, outcome.ok) == ("held", False)
        assert outcome.error is not None
        assert outcome.error["kind"] == "still_held"
        assert "still held by alice: pause" in outcome.error["message"]
        assert state(engine, web) == ("paused", ["back", "front"], "no")
        assert isolator.release(web).outcome == "released"

    def test_of_one_that_does_not_hold_it_is_refused(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        before = len(engine.changes)
        outcome = isolator.release(web, which=of_policy("miners"))
        assert outcome.outcome == "refused"
        assert outcome.error is not None
        assert outcome.error["kind"] == "not_claimed"
        assert len(engine.changes) == before

    def test_what_was_ended_stays_down_while_anything_holds_it(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        isolator.isolate(web, [KILL], SHELLS)
        isolator.isolate(web, [CUT], ALICE)
        isolator.release(web, which=of_policy("shells"))
        assert state(engine, web) == ("exited", [], "no")
        assert isolator.release(web).outcome == "released"
        assert state(engine, web) == ("running", ["back", "front"], "on-failure")

    def test_check_mode_says_who_holds_it_still(self, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        isolator.isolate(web, [CUT], MINERS)
        predicted, done = (isolator.release(web, check, which=of_policy("shells")) for check in (True, False))
        assert (predicted.error or {})["kind"] == "still_held"
        assert predicted.error == done.error

    def test_check_mode_says_what_would_be_given_back(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, [CUT], SHELLS)
        isolator.isolate(web, [PAUSE], ALICE)
        before = len(engine.changes)
        outcome = isolator.release(web, check=True, which=of_policy("shells"))
        assert outcome.outcome == "would_release"
        assert sorted(outcome.after["networks"]) == ["back", "front"]
        assert outcome.after["paused"] is True
        assert len(engine.changes) == before

    def test_a_person_takes_all_but_those_of_sidecars_and_is_told_which(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        sidecar = engine.add_container("sidecar", network_mode=f"container:{web}")
        isolator.isolate(sidecar, BOTH, SHELLS)
        isolator.isolate(web, BOTH, SHELLS)
        outcome = isolator.release(web)
        assert (outcome.outcome, outcome.ok) == ("held", False)
        assert outcome.error is not None
        assert "still held by sidecar: network_disconnect" in outcome.error["message"]
        assert state(engine, web) == ("running", [], "no")
        assert keys(journal, web) == [("sharer", sidecar)]
        assert isolator.release(sidecar).outcome == "released"
        assert state(engine, web) == ("running", ["back", "front"], "on-failure")
        assert journal.entries() == ([], [])


class TestHalfway:
    """A release that fails halfway puts back what it had done."""

    @pytest.mark.parametrize("method", ["connect", "unpause", "set_restart_policy"])
    def test_is_cut_off_again(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str, method: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        before = entry(journal, web)
        if method == "connect":
            engine.fail_next("connect", None)
        for _ in range(4):
            engine.fail_next(method, EngineError("no", status=409))
        outcome = isolator.release(web)
        assert (outcome.outcome, outcome.ok) == ("failed", False)
        assert "it is isolated again, as it was before" in outcome.warnings
        assert state(engine, web) == ("paused", [], "no")
        assert outcome.after == {"running": True, "paused": True, "restart_policy": "no", "networks": []}
        assert entry(journal, web) == before
        assert [one.policies for one in journal.tombstones(web)] == [()]  # it was asked for
        assert isolator.release(web).outcome == "released"

    def test_one_that_cannot_be_put_back_says_so(self, engine: FakeEngine, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        engine.fail_next("connect", None)
        for _ in range(4):
            engine.fail_next("connect", EngineError("no", status=409))
            engine.fail_next("disconnect", EngineError("no", status=409))
        outcome = isolator.release(web)
        assert outcome.outcome == "failed"
        assert any("it is not isolated again: it is on network back" in warning for warning in outcome.warnings)

    def test_what_stands_in_its_way_does_not_keep_it_from_being_cut_off(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        isolator.isolate(web, [Action("network_disconnect", networks=("front",))], MINERS)
        engine.fail_next("connect", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            isolator.release(web, which=of_policy("shells"), remembered=False)
        engine.remove_network("back")
        outcome = isolator.isolate(web, [PAUSE], ALICE)
        assert (outcome.outcome, state(engine, web)[:2]) == ("isolated", ("paused", []))
        assert any("not given back yet: network back no longer exists" in warning for warning in outcome.warnings)
        assert not any("released" in warning for warning in outcome.warnings)
        # It is owed still.
        refused = isolator.release(web)
        assert (refused.outcome, (refused.error or {})["kind"]) == ("refused", "refused")
        engine.add_network("back", "10.2.0.0/24")
        assert isolator.release(web).outcome == "released"
        assert state(engine, web) == ("running", ["back", "front"], "on-failure")

    def test_a_restart_that_was_killed_leaves_no_process_of_before(
        self, engine: FakeEngine, isolator: Isolator, web: str
    ) -> None:
        started_at = engine.inspect_container(web)["State"]["StartedAt"]
        isolator.isolate(web, BOTH, SHELLS)
        engine.fail_next("kill", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            isolator.release(web, restart=True)
        assert isolator.hold(web).outcome == "released"
        assert state(engine, web)[0] == "running"
        assert engine.inspect_container(web)["State"]["StartedAt"] != started_at

    def test_one_that_was_killed_is_completed_by_a_repair(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        engine.fail_next("unpause", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            isolator.release(web)
        assert (entry(journal, web).phase, entry(journal, web).claims) == ("releasing", ())
        assert isolator.hold(web).outcome == "released"
        assert state(engine, web) == ("running", ["back", "front"], "on-failure")
        assert journal.load(web) is None


class TestTombstone:
    """A person's release beats every alert that was received before it."""

    def hold(self, isolator: Isolator, container_id: str, received_at: str, cause: Cause = SHELLS) -> Outcome:
        return isolator.walk(container_id, Hold((isolator.claim(BOTH, cause),), received_at=received_at)).run()

    def test_an_alert_of_before_is_superseded_and_one_of_afterwards_acts(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, clock: Clock, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        waiting = clock.text(5)
        clock.passes(10)
        isolator.release(web, cause=ALICE)
        before = len(engine.changes)
        outcome = self.hold(isolator, web, waiting)
        assert (outcome.outcome, outcome.ok, outcome.changed) == ("superseded", True, False)
        assert outcome.warnings == (f"alice asked for its release at {clock.text()}, after the alert was received",)
        assert len(engine.changes) == before
        assert self.hold(isolator, web, clock.text(1)).outcome == "isolated"

    def test_one_that_waits_for_the_release_to_end_is_superseded(
        self, engine: FakeEngine, isolator: Isolator, clock: Clock, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        clock.passes(10)
        walk = isolator.walk(web, Hold((isolator.claim(BOTH, SHELLS),), received_at=clock.text(-1)), patient=False)
        engine.before("unpause", lambda: walk.begin())
        assert isolator.release(web).outcome == "released"
        assert walk.finish().outcome == "superseded"

    def test_the_end_by_time_supersedes_nothing(self, isolator: Isolator, clock: Clock, web: str) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        isolator.release(web, remembered=False)
        assert self.hold(isolator, web, clock.text(-10)).outcome == "isolated"

    def test_neither_does_a_person_who_isolates(self, isolator: Isolator, web: str) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        isolator.release(web)
        assert isolator.isolate(web, BOTH, ALICE).outcome == "isolated"

    def test_the_release_of_one_policy_supersedes_its_alerts_alone(
        self, isolator: Isolator, clock: Clock, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        isolator.isolate(web, BOTH, MINERS)
        isolator.release(web, which=of_policy("shells"))
        assert self.hold(isolator, web, clock.text(-1)).outcome == "superseded"
        assert self.hold(isolator, web, clock.text(-1), MINERS).outcome == "held"

    def test_what_was_not_isolated_is_remembered_too(self, isolator: Isolator, clock: Clock, web: str) -> None:
        isolator.release(web, cause=ALICE)
        assert self.hold(isolator, web, clock.text(-1)).outcome == "superseded"

    def test_those_of_several_policies_add_up(
        self, isolator: Isolator, journal: Journal, clock: Clock, web: str
    ) -> None:
        received_at = clock.text()
        isolator.isolate(web, BOTH, SHELLS)
        isolator.isolate(web, BOTH, MINERS)
        isolator.release(web, which=of_policy("shells"), cause=ALICE)
        clock.passes(60)
        isolator.release(web, which=of_policy("miners"), cause=ALICE)
        assert [one.policies for one in journal.tombstones(web)] == [("shells",), ("miners",)]
        assert self.hold(isolator, web, received_at, SHELLS).outcome == "superseded"
        assert self.hold(isolator, web, received_at, MINERS).outcome == "superseded"
        assert self.hold(isolator, web, received_at, Cause(policy_id="others")).outcome == "isolated"
        isolator.release(web, cause=ALICE)
        assert [one.policies for one in journal.tombstones(web)] == [()]
        assert self.hold(isolator, web, received_at, Cause(policy_id="others")).outcome == "superseded"

    def test_one_of_a_policy_supersedes_no_other_where_nothing_is_isolated(
        self, isolator: Isolator, clock: Clock, web: str
    ) -> None:
        isolator.release(web, which=of_policy("miners"), cause=ALICE)
        assert self.hold(isolator, web, clock.text()).outcome == "isolated"

    def test_one_that_was_killed_supersedes_too(
        self, engine: FakeEngine, isolator: Isolator, clock: Clock, web: str
    ) -> None:
        isolator.isolate(web, BOTH, SHELLS)
        engine.fail_next("unpause", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            isolator.release(web, cause=ALICE)
        assert self.hold(isolator, web, clock.text()).outcome == "superseded"

    def test_check_mode_remembers_nothing(self, isolator: Isolator, journal: Journal, web: str) -> None:
        isolator.isolate(web, BOTH)
        isolator.release(web, check=True)
        assert journal.tombstones(web) == []


class TestWithoutALock:
    """Where the journal can be locked nowhere, a container can still be paused."""

    @pytest.fixture
    def received_at(self, isolator: Isolator, journal: Journal, clock: Clock, web: str) -> str:
        received_at = clock.text()
        clock.passes(10)
        isolator.release(web, cause=ALICE)

        def lock(container_id: str, timeout: float | None = None) -> t.NoReturn:
            raise JournalError("no space", remedy="Make room")

        journal.lock = lock  # type: ignore[method-assign, assignment]
        return received_at

    def hold(self, isolator: Isolator, container_id: str, received_at: str) -> Outcome:
        return isolator.walk(container_id, Hold((isolator.claim(BOTH, SHELLS),), received_at=received_at)).run()

    def test_an_alert_of_before_a_release_is_superseded_all_the_same(
        self, engine: FakeEngine, isolator: Isolator, clock: Clock, web: str, received_at: str
    ) -> None:
        assert self.hold(isolator, web, received_at).outcome == "superseded"
        assert state(engine, web)[0] == "running"
        assert self.hold(isolator, web, clock.text(1)).outcome == "failed"
        assert state(engine, web)[0] == "paused"

    def test_a_pause_that_cannot_be_read_back_is_told(
        self, engine: FakeEngine, isolator: Isolator, clock: Clock, web: str, received_at: str
    ) -> None:
        engine.fail_next("inspect_container", None)
        for _ in range(10):
            engine.fail_next("inspect_container", EngineTimeout("no answer"))
        outcome = self.hold(isolator, web, clock.text(1))
        assert (outcome.outcome, outcome.changed) == ("unknown", True)
        assert [(step.action, step.status) for step in outcome.steps] == [("pause", "done")]
        assert outcome.error is not None
        assert "whether container web is paused cannot be read back: no answer" in outcome.error["message"]
        assert "no space" in outcome.error["message"]
        assert outcome.error["remedy"].startswith("Make room. Then isolate it again")
        engine._failures.clear()
        assert state(engine, web)[0] == "paused"


class TestRestartPolicy:
    """The guard took its restart policy away, so the guard owes the start."""

    @pytest.mark.parametrize(("policy", "started"), [("always", True), ("unless-stopped", True), ("no", False)])
    def test_one_that_ended_meanwhile_is_started_where_its_policy_would_have(
        self, engine: FakeEngine, isolator: Isolator, policy: str, started: bool
    ) -> None:
        container = engine.add_container("web", restart_policy=(policy, 0))
        isolator.isolate(container, BOTH)
        engine.kill(container)
        outcome = isolator.release(container)
        assert outcome.outcome == "released"
        assert outcome.sessions_may_resume is False
        assert state(engine, container)[0] == ("running" if started else "exited")
        (difference,) = outcome.not_restored
        assert difference["what"] == ("processes" if started else "state")

    def test_a_start_that_fails_is_not_called_released(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("web", restart_policy=("always", 0))
        isolator.isolate(container, BOTH)
        engine.kill(container)
        for _ in range(4):
            engine.fail_next("start", EngineError("no", status=409))
        outcome = isolator.release(container)
        assert outcome.outcome == "failed"


class TestFormat1:
    """Entries that the version before wrote are carried over."""

    @pytest.fixture
    def carried_over(self, tmp_path: pathlib.Path, journal: Journal) -> CarryOver:
        container_id = "a" * 64

        def put(name: str) -> Entry:
            directory = tmp_path / "state" / "isolations"
            directory.mkdir(parents=True, exist_ok=True)
            source = pathlib.Path(__file__).with_name("journal_format_1") / f"{name}.json"
            (directory / f"{container_id}.json").write_bytes(source.read_bytes())
            return entry(journal, container_id)

        return put

    @pytest.mark.parametrize("path", FORMAT_1, ids=lambda path: path.stem)
    def test_is_written_and_read_back_in_the_new_one(self, path: pathlib.Path) -> None:
        carried = Entry.from_json(path.read_text())
        assert Entry.from_json(carried.to_json()) == carried

    def test_own(self, carried_over: CarryOver) -> None:
        (claim,) = carried_over("own").claims
        assert (claim.key, claim.goal) == (("policy", "quarantine"), Goal(pause=True, networks=("*",)))
        assert claim.cause.trace_id == "t-1"
        assert (claim.release_after, bool(claim.expires_at)) == (3600, True)

    def test_for_sharers(self, carried_over: CarryOver) -> None:
        found = carried_over("for_sharers")
        assert [claim.key for claim in found.claims] == [("sharer", "b" * 64)]
        assert (found.own_claims, found.hold) == ((), Goal(networks=("*",)))

    def test_own_and_for_sharers(self, carried_over: CarryOver) -> None:
        found = carried_over("own_and_for_sharers")
        assert [claim.key for claim in found.claims] == [("person", ""), ("sharer", "b" * 64)]

    @pytest.mark.parametrize("name", ["restart", "releasing"])
    def test_a_release_that_was_interrupted_holds_nothing(self, carried_over: CarryOver, name: str) -> None:
        found = carried_over(name)
        assert (found.claims, found.phase, found.owes_start) == ((), "releasing", name == "restart")
        assert found.held == Goal(pause=True, networks=("*",))

    def test_ended_owes_the_start(self, carried_over: CarryOver) -> None:
        found = carried_over("ended")
        assert (found.owes_start, found.phase) == (True, "isolated")

    @pytest.mark.parametrize("name", ["own", "ended", "releasing", "restart"])
    def test_it_is_released_by_its_snapshot(
        self, carried_over: CarryOver, engine: FakeEngine, isolator: Isolator, journal: Journal, name: str
    ) -> None:
        """What the engine shows once the version before has isolated it."""
        engine.add_network("front", "10.1.0.0/24", network_id="1" * 64)
        ended = name in ("ended", "restart")
        container = engine.add_container(
            "web", container_id="a" * 64, networks={}, network_mode="front", state="exited" if ended else "paused"
        )
        carried_over(name)
        assert isolator.release(container).outcome == "released"
        assert state(engine, container) == ("running", ["front"], "on-failure")
        address = engine.inspect_container(container)["NetworkSettings"]["Networks"]["front"]["IPAMConfig"]
        assert address["IPv4Address"] == "10.1.0.50"
        assert journal.load(container) is None

    def test_a_newer_format_is_told_as_such(
        self, journal: Journal, tmp_path: pathlib.Path, carried_over: CarryOver
    ) -> None:
        carried_over("own")
        path = tmp_path / "state" / "isolations" / f"{'a' * 64}.json"
        path.write_text(path.read_text().replace('"format": 1', '"format": 3'))
        with pytest.raises(JournalError) as raised:
            journal.load("a" * 64)
        assert raised.value.kind == "journal_newer"
        assert str(path) in raised.value.message
        assert "version of the collection" in raised.value.remedy


def test_a_claim_that_is_asked_for_again_keeps_its_cause(clock: Clock) -> None:
    claim = Claim.of(Goal(pause=True), SHELLS, clock())
    again = claim.refreshed(
        Claim.of(Goal(networks=("*",)), Cause(policy_id="shells", trace_id="t-9"), clock()), clock()
    )
    assert (again.cause, again.goal) == (SHELLS, Goal(pause=True, networks=("*",)))
