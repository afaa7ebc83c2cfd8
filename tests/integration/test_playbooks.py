# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks and the role, run by their full names."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

POLICY = "{id: quarantine, actions: [{type: pause}, {type: network_disconnect}]}"


@pytest.fixture
def policies(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "quarantine.yml").write_text(POLICY)
    return directory


def test_isolate_and_release_one_container(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    target = docker_world.make_container("target")
    variables = {"guard_target": "localhost", "guard_container": docker_world.name("target")}
    for playbook, outcome, paused in (("isolate", "isolated", True), ("release", "released", False)):
        run = ansible.playbook(playbook, variables)
        assert run.status == 0, run.output
        (found,) = run.stats.values()
        assert found["localhost"]["container"] == docker_world.name("target")
        assert found["localhost"]["outcome"] == outcome
        assert docker_world.engine.inspect_container(target)["State"]["Paused"] is paused


def test_several_containers_of_which_one_is_unknown(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    for suffix in ("web-1", "web-2", "other"):
        docker_world.make_container(suffix)
    web_1, web_2, nobody = (docker_world.name(suffix) for suffix in ("web-1", "web-2", "nobody"))
    run = ansible.playbook("isolate", {"guard_target": "localhost", "guard_containers": f"{web_1},{web_2},{nobody}"})
    assert run.status != 0
    assert run.stats["guard_isolations"]["localhost"] == {
        "outcomes": {web_1: "isolated", web_2: "isolated", nobody: "failed"},
        "summary": {"isolated": 2, "failed": 1},
    }
    selector = {"container_names": [docker_world.name("*")], "exclude": {"container_names": [web_2]}}
    for variables, outcomes in (
        ({"guard_selector": selector}, {web_1: "released"}),
        ({"guard_recorded": True, "guard_restart": True}, {web_2: "released"}),
    ):
        run = ansible.playbook("release", {"guard_target": "localhost", **variables})
        assert run.status == 0, run.output
        assert run.stats["guard_releases"]["localhost"]["outcomes"] == outcomes
    assert run.stats["guard_releases"]["localhost"]["not_restored"] == [
        {"what": "processes", "before": "running", "after": "started anew"}
    ]


def test_a_protected_container_is_isolated_by_force_only(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    docker_world.make_container("target", labels={"container-guard.part": ""})
    variables = {"guard_target": "localhost", "guard_selector": {"container_names": [docker_world.name("*")]}}
    run = ansible.playbook("isolate", variables)
    assert run.status != 0
    assert "it is a part of the guard" in run.output
    run = ansible.playbook("isolate", {**variables, "guard_force": True})
    assert run.stats["guard_isolations"]["localhost"]["summary"] == {"isolated": 1}


def test_what_is_over_is_released_and_nothing_else(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    containers = {suffix: docker_world.make_container(suffix) for suffix in ("over", "later")}
    variables = {"guard_target": "localhost", "guard_release_after": 3600}
    names = [docker_world.name(suffix) for suffix in containers]
    assert ansible.playbook("isolate", {**variables, "guard_containers": names}).status == 0
    run = ansible.playbook("release_expired", variables)
    assert (run.status, run.stats["guard_releases"]["localhost"]["outcomes"]) == (0, {}), run.output

    journal = Journal(str(ansible.state_dir))
    entry = journal.load(containers["over"])
    assert entry is not None
    journal.store(dataclasses.replace(entry, expires_at="2020-01-01T00:00:00Z"))
    run = ansible.playbook("release_expired", variables)
    assert run.status == 0, run.output
    assert run.stats["guard_releases"]["localhost"]["outcomes"] == {docker_world.name("over"): "released"}
    paused = {name: docker_world.state(container) == "paused" for name, container in containers.items()}
    assert paused == {"over": False, "later": True}


def test_what_somebody_undid_is_mended_and_told(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    containers = {suffix: docker_world.make_container(suffix) for suffix in ("kept", "unpaused", "removed")}
    names = {suffix: docker_world.name(suffix) for suffix in containers}
    variables = {"guard_target": "localhost"}
    assert ansible.playbook("isolate", {**variables, "guard_containers": list(names.values())}).status == 0
    docker_world.engine.unpause(containers["unpaused"])
    unpaused = [{"kind": "unpaused", "message": "it is not paused"}]

    checked = ansible.playbook("repair", variables, "--check")
    assert checked.status == 0, checked.output
    assert checked.stats["guard_repairs"]["localhost"] == {
        "mended": {},
        "left": {names["unpaused"]: unpaused},
        "damaged": [],
    }

    docker_world.api.remove_container(containers["removed"], force=True)
    run = ansible.playbook("repair", variables)
    assert run.status != 0, "one is gone"
    assert run.stats["guard_repairs"]["localhost"] == {
        "mended": {names["unpaused"]: unpaused},
        "left": {names["removed"]: [{"kind": "removed", "message": "it no longer exists"}]},
        "damaged": [],
    }
    assert docker_world.state(containers["unpaused"]) == "paused"


@pytest.mark.parametrize("playbook", ["isolate", "release", "release_expired", "repair"])
def test_they_ask_for_the_host(tmp_path: pathlib.Path, playbook: str) -> None:
    run = Ansible(tmp_path).playbook(playbook, {"guard_container": "web"})
    assert run.status != 0
    assert "guard_target=HOST" in run.output


@pytest.mark.parametrize("playbook", ["isolate", "release"])
def test_they_ask_for_the_container(tmp_path: pathlib.Path, playbook: str) -> None:
    run = Ansible(tmp_path).playbook(playbook, {"guard_target": "localhost"})
    assert run.status != 0
    assert "guard_container=NAME_OR_ID" in run.output


def test_a_failure_hands_its_outcome_on_too(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    docker_world.make_container("target", network_mode="host")
    variables = {
        "guard_target": "localhost",
        "guard_container": docker_world.name("target"),
        "guard_actions": [{"type": "network_disconnect"}],
    }
    run = ansible.playbook("isolate", variables)
    assert run.status != 0
    assert run.stats["guard_isolations"]["localhost"]["outcome"] == "refused"


def test_one_policy_set_on_every_host(tmp_path: pathlib.Path, policies: pathlib.Path) -> None:
    ansible = Ansible(tmp_path, "docker-1", "docker-2", "docker-3")
    variables = {"policies_src": str(policies), "policies_path": str(tmp_path) + "/{{ inventory_hostname }}/set.json"}
    checked = ansible.playbook("deploy_policies", variables, "--check", "--diff")
    assert checked.status == 0, checked.output
    assert "+policy quarantine: actions = " in checked.output
    assert not (tmp_path / "docker-1").exists()

    run = ansible.playbook("deploy_policies", variables)
    assert run.status == 0, run.output
    digests = run.stats["policies_digests"]
    assert set(digests) == {"docker-1", "docker-2", "docker-3"}
    assert len(set(digests.values())) == 1
    assert "changed=1" in run.output
    contents = [json.loads(path.read_text()) for path in tmp_path.glob("docker-*/set.json")]
    assert {content["digest"] for content in contents} == set(digests.values())

    again = ansible.playbook("deploy_policies", variables)
    assert again.stats["policies_digests"] == digests
    assert "changed=1" not in again.output


def test_a_bad_policy_reaches_no_host(tmp_path: pathlib.Path, policies: pathlib.Path) -> None:
    ansible = Ansible(tmp_path, "docker-1", "docker-2")
    (policies / "bad.yml").write_text("{id: bad, actions: [{type: pause}], severity_threshold: hihg}")
    variables = {"policies_src": str(policies), "policies_path": str(tmp_path) + "/{{ inventory_hostname }}/set.json"}
    run = ansible.playbook("deploy_policies", variables)
    assert run.status != 0
    assert "did you mean high?" in run.output
    assert list(tmp_path.glob("docker-*")) == []
