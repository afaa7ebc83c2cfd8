# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The list of containers: asked for seldom, never believed for too long."""

from __future__ import annotations

import concurrent.futures
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineTimeout,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import MISS_AGE, Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

ID = "0123456789ab" + "c" * 52
GONE = "f" * 64


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.add_container("web", container_id=ID)
    engine.add_container("bystander")
    return engine


@pytest.fixture
def inventory(engine: FakeEngine, clock: Clock) -> Inventory:
    return Inventory(engine, ttl=60, clock=clock)


def lists(engine: FakeEngine) -> int:
    return engine.calls.count(("list_containers", ()))


def ids(entries: t.Iterable[dict[str, t.Any]]) -> set[str]:
    return {entry["Id"] for entry in entries}


@pytest.mark.parametrize("ttl", [0, 0.5, 3601])
def test_a_ttl_out_of_bounds(engine: FakeEngine, ttl: float) -> None:
    with pytest.raises(GuardError, match=r"ttl is .* from 1 to 3600") as caught:
        Inventory(engine, ttl=ttl)
    assert caught.value.kind == "invalid_option"


def test_entries_are_as_the_engine_gives_them(engine: FakeEngine, inventory: Inventory) -> None:
    assert inventory.all() == engine.list_containers()


@pytest.mark.parametrize("length", [12, 24, 31, 64])
def test_by_id(inventory: Inventory, length: int) -> None:
    assert ids(inventory.by_id(ID[:length])) == {ID}


@pytest.mark.parametrize("prefix", ["", ID[:11]])
def test_a_prefix_that_is_too_short_matches_nothing(inventory: Inventory, prefix: str) -> None:
    assert inventory.by_id(prefix) == []


def test_all_that_match_are_returned(engine: FakeEngine, inventory: Inventory) -> None:
    twin = engine.add_container("twin", container_id=ID[:12] + "d" * 52)
    namesake = engine.add_container("web")
    assert ids(inventory.by_id(ID[:12])) == {ID, twin}
    assert ids(inventory.by_id(ID[:13])) == {ID}
    assert ids(inventory.by_name("web")) == {ID, namesake}


def test_a_name_is_exact_and_no_legacy_link(engine: FakeEngine, inventory: Inventory) -> None:
    engine.add_container("db", link_names=["/web/database"])
    for name in ("", "we", "WEB", "/web", "database", "web/database"):
        assert inventory.by_name(name) == []


def test_the_list_is_believed_for_the_ttl(engine: FakeEngine, inventory: Inventory, clock: Clock) -> None:
    assert (inventory.age, inventory.fresh) == (None, False)
    inventory.all()
    clock.now += 59
    assert (inventory.age, inventory.fresh) == (59, True)
    inventory.by_name("web")
    assert lists(engine) == 1
    clock.now += 1
    assert (inventory.age, inventory.fresh) == (60, False)
    inventory.by_name("web")
    assert lists(engine) == 2
    assert inventory.age == 0


def test_refresh_lists_at_once(engine: FakeEngine, inventory: Inventory) -> None:
    inventory.all()
    new = engine.add_container("new")
    assert new not in ids(inventory.all())
    inventory.refresh()
    assert new in ids(inventory.all())
    assert lists(engine) == 2


def test_invalidate_lists_when_next_asked(engine: FakeEngine, inventory: Inventory) -> None:
    inventory.all()
    inventory.invalidate()
    assert lists(engine) == 1
    assert not inventory.fresh
    inventory.all()
    inventory.all()
    assert lists(engine) == 2


def test_invalidated_while_the_engine_lists(engine: FakeEngine, inventory: Inventory) -> None:
    """What is being listed was asked for before."""
    engine.before("list_containers", inventory.invalidate)
    inventory.all()
    assert not inventory.fresh


def test_a_container_started_since_is_found(engine: FakeEngine, inventory: Inventory, clock: Clock) -> None:
    inventory.all()
    clock.now += MISS_AGE
    new = engine.add_container("new")
    assert ids(inventory.by_id(new[:12])) == {new}
    assert ids(inventory.by_name("new")) == {new}
    assert lists(engine) == 2


def test_many_questions_about_what_is_gone_are_few_lists(
    engine: FakeEngine, inventory: Inventory, clock: Clock
) -> None:
    for _question in range(1000):
        assert inventory.by_id(GONE) == []
        clock.now += MISS_AGE / 500
    assert lists(engine) <= 3


