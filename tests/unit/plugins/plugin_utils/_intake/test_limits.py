# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import (
    MOMENT,
    Connection,
    Connections,
    Requests,
    peer_of,
)


def connection(peer: str = "a", opened: float = 0.0, *, known: bool = False, spoke: bool = False) -> Connection:
    return Connection(peer, opened, lambda: None, known=known, spoke=spoke)


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("this machine", "this machine"),
    ],
)
def test_whom_an_address_stands_for(address: str, peer: str) -> None:
    assert peer_of(address) == peer


def test_the_oldest_on_which_nobody_proved_himself_gives_way() -> None:
    connections = Connections(3, 3)
    known, first, second = connection("a", known=True), connection("b", 1), connection("c", 2)
    for each in (known, first, second):
        assert connections.admit(each) == (True, None)
    assert connections.admit(connection("d", 3)) == (True, first)
    assert connections.admit(connection("e", 3)) == (True, second)
    assert len(connections) == 3


def test_where_all_are_known_a_new_one_is_refused() -> None:
    connections = Connections(1, 1)
    connections.admit(known := connection(known=True))
    refused = connection("b", 99)
    assert connections.admit(refused) == (False, None)
    connections.forget(refused)
    connections.forget(known)
    connections.forget(known)
    assert len(connections) == 0
    assert connections.admit(refused) == (True, None)


def test_one_address_takes_the_places_of_its_own_only_and_gives_each_a_moment() -> None:
    connections = Connections(9, 2)
    other, first, second = connection("b", 0), connection("a", 0), connection("a", 1)
    for each in (other, first, second):
        connections.admit(each)
    # A burst of good ones must not close each other.
    assert connections.admit(connection("a", MOMENT - 0.1)) == (False, None)
    assert connections.admit(connection("a", MOMENT)) == (True, first)
    assert len(connections) == 3


def test_those_without_a_request() -> None:
    connections = Connections(9, 9)
    first, spoke, last = connection(opened=1), connection(opened=2, spoke=True), connection(opened=3)
    for each in (first, spoke, last):
        connections.admit(each)
    assert connections.silent_since(3) == [first]
    assert connections.silent_since(4) == [first, last]


async def test_places_of_one_address_and_of_all() -> None:
    requests = Requests(2, 1)
    requests.take("a")
    assert requests.full("a")
    assert not requests.full("b")
    waiting = asyncio.create_task(requests.wait("a"))
    await asyncio.sleep(0)
    requests.take("b")
    assert requests.full("c")
    other = asyncio.create_task(requests.wait("c"))
    await asyncio.sleep(0)
    requests.leave("b")
    await asyncio.wait_for(other, 10)  # passes by the one of "a", who has all that he may have
    assert not waiting.done()
    requests.leave("a")
    await asyncio.wait_for(waiting, 10)
    requests.leave("a")
    requests.leave("c")
    assert not requests.full("a")


async def test_who_stops_waiting_holds_no_place() -> None:
    requests = Requests(1, 1)
    requests.take("a")
    for peer in ("a", "b"):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(requests.wait(peer), 0.01)
    # One that is given a place at the moment in which it stops waiting gives it back.
    waiting = asyncio.create_task(requests.wait("b"))
    await asyncio.sleep(0)
    requests.leave("a")
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not requests.full("b")
