# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import tracemalloc
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.repeats import MOST, Repeats

ALERT = Alert(
    id="a",
    trace_id="t",
    source="falco",
    rule="Shell",
    severity=Severity.HIGH,
    received_at="",
    host="6bc1b4be90d6",
    container=ContainerRef(id="0123456789ab"),
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repeats(clock: Clock) -> Repeats:
    return Repeats(10.0, clock)


def test_the_same_again_is_a_repeat_until_the_window_ends(repeats: Repeats, clock: Clock) -> None:
    assert [repeats.is_repeat(ALERT), repeats.is_repeat(ALERT)] == [False, True]
    clock.now += 9.9
    assert repeats.is_repeat(ALERT)
    clock.now += 0.1  # which that one has not lengthened
    assert [repeats.is_repeat(ALERT), repeats.is_repeat(ALERT)] == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "b", "trace_id": "u"},
        {"message": "another process id"},
        {"time": "2026-04-05T12:43:02Z", "received_at": "2026-04-05T12:43:03Z"},
        {"raw": "AAAA", "raw_sha256": "0" * 64},
        {"container": ContainerRef(id="0123456789ab", image="shop:4.2")},
    ],
)
def test_what_differs_between_repeats(repeats: Repeats, changes: dict[str, t.Any]) -> None:
    assert [repeats.is_repeat(ALERT), repeats.is_repeat(dataclasses.replace(ALERT, **changes))] == [False, True]


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "web-1"},
        {"inventory_host": "web-1"},
        {"source": "wazuh"},
        {"rule": "Miner"},
        {"severity": Severity.CRITICAL},
        {"tags": ("network",)},
        {"container": ContainerRef(id="0123456789ac")},
        {"container": ContainerRef(name="0123456789ab")},
        {"container": ContainerRef()},
    ],
)
def test_what_makes_another_alert(repeats: Repeats, changes: dict[str, t.Any]) -> None:
    assert [repeats.is_repeat(ALERT), repeats.is_repeat(dataclasses.replace(ALERT, **changes))] == [False, False]


def test_without_a_window_nothing_is_a_repeat(clock: Clock) -> None:
    repeats = Repeats(0.0, clock)
    assert [repeats.is_repeat(ALERT), repeats.is_repeat(ALERT)] == [False, False]


def test_what_is_forgotten_is_no_repeat(repeats: Repeats) -> None:
    repeats.is_repeat(ALERT)
    repeats.forget()
    assert not repeats.is_repeat(ALERT)


def test_a_shorter_window_counts_at_once(repeats: Repeats, clock: Clock) -> None:
    repeats.is_repeat(ALERT)
    clock.now += 5
    repeats.window = 2.0
    assert not repeats.is_repeat(ALERT)


def test_memory_is_bounded_whatever_is_in_them(repeats: Repeats) -> None:
    tracemalloc.start()
    for number in range(3 * MOST):
        repeats.is_repeat(dataclasses.replace(ALERT, rule=f"{number}".rjust(1024), tags=("x" * 128,) * 10))
    held, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4_000_000
    assert repeats.is_repeat(dataclasses.replace(ALERT, rule=f"{3 * MOST - 1}".rjust(1024), tags=("x" * 128,) * 10))
    assert not repeats.is_repeat(dataclasses.replace(ALERT, rule="0".rjust(1024), tags=("x" * 128,) * 10))
