# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what each detector sends to the container that it means, isolated on the real engine."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
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


class Target(t.NamedTuple):
    """What detectors can say of a container."""

    id: str
    name: str
    pid: int
    address: str


def falco(target: Target) -> Message:
    fields = {"container.id": target.id[:12], "container.name": target.name}
    return {"hostname": HOST, "priority": "Notice", "rule": "Shell", "source": "syscall", "output_fields": fields}


def falcosidekick(target: Target) -> Message:
    fields = {"container_id": target.id[:12], "container_name": target.name}
    return {**falco(target), "uuid": "5b0c1a52-9f0e-4f5e-9c3b-3b1e0c6d2f10", "output_fields": fields}


def falco_that_says_a_name(target: Target) -> Message:
    return {**falco(target), "output_fields": {"container.id": "<NA>", "container.name": target.name}, "time": now()}


def tetragon(target: Target) -> Message:
    process = {"pid": 7, "binary": "/bin/sh", "docker": target.id[:31]}
    event = {"process": process, "parent": {"docker": "0" * 31}, "policy_name": "shells", "function_name": "f"}
    return {"process_kprobe": event, "node_name": HOST, "time": now()}


def tetragon_before_1_7(target: Target) -> Message:
    message = tetragon(target)
    message["process_kprobe"]["process"] = {"pid": target.pid, "binary": "/bin/sh"}
    return message


def suricata(target: Target) -> Message:
    flow = {"src_ip": target.address, "dest_ip": "203.0.113.9"}
    answer = {"src_ip": "203.0.113.9", "dest_ip": target.address, "direction": "to_client"}
    alert = {"signature_id": 1, "signature": "ET MALWARE Beacon", "severity": 3}
    return {"event_type": "alert", "timestamp": now(), "host": HOST, **answer, "flow": flow, "alert": alert}


def wazuh(target: Target) -> Message:
    attributes = {"image": "shop:4.2", "name": target.name}
    event = {"Type": "container", "Action": "exec_start: sh ", "Actor": {"ID": target.id, "Attributes": attributes}}
    return {
        "rule": {"level": 5, "description": f"Docker: Started shell session in container {target.name}", "id": "87908"},
        "agent": {"id": "001", "name": HOST},
        "data": {"integration": "docker", "docker": event},
    }


def falco_within_wazuh(target: Target) -> Message:
    fields = {"container": {"id": target.id[:12], "name": target.name}}
    data = {**falco(target), "hostname": "054aab939018", "output_fields": fields}
    rule = {"level": 12, "id": "100200", "groups": ["falco"]}
    return {"rule": rule, "agent": {"id": "001", "name": HOST}, "data": data}


def crowdsec(target: Target) -> Message:
    meta = [{"key": "datasource_path", "value": target.name}, {"key": "datasource_type", "value": "docker"}]
    source = {"scope": "Ip", "value": "203.0.113.9"}
    return {"scenario": "http-cve", "source": source, "machine_id": HOST, "events": [{"meta": meta}], "stop_at": now()}


def alertmanager(target: Target) -> Message:
    labels = {"alertname": "Miner", "instance": f"{HOST}:8080", "id": f"/docker/{target.id}", "name": target.name}
    firing = {"status": "firing", "labels": labels, "startsAt": now(), "fingerprint": target.id[:16]}
    return {"version": "4", "groupKey": "{}", "status": "firing", "alerts": [firing]}


def grafana(target: Target) -> Message:
    return {**alertmanager(target), "version": "1", "orgId": 1, "title": "Miner", "state": "alerting"}


def generic(target: Target) -> Message:
    container = {"id": target.id[:12], "name": target.name}
    return {"source": "honeypot", "rule": "r", "severity": "low", "host": HOST, "container": container}


SENDERS = [
    falco,
    falcosidekick,
    falco_that_says_a_name,
    tetragon,
    tetragon_before_1_7,
    suricata,
    wazuh,
    falco_within_wazuh,
    crowdsec,
    alertmanager,
    grafana,
    generic,
]


def make(world: DockerWorld, network: str, suffix: str) -> Target:
    container_id = world.make_container(suffix, {network: EndpointSettings()})
    found = world.engine.inspect_container(container_id)
    (endpoint,) = found["NetworkSettings"]["Networks"].values()
    return Target(container_id, world.name(suffix), found["State"]["Pid"], endpoint["IPAddress"])


def test_what_each_detector_sends_isolates_the_container_it_means(
    docker_world: DockerWorld, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "policy.yml").write_text(POLICY)
    policy_set, state_dir = tmp_path / "policy_set.json", tmp_path / "state"
    deployed = Ansible(tmp_path).module("policy_set", src=str(tmp_path / "policy.yml"), path=str(policy_set))
    assert deployed["changed"] is True, deployed
    network = docker_world.make_network("net")
    targets = [make(docker_world, network, sender.__name__.replace("_", "-")) for sender in SENDERS]
    bystanders = [docker_world.make_container(f"other-{number}", {network: EndpointSettings()}) for number in range(2)]
    inventory = local_inventory(tmp_path, guard_policy_set_path=str(policy_set), guard_state_dir=str(state_dir))
    variables = {"guard_token": TOKEN, "guard_hosts": [HOST]}
    with RulebookProcess("ironpost.container_guard.respond", inventory, tmp_path, variables) as guard:
        for sender, target in zip(SENDERS, targets, strict=True):
            status, answer = post(guard.port, json.dumps(sender(target)).encode())
            assert (status, answer["accepted"]) == (202, 1), (target.name, answer)
        guard.wait_for(lambda: len(records(state_dir)) == len(SENDERS), "a record for each alert")
    outcomes = {record["container"]["id"]: record["outcome"] for record in records(state_dir) if record["container"]}
    assert outcomes == {target.id: "isolated" for target in targets}
    assert all(paused(docker_world, target.id) for target in targets)
    assert not any(paused(docker_world, bystander) for bystander in bystanders)
