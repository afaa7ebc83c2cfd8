# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.age import (
    age_of,
    clock_skew,
    seen_at,
    skew_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp

RECEIVED = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)


def alert(happened: datetime.timedelta | None = None, source: str = "falco") -> Alert:
    """Received at RECEIVED, about what happened so long before."""
    return Alert.from_dict(
        {
            "source": source,
            "rule": "r",
            "severity": "high",
            "host": "web-1",
            "received_at": format_timestamp(RECEIVED),
            "time": format_timestamp(RECEIVED - happened) if happened is not None else None,
        }
    )


def seconds(number: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=number)


@pytest.mark.parametrize(
    ("happened", "source", "age"),
    [
        (None, "falco", 10),
        (0, "falco", 10),
        (120, "falco", 130),
        (86_400, "falco", 86_410),
        (86_401, "falco", 10),  # a clock that is far off says nothing
        (-30, "falco", 10),
        (3_600, "alertmanager", 10),  # startsAt is no event
        (3_600, "Alertmanager", 10),
        (3_600, "some-sensor", 3_610),
    ],
)
def test_age_is_counted_from_the_earlier_of_event_and_receipt(happened: float | None, source: str, age: float) -> None:
    told = alert(None if happened is None else seconds(happened), source)
    assert age_of(told, RECEIVED + seconds(10)) == seconds(age)


def test_age_is_never_negative() -> None:
    assert age_of(alert(seconds(-30)), RECEIVED - seconds(100)) == seconds(0)


@pytest.mark.parametrize(
    ("happened", "source", "before"),
    [
        (None, "falco", 0),
        (5, "falco", 5),
        (-5, "falco", 0),
        (200_000, "falco", 200_000),  # whichever clock is wrong: nothing that is younger is meant for certain
        (5, "alertmanager", 0),
    ],
)
def test_what_is_younger_than_the_earliest_moment_need_not_be_meant(
    happened: float | None, source: str, before: float
) -> None:
    told = alert(None if happened is None else seconds(happened), source)
    assert seen_at(told) == RECEIVED - seconds(before)


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (None, ""),
        (0, ""),
        (3_600, ""),
        (-60, ""),
        (-61, "61 seconds before its own time: check the clock of web-1"),
        (90_000, "lies 25 hours before its receipt"),
    ],
)
def test_skew_above_a_minute_is_told(happened: float | None, said: str) -> None:
    told = skew_of(alert(None if happened is None else seconds(happened)))
    assert said in told
    assert bool(told) is bool(said)


@pytest.mark.parametrize(
    ("apart", "said"),
    [
        (0, ""),
        (60, ""),
        (-60, ""),
        (61, "the clock of this host is 61 seconds ahead of that of the controller"),
        (-3_600, "the clock of this host is 3600 seconds behind that of the controller"),
    ],
)
def test_two_clocks(apart: float, said: str) -> None:
    assert clock_skew(RECEIVED + seconds(apart), RECEIVED) == said
