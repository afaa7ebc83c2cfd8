# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes docs/outcomes.md from the table of outcomes: python tools/outcomes_page.py."""

from __future__ import annotations

import pathlib

from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES, Meaning

PAGE = pathlib.Path(__file__).absolute().parents[1] / "docs" / "outcomes.md"
BEFORE = """\
<!-- Written by tools/outcomes_page.py from plugins/module_utils/_outcomes.py. Do not edit it by hand. -->

# Outcomes

Every alert and every request ends with one of these words, in results, in the action log and in what the intake tells.

- **green**: a module or a playbook that has only such outcomes succeeds.
- **answers**: an alert with this outcome is answered; otherwise it is tried again, or told.
- **again**: whether the intake tries again by itself.
- **counts**: it takes a place in `max_isolations_per_window`.
- **told**: who is told, beside the record in the action log.

| outcome | it means | green | answers | again | counts | told |
|---|---|---|---|---|---|---|
"""
AFTER = """
In check mode the outcomes begin with `would_`: nothing is called `isolated`, `released` or `collected` that did not
come about. A decision that is to act has the outcome `isolate`, and its record the outcome of the attempt.
"""


def page() -> str:
    """The content of the page."""
    return BEFORE + "".join(_row(name, meaning) for name, meaning in OUTCOMES.items()) + AFTER


def _row(name: str, meaning: Meaning) -> str:
    cells = [
        f"`{name}`",
        meaning.means,
        _yes(meaning.green),
        _yes(meaning.answers),
        meaning.again,
        _yes(meaning.counts),
        meaning.told,
    ]
    return "| {} |\n".format(" | ".join(cells))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
