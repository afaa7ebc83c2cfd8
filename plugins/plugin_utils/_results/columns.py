# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables for people."""

from __future__ import annotations

import typing as t

MOST_NAMES = 10


def aligned(rows: t.Sequence[t.Sequence[str]], sides: str) -> list[str]:
    """The rows in columns, each aligned to the side that its letter says: C(l) or C(r).

    A row may have fewer cells than there are columns. Its last one is then a remark that makes no column wider.
    """
    widths = [
        max((len(row[place]) for row in rows if place < len(row) - (len(row) < len(sides))), default=0)
        for place in range(len(sides))
    ]
    return [
        "  ".join(
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, width, side in zip(row, widths, sides, strict=False)
        ).rstrip()
        for row in rows
    ]


def names(found: t.Sequence[str]) -> str:
    """Names in a sentence: the first of many, and how many more there are."""
    more = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
