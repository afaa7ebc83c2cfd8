# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib
import random
import re
import tempfile
import typing as t

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.load import (
    LoadedPolicies,
    load_policies,
)
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import (
    policy_dicts,
    sets_of_policy_dicts,
)

PAUSE = "actions: [{type: pause}]\ntarget_filter: {labels: [x]}\n"


def load(files: dict[str, str]) -> LoadedPolicies:
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            (pathlib.Path(directory) / name).write_text(text, encoding="utf-8", newline="")
        return load_policies(pathlib.Path(directory))


def problems(files: dict[str, str]) -> list[str]:
    """What is wrong, a line each."""
    with pytest.raises(PolicyError) as caught:
        load(files)
    assert caught.value.kind == "policies_invalid"
    assert caught.value.remedy == "Nothing was deployed, and what was deployed before stays"
    lines = caught.value.message.splitlines()
    assert len(lines) == 1 + sum(found["level"] == "error" for found in caught.value.details["findings"])
    return [line.strip() for line in lines[1:]]


def in_yaml(value: object, **style: bool) -> str:
    """The value in YAML, without aliases."""
    return yaml.safe_dump(json.loads(json.dumps(value)), **style)


def in_toml(value: object) -> str:
    """The value in TOML, without the forms that only people need."""
    if isinstance(value, dict):
        return "{{{}}}".format(", ".join(f"{json.dumps(key)} = {in_toml(item)}" for key, item in value.items()))
    if isinstance(value, list):
        return "[{}]".format(", ".join(map(in_toml, value)))
    return json.dumps(value, ensure_ascii=False)


def test_a_file_with_one_policy_and_one_with_many() -> None:
    loaded = load(
        {
            "one.yml": f"id: a\n{PAUSE}",
            "many.json": '{"policies": [{"id": "b", "action": {"type": "stop"}, "target_filter": {"labels": ["x"]}}]}',
            "three.toml": 'id = "c"\naction = {type = "pause"}\n[target_filter]\nlabels = ["x"]\n',
        }
    )
    assert [policy.id for policy in loaded.policy_set.policies] == ["a", "b", "c"]
    assert loaded.warnings == ()


def test_lists_of_protected_containers_are_merged() -> None:
    loaded = load(
        {
            "a.yml": "protect: {container_names: [b, a], labels: [x]}\npolicies: []\n",
            "b.yml": "protect: {container_names: [c, a]}\n",
            "c.toml": '[protect]\nimage_patterns = ["i"]\n',
        }
    )
    assert loaded.policy_set.protect == TargetFilter(("a", "b", "c"), ("i",), ("x",))


