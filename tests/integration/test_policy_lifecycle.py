# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies from their tests to a rollback, and what they say before anything is done."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

SHELLS: dict[str, t.Any] = {
    "id": "shells",
    "severity_threshold": "high",
    "rules": ["Terminal shell*"],
    "target_filter": {"container_names": ["cg-test-*"]},
    "actions": [{"type": "pause"}],
}
ALERT = {"source": "falco", "rule": "Terminal shell in container", "severity": "critical"}
CASE = {"name": "a shell", "alert": ALERT, "container": {"name": "cg-test-1"}, "expect": {"policy": "shells"}}


class Policies:
    """A policy directory with one policy test."""

    def __init__(self, directory: pathlib.Path) -> None:
        (directory / "tests").mkdir(parents=True)
        self.directory = directory
        self.write(SHELLS)
        (directory / "tests" / "shells.yml").write_text(json.dumps({"cases": [CASE]}))

    def write(self, *policies: dict[str, t.Any]) -> None:
        (self.directory / "policies.yml").write_text(json.dumps({"policies": policies}))


@pytest.fixture
def policies(tmp_path: pathlib.Path) -> Policies:
    return Policies(tmp_path / "policies")


@pytest.fixture
def ansible(tmp_path: pathlib.Path) -> Ansible:
    return Ansible(tmp_path)


def policy_set(ansible: Ansible, **options: t.Any) -> dict[str, t.Any]:
    return ansible.module("policy_set", path=str(ansible.policy_set), **options)


def info(ansible: Ansible) -> dict[str, t.Any]:
    return ansible.module("policy_set_info", path=str(ansible.policy_set))


def test_deploy_change_and_roll_back(ansible: Ansible, policies: Policies) -> None:
    first = policy_set(ansible, src=str(policies.directory))
    assert (first["changed"], first["tests"]) == (True, {"passed": 1})
    found = info(ansible)
    assert (found["digest"], found["files"], found["previous"]) == (first["digest"], ["policies.yml"], None)
    assert [policy["rules"] for policy in found["policies"]] == [["Terminal shell*"]]
    before = ansible.policy_set.read_bytes()

    # A change that the test finds reaches nothing.
    policies.write({**SHELLS, "rules": ["Terminal"]})
    failed = policy_set(ansible, src=str(policies.directory))
    assert (failed["failed"], failed["changed"], failed["error"]["kind"]) == (True, False, "policy_tests_failed")
    assert "expected: isolate by shells\n    actual:   no_policy" in failed["msg"]
    assert "rules [Terminal] does not match [Terminal shell in container]" in failed["msg"]
    assert ansible.policy_set.read_bytes() == before

    policies.write({**SHELLS, "priority": 5}, {"id": "new", "rules": ["Miner"], "action": {"type": "stop"}})
    planned = policy_set(ansible, src=str(policies.directory), check=True, diff=True)
    assert ansible.policy_set.read_bytes() == before
    second = policy_set(ansible, src=str(policies.directory), diff=True)
    assert planned["diff"] == second["diff"]
    old, new = (set(second["diff"][side].splitlines()) for side in ("before", "after"))
    assert old - new == {"policy shells: priority = 100"}
    assert {line.partition(":")[0] for line in new - old} == {"policy shells", "policy new"}
    assert (second["added"], second["modified"]) == (["new"], ["shells"])

    planned = policy_set(ansible, state="rolled_back", check=True, diff=True)
    assert info(ansible)["previous"] == first["digest"]
    back = policy_set(ansible, state="rolled_back", diff=True)
    assert (planned["changed"], planned["digest"], planned["diff"]) == (True, back["digest"], back["diff"])
    assert (back["digest"], back["previous_digest"]) == (first["digest"], second["digest"])


def test_roll_back_by_the_playbook(tmp_path: pathlib.Path, policies: Policies) -> None:
    ansible = Ansible(tmp_path)
    deploy = {"policies_src": str(policies.directory)}
    nothing = ansible.playbook("deploy_policies", {"policies_state": "rolled_back"})
    assert nothing.status != 0
    assert "no earlier policy set" in nothing.output
    first = ansible.playbook("deploy_policies", deploy)
    policies.write({**SHELLS, "priority": 1})
    second = ansible.playbook("deploy_policies", deploy)
    assert second.stats != first.stats
    back = ansible.playbook("deploy_policies", {"policies_state": "rolled_back"})
    assert back.status == 0, back.output
    assert back.stats == first.stats


