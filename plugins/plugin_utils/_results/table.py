# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows as a table of plain text, for people."""

from __future__ import annotations

import typing as t
import unicodedata

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

CELL_WIDTH = 60
"""Widest cell, in places of a terminal."""
MOST_NAMES = 10
NOTHING = "-"
_WIDE = {"F", "W"}
_TAKES_NO_PLACE = {"Mn", "Me", "Cf"}


def table(rows: t.Any, columns: t.Sequence[str], cell_width: int = CELL_WIDTH) -> list[str]:
    """The rows as lines below one of headings; none without rows.

    Args:
        rows: mappings. Texts, numbers, bools and lists of these are shown, the rest of a row is not looked at. What is
            missing, None or empty is shown as a dash.
        columns: keys, in order. With spaces for underscores they are the headings. Numbers are aligned to the right.
        cell_width: of the widest cell, in places of a terminal; what is longer is cut.

    Raises:
        ValueError: the rows are no list of mappings, or a cell is neither of these.
    """
    if not isinstance(rows, (list, tuple)) or not all(isinstance(row, t.Mapping) for row in rows):
        raise ValueError("rows of a table that are no list of mappings")
    if not rows:
        return []
    cells = [[_cell(row.get(column), cell_width) for column in columns] for row in rows]
    sides = "".join("r" if _are_numbers([row.get(column) for row in rows]) else "l" for column in columns)
    return aligned([[column.replace("_", " ") for column in columns], *cells], sides)


def aligned(rows: t.Sequence[t.Sequence[str]], sides: str) -> list[str]:
    """The rows in columns, each aligned to the side that its letter says: C(l) or C(r). Each line is no template.

    A row may have fewer cells than there are columns. Its last one is then a remark that makes no column wider.
    """
    widths = [
        max((width(row[place]) for row in rows if place < len(row) - (len(row) < len(sides))), default=0)
        for place in range(len(sides))
    ]
    return [
        text.inert("  ".join(_padded(*cell) for cell in zip(row, widths, sides, strict=False)).rstrip(" "))
        for row in rows
    ]


def names(found: t.Sequence[str]) -> str:
    """Names in a sentence: the first of many, and how many more there are."""
    more = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def width(shown: str) -> int:
    """How many places of a terminal a text takes that is printable."""
    if shown.isascii():
        return len(shown)
    return sum(
        0 if unicodedata.category(c) in _TAKES_NO_PLACE else 2 if unicodedata.east_asian_width(c) in _WIDE else 1
        for c in shown
    )


def _padded(cell: str, places: int, side: str) -> str:
    space = " " * (places - width(cell))
    return cell + space if side == "l" else space + cell


def _cell(value: t.Any, limit: int) -> str:
    if isinstance(value, (list, tuple)):
        if not all(isinstance(item, (str, int, float, type(None))) for item in value):
            raise ValueError("a cell of a table that is a list of more than texts and numbers")
        value = ", ".join(filter(None, map(_word, value)))
    elif not isinstance(value, (str, int, float, type(None))):
        raise ValueError(f"a cell of a table of type {type(value).__name__}")
    shown = text.display(_word(value), limit)
    if width(shown) > limit:
        while width(shown) > limit - 3:
            shown = shown[:-1]
        shown = text.inert(shown + "...")
    return shown or NOTHING


def _word(value: t.Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _are_numbers(values: t.Sequence[t.Any]) -> bool:
    known = [value for value in values if value not in (None, "")]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)
