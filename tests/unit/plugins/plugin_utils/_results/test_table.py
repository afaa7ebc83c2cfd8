# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows as a table for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import aligned, table, width


def test_each_row_is_a_line_below_the_headings() -> None:
    rows = [
        {"host": "web-1", "posted_to_contained": 812, "released": True, "why": ["paused", "off front"]},
        {"host": "database-1", "posted_to_contained": 1043.6, "released": False, "why": [], "more": "is not asked for"},
    ]
    assert table(rows, ["host", "posted_to_contained", "released", "why"]) == [
        "host        posted to contained  released  why",
        "web-1                       812  yes       paused, off front",
        "database-1               1043.6  no        -",
    ]


def test_what_is_not_known_is_a_dash_also_beside_numbers() -> None:
    rows = [{"ms": 7, "host": None}, {"ms": None}, {"ms": "", "host": "web-1"}]
    assert table(rows, ["ms", "host"]) == ["ms  host", " 7  -", " -  -", " -  web-1"]


def test_no_row_is_no_table() -> None:
    assert table([], ["host"]) == []


def test_a_long_cell_is_cut() -> None:
    assert table([{"why": "x" * 100}], ["why"], cell_width=10)[1] == "xxxxxxx..."
    assert len(table([{"why": "x" * 100}], ["why"])[1]) == 60


def test_what_takes_two_places_of_a_terminal_is_counted_so() -> None:
    assert width("容器") == 4
    assert width("e\N{COMBINING ACUTE ACCENT}a") == 2
    assert table([{"name": "容器", "host": "a"}, {"name": "shop-1", "host": "b"}], ["name", "host"]) == [
        "name    host",
        "容器    a",
        "shop-1  b",
    ]
    assert width(table([{"name": "容" * 60}], ["name"])[1]) <= 60


def test_attackers_write_neither_lines_nor_templates() -> None:
    rows = [{"name": "#jinja2: a{{ 7 }}\n\x1b[2Jb{", "more": "{"}]
    line = table(rows, ["name", "more"])[1]
    assert line == text.display(line)
    assert line == "# jinja2: a{ { 7 }}\\n\\x1b[2Jb{   { "


@pytest.mark.parametrize("rows", [7, "web-1", [7], ["web-1"], [{"host": {"a": 1}}], [{"host": [["a"]]}]])
def test_what_is_no_table_is_an_error(rows: object) -> None:
    with pytest.raises(ValueError, match="of a table"):
        table(rows, ["host"])


@given(st.lists(st.lists(st.text(max_size=9), min_size=3, max_size=3), min_size=1, max_size=5))
def test_columns_begin_below_each_other(rows: list[list[str]]) -> None:
    cells = [[text.display(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    for line, row in zip(aligned(cells, "lrl"), cells, strict=True):
        assert width(line.rstrip()) <= sum(widths) + 2 * 2 + 1
        assert text.inert(line) == line
        assert row[0] in line
