# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.room import Place, Room

INFO, HIGH, CRITICAL = 0, 3, 4
NUMBERS = itertools.count()


def fill(room: Room, sender: str, severity: int = INFO, size: int = 1, most: int = 10_000) -> int:
    """How many alerts of a sender the room took before it refused one."""
    for number in range(most):
        place = {f"t-{next(NUMBERS)}": Place(sender, severity, size)}
        if room.refusal(place):
            return number
        room.take(place)
    raise AssertionError("it is never full")


def test_a_lone_sender_may_take_all_but_what_is_kept() -> None:
    room = Room(100, 1000)
    assert fill(room, "any") == 80
    assert fill(room, "any", HIGH) == 20
    assert room.alerts == 100


def test_a_sender_takes_no_more_than_its_share() -> None:
    room = Room(1000, 100_000, senders=10)
    assert fill(room, "evil") == 200
    assert fill(room, "evil", CRITICAL) == 20
    has = "220 alerts wait, of at most 200 and 20 more for high and critical alerts"
    assert room.troubles() == [f"sender evil has its share of the spool: {has}"]
    assert fill(room, "good") == 200


@pytest.mark.parametrize(("senders", "share"), [(1, 80), (2, 40), (3, 26), (4, 20), (50, 20)])
def test_the_share(senders: int, share: int) -> None:
    assert fill(Room(100, 1000, senders), "a") == share


def test_whatever_others_take_each_sender_has_room_for_what_matters_most() -> None:
    room = Room(1000, 100_000, senders=10)
    for number in range(9):
        fill(room, f"evil {number}", CRITICAL)
    assert room.refusal({"t": Place("good", INFO, 1)}).startswith("the spool is full: 980 alerts wait")
    assert room.troubles()[0].startswith("the spool is full")
    assert fill(room, "good", HIGH) == 20
    assert room.alerts == 1000


def test_bytes_are_shared_in_the_same_way() -> None:
    room = Room(100_000, 1000, senders=4)
    assert fill(room, "evil", size=10) == 20
    assert fill(room, "good", size=10) == 20
    assert room.bytes == 400


def test_messages_as_received_leave_room_for_alerts_without_them() -> None:
    room = Room(1000, 1000)
    assert not room.refusal({"t": Place("any", INFO, 400)}, with_raw=True)
    assert room.refusal({"t": Place("any", INFO, 401)}, with_raw=True)
    assert not room.refusal({"t": Place("any", INFO, 401)})


def test_what_is_larger_than_a_share_is_taken_of_whoever_has_nothing() -> None:
    room = Room(100, 1000, senders=4)
    large = {f"l-{number}": Place("a", INFO, 1) for number in range(30)}
    assert not room.refusal(large)
    room.take(large)
    assert room.refusal({"t": Place("a", INFO, 1)})
    room.give_back(large)
    assert not room.refusal(large)


def test_what_is_given_back_is_free() -> None:
    room = Room(10, 100)
    room.take({"a": Place("any", CRITICAL, 10), "b": Place("any", INFO, 20)})
    room.give_back(["a", "a", "c"])
    assert ("a" in room, "b" in room) == (False, True)
    assert (room.alerts, room.bytes) == (1, 20)
    room.give_back(["b"])
    assert fill(room, "any") == 8


senders = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(senders, st.integers(0, 4), st.integers(0, 30), st.booleans()), max_size=200))
def test_it_is_never_too_full_and_never_full_for_what_matters(steps: list[tuple[str, int, int, bool]]) -> None:
    room = Room(30, 300, senders=3)
    inside: list[tuple[str, Place]] = []
    for number, (sender, severity, size, leaves) in enumerate(steps):
        place = Place(sender, severity, size)
        if leaves and inside:
            room.give_back([inside.pop(size % len(inside))[0]])
        elif not room.refusal({str(number): place}):
            room.take({str(number): place})
            inside.append((str(number), place))
        assert (room.alerts, room.bytes) == (len(inside), sum(each.bytes for _id, each in inside))
        assert room.alerts <= 30
        assert room.bytes <= 300
        for each in "abc":
            urgent = [one.bytes for _id, one in inside if one.sender == each and one.severity >= HIGH]
            if len(urgent) < 2 and sum(urgent) < 20:
                assert not room.refusal({"t": Place(each, HIGH, 20 - sum(urgent))})