def test_a_rollback_of_hosts_that_differ_is_red_and_the_source_goes_back_with_them(
    tmp_path: pathlib.Path, policies: Policies
) -> None:
    ansible = Ansible(tmp_path, "web-1", "web-2", core="2.18")
    paths = {
        "policies_path": str(tmp_path) + "/{{ inventory_hostname }}/set.json",
        "policies_source_path": "source.json",
    }
    deploy = {**paths, "policies_src": "policies", "guard_serial": [1, "50%"]}
    run = ansible.playbook("deploy_policies", {**deploy, "guard_serial": "all"})
    assert run.status != 0
    assert "guard_serial holds what is no number" in run.output
    first = ansible.playbook("deploy_policies", deploy)
    assert first.status == 0, first.output
    policies.write({**SHELLS, "priority": 1})
    second = ansible.playbook("deploy_policies", deploy)
    policies.write({**SHELLS, "priority": 2})
    assert ansible.playbook("deploy_policies", deploy, "--limit", "web-1").status == 0
    before = (tmp_path / "source.json").read_bytes()

    back = {**paths, "policies_state": "rolled_back", "policies_src": "", "guard_serial": ""}
    checked = ansible.playbook("deploy_policies", back, "--check")
    assert (tmp_path / "source.json").read_bytes() == before
    run = ansible.playbook("deploy_policies", back)
    for each in (checked, run):
        assert each.status != 0
        assert "digests differ: " in each.output
        assert each.stats["policies_digests"] == {
            "web-1": second.stats["policies_digests"]["web-1"],
            "web-2": first.stats["policies_digests"]["web-2"],
        }
    digests = {path: json.loads(path.read_text())["digest"] for path in tmp_path.glob("web-*/set.json")}
    assert {path.parent.name: digest for path, digest in digests.items()} == run.stats["policies_digests"]
    assert json.loads((tmp_path / "source.json").read_text())["digest"] == second.stats["policies_digests"]["web-1"]

    again = ansible.playbook("deploy_policies", deploy)
    assert again.status == 0, again.output
    assert len(set(again.stats["policies_digests"].values())) == 1


def test_options_that_miss_something(ansible: Ansible) -> None:
    assert "src" in policy_set(ansible)["msg"]
    ansible.policy_set.write_text("{}")
    assert info(ansible)["error"]["kind"] == "policy_set_damaged"


def test_decide_without_acting(docker_world: DockerWorld, ansible: Ansible, policies: Policies) -> None:
    target = docker_world.make_container("target")
    deployed = policy_set(ansible, src=str(policies.directory))
    inspected = docker_world.engine.inspect_container(target)
    alerts = [
        {**ALERT, "id": "by-id", "container": {"id": target[:12]}},
        {**ALERT, "container": {"id": target}, "severity": "low"},
        {**ALERT, "container": {"id": "0" * 64}},
        {**ALERT, "container": {"name": docker_world.name("target")}, "inventory_host": "localhost"},
    ]
    options: dict[str, t.Any] = {
        "policy_set": str(ansible.policy_set),
        "host": "localhost",
    }
    result = ansible.module("decision_info", alerts=alerts, **options)
    assert (result["changed"], result["policy_set_digest"]) == (False, deployed["digest"])
    assert [decision["outcome"] for decision in result["decisions"]] == [
        "isolate",
        "no_policy",
        "gone",
        "isolate",
    ]
    wanted, missed = result["decisions"][:2]
    assert (wanted["alert_id"], wanted["policy_id"], wanted["container"]["id"]) == ("by-id", "shells", target)
    assert "rules [Terminal shell*] matches [Terminal shell in container]" in wanted["reasons"]
    assert missed["reasons"] == ["shells: severity_threshold high does not match low"]
    assert docker_world.engine.inspect_container(target) == inspected
    assert not ansible.state_dir.exists()

    # Given containers need no engine.
    given = ansible.module(
        "decision_info",
        alerts=[{**ALERT, "container": {"name": name}} for name in ("cg-test-x", "other")],
        containers=[{"name": "cg-test-x", "image": "nginx", "labels": {"a": "b"}}, {"name": "other"}],
        docker_host=f"unix://{ansible.state_dir}/none.sock",
        **options,
    )
    assert given["summary"] == {"isolate": 1, "no_policy": 1}
