# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import (
    COUNTED,
    GAUGE,
    Counters,
    Family,
    labelled,
    render,
)


def test_the_text_format() -> None:
    counters = Counters()
    counters.add("requests_total", listener="alerts", status="202")
    counters.add("requests_total", 2, listener="alerts", status="202")
    counters.add("malformed_requests_total")
    text = render(
        [
            *(family for family in counters.families() if family.samples),
            Family("waiting_bytes", GAUGE, "size", {(): 1.5}),
            labelled("x", GAUGE, "a\\b\nc", "label", {'quote " and \\ and \n': 0}),
        ]
    )
    assert text.splitlines() == [
        f"# HELP container_guard_requests_total {COUNTED['requests_total']}",
        "# TYPE container_guard_requests_total counter",
        'container_guard_requests_total{listener="alerts",status="202"} 3',
        f"# HELP container_guard_malformed_requests_total {COUNTED['malformed_requests_total']}",
        "# TYPE container_guard_malformed_requests_total counter",
        "container_guard_malformed_requests_total 1",
        "# HELP container_guard_waiting_bytes size",
        "# TYPE container_guard_waiting_bytes gauge",
        "container_guard_waiting_bytes 1.5",
        "# HELP container_guard_x a\\\\b\\nc",
        "# TYPE container_guard_x gauge",
        'container_guard_x{label="quote \\" and \\\\ and \\n"} 0',
    ]
    assert text.endswith("\n")


def test_by_one_of_its_labels() -> None:
    counters = Counters()
    for listener in ("alerts", "receipts"):
        counters.add("requests_refused_total", listener=listener, kind="unauthorized")
    assert counters.by("requests_refused_total", "kind") == {"unauthorized": 2}
    assert counters.by("requests_total", "status") == {}


def test_numbers_that_are_none() -> None:
    lines = render(
        [Family(name, GAUGE, "", {(): value}) for name, value in (("a", math.inf), ("b", math.nan))]
    ).splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["container_guard_a +Inf", "container_guard_b NaN"]
