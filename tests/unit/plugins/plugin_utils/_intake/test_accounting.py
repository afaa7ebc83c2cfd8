# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accounting import (
    AT_THE_DOOR,
    ENDS,
    Accounts,
    Tally,
)

numbers = st.integers(0, 10**6)


@given(
    st.lists(st.tuples(numbers, numbers, st.dictionaries(st.sampled_from(AT_THE_DOOR), numbers))),
    st.lists(st.sampled_from(ENDS)),
)
def test_received_is_the_sum_of_all_others(arrivals: list[tuple[int, int, dict[str, int]]], ends: list[str]) -> None:
    accounts = Accounts()
    for stored, folded, counts in arrivals:
        accounts.arrive(stored, folded, counts)
    for end in ends:
        accounts.end(end)
    shown = accounts.shown()
    received = shown.pop("received")
    assert received == sum(shown.values())
    assert received == sum(stored + folded + sum(counts.values()) for stored, folded, counts in arrivals)
    assert Accounts(accounts.to_dict()).shown() == accounts.shown()


def test_a_copy_is_changed_on_its_own() -> None:
    accounts = Accounts()
    accounts.copy().arrive(1)
    assert accounts.shown()["received"] == 0


def test_a_tally_keeps_no_more_keys_than_it_may() -> None:
    tally = Tally(most=2)
    for number in range(1000):
        tally.count("web-1", "falco", f"rule {number}")
    tally.count("web-1", "falco", "rule 1", number=5)
    assert tally.most_common() == [
        (Tally.OTHER, 998),
        (("web-1", "falco", "rule 1"), 6),
        (("web-1", "falco", "rule 0"), 1),
    ]
    assert tally.total() == 1005
