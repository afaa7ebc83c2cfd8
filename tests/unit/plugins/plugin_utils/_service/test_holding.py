# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holding what is isolated, on the fake engine."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import RELEASING
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answerer import Policies
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import Requests
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.holding import Breach, Ground, Holder
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

BOTH = [Action("pause"), Action("network_disconnect")]
NOW = datetime.datetime(2026, 4, 5, 12, tzinfo=datetime.UTC)
POLICY = Cause(policy_id="quarantine", trace_id="trace", reason="falco: shell")


class Bench:
    """A host, and somebody who holds what is isolated there."""

    def __init__(self, directory: pathlib.Path, on_breach: t.Any = None) -> None:
        self.engine = FakeEngine()
        self.engine.add_network("front", "10.1.0.0/24")
        self.moment = NOW
        self.seconds = 0.0
        self.recorded: list[ActionEvent] = []
        self.files = StateDir(str(directory / "state"), fallback=str(directory / "fallback"))
        self.journal = Journal(self.files, lock_timeout=0.1)
        retry = Retry(max_attempts=1, sleep=lambda _seconds: None)
        self.isolator = Isolator(self.engine, self.journal, FakeTruth(self.engine), retry, now=lambda: self.moment)
        policy = {"id": "quarantine", "actions": [{"type": "pause"}], **({"on_breach": on_breach} if on_breach else {})}
        policies = Policies(PolicySet.of([Policy.from_dict(policy)]))
        ground = Ground(
            host="web-1",
            docker_host="unix:///nowhere",
            actor="service",
            concurrency=2,
            engine=self.engine,
            inventory=Inventory(self.engine, ttl=1, clock=lambda: self.seconds),
            files=self.files,
            isolator=self.isolator,
            policies=lambda: policies,
            clock=lambda: self.moment,
        )
        self.holder = Holder(ground, self.recorded.extend, monotonic=lambda: self.seconds)

    def isolated(self, cause: Cause = POLICY, release_after: int = 0, auto_remove: bool = False) -> str:
        """A container that is isolated."""
        networks = {"front": EndpointSettings(ipv4_address="10.1.0.50")}
        container = self.engine.add_container("web", networks=networks, auto_remove=auto_remove)
        assert self.isolator.isolate(container, BOTH, cause, release_after=release_after).ok
        return container

    def hold(self) -> list[Breach]:
        """What one look at all finds."""
        self.seconds += 2  # what was listed before is not believed any more
        return self.holder.hold(self.journal.entries()[0])

    def state(self, container: str) -> tuple[bool, bool, list[str]]:
        """Whether it runs, whether it is paused, and its networks."""
        found = self.engine.inspect_container(container)
        networks = sorted(found["NetworkSettings"]["Networks"])
        return found["State"]["Running"], found["State"]["Paused"], networks


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Bench:
    return Bench(tmp_path)


def test_what_holds_is_left_alone(bench: Bench) -> None:
    bench.isolated()
    bench.engine.calls.clear()
    assert bench.hold() == []
    assert bench.engine.changes == []
    assert bench.recorded == []


def test_one_that_was_unpaused_is_paused_again_and_that_is_on_record(bench: Bench) -> None:
    web = bench.isolated()
    bench.engine.unpause(web)
    assert bench.hold() == [Breach(web, "web", ("unpaused",), "repaired")]
    assert bench.state(web) == (True, True, [])
    (event,) = bench.recorded
    assert (event.outcome, event.actor, event.policy_id, event.host) == ("isolated", "service", "quarantine", "web-1")
    assert "breach" in event.reasons[0]
    assert bench.hold() == []


def test_one_that_was_connected_again_leaves_the_network(bench: Bench) -> None:
    web = bench.isolated()
    front = bench.engine.inspect_network("front")["Id"]
    bench.engine.connect(front, web, EndpointSettings())
    (breach,) = bench.hold()
    assert (breach.kinds, breach.done) == (("reconnected",), "repaired")
    assert bench.state(web) == (True, True, [])


def test_one_that_was_started_anew_is_held_again(bench: Bench) -> None:
    web = bench.isolated()
    bench.engine.kill(web)
    bench.engine.start(web)
    (breach,) = bench.hold()
    assert "restarted" in breach.kinds
    assert bench.state(web) == (True, True, [])
    assert bench.hold() == []


def test_the_end_of_its_processes_is_told_once(bench: Bench) -> None:
    web = bench.isolated()
    bench.engine.kill(web)
    assert [breach.kinds for breach in bench.hold()] == [("ended",)]
    assert bench.hold() == []


