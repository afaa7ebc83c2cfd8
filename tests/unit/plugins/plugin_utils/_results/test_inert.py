# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host returned, made harmless."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import (
    MAX_DEPTH,
    TEXT_LIMIT,
    inert,
    printable,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["{{ x }}", "#jinja2: a", "\x1b[2J", "{"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def texts(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


@given(st.dictionaries(st.text(max_size=9), JSON, max_size=4))
def test_no_text_of_an_answer_is_a_template_or_drives_a_terminal(answer: dict[str, t.Any]) -> None:
    found = inert(answer)
    for one in texts(found):
        assert one.replace("\n", "").isprintable()
        assert text.inert(one) == one
    assert inert(found) == found


def test_lines_stay_lines_in_diffs_and_tracebacks_only() -> None:
    found = inert({"diff": [{"before": "a\n{{ b }}\x1b\n"}], "exception": "a\nb", "msg": "a\nb"})
    assert found == {"diff": [{"before": "a\n{ { b }}\\x1b"}], "exception": "a\nb", "msg": "a\\nb"}


def test_base64_stays_whole() -> None:
    raw = "QUJD" * 20_000
    assert inert({"raw": raw}) == {"raw": raw}


def test_what_is_long_is_cut() -> None:
    assert len(inert({"msg": "a" * 10 * TEXT_LIMIT})["msg"]) == TEXT_LIMIT
    assert len(inert({"diff": "a" * 10 * TEXT_LIMIT})["diff"]) == TEXT_LIMIT


def test_marks_of_ansible_itself_are_dropped() -> None:
    assert inert({"before": {"__ansible_unsafe": "x", "__ansible_type": "y", "kept": 1}}) == {"before": {"kept": 1}}


def nested(depth: int) -> t.Any:
    value: t.Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_too_deep_is_no_answer() -> None:
    assert inert({"a": nested(MAX_DEPTH - 1)})
    with pytest.raises(AnswerError, match="deeper"):
        inert({"a": nested(MAX_DEPTH)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", object()])
def test_what_json_does_not_have_is_no_answer(value: object) -> None:
    with pytest.raises(AnswerError):
        inert({"a": value})


def test_output_keeps_its_lines_and_what_is_printable() -> None:
    assert printable('a\r\n{"é": 1}\n\x1b[2J\u202e\n') == 'a\n{"é": 1}\n\\x1b[2J\\u202e\n'
