# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The schema of policies, and docs/policy.schema.json, which is made from it for editors.

To write that file anew: python -m tests.unit.plugins.module_utils._policy.test_schema
"""

from __future__ import annotations

import json
import pathlib
import typing as t

import jsonschema
import pytest
from hypothesis import given

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import ACTION_TYPES
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import EVIDENCE
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.schema import POLICY, POLICY_FILE
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import (
    sets_of_policy_dicts,
)

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
EDITOR_SCHEMA = REPOSITORY / "docs" / "policy.schema.json"
FULL: dict[str, t.Any] = {
    "id": "p",
    "name": "Policy",
    "description": "Why",
    "enabled": True,
    "priority": 1,
    "mode": "audit",
    "severity_threshold": "low",
    "sources": ["a"],
    "rules": ["b"],
    "tags": ["c"],
    "hosts": ["l"],
    "scope": "matching_containers",
    "target_filter": {
        "container_names": ["d"],
        "image_patterns": ["e"],
        "labels": ["f=g"],
        "exclude": {"container_names": ["h"], "image_patterns": ["i"], "labels": ["j"]},
    },
    "actions": [
        {"type": "network_disconnect", "networks": ["k"]},
        {"type": "stop", "grace": 1, "approval": True, "approval_timeout": 60},
    ],
    "fallback": [{"type": "pause"}],
    "evidence": ["logs", {"type": "archive", "paths": ["/etc"]}],
    "cooldown": 1,
    "release_after": 1,
    "on_breach": {"action": "escalate", "max_repairs": 2, "window": 60, "then": "report"},
}
LIMITED: dict[str, t.Any] = {
    "max_containers_per_alert": 2,
    "max_isolations_per_window": {"count": 3, "seconds": 60},
    "max_alert_age": 60,
}


def editor_schema() -> str:
    """One schema for both kinds of policy file."""
    properties = POLICY_FILE["properties"]
    policy = {"$ref": "#/$defs/policy"}
    many = {**POLICY_FILE, "properties": {**properties, "policies": {**properties["policies"], "items": policy}}}
    dialect = many.pop("$schema")
    title = many.pop("title")
    schema = {"$schema": dialect, "title": title, "anyOf": [many, policy], "$defs": {"policy": POLICY}}
    return json.dumps(schema, indent=2) + "\n"


def problems(value: object, schema: dict[str, t.Any] = POLICY) -> list[str]:
    return [problem.message for problem in jsonschema.Draft202012Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("schema", [POLICY, POLICY_FILE, json.loads(editor_schema())])
def test_it_is_a_json_schema(schema: dict[str, t.Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_schema_for_editors_is_up_to_date() -> None:
    assert EDITOR_SCHEMA.read_text(encoding="utf-8") == editor_schema(), __doc__


def test_the_schema_for_editors_takes_a_file_with_one_policy_or_with_many() -> None:
    schema = json.loads(editor_schema())
    assert problems(FULL, schema) == []
    assert problems({"policies": [FULL, FULL], "protect": {"labels": ["x"]}}, schema) == []
    assert problems({"protect": {}}, schema) == []
    assert problems({"limits": LIMITED}, schema) == []
    assert problems({}, schema)
    assert problems({"policies": [{"id": "a"}]}, schema)
    assert problems({**FULL, "policies": []}, schema)


@given(sets_of_policy_dicts(2))
def test_what_people_may_write_and_its_canonical_spelling_are_valid(values: list[dict[str, t.Any]]) -> None:
    assert problems({"policies": values}, POLICY_FILE) == []
    for value in values:
        canonical = Policy.from_dict(value).to_dict()
        # Empty lists say "any" there, which people say by leaving the key out.
        assert problems({key: item for key, item in canonical.items() if item != []}) == []


def test_the_schema_knows_exactly_the_keys_of_a_policy() -> None:
    assert problems(FULL) == []
    canonical = Policy.from_dict(FULL).to_dict()
    assert canonical == FULL
    assert set(POLICY["properties"]) == {*canonical, "action"}
    target_filter = POLICY["properties"]["target_filter"]["properties"]
    assert set(target_filter) == set(canonical["target_filter"])
    assert set(target_filter["exclude"]["properties"]) == set(canonical["target_filter"]["exclude"])
    assert set(POLICY["properties"]["action"]["properties"]) == {
        key for action in canonical["actions"] for key in action
    }


@pytest.mark.parametrize(
    ("mode", "valid"),
    [("enforce", True), ("audit", True), ("Audit", False), ("off", False), ("", False), (None, False)],
)
def test_the_mode_of_a_whole_set(mode: object, valid: bool) -> None:
    assert (problems({"mode": mode}, POLICY_FILE) == []) is valid


@pytest.mark.parametrize("action_type", ACTION_TYPES)
@pytest.mark.parametrize(
    ("option", "value", "owner"), [("networks", ["a"], "network_disconnect"), ("grace", 1, "stop")]
)
def test_an_option_belongs_to_one_type_of_action(action_type: str, option: str, value: object, owner: str) -> None:
    valid = problems({"id": "p", "action": {"type": action_type, option: value}}) == []
    assert valid == (action_type == owner)


@pytest.mark.parametrize("policy_id", ["a", "0", "A-b_c.d", "a" * 128])
def test_ids(policy_id: str) -> None:
    assert problems({**FULL, "id": policy_id}) == []


@pytest.mark.parametrize("policy_id", ["", "a" * 129, "-a", ".a", "a b", "a/b", "ä", "a\n", "{{a}}", 1, None])
def test_no_ids(policy_id: object) -> None:
    assert problems({**FULL, "id": policy_id})


@pytest.mark.parametrize(
    ("bounds", "valid"),
    [
        ({"priority": 0}, True),
        ({"priority": -1}, False),
        ({"priority": 1_000_000}, True),
        ({"priority": 1_000_001}, False),
        ({"priority": True}, False),
        ({"rules": []}, False),
        ({"rules": [""]}, False),
        ({"rules": ["a" * 256] * 256}, True),
        ({"rules": ["a" * 257]}, False),
        ({"rules": ["a"] * 257}, False),
        ({"actions": []}, False),
        ({"actions": [{"type": "pause"}] * 5}, False),
        ({"actions": [{"type": "stop", "grace": 300}]}, True),
        ({"actions": [{"type": "stop", "grace": 301}]}, False),
        ({"actions": [{"type": "stop", "grace": -1}]}, False),
        ({"hosts": []}, False),
        ({"scope": "host"}, False),
        ({"fallback": []}, True),
        ({"fallback": [{"type": "pause", "grace": 1}]}, False),
        ({"fallback": [{"type": "pause"}] * 5}, False),
        ({"evidence": []}, True),
        ({"evidence": list(EVIDENCE)}, True),
        ({"evidence": ["memory"]}, False),
        ({"evidence": ["archive"]}, False),
        ({"evidence": [7]}, False),
        ({"evidence": [{"type": "archive", "paths": ["/", "/a b/ä/{{c}}"]}]}, True),
        ({"evidence": [{"type": "archive", "paths": ["/"] * 100}]}, True),
        ({"evidence": [{"type": "archive", "paths": ["/"] * 101}]}, False),
        ({"evidence": [{"type": "archive", "paths": []}]}, False),
        ({"evidence": [{"type": "archive", "paths": ["etc"]}]}, False),
        ({"evidence": [{"type": "archive", "paths": ["/a\n"]}]}, False),
        ({"evidence": [{"type": "archive", "paths": ["/a\x00b"]}]}, False),
        ({"evidence": [{"type": "archive"}]}, False),
        ({"evidence": [{"paths": ["/etc"]}]}, False),
        ({"evidence": [{"type": "logs", "paths": ["/etc"]}]}, False),
        ({"evidence": [{"type": "archive", "paths": ["/etc"], "lines": 1}]}, False),
        ({"cooldown": 0}, True),
        ({"cooldown": 604_800}, True),
        ({"cooldown": 604_801}, False),
        ({"cooldown": -1}, False),
        ({"release_after": 31_536_000}, True),
        ({"release_after": 31_536_001}, False),
        ({"release_after": -1}, False),
        ({"on_breach": "report"}, True),
        ({"on_breach": "ignore"}, False),
        ({"on_breach": {"max_repairs": 1, "then": "network_disconnect"}}, True),
        ({"on_breach": {"max_repairs": 0}}, False),
        ({"on_breach": {"window": 86_401}}, False),
        ({"on_breach": {"then": "repair"}}, False),
        ({"on_breach": {"then": "stop"}}, False),
        ({"on_breach": {"often": 1}}, False),
        ({"target_filter": {"labels": []}}, True),
        ({"target_filter": {"labels": ["=a"]}}, False),
        ({"target_filter": {"exclude": {"exclude": {}}}}, False),
        ({"action": {"type": "pause"}}, False),
    ],
)
def test_bounds(bounds: dict[str, t.Any], valid: bool) -> None:
    assert (problems({**FULL, **bounds}) == []) is valid


@pytest.mark.parametrize(
    ("limits", "valid"),
    [
        ({}, True),
        ({"max_containers_per_alert": 1}, True),
        ({"max_containers_per_alert": 0}, False),
        ({"max_alert_age": 0}, True),
        ({"max_alert_age": 86_400}, True),
        ({"max_alert_age": 86_401}, False),
        ({"max_alert_age": -1}, False),
        ({"max_alert_age": "15m"}, False),
        ({"max_alert_age": None}, False),
        ({"max_containers_per_alert": 1_000}, True),
        ({"max_containers_per_alert": 1_001}, False),
        ({"max_isolations_per_window": {"count": 1, "seconds": 1}}, True),
        ({"max_isolations_per_window": {"count": 10_000, "seconds": 86_400}}, True),
        ({"max_isolations_per_window": {"count": 0, "seconds": 1}}, False),
        ({"max_isolations_per_window": {"count": 10_001, "seconds": 1}}, False),
        ({"max_isolations_per_window": {"count": 1, "seconds": 0}}, False),
        ({"max_isolations_per_window": {"count": 1, "seconds": 86_401}}, False),
        ({"max_isolations_per_window": {"count": 1}}, False),
        ({"max_isolations_per_window": {"seconds": 1}}, False),
        ({"max_isolations_per_window": 5}, False),
        ({"max_isolations": 5}, False),
    ],
)
def test_bounds_of_limits(limits: dict[str, t.Any], valid: bool) -> None:
    assert (problems({"limits": limits}, POLICY_FILE) == []) is valid


def test_the_schema_knows_exactly_the_keys_of_limits() -> None:
    assert problems({"limits": LIMITED}, POLICY_FILE) == []
    assert Limits.from_dict(LIMITED).to_dict() == LIMITED
    assert set(POLICY_FILE["properties"]["limits"]["properties"]) == set(LIMITED)


def test_every_key_is_described() -> None:
    def undescribed(schema: dict[str, t.Any], at: str) -> t.Iterator[str]:
        for name, value in schema.get("properties", {}).items():
            if not str(value.get("description", "")).endswith("."):
                yield f"{at}.{name}"
            yield from undescribed(value, f"{at}.{name}")
        if "items" in schema:
            yield from undescribed(schema["items"], f"{at}[]")

    assert list(undescribed(POLICY_FILE, "")) == []


if __name__ == "__main__":
    EDITOR_SCHEMA.write_text(editor_schema(), encoding="utf-8")
