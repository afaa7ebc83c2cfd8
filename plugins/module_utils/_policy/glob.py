# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Globs: C(*) for any text, C(?) for any one character, all else as it stands, case-sensitive.

Matching is linear in the text whatever the pattern is. Regular expressions are not: C(fnmatch) turns C(*a*a*a*b) into
one that backtracks, and names and command lines are written by attackers.
"""

from __future__ import annotations

import functools


class Glob:
    """One compiled pattern."""

    __slots__ = ("_first", "_last", "_middle", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        pieces = [_Piece(piece) for piece in pattern.split("*")]
        self._first = pieces[0]
        self._last = pieces[-1] if len(pieces) > 1 else None
        self._middle = [piece for piece in pieces[1:-1] if piece.length]

    def __repr__(self) -> str:
        return f"Glob({self.pattern!r})"

    def matches(self, text: str) -> bool:
        """Whether the pattern matches the whole text."""
        if self._last is None:
            return len(text) == self._first.length and self._first.at(text, 0)
        position, end = self._first.length, len(text) - self._last.length
        if end < position or not self._first.at(text, 0) or not self._last.at(text, end):
            return False
        # The leftmost place for each piece leaves the most text for those behind it, so no choice is ever undone.
        for piece in self._middle:
            position = piece.find(text, position, end)
            if position < 0:
                return False
            position += piece.length
        return True


class _Piece:
    """What stands between two stars: literal text, or text with question marks."""

    __slots__ = ("_masks", "_text", "_wild", "length")

    def __init__(self, text: str) -> None:
        self._text = text
        self.length = len(text)
        self._wild = 0
        self._masks: dict[str, int] = {}
        if "?" in text:
            for index, character in enumerate(text):
                if character == "?":
                    self._wild |= 1 << index
                else:
                    self._masks[character] = self._masks.get(character, 0) | 1 << index

    def at(self, text: str, position: int) -> bool:
        """Whether the piece stands at the position; the text is long enough for it."""
        if not self._wild:
            return text.startswith(self._text, position)
        return all(wanted in ("?", text[position + index]) for index, wanted in enumerate(self._text))

    def find(self, text: str, start: int, end: int) -> int:
        """The leftmost position of the piece in text[start:end], or -1."""
        if not self._wild:
            return text.find(self._text, start, end)
        # Shift-And: bit i of the state says that the first i + 1 characters of the piece end here.
        state, accept = 0, 1 << (self.length - 1)
        for index in range(start, end):
            state = (state << 1 | 1) & (self._masks.get(text[index], 0) | self._wild)
            if state & accept:
                return index - self.length + 1
        return -1


@functools.lru_cache(maxsize=10_000)
def compiled(pattern: str) -> Glob:
    """The compiled pattern. Policies are read again and again to explain what they decide."""
    return Glob(pattern)


class GlobIndex:
    """Many globs, each standing for a set of policies; finds the policies of all that match a text.

    A set is a bit mask: bit i for policy i. Most patterns that people write are literal, or text and one star at an
    end; these are found by hashing, however many there are. Only the rest is tried one by one.
    """

    __slots__ = ("_literals", "_others", "_prefixes", "_suffixes")

    def __init__(self) -> None:
        self._literals: dict[str, int] = {}
        self._prefixes: dict[int, dict[str, int]] = {}
        self._suffixes: dict[int, dict[str, int]] = {}
        self._others: dict[str, tuple[Glob, int]] = {}

    def add(self, pattern: str, mask: int) -> None:
        """Let the pattern stand for the policies of the mask, too."""
        stem = pattern.strip("*")
        if "*" in stem or "?" in stem or pattern not in (stem, stem + "*", "*" + stem):
            glob, before = self._others.get(pattern) or (Glob(pattern), 0)
            self._others[pattern] = (glob, before | mask)
            return
        if pattern == stem:
            table = self._literals
        else:
            table = (self._prefixes if pattern.endswith("*") else self._suffixes).setdefault(len(stem), {})
        table[stem] = table.get(stem, 0) | mask

    def mask(self, text: str) -> int:
        """The policies of all patterns that match the text."""
        found = self._literals.get(text, 0)
        for length, by_text in self._prefixes.items():
            if length <= len(text):
                found |= by_text.get(text[:length], 0)
        for length, by_text in self._suffixes.items():
            if length <= len(text):
                found |= by_text.get(text[len(text) - length :], 0)
        for glob, mask in self._others.values():
            # A pattern that could add nothing new is not tried.
            if mask & ~found and glob.matches(text):
                found |= mask
        return found
