# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured, as a table, and whether it is what was wanted."""

from __future__ import annotations

import dataclasses
import math
import statistics
import typing as t


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        measure: what was measured.
        ours: what the collection took, seconds unless the unit says otherwise.
        reference: what the peer took, or None where nothing is compared.
        at_most: the ratio ours / reference must not be above this.
        at_least: the ratio reference / ours, how many times faster, must not be below this.
        note: what the reader should know besides.
        pairs: ours / reference of each pair, where both were measured in turns: the median of these is the ratio.
        unit: C(s) or C(B).
    """

    measure: str
    ours: float
    reference: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""
    pairs: tuple[float, ...] = ()
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """Ours to reference; None where nothing is compared."""
        if self.reference is None:
            return None
        return statistics.median(self.pairs) if self.pairs else self.ours / self.reference

    @property
    def ok(self) -> bool | None:
        """Whether the ratio is as wanted; None where nothing is wanted."""
        if self.ratio is None:
            return None
        if self.at_most is not None:
            return self.ratio <= self.at_most
        if self.at_least is not None:
            return 1 / self.ratio >= self.at_least
        return None

    def cells(self) -> tuple[str, ...]:
        """The cells of the line."""
        ratio = wanted = ""
        if self.ratio is not None:
            # Without a wish, whichever side is slower makes a readable ratio.
            slower = self.at_most is not None or (self.at_least is None and self.ratio >= 1)
            what = "the time" if self.unit == "s" else "as much"
            ratio = f"{self.ratio:.2f} x {what}" if slower else f"{1 / self.ratio:.1f} x faster"
            if self.pairs:
                ratio += " ({:.2f} to {:.2f})".format(*interval(self.pairs))
        if self.at_most is not None:
            wanted = f"at most {self.at_most:.2f}"
        elif self.at_least is not None:
            wanted = f"at least {self.at_least:.0f}"
        reference = "" if self.reference is None else shown(self.reference, self.unit)
        return (
            self.measure,
            shown(self.ours, self.unit),
            reference,
            ratio,
            wanted,
            {None: "", True: "ok", False: "MISSED"}[self.ok],
        )


def interval(values: t.Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median, by the signs of the differences: it holds whatever the distribution.

    With fewer than six values there is none, and the smallest and the largest are given.
    """
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0
    while rank < count // 2:
        outside += math.comb(count, rank) / 2**count
        if outside > 0.025:
            break
        rank += 1
    first = max(rank, 1) - 1
    return ordered[first], ordered[count - 1 - first]


HEADINGS = ("measure", "ours", "peer/reference", "ratio", "wanted", "ok")


def shown(value: float, unit: str = "s") -> str:
    """A time in the unit that suits it, or a size in megabytes."""
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    for factor, shorter in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {shorter}"
    return f"{value * 1e9:.0f} ns"


def table(rows: list[Row]) -> str:
    """The table as text, the notes below it."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = []
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if column in (1, 2) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
        if number == 0:
            text.append("  ".join("-" * width for width in widths))
    notes = [f"{row.measure}: {row.note}" for row in rows if row.note]
    return "\n".join(text + (["", *notes] if notes else []))
