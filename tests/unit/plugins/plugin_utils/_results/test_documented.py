# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module may return."""

from __future__ import annotations

import importlib
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import documented
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError

MODULES = sorted(path.stem for path in documented.MODULES.glob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_what_is_read_by_patterns_is_what_yaml_says(module: str) -> None:
    name = f"ansible_collections.ironpost.container_guard.plugins.modules.{module}"
    returned = yaml.safe_load(importlib.import_module(name).RETURN)
    assert returned
    assert documented.documented(module) == {key: documented.TYPES[one["type"]] for key, one in returned.items()}


def test_the_modules_are_those_beside_it() -> None:
    assert pathlib.Path(documented.MODULES, "isolation.py").is_file()


def test_what_is_not_documented_is_dropped() -> None:
    core = {
        "ansible_facts": {"a": 1},
        "add_host": {},
        "ansible_stats": {},
        "failed_when_result": False,
        "skipped": True,
    }
    answer = {"changed": False, "summary": {}, "results": [], **core, "_ansible_no_log": True, "unreachable": True}
    assert documented.known("isolation", answer) == {"changed": False, "summary": {}, "results": []}


def test_a_host_writes_no_receipts() -> None:
    answer = {"changed": False, "responses": [], "summary": {}}
    assert documented.known("alert_response", {**answer, "receipts": [{"host": "web-2"}]}) == answer


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ({"changed": 1}, "changed is no bool"),
        ({"changed": "{{ true }}"}, "changed is no bool"),
        ({"changed": True, "failed": "no"}, "failed is no bool"),
        ({"changed": True, "results": {}}, "results is no list"),
        ({"changed": True, "summary": []}, "summary is no dict"),
        ({"changed": True, "rc": True}, "rc is no int"),
        ({"changed": True, "msg": ["a"]}, "msg is no str"),
        ({"results": [], "summary": {}}, "changed is missing"),
        ({"changed": False, "failed": False}, "results is missing"),
        ({"changed": False, "results": None}, "results is missing"),
    ],
)
def test_what_is_of_another_type_or_missing_is_no_answer(answer: dict[str, t.Any], what: str) -> None:
    with pytest.raises(AnswerError, match=what):
        documented.known("isolation", answer, ("results",))


def test_a_failure_may_say_nothing_else() -> None:
    answer = {"failed": True, "msg": "no", "error": {"kind": "x"}, "before": None}
    assert documented.known("isolation", answer, ("results",)) == answer
