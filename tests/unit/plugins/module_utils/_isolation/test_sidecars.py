# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers that use the network of another one: cut off by way of that one, and given back so."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import ISOLATING, RELEASING
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

PAUSE, CUT, KILL = Action("pause"), Action("network_disconnect"), Action("kill")
BOTH = [PAUSE, CUT]


@pytest.fixture
def owner(engine: FakeEngine) -> str:
    engine.add_network("front", "10.1.0.0/24")
    return engine.add_container("owner", networks={"front": EndpointSettings(ipv4_address="10.1.0.50")})


@pytest.fixture
def sidecar(engine: FakeEngine, owner: str) -> str:
    return engine.add_container("sidecar", network_mode=f"container:{owner}")


def on_network(engine: FakeEngine, container_id: str) -> bool:
    return bool(engine.inspect_container(container_id)["NetworkSettings"]["Networks"])


def paused(engine: FakeEngine, container_id: str) -> bool:
    return bool(engine.inspect_container(container_id)["State"]["Paused"])


class TestIsolate:
    def test_is_paused_itself_and_the_owner_leaves_its_networks(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        outcome = isolator.isolate(sidecar, BOTH)
        assert outcome.outcome == "isolated"
        assert [str(step.action) for step in outcome.steps] == ["pause", "isolate_network"]
        assert (paused(engine, sidecar), paused(engine, owner)) == (True, False)
        assert not on_network(engine, owner)
        again = isolator.isolate(sidecar, BOTH)
        assert (again.outcome, again.changed) == ("held", False)

    def test_is_ended_after_the_network_is_gone(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        outcome = isolator.isolate(sidecar, [PAUSE, CUT, KILL])
        assert [step.action for step in outcome.steps] == ["pause", "isolate_network", "kill"]

    def test_check_mode_touches_neither(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        outcome = isolator.isolate(sidecar, BOTH, check=True)
        assert (outcome.outcome, outcome.changed) == ("would_isolate", True)
        assert engine.changes == []
        assert journal.entries() == ([], [])

    def test_what_somebody_reconnected_is_found_by_way_of_the_owner(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        engine.connect("front", owner, EndpointSettings())
        entry = journal.load(sidecar)
        assert entry is not None
        assert [finding.kind for finding in isolator.verify(entry)[1].unmet] == ["reconnected"]
        assert isolator.isolate(sidecar, BOTH).outcome == "isolated"
        assert not on_network(engine, owner)

    def test_an_owner_whose_isolation_was_interrupted_is_led_to_its_end(
        self, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        entry = journal.load(owner)
        assert entry is not None
        journal.store(dataclasses.replace(entry, phase=ISOLATING))
        outcome = isolator.isolate(sidecar, BOTH)
        assert (outcome.outcome, [step.action for step in outcome.steps]) == ("isolated", ["isolate_network"])
        assert journal.load(owner) == entry

    def test_an_owner_that_cannot_leave_is_not_called_isolated(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        for _ in range(20):
            engine.fail_next("disconnect", EngineError("no", status=500))
        outcome = isolator.isolate(sidecar, BOTH)
        assert outcome.outcome == "failed"
        assert outcome.error is not None
        assert "front" in outcome.error["message"]

    def test_an_owner_on_the_network_of_the_host_leaves_the_pause(self, engine: FakeEngine, isolator: Isolator) -> None:
        host = engine.add_container("host", network_mode="host")
        sidecar = engine.add_container("sidecar", network_mode=f"container:{host}")
        assert isolator.isolate(sidecar, [CUT]).outcome == "refused"
        outcome = isolator.isolate(sidecar, BOTH)
        assert outcome.outcome == "isolated"
        assert "has none of its own" in outcome.warnings[0]

    def test_an_owner_that_is_gone_leaves_the_pause(self, engine: FakeEngine, isolator: Isolator) -> None:
        owner = engine.add_container("owner")
        sidecar = engine.add_container("sidecar", network_mode=f"container:{owner}")
        engine.remove_container(owner)
        outcome = isolator.isolate(sidecar, BOTH)
        assert outcome.outcome == "isolated"
        assert "no longer exists" in outcome.warnings[0]

    def test_is_paused_where_the_journal_of_the_owner_is_damaged(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(owner, [CUT])
        journal._files.write(f"isolations/{owner}.json", "{")
        outcome = isolator.isolate(sidecar, BOTH)
        assert (outcome.outcome, (outcome.error or {})["kind"]) == ("failed", "journal_damaged")
        assert paused(engine, sidecar)

    def test_is_not_called_isolated_while_nothing_keeps_the_owner_off(
        self, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(owner, [CUT])
        with journal.lock(owner):
            outcome = isolator.isolate(sidecar, BOTH)
        assert (outcome.outcome, outcome.ok) == ("busy", False)
        assert "isolate_network owner is not done" in (outcome.error or {})["message"]

    @pytest.mark.parametrize("release", [False, True], ids=["isolate", "release"])
    def test_waits_for_another_run_on_the_owner_once_and_says_so(
        self, engine: FakeEngine, journal: Journal, owner: str, sidecar: str, release: bool
    ) -> None:
        waits: list[float | None] = []

        class Watched(Journal):
            def lock(self, container_id: str, timeout: float | None = None) -> contextlib.AbstractContextManager[None]:
                if container_id == owner:
                    waits.append(timeout)
                return super().lock(container_id, timeout)

        isolator = Isolator(
            engine, Watched(journal._files, lock_timeout=0.1), truth=FakeTruth(engine), busy_timeout=0.05
        )
        if release:
            isolator.isolate(sidecar, [PAUSE, CUT])
            waits.clear()
        with journal.lock(owner):
            outcome = isolator.release(sidecar) if release else isolator.isolate(sidecar, [PAUSE, CUT])
        # A release waits as long as any other.
        assert waits == ([None] if release else [0, 0.05])
        assert outcome.outcome == "busy"
        assert outcome.error is not None
        assert (outcome.error["kind"], outcome.error["remedy"]) == (
            "busy",
            "Run again, or look for a process that hangs on a Docker engine",
        )
        assert f"another process works on {owner[:12]}" in outcome.error["message"]
        assert [(step.action, step.status) for step in outcome.steps] == (
            [("release_network", "failed"), ("unpause", "skipped")]
            if release
            else [("pause", "done"), ("isolate_network", "failed")]
        )
        assert paused(engine, sidecar)
        assert (isolator.release(sidecar) if release else isolator.isolate(sidecar, [PAUSE, CUT])).ok


class TestRelease:
    def test_stays_down_while_the_owner_does(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(owner, [KILL])
        isolator.isolate(sidecar, [KILL])
        before = len(engine.changes)
        refused = isolator.release(sidecar)
        assert (refused.outcome, len(engine.changes)) == ("refused", before)
        assert "does not run, and is isolated itself: release owner, too" in str(refused.error)
        assert isolator.release(owner).outcome == "released"
        assert isolator.release(sidecar).outcome == "released"

    def test_a_sidecar_that_was_started_after_its_owner_is_not_stranded_whatever_the_clock_says(
        self, engine: FakeEngine, journal: Journal, owner: str, sidecar: str
    ) -> None:
        # The clock of whoever isolates is far ahead of that of the engine.
        fast = Isolator(
            engine, journal, truth=FakeTruth(engine), now=lambda: datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
        )
        fast.isolate(sidecar, BOTH)
        assert fast.release(sidecar).outcome == "released"
        fast.isolate(sidecar, BOTH)
        engine.kill(owner)
        engine.start(owner)
        refused = fast.release(sidecar)
        assert "container owner, whose network it uses, was started anew meanwhile" in str(refused.error)

    def test_gives_the_network_of_the_owner_back_first(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        before = engine.inspect_container(owner)["NetworkSettings"]["Networks"]["front"]["IPAMConfig"]
        isolator.isolate(sidecar, BOTH)
        outcome = isolator.release(sidecar)
        assert [step.action for step in outcome.steps] == ["release_network", "unpause"]
        assert outcome.outcome == "released"
        assert engine.inspect_container(owner)["NetworkSettings"]["Networks"]["front"]["IPAMConfig"] == before
        assert journal.entries() == ([], [])

    def test_stays_paused_while_the_network_cannot_come_back(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        for _ in range(20):
            engine.fail_next("connect", EngineError("no", status=500))
        outcome = isolator.release(sidecar)
        assert outcome.outcome == "failed"
        assert paused(engine, sidecar)
        assert {entry.snapshot.name for entry in journal.entries()[0]} == {"owner", "sidecar"}

    def test_the_network_stays_off_while_another_sidecar_needs_that(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        other = engine.add_container("other", network_mode=f"container:{owner}")
        isolator.isolate(sidecar, BOTH)
        isolator.isolate(other, BOTH)
        outcome = isolator.release(sidecar)
        assert outcome.outcome == "released"
        assert "stays off" in outcome.warnings[0]
        assert not on_network(engine, owner)
        assert isolator.release(other).outcome == "released"
        assert on_network(engine, owner)

    def test_the_network_stays_off_while_the_owner_is_isolated_itself(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(owner, BOTH)
        isolator.isolate(sidecar, BOTH)
        assert isolator.release(sidecar).outcome == "released"
        assert not on_network(engine, owner)
        assert isolator.release(owner).outcome == "released"
        assert on_network(engine, owner)

    def test_the_owner_alone_is_refused(self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str) -> None:
        isolator.isolate(sidecar, BOTH)
        before = len(engine.changes)
        outcome = isolator.release(owner)
        assert outcome.outcome == "refused"
        assert outcome.error is not None
        assert outcome.error["remedy"] == "Nothing was touched. Release sidecar first"
        assert len(engine.changes) == before

    def test_what_keeps_the_owner_off_is_refused_beforehand(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        engine.add_container("squatter", networks={"front": EndpointSettings(ipv4_address="10.1.0.50")})
        before = len(engine.changes)
        outcome = isolator.release(sidecar)
        assert outcome.outcome == "refused"
        assert "10.1.0.50 on network front is taken by container squatter" in (outcome.error or {})["message"]
        assert len(engine.changes) == before


class TestPodThatIsDown:
    """As after a reboot: the guard took the restart policies, and nothing of the pod runs."""

    @pytest.fixture
    def other(self, engine: FakeEngine, owner: str, sidecar: str) -> str:
        other = engine.add_container("other", network_mode=f"container:{owner}")
        for container in (owner, sidecar, other):
            engine.set_restart_policy(container, "unless-stopped", 0)
        return other

    def end(self, engine: FakeEngine, *containers: str) -> None:
        for container in containers:
            engine.kill(container)

    def test_the_first_sidecar_starts_the_owner_without_its_network_and_the_last_one_brings_that_back(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str, other: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        isolator.isolate(other, BOTH)
        self.end(engine, sidecar, other, owner)
        assert isolator.release(sidecar, check=True).outcome == "would_release"
        outcome = isolator.release(sidecar)
        assert outcome.outcome == "released", outcome.error
        assert [step.action for step in outcome.steps] == ["release_network", "set_restart_policy", "start"]
        assert "its network stays off, as container owner is isolated, too" in outcome.warnings
        assert [engine.state_of(one) for one in (owner, sidecar, other)] == ["running", "running", "exited"]
        assert not on_network(engine, owner)
        entry = journal.load(owner)
        assert entry is not None
        assert (entry.phase, entry.owes_start, isolator.verify(entry)[1].unmet) == ("isolated", False, ())
        assert isolator.release(other).outcome == "released"
        assert [engine.state_of(one) for one in (owner, sidecar, other)] == ["running"] * 3
        assert on_network(engine, owner)
        assert journal.entries() == ([], [])

    def test_an_owner_that_was_ended_starts_with_its_own_release_while_a_sidecar_keeps_its_network_off(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str, other: str
    ) -> None:
        for container in (owner, sidecar, other):
            isolator.isolate(container, [CUT, KILL])
        refused = isolator.release(sidecar)
        assert refused.outcome == "refused"
        assert "does not run, and is isolated itself: release owner, too" in str(refused.error)
        outcome = isolator.release(owner)
        assert (outcome.outcome, (outcome.error or {})["kind"]) == ("held", "still_held")
        assert engine.state_of(owner) == "running"
        assert not on_network(engine, owner)
        assert isolator.hold(owner).outcome == "held"
        assert isolator.release(sidecar).outcome == "released"
        assert isolator.release(other).outcome == "released"
        assert on_network(engine, owner)

    def test_isolating_starts_nothing(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str, other: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        self.end(engine, sidecar, other, owner)
        assert isolator.hold(owner).ok
        assert isolator.isolate(other, BOTH).outcome == "isolated"
        assert isolator.hold(sidecar).ok
        assert [engine.state_of(one) for one in (owner, sidecar, other)] == ["exited"] * 3

    def test_an_owner_that_does_not_start_keeps_the_sidecar_isolated(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str, other: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        isolator.isolate(other, BOTH)
        self.end(engine, sidecar, other, owner)
        for _ in range(20):
            engine.fail_next("start", EngineError("no such image", status=500))
        outcome = isolator.release(sidecar)
        assert outcome.outcome == "failed"
        assert "container owner is not released: it does not run" in str([step.message for step in outcome.steps])
        assert {entry.snapshot.name for entry in journal.entries()[0]} == {"owner", "sidecar", "other"}

    def test_an_owner_that_nothing_would_have_started_is_named_with_what_starts_it(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str, other: str
    ) -> None:
        engine.set_restart_policy(owner, "no", 0)
        isolator.isolate(sidecar, BOTH)
        self.end(engine, sidecar, other, owner)
        refused = isolator.release(sidecar)
        assert refused.outcome == "refused"
        assert "container owner, whose network it uses, does not run: docker start owner" in str(refused.error)
        engine.start(owner)
        assert isolator.release(sidecar).outcome == "released"

    def test_an_owner_that_is_gone_is_named_with_the_way_out(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str, other: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        self.end(engine, sidecar, other, owner)
        engine.remove_container(owner)
        refused = isolator.release(sidecar)
        assert refused.outcome == "refused"
        assert "no longer exists, and it cannot start without: docker rm -f sidecar" in str(refused.error)

    def test_an_owner_comes_back_on_what_no_sidecar_keeps_it_off_before_it_starts(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str, other: str
    ) -> None:
        back = engine.add_network("back", "10.2.0.0/24")
        engine.connect("back", owner, EndpointSettings())
        isolator.isolate(sidecar, [CUT])
        isolator.isolate(other, [Action("network_disconnect", ("front",))])
        self.end(engine, sidecar, other, owner)
        engine.fail_next("connect", EngineError("not now", status=409))
        engine.before("start", lambda: seen.append(engine.inspect_container(owner)["NetworkSettings"]["Networks"]))
        seen: list[dict[str, object]] = []
        assert isolator.release(sidecar).outcome == "released"
        assert [list(networks) for networks in seen] == [["back"]]
        assert owner in engine.inspect_network(back)["Containers"]

    def test_an_owner_that_needs_its_network_off_for_others_alone_is_not_expected_to_start(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str, other: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        isolator.isolate(other, BOTH)
        self.end(engine, sidecar, other, owner)
        entry = journal.load(owner)
        assert entry is not None
        # A release of the sidecar was killed between its claim and the start.
        journal.store(dataclasses.replace(entry, claims=entry.claims[1:], phase=RELEASING))
        assert "does not run: docker start owner" in str(isolator.release(sidecar).error)
        engine.start(owner)
        assert isolator.release(sidecar).outcome == "released"

    def test_ports_that_others_took_do_not_keep_an_owner_without_its_network_from_starting(
        self, engine: FakeEngine, isolator: Isolator
    ) -> None:
        engine.add_network("front", "10.1.0.0/24")
        web = engine.add_container("web", networks={"front": EndpointSettings()}, published={"80/tcp": 8080})
        one, other = (engine.add_container(name, network_mode=f"container:{web}") for name in ("one", "other"))
        for container in (web, one, other):
            engine.set_restart_policy(container, "always", 0)
        isolator.isolate(one, BOTH)
        isolator.isolate(other, BOTH)
        self.end(engine, one, other, web)
        squatter = engine.add_container("squatter", published={"80/tcp": 8080})
        assert isolator.release(one).outcome == "released"
        assert "host port 8080/tcp is taken by container squatter" in str(isolator.release(other).error)
        engine.kill(squatter)
        assert isolator.release(other).outcome == "released"


class TestOwnerThatIsGone:
    def test_keeps_its_own_isolation_when_a_sidecar_is_released(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(owner, BOTH)
        isolator.isolate(sidecar, BOTH)
        engine.remove_container(owner)
        with journal.lock(owner):
            isolator.release(sidecar, force=True)
            entry = journal.load(owner)
            assert entry is not None
            assert entry.sharers == (sidecar,), "nobody else's entry is written without its lock"
        assert isolator.release(sidecar, force=True).outcome == "released"
        entry = journal.load(owner)
        assert entry is not None
        assert [claim.kind for claim in entry.claims] == ["person"]
        assert journal.load(sidecar) is None

    def test_keeps_what_others_need_and_is_forgotten_with_the_last_one(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        other = engine.add_container("other", network_mode=f"container:{owner}")
        isolator.isolate(sidecar, BOTH)
        isolator.isolate(other, BOTH)
        engine.remove_container(owner)
        isolator.release(sidecar, force=True)
        entry = journal.load(owner)
        assert entry is not None
        assert entry.sharers == (other,)
        isolator.release(other, force=True)
        assert journal.entries() == ([], [])

    @pytest.mark.parametrize("own", [False, True], ids=["", "isolated itself"])
    def test_does_not_keep_the_isolation_of_a_sidecar_that_is_gone_from_being_forgotten(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str, own: bool
    ) -> None:
        if own:
            isolator.isolate(owner, BOTH)
        isolator.isolate(sidecar, BOTH)
        engine.remove_container(owner)
        engine.remove_container(sidecar)
        entry = journal.load(sidecar)
        assert entry is not None
        isolator.forget(entry, check=True)
        assert journal.load(sidecar) == entry
        isolator.forget(entry)
        assert [(entry.snapshot.name, len(entry.claims)) for entry in journal.entries()[0]] == [("owner", 1)] * own


class TestDamagedEntries:
    @pytest.mark.parametrize("content", ["{}", '{"format": 99}'], ids=["damaged", "newer"])
    def test_that_of_a_sidecar_holds_the_network_of_its_owner_and_nothing_else(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str, content: str
    ) -> None:
        isolator.isolate(owner, BOTH)
        isolator.isolate(sidecar, BOTH)
        journal._files.write(f"isolations/{sidecar}.json", content)
        held = isolator.isolate(owner, BOTH)
        assert held.outcome == "held"
        outcome = isolator.release(owner)
        assert (outcome.outcome, (outcome.error or {})["kind"]) == ("held", "still_held")
        assert "held by sidecar (its journal entry cannot be read): network_disconnect" in str(outcome.error)
        assert not paused(engine, owner)
        assert not on_network(engine, owner)
        refused = isolator.release(owner, force=True)
        assert refused.outcome == "refused"
        assert "sidecar (its journal entry cannot be read) uses its network and is isolated" in str(refused.error)
        engine.remove_container(sidecar)
        assert f"{sidecar[:12]} (its journal entry cannot be read) uses" in str(isolator.release(owner).error)

    def test_that_of_the_owner_is_told_with_its_name(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, owner: str, sidecar: str
    ) -> None:
        isolator.isolate(sidecar, BOTH)
        journal._files.write(f"isolations/{owner}.json", "{}")
        with pytest.raises(JournalError, match=f"container owner, whose network it uses: .*{owner}.json is damaged"):
            isolator.release(sidecar)
