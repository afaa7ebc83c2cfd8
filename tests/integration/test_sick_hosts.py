# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that are away or whose engine is frozen harm themselves alone: with the real rulebook, source and engines."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import sys
import time
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.tests.integration.conftest import Testbed

Json = dict[str, t.Any]
TOKEN = "a-token-of-the-test-suite"
POLICY = """
id: quarantine-shells
rules: ["Terminal shell*"]
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}]
"""


@pytest.fixture
def frozen(testbed: Testbed) -> t.Iterator[Host]:
    """A host whose engine takes connections and answers nothing."""
    host = testbed.private("26.1")
    host.freeze_engine()
    yield host
    host.heal()


class Fleet:
    """The rulebook, with a host that is this machine, one that is away, and some whose engine is frozen."""

    def __init__(
        self, world: DockerWorld, directory: pathlib.Path, frozen: Host, sick: int, options: Json, **variables: t.Any
    ) -> None:
        ansible = Ansible(directory)
        (directory / "policy.yml").write_text(POLICY)
        ansible.module("policy_set", src=str(directory / "policy.yml"), path=str(ansible.policy_set))
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.sick = [f"frozen-{number}" for number in range(sick)]
        stopped = {"guard_docker_host": frozen.docker_host, "guard_state_dir": str(directory / "elsewhere")}
        hosts: Json = {
            "healthy": local,
            # A network of documentation: nobody answers there.
            "away": {"ansible_connection": "ssh", "ansible_host": "198.51.100.1"},
            **{name: {**local, **stopped} for name in self.sick},
        }
        shared = {"guard_policy_set_path": str(ansible.policy_set), "guard_state_dir": str(ansible.state_dir)}
        inventory = directory / "fleet.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": shared}}))
        guard = {"token": TOKEN, "hosts": list(hosts), "spool": str(directory / "spool"), **options}
        self._world = world
        self.process = RulebookProcess(
            "ironpost.container_guard.respond", inventory, directory, {"guard": guard, **variables}
        )

    def post(self, *about: tuple[str, str]) -> None:
        """An alert for each host and container, in one request."""
        alerts = [
            {
                "source": "falco",
                "rule": "Terminal shell in container",
                "severity": "critical",
                "host": host,
                "container": {"id": container[:12]},
            }
            for host, container in about
        ]
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/alerts", json.dumps(alerts), {"Authorization": f"Bearer {TOKEN}"})
            assert connection.getresponse().status == 202

    def seconds(self, suffix: str, *others: tuple[str, str]) -> float:
        """How long it takes from an alert about a container of the healthy host until it is paused."""
        target = self._world.make_container(suffix)
        began = time.monotonic()
        self.post(*others, ("healthy", target))
        self.process.wait_for(lambda: self._paused(target), f"pause of {suffix}")
        return time.monotonic() - began

    def _paused(self, container: str) -> bool:
        return bool(self._world.engine.inspect_container(container)["State"]["Paused"])


@pytest.mark.parametrize("sick", [1, 4])
def test_a_healthy_host_does_not_wait_for_sick_ones(
    docker_world: DockerWorld, tmp_path: pathlib.Path, frozen: Host, sick: int
) -> None:
    fleet = Fleet(docker_world, tmp_path, frozen, sick, {})
    with fleet.process:
        alone = min(fleet.seconds(f"alone-{number}") for number in range(2))
        # Nobody knows yet that they are sick, so they share a run, and the processors: more hosts take longer, but none
        # waits for what a sick one takes to be given up.
        others = [(host, "ab" * 32) for host in [*fleet.sick, "away"]]
        together = fleet.seconds("together", *others)
        beside = min(fleet.seconds(f"beside-{number}") for number in range(2))
        frozen.thaw_engine()
    assert beside <= 1.5 * alone
    assert together < 10


def test_what_is_unanswered_is_told_while_every_run_hangs(
    docker_world: DockerWorld, tmp_path: pathlib.Path, frozen: Host
) -> None:
    told = tmp_path / "told.json"
    keep = {"ansible.builtin.copy": {"content": "{{ ansible_eda.event.unanswered | to_json }}", "dest": str(told)}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [keep]}
    (tmp_path / "page.yml").write_text(yaml.safe_dump([play]))
    options = {"answer_timeout": 4, "answer_deadline": 6}
    fleet = Fleet(docker_world, tmp_path, frozen, 4, options, guard_unanswered_playbook=str(tmp_path / "page.yml"))
    with fleet.process:
        fleet.post(*((host, "ab" * 32) for host in fleet.sick))
        fleet.process.wait_for(told.exists, "playbook for what is unanswered", timeout=30)
        assert {alert["host"] for alert in json.loads(told.read_text())} <= set(fleet.sick)
        assert "PLAY RECAP" not in fleet.process.log.partition("PLAY [localhost]")[0], "a run has ended before"
        frozen.thaw_engine()
