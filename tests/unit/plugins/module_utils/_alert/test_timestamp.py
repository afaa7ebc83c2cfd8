# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-04-05T12:43:02.928967267Z", "2026-04-05T12:43:02.928967Z"),  # Falco
        ("2022-07-25T14:21:25.233+0000", "2022-07-25T14:21:25.233000Z"),  # Wazuh
        ("2021-01-27T01:28:11.488362+0100", "2021-01-27T00:28:11.488362Z"),  # Suricata
        ("2021-01-27 01:28:11-02:30", "2021-01-27T03:58:11.000000Z"),
        ("2016-12-31t23:59:60z", "2016-12-31T23:59:59.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_readable(value: str, moment: str) -> None:
    parsed = timestamp.parse_timestamp(value)
    assert parsed is not None
    assert timestamp.format_timestamp(parsed) == moment
    assert timestamp.parse_timestamp(moment) == parsed


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "2026-04-05",
        "2026-04-05T12:43:02",  # of which zone?
        "2026-13-05T12:43:02Z",
        "2026-02-30T12:43:02Z",
        "2026-04-05T25:43:02Z",
        "0001-01-01T00:00:00+01:00",  # before the first year
        "9999-12-31T23:59:59-01:00",
        "2026-04-05T12:43:02Z\n",
        "٢٠٢٦-04-05T12:43:02Z",
        1775392982928967267,
        None,
        ["2026-04-05T12:43:02Z"],
    ],
)
def test_unreadable(value: object) -> None:
    assert timestamp.parse_timestamp(value) is None


def test_now() -> None:
    moment = timestamp.parse_timestamp(timestamp.now())
    assert moment is not None
    assert abs(moment - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=10)


def test_seconds_since_1970() -> None:
    moment = timestamp.of_epoch(1_775_392_982)
    assert moment is not None
    assert timestamp.format_timestamp(moment) == "2026-04-05T12:43:02.000000Z"


@pytest.mark.parametrize("value", [None, True, "1775392982", 2**70, -(2**70), float("nan"), float("inf"), [], {}])
def test_no_seconds_since_1970(value: object) -> None:
    assert timestamp.of_epoch(value) is None
