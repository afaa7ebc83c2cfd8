# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import heartbeats
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.heartbeats import Heartbeats, Host
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reports import Heartbeat

START = 1_775_000_000.0


class Fleet:
    """Hosts that send heartbeats, a clock that a test moves, and what was told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.written: dict[str, Host] = {}
        self.differing: dict[str, list[str]] = {}
        self.told: list[dict[str, t.Any]] = []
        self.restart()

    def restart(self) -> None:
        self.beats = Heartbeats(self.written, self.differing, self.now)

    def take(self, change: heartbeats.Change) -> None:
        self.beats.take(change)
        for name, host in change.hosts.items():
            if host is None:
                del self.written[name]
            else:
                self.written[name] = host
        if change.differing is not None:
            self.differing = dict(change.differing)
        self.told += change.events

    def beat(self, *hosts: str, state: str = "ready", digest: str = "one", interval: float = 10, **more: t.Any) -> None:
        for host in hosts:
            beat = Heartbeat(interval, state, policy_set_digest=digest, **more)
            self.take(self.beats.beat(host, beat, self.now, START + self.now))

    def wait(self, seconds: float) -> None:
        """Time passes, and is looked at once a second."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1)
            self.take(self.beats.look(self.now, START + self.now))

    def kinds(self) -> list[tuple[str, str]]:
        found = [(next(iter(event)), event.get("host", "")) for event in self.told]
        self.told.clear()
        return found


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_a_host_is_missing_once_and_back_once(fleet: Fleet) -> None:
    fleet.beat("web-1", "web-2")
    fleet.wait(25)
    fleet.beat("web-2")
    assert fleet.kinds() == []
    fleet.wait(10)
    assert fleet.told == [
        {"missing": {"host": "web-1", "last_heartbeat": "2026-03-31T23:35:00.000000Z", "interval": 10}, "host": "web-1"}
    ]
    assert fleet.beats.figures() == {"hosts_reporting": 1, "hosts_missing": 1, "hosts_degraded": 0}
    assert fleet.beats.ages(fleet.now) == {"web-1": 35, "web-2": 10}
    fleet.told.clear()
    for _ in range(10):
        fleet.beat("web-2")
        fleet.wait(10)
    assert fleet.kinds() == []
    fleet.beat("web-1")
    assert fleet.told == [
        {
            "back": {"host": "web-1", "state": "ready", "missing_since": "2026-03-31T23:35:00.000000Z"},
            "host": "web-1",
        }
    ]
    fleet.told.clear()
    fleet.beat("web-1")
    assert fleet.kinds() == []


def test_each_host_by_its_own_interval(fleet: Fleet) -> None:
    fleet.beat("web-1", interval=1)
    fleet.beat("web-2", interval=100)
    fleet.wait(5)
    assert fleet.kinds() == [("missing", "web-1")]
    fleet.wait(290)
    assert fleet.kinds() == []
    fleet.wait(10)
    assert fleet.kinds() == [("missing", "web-2")]


def test_while_nobody_listened_nobody_was_missed(fleet: Fleet) -> None:
    fleet.beat("web-1", "web-2")
    fleet.wait(25)
    fleet.now += 3600
    fleet.restart()
    fleet.wait(25)
    assert fleet.kinds() == []
    fleet.beat("web-1")
    fleet.wait(10)
    assert fleet.kinds() == [("missing", "web-2")]
    fleet.restart()
    fleet.wait(20)
    assert fleet.kinds() == []  # it was told before
    fleet.beat("web-2")
    assert fleet.kinds() == [("back", "web-2")]


def test_a_controller_that_stood_still_misses_nobody_for_it(fleet: Fleet) -> None:
    fleet.beat("web-1")
    fleet.wait(20)
    fleet.now += 600
    fleet.wait(9)
    assert fleet.kinds() == []
    fleet.wait(5)
    assert fleet.kinds() == [("missing", "web-1")]


