# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people say beside policies: not now (mute), and not without me (approval), by the playbooks on a real engine."""

from __future__ import annotations

import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible, PlaybookRun
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

HERE = {"guard_target": "localhost"}


def guarded(directory: pathlib.Path, action: dict[str, t.Any]) -> Ansible:
    """A host with a policy for containers of tests that does one thing."""
    ansible = Ansible(directory)
    policy = {"id": "shells", "target_filter": {"container_names": ["cg-test-*"]}, "actions": [action]}
    ansible.policy_set.write_text(PolicySet.of([Policy.from_dict(policy)]).to_json())
    return ansible


def alert(container: str, severity: str = "high") -> dict[str, t.Any]:
    return {"source": "falco", "rule": "Shell", "severity": severity, "container": {"id": container}}


def outcomes(run: PlaybookRun, name: str) -> dict[str, str]:
    """What was handed on of localhost: the outcome of each container."""
    return {one["container_id"]: one["outcome"] for one in run.stats[name]["localhost"]["containers"]}


def state(world: DockerWorld, container: str) -> tuple[bool, bool, int]:
    """Whether it runs, whether it is paused, and on how many networks it is."""
    found = world.engine.inspect_container(container)
    return found["State"]["Running"], found["State"]["Paused"], len(found["NetworkSettings"]["Networks"])


def test_a_container_is_muted_and_unmuted(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = guarded(tmp_path, {"type": "pause"})
    quiet, loud = docker_world.make_container("quiet"), docker_world.make_container("loud")
    # Blank, as surveys of AWX give what was not filled in.
    said = {**HERE, "guard_container": docker_world.name("*"), "guard_policy": "", "guard_mute_host": ""}
    muting = {**said, "guard_mute_for": "2h", "guard_reason": "CHG-1207 {{ 1 }}", "guard_actor": "alice"}
    planned = ansible.playbook("mute", muting, "--check")
    assert planned.status == 0, planned.output
    assert not (ansible.state_dir / "mutes.json").exists()
    run = ansible.playbook("mute", muting)
    assert run.status == 0, run.output
    (mute,) = run.stats["guard_mutes"]["localhost"]
    assert (mute["container"], mute["actor"], mute["force"]) == (docker_world.name("*"), "alice", False)
    assert f"container {docker_world.name('*')} until {mute['until']} by alice: CHG-1207 1" in run.output

    run = ansible.playbook("respond", {**HERE, "guard_alerts": [alert(quiet), alert(loud, "critical")]})
    assert run.status == 0, run.output
    assert outcomes(run, "guard_responses") == {quiet: "muted", loud: "isolated"}
    assert [state(docker_world, one)[1] for one in (quiet, loud)] == [False, True]
    records = [line for line in (ansible.state_dir / "actions.jsonl").read_text().splitlines() if '"muted"' in line]
    assert len(records) == 2  # who muted, and what was
    assert all(f"is muted until {mute['until']} by alice: CHG-1207 1" in record for record in records)

    assert ansible.playbook("mute", {**said, "guard_mute_state": "absent"}).status == 0
    run = ansible.playbook("respond", {**HERE, "guard_alerts": [alert(quiet)]})
    assert outcomes(run, "guard_responses") == {quiet: "isolated"}
    assert ansible.playbook("release", {**HERE, "guard_recorded": True}).status == 0


def test_a_kill_waits_for_approval(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = guarded(tmp_path, {"type": "kill", "approval": True})
    killed, kept = docker_world.make_container("killed"), docker_world.make_container("kept")
    run = ansible.playbook("respond", {**HERE, "guard_alerts": [alert(killed), alert(kept)]})
    assert run.status == 0, run.output
    assert outcomes(run, "guard_responses") == dict.fromkeys((killed, kept), "awaiting_approval")
    assert [state(docker_world, one) for one in (killed, kept)] == [(True, True, 0)] * 2
    waiting = run.stats["guard_responses"]["localhost"]["awaiting_approval"]
    assert [(one["container_id"], one["action"], one["policy_id"]) for one in waiting] == [
        (killed, "kill", "shells"),
        (kept, "kill", "shells"),
    ]
    assert f"{docker_world.name('killed')}: kill waits until {waiting[0]['until']}" in run.output
    found = ansible.module("isolation_info", state_dir=str(ansible.state_dir))
    assert [len(one["awaiting_approval"]) for one in found["isolations"]] == [1, 1]

    # As the next node of a workflow, which is given what respond handed on, and nothing else.
    planned = ansible.playbook("approve", {"guard_responses": run.stats["guard_responses"]}, "--check")
    assert planned.status == 0, planned.output
    assert outcomes(planned, "guard_decisions") == dict.fromkeys((killed, kept), "would_isolate")

    name = docker_world.name("kept")
    for refusing in (False, "false"):
        run = ansible.playbook("approve", {**HERE, "guard_container": name, "guard_approve": refusing})
        assert run.status == 0, run.output
        assert outcomes(run, "guard_decisions") == {kept: "held"}
    run = ansible.playbook("approve", {**HERE, "guard_container": killed, "guard_approve": "", "guard_actor": "alice"})
    assert run.status == 0, run.output
    assert outcomes(run, "guard_decisions") == {killed: "isolated"}
    assert [state(docker_world, one)[:2] for one in (killed, kept)] == [(False, False), (True, True)]

    assert ansible.playbook("release", {**HERE, "guard_recorded": True}).status == 0
    assert [state(docker_world, one) for one in (killed, kept)] == [(True, False, 1)] * 2
    run = ansible.playbook("approve", {**HERE, "guard_container": killed})
    assert run.status != 0
    assert "nothing waits for approval" in run.output
