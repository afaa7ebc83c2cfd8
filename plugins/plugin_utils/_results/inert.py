# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host returned, made harmless.

Whoever took over a host chooses all that it returns. Ansible puts that into variables, artifacts and terminals, so here
it becomes plain data: bounded in depth and size, and every text in it, keys too, printable and no template.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError

MAX_DEPTH = 20
MAX_VALUES = 1_000_000
# Longer than any base64 of a message, which is to stay whole.
TEXT_LIMIT = 100_000
_BY_LINE = ("diff", "exception", "module_stdout", "module_stderr")

Shown = t.Callable[[str], str]


def inert(values: t.Mapping[t.Any, t.Any]) -> dict[str, t.Any]:
    """The same as plain data that is no template. Newlines stay in diffs and tracebacks. Raises AnswerError."""
    bounded = _Bounded()
    return {
        shown_line(str(key)): bounded.plain(value, shown_lines if key in _BY_LINE else shown_line, 1)
        for key, value in values.items()
    }


def shown_line(value: str) -> str:
    """The text on one line, printable and no template."""
    return text.display(value, TEXT_LIMIT)


def shown_lines(value: str) -> str:
    """The text with its line ends, each line printable and no template."""
    return text.inert("\n".join(map(shown_line, value[: TEXT_LIMIT + 1].splitlines())))


def printable(output: str) -> str:
    """The output of a program, with its line ends, and an escape for all else that is not to reach a terminal."""
    return "\n".join(
        line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        for line in output.replace("\r\n", "\n").split("\n")
    )


class _Bounded:
    """Counts the values of one answer."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def plain(self, value: t.Any, shown: Shown, depth: int) -> t.Any:
        self._left -= 1
        if self._left < 0:
            raise AnswerError(f"more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise AnswerError(f"values nested deeper than {MAX_DEPTH}")
        # Made anew even where it is a number or a text: ansible-core hands over types of its own, which may carry tags.
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return shown(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            if not math.isfinite(value):
                raise AnswerError("a number that is none")
            return float(value)
        if isinstance(value, (list, tuple)):
            return [self.plain(item, shown, depth + 1) for item in value]
        if isinstance(value, t.Mapping):
            return {
                shown_line(str(key)): self.plain(item, shown, depth + 1)
                for key, item in value.items()
                # By such keys ansible-core marks objects in JSON.
                if not str(key).startswith("__ansible")
            }
        raise AnswerError(f"a value of type {type(value).__name__}")
