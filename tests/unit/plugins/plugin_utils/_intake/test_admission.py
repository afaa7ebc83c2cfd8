# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Reading, Rejected
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import admission as module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import Sender
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Offer, SpoolError, Stored

ANYBODY = Sender()


class Spool:
    """Remembers what it was asked to store."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[Offer], dict[str, int], t.Any]] = []
        self.failure: SpoolError | None = None

    async def store(self, offers: t.Any, counts: t.Any = None, position: t.Any = None) -> list[Stored]:
        if self.failure:
            raise self.failure
        self.calls.append((list(offers), dict(counts), position))
        return [Stored(offer.alert.trace_id) for offer in offers]


class Wanted:
    """Wants all but some rules."""

    digest = "set-1"

    def __init__(self, *unwanted: str) -> None:
        self.unwanted = unwanted

    def wants(self, alert: Alert, hosts: t.Sequence[str]) -> bool:
        assert hosts
        return alert.rule not in self.unwanted


def alert(host: str = "", rule: str = "r") -> Alert:
    return Alert.from_dict({"source": "s", "rule": rule, "severity": "low", "host": host})


def reading(*alerts: Alert) -> Reading:
    return Reading(alerts, places=tuple(range(len(alerts))))


def admission(*unwanted: str, inventory: Inventory | None = None, **options: t.Any) -> tuple[Admission, Spool]:
    spool = Spool()
    parsed = parse_options({"token": "correct-horse-battery", **options})
    return Admission(parsed, spool, Wanted(*unwanted), Counters(), lambda: inventory), spool


async def test_hosts_are_mapped() -> None:
    admit, spool = admission(hosts=["web-2"], host_map={"0aa": "web-1"})
    await admit.admit(reading(alert("web-2"), alert("0aa"), alert("web-9")), ANYBODY)
    ((offers, counts, position),) = spool.calls
    assert [(offer.alert.inventory_host, offer.targets) for offer in offers] == [
        ("web-2", ("web-2",)),
        ("web-1", ("web-1",)),
        ("", ("all",)),
    ]
    assert counts == {}
    assert position is None


async def test_where_the_inventory_is_known_lookup_hosts_are_hosts() -> None:
    fleet = Inventory({"all": frozenset(["web-1", "web-2", "db-1"]), "web": frozenset(["web-1", "web-2"])})
    admit, spool = admission(inventory=fleet, lookup_hosts=["web"])
    await admit.admit(reading(alert("web-9")), ANYBODY)
    assert spool.calls[0][0][0].targets == ("web-1", "web-2")
    assert spool.calls[0][0][0].sender == "any"


@pytest.mark.parametrize("fleet", [None, Inventory({"all": frozenset(["web-1"])})])
async def test_without_lookup_hosts_alerts_of_unknown_hosts_are_rejected(fleet: Inventory | None) -> None:
    admit, spool = admission(inventory=fleet, hosts=["web-1"], lookup_hosts=["nobody"] if fleet else [])
    admitted = await admit.admit(reading(alert("web-9"), alert("web-1"), alert("")), ANYBODY)
    assert [(one.index, one.kind, one.reason) for one in admitted.rejected] == [
        (0, "unknown_host", "host web-9 is not known"),
        (2, "unknown_host", "host (none) is not known"),
    ]
    assert len(admitted.stored) == 1
    assert spool.calls[0][1] == {"rejected": 2}


async def test_a_host_of_the_inventory_that_is_somebody_elses_by_any_name() -> None:
    fleet = Inventory({"all": frozenset(["web-1", "web-2"])})
    sender = Sender("s", ("web-1",))
    admit, _spool = admission(inventory=fleet)
    admitted = await admit.admit(reading(alert("web-2"), alert("web-9")), sender)
    assert [one.kind for one in admitted.rejected] == ["foreign_host"]
    assert [stored.inventory_host for stored, _ in admitted.stored] == ["web-1"]


async def test_what_was_rejected_before_comes_first_where_it_stood() -> None:
    admit, spool = admission("unwanted", hosts=["a"], lookup_hosts=[])
    read = Reading(
        (alert("a"), alert("b"), alert("a", "unwanted")),
        (Rejected(1, "invalid_alert", "x"), Rejected(4, "invalid_alert", "y")),
        {"resolved": 2},
        places=(0, 3, 5),
    )
    admitted = await admit.admit(read, ANYBODY)
    assert [one.index for one in admitted.rejected] == [1, 3, 4]
    assert spool.calls[0][1] == {"dropped": 1, "rejected": 3, "passed_over": 2}
    assert admitted.to_dict()["passed_over"] == {"resolved": 2}
    assert (admitted.dropped, admitted.anything) == (1, True)


async def test_of_a_full_spool_nothing_was_taken_or_counted() -> None:
    admit, spool = admission("unwanted")
    spool.failure = SpoolError("full", kind="spool_full")
    with pytest.raises(SpoolError):
        await admit.admit(reading(alert()), ANYBODY)
    assert admit._counters.by("elements_of_sender_total", "sender") == {}


async def test_lines_of_a_file_are_stored_with_its_position() -> None:
    admit, spool = admission()
    await admit.admit(reading(alert("x")), Sender("file"), default_host="web-1", position=("/f", {"offset": 3}))
    ((offers, _counts, position),) = spool.calls
    assert (offers[0].targets, offers[0].sender) == (("web-1",), "file")
    assert position == ("/f", {"offset": 3})


async def test_what_is_dropped_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    admit, _spool = admission("noise", hosts=["web-1"])
    await admit.admit(reading(alert("web-1", "noise")), ANYBODY)
    assert caplog.messages == []
    monkeypatch.setattr(module, "_TELL_DROPPED", 0)
    await admit.admit(reading(alert("web-1", "noise"), alert("web-9", "noise")), ANYBODY)
    assert caplog.messages == ["Dropped 3 alerts so far that no policy wants: 2 of web-1 s noise, 1 of web-9 s noise"]


names = st.sampled_from(["", "web-1", "web-2", "0aa", "stranger"])


@given(st.lists(st.tuples(names, st.sampled_from(["r", "noise"])), max_size=8), st.sampled_from(["a", "b", "c"]))
def test_each_element_is_in_one_account(elements: list[tuple[str, str]], which: str) -> None:
    sender = {"a": ANYBODY, "b": Sender("b", ("web-1",)), "c": Sender("c", ("web-1", "web-2"))}[which]

    async def check() -> None:
        admit, spool = admission("noise", hosts=["web-1"], host_map={"0aa": "web-2"}, lookup_hosts=[])
        admitted = await admit.admit(reading(*(alert(*element) for element in elements)), sender)
        assert len(admitted.stored) + admitted.dropped + len(admitted.rejected) == len(elements)
        ((offers, counts, _position),) = spool.calls
        assert len(offers) + sum(counts.values()) == len(elements)
        for offer in offers:
            assert offer.targets
            assert set(offer.targets) <= set(sender.hosts or offer.targets)

    asyncio.run(check())


async def test_of_what_was_stored_and_rejected_it_is_said_where_it_was(caplog: pytest.LogCaptureFixture) -> None:
    admit, _spool = admission("noise", hosts=["web-1"], lookup_hosts=[])
    alerts = (alert("web-1", "a"), alert("web-1", "noise"), alert("web-9", "b"), alert("web-1", "c"))
    admitted = await admit.admit(
        Reading(alerts, places=(0, 2, 5, 7)), ANYBODY, where=lambda place: f" (offset {40 + place})"
    )
    assert [(stored.rule, place) for (stored, _as), place in zip(admitted.stored, admitted.places, strict=True)] == [
        ("a", 0),
        ("c", 7),
    ]
    assert "Rejected an alert of sender any (offset 45): host web-9 is not known" in caplog.text
