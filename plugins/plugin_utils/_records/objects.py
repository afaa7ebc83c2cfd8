# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding JSON in a line, and JSON that goes on over lines. All of it is linear in the length of the text."""

from __future__ import annotations

import json
import re
import typing as t

MAX_STARTS = 32
"""Most places of a line at which an object is tried to be read: each costs as much as the line is long."""
MAX_DEPTH = 200
"""Deepest nesting of an object that goes on over lines."""
SEPARATORS = "[], \t"
"""What stands between the elements of an array that is written over lines."""

# What begins a message has a key.
_OPENS = re.compile(r'\{\s*"')
decode = json.JSONDecoder().raw_decode
"""The JSON value at a place of a text, and where it ends. Raises ValueError and RecursionError."""


class Found(t.NamedTuple):
    """A JSON value in a text, and where it stands; None for one that can be told but not be read."""

    value: t.Any
    start: int
    end: int


class Scan(t.NamedTuple):
    """What there is in a text.

    Attributes:
        found: objects, and an array where the text begins with one.
        broken: whether something looked like an object and is none.
        open_at: where an object begins that is right as far as it goes, up to the end of the text; -1 for none.
    """

    found: list[Found]
    broken: bool = False
    open_at: int = -1


def scan(text: str, anywhere: bool = True) -> Scan:
    """The objects in a text, with anything before, between and behind them.

    A cut-off object before a whole one is passed over.

    Args:
        text: one line, without white space at its ends.
        anywhere: whether an object may begin behind other text.

    Raises:
        RecursionError: where it is nested too deeply.
    """
    found: list[Found] = []
    broken, start = False, 0
    if text[:1] not in ("{", "["):
        start = _next(text, 0) if anywhere else -1
    for _attempt in range(MAX_STARTS):
        if start < 0:
            break
        try:
            value, end = decode(text, start)
        except json.JSONDecodeError as error:
            broken = broken or text[start] == "{"
            if text[start] == "[":
                start = _next(text, start + 1)  # its elements, or text in brackets
            elif error.pos >= len(text):
                return Scan(found, True, start)
            else:
                start = _behind(text, start, error.pos)
        except ValueError:  # an integer of more than 4,300 digits
            return Scan([*found, Found(None, start, len(text))], broken)
        else:
            found.append(Found(value, start, end))
            start = _next(text, end)
    return Scan(found, broken)


def last_inside(text: str) -> Found | None:
    """The object at the end of a text that begins with an unfinished one.

    An object that was cut off behind a colon swallows the whole one that follows.
    """
    unfinished = Unfinished()
    try:
        unfinished.feed(text)
    except BrokenError:
        return None
    start, end = unfinished.last
    return Found(decode(text, start)[0], start, end) if end == len(text) else None


def _next(text: str, position: int) -> int:
    match = _OPENS.search(text, position)
    return match.start() if match else -1


def _behind(text: str, start: int, failed: int) -> int:
    """Where to look for the next object, once the one at C(start) has failed.

    A text that was cut off ends with the first quote of the object that follows.
    """
    brace = text.rfind("{", start + 1, failed)
    if brace >= 0 and text[brace + 1 : failed].strip() == '"':
        return brace
    return _next(text, max(failed, start + 1))


class BrokenError(Exception):
    """What looked like an object is none."""


_TOKEN = re.compile(
    r'\s*(?:([{}\[\],:])|("[^"\\]*(?:\\.[^"\\]*)*")|(?:-?\d[\d.eE+-]{0,4300}|true|false|null)(?![\w.+-]))'
)
_VALUE, _FIRST_VALUE, _KEY, _FIRST_KEY, _COLON, _COMMA = range(6)
"""What may come next."""


class Unfinished:
    """An object that is fed piece by piece, and looked at once.

    Attributes:
        last: where the object that ended last begins and ends, in the text that was fed last.
    """

    def __init__(self) -> None:
        self._stack: list[tuple[str, int]] = []
        self._expects = _VALUE
        self.last = (0, 0)

    def feed(self, text: str) -> int:
        """Where in the text the object ends; -1 where it goes on.

        Raises:
            BrokenError: where this cannot be how it goes on, or it is nested too deeply.
        """
        position, size = 0, len(text)
        while position < size:
            match = _TOKEN.match(text, position)
            if match is None:
                if text[position:].isspace():
                    break
                raise BrokenError
            position = match.end()
            mark, string = match.groups()
            if mark is None:
                self._scalar(string is not None)
            elif mark in "{[":
                self._open(mark, position - 1)
            elif mark in "}]":
                self._close(mark, position)
                if not self._stack:
                    return position
            else:
                self._separate(mark)
        self._stack = [(mark, 0) for mark, _start in self._stack]  # they stand in no text that is still there
        return -1

    def _scalar(self, is_text: bool) -> None:
        if is_text and self._expects in (_KEY, _FIRST_KEY):
            self._expects = _COLON
        elif self._expects in (_VALUE, _FIRST_VALUE) and self._stack:
            self._expects = _COMMA
        else:
            raise BrokenError

    def _open(self, mark: str, start: int) -> None:
        if self._expects not in (_VALUE, _FIRST_VALUE) or len(self._stack) >= MAX_DEPTH:
            raise BrokenError
        self._stack.append((mark, start))
        self._expects = _FIRST_KEY if mark == "{" else _FIRST_VALUE

    def _close(self, mark: str, end: int) -> None:
        opened, start = self._stack.pop() if self._stack else ("", 0)
        empty, other = (_FIRST_KEY, "{") if mark == "}" else (_FIRST_VALUE, "[")
        if opened != other or self._expects not in (empty, _COMMA):
            raise BrokenError
        self._expects = _COMMA
        if mark == "}":
            self.last = (start, end)

    def _separate(self, mark: str) -> None:
        if mark == ":" and self._expects == _COLON:
            self._expects = _VALUE
        elif mark == "," and self._expects == _COMMA and self._stack:
            self._expects = _KEY if self._stack[-1][0] == "{" else _VALUE
        else:
            raise BrokenError
