# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Early drop with the real rulebook and hosts: never by a policy set that a host does not have."""

from __future__ import annotations

import json
import pathlib

import yaml

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, local_inventory
from ansible_collections.ironpost.container_guard.tests.integration.test_respond import (
    TOKEN,
    falco,
    health,
    paused,
    post,
)

SHELLS, MINERS = "Terminal shell in container", "Miner"


class Deployment:
    """A controller and a host, each with a policy set of its own."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._ansible = Ansible(directory)
        self.on_host = directory / "host.json"
        self.on_controller = directory / "controller.json"

    def deploy(self, rule: str, path: pathlib.Path) -> str:
        """Deploy a set that wants alerts of that rule. Returns its digest."""
        policy = {"id": "p", "rules": [rule], "actions": [{"type": "pause"}]}
        policy["target_filter"] = {"container_names": ["cg-test-*"]}
        source = self._directory / "policy.yml"
        source.write_text(yaml.safe_dump(policy))
        deployed = self._ansible.module("policy_set", src=str(source), path=str(path))
        assert deployed["changed"] is True, deployed
        return str(deployed["digest"])


def test_a_deployment_between_two_alerts(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    first, second, third = (docker_world.make_container(suffix) for suffix in ("first", "second", "third"))
    fleet = Deployment(tmp_path)
    fleet.deploy(SHELLS, fleet.on_host)
    fleet.deploy(SHELLS, fleet.on_controller)
    inventory = local_inventory(
        tmp_path, guard_policy_set_path=str(fleet.on_host), guard_state_dir=str(tmp_path / "state")
    )
    guard = {"token": TOKEN, "hosts": ["localhost"], "spool": str(tmp_path / "spool")}
    guard["policy_set"] = str(fleet.on_controller)
    with RulebookProcess("ironpost.container_guard.respond", inventory, tmp_path, {"guard": guard}) as process:

        def send(rule: str, container: str) -> str:
            status, answer = post(process.port, json.dumps({**json.loads(falco(container)), "rule": rule}).encode())
            assert status == 202
            assert answer["accepted"] + answer["dropped"] == 1
            return "dropped" if answer["dropped"] else "accepted"

        def answered(number: int) -> None:
            process.wait_for(lambda: health(process.port)["elements"].get("answered") == number, f"{number} answers")

        # The host has not said yet which set it has. With its answer it does.
        assert send(MINERS, first) == "accepted"
        answered(1)
        assert send(MINERS, first) == "dropped"

        # The controller has the new set before the host.
        digest = fleet.deploy(MINERS, fleet.on_controller)
        process.wait_for(lambda: digest in process.log, "new policy set")
        assert send("Something else", first) == "dropped"
        assert send(SHELLS, first) == "accepted"
        answered(2)
        assert paused(docker_world, first)
        assert send(MINERS, second) == "accepted"  # which the host does not want yet, and answers so
        answered(3)
        assert not paused(docker_world, second)

        fleet.deploy(MINERS, fleet.on_host)
        assert send(MINERS, third) == "accepted"
        answered(4)
        assert paused(docker_world, third)
        assert send(SHELLS, second) == "dropped"

        # A set that cannot be used changes nothing, and is told.
        fleet.on_controller.write_text("{")
        process.wait_for(lambda: health(process.port)["warnings"], "warning")
        (warning,) = health(process.port)["warnings"]
        assert warning.startswith(f"policy_set cannot be used: {fleet.on_controller} is not a deployed policy set")
        assert send(SHELLS, second) == "dropped"
        assert health(process.port)["elements"] == {
            **dict.fromkeys(health(process.port)["elements"], 0),
            "received": 8,
            "answered": 4,
            "dropped": 4,
        }
    assert not paused(docker_world, second)