# Each is a whole file, and a fragment that the line about it holds.
MISTAKES = {
    "misspelt key": ("id: p\nrulse: [a]\n" + PAUSE, "a.yml: policy p: unknown key rulse (did you mean rules?)"),
    "two misspelt keys": (
        "id: p\nrulse: [a]\nsorces: [b]\n" + PAUSE,
        "unknown key rulse, sorces (did you mean rules, sources?)",
    ),
    "key of nothing": ("id: p\nxyzzy: 1\n" + PAUSE, "unknown key xyzzy (known keys: action, actions, description,"),
    "key that is no text": ("id: p\n7: 1\n" + PAUSE, "policy p: unknown key 7"),
    "misspelt key in a filter": (
        "id: p\naction: {type: pause}\ntarget_filter: {lables: [a]}\n",
        "target_filter: unknown key lables (did you mean labels?)",
    ),
    "misspelt key in an exclusion": (
        "id: p\naction: {type: pause}\ntarget_filter: {exclude: {image_pattern: [a]}}\n",
        "target_filter.exclude: unknown key image_pattern (did you mean image_patterns?)",
    ),
    "misspelt key of a file": ("polices: []\n", "a.yml: unknown key polices (did you mean policies?)"),
    "misspelt key in protect": (
        "protect: {container_name: [a]}\n",
        "protect: unknown key container_name (did you mean",
    ),
    "key of a policy in a file of many": (
        "policies: []\nenabled: true\n",
        "a.yml: unknown key enabled (known keys: policies, protect)",
    ),
    "severity in another case": (
        "id: p\nseverity_threshold: Critical\n" + PAUSE,
        "severity_threshold: 'Critical' is not one of info, low, medium, high, critical (did you mean critical?)",
    ),
    "unknown severity": ("id: p\nseverity_threshold: urgent\n" + PAUSE, "'urgent' is not one of info, low,"),
    "severity as number": ("id: p\nseverity_threshold: 3\n" + PAUSE, "severity_threshold: 3 is not one of info,"),
    "misspelt mode": (
        "id: p\nmode: enforced\n" + PAUSE,
        "'enforced' is not one of enforce, audit (did you mean enforce?)",
    ),
    "misspelt action": (
        "id: p\nactions: [{type: network_disconect, networks: [a]}]\n",
        "'network_disconect' is not one of network_disconnect, pause, stop (did you mean network_disconnect?)",
    ),
    "action without type": ("id: p\nactions: [{networks: [a]}]\n", "policy p: actions.0: type is missing"),
    "action as text": ("id: p\naction: pause\n", "action: 'pause' is not a mapping"),
    "option of another action": (
        "id: p\nactions: [{type: stop}, {type: pause, grace: 5}]\n",
        "actions.1.grace: it is not an option of this type of action",
    ),
    "misspelt option of an action": (
        "id: p\naction: {type: stop, graec: 5}\n",
        "action: unknown key graec (did you mean grace?)",
    ),
    "grace too long": ("id: p\naction: {type: stop, grace: 301}\n", "action.grace: 301 is larger than 300"),
    "no action": ("id: p\n", "policy p: there must be either actions or action"),
    "empty actions": ("id: p\nactions: []\n", "actions: the list is empty"),
    "both actions and action": ("id: p\naction: {type: stop}\n" + PAUSE, "there must be either actions or action"),
    "pause and stop": (
        "id: p\nactions: [{type: pause}, {type: stop}]\n",
        "policy p: pause and stop exclude each other: stopping runs a paused container again until it ends (Keep",
    ),
    "an action twice": ("id: p\nactions: [{type: pause}, {type: pause}]\n", "policy p: action pause is given twice"),
    "too many actions": (
        "id: p\nactions: [" + "{type: pause}, " * 4 + "]\n",
        "has more than 3 entries",
    ),
    "no id": ("name: p\n" + PAUSE, "a.yml: policy number 1: id is missing"),
    "no id among many": (
        "policies:\n  - {id: p, action: {type: pause}}\n  - {action: {type: pause}}\n",
        "policy number 2: id",
    ),
    "id with a space": ("id: a b\n" + PAUSE, "policy a b: id: 'a b' cannot stand here (Unique in the set: up to 128"),
    "id that ends in a newline": ('id: "a\\n"\n' + PAUSE, r"policy a\n: id: 'a\n' cannot stand here"),
    "id as number": ("id: 7\n" + PAUSE, "policy 7: id: 7 is not text (put it in quotes)"),
    "id as date": ("id: 2026-01-02\n" + PAUSE, "policy number 1: id: datetime.date(2026, 1, 2) is not text (put it in"),
    "text for a list": ("id: p\nrules: Terminal\n" + PAUSE, "rules: 'Terminal' is not a list (put it in brackets)"),
    "number in a list": ("id: p\ntags: [a, 404]\n" + PAUSE, "tags.1: 404 is not text (put it in quotes)"),
    "nothing in a list": ("id: p\ntags: [a, ]\nrules: [~]\n" + PAUSE, "rules.0: None is not text"),
    "empty list": ("id: p\nsources: []\n" + PAUSE, "sources: the list is empty"),
    "empty glob": ("id: p\nsources: ['']\n" + PAUSE, "sources.0: the text is empty"),
    "long list": ("id: p\nsources: [" + "a, " * 257 + "]\n" + PAUSE, "sources: the list has more than 256 entries"),
    "long text": ("id: p\nname: " + "x" * 9999 + "\n" + PAUSE, "xxx' is longer than 256 characters"),
    "label without key": (
        "protect: {labels: ['=prod']}\n",
        "protect.labels.0: '=prod' cannot stand here (key, or key=glob.)",
    ),
    "text for a switch": ("id: p\nenabled: 'false'\n" + PAUSE, "enabled: 'false' is not true or false"),
    "text for a number": ("id: p\npriority: high\n" + PAUSE, "priority: 'high' is not a whole number"),
    "fraction": ("id: p\npriority: 10.0\n" + PAUSE, "priority: 10.0 is not a whole number"),
    "no number": ("id: p\npriority: .nan\n" + PAUSE, "priority: nan is not a whole number"),
    "switch for a number": ("id: p\npriority: true\n" + PAUSE, "priority: True is not a whole number"),
    "negative number": ("id: p\npriority: -1\n" + PAUSE, "priority: -1 is smaller than 0"),
    "list for a mapping": (
        "id: p\naction: {type: pause}\ntarget_filter: [a]\n",
        "target_filter: ['a'] is not a mapping",
    ),
    "policies as mapping": ("policies: {id: p}\n", "a.yml: policies: {'id': 'p'} is not a list"),
    "policies left empty": ("policies:\n", "a.yml: policies: None is not a list"),
    "policy as text": ("policies: [p]\n", "policy number 1: 'p' is not a mapping"),
    "list of policies without its key": ("- id: p\n", "a.yml: it is not a mapping (it holds one policy, or policies:"),
    "empty file": ("", "a.yml: it is not a mapping"),
    "only comments": ("# policies: []\n", "a.yml: it is not a mapping"),
    "empty mapping": ("{}\n", "a.yml: it holds neither policies nor protect"),
    "same id twice": (
        "policies:\n  - {id: p, action: {type: pause}}\n  - {id: p, action: {type: stop}}\n",
        "a.yml: policy p: the id is used in a.yml already (ids are unique in a set)",
    ),
    "key twice": ("id: p\nid: q\n" + PAUSE, "a.yml:2: the key id stands twice in one mapping"),
    "broken YAML": (
        "id: p\nrules: [a\n",
        "a.yml:3: it is not YAML: while parsing a flow sequence, expected ',' or ']'",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_explained_in_one_line(text: str, expected: str) -> None:
    (line,) = problems({"a.yml": text})
    assert expected in line
    assert len(line) < 300


def test_all_problems_of_a_directory_are_reported_at_once() -> None:
    assert problems(
        {
            "a.yml": "protcet: {}\npolicies:\n- {id: one, rulse: [a]}\n- {id: two, mode: x, action: {type: paus}}\n",
            "b.json": '{"id": "two", "action": {"type": "pause"}}',
            "c.toml": "id = ",
            "d.yml": "id: [\n",
            "e.yml": "id: three\naction: {type: pause}\n",
        }
    ) == [
        "c.toml: it is not TOML: Invalid value (at end of document)",
        "d.yml:2: it is not YAML: while parsing a flow node, expected the node content, but found '<stream end>'",
        "a.yml: unknown key protcet (did you mean protect?)",
        "a.yml: policy one: unknown key rulse (did you mean rules?)",
        "a.yml: policy one: there must be either actions or action",
        "a.yml: policy two: mode: 'x' is not one of enforce, audit",
        "a.yml: policy two: action.type: 'paus' is not one of network_disconnect, pause, stop (did you mean pause?)",
        "b.json: policy two: the id is used in a.yml already (ids are unique in a set)",
    ]


def test_problems_are_told_to_programs_too() -> None:
    with pytest.raises(PolicyError) as caught:
        load({"a.yml": "id: p\nmode: x\naction: {type: pause}\n", "b.yml": "a: *b\n", "c.foo": ""})
    findings = caught.value.to_dict()["findings"]
    assert [(found["file"], found["policy_id"], found["line"], found["level"]) for found in findings] == [
        ("b.yml", "", 1, "error"),
        ("c.foo", "", 0, "warning"),
        ("a.yml", "p", 0, "error"),
    ]
    assert json.loads(json.dumps(findings)) == findings
    assert "c.foo" not in caught.value.message, "a warning is no problem"


@pytest.mark.parametrize(
    "target_filter",
    ["", "target_filter: {}\n", "target_filter: {labels: []}\n", "target_filter: {exclude: {labels: [x]}}\n"],
)
def test_a_policy_that_may_reach_any_container_is_warned_of(target_filter: str) -> None:
    (warning,) = load({"a.yml": f"id: p\naction: {{type: pause}}\n{target_filter}"}).warnings
    assert str(warning) == (
        "a.yml: policy p: it may reach any container (say which in target_filter if that is not what you want)"
    )


@pytest.mark.parametrize("text", ["policies: []\n", "protect: {labels: [x]}\n"])
def test_a_set_without_policies_is_deployed_with_a_warning(text: str) -> None:
    loaded = load({"a.yml": text})
    assert loaded.policy_set.policies == ()
    assert [str(warning) for warning in loaded.warnings] == [".: there is no policy, so no alert is answered"]


def many(number: int) -> list[dict[str, t.Any]]:
    return [{"id": f"p{index}", "action": {"type": "pause"}} for index in range(number)]


def test_a_thousand_policies_are_a_set() -> None:
    loaded = load({"a.json": json.dumps({"policies": many(999)}), "b.yml": f"id: last\n{PAUSE}"})
    assert len(loaded.policy_set.policies) == 1000


def test_more_policies_are_refused() -> None:
    assert problems({"a.json": json.dumps({"policies": many(1000)}), "b.yml": f"id: last\n{PAUSE}"}) == [
        ".: there are 1001 policies (a set has at most 1000)"
    ]


def missing(source: pathlib.Path) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load_policies(source)
    assert caught.value.kind == "policies_missing"
    assert str(source) in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_a_missing_directory(tmp_path: pathlib.Path) -> None:
    assert "cannot be read: No such file or directory" in missing(tmp_path / "nowhere").message


def test_a_directory_without_policy_files(tmp_path: pathlib.Path) -> None:
    for name in ("README.md", ".hidden.yml"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    assert "policies: []" in missing(tmp_path).remedy


def test_a_directory_with_a_misspelt_suffix_only_deploys_no_empty_set(tmp_path: pathlib.Path) -> None:
    (tmp_path / "policies.ymll").write_text(f"id: p\n{PAUSE}")
    assert "policies.ymll: the file is not read" in missing(tmp_path).message
    assert "policies.ymll: the file is not read" in missing(tmp_path / "policies.ymll").message


@settings(max_examples=40)
@given(sets_of_policy_dicts(6), st.randoms(use_true_random=False))
def test_files_formats_and_order_make_no_difference(policies: list[dict[str, t.Any]], shuffle: random.Random) -> None:
    shuffled = shuffle.sample(policies, len(policies))
    protect = {"labels": ["x", "y"]}
    whole = {"policies": policies, "protect": protect}
    half = len(policies) // 2
    spellings: list[dict[str, str]] = [
        {"a.yml": in_yaml(whole)},
        {"a.yml": in_yaml(whole, allow_unicode=True, default_flow_style=True, sort_keys=False)},
        {"a.json": json.dumps(whole)},
        {"a.toml": f"policies = {in_toml(policies)}\nprotect = {in_toml(protect)}\n"},
        {
            "a.json": json.dumps({"policies": shuffled[:half], "protect": {"labels": ["y"]}}),
            "b.yaml": in_yaml({"policies": shuffled[half:], "protect": {"labels": ["x", "y"]}}),
        },
        {
            "protect.json": json.dumps({"protect": protect}),
            **{f"{place}.yml": in_yaml(policy) for place, policy in enumerate(shuffled)},
        },
    ]
    sets = [load(files).policy_set for files in spellings]
    assert {policy_set.digest for policy_set in sets} == {sets[0].digest}
    assert {policy_set.to_json() for policy_set in sets} == {sets[0].to_json()}
    assert PolicySet.from_json(sets[0].to_json(), "here") == sets[0]


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.sampled_from(["id", "pause", "info", "enforce", "*", "=", "{{", "2026-01-01"]),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "policies", "protect", "actions", "action", "type", "labels", "target_filter", "exclude"]
            )
            | st.text(max_size=4),
            values,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@st.composite
def nearly_policies(draw: st.DrawFn) -> dict[str, t.Any]:
    """A valid policy in which something was replaced."""
    policy = draw(policy_dicts(st.just("p")))
    place: t.Any = policy
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.booleans()):
            place[key] = draw(json_like)
            return policy
        place = place[key]


