# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.durations import parse_duration


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (0, 0),
        (90, 90),
        ("0", 0),
        ("90", 90),
        ("45s", 45),
        ("90m", 5_400),
        ("2h", 7_200),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        ("7d", 604_800),
        ("1d2h3m4s", 93_784),
        (" 2h\n", 7_200),
        ("2H", 7_200),
    ],
)
def test_what_is_accepted(given: object, seconds: int) -> None:
    assert parse_duration(given) == seconds


@pytest.mark.parametrize(
    "given",
    [
        *("", " ", "h", "2x", "2 hours", "h2", "30m1h", "1h1h", "-1", "-2h", "+2h", "1.5h", "1,5h", "2h,", "2h30"),
        *("1e3", "0x10", "1_000", "\N{SUPERSCRIPT TWO}h", "\N{ARABIC-INDIC DIGIT TWO}h", "9" * 10, "9" * 5_000),
        *(True, False, None, -1, 1.5, 10**9, [], {}, ["2h"], b"2h"),
    ],
)
def test_everything_else_is_an_error_that_says_what_is_accepted(given: object) -> None:
    with pytest.raises(GuardError, match="such as 90, 45s, 90m, 2h, 1h30m or 7d") as raised:
        parse_duration(given, "guard_mute_for")
    assert raised.value.kind == "invalid_option"
    assert raised.value.message.startswith("guard_mute_for is ")
    assert len(raised.value.message) < 200


def test_the_error_is_inert() -> None:
    with pytest.raises(GuardError) as raised:
        parse_duration("\x1b[31m2h")
    assert raised.value.message.isprintable()
