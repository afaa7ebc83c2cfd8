# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.tally import Tally


def tally_of(keys: list[int], size: int) -> Tally[int, int]:
    tally: Tally[int, int] = Tally(size)
    for key in keys:
        tally.add(key, lambda key=key: key)  # type: ignore[misc]  # mypy cannot infer it
    return tally


@given(st.lists(st.integers(0, 12)), st.integers(1, 8))
def test_counts_are_too_low_by_no_more_than_it_says(keys: list[int], size: int) -> None:
    tally = tally_of(keys, size)
    exact = collections.Counter(keys)
    found = dict(tally.top(1000))
    assert len(found) <= size
    assert all(entry.sample == key for key, entry in found.items())
    for key, count in exact.items():
        held = found[key].count if key in found else 0
        assert count - tally.undercount <= held <= count
    assert tally.undercount * (size + 1) <= len(keys)
    assert tally.undercount == 0 or len(exact) > size


def test_the_most_frequent_come_first() -> None:
    assert [key for key, _entry in tally_of([1, 2, 2, 3, 3, 3, 4], 10).top(3)] == [3, 2, 1]
