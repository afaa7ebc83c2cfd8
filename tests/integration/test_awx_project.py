# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks that the example project for AWX has beside ours: what follows an approval, by artifacts."""

from __future__ import annotations

import pathlib

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

PROJECT = pathlib.Path(__file__).absolute().parents[2] / "examples/awx-project"


def test_what_was_isolated_is_killed_or_released(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path, "docker-1", "docker-2")
    state = {"guard_state_dir": str(tmp_path / "{{ inventory_hostname }}")}
    containers = {suffix: docker_world.make_container(suffix) for suffix in ("killed", "released")}
    for suffix in containers:
        isolated = {"guard_target": "docker-1", "guard_container": docker_world.name(suffix)}
        run = ansible.playbook("isolate", {**state, **isolated})
        assert run.status == 0, run.output
        # As a workflow of AWX hands on what the node before has set. On the second host nothing was done.
        nothing = {"containers": [], "summary": {}, "check_mode": False, "error": {}, "not_restored": []}
        artifacts = {"guard_responses": {**run.stats["guard_isolations"], "docker-2": nothing}}
        playbook = str(PROJECT / ("kill.yml" if suffix == "killed" else "release_denied.yml"))
        run = ansible.run(playbook, {**state, **artifacts, "guard_policy_set_path": str(tmp_path / "empty_set.json")})
        assert run.status == 0, run.output
        assert "docker-2" not in run.output.partition("PLAY RECAP")[2]
    states = {suffix: docker_world.state(container) for suffix, container in containers.items()}
    assert states == {"killed": "exited", "released": "running"}

    run = ansible.run(str(PROJECT / "kill.yml"), state)
    assert run.status != 0
    assert "guard_target is not set, or empty" in run.output


def test_what_waits_for_approval_is_done_or_given_back(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path, "docker-1")
    containers = {suffix: docker_world.make_container(suffix) for suffix in ("killed", "released")}
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/shells.yml").write_text("{id: shells, actions: [{type: kill, approval: true}]}")
    paths = {"guard_state_dir": str(ansible.state_dir), "guard_policy_set_path": str(ansible.policy_set)}
    variables = {"guard_target": "docker-1", "policies_src": str(tmp_path / "policies")}
    assert ansible.playbook("deploy_policies", variables).status == 0
    for suffix, container in containers.items():
        alert = {"source": "falco", "rule": "Terminal shell", "severity": "critical", "container": {"id": container}}
        run = ansible.playbook("respond", {"guard_target": "docker-1", "guard_alerts": [{**alert, "id": suffix}]})
        assert run.status == 0, run.output
        assert [one["outcome"] for one in run.stats["guard_responses"]["docker-1"]["containers"]] == [
            "awaiting_approval"
        ]
        playbook = str(PROJECT / ("kill.yml" if suffix == "killed" else "release_denied.yml"))
        run = ansible.run(playbook, {**paths, "guard_responses": run.stats["guard_responses"]})
        assert run.status == 0, run.output
    states = {suffix: docker_world.state(container) for suffix, container in containers.items()}
    assert states == {"killed": "exited", "released": "running"}
    found = ansible.module("isolation_info", state_dir=str(ansible.state_dir))
    assert [one["awaiting_approval"] for one in found["isolations"]] == [[]]


def test_what_was_released_meanwhile_is_not_killed(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path, "docker-1")
    containers = {suffix: docker_world.make_container(suffix) for suffix in ("released", "killed")}
    target = {"guard_target": "docker-1"}
    names = [docker_world.name(suffix) for suffix in containers]
    isolated = ansible.playbook("isolate", {**target, "guard_containers": names})
    assert isolated.status == 0, isolated.output
    assert ansible.playbook("release", {**target, "guard_container": names[0]}).status == 0
    paths = {"guard_state_dir": str(ansible.state_dir), "guard_policy_set_path": str(tmp_path / "empty_set.json")}
    run = ansible.run(str(PROJECT / "kill.yml"), {**paths, "guard_responses": isolated.stats["guard_isolations"]})
    assert run.status == 0, run.output
    states = {suffix: docker_world.state(container) for suffix, container in containers.items()}
    assert states == {"killed": "exited", "released": "running"}
