# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules, run by Ansible against the Docker engine of this machine."""

from __future__ import annotations

import json
import pathlib
import socket
import typing as t

import pytest
from ansible.module_utils import basic as ansible_basic

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import in_check_mode
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

POLICIES = """
policies:
  - id: quarantine-shells
    severity_threshold: high
    rules: ["Terminal shell*"]
    target_filter: {container_names: ["cg-test-*"]}
    actions: [{type: pause}, {type: network_disconnect}]
protect:
  labels: ["container-guard.protect=true"]
"""


@pytest.fixture
def ansible(tmp_path: pathlib.Path) -> Ansible:
    return Ansible(tmp_path)


@pytest.fixture
def policies(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "policies.yml").write_text(POLICIES)
    return directory


@pytest.fixture
def target(docker_world: DockerWorld) -> str:
    """A container on two networks, one of which knows it by a static address and an alias, and a restart policy."""
    front, back = docker_world.make_network("front"), docker_world.make_network("back", user_configured=False)
    subnet = docker_world.engine.inspect_network(front)["IPAM"]["Config"][0]["Subnet"]
    return docker_world.make_container(
        "target",
        networks={
            front: EndpointSettings(ipv4_address=subnet.rpartition(".")[0] + ".50", aliases=("shop",)),
            back: EndpointSettings(),
        },
        restart_policy=("on-failure", 7),
    )


def networks(world: DockerWorld, container_id: str) -> dict[str, t.Any]:
    found = world.engine.inspect_container(container_id)["NetworkSettings"]["Networks"]
    return {name: {**settings, "EndpointID": ""} for name, settings in found.items()}


def records_of(ansible: Ansible) -> list[dict[str, t.Any]]:
    """The action log, without what was declared before acting."""
    lines = [json.loads(line) for line in (ansible.state_dir / "actions.jsonl").read_text().splitlines()]
    return [line for line in lines if line["outcome"] != "intended"]


def falco(world: DockerWorld, container_id: str, **fields: t.Any) -> dict[str, t.Any]:
    return {
        "priority": "Critical",
        "rule": "Terminal shell in container",
        "source": "syscall",
        "hostname": "falco-1",
        "time": "2026-04-05T12:43:02.928967267Z",
        "output_fields": {"container.id": container_id[:12]},
        **fields,
    }


def predicted(result: dict[str, t.Any]) -> dict[str, t.Any]:
    """What check mode has to get right."""
    names = ("changed", "before", "after", "error", "diff", "container", "sessions_may_resume")
    return {
        **{name: result.get(name) for name in names},
        # Check mode calls nothing isolated or released that is not.
        "outcome": in_check_mode(result["outcome"]),
        "steps": [(step["action"], step["detail"]) for step in result["steps"]],
    }


def test_isolate_and_release(docker_world: DockerWorld, ansible: Ansible, target: str) -> None:
    inspected = docker_world.engine.inspect_container(target)
    before = networks(docker_world, target)
    name = inspected["Name"][1:]

    # By name, by short id and by full id; every run is predicted by check mode first.
    planned = ansible.isolation(name, check=True, diff=True)
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is False
    isolated = ansible.isolation(name, diff=True, reason="INC-1", trace_id="trace-1")
    assert predicted(planned) == predicted(isolated)
    assert (isolated["changed"], isolated["outcome"], isolated["trace_id"]) == (True, "isolated", "trace-1")
    assert isolated["diff"][0]["after"] == {"networks": [], "paused": True, "restart_policy": "no", "running": True}
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is True
    assert networks(docker_world, target) == {}
    assert docker_world.interfaces(target) == {"lo"}

    again = ansible.isolation(target[:12])
    assert (again["changed"], again["outcome"], again["steps"]) == (False, "held", [])

    info = ansible.module("isolation_info", state_dir=str(ansible.state_dir))
    assert (info["agree"], info["action_log"]["intact"], info["action_log"]["records"]) == (True, True, 2)
    assert info["action_log"]["interrupted"] == []
    (isolation,) = info["isolations"]
    assert (isolation["container"]["name"], isolation["reason"], isolation["trace_id"]) == (name, "INC-1", "trace-1")

    planned = ansible.isolation(target, "released", check=True, diff=True)
    released = ansible.isolation(target, "released", diff=True)
    assert predicted(planned) == predicted(released)
    assert (released["changed"], released["outcome"]) == (True, "released")
    # Engine 20.10 gives interfaces other names.
    assert [one["what"].partition(" on network")[0] for one in released["not_restored"]] == [
        "name of the interface"
    ] * 2
    assert networks(docker_world, target) == before
    found = docker_world.engine.inspect_container(target)
    assert found["HostConfig"] == inspected["HostConfig"]
    assert (found["State"]["Paused"], found["State"]["Pid"]) == (False, inspected["State"]["Pid"])

    again = ansible.isolation(target, "released")
    assert (again["changed"], again["outcome"]) == (False, "released")


