# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating by what is remembered of a container: it is paused by that, and the truth counts for all else."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineTimeout, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

BOTH = [Action("pause"), Action("network_disconnect")]


class Memory(dict[str, t.Any]):
    """What is remembered, until somebody says otherwise."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__()
        self._engine = engine

    def learn(self, container_id: str) -> None:
        self[container_id] = self._engine.inspect_container(container_id)


class KilledError(BaseException):
    """Stands for a process that ends in the middle: nothing catches it."""


@pytest.fixture
def memory(engine: FakeEngine) -> Memory:
    return Memory(engine)


@pytest.fixture
def isolator(engine: FakeEngine, journal: Journal, memory: Memory) -> Isolator:
    retry = Retry(max_attempts=2, sleep=lambda _seconds: None)
    return Isolator(engine, journal, FakeTruth(engine), retry, 0.2, 0.1, remembered=memory.get)


@pytest.fixture
def web(engine: FakeEngine, memory: Memory) -> str:
    engine.add_network("front", "10.1.0.0/24")
    web = engine.add_container("web", networks={"front": EndpointSettings(ipv4_address="10.1.0.50")})
    memory.learn(web)
    return web


def paused(engine: FakeEngine, container_id: str) -> bool:
    return bool(engine.inspect_container(container_id)["State"]["Paused"])


def test_nothing_is_asked_of_the_engine_before_the_pause(engine: FakeEngine, isolator: Isolator, web: str) -> None:
    engine.calls.clear()
    outcome = isolator.isolate(web, BOTH)
    assert outcome.ok
    asked = [method for method, _arguments in engine.calls]
    assert set(asked[: asked.index("pause")]) <= {"version"}


def test_the_entry_is_on_disk_before_the_pause(
    engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
) -> None:
    found = []
    engine.before("pause", lambda: found.append(journal.load(web)))
    isolator.isolate(web, BOTH)
    assert found[0] is not None
    assert found[0].snapshot.paused is False


def test_what_changed_since_is_in_the_snapshot_before_anything_else_is_done(
    engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
) -> None:
    back = engine.add_network("back", "10.2.0.0/24")
    engine.connect(back, web, EndpointSettings(aliases=("late",)))
    found = []
    engine.before("disconnect", lambda: found.append(journal.load(web)))
    assert isolator.isolate(web, BOTH).ok
    assert found[0] is not None
    assert [endpoint.network for endpoint in found[0].snapshot.endpoints] == ["back", "front"]
    released = isolator.release(web)
    assert released.ok
    assert sorted(engine.inspect_container(web)["NetworkSettings"]["Networks"]) == ["back", "front"]
    assert not paused(engine, web)


def test_one_that_somebody_paused_meanwhile_stays_paused_after_the_release(
    engine: FakeEngine, isolator: Isolator, web: str
) -> None:
    engine.pause(web)
    assert isolator.isolate(web, BOTH).ok
    assert isolator.release(web).ok
    assert paused(engine, web)


def test_one_that_has_ended_meanwhile_is_isolated_as_that(
    engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
) -> None:
    engine.stop(web, 0)
    outcome = isolator.isolate(web, BOTH)
    assert outcome.ok, outcome.error
    entry = journal.load(web)
    assert entry is not None
    assert not entry.snapshot.running


def test_one_that_is_gone_leaves_nothing_in_the_journal(
    engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
) -> None:
    engine.remove_container(web)
    with pytest.raises(NotFound):
        isolator.isolate(web, BOTH)
    assert journal.load(web) is None


def test_one_that_was_started_anew_meanwhile_is_that_process(
    engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
) -> None:
    engine.stop(web, 0)
    engine.start(web)
    assert isolator.isolate(web, BOTH).ok
    entry = journal.load(web)
    assert entry is not None
    assert entry.snapshot.started_at == engine.inspect_container(web)["State"]["StartedAt"]


def test_killed_between_pause_and_snapshot_a_release_gives_it_back(
    engine: FakeEngine, isolator: Isolator, journal: Journal, web: str
) -> None:
    before = engine.inspect_container(web)
    engine.fail_next("inspect_container", KilledError())
    with pytest.raises(KilledError):
        isolator.isolate(web, BOTH)
    assert paused(engine, web)
    released = Isolator(engine, journal, truth=FakeTruth(engine)).release(web)
    assert released.ok, released.error
    assert engine.inspect_container(web) == before


def test_without_an_answer_after_the_pause_nothing_more_is_done(
    engine: FakeEngine, isolator: Isolator, web: str
) -> None:
    for _attempt in range(6):
        engine.fail_next("inspect_container", EngineTimeout("no answer"))
    outcome = isolator.isolate(web, BOTH)
    assert outcome.outcome == "unknown"
    assert [step.action for step in outcome.steps] == ["pause"]
    assert paused(engine, web)


def test_a_journal_that_takes_the_first_entry_and_not_the_truth_leaves_it_paused(
    engine: FakeEngine, isolator: Isolator, journal: Journal, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.stop(web, 0)
    engine.start(web)

    def full(*_arguments: object) -> None:
        raise JournalError("cannot write: No space left on device")

    engine.before("pause", lambda: monkeypatch.setattr(journal, "store", full))
    outcome = isolator.isolate(web, BOTH)
    assert outcome.outcome == "failed"
    assert paused(engine, web)
    assert outcome.error
    assert "paused and not cut off" in outcome.error["message"]


def test_what_is_remembered_of_one_that_is_in_the_journal_does_not_count(
    engine: FakeEngine, isolator: Isolator, memory: Memory, web: str
) -> None:
    isolator.isolate(web, [Action("pause")])
    memory.learn(web)
    engine.unpause(web)
    outcome = isolator.isolate(web, BOTH)
    assert outcome.ok
    assert paused(engine, web)
    assert isolator.release(web).ok
    assert not paused(engine, web)
