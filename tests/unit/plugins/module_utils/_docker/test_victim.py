# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Victims of drills."""

from __future__ import annotations

import datetime

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, EngineTimeout
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.victim import (
    LABEL,
    MAX_LIFETIME,
    PREFIX,
    VictimError,
    Victims,
)
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine, image_id_of

NOW = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    for tag in ("a:1", "b:2"):
        engine.add_image(image_id_of(tag), [tag])
    engine.add_image("sha256:" + "0d" * 32, ["<none>:<none>"])
    return engine


def names(engine: FakeEngine) -> list[str]:
    return [one["Names"][0].lstrip("/") for one in engine.list_containers()]


def test_it_runs_and_is_removed(engine: FakeEngine) -> None:
    victims = Victims(engine)
    victim = victims.make("b:2", 60)
    assert victim.name.startswith(PREFIX)
    assert victim.labels == {LABEL: "true"}
    assert engine.state_of(victim.id) == "running"
    assert victims.remove(victim.id)
    assert names(engine) == []
    assert not victims.remove(victim.id)


def test_an_isolated_one_is_removed_too(engine: FakeEngine) -> None:
    victim = Victims(engine).make("", 60)
    engine.pause(victim.id)
    assert Victims(engine).remove(victim.id)


def test_without_an_image_those_of_the_host_are_tried(engine: FakeEngine) -> None:
    engine.fail_next("start", EngineError("no sleep in it", status=400))
    assert Victims(engine).make("", 60).images == ("b:2",)
    assert len(names(engine)) == 1, "what could not be started is gone"


def test_where_no_image_can_be_run_it_is_said_of_each(engine: FakeEngine) -> None:
    for _image in range(2):
        engine.fail_next("start", EngineError("no sleep in it", status=400))
    with pytest.raises(VictimError, match="a:1: no sleep in it; b:2: no sleep in it"):
        Victims(engine).make("", 60)
    with pytest.raises(VictimError, match="No such image"):
        Victims(engine).make("c:3", 60)
    with pytest.raises(VictimError, match="no image with a tag"):
        Victims(FakeEngine()).make("", 60)
    assert names(engine) == []


def test_an_engine_that_does_not_answer_is_not_asked_again(engine: FakeEngine) -> None:
    engine.fail_next("create_container", EngineTimeout("no answer"))
    with pytest.raises(EngineTimeout):
        Victims(engine).make("", 60)


@pytest.mark.parametrize(
    ("name", "labels"),
    [("web", {LABEL: "true"}), (f"{PREFIX}1", {}), (f"{PREFIX}1", {LABEL: "no"}), ("web", {})],
)
def test_nothing_else_is_ever_removed(engine: FakeEngine, name: str, labels: dict[str, str]) -> None:
    old = NOW - datetime.timedelta(days=1)
    container = engine.add_container(name, labels=labels, created=old)
    with pytest.raises(VictimError, match="not made for a drill") as caught:
        Victims(engine).remove(container)
    assert caught.value.kind == "not_a_victim"
    assert Victims(engine).remove_forgotten(NOW) == []
    assert names(engine) == [name]


def test_those_that_were_forgotten_are_removed(engine: FakeEngine) -> None:
    for name, age in (("old", MAX_LIFETIME + 1), ("new", MAX_LIFETIME - 1)):
        created = NOW - datetime.timedelta(seconds=age)
        engine.add_container(PREFIX + name, labels={LABEL: "true"}, created=created)
    assert Victims(engine).remove_forgotten(NOW) == [f"{PREFIX}old"]
    assert names(engine) == [f"{PREFIX}new"]
