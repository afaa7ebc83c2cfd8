# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts in the limit over all hosts."""

from __future__ import annotations

import json

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.fleet_limit import FleetLimit


def test_containers_count_once_and_by_host() -> None:
    limit = FleetLimit(2, 60)
    assert limit.take("web-1", ["a"], 0.0)
    assert limit.take("web-1", ["a"], 1.0)
    assert not limit.reached(1.0)
    limit.take("web-2", ["a"], 1.0)
    assert limit.reached(1.0)


def test_places_come_free_when_the_window_is_over() -> None:
    limit = FleetLimit(2, 60)
    limit.take("web-1", ["a"], 0.0)
    limit.take("web-1", ["b"], 30.0)
    assert limit.reached(59.0)
    assert not limit.reached(60.0)
    limit.take("web-1", ["c"], 60.0)
    assert limit.reached(89.0)
    assert not limit.reached(90.0)


def test_a_clock_that_was_set_back_ends_the_window_all_the_same() -> None:
    limit = FleetLimit(1, 60)
    limit.take("web-1", ["a"], 1_000.0)
    assert limit.reached(990.0)
    assert not limit.reached(900.0)


def test_no_more_is_remembered_than_counts() -> None:
    limit = FleetLimit(2, 60)
    limit.take("web-1", [str(number) for number in range(1_000)], 0.0)
    remembered = json.loads(json.dumps(limit.remembered))
    assert remembered == [["web-1", "998", 0.0], ["web-1", "999", 0.0]]
    assert FleetLimit(2, 60, remembered).reached(0.0)
    assert not FleetLimit(3, 60, remembered).reached(0.0)


def test_without_a_limit_nothing_counts() -> None:
    limit = FleetLimit(0, 0, [["web-1", "a", 0.0]])
    assert not limit.take("web-1", ["a"], 0.0)
    assert not limit.reached(0.0)
    assert limit.remembered == []