def test_somebody_who_undoes_an_isolation_is_reported_and_repaired(
    docker_world: DockerWorld, ansible: Ansible, target: str
) -> None:
    ansible.isolation(target)
    docker_world.engine.unpause(target)
    other = docker_world.make_container("other", state="paused")
    info = ansible.module("isolation_info", state_dir=str(ansible.state_dir))
    assert {"id": other, "name": docker_world.name("other"), "how": "paused"} in info["cut_off_by_others"]
    assert target not in {container["id"] for container in info["cut_off_by_others"]}
    assert info["agree"] is False
    assert info["isolations"][0]["breaches"] == [{"kind": "unpaused", "message": "it is not paused"}]
    repaired = ansible.isolation(target)
    assert [step["action"] for step in repaired["steps"]] == ["pause"]
    assert ansible.module("isolation_info", state_dir=str(ansible.state_dir))["agree"] is True


def test_only_the_container_that_the_alert_names_is_isolated(
    docker_world: DockerWorld, ansible: Ansible, policies: pathlib.Path
) -> None:
    containers = sorted(docker_world.make_container(suffix) for suffix in ("a", "b", "c"))
    # The others sort before it and match the policy too; the seed isolated the first one that matched.
    target = containers[-1]
    before = {container: docker_world.engine.inspect_container(container) for container in containers[:-1]}
    deployed = ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
    assert (deployed["changed"], deployed["added"]) == (True, ["quarantine-shells"])
    options = {"state_dir": str(ansible.state_dir), "policy_set": str(ansible.policy_set)}
    alerts = [falco(docker_world, target), falco(docker_world, target, rule="Read sensitive file")]
    result = ansible.module("alert_response", alerts=alerts, **options)
    assert result["summary"] == {"decisions": {"isolate": 1, "no_policy": 1}, "outcomes": {"isolated": 1}}
    assert result["policy_set_digest"] == deployed["digest"]
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is True
    for container, inspected in before.items():
        assert docker_world.engine.inspect_container(container) == inspected
    (record,) = records_of(ansible)
    assert record["trace_id"] == result["responses"][0]["decision"]["trace_id"]


def test_a_protected_container_is_left_alone(
    docker_world: DockerWorld, ansible: Ansible, policies: pathlib.Path
) -> None:
    docker_world.labels["container-guard.protect"] = "true"
    target = docker_world.make_container("safe")
    ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
    result = ansible.module(
        "alert_response",
        alerts=[falco(docker_world, target)],
        state_dir=str(ansible.state_dir),
        policy_set=str(ansible.policy_set),
    )
    assert result["summary"]["outcomes"] == {"protected": 1}
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is False


def test_one_bad_alert_does_not_keep_others_from_being_answered(
    docker_world: DockerWorld, ansible: Ansible, policies: pathlib.Path
) -> None:
    target = docker_world.make_container("target")
    ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
    result = ansible.module(
        "alert_response",
        alerts=[{"rule": "no severity"}, falco(docker_world, target)],
        state_dir=str(ansible.state_dir),
        policy_set=str(ansible.policy_set),
    )
    assert result["failed"] is True
    assert [rejection["index"] for rejection in result["rejected"]] == [0]
    assert "an alert is refused: severity" in result["msg"]
    assert result["summary"]["outcomes"] == {"isolated": 1}


