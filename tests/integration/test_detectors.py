# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what each detector sends to the container that it means, isolated on the real engine."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, local_inventory
from ansible_collections.ironpost.container_guard.tests.integration.test_respond import TOKEN, paused, post, records

POLICY = """
id: quarantine
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}, {type: network_disconnect}]
"""
HOST = "localhost"
Message = dict[str, t.Any]


def falco(container_id: str, name: str) -> Message:
    fields = {"container.id": container_id[:12], "container.name": name}
    return {"hostname": HOST, "priority": "Notice", "rule": "Shell", "source": "syscall", "output_fields": fields}


def falcosidekick(container_id: str, name: str) -> Message:
    fields = {"container_id": container_id[:12], "container_name": name}
    return {**falco(container_id, name), "uuid": "5b0c1a52-9f0e-4f5e-9c3b-3b1e0c6d2f10", "output_fields": fields}


def falco_that_says_a_name(_container_id: str, name: str) -> Message:
    return {**falco("", name), "output_fields": {"container.id": "<NA>", "container.name": name}, "time": now()}


def tetragon(container_id: str, _name: str) -> Message:
    process = {"pid": 7, "binary": "/bin/sh", "docker": container_id[:31]}
    event = {"process": process, "parent": {"docker": "0" * 31}, "policy_name": "shells", "function_name": "f"}
    return {"process_kprobe": event, "node_name": HOST, "time": now()}


def wazuh(container_id: str, name: str) -> Message:
    attributes = {"image": "shop:4.2", "name": name}
    event = {"Type": "container", "Action": "exec_start: sh ", "Actor": {"ID": container_id, "Attributes": attributes}}
    return {
        "rule": {"level": 5, "description": f"Docker: Started shell session in container {name}", "id": "87908"},
        "agent": {"id": "001", "name": HOST},
        "data": {"integration": "docker", "docker": event},
    }


def falco_within_wazuh(container_id: str, name: str) -> Message:
    fields = {"container": {"id": container_id[:12], "name": name}}
    data = {**falco(container_id, name), "hostname": "054aab939018", "output_fields": fields}
    return {"rule": {"level": 12, "id": "100200"}, "agent": {"id": "001", "name": HOST}, "data": data}


def crowdsec(_container_id: str, name: str) -> Message:
    meta = [{"key": "datasource_path", "value": name}, {"key": "datasource_type", "value": "docker"}]
    source = {"scope": "Ip", "value": "203.0.113.9"}
    return {"scenario": "http-cve", "source": source, "machine_id": HOST, "events": [{"meta": meta}], "stop_at": now()}


def alertmanager(container_id: str, name: str) -> Message:
    labels = {"alertname": "Miner", "instance": f"{HOST}:8080", "id": f"/docker/{container_id}", "name": name}
    firing = {"status": "firing", "labels": labels, "startsAt": now(), "fingerprint": container_id[:16]}
    return {"version": "4", "groupKey": "{}", "status": "firing", "alerts": [firing]}


def grafana(container_id: str, name: str) -> Message:
    return {**alertmanager(container_id, name), "version": "1", "orgId": 1, "title": "Miner", "state": "alerting"}


def generic(container_id: str, name: str) -> Message:
    container = {"id": container_id[:12], "name": name}
    return {"source": "honeypot", "rule": "r", "severity": "low", "host": HOST, "container": container}


SENDERS = [
    falco,
    falcosidekick,
    falco_that_says_a_name,
    tetragon,
    wazuh,
    falco_within_wazuh,
    crowdsec,
    alertmanager,
    grafana,
    generic,
]


def test_what_each_detector_sends_isolates_the_container_it_means(
    docker_world: DockerWorld, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "policy.yml").write_text(POLICY)
    policy_set, state_dir = tmp_path / "policy_set.json", tmp_path / "state"
    deployed = Ansible(tmp_path).module("policy_set", src=str(tmp_path / "policy.yml"), path=str(policy_set))
    assert deployed["changed"] is True, deployed
    names = [sender.__name__.replace("_", "-") for sender in SENDERS]
    targets = [docker_world.make_container(name) for name in names]
    bystanders = [docker_world.make_container(f"{name}-2") for name in names[:2]]
    inventory = local_inventory(tmp_path, guard_policy_set_path=str(policy_set), guard_state_dir=str(state_dir))
    variables = {"guard_token": TOKEN, "guard_hosts": [HOST]}
    with RulebookProcess("ironpost.container_guard.respond", inventory, tmp_path, variables) as guard:
        for sender, name, target in zip(SENDERS, names, targets, strict=True):
            message = sender(target, docker_world.name(name))
            status, answer = post(guard.port, json.dumps(message).encode())
            assert (status, answer["accepted"]) == (202, 1), (name, answer)
        guard.wait_for(lambda: len(records(state_dir)) == len(SENDERS), "a record for each alert")
    outcomes = {record["container"]["id"]: record["outcome"] for record in records(state_dir) if record["container"]}
    assert outcomes == dict.fromkeys(targets, "isolated")
    assert all(paused(docker_world, target) for target in targets)
    assert not any(paused(docker_world, bystander) for bystander in bystanders)
