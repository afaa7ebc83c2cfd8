# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole way: an alert over HTTP, the real rulebook engine, our rulebook and playbook, the real Docker engine."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, local_inventory

TOKEN = "a-token-of-the-test-suite"
POLICY = """
id: quarantine-shells
severity_threshold: high
rules: ["Terminal shell*"]
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}, {type: network_disconnect}]
"""


@pytest.fixture
def guard(tmp_path: pathlib.Path) -> t.Iterator[RulebookProcess]:
    """Our rulebook, with a policy set deployed."""
    (tmp_path / "policy.yml").write_text(POLICY)
    policy_set = tmp_path / "policy_set.json"
    deployed = Ansible(tmp_path).module("policy_set", src=str(tmp_path / "policy.yml"), path=str(policy_set))
    assert deployed["changed"] is True, deployed
    inventory = local_inventory(
        tmp_path, guard_policy_set_path=str(policy_set), guard_state_dir=str(tmp_path / "state")
    )
    variables = {"guard": {"token": TOKEN, "hosts": ["localhost"]}}
    with RulebookProcess("ironpost.container_guard.respond", inventory, tmp_path, variables) as process:
        yield process


def post(port: int, body: bytes, token: str = TOKEN) -> tuple[int, dict[str, t.Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/alerts", body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, json.load(answer)


def health(port: int) -> dict[str, t.Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        found: dict[str, t.Any] = json.load(connection.getresponse())
        return found


def falco(container_id: str) -> bytes:
    return json.dumps(
        {
            "hostname": "localhost",
            "priority": "Critical",
            "rule": "Terminal shell in container",
            "source": "syscall",
            "tags": ["container", "shell"],
            "time": "2026-04-05T12:43:02.928967267Z",
            "output": "A shell was spawned (cmdline={{ lookup('pipe', 'false') }})",
            "output_fields": {"container.id": container_id[:12], "evt.time.iso8601": 1775392982928967267},
        }
    ).encode()


def records(state_dir: pathlib.Path) -> list[dict[str, t.Any]]:
    path = state_dir / "actions.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line["outcome"] != "intended"]


def paused(world: DockerWorld, container_id: str) -> bool:
    return bool(world.engine.inspect_container(container_id)["State"]["Paused"])


def test_from_a_falco_alert_to_an_isolated_container_and_back(
    docker_world: DockerWorld, guard: RulebookProcess, tmp_path: pathlib.Path
) -> None:
    network = docker_world.make_network("net")
    containers = sorted(docker_world.make_container(suffix, {network: EndpointSettings()}) for suffix in "abc")
    target, bystanders = containers[-1], containers[:-1]
    inspected = {container: docker_world.engine.inspect_container(container) for container in containers}
    address = next(iter(inspected[target]["NetworkSettings"]["Networks"].values()))["IPAddress"]
    assert docker_world.exec(bystanders[0], "ping", "-c", "1", "-W", "1", address)[0] == 0

    assert post(guard.port, falco(target), token="not-the-token-at-all")[0] == 401
    status, answer = post(guard.port, b"{")
    assert (status, answer["error"]["kind"]) == (400, "not_json")
    status, answer = post(guard.port, b'{"hello": "world"}')
    assert (status, answer["error"]["kind"]) == (400, "not_an_alert")

    status, answer = post(guard.port, falco(target))
    assert (status, answer["accepted"]) == (202, 1)
    guard.wait_for(lambda: records(tmp_path / "state"), "record in the action log")

    (record,) = records(tmp_path / "state")
    assert (record["outcome"], record["container"]["id"], record["host"]) == ("isolated", target, "localhost")
    assert record["trace_id"] == answer["alerts"][0]["trace_id"]
    assert record["policy_id"] == "quarantine-shells"
    moments = [record["timeline"][name] for name in ("accepted", "decided", "acted", "verified")]
    assert moments == sorted(moments)
    found = docker_world.engine.inspect_container(target)
    assert (found["State"]["Paused"], found["NetworkSettings"]["Networks"]) == (True, {})
    assert docker_world.interfaces(target) == {"lo"}
    assert docker_world.exec(bystanders[0], "ping", "-c", "1", "-W", "1", address)[0] != 0
    for bystander in bystanders:
        after = docker_world.engine.inspect_container(bystander)
        assert {**after, "ExecIDs": None} == {**inspected[bystander], "ExecIDs": None}

    released = Ansible(tmp_path).playbook("release", {"guard_target": "localhost", "guard_container": target})
    assert released.status == 0, released.output
    before = inspected[target]["NetworkSettings"]["Networks"]
    after = docker_world.engine.inspect_container(target)["NetworkSettings"]["Networks"]
    assert {name: {**value, "EndpointID": ""} for name, value in after.items()} == {
        name: {**value, "EndpointID": ""} for name, value in before.items()
    }
    assert docker_world.exec(bystanders[0], "ping", "-c", "1", "-W", "1", address)[0] == 0


def test_a_burst_of_alerts_is_few_playbook_runs(
    docker_world: DockerWorld, guard: RulebookProcess, tmp_path: pathlib.Path
) -> None:
    targets = [docker_world.make_container(f"target-{number}") for number in range(8)]
    answers: list[int] = []
    senders = [
        threading.Thread(target=lambda body: answers.append(post(guard.port, body)[0]), args=[falco(target)])
        for target in targets
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert answers == [202] * len(targets)
    guard.wait_for(lambda: len(records(tmp_path / "state")) == len(targets), "a record for each alert")
    assert {record["container"]["id"] for record in records(tmp_path / "state")} == set(targets)
    assert {record["outcome"] for record in records(tmp_path / "state")} == {"isolated"}
    assert all(paused(docker_world, target) for target in targets)
    elements = health(guard.port)["elements"]
    assert elements["received"] == elements["answered"] + elements["waiting"] == len(targets)

    # More than one can read in an event: the first one is written out, the others are packed.
    alert, many = json.loads(falco(targets[0])), 60
    body = json.dumps([{**alert, "rule": f"Terminal shell {number}"} for number in range(many)]).encode()
    status, answer = post(guard.port, body)
    assert (status, answer["accepted"]) == (202, many)
    guard.wait_for(
        lambda: health(guard.port)["elements"]["answered"] == len(targets) + many, "an answer to each of the alerts"
    )