def test_degraded_is_told_when_it_changes(fleet: Fleet) -> None:
    fleet.beat("web-1", state="degraded", troubles=("the engine does not answer",), version="1.0.0")
    assert fleet.told == [
        {
            "degraded": {"host": "web-1", "troubles": ["the engine does not answer"], "version": "1.0.0"},
            "host": "web-1",
        }
    ]
    assert fleet.beats.figures()["hosts_degraded"] == 1
    fleet.told.clear()
    fleet.beat("web-1", state="degraded", troubles=("it has not answered for 75 seconds",))
    assert fleet.kinds() == []
    fleet.restart()
    fleet.beat("web-1", state="degraded")
    assert fleet.kinds() == []
    fleet.beat("web-1", state="draining")
    assert fleet.kinds() == [("recovered", "web-1")]
    fleet.beat("web-1")
    assert fleet.kinds() == []
    fleet.wait(31)
    assert fleet.kinds() == [("missing", "web-1")]
    fleet.beat("web-1", state="degraded")
    assert fleet.kinds() == [("back", "web-1"), ("degraded", "web-1")]


def test_digests_that_differ_are_told_when_that_lasts(fleet: Fleet) -> None:
    fleet.beat("web-1", "web-2", "web-3")
    fleet.wait(20)
    for host in ("web-1", "web-2", "web-3"):  # a deployment
        fleet.beat("web-1", "web-2", "web-3")
        fleet.beat(host, digest="two")
        fleet.wait(5)
    for host in ("web-1", "web-2", "web-3"):
        fleet.beat(host, digest="two")
    fleet.wait(25)
    assert fleet.kinds() == []
    fleet.beat("web-1", "web-3", digest="two")
    fleet.beat("web-2", digest="one")
    fleet.wait(25)
    sets = [
        {"digest": "two", "number": 2, "hosts": ["web-1", "web-3"]},
        {"digest": "one", "number": 1, "hosts": ["web-2"]},
    ]
    assert fleet.told == [{"digests": {"differ": True, "sets": sets}}]
    fleet.told.clear()
    fleet.restart()
    for _ in range(5):
        fleet.beat("web-1", "web-3", digest="two")
        fleet.beat("web-2", digest="one")
        fleet.wait(10)
    assert fleet.kinds() == []
    fleet.beat("web-1", "web-2", "web-3", digest="two")
    fleet.wait(22)
    assert fleet.told == [{"digests": {"differ": False, "sets": []}}]


def test_a_host_without_policies_differs_and_one_that_is_missing_does_not(fleet: Fleet) -> None:
    fleet.beat("web-1")
    fleet.beat("web-2", digest="")
    fleet.wait(25)
    assert [event["digests"]["differ"] for event in fleet.told] == [True]
    fleet.told.clear()
    for _ in range(6):
        fleet.beat("web-1")
        fleet.wait(10)
    assert fleet.kinds() == [("missing", "web-2"), ("digests", "")]


def test_a_host_that_is_long_gone_is_forgotten(fleet: Fleet) -> None:
    fleet.beat("web-1")
    fleet.wait(32)
    assert fleet.kinds() == [("missing", "web-1")]
    fleet.now += heartbeats.FORGOTTEN
    fleet.wait(1)
    assert (fleet.written, fleet.beats.hosts, fleet.beats.ages(fleet.now), fleet.kinds()) == ({}, {}, {}, [])
    fleet.beat("web-1")
    assert fleet.kinds() == []


def test_nothing_is_written_of_a_heartbeat_that_says_nothing_new(fleet: Fleet) -> None:
    fleet.beat("web-1")
    fleet.wait(10)
    quiet = fleet.beats.beat("web-1", Heartbeat(10, "ready", policy_set_digest="one"), fleet.now, START + fleet.now)
    assert not quiet
    fleet.take(quiet)
    assert fleet.beats.ages(fleet.now) == {"web-1": 0}
    fleet.wait(31)
    assert fleet.told[0]["missing"]["last_heartbeat"] == "2026-03-31T23:35:10.000000Z"


def test_hosts_are_bounded(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "MOST_HOSTS", 2)
    fleet.beat("web-1", "web-2")
    assert fleet.beats.full("web-3")
    assert not fleet.beats.full("web-2")


def test_an_event_of_digests_is_bounded(fleet: Fleet) -> None:
    fleet.beat(*(f"web-{number}" for number in range(200)))
    for number in range(100):
        fleet.beat(f"db-{number}", digest=f"digest-{number}")
    fleet.wait(25)
    sets = fleet.told[0]["digests"]["sets"]
    assert (len(sets), sets[0]["number"], len(sets[0]["hosts"])) == (50, 200, 50)