def loads_or_explains(files: dict[str, str]) -> None:
    """Whatever the files hold, they are a set that a host can read, or a PolicyError that can be shown."""
    try:
        loaded = load(files)
    except PolicyError as error:
        shown = f"{error} {json.dumps(error.to_dict(), ensure_ascii=False)}"
    else:
        shown = " ".join(map(str, loaded.warnings))
        assert PolicySet.from_json(loaded.policy_set.to_json(), "here") == loaded.policy_set
    assert re.sub(r"\n  ", "", shown).isprintable()
    assert len(shown) < 10_000


@settings(max_examples=150)
@given(json_like | nearly_policies())
@example({"id": "\ud800", "action": {"type": "\ud800"}})
@example({"policies": [{"\ud800\n": 1}], "\x1b[2J": 1})
@example({"id": float("nan"), "priority": float("inf"), "action": {"type": "pause"}})
def test_any_content_is_a_set_or_a_policy_error(content: object) -> None:
    loads_or_explains({"a.json": json.dumps(content)})
    loads_or_explains({"a.yml": in_yaml(content)})
    loads_or_explains({"a.json": json.dumps({"policies": [content, content], "protect": content})})


snippets = st.lists(
    st.sampled_from(
        ["id", "a", "1", ":", ": ", "- ", "\n", "\n  ", "[", "]", "{", "}", ",", "'", '"', "&x ", "*x", "!!", "!!int ",
         "!!set ", "!!omap ", "!!binary ", "!!float ", "!!null ", "? ", "| ", "> ", "<<", "#", "%", "---", "=", "~",
         ".inf", "0x", "1:2", "2026-01-01", "\t", "\x85", "[[", "]]", "'''", "\\u"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@settings(max_examples=300)
@given(snippets | st.text(max_size=30), st.sampled_from(["yml", "json", "toml"]))
@example("!!set {[a]}", "yml")
@example("!!pairs [a]", "yml")
@example("id: !!float ''", "yml")
@example("id: !!binary é", "yml")
@example("1:2:3: 4", "yml")
@example("a = 0x" + "f" * 5000, "toml")
def test_any_text_is_a_set_or_a_policy_error(text: str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        (pathlib.Path(directory) / f"a.{suffix}").write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(PolicyError) as caught:
            load_policies(pathlib.Path(directory))
    assert caught.value.kind == "policies_invalid"
