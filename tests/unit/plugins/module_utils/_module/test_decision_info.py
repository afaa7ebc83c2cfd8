# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module decision_info, on given containers."""

from __future__ import annotations

import importlib
import pathlib
import types
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import decision_info
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet

SHELLS: dict[str, t.Any] = {
    "id": "shells",
    "rules": ["Terminal shell*"],
    "target_filter": {"image_patterns": ["nginx:*"], "labels": ["env=prod"]},
    "actions": [{"type": "pause"}],
}
SWEEP: dict[str, t.Any] = {
    "id": "sweep",
    "rules": ["Miner"],
    "scope": "matching_containers",
    "target_filter": {"container_names": ["web-*"]},
    "actions": [{"type": "stop"}],
}
WEB = {"name": "web-1", "image": "nginx:1.27", "labels": {"env": "prod"}, "id": "0123456789ab"}
DB = {"name": "db-1", "image": "postgres:16", "labels": {"env": "prod"}, "id": None}


def alert(**values: t.Any) -> dict[str, t.Any]:
    return {"source": "falco", "rule": "Terminal shell in container", "severity": "high", **values}


@pytest.fixture
def deployed(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "set.json"
    policies = [Policy.from_dict(policy) for policy in (SHELLS, SWEEP)]
    path.write_text(PolicySet.of(policies, TargetFilter(labels=("safe",))).to_json())
    return str(path)


def decide(
    deployed: str,
    *alerts: dict[str, t.Any],
    containers: t.Sequence[t.Any] = (WEB, DB),
    host: str = "docker-1",
    now: str = "",
) -> dict[str, t.Any]:
    params = {
        "policy_set": deployed,
        "alerts": list(alerts),
        "containers": list(containers),
        "host": host,
        "now": now,
        "state_dir": str(pathlib.Path(deployed).parent / "state"),
    }
    module: t.Any = types.SimpleNamespace(params=params)
    return decision_info.report(module)


def test_given_containers_are_meant_by_name_and_by_id(deployed: str) -> None:
    result = decide(deployed, alert(container={"name": "web-1"}), alert(container={"id": "0123456789ab"}))
    assert result["summary"] == {"isolate": 2}
    assert {decision["container"]["name"] for decision in result["decisions"]} == {"web-1"}
    assert "labels [env=prod] matches [env=prod]" in result["decisions"][0]["reasons"]


def test_why_not(deployed: str) -> None:
    (decision,) = decide(deployed, alert(container={"name": "db-1"}))["decisions"]
    assert (decision["outcome"], decision["policy_id"]) == ("no_policy", "")
    assert decision["reasons"][0].startswith("shells: image_patterns [nginx:*] does not match [postgres:16")


def test_an_alert_that_names_none_reaches_those_that_match(deployed: str) -> None:
    (decision,) = decide(deployed, alert(source="suricata", rule="Miner"))["decisions"]
    assert (decision["outcome"], decision["container"]["name"]) == ("isolate", "web-1")
    more = {**WEB, "name": "web-2", "id": None}
    miner = alert(source="suricata", rule="Miner")
    assert decide(deployed, miner, containers=[WEB, more])["summary"] == {"too_many_matches": 2}


def test_what_is_protected_unknown_or_on_another_host(deployed: str) -> None:
    safe = {**WEB, "labels": {"env": "prod", "safe": 1}}
    names = alert(container={"name": "web-1"})
    assert decide(deployed, names, containers=[safe])["summary"] == {"protected": 1}
    assert decide(deployed, names, containers=[])["summary"] == {"unresolved": 1}
    assert decide(deployed, {**names, "inventory_host": "docker-2"})["summary"] == {"other_host": 1}


def test_what_is_about_no_container_that_is_known(deployed: str) -> None:
    falco = {"priority": "Critical", "rule": "Terminal shell in container"}
    result = decide(
        deployed,
        {**falco, "output_fields": {"container.id": "host"}},
        {**falco, "output_fields": {"container.id": None}},
        {**falco, "output_fields": {"container.id": "f" * 12}},
        {**falco, "rule": "Miner", "output_fields": None},
    )
    assert [decision["outcome"] for decision in result["decisions"]] == [
        *("no_container", "unresolved", "gone", "no_policy"),
    ]


def test_alerts_have_an_age_where_one_asks(deployed: str) -> None:
    old = {**alert(container={"name": "web-1"}), "received_at": "2026-04-05T12:00:00Z"}
    assert decide(deployed, old)["summary"] == {"isolate": 1}
    assert decide(deployed, old, now="2026-04-05T12:14:00Z")["summary"] == {"isolate": 1}
    assert decide(deployed, old, now="2026-04-05T12:16:00Z")["summary"] == {"expired": 1}
    ahead = {**old, "time": "2026-04-05T12:05:00Z"}
    assert "300 seconds before its own time" in decide(deployed, ahead, now="2026-04-05T12:00:00Z")["warnings"][0]
    with pytest.raises(GuardError, match="which is no moment") as caught:
        decide(deployed, old, now="yesterday")
    assert caught.value.kind == "invalid_option"


def test_an_engine_that_does_not_answer_is_not_asked_about_other_hosts(deployed: str) -> None:
    params = {
        "policy_set": deployed,
        "alerts": [{**alert(container={"id": "0" * 12}), "inventory_host": "docker-2"}, alert(rule="unwanted")],
        "containers": None,
        "host": "docker-1",
        "now": "",
        "docker_host": "unix:///nonexistent/docker.sock",
        "action_timeout": 5,
        "state_dir": str(pathlib.Path(deployed).parent / "state"),
    }
    module: t.Any = types.SimpleNamespace(params=params)
    assert decision_info.report(module)["summary"] == {"other_host": 1, "no_policy": 1}


def test_a_decision_says_which_alert_it_is_about(deployed: str) -> None:
    names = alert(container={"name": "web-1"})
    result = decide(deployed, {"rule": "no alert"}, names, alert(rule="other"))
    assert [decision["alert"] for decision in result["decisions"]] == [1, 2]
    assert [rejection["index"] for rejection in result["rejected"]] == [0]


@pytest.mark.parametrize(
    ("containers", "host", "message"),
    [
        ([WEB], "", "containers is given without host"),
        ([{**WEB, "name": "a b"}], "docker-1", "is not a container name"),
        ([{**WEB, "id": "xyz"}], "docker-1", "the id of web-1"),
        ([WEB, {**WEB, "id": None}], "docker-1", "web-1 is given twice"),
        ([WEB, {**WEB, "name": "web-2"}], "docker-1", "web-2 is given twice"),
    ],
)
def test_options_that_cannot_be_used(deployed: str, containers: list[t.Any], host: str, message: str) -> None:
    with pytest.raises(GuardError, match=message) as caught:
        decide(deployed, containers=containers, host=host)
    assert caught.value.kind == "invalid_option"


def test_the_result_is_documented(deployed: str) -> None:
    result = decide(deployed, alert())
    module = importlib.import_module("ansible_collections.ironpost.container_guard.plugins.modules.decision_info")
    returned = yaml.safe_load(module.RETURN)
    assert returned.keys() - {"error"} == result.keys() - {"changed", "warnings"}
    assert returned["decisions"]["contains"].keys() == result["decisions"][0].keys()
