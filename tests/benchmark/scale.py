# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks over a large fleet: what a host costs the controller, and whether it costs more the more there are.

The hosts are simulated: the connection is local, each has a state directory and a policy set of its own, and all share
the engine of this machine, in which each finds the same container. So a module, which a fleet runs on its hosts, takes
its time from the controller here, and ansible.builtin.ping over the same hosts says how much of that is Ansible.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.sides import local
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import Stage, make_victims

FORKS = 50
"""As the rulebook has, and as the documentation advises."""
POLICY = "{id: quarantine-shells, rules: ['*shell*'], actions: [{type: pause}]}"
PING = "ping"
_LOOK = 0.1


class Cost(t.NamedTuple):
    """What one playbook run took.

    Attributes:
        seconds: from its start to its end.
        cpu: seconds of processors, with those of its workers and of the modules.
        memory: bytes that its first process, which is the one that knows all hosts, had at most.
    """

    seconds: float
    cpu: float
    memory: int


class Fleet:
    """Simulated hosts.

    Args:
        directory: for what they keep; made here.
        size: how many.
        docker_host: URL of the engine that they share.
    """

    def __init__(self, directory: pathlib.Path, size: int, docker_host: str) -> None:
        self.size = size
        self._directory = directory
        (directory / "policies").mkdir(parents=True)
        (directory / "policies/quarantine.yml").write_text(POLICY)
        (directory / "ping.yml").write_text(
            json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}])
        )
        for number in range(size):
            (directory / str(number)).mkdir()
        hosts = {
            f"host-{number:04}": local(
                docker_host,
                guard_state_dir=str(directory / f"{number}/state"),
                guard_policy_set_path=str(directory / f"{number}/policy_set.json"),
            )
            for number in range(size)
        }
        (directory / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts}}))

    def run(self, playbook: str, **variables: t.Any) -> Cost:
        """What a playbook took. Raises RuntimeError where it failed."""
        output = self._directory / "output"
        command = [
            str(pathlib.Path(sys.executable).parent / "ansible-playbook"),
            f"--inventory={self._directory / 'inventory.json'}",
            f"--forks={FORKS}",
            f"--extra-vars={json.dumps(variables)}",
            str(self._directory / "ping.yml") if playbook == PING else f"ironpost.container_guard.{playbook}",
        ]
        began = time.monotonic()
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=self._directory
            )
            # Not process.wait(): only this says what it took, and those that it waited for.
            ended, memory = 0, 0
            while not ended:
                memory = _most_memory(process.pid) or memory
                time.sleep(_LOOK)
                ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{playbook} ended with {process.returncode}:\n{output.read_text()[-4000:]}")
        return Cost(time.monotonic() - began, usage.ru_utime + usage.ru_stime, memory)


def _most_memory(pid: int) -> int:
    """Most bytes that a process has had, 0 once it has ended. What wait4 says begins with those of its parent."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def scale(docker_host: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Ping, deploy, status and hunt, over few hosts and over many."""
    few, many = (10, 40) if quick else (50, 500)
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-", ignore_cleanup_errors=True) as directory,
        Stage(docker_host) as world,
    ):
        (victim,) = make_victims(world, "hunted", 1)
        fleets = [Fleet(pathlib.Path(directory) / str(size), size, docker_host) for size in (few, many)]
        work: dict[str, dict[str, t.Any]] = {
            PING: {},
            "deploy_policies": {"policies_src": "policies"},
            "status": {"guard_fail_on": "breach,unreachable,policies"},
            # What is found is listed, and left alone.
            "hunt": {"guard_container_names": victim.name},
        }
        costs: dict[str, list[Cost]] = {}
        for playbook, variables in work.items():
            costs[playbook] = []
            for fleet in fleets:
                source = {"policies_src": str(pathlib.Path(directory) / str(fleet.size) / "policies")}
                given = {**variables, **source} if "policies_src" in variables else variables
                cost = fleet.run(playbook, **given)
                costs[playbook].append(cost)
                say(
                    f"{playbook} over {fleet.size} hosts: {shown(cost.seconds)}, {shown(cost.cpu)} of processors, "
                    f"{shown(cost.memory, 'B')}"
                )
        for playbook, (small, large) in costs.items():
            ping = costs[PING][1]
            rows.append(
                Row(
                    f"{playbook} over {many} simulated hosts, processors for each, against {few} hosts",
                    large.cpu / many,
                    small.cpu / few,
                    # Not even the one task that looks at what all hosts answered may take longer for each of them.
                    at_most=None if quick or playbook == PING else 1.5,
                    note=f"{shown(large.seconds)} with {FORKS} forks; {large.cpu / ping.cpu:.1f} times a ping; "
                    f"{shown(large.memory, 'B')}, {(large.memory - small.memory) / (many - few) / 1e3:.0f} KB a host",
                )
            )
    return rows