def test_a_listing_does_not_change(engine: FakeEngine, inventory: Inventory) -> None:
    before = inventory.listing()
    engine.pause(ID)
    inventory.reread(ID)
    assert before.entries[ID]["State"] == "running"
    assert inventory.listing().entries[ID]["State"] == "paused"
    assert inventory.listing().number == before.number
    assert lists(engine) == 1


def test_reread_of_what_is_gone_and_of_what_is_new(engine: FakeEngine, inventory: Inventory) -> None:
    inventory.all()
    new = engine.add_container("new")
    engine.remove_container(ID)
    inventory.reread(new)
    inventory.reread(ID)
    assert ids(inventory.all()) == ids(engine.list_containers())


def test_reread_keeps_only_what_was_asked_for(engine: FakeEngine, inventory: Inventory) -> None:
    """An engine that ignores the filter, as it does with filters that it does not know, answers with all."""
    inventory.all()
    new = engine.add_container("new")
    inventory.reread(ID[:12])
    assert new not in ids(inventory.all())


def test_followed_it_does_not_age(engine: FakeEngine, inventory: Inventory, clock: Clock) -> None:
    inventory.all()
    inventory.follow(True)
    clock.now += 3600
    assert (inventory.age, inventory.fresh) == (0, True)
    inventory.by_name("web")
    assert lists(engine) == 1
    inventory.follow(False)
    assert (inventory.age, inventory.fresh) == (3600, False)


def test_an_error_passes_and_the_next_question_asks_again(engine: FakeEngine, inventory: Inventory) -> None:
    engine.fail_next("list_containers", EngineTimeout("no answer"))
    with pytest.raises(EngineTimeout):
        inventory.all()
    assert ids(inventory.by_id(ID)) == {ID}


def test_an_aged_list_is_no_answer_while_the_engine_is_down(
    engine: FakeEngine, inventory: Inventory, clock: Clock
) -> None:
    inventory.all()
    clock.now += 60
    engine.fail_next("list_containers", EngineUnreachable("dead"))
    with pytest.raises(EngineUnreachable):
        inventory.by_id(ID)
    assert inventory.age == 60


@pytest.mark.parametrize("error", [None, EngineTimeout("no answer")])
def test_many_who_ask_at_once_are_one_call(
    engine: FakeEngine, inventory: Inventory, error: EngineTimeout | None
) -> None:
    """Also where it fails: a frozen engine costs all of them one timeout, not one each."""
    listing, others = threading.Event(), threading.Event()

    def wait_for_the_others() -> None:
        listing.set()
        assert others.wait(timeout=30)

    engine.before("list_containers", wait_for_the_others)
    engine.fail_next("list_containers", error)

    def ask() -> object:
        try:
            return ids(inventory.by_id(ID))
        except EngineTimeout as raised:
            return raised

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        first = pool.submit(ask)
        assert listing.wait(timeout=30)
        answers = [first, *(pool.submit(ask) for _ in range(19))]
        others.set()
    # Who came when the call was over was answered from memory, or asked again where it had failed.
    assert all(answer.result() in ({ID}, error) for answer in answers)
    if error is None:
        assert lists(engine) == 1


def test_refresh_does_not_take_a_call_that_began_before(engine: FakeEngine, inventory: Inventory) -> None:
    late: list[concurrent.futures.Future[t.Any]] = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def change() -> None:
            # The second question comes while the first is being answered, and must see what changes from here on.
            begun = inventory.begun
            late.append(pool.submit(inventory.listing, begun))

        engine.before("list_containers", change)
        first = inventory.listing()
        second = late[0].result(timeout=30)
    assert second.number == first.number + 1
    assert lists(engine) == 2


def test_an_older_answer_does_not_undo_a_newer_one(engine: FakeEngine, inventory: Inventory) -> None:
    """A container is read again while a list is under way: the answers are kept in the order they were given."""
    inventory.all()
    rereads: list[concurrent.futures.Future[None]] = []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def pause() -> None:
            engine.pause(ID)
            rereads.append(pool.submit(inventory.reread, ID))

        engine.before("list_containers", pause)
        inventory.refresh()
        rereads[0].result(timeout=30)
    assert inventory.by_id(ID)[0]["State"] == "paused"
