# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import (
    limit_dicts,
    policy_sets,
    sets_of_policy_dicts,
)

SHELLS: dict[str, t.Any] = {
    "id": "shells",
    "priority": 10,
    "severity_threshold": "high",
    "rules": ["Terminal*"],
    "target_filter": {"labels": ["env=prod"], "exclude": {"container_names": ["canary"]}},
    "actions": [{"type": "pause"}],
}
STOP: dict[str, t.Any] = {"id": "stop", "mode": "audit", "action": {"type": "stop", "grace": 10}}


def compiled(*policies: dict[str, t.Any], **protect: list[str]) -> PolicySet:
    return PolicySet.of(map(Policy.from_dict, policies), TargetFilter.from_dict(protect))


SET = compiled(SHELLS, STOP, container_names=["falco"])


def damage(text: str) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        PolicySet.from_json(text, "/etc/set.json")
    assert caught.value.kind == "policy_set_damaged"
    assert "/etc/set.json" in caught.value.message
    assert caught.value.remedy == "Deploy the policy set again"
    return caught.value


def loaded(text: str) -> PolicySet | str:
    """The set, or the kind of the error."""
    try:
        return PolicySet.from_json(text, "here")
    except PolicyError as error:
        return error.kind


def edited(edit: t.Callable[[dict[str, t.Any]], object]) -> str:
    content = json.loads(SET.to_json())
    edit(content)
    return json.dumps(content)


def test_policies_are_asked_by_priority_and_then_by_id() -> None:
    policies = [
        {**STOP, "id": name, "priority": priority} for name, priority in (("c", 1), ("a", 2), ("b", 2), ("z", 0))
    ]
    assert [policy.id for policy in compiled(*policies).policies] == ["z", "c", "a", "b"]


@given(sets_of_policy_dicts(8), st.randoms(use_true_random=False))
def test_set_and_digest_do_not_depend_on_the_order(policies: list[dict[str, t.Any]], random: t.Any) -> None:
    first = compiled(*policies, container_names=["b", "a", "b"])
    random.shuffle(policies)
    second = compiled(*policies, container_names=["a", "b"])
    assert (first, first.digest, first.to_json()) == (second, second.digest, second.to_json())


@given(policy_sets(8))
def test_the_deployed_form_is_read_back_to_an_equal_set(policy_set: PolicySet) -> None:
    text = policy_set.to_json()
    again = PolicySet.from_json(text, "here")
    assert (again, again.digest, again.to_json()) == (policy_set, policy_set.digest, text)


def test_the_deployed_form_is_one_line_of_ascii() -> None:
    text = compiled({**STOP, "name": "Größe\n\U0001f433"}).to_json()
    assert text.isascii()
    assert text.count("\n") == 1
    assert PolicySet.from_json(text, "here").policies[0].name == "Größe\n\U0001f433"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "shells2"},
        {"name": "other"},
        {"description": "other"},
        {"enabled": False},
        {"priority": 11},
        {"mode": "audit"},
        {"severity_threshold": "low"},
        {"sources": ["falco"]},
        {"rules": []},
        {"tags": ["x"]},
        {"hosts": ["x"]},
        {"scope": "matching_containers"},
        {"fallback": [{"type": "stop"}]},
        {"evidence": ["logs"]},
        {"evidence": [{"type": "archive", "paths": ["/etc"]}]},
        {"cooldown": 1},
        {"release_after": 1},
        {"target_filter": {}},
        {"target_filter": {"labels": ["env=prod"]}},
        {"actions": [{"type": "stop"}]},
    ],
)
def test_everything_in_a_policy_counts_for_the_digest(change: dict[str, t.Any]) -> None:
    assert compiled(SHELLS).digest != compiled({**SHELLS, **change}).digest


def test_evidence_in_its_old_form_keeps_the_digest() -> None:
    policy_set = compiled({**STOP, "evidence": ["top", "inspect"]})
    assert json.loads(policy_set.to_json())["policies"][0]["evidence"] == ["top", "inspect"]


def test_archives_of_several_entries_are_one() -> None:
    first, second = ({"type": "archive", "paths": [path]} for path in ("/etc", "/root"))
    split = compiled({**STOP, "evidence": [first, "top", second]})
    joined = compiled({**STOP, "evidence": ["top", {"type": "archive", "paths": ["/etc", "/root"]}]})
    assert split.digest == joined.digest


def test_what_is_protected_counts_for_the_digest() -> None:
    assert compiled(SHELLS).digest != compiled(SHELLS, labels=["x"]).digest != compiled(SHELLS, labels=["y"]).digest


def test_limits_count_for_the_digest() -> None:
    sets = [
        dataclasses.replace(SET, limits=limits)
        for limits in (Limits(), Limits(2), Limits(1, 5, 60), Limits(1, 5, 61), Limits(1, 0, 0, 0), Limits(1, 0, 0, 60))
    ]
    assert len({policy_set.digest for policy_set in sets}) == len(sets)


def test_the_mode_counts_for_the_digest_and_is_kept() -> None:
    audit = dataclasses.replace(SET, mode="audit")
    assert audit.digest != SET.digest
    assert PolicySet.from_json(audit.to_json(), "here") == audit
    assert PolicySet.from_json(SET.to_json(), "here").mode == "enforce"


