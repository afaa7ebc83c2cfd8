# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured, as a table, and whether it is what was wanted."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        measure: what was measured.
        ours: seconds that the collection took.
        reference: seconds that the peer took, or None where nothing is compared.
        at_most: the ratio ours / reference must not be above this.
        at_least: the ratio reference / ours, how many times faster, must not be below this.
        note: what the reader should know besides.
    """

    measure: str
    ours: float
    reference: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether the ratio is as wanted; None where nothing is wanted."""
        if self.reference is None:
            return None
        if self.at_most is not None:
            return self.ours <= self.at_most * self.reference
        if self.at_least is not None:
            return self.reference >= self.at_least * self.ours
        return None

    def cells(self) -> tuple[str, ...]:
        """The cells of the line."""
        ratio = wanted = ""
        if self.reference is not None:
            # Without a wish, whichever side is slower makes a readable ratio.
            slower = self.at_most is not None or (self.at_least is None and self.ours >= self.reference)
            ratio = (
                f"{self.ours / self.reference:.2f} x the time"
                if slower
                else f"{self.reference / self.ours:.1f} x faster"
            )
        if self.at_most is not None:
            wanted = f"at most {self.at_most:.2f}"
        elif self.at_least is not None:
            wanted = f"at least {self.at_least:.0f}"
        reference = "" if self.reference is None else shown(self.reference)
        return (
            self.measure,
            shown(self.ours),
            reference,
            ratio,
            wanted,
            {None: "", True: "ok", False: "MISSED"}[self.ok],
        )


HEADINGS = ("measure", "ours", "peer/reference", "ratio", "wanted", "ok")


def shown(seconds: float) -> str:
    """A time in the unit that suits it."""
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


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
