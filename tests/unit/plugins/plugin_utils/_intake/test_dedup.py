# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.dedup import Dedup, key_of
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import alert

A, B = b"a" * 16, b"b" * 16


def folded_into(dedup: Dedup, key: bytes, now: float) -> str:
    first = dedup.first(key, now)
    return first.trace_id if first else ""


@pytest.mark.parametrize(
    "change",
    [
        {"message": "another text"},
        {"id": "another-id"},
        {"trace_id": "another"},
        {"time": "2026-04-05T12:43:02.000000Z"},
        {"received_at": "2026-04-05T12:43:02.000000Z"},
        {"raw": "QUJD"},
        {"raw_sha256": "0" * 64},
        {"container": ContainerRef(id="6bc1b4be90d6", name="shop", image="alpine")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_repeat_differs_in_text_and_time_only(change: dict[str, t.Any]) -> None:
    first = alert(container={"id": "6bc1b4be90d6", "name": "shop"})
    assert key_of(dataclasses.replace(first, **change)) == key_of(first)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "web-2"},
        {"inventory_host": "web-2"},
        {"source": "other"},
        {"rule": "other"},
        {"severity": Severity.CRITICAL},
        {"tags": ("other",)},
        {"container": ContainerRef(id="6bc1b4be90d7")},
        {"container": ContainerRef(name="6bc1b4be90d6")},
        {"container": ContainerRef()},
    ],
    ids=lambda change: str(change),
)
def test_what_is_another_alert_is_no_repeat(change: dict[str, t.Any]) -> None:
    first = alert(container={"id": "6bc1b4be90d6"})
    assert key_of(dataclasses.replace(first, **change)) != key_of(first)


def test_a_container_of_that_name_is_not_one_with_that_id() -> None:
    names = {key_of(Alert("i", "t", "s", "r", Severity.LOW, "", container=ContainerRef(name=name))) for name in "ab"}
    assert len(names) == 2


def test_what_goes_to_other_hosts_is_no_repeat() -> None:
    """Two senders that each have hosts of their own may say the same of a container that nobody knows."""
    said = alert(host="", container={"id": "6bc1b4be90d6"})
    assert key_of(said, ("dev-1", "dev-2")) != key_of(said, ("prod-1", "prod-2"))
    assert key_of(said, ("dev-1", "dev-2")) == key_of(said, ("dev-2", "dev-1"))


def test_repeats_fold_while_the_first_is_open() -> None:
    dedup = Dedup(10, 10)
    assert folded_into(dedup, A, 0) == ""
    dedup.add(A, 1, "first")
    assert folded_into(dedup, A, 1e9) == "first"
    assert folded_into(dedup, B, 0) == ""


@pytest.mark.parametrize("outcome", [*OUTCOMES, ""])
def test_after_it_has_ended_repeats_fold_only_where_the_answer_would_be_the_same(outcome: str) -> None:
    dedup = Dedup(isolated_for=10, decided_for=20)
    dedup.add(A, 1, "first")
    dedup.end(1, outcome, 100)
    seconds = {"isolated": 10, "no_policy": 20, "protected": 20, "audit": 20}.get(outcome, 0)
    for later in (0, 9.9, 10, 19.9, 20):
        assert folded_into(dedup, A, 100 + later) == ("first" if later < seconds else "")
    assert folded_into(dedup, A, 50) == "", "the clock was set back"


def test_an_alert_that_came_after_takes_over() -> None:
    dedup = Dedup(10, 10)
    dedup.add(A, 1, "first")
    dedup.end(1, "failed", 100)
    dedup.add(A, 2, "second")
    assert dedup.end(1, "isolated", 101) == 0, "it has ended before"
    assert folded_into(dedup, A, 101) == "second"


def test_an_ended_alert_does_not_end_the_one_after_it() -> None:
    dedup = Dedup(10, 10)
    dedup.add(A, 1, "first")
    dedup.end(1, "audit", 100)
    dedup.add(A, 2, "second")  # after the clock was set back, for example
    dedup.add(B, 3, "other")
    dedup.end(3, "audit", 200)  # which clears away the old
    assert folded_into(dedup, A, 201) == "second"


def test_what_was_not_stored_after_all_takes_no_repeats() -> None:
    dedup = Dedup(10, 10)
    dedup.add(A, 1, "first")
    dedup.withdraw(1)
    dedup.withdraw(2)
    assert folded_into(dedup, A, 0) == ""


def test_repeats_are_counted() -> None:
    dedup = Dedup(10, 10)
    dedup.add(A, 1, "first")
    for _number in range(3):
        first = dedup.first(A, 0)
        assert first is not None
        first.folded += 1
    assert dedup.end(1, "isolated", 0) == 3


def test_when_policies_change_nothing_is_folded_into_what_was_decided() -> None:
    dedup = Dedup(10, 10)
    for number, (key, outcome) in enumerate([(A, "no_policy"), (B, "")]):
        dedup.add(key, number, "first")
        if outcome:
            dedup.end(number, outcome, 0)
    dedup.forget_ended()
    assert (folded_into(dedup, A, 1), folded_into(dedup, B, 1)) == ("", "first")


def test_what_ended_before_a_restart() -> None:
    dedup = Dedup(10, 10)
    dedup.recall(A, 1, "first", "audit", 95, 100)
    dedup.recall(B, 2, "other", "failed", 95, 100)
    assert [folded_into(dedup, key, 104) for key in (A, B)] == ["first", ""]
    assert folded_into(dedup, A, 105) == ""


def test_what_is_answered_takes_no_repeats_while_somebody_is_told() -> None:
    dedup = Dedup(10, 10)
    dedup.add(b"a", 1, "t-1")
    first = dedup.first(b"a", 0.0)
    assert first is not None
    first.folded += 1
    dedup.answered(1)
    assert dedup.first(b"a", 0.0) is None
    dedup.add(b"a", 2, "t-2")
    assert dedup.end(1, "audit", 1.0) == 1
    later = dedup.first(b"a", 1.0)
    assert later is not None
    assert (later.trace_id, later.until) == ("t-2", None)


def test_it_does_not_grow() -> None:
    dedup = Dedup(10, 10)
    for number in range(1000):
        key = b"%16d" % number
        dedup.add(key, number, "t")
        dedup.end(number, "audit", number)
    assert len(dedup._firsts) <= 12
    assert len(dedup._leaving) <= 12
    assert dedup._open == {}
