# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    first_text,
    part,
    read_overrides,
    texts,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError


def test_overrides_are_read_in_lower_case() -> None:
    assert read_overrides({"Wazuh": {87908: "HIGH", " Docker ": "low"}, "tetragon": {}}) == {
        "wazuh": {"87908": "high", "docker": "low"},
        "tetragon": {},
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "severities is not a mapping"),
        ("falco", "severities is not a mapping"),
        ({"falco": "high"}, "severities is not a mapping"),
        ({"falco": {"notice": "urgent"}}, "severities holds something else than info, low, .* for notice"),
        ({"falco": {"{{ x }}": 3}}, r"for \{ \{ x \}\}"),
    ],
)
def test_overrides_that_are_none(value: object, message: str) -> None:
    with pytest.raises(AlertError, match=message) as caught:
        read_overrides(value)
    assert caught.value.kind == "invalid_option"


@pytest.mark.parametrize(
    ("message", "path", "expected"),
    [
        ({"a": {"b": {"c": 1}}}, ("a", "b"), {"c": 1}),
        ({"a": {"b": 1}}, ("a", "b"), {}),
        ({"a": [1]}, ("a", "b"), {}),
        (None, ("a",), {}),
        ([], (), {}),
    ],
)
def test_part(message: object, path: tuple[str, ...], expected: object) -> None:
    assert part(message, *path) == expected


def test_texts() -> None:
    assert texts(["a", 1, None, ["b"], "c"]) == ["a", "c"]
    assert texts("ab") == texts(None) == texts({"a": 1}) == []


def test_first_text() -> None:
    assert first_text(None, "", "<NA>", 7, ["x"], "a", "b") == "a"
    assert first_text() == ""
