# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo expects, and what it prints."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
import time
import typing as t
from collections.abc import Callable, Mapping

WIDTH = 79
LONG_LINE = 300
TICK, CROSS = ("✓", "✗") if "utf" in (sys.stdout.encoding or "").lower() else ("+", "x")
COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class UnmetError(Exception):
    """Something is not as promised.

    Attributes:
        output: of the program that failed, if any.
    """

    def __init__(self, expectation: str, found: str = "", output: str = "") -> None:
        super().__init__(f"Expected: {expectation}. Found: {found}" if found else expectation)
        self.output = output


def expect_quietly(holds: object, expectation: str, otherwise: str) -> None:
    """Raise UnmetError, with what is so instead, where the expectation does not hold."""
    if not holds:
        raise UnmetError(expectation, otherwise or "it is not so")


def expect(holds: object, expectation: str, otherwise: str) -> None:
    """As expect_quietly, and print the expectation where it holds."""
    expect_quietly(holds, expectation, otherwise)
    done(f"{expectation}.")


def wait_for(condition: Callable[[], t.Any], what: str, seconds: float) -> t.Any:
    """Ask again and again until the answer is true, and return it. Raises UnmetError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise UnmetError(what, f"not within {seconds:g} s")
        time.sleep(0.02)
    return answer


def different(before: Mapping[str, t.Any], after: Mapping[str, t.Any], prefix: str = "") -> list[str]:
    """Each value that is not the same in both."""
    found = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += different(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old!r} and is {new!r}")
    return found


def styled(code: str, text: str) -> str:
    """The text in a colour, where the terminal has any."""
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def bold(text: str) -> str:
    """The text in bold."""
    return styled("1", text)


def paragraph(mark: str, text: str, style: Callable[[str], str] = str) -> None:
    """Print a text with a hanging indent behind a mark, wrapped to the width of a small terminal."""
    indent = " " * len(mark)
    lines = textwrap.wrap(text, WIDTH - len(mark), break_on_hyphens=False) or [""]
    print("\n".join((mark if n == 0 else indent) + style(line) for n, line in enumerate(lines)), flush=True)


_numbers = itertools.count(1)


def step(text: str) -> None:
    """Print the heading of the next step."""
    print(flush=True)
    paragraph(f"{next(_numbers):2}. ", text, bold)


def typed(*lines: str) -> None:
    """Print the command that a person would type."""
    for number, line in enumerate(lines):
        print(f"    {' ' if number else '$'} {styled('36', line)}", flush=True)


def done(text: str) -> None:
    """Print what is so."""
    lines = textwrap.wrap(text, WIDTH - 6, break_on_hyphens=False)
    print(f"    {styled('32', TICK)} " + f"\n{' ' * 6}".join(lines), flush=True)


def detail(text: str) -> None:
    """Print what belongs to the line above."""
    paragraph(" " * 6, text, lambda line: styled("2", line))


def failed(error: UnmetError) -> None:
    """Print what is not so, and the output of the program that failed."""
    lines = textwrap.wrap(str(error), WIDTH - 6, break_on_hyphens=False)
    print(f"    {styled('31', CROSS)} " + f"\n{' ' * 6}".join(lines), flush=True)
    if error.output:
        print(f"\n{'-' * WIDTH}", flush=True)
        for line in error.output.rstrip().splitlines():
            # What is longer is data, not explanation.
            print(line if len(line) <= LONG_LINE else f"{line[:LONG_LINE]}...", flush=True)
        print("-" * WIDTH, flush=True)
