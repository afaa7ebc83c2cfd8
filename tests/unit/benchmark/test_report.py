# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How what was measured is judged."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, interval


def test_the_interval_of_a_median_is_that_of_the_tables() -> None:
    assert interval(range(15, 0, -1)) == (4, 12)
    assert interval(range(1, 7)) == (1, 6)
    assert interval([3, 1, 2]) == (1, 3)


def test_of_pairs_the_median_of_their_ratios_counts_and_not_the_ratio_of_medians() -> None:
    row = Row("alert to paused", ours=1.0, reference=2.0, at_most=1.0, pairs=(0.9, 1.1, 1.2))
    assert (row.ratio, row.ok) == (1.1, False)
    assert row.cells()[3] == "1.10 x the time (0.90 to 1.20)"
    assert Row("alert to paused", ours=1.0, reference=2.0, at_most=1.0).ok is True


def test_sizes_are_shown_as_such() -> None:
    row = Row("growth", ours=12e6, reference=20e6, at_most=1.0, unit="B")
    assert row.cells()[1:4] == ("12.0 MB", "20.0 MB", "0.60 x as much")
