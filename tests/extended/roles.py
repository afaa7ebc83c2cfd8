# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles, run on a host with systemd as a user would run them, and what is there afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS
from ansible_collections.ironpost.container_guard.tests.integration.senders import health
from ansible_collections.ironpost.container_guard.tests.testbed.systemd_host import SystemdHost

REPOSITORY = COLLECTIONS / "ansible_collections/ironpost/container_guard"
PATIENCE = 900
Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Applied:
    """A run of a role: its exit status, and what it printed."""

    status: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something."""
        return int(re.findall(r"changed=(\d+)", self.output)[-1])


class RoleHost:
    """A host on which a role puts a service that takes alerts. In the inventory it is C(node).

    Args:
        machine: the host.
        directory: for the inventory and plays.
        role: its full name.
        unit: the service.

    Attributes:
        machine: the host.
        directory: of the plays.
        port: of this machine, that leads to the service.
        variables: of the role.
    """

    def __init__(self, machine: SystemdHost, directory: pathlib.Path, role: str, unit: str) -> None:
        self.machine = machine
        self.directory = directory
        self.port = machine.port
        self.variables: Json = {}
        self._role = role
        self._unit = unit
        self._inventory = directory / "inventory.json"
        self._inventory.write_text(json.dumps({"all": {"hosts": {"node": machine.operator_inventory}}}))

    def apply(
        self,
        *options: str,
        collections: pathlib.Path = COLLECTIONS,
        **variables: t.Any,
    ) -> Applied:
        """Run the role.

        Args:
            options: of ansible-playbook.
            collections: directory that the role is taken from.
            variables: of the role, beside its own.
        """
        play = {"hosts": "node", "gather_facts": False, "roles": [self._role]}
        return self._run([play], {**self.variables, **variables}, *options, collections=collections)

    def deploy(self, policy: str) -> None:
        """Give the policies to the host."""
        (self.directory / "policy.yml").write_text(policy)
        task = {"ironpost.container_guard.policy_set": {"src": "policy.yml"}}
        applied = self._run([{"hosts": "node", "gather_facts": False, "tasks": [task]}], {})
        assert applied.status == 0, applied.output

    def _run(
        self, plays: list[Json], variables: Json, *options: str, collections: pathlib.Path = COLLECTIONS
    ) -> Applied:
        (self.directory / "play.json").write_text(json.dumps(plays))
        (self.directory / "variables.json").write_text(json.dumps(variables))
        command = [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "--inventory", str(self._inventory)]
        command += ["--become", "--extra-vars", "@variables.json", *options, "play.json"]
        done = subprocess.run(
            command,
            check=False,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(collections),
                "ANSIBLE_NOCOLOR": "1",
                "NO_COLOR": "1",
            },
        )
        return Applied(done.returncode, done.stdout)

    # --- what is there ------------------------------------------------------------------------------------------------

    def ask(self, *command: str) -> str:
        """What a command that root types prints."""
        status, output = self.machine.exec(*command)
        assert status == 0, output
        return output.strip()

    def unit(self, name: str) -> str:
        """What the file of a unit says."""
        return self.ask("cat", f"/etc/systemd/system/{name}")

    def shown(self, name: str) -> str:
        """A property of the unit."""
        return self.ask("systemctl", "show", "--value", f"--property={name}", self._unit)

    @property
    def pid(self) -> int:
        return int(self.shown("MainPID"))

    @property
    def log(self) -> str:
        return self.ask("journalctl", f"--unit={self._unit}", "--no-pager", "--output=cat")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it holds. Raises AssertionError with the log."""
        deadline = time.monotonic() + PATIENCE
        while not self._holds(condition):
            assert time.monotonic() < deadline, f"no {what}:\n{self.log}"
            time.sleep(0.2)

    @staticmethod
    def _holds(condition: Callable[[], object]) -> bool:
        # It may be restarting.
        with contextlib.suppress(OSError, ValueError):
            return bool(condition())
        return False

    @property
    def well(self) -> bool:
        with contextlib.suppress(Exception):
            return str(health(self.port)["status"]) == "ok"
        return False


def built(directory: pathlib.Path) -> pathlib.Path:
    """The collection as it would be shipped, in a directory."""
    build = [str(pathlib.Path(sys.executable).parent / "ansible-galaxy"), "collection", "build"]
    build += ["--output-path", str(directory), str(REPOSITORY)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (found,) = directory.glob("*.tar.gz")
    return found
