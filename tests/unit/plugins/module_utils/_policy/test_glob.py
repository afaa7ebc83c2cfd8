# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import Glob, GlobIndex

patterns = st.text("ab*?", max_size=12)
texts = st.text("ab", max_size=16)


def matches_by_table(pattern: str, text: str) -> bool:
    """The reference: the places in the text that each beginning of the pattern can lead to."""
    places = {0}
    for character in pattern:
        if character == "*":
            places = set(range(min(places, default=len(text) + 1), len(text) + 1))
        else:
            places = {place + 1 for place in places if place < len(text) and character in ("?", text[place])}
    return len(text) in places


@given(patterns, texts)
def test_glob_matches_what_the_reference_matches(pattern: str, text: str) -> None:
    assert Glob(pattern).matches(text) == matches_by_table(pattern, text)


@given(st.data(), texts)
def test_a_text_with_parts_replaced_by_wildcards_matches(data: st.DataObject, text: str) -> None:
    pattern = "".join(data.draw(st.sampled_from([character, "?", "*", f"*{character}*"])) for character in text)
    assert Glob(pattern).matches(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("?", "", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("ab*ba", "aba", False),
        ("*ab?b*", "aabaa", False),
        ("*ab?b*", "aababb", True),
        ("web-*", "web-1", True),
        ("web-*", "Web-1", False),
        ("a\nb*", "a\nbc", True),
        ("*", "line\nline", True),
        ("?", "\U0001f433", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
        ("\\*", "\\anything", True),
        ("(a+)+$", "(a+)+$", True),
    ],
)
def test_only_star_and_question_mark_mean_something(pattern: str, text: str, expected: bool) -> None:
    assert Glob(pattern).matches(text) is expected


@given(st.lists(st.tuples(patterns, st.integers(0, 7).map(lambda bit: 1 << bit)), max_size=20), texts)
def test_the_index_finds_the_masks_of_all_globs_that_match(entries: list[tuple[str, int]], text: str) -> None:
    index, expected = GlobIndex(), 0
    for pattern, mask in entries:
        index.add(pattern, mask)
        if matches_by_table(pattern, text):
            expected |= mask
    assert index.mask(text) == expected
    assert index.mask(text) == expected, "asking changes nothing"


class CountingText(str):
    """A text that counts how many of its characters are looked at, those that str.find passes over included."""

    looked_at = 0

    def __getitem__(self, key: t.SupportsIndex | slice) -> str:  # type: ignore[override]
        found = super().__getitem__(key)
        self.looked_at += len(found)
        return found

    def startswith(self, prefix: str, start: int = 0) -> bool:  # type: ignore[override]
        self.looked_at += len(prefix)
        return super().startswith(prefix, start)

    def find(self, piece: str, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        end = len(self) if end is None else end
        place = super().find(piece, start, end)
        self.looked_at += (end if place < 0 else place + len(piece)) - start
        return place


def work(matches: t.Callable[[str], bool], length: int) -> int:
    text = CountingText("a" * length)
    assert not matches(text)
    return text.looked_at


HOSTILE = [
    "*a" * 20 + "*b",
    "*a?a?a*b",
    "*a" * 20 + "*b*",
    "*a?a?b*",
    "*?b?*",
    "a*?a*a?*?b*a",
    "*" * 50 + "b",
    "*aab*ab",
]


@pytest.mark.parametrize("pattern", HOSTILE)
def test_the_work_grows_like_the_text_whatever_the_pattern(pattern: str) -> None:
    glob = Glob(pattern)
    once, four_times = work(glob.matches, 10_000), work(glob.matches, 40_000)
    assert four_times < 6 * max(once, len(pattern))
    assert four_times <= 2 * (40_000 + len(pattern))


def test_the_work_of_a_backtracking_matcher_would_be_noticed() -> None:
    def backtracking(pattern: str, text: str, place: int = 0) -> bool:
        if not pattern:
            return place == len(text)
        if pattern[0] == "*":
            return any(backtracking(pattern[1:], text, start) for start in range(place, len(text) + 1))
        return place < len(text) and text[place] == pattern[0] and backtracking(pattern[1:], text, place + 1)

    assert work(lambda text: backtracking("*a*a*b", text), 40) > 6 * work(lambda text: backtracking("*a*a*b", text), 10)


@pytest.mark.parametrize("pattern", HOSTILE)
def test_the_index_does_no_more_than_its_globs(pattern: str) -> None:
    index = GlobIndex()
    index.add(pattern, 1)
    assert work(lambda text: bool(index.mask(text)), 10_000) <= 2 * (10_000 + len(pattern))
