# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policy tests: how they are read, and what they find."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies import cases as policy_cases
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.cases import check_cases

POLICIES: list[dict[str, t.Any]] = [
    {
        "id": "shells",
        "priority": 10,
        "severity_threshold": "high",
        "rules": ["Terminal shell*"],
        "target_filter": {"labels": ["env=prod"]},
        "actions": [{"type": "pause"}, {"type": "network_disconnect"}],
    },
    {"id": "watch", "rules": ["Terminal*"], "hosts": ["web-*"], "mode": "audit", "action": {"type": "stop"}},
    {"id": "sweep", "scope": "matching_containers", "rules": ["Miner"], "action": {"type": "stop"}},
    {"id": "ask", "rules": ["Ask"], "action": {"type": "kill", "approval": True}},
    {"id": "off", "enabled": False, "rules": ["Off"], "action": {"type": "stop"}},
]
SET = PolicySet.of(map(Policy.from_dict, POLICIES), TargetFilter(container_names=("falco*",)))

ALERT = {"source": "falco", "rule": "Terminal shell in container", "severity": "critical"}
FALCO = {
    "rule": "Terminal shell in container",
    "priority": "Critical",
    "output_fields": {"container.id": "0123456789ab"},
}
PROD = {"name": "web-1", "image": "nginx:1.27", "labels": {"env": "prod"}}
SHELLS = {"policy": "shells"}
NONE = {"policy": None}
CASE = {"name": "shell", "alert": ALERT, "container": PROD, "expect": SHELLS}


def case(**keys: t.Any) -> dict[str, t.Any]:
    return {name: value for name, value in {**CASE, **keys}.items() if value is not ...}


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "tests").mkdir()
    return tmp_path


def check(source: pathlib.Path, *cases: object, name: str = "cases.yml") -> int:
    (source / "tests" / name).write_text(json.dumps({"cases": list(cases)}))
    return check_cases(source, SET).passed


def refused(source: pathlib.Path, *cases: object) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        check(source, *cases)
    assert "what was deployed before stays" in caught.value.remedy
    return caught.value


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"alert": FALCO},
        {"alert": {**ALERT, "container": {"name": "web-1"}}},
        {"alert": {**ALERT, "container": {"id": "0123456789ab"}}},
        {"expect": {"policy": "shells", "outcome": "isolate", "actions": ["network_disconnect", "pause"]}},
        {"container": {**PROD, "name": "falco-1"}, "expect": {"policy": "shells", "outcome": "protected"}},
        {"container": {"name": "web-1"}, "expect": NONE},
        {"container": {"name": "web-1"}, "host": "web-7", "expect": {"policy": "watch", "outcome": "audit"}},
        {"container": {"name": "web-1", "images": ["a", "b"]}, "host": "db-1", "expect": NONE},
        {
            "alert": {**ALERT, "source": "suricata", "rule": "Miner"},
            "scope": "matching_containers",
            "expect": {"policy": "sweep"},
        },
        {"alert": {**ALERT, "rule": "Miner"}, "scope": "matching_containers", "expect": NONE},  # falco names containers
        {"alert": {**FALCO, "output_fields": {"container.id": "host"}}, "expect": NONE},
        {"alert": {**FALCO, "output_fields": {"container.id": "101"}}, "expect": NONE},
        {"alert": {**FALCO, "output_fields": {"container.id": "host"}}, "scope": "matching_containers", "expect": NONE},
        {"alert": {**ALERT, "rule": "Miner"}, "expect": NONE},
        {"alert": {**ALERT, "rule": "Other"}, "container": None, "expect": {"policy": None, "outcome": "no_policy"}},
        {"alert": {**ALERT, "rule": "Off"}, "container": ..., "expect": NONE},
    ],
)
def test_what_is_expected(source: pathlib.Path, keys: dict[str, t.Any]) -> None:
    assert check(source, case(**keys)) == 1