def test_one_that_took_the_name_is_isolated(bench: Bench) -> None:
    web = bench.isolated()
    bench.engine.remove_container(web)
    other = bench.engine.add_container("web", networks={"front": EndpointSettings()})
    assert [(breach.kinds, breach.done) for breach in bench.hold()] == [(("recreated",), "repaired")]
    assert bench.state(other) == (True, True, [])
    assert bench.journal.load(web) is None


def test_that_one_is_gone_is_told_once_and_is_no_trouble(bench: Bench) -> None:
    web = bench.isolated()
    bench.engine.remove_container(web)
    assert [(breach.kinds, breach.done) for breach in bench.hold()] == [(("removed",), "reported")]
    assert bench.hold() == []
    assert bench.holder.troubles() == []
    assert bench.recorded == []
    other = bench.engine.add_container("web", networks={"front": EndpointSettings()})
    assert [breach.done for breach in bench.hold()] == ["repaired"]
    assert bench.state(other) == (True, True, [])


def test_after_so_many_repairs_it_is_ended(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, {"max_repairs": 2, "window": 60, "then": "kill"})
    web = bench.isolated()
    done = []
    for _time in range(3):
        bench.engine.unpause(web)
        done += [breach.done for breach in bench.hold()]
    assert done == ["repaired", "repaired", "escalated"]
    assert bench.state(web)[0] is False
    assert [action["type"] for action in bench.recorded[-1].actions] == ["kill"]
    assert bench.hold() == []


def test_one_that_must_not_be_ended_is_held_all_the_same(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, "escalate")
    web = bench.isolated(auto_remove=True)
    bench.engine.unpause(web)
    assert [breach.done for breach in bench.hold()] == ["repaired"]
    assert bench.state(web) == (True, True, [])
    assert "it is held again, but not by kill: " in bench.holder.troubles()[0]


def test_an_end_does_not_make_an_isolation_last_for_ever(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, "escalate")
    web = bench.isolated(release_after=60)
    bench.engine.unpause(web)
    assert [breach.done for breach in bench.hold()] == ["escalated"]
    entry = bench.journal.load(web)
    assert entry is not None
    assert [claim.expires_at for claim in entry.claims] == ["2026-04-05T12:01:00.000000Z"]


def test_what_is_released_in_between_is_not_ended(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, "escalate")
    web = bench.isolated()
    bench.engine.unpause(web)
    escalate = Requests.escalate

    def late(requests: Requests, *arguments: t.Any) -> t.Any:
        assert bench.isolator.release(web).ok
        return escalate(requests, *arguments)

    monkeypatch.setattr(Requests, "escalate", late)
    bench.hold()
    assert bench.state(web) == (True, False, ["front"])
    assert bench.journal.load(web) is None


def test_repairs_that_fail_do_not_count(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, {"max_repairs": 1, "then": "kill"})
    web = bench.isolated()
    bench.engine.unpause(web)
    for _look in range(3):
        for _attempt in range(6):
            bench.engine.fail_next("pause", EngineError("no such luck", status=500))
        assert [breach.done for breach in bench.hold()] == ["failed"]
    assert len(bench.recorded) == 1, "the same failure is told once"
    bench.engine.fail_next("pause", None)
    while [breach.done for breach in bench.hold()] == ["failed"]:
        pass  # what was to fail has not all been used up
    assert bench.state(web) == (True, True, [])


def test_containers_that_are_made_anew_again_and_again_are_ended(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, {"max_repairs": 2, "then": "kill"})
    web = bench.isolated()
    done = []
    for _time in range(3):
        bench.engine.remove_container(web)
        web = bench.engine.add_container("web", networks={"front": EndpointSettings()})
        done += [breach.done for breach in bench.hold()]
    assert done == ["repaired", "repaired", "escalated"]
    assert bench.state(web)[0] is False


def test_a_release_that_nobody_ended_is_brought_to_its_end_and_never_escalated(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, "escalate")
    web = bench.isolated()
    (entry,) = bench.journal.entries()[0]
    bench.journal.store(dataclasses.replace(entry, phase=RELEASING, claims=()))
    bench.hold()
    assert bench.state(web) == (True, False, ["front"])


def test_the_isolation_of_one_that_is_gone_is_forgotten_at_its_end(bench: Bench) -> None:
    web = bench.isolated(release_after=60)
    bench.engine.remove_container(web)
    bench.moment += datetime.timedelta(seconds=61)
    bench.seconds += 2
    with bench.holder as holder:
        holder.look()
    assert bench.journal.load(web) is None
    assert [event.outcome for event in bench.recorded] == ["released"]