def test_a_set_deployed_by_an_older_version_is_read_with_the_defaults() -> None:
    content = json.loads(SET.to_json())
    assert "mode" not in content
    assert "max_alert_age" not in content["limits"]
    assert PolicySet.from_json(SET.to_json(), "here").limits.max_alert_age == 900


def test_limits() -> None:
    assert Limits.from_dict(None) == Limits.from_dict({}) == Limits(max_containers_per_alert=1, max_isolations=0)
    assert Limits().to_dict() == {"max_containers_per_alert": 1}
    value = {"max_containers_per_alert": 3, "max_isolations_per_window": {"count": 10, "seconds": 600}}
    assert Limits.from_dict(value) == Limits(3, 10, 600)
    assert Limits.from_dict(value).to_dict() == value
    for age in (0, 60, 86_400):
        assert Limits.from_dict({"max_alert_age": age}).max_alert_age == age
        assert Limits.from_dict({"max_alert_age": age}).to_dict()["max_alert_age"] == age


@given(limit_dicts)
def test_the_canonical_spelling_of_limits_is_read_back(value: dict[str, t.Any]) -> None:
    limits = Limits.from_dict(value)
    assert Limits.from_dict(limits.to_dict()) == limits


def test_an_id_may_stand_for_one_policy_only() -> None:
    with pytest.raises(PolicyError, match="more than one policy has the id shells, stop") as caught:
        compiled(SHELLS, STOP, {**SHELLS, "priority": 1}, {**STOP, "mode": "enforce"})
    assert caught.value.kind == "policies_invalid"


def test_any_change_of_one_character_is_harmless_or_found() -> None:
    text = SET.to_json()
    results = {
        loaded(text[:place] + character + text[place + 1 :])
        for place in range(len(text))
        for character in '0179eExX-."\\,:[]{} \n\x00é'
    }
    assert results == {SET, "policy_set_damaged"}


@given(st.data())
def test_any_part_cut_out_or_put_in_is_harmless_or_found(data: st.DataObject) -> None:
    text = SET.to_json()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert loaded(text[:start] + data.draw(st.text(max_size=5)) + text[end:]) in (SET, "policy_set_damaged")


def test_a_truncated_file_is_found() -> None:
    text = SET.to_json()
    for length in range(len(text) - 1):
        damage(text[:length])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"format"',
        "{}",
        "\ufeff{}",
        "id: yaml",
        '{"format": 1}',
        "[" * 100_000,
        '{"format": 1, "policies": 3, "protect": {}, "digest": ""}',
        '{"format": 1, "policies": {"a": 1}, "protect": {}, "digest": ""}',
        '{"format": 1, "policies": [], "protect": [], "digest": ""}',
        '{"format": 1, "policies": [], "protect": {"labels": [1, "a"]}, "digest": ""}',
        '{"format": 1, "policies": [], "protect": {"labels": 1}, "digest": ""}',
        pytest.param('{"format": %s}' % ("9" * 5000), id="huge number"),
    ],
)
def test_what_is_no_policy_set_is_found(text: str) -> None:
    damage(text)


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_format_is_named(version: object) -> None:
    message = damage(edited(lambda content: content.update(format=version))).message
    assert message == f"/etc/set.json has format {version!r}; this version of the collection reads 1"


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content["policies"].pop(),
        lambda content: content["policies"][0].update(severity_threshold="hihg"),
        lambda content: content["policies"][0].update(severity_threshold=3),
        lambda content: content["policies"][0].update(priority="10"),
        lambda content: content["policies"][0].update(priority=10.0),
        lambda content: content["policies"][0].update(priority=float("inf")),
        lambda content: content["policies"][0].update(actions=[]),
        lambda content: content["policies"][0].update(actions=[{"type": "stop"}]),
        lambda content: content["policies"][0].update(actions=7),
        lambda content: content["policies"][0].update(id=["a"]),
        lambda content: content["policies"][0].update(target_filter=[1]),
        lambda content: content["policies"][0].update(enabled=1),
        lambda content: content["policies"][0].update(scope="matching_containers"),
        lambda content: content["policies"][1].update(id="shells"),
        lambda content: content["policies"].append(content["policies"][0]),
        lambda content: content["protect"].clear(),
        lambda content: content.pop("limits"),
        lambda content: content["limits"].update(max_containers_per_alert=1_000),
        lambda content: content["limits"].update(max_isolations_per_window=7),
        lambda content: content["limits"].update(max_alert_age=0),
        lambda content: content.update(mode="audit"),
        lambda content: content.update(mode="off"),
        lambda content: content.update(mode=["audit"]),
        lambda content: content.update(limits=[1]),
        lambda content: content.pop("digest"),
        lambda content: content.update(digest=None),
        lambda content: content.update(digest=content["digest"].upper()),
    ],
)
def test_a_tampered_file_is_found(edit: t.Callable[[dict[str, t.Any]], object]) -> None:
    damage(edited(edit))


@pytest.mark.parametrize("depth", [100, 1_000, 5_000, 20_000, 100_000])
def test_deep_nesting_inside_a_policy_is_found(depth: int) -> None:
    damage(SET.to_json().replace('"Terminal*"', "[" * depth + "]" * depth))


def test_what_json_leaves_free_does_not_matter() -> None:
    content = json.loads(SET.to_json())
    assert PolicySet.from_json(json.dumps(dict(reversed(content.items())), indent=2), "here") == SET