@pytest.mark.parametrize(
    ("keys", "expected", "actual", "reason"),
    [
        (
            {"alert": {**ALERT, "severity": "low"}},
            "isolate by shells",
            "no_policy",
            "shells: severity_threshold high does not match low",
        ),
        (
            {"container": {**PROD, "labels": {"env": "test"}}},
            "isolate by shells",
            "no_policy",
            "shells: labels [env=prod] does not match [env=test]",
        ),
        (
            {"host": "web-1", "expect": {"policy": "watch", "outcome": "audit"}},
            "audit by watch",
            "isolate by shells",
            "watch: it matches too, and is asked later",
        ),
        ({"expect": NONE}, "no_policy", "isolate by shells", "labels [env=prod] matches [env=prod]"),
        (
            {"container": ..., "expect": NONE},
            "no_policy",
            "isolate by shells",
            "it may reach some container",
        ),
        (
            {"expect": {"policy": "shells", "actions": ["pause"]}},
            "isolate by shells with pause",
            "isolate by shells with network_disconnect, pause",
            "labels [env=prod] matches [env=prod]",
        ),
        (
            {"container": {**PROD, "name": "falco"}},
            "isolate by shells",
            "protected by shells",
            "protected: container_names [falco*] matches [falco]",
        ),
        (
            {"alert": {**ALERT, "rule": "Off"}, "expect": {"policy": "off"}},
            "isolate by off",
            "no_policy",
            "off: it is disabled",
        ),
    ],
)
def test_what_is_not_expected(
    source: pathlib.Path, keys: dict[str, t.Any], expected: str, actual: str, reason: str
) -> None:
    error = refused(source, case(name="good", expect={"policy": "shells"}), case(**keys))
    assert error.kind == "policy_tests_failed"
    assert f"  tests/cases.yml: shell\n    expected: {expected}\n    actual:   {actual}\n" in error.message
    assert f"\n      {reason}" in error.message
    assert "1 of 2 policy tests" in error.message
    (failure,) = error.details["failures"]
    assert (failure["file"], failure["case"]) == ("tests/cases.yml", "shell")
    assert reason in failure["reasons"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": ...}, "case number 1: the case lacks name"),
        ({"name": 7}, "case 7: name is not text (put it in quotes)"),
        ({"alrt": ALERT}, "case shell: the case has the unknown key alrt (did you mean alert?)"),
        ({"alert": "x"}, "case shell: alert: the message is not a JSON object"),
        ({"alert": {"source": "x", "rule": "y"}}, "case shell: alert: severity is not one of"),
        ({"alert": {**ALERT, "contianer": {}}}, "case shell: alert: unknown key contianer"),
        ({"alert": {**ALERT, "container": {"name": "db-1"}}}, "the alert names db-1, but the container is web-1"),
        ({"alert": {**ALERT, "container": None}}, "the alert itself says that it names no container (leave"),
        (
            {"alert": {**FALCO, "output_fields": {"container.id": None}}},
            "the alert itself says that it names no container",
        ),
        (
            {"alert": {**FALCO, "output_fields": {"container_id": "<NA>"}}},
            "the alert itself says that it names no container",
        ),
        (
            {"alert": {**FALCO, "output_fields": {"container.id": None}}, "scope": "matching_containers"},
            "the alert means a container, and does not say which (leave the scope out",
        ),
        ({"alert": FALCO, "scope": "matching_containers"}, "the alert names the container (0123456789ab)"),
        ({"scope": "matching_container"}, "scope matching_container is unknown (did you mean matching_containers?)"),
        ({"host": "a b"}, "host is not the name of a host"),
        ({"container": "web-1"}, "container is not a mapping"),
        ({"container": {"image": "x"}}, "container lacks name"),
        ({"container": {"name": "a b"}}, "container.name is not the name of a container"),
        ({"container": {"name": "web", "label": {}}}, "container has the unknown key label (did you mean labels?)"),
        ({"container": {"name": "web", "image": "a", "images": ["b"]}}, "container has image and images"),
        ({"container": {"name": "web", "images": "b"}}, "container.images is not a list"),
        ({"container": {"name": "web", "labels": ["b"]}}, "container.labels is not a mapping"),
        ({"container": {"name": "web", "labels": {"a": True}}}, "label a is not text (put it in quotes)"),
        ({"container": ...}, "it expects a policy to answer, but has no container"),
        ({"expect": ...}, "the case lacks expect"),
        ({"expect": {}}, "expect lacks policy"),
        ({"expect": {"policy": "shell"}}, "expect.policy shell is unknown (did you mean shells?)"),
        ({"expect": {"policy": ["x"]}}, "expect.policy of no text is unknown"),
        ({"expect": {**SHELLS, "outcome": "isolated"}}, "expect.outcome isolated is unknown (did you mean isolate?)"),
        ({"expect": {**SHELLS, "outcome": "no_policy"}}, "expect.outcome is no_policy, but expect.policy is shells"),
        ({"expect": {**NONE, "outcome": "audit"}}, "expect.outcome is audit, but expect.policy is null"),
        ({"expect": {**SHELLS, "actions": ["puase"]}}, "expect.actions puase is unknown (did you mean pause?)"),
        ({"expect": {**SHELLS, "actions": []}}, "expect.actions is not a list"),
        ({"expect": {**NONE, "actions": ["pause"]}}, "expect.actions is not a list"),
    ],
)
def test_a_case_that_cannot_be_run_is_explained(source: pathlib.Path, keys: dict[str, t.Any], message: str) -> None:
    error = refused(source, case(**keys))
    assert error.kind == "policies_invalid"
    assert "  tests/cases.yml:1:12: case " in error.message
    assert message in error.message
    assert len(error.details["findings"]) == 1


