# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks and the role, run by their full names."""

from __future__ import annotations

import json
import pathlib

import pytest

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


@pytest.mark.parametrize("playbook", ["isolate", "release"])
def test_they_ask_for_the_host_and_the_container(tmp_path: pathlib.Path, playbook: str) -> None:
    ansible = Ansible(tmp_path)
    assert "guard_target=HOST" in ansible.playbook(playbook, {"guard_container": "web"}).output
    run = ansible.playbook(playbook, {"guard_target": "localhost"})
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
