# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks and the role, run by their full names."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import CORES, Ansible, PlaybookRun
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

POLICY = "{id: quarantine, actions: [{type: pause}, {type: network_disconnect}]}"


@pytest.fixture
def policies(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "quarantine.yml").write_text(POLICY)
    return directory


def outcomes(run: PlaybookRun, name: str) -> dict[str, str]:
    """What was handed on of localhost: the outcome of each container."""
    return {one["container"]: one["outcome"] for one in run.stats[name]["localhost"]["containers"]}


def changes(run: PlaybookRun) -> dict[str, object]:
    """What repair handed on of localhost, beside the outcomes."""
    return {key: run.stats["guard_repairs"]["localhost"][key] for key in ("mended", "left", "damaged")}


def test_isolate_and_release_one_container(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    target = docker_world.make_container("target")
    variables = {"guard_target": "localhost", "guard_container": docker_world.name("target")}
    for playbook, outcome, paused in (("isolate", "isolated", True), ("release", "released", False)):
        run = ansible.playbook(playbook, variables)
        assert run.status == 0, run.output
        (found,) = run.stats.values()
        (handed_on,) = found["localhost"]["containers"]
        assert handed_on["trace_id"]
        assert handed_on == {
            "container": docker_world.name("target"),
            "container_id": target,
            "outcome": outcome,
            "policy_id": "",
            "trace_id": handed_on["trace_id"],
            "check_mode": False,
        }
        assert f"{docker_world.name('target')}: {outcome}, trace {handed_on['trace_id']}" in run.output
        assert docker_world.engine.inspect_container(target)["State"]["Paused"] is paused


def test_several_containers_of_which_one_is_unknown(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    network = docker_world.make_network("net")  # where nobody else takes an address meanwhile
    for suffix in ("web-1", "web-2", "other"):
        docker_world.make_container(suffix, {network: EndpointSettings()})
    web_1, web_2, nobody = (docker_world.name(suffix) for suffix in ("web-1", "web-2", "nobody"))
    run = ansible.playbook("isolate", {"guard_target": "localhost", "guard_containers": f"{web_1},{web_2},{nobody}"})
    assert run.status != 0
    assert outcomes(run, "guard_isolations") == {web_1: "isolated", web_2: "isolated", nobody: "failed"}
    assert run.stats["guard_isolations"]["localhost"]["summary"] == {"isolated": 2, "failed": 1}
    selector = {"container_names": [docker_world.name("*")], "exclude": {"container_names": [web_2]}}
    for variables, expected in (
        ({"guard_selector": selector}, {web_1: "released"}),
        ({"guard_recorded": True, "guard_restart": True, "guard_recreate_networks": True}, {web_2: "released"}),
    ):
        run = ansible.playbook("release", {"guard_target": "localhost", **variables})
        assert run.status == 0, run.output
        assert outcomes(run, "guard_releases") == expected
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
    assert (run.status, outcomes(run, "guard_releases")) == (0, {}), run.output

    journal = Journal(str(ansible.state_dir))
    entry = journal.load(containers["over"])
    assert entry is not None
    over = tuple(dataclasses.replace(claim, expires_at="2020-01-01T00:00:00Z") for claim in entry.claims)
    journal.store(dataclasses.replace(entry, claims=over))
    run = ansible.playbook("release_expired", variables)
    assert run.status == 0, run.output
    assert outcomes(run, "guard_releases") == {docker_world.name("over"): "released"}
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
    assert changes(checked) == {
        "mended": {},
        "left": {names["unpaused"]: unpaused},
        "damaged": [],
    }

    docker_world.api.remove_container(containers["removed"], force=True)
    run = ansible.playbook("repair", variables)
    assert run.status != 0, "one is gone"
    assert changes(run) == {
        "mended": {names["unpaused"]: unpaused},
        "left": {names["removed"]: [{"kind": "removed", "message": "it no longer exists"}]},
        "damaged": [],
    }
    assert docker_world.state(containers["unpaused"]) == "paused"


@pytest.mark.parametrize("playbook", ["isolate", "release", "release_expired", "repair", "collect_evidence"])
def test_they_ask_for_the_host(tmp_path: pathlib.Path, playbook: str) -> None:
    run = Ansible(tmp_path).playbook(playbook, {"guard_container": "web"})
    assert run.status != 0
    assert "guard_target=HOST" in run.output


PLAYBOOKS = [
    "isolate",
    "release",
    "release_expired",
    "repair",
    "collect_evidence",
    "deploy_policies",
    "preflight",
    "respond",
    "status",
    "trace",
    "mute",
    "remove",
]
ABOUT_HOSTS = {"guard_trace_id": "t-1", "guard_container": "web", "guard_alerts": [], "policies_src": "policies"}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_target_that_is_misspelt_is_an_error(tmp_path: pathlib.Path, playbook: str) -> None:
    run = Ansible(tmp_path, "web-1", "web-2").playbook(playbook, {**ABOUT_HOSTS, "guard_target": "web-1,wbe-2"})
    assert run.status != 0
    assert "guard_target names no host of the inventory: wbe-2" in run.output
    assert "PLAY [" not in run.output


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_target_that_is_blank_is_none(tmp_path: pathlib.Path, playbook: str) -> None:
    run = Ansible(tmp_path, "web-1").playbook(playbook, {**ABOUT_HOSTS, "guard_target": ""}, "--list-hosts")
    if playbook in ("deploy_policies", "preflight", "respond", "status", "trace"):
        assert "hosts (1):\n      web-1" in run.output
    else:
        assert run.status != 0
        assert "guard_target is not set, or empty" in run.output


@pytest.mark.parametrize("core", CORES)
def test_a_target_outside_of_the_limit_is_an_error(tmp_path: pathlib.Path, core: str) -> None:
    ansible = Ansible(tmp_path, "web-1", "web-2", core=core)
    variables = {**ABOUT_HOSTS, "guard_target": "web-1"}
    run = ansible.playbook("isolate", variables, "--limit", "web-2")
    assert run.status != 0
    assert "guard_target web-1 means no host of the inventory, as far as --limit web-2 allows" in run.output
    run = ansible.playbook("isolate", variables, "--limit", "web-1,wbe-2")
    assert run.status != 0
    assert "--limit names no host of the inventory: wbe-2" in run.output
    listed = ansible.playbook("isolate", {**variables, "guard_target": "web-*"}, "--limit", "!web-1", "--list-hosts")
    assert listed.status == 0, listed.output
    assert "hosts (1):\n      web-2" in listed.output


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_guard_become_is_an_error_that_names_ansible_become(tmp_path: pathlib.Path, playbook: str) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies/quarantine.yml").write_text(POLICY)
    variables = {**ABOUT_HOSTS, "guard_target": "localhost", "policies_src": str(tmp_path / "policies")}
    ansible = Ansible(tmp_path, guard_become=False)
    run = ansible.playbook(playbook, variables)
    assert run.status != 0
    assert "the variable guard_become has no effect any more" in run.output
    assert "ansible_become: true" in run.output
    assert not ansible.state_dir.exists()
    assert not ansible.policy_set.exists()


def test_an_alert_about_a_host_that_is_not_in_the_inventory_is_told_and_red(
    docker_world: DockerWorld, tmp_path: pathlib.Path, policies: pathlib.Path
) -> None:
    ansible = Ansible(tmp_path)
    target = docker_world.make_container("target")
    variables = {"policies_src": str(policies), "guard_docker_host": docker_world.docker_host}
    assert ansible.playbook("deploy_policies", {**variables, "guard_target": "localhost"}).status == 0
    alerts = [
        {
            "id": f"alert-{host}",
            "trace_id": f"trace-{host}",
            "source": "falco",
            "rule": "Terminal shell in container",
            "severity": "high",
            "received_at": datetime.datetime.now(datetime.UTC).isoformat(),
            "host": host,
            "inventory_host": host,
            "container": {"id": target[:12], "name": docker_world.name("target"), "image": ""},
        }
        for host in ("localhost", "web-9")
    ]
    event = {"event": {"alerts": alerts, "meta": {"hosts": ["localhost", "web-9"]}}}
    run = ansible.playbook("respond", {**variables, "ansible_eda": event}, "--limit", "localhost,web-9")
    assert run.status != 0
    assert "alert-web-9: unknown_host: its host web-9 is not in the inventory" in run.output
    handed_on = run.stats["guard_responses"]["localhost"]
    assert [(one["trace_id"], one["outcome"], one["policy_id"]) for one in handed_on["containers"]] == [
        ("trace-localhost", "isolated", "quarantine"),
        ("trace-web-9", "unknown_host", ""),
    ]
    assert docker_world.state(target) == "paused"


def test_alerts_about_unknown_hosts_only_are_red(tmp_path: pathlib.Path) -> None:
    event = {"event": {"alerts": [], "meta": {"hosts": ["web-9"]}}}
    run = Ansible(tmp_path).playbook("respond", {"ansible_eda": event}, "--limit", "web-9")
    assert run.status != 0


def test_a_survey_with_blank_answers_is_one_without_them(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    docker_world.make_container("target")
    blank = ("containers", "selector", "actions", "release_after", "force", "reason", "trace_id", "recorded", "restart")
    variables: dict[str, object] = {f"guard_{name}": "" for name in (*blank, "max_concurrent_actions")}
    variables.update(guard_target="localhost", guard_container=docker_world.name("target"))
    for playbook, outcome in (("isolate", "isolated"), ("release", "released")):
        run = ansible.playbook(playbook, variables)
        assert run.status == 0, run.output
        assert outcomes(run, f"guard_{'isolations' if playbook == 'isolate' else 'releases'}") == {
            docker_world.name("target"): outcome
        }


@pytest.mark.parametrize("core", CORES)
def test_answers_of_a_survey_are_taken_as_they_come(
    docker_world: DockerWorld, tmp_path: pathlib.Path, core: str
) -> None:
    ansible = Ansible(tmp_path, core=core)
    containers = {docker_world.name(suffix): docker_world.make_container(suffix) for suffix in ("web-1", "web-2")}
    survey = {
        "guard_target": "localhost",
        "guard_container": "",
        "guard_containers": "\n".join(containers) + "\n",  # a textarea
        "guard_actions": ["pause"],  # a question with several answers
        "guard_release_after": "2h",
        "guard_force": "false",
    }
    run = ansible.playbook("isolate", survey)
    assert run.status == 0, run.output
    assert outcomes(run, "guard_isolations") == dict.fromkeys(containers, "isolated")
    for container in containers.values():
        assert docker_world.engine.inspect_container(container)["NetworkSettings"]["Networks"]
        entry = Journal(str(ansible.state_dir)).load(container)
        assert entry is not None
        (claim,) = entry.claims
        assert parse_timestamp(claim.expires_at) == parse_timestamp(claim.since) + datetime.timedelta(hours=2)
    selector = json.dumps({"container_names": docker_world.name("*")})
    run = ansible.playbook("release", {**survey, "guard_containers": "", "guard_selector": selector})
    assert run.status == 0, run.output
    assert outcomes(run, "guard_releases") == dict.fromkeys(containers, "released")
    run = ansible.playbook("isolate", {**survey, "guard_release_after": "soon"})
    assert run.status != 0
    assert "release_after is 'soon'" in run.output


# Trace only looks, and fails where there is nothing of what is asked for.
@pytest.mark.parametrize("playbook", [name for name in PLAYBOOKS if name not in ("respond", "trace")])
def test_check_mode_works_everywhere_and_touches_nothing(
    docker_world: DockerWorld, tmp_path: pathlib.Path, policies: pathlib.Path, playbook: str
) -> None:
    ansible = Ansible(tmp_path)
    target = docker_world.make_container("target")
    variables = {
        "guard_target": "localhost",
        "guard_container": docker_world.name("target"),
        "guard_docker_host": docker_world.docker_host,
        "guard_evidence_dest": str(tmp_path / "evidence"),
        "guard_mute_for": "1h",
        "guard_reason": "CHG-1207",
        "policies_src": str(policies),
    }
    run = ansible.playbook(playbook, variables, "--check", "--diff")
    assert run.status == 0, run.output
    for name, handed_on in run.stats.items():
        # These are about all hosts, or what is there; the others say of each host that nothing was done.
        about_all = name in ("policies_digests", "guard_preflight", "guard_status", "guard_removals", "guard_mutes")
        assert about_all or handed_on["localhost"]["check_mode"] is True
    assert docker_world.state(target) == "running"
    assert not ansible.state_dir.exists()
    assert not ansible.policy_set.exists()
    assert not (tmp_path / "evidence").exists()


def test_an_engine_that_does_not_answer_is_handed_on_too(tmp_path: pathlib.Path) -> None:
    nowhere = {"guard_target": "localhost", "guard_container": "web", "guard_docker_host": f"unix://{tmp_path}/no"}
    for playbook, name, asked_for in (
        ("isolate", "guard_isolations", [("web", "failed")]),
        ("release", "guard_releases", [("web", "failed")]),
        ("repair", "guard_repairs", []),
    ):
        run = Ansible(tmp_path).playbook(playbook, nowhere)
        assert run.status != 0
        handed_on = run.stats[name]["localhost"]
        assert [(one["container"], one["outcome"]) for one in handed_on["containers"]] == asked_for
        assert handed_on["check_mode"] is False
        assert handed_on["error"]["kind"]
        assert f"{tmp_path}/no" in handed_on["error"]["message"]


@pytest.mark.parametrize(("playbook", "name"), [("isolate", "guard_isolations"), ("repair", "guard_repairs")])
def test_a_policy_set_path_that_is_misspelt_stops_them(
    docker_world: DockerWorld, tmp_path: pathlib.Path, playbook: str, name: str
) -> None:
    ansible = Ansible(tmp_path)
    target = docker_world.make_container("target")
    variables = {"guard_target": "localhost", "guard_container": docker_world.name("target")}
    if playbook == "repair":
        assert ansible.playbook("isolate", variables).status == 0
        docker_world.engine.unpause(target)
    misspelt = str(tmp_path / "policy_ste.json")
    run = ansible.playbook(playbook, {**variables, "guard_policy_set_path": misspelt})
    assert run.status != 0
    error = run.stats[name]["localhost"]["error"]
    assert error["kind"] == "policy_set_missing"
    assert misspelt in error["message"]
    assert "guard_policy_set_path" in error["remedy"]
    assert docker_world.state(target) == "running"


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
    assert outcomes(run, "guard_isolations") == {docker_world.name("target"): "refused"}
    assert run.stats["guard_isolations"]["localhost"]["error"]["message"]


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

    blank = {"guard_target": "", "policies_state": "", "guard_policy_set_path": ""}
    again = ansible.playbook("deploy_policies", {**variables, **blank})
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