def test_all_problems_are_reported_at_once(source: pathlib.Path) -> None:
    (source / "tests" / "broken.yml").write_text("cases: [")
    (source / "tests" / "list.yml").write_text("[]")
    (source / "tests" / "typo.json").write_text('{"case": []}')
    (source / "tests" / "none.yaml").write_text("cases: 7")
    findings = refused(source, case(), case(), case(name=1), "x").details["findings"]
    assert [(finding["file"], finding["message"].partition(",")[0]) for finding in findings] == [
        ("tests/broken.yml", "it is not YAML: while parsing a flow node"),
        ("tests/cases.yml", "case shell: the name is used already"),
        ("tests/cases.yml", "case 1: name is not text"),
        ("tests/cases.yml", "case number 4: the case is not a mapping"),
        ("tests/list.yml", "the file is not a mapping"),
        ("tests/none.yaml", "cases is not a list"),
        ("tests/typo.json", "the file has the unknown key case"),
    ]


def test_all_files_are_run(source: pathlib.Path) -> None:
    (source / "tests" / "more.json").write_text('{"cases": []}')
    check(source, case(), name="a.yaml")
    assert check(source, case(), case(name="again"), name="b.yml") == 3


def test_a_long_list_of_failures_is_cut(source: pathlib.Path) -> None:
    error = refused(source, *(case(name=f"case {number}", expect=NONE) for number in range(60)))
    assert error.message.count("expected:") == 50
    assert error.message.endswith("  and 10 more")
    assert len(error.details["failures"]) == 60


def test_there_are_at_most_so_many(source: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_cases, "MAX_CASES", 2)
    assert check(source, case(), case(name="b")) == 2
    assert "tests: there are more than 2 cases" in refused(source, case(), case(name="b"), case(name="c")).message


def test_no_tests(source: pathlib.Path) -> None:
    assert check_cases(source, SET).passed == 0
    (warning,) = check_cases(source, SET).warnings
    assert "nothing is tested" in str(warning)
    (source / "tests").rmdir()
    assert check_cases(source, SET) == (0, ())
    (source / "policy.yml").touch()
    assert check_cases(source / "policy.yml", SET) == (0, ())


def test_the_documented_example(source: pathlib.Path) -> None:
    repository = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
    example = (repository / "docs" / "policy-tests.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (source / "tests" / "quarantine.yml").write_text(example)
    policy = Policy.from_dict({**POLICIES[0], "id": "quarantine-shells", "target_filter": {}})
    policy_set = PolicySet.of([policy], TargetFilter(container_names=("traefik",)))
    assert check_cases(source, policy_set).passed == 3


def test_text_of_attackers_in_a_recorded_alert_stays_inert(source: pathlib.Path) -> None:
    hostile = {**ALERT, "rule": "Terminal {{ 7 * 7 }}\x1b[31m"}
    message = refused(source, case(alert=hostile, name="{{ 1 }}\x1b")).message
    assert "{{" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize("kind", ["file", "dangling link", "link out of the directory"])
def test_tests_that_cannot_be_run_are_no_tests_that_pass(source: pathlib.Path, kind: str) -> None:
    folder = source / "tests"
    folder.rmdir()
    if kind == "file":
        folder.write_text("cases: []\n")
    else:
        folder.symlink_to(source.parent / ("nowhere" if kind == "dangling link" else "."))
    with pytest.raises(PolicyError, match="not a directory"):
        check_cases(source, SET)


@pytest.mark.parametrize(("rule", "policy", "waits"), [("Ask", "ask", True), ("Terminal shell", "shells", False)])
def test_a_case_may_say_that_an_action_waits_for_approval(
    source: pathlib.Path, rule: str, policy: str, waits: bool
) -> None:
    asked = case(alert={**ALERT, "rule": rule}, expect={"policy": policy, "approval": waits})
    assert check(source, asked) == 1
    error = refused(source, {**asked, "expect": {"policy": policy, "approval": not waits}})
    assert f"expected: isolate by {policy} {'without' if waits else 'after'} approval" in error.message
    for expect in ({"policy": None, "approval": True}, {"policy": policy, "approval": "yes"}):
        assert "expect.approval" in refused(source, {**asked, "expect": expect}).message