def test_alerts_that_nobody_could_answer_are_on_record(
    ansible: Ansible, policies: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
    alert = {
        "source": "falco",
        "rule": "Terminal shell",
        "severity": "high",
        "trace_id": "t-1",
        "container": {"id": "0" * 12},
    }
    result = ansible.module(
        "alert_response",
        alerts=[alert],
        state_dir=str(ansible.state_dir),
        policy_set=str(ansible.policy_set),
        docker_host=f"unix://{tmp_path}/none.sock",
    )
    assert result["error"]["kind"] == "engine_unreachable"
    (record,) = records_of(ansible)
    assert (record["outcome"], record["trace_id"], record["error"]["kind"]) == ("failed", "t-1", "engine_unreachable")


def test_a_host_port_that_was_taken_meanwhile_is_found_out_before_anything_is_touched(
    docker_world: DockerWorld, ansible: Ansible
) -> None:
    port = docker_world.free_host_port()
    target = docker_world.make_container("target", published={"80/tcp": port})
    ansible.isolation(target)
    other = docker_world.make_container("other", published={"80/tcp": port})
    for check in (True, False):
        refused = ansible.isolation(target, "released", check=check)
        assert (refused["outcome"], refused["changed"]) == ("refused", False)
        assert f"host port {port}/tcp is taken by container {docker_world.name('other')}" in refused["msg"]
    docker_world.api.remove_container(other, force=True)
    assert ansible.isolation(target, "released")["outcome"] == "released"


def test_a_crash_loop_is_ended_and_given_back_as_one(docker_world: DockerWorld, ansible: Ansible) -> None:
    target = docker_world.make_container("loop", state="restarting", restart_policy=("always", 0))
    isolated = ansible.isolation(target)
    assert (isolated["outcome"], isolated["after"]["networks"]) == ("isolated", [])
    released = ansible.isolation(target, "released")
    assert released["outcome"] == "released"
    assert docker_world.engine.inspect_container(target)["HostConfig"]["RestartPolicy"]["Name"] == "always"


class TestMany:
    """Several containers in one run of the module."""

    @pytest.fixture
    def web(self, docker_world: DockerWorld) -> list[str]:
        return [docker_world.make_container(f"web-{number}") for number in range(3)]

    @staticmethod
    def run(ansible: Ansible, **options: t.Any) -> dict[str, t.Any]:
        return ansible.module("isolation", state_dir=str(ansible.state_dir), **options)

    def test_that_are_named(self, docker_world: DockerWorld, ansible: Ansible, web: list[str]) -> None:
        wanted = [docker_world.name("web-0"), "no-such-container", web[1]]
        planned = self.run(ansible, containers=wanted, check=True, diff=True)
        assert [docker_world.state(container) for container in web] == ["running"] * 3
        result = self.run(ansible, containers=wanted, diff=True, fail_on_error=False)
        assert (planned["failed"], result["failed"], result["changed"]) == (True, False, True)
        assert planned["summary"] == {"would_isolate": 2, "failed": 1}
        assert result["summary"] == {"isolated": 2, "failed": 1}
        assert planned["diff"] == result["diff"]
        assert [diff["after_header"] for diff in result["diff"]] == [docker_world.name(f"web-{n}") for n in range(2)]
        assert [one["error"] and one["error"]["kind"] for one in result["results"]] == [None, "not_found", None]
        assert "no-such-container: failed: no container on this host" in result["msg"]
        assert [docker_world.state(container) for container in web] == ["paused", "paused", "running"]
        records = records_of(ansible)
        assert [record["outcome"] for record in records] == ["isolated", "failed", "isolated"]
        assert {record["trace_id"] for record in records} == {result["trace_id"]}

    def test_that_match_and_are_given_back_when_their_time_is_over(
        self, docker_world: DockerWorld, ansible: Ansible, web: list[str]
    ) -> None:
        selector = {
            "container_names": [docker_world.name("*")],
            "image_patterns": ["container-guard/busybox:*"],
            "exclude": {"container_names": [docker_world.name("web-2")]},
        }
        isolated = self.run(ansible, selector=selector, release_after=1, max_concurrent_actions=1)
        assert isolated["summary"] == {"isolated": 2}
        assert self.run(ansible, container=web[2], release_after=3600)["outcome"] == "isolated"
        expire = {"recorded": True, "expired_only": True, "state": "released"}
        released = docker_world.until(lambda: self.run(ansible, **expire)["results"], "the time is over")
        assert {one["container"]["id"] for one in released} == set(web[:2])
        assert [docker_world.state(container) for container in web] == ["running", "running", "paused"]
        again = self.run(ansible, selector=selector, state="released")
        assert (again["changed"], again["results"]) == (False, []), "none of these is isolated"

    def test_that_are_on_record_are_repaired_and_given_back(
        self, docker_world: DockerWorld, ansible: Ansible, web: list[str]
    ) -> None:
        self.run(ansible, containers=web)
        docker_world.engine.unpause(web[0])
        docker_world.api.remove_container(web[1], force=True)
        successor = docker_world.make_container("web-1")
        for check in (True, False):
            repaired = self.run(ansible, recorded=True, check=check)
            outcome = "would_isolate" if check else "isolated"
            assert (repaired["summary"], repaired["changed"]) == ({outcome: 2, "held": 1}, True)
            assert sorted(one["changed"] for one in repaired["results"]) == [False, True, True]
        assert any(
            "took the name of container" in warning for one in repaired["results"] for warning in one["warnings"]
        )
        assert [docker_world.state(container) for container in (web[0], successor, web[2])] == ["paused"] * 3
        assert self.run(ansible, recorded=True)["changed"] is False

        docker_world.api.remove_container(web[2], force=True)
        released = self.run(ansible, recorded=True, state="released")
        assert (released["summary"], released["error"]["kind"]) == ({"released": 2, "failed": 1}, "container_gone")
        forgotten = self.run(ansible, recorded=True, state="released", force=True)
        assert (forgotten["summary"], forgotten["changed"]) == ({"released": 1}, True)
        assert self.run(ansible, recorded=True, state="released")["results"] == []

    def test_that_are_protected_by_the_policies_of_the_host(
        self, docker_world: DockerWorld, ansible: Ansible, policies: pathlib.Path, web: list[str]
    ) -> None:
        safe = docker_world.make_container("safe", labels={"container-guard.protect": "true"})
        ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
        options = {"containers": [safe, web[0]], "policy_set": str(ansible.policy_set)}
        refused = self.run(ansible, **options)
        assert (refused["summary"], refused["error"]["kind"]) == ({"refused": 1, "isolated": 1}, "protected")
        assert docker_world.state(safe) == "running"
        assert self.run(ansible, **options, force=True)["summary"] == {"isolated": 1, "held": 1}
        assert docker_world.state(safe) == "paused"
        assert self.run(ansible, **options, state="released")["summary"] == {"released": 2}


class TestBadInput:
    def test_unknown_container(self, ansible: Ansible) -> None:
        result = ansible.isolation("no-such-container")
        assert (result["failed"], result["changed"], result["error"]["kind"]) == (True, False, "not_found")
        assert "no-such-container" in result["msg"]

    def test_an_id_that_is_also_a_name_is_ambiguous(self, docker_world: DockerWorld, ansible: Ansible) -> None:
        target = docker_world.make_container("target")
        namesake = docker_world.make_container("namesake")
        docker_world.api.rename(namesake, target[:12])
        result = ansible.isolation(target[:12])
        assert result["error"]["kind"] == "ambiguous"
        assert not any(docker_world.engine.inspect_container(c)["State"]["Paused"] for c in (target, namesake))
        assert ansible.isolation(target)["outcome"] == "isolated"

    @pytest.mark.parametrize("reference", ["../../etc", "a b", "-rf", "6bc1b4be90d6;reboot"])
    def test_a_reference_that_is_none(self, ansible: Ansible, reference: str) -> None:
        assert ansible.isolation(reference)["error"]["kind"] == "invalid_container"

    def test_an_engine_that_is_not_there(self, ansible: Ansible, tmp_path: pathlib.Path) -> None:
        result = ansible.isolation("web", docker_host=f"unix://{tmp_path}/none.sock")
        assert result["error"]["kind"] == "engine_unreachable"
        assert "none.sock" in result["msg"]
        assert result["error"]["remedy"]
        assert [record["outcome"] for record in records_of(ansible)] == ["failed"]

    def test_an_engine_that_does_not_answer(self, ansible: Ansible, tmp_path: pathlib.Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "mute.sock"))
            listener.listen()
            result = ansible.isolation("web", docker_host=f"unix://{tmp_path}/mute.sock", action_timeout=1)
        assert result["error"]["kind"] == "engine_timeout"

    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"action_timeout": 0}, "action_timeout"),
            ({"action_timeout": 301}, "action_timeout"),
            ({"actions": [{"type": "pause", "grace": 3}]}, "grace"),
            ({"actions": [{"type": "stop", "grace": 301}]}, "grace"),
            ({"actions": [{"type": "pause", "networks": ["x"]}]}, "networks"),
            ({"trace_id": "a b"}, "trace_id"),
            ({"state": "released", "actions": [{"type": "pause"}]}, "actions"),
            ({"state": "released", "release_after": 60}, "release_after"),
            ({"release_after": 31_536_001}, "release_after"),
            ({"retry_max_attempts": 11}, "retry_max_attempts"),
            ({"retry_backoff_base": 30_001}, "retry_backoff_base"),
            ({"max_concurrent_actions": 101}, "max_concurrent_actions"),
            ({"restart": True}, "restart"),
        ],
    )
    def test_options_out_of_bounds_are_named(
        self, docker_world: DockerWorld, ansible: Ansible, target: str, options: dict[str, t.Any], name: str
    ) -> None:
        result = ansible.isolation(target, **options)
        assert (result["failed"], result["error"]["kind"]) == (True, "invalid_option")
        assert name in result["msg"]
        assert docker_world.engine.inspect_container(target)["State"]["Paused"] is False

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "one of the following is required: container, containers, selector, recorded"),
            ({"container": "web", "recorded": True}, "mutually exclusive"),
            ({"containers": ["web"], "selector": {"labels": ["x"]}}, "mutually exclusive"),
            ({"selector": {"exclude": {"labels": ["x"]}}}, "selector has neither"),
        ],
    )
    def test_it_must_be_said_which_containers_are_meant(
        self, ansible: Ansible, options: dict[str, t.Any], message: str
    ) -> None:
        result = ansible.module("isolation", state_dir=str(ansible.state_dir), **options)
        assert result["failed"] is True
        assert message in result["msg"]

    @pytest.mark.parametrize(
        ("module", "options"),
        [("alert_response", {"alerts": []}), ("decision_info", {"alerts": []}), ("isolation", {"container": "nobody"})],
    )
    def test_no_policy_set_is_deployed(
        self, ansible: Ansible, tmp_path: pathlib.Path, module: str, options: dict[str, t.Any]
    ) -> None:
        path = str(tmp_path / "none.json")
        result = ansible.module(module, policy_set=path, check=True, **options)
        assert (result["failed"], result["error"]["kind"]) == (True, "policy_set_missing")
        assert path in result["msg"]
        assert "deploy_policies" in result["msg"]

    def test_a_policy_set_that_was_edited_by_hand(self, ansible: Ansible, policies: pathlib.Path) -> None:
        ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
        ansible.policy_set.write_text(ansible.policy_set.read_text().replace("cg-test-*", "*"))
        result = ansible.module("alert_response", alerts=[], policy_set=str(ansible.policy_set))
        assert result["error"]["kind"] == "policy_set_damaged"

    def test_a_broken_policy_directory_changes_nothing(self, ansible: Ansible, policies: pathlib.Path) -> None:
        ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
        before = ansible.policy_set.read_bytes()
        (policies / "more.yml").write_text(
            "policies: [{id: a, acton: {type: pause}}, {id: b, actions: [{type: puase}]}]"
        )
        result = ansible.module("policy_set", src=str(policies), path=str(ansible.policy_set))
        assert (result["failed"], result["error"]["kind"]) == (True, "policies_invalid")
        assert {finding["policy_id"] for finding in result["error"]["findings"]} == {"a", "b"}
        assert "did you mean action?" in result["msg"]
        assert "did you mean pause?" in result["msg"]
        assert ansible.policy_set.read_bytes() == before

    def test_a_policy_directory_that_does_not_exist(self, ansible: Ansible) -> None:
        result = ansible.module("policy_set", src="no/such/directory", path=str(ansible.policy_set))
        assert result["error"]["kind"] == "policies_missing"

    def test_a_container_that_was_removed_while_isolated(self, docker_world: DockerWorld, ansible: Ansible) -> None:
        target = docker_world.make_container("target")
        name = docker_world.name("target")
        ansible.isolation(target)
        docker_world.api.remove_container(target, force=True)
        result = ansible.isolation(name, "released")
        assert result["error"]["kind"] == "container_gone"
        info = ansible.module("isolation_info", state_dir=str(ansible.state_dir))
        assert info["isolations"][0]["breaches"] == [{"kind": "removed", "message": "it no longer exists"}]


def test_what_one_project_sends_to_hosts_is_not_sent_for_another(tmp_path: pathlib.Path) -> None:
    marker = tmp_path / "marker"
    tampering, other = tmp_path / "tampering", tmp_path / "other"
    for project in (tampering, other):
        project.mkdir()
    # Ansible lets a project replace what modules import; its own run is then its own affair.
    (tampering / "module_utils").mkdir()
    basic = pathlib.Path(ansible_basic.__file__).read_text()
    (tampering / "module_utils" / "basic.py").write_text(f"{basic}\nopen({str(marker)!r}, 'w').close()\n")

    def run(project: pathlib.Path) -> bool:
        found = Ansible(project, core="").module("isolation_info", state_dir=str(project / "state"))
        assert "isolations" in found, found
        seen = marker.exists()
        marker.unlink(missing_ok=True)
        return seen

    assert [run(project) for project in (tampering, other, tampering)] == [True, False, True]
