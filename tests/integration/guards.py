# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rulebooks that answer alerts about hosts of the testbed, and what was done there, for tests that kill them."""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import typing as t
import uuid

import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess
from ansible_collections.ironpost.container_guard.tests.integration.senders import TOKEN, Json, elements
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

POLICY_SET = PolicySet.of(
    [
        Policy.from_dict(
            {
                "id": "pause-shells",
                "severity_threshold": "high",
                "target_filter": {"container_names": ["cg-test-*"]},
                "actions": [{"type": "pause"}],
            }
        )
    ]
).to_json()
MARK = "GUARD_TEST_OF_DELIVERY"
"""Environment variable of all processes that the rulebook of a test starts."""
PATIENCE = 300.0


class GuardedHost:
    """A host of the inventory, and a corner of its engine. Use it as a context manager.

    Args:
        name: in the inventory.
        host: of the testbed, whose engine it has.
        directory: on this machine, for its state.
        port: where its sshd is reached; without it is this machine, with the engine of that host.
    """

    def __init__(self, name: str, host: Host, directory: pathlib.Path, port: int = 0) -> None:
        self.name = name
        self.host = host
        self.world = HostWorld(host)
        self._over_ssh = bool(port)
        self._directory = f"/var/tmp/cg-test-{uuid.uuid4().hex[:8]}" if port else str(directory / name)
        where = {"guard_state_dir": f"{self._directory}/state", "guard_policy_set_path": f"{self._directory}/set.json"}
        if port:
            self.variables = {**where, **host.inventory, "ansible_port": port}
        else:
            local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
            self.variables = {**where, **local, "guard_docker_host": host.docker_host}

    def __enter__(self) -> GuardedHost:
        self.world.__enter__()
        self._shell('mkdir -p "$1" && printf %s "$2" >"$1/set.json"', POLICY_SET)
        return self

    def __exit__(self, *error: object) -> None:
        self._shell('rm -rf "$1"')
        self.world.__exit__(*error)

    def make(self, count: int) -> list[str]:
        """Start that many containers."""
        return [self.world.make_container(f"{self.name}-{number}", network_mode="none") for number in range(count)]

    def outcomes(self) -> dict[str, list[str]]:
        """What was done to each container, in order, by the action log."""
        found = collections.defaultdict(list)
        for line in self._shell('cat "$1/state/actions.jsonl" 2>/dev/null || true').splitlines():
            record = json.loads(line)
            if record["outcome"] != "intended":
                found[record["container"]["id"]].append(record["outcome"])
        return found

    def has_isolated(self, container: str) -> bool:
        return "isolated" in self.outcomes()[container]

    def is_paused(self, container: str) -> bool:
        return bool(self.world.engine.inspect_container(container)["State"]["Paused"])

    def _shell(self, script: str, *arguments: str) -> str:
        """What a script prints where the state of the host is; $1 is its directory."""
        command = ["sh", "-c", script, "sh", self._directory, *arguments]
        if self._over_ssh:
            status, output = self.host.exec(*command)
            assert status == 0, output
            return output
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


class Guard:
    """The rulebook respond, and what it told about alerts that nobody answered. Use it as a context manager.

    Args:
        directory: for what it writes.
        hosts: inventory hosts, with their variables.
        env: environment variables.
        options: of the event source.

    Attributes:
        process: that runs it.
        port: where it takes alerts.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        hosts: t.Mapping[str, Json],
        env: t.Mapping[str, str] | None = None,
        **options: t.Any,
    ) -> None:
        self._told = directory / "told"
        self._told.mkdir()
        inventory = directory / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"all": {"hosts": dict(hosts)}}))
        playbooks = directory / "playbooks"  # all of this directory is copied for each run
        playbooks.mkdir()
        event = "ansible_eda.event.unanswered"
        told = {"content": f"{{{{ {event} | to_json }}}}", "dest": f"{self._told}/{{{{ {event}[0].trace_id }}}}.json"}
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.copy": told}],
        }
        (playbooks / "unanswered.yml").write_text(yaml.safe_dump([play]))
        self._mark = f"{MARK}={directory}".encode()
        self.process = RulebookProcess(
            "ironpost.container_guard.respond",
            inventory,
            directory,
            {
                "guard": {"token": TOKEN, "hosts": list(hosts), "spool": str(directory / "spool"), **options},
                "guard_unanswered_playbook": str(playbooks / "unanswered.yml"),
            },
            env={MARK: str(directory), **(env or {})},
        )
        self.port = self.process.port

    def __enter__(self) -> Guard:
        self.process.__enter__()
        return self

    def __exit__(self, *error: t.Any) -> None:
        self.process.__exit__(*error)

    def wait_for(self, condition: t.Callable[[], object], what: str) -> None:
        self.process.wait_for(condition, what, PATIENCE)

    def playbooks(self) -> set[int]:
        """Pids of the playbook runs that it started, also where it has ended since."""
        # ssh keeps connections open beyond a run, and is no run.
        return self.processes("ansible-playbook")

    def processes(self, named: str) -> set[int]:
        """Pids of what it started with that in the command line."""
        found = set()
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if named.encode() in (path / "cmdline").read_bytes() and self._mark in (
                    path / "environ"
                ).read_bytes().split(b"\0"):
                    found.add(int(path.name))
        return found

    def told(self) -> set[str]:
        """Trace ids of the alerts that somebody was told of as unanswered, by an event."""
        return {alert["trace_id"] for path in self._told.glob("*.json") for alert in json.loads(path.read_text())}

    def unanswered(self) -> set[str]:
        """Trace ids of the alerts that the log says nobody answered."""
        return set(re.findall(r"Alert (\S+) is not answered: ", self.process.log))

    @property
    def waiting(self) -> int:
        """How many alerts are neither answered nor told."""
        return elements(self.port)["waiting"]


def release(guard: Guard, host: GuardedHost, container: str, directory: pathlib.Path) -> None:
    """Have a person release a container while the rulebook is down. Its alerts may be delivered again."""
    host.world.until(lambda: not guard.playbooks(), "end of the playbooks", PATIENCE)
    mine = directory / f"person-{container[:12]}"
    mine.mkdir()
    wanted = {"guard_target": host.name, "guard_container": container}
    run = Ansible(mine, host.name).playbook("release", {**host.variables, **wanted})
    assert run.status == 0, run.output
    assert not host.is_paused(container)