def test_a_release_that_cannot_be_is_tried_less_and_less_and_told_once(bench: Bench) -> None:
    web = bench.isolated(release_after=60)
    bench.engine.remove_network("front")
    bench.moment += datetime.timedelta(seconds=61)
    for _look in range(5):
        bench.seconds += 5
        bench.holder._end_what_is_over(bench.journal.entries()[0])
    assert bench.state(web)[1] is True
    assert len(bench.recorded) == 1


def test_repairs_of_long_ago_do_not_count(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, {"max_repairs": 1, "window": 60})
    web = bench.isolated()
    for _time in range(3):
        bench.engine.unpause(web)
        assert [breach.done for breach in bench.hold()] == ["repaired"]
        bench.seconds += 61


def test_one_that_is_to_be_escalated_is_ended_at_once(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, "escalate")
    web = bench.isolated()
    bench.engine.unpause(web)
    assert [breach.done for breach in bench.hold()] == ["escalated"]
    assert bench.state(web)[0] is False


def test_what_is_to_be_reported_is_told_once_and_left_alone(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, "report")
    web = bench.isolated()
    bench.engine.unpause(web)
    assert [breach.done for breach in bench.hold()] == ["reported"]
    bench.hold()
    assert [event.error["kind"] for event in bench.recorded if event.error] == ["breach"]
    assert bench.state(web)[1] is False
    assert "container web: breach: it is not paused" in bench.holder.troubles()[0]


def test_what_a_person_isolated_is_repaired(tmp_path: pathlib.Path) -> None:
    bench = Bench(tmp_path, "report")
    web = bench.isolated(cause=Cause(actor="alice"))
    bench.engine.unpause(web)
    assert [breach.done for breach in bench.hold()] == ["repaired"]


def test_one_that_somebody_works_on_is_left_to_him(bench: Bench) -> None:
    web = bench.isolated()
    bench.engine.unpause(web)
    with bench.journal.lock(web):
        assert bench.hold() == []
    assert bench.state(web)[1] is False


def test_one_that_is_released_meanwhile_stays_free(bench: Bench) -> None:
    web = bench.isolated()
    (entry,) = bench.journal.entries()[0]
    assert bench.isolator.release(web).ok
    assert bench.holder.hold([entry]) == []
    assert bench.state(web) == (True, False, ["front"])


def test_one_that_cannot_be_held_is_told(bench: Bench) -> None:
    web = bench.isolated()
    bench.engine.unpause(web)
    for _attempt in range(20):
        bench.engine.fail_next("pause", EngineError("no such luck", status=500))
    assert [breach.done for breach in bench.hold()] == ["failed"]
    assert "container web: it does not stay isolated" in bench.holder.troubles()[0]


def test_an_engine_that_does_not_answer_is_told_and_costs_no_repair(bench: Bench) -> None:
    web = bench.isolated()
    for _attempt in range(2):
        bench.engine.fail_next("inspect_container", EngineError("no answer", status=500))
    assert bench.hold() == []
    assert bench.recorded == []
    assert bench.holder.troubles() == ["container web: whether it is isolated is not known: no answer"]
    assert bench.hold() == []
    assert bench.holder.troubles() == []
    assert bench.state(web)[1] is True


def test_what_is_over_is_released_without_a_word_on_earlier_alerts(bench: Bench) -> None:
    web = bench.isolated(release_after=60)
    bench.moment += datetime.timedelta(seconds=61)
    with bench.holder as holder:
        holder.look()
    assert bench.state(web) == (True, False, ["front"])
    assert [event.outcome for event in bench.recorded] == ["released"]
    assert bench.journal.tombstones(web) == []


@pytest.mark.parametrize(
    ("kind", "action", "asked"),
    [
        ("container", "unpause", True),
        ("container", "start", True),
        ("container", "pause", False),
        ("network", "connect", True),
        ("network", "disconnect", False),
        ("image", "pull", False),
    ],
)
def test_an_event_says_where_to_look(bench: Bench, kind: str, action: str, asked: bool) -> None:
    web = bench.isolated()
    bench.engine.unpause(web)
    actor = {"ID": "net", "Attributes": {"container": web}} if kind == "network" else {"ID": web, "Attributes": {}}
    bench.seconds += 2
    bench.holder.note({"Type": kind, "Action": action, "Actor": actor})
    with bench.holder:
        pass  # what was asked for is seen to before it ends
    assert bench.state(web)[1] is asked
