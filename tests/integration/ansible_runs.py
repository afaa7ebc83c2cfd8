# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules and playbooks run by the real Ansible, as a user would run them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS, local_inventory

PREFIX = "ironpost.container_guard."
VENV = COLLECTIONS.parent
CORES = ("2.16", "2.18", "")
"""Releases of ansible-core to test with; the empty one is that of this environment, the newest.

2.16 is the oldest that the collection supports, 2.18 the last one whose templates know no tags of data.
"""
USUAL_CORE = os.environ.get("GUARD_CORE", "")
"""That with which everything else is run. C(make test-all) runs it with older ones, too."""
PATIENCE = 600
"""Seconds until a run is taken for one that hangs, on a machine with much else to do."""
Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class PlaybookRun:
    """What ansible-playbook did: its exit status, what it printed, and what it handed on with set_stats."""

    status: int
    output: str
    stats: Json


class Ansible:
    """Ansible on this machine.

    Args:
        directory: for the inventory, the results, and the state of the guard.
        hosts: names of inventory hosts, all of which are this machine.
        core: a release of ansible-core, such as C(2.18), of those that C(tools/setup.sh cores) installs, or C("").
        inventory: one of other hosts instead.
        variables: of all hosts of the inventory.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *hosts: str,
        core: str = USUAL_CORE,
        inventory: pathlib.Path | None = None,
        **variables: t.Any,
    ) -> None:
        self._directory = directory
        self._programs = VENV / f"core-{core}/bin" if core else pathlib.Path(sys.executable).parent
        self._inventory = inventory or local_inventory(directory, *hosts, **variables)
        self.state_dir = directory / "state"
        self.policy_set = directory / "policy_set.json"
        self._empty_set = directory / "empty_set.json"
        self._empty_set.write_text(PolicySet.of([]).to_json())

    def set_variables(self, host: str, variables: Json) -> None:
        """Give a host of the inventory variables of its own."""
        path = self._inventory.parent / "host_vars" / f"{host}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(variables))

    def module(self, name: str, *, check: bool = False, diff: bool = False, **options: t.Any) -> Json:
        """The whole result of one of our modules, run by its full name on localhost."""
        result = self._directory / "result.json"
        work = {
            PREFIX + name: options,
            "check_mode": check,
            "diff": diff,
            "register": "result",
            "ignore_errors": True,  # the result says so, and the caller looks at it
        }
        keep = {"ansible.builtin.copy": {"content": "{{ result | to_json }}", "dest": str(result)}}
        playbook = self._directory / "module.json"
        playbook.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [work, keep]}]))
        run = self._run(["ansible-playbook", "--inventory", str(self._inventory), str(playbook)])
        assert result.exists(), run.stdout
        found: Json = json.loads(result.read_text())
        result.unlink()
        return found

    def isolation(self, container: str, state: str = "isolated", **options: t.Any) -> Json:
        """The result of the module isolation, with the state directory of this object."""
        return self.module("isolation", container=container, state=state, state_dir=str(self.state_dir), **options)

    def playbook(self, name: str, variables: Json, *options: str) -> PlaybookRun:
        """Run one of our playbooks by its full name.

        Those by which people isolate go by a set that protects nothing, where the test has deployed none.
        """
        none = name in ("isolate", "repair") and not self.policy_set.exists()
        paths = {
            "guard_state_dir": str(self.state_dir),
            "guard_policy_set_path": str(self._empty_set if none else self.policy_set),
            "policies_path": str(self.policy_set),
        }
        return self.run(PREFIX + name, {**paths, **variables}, *options)

    def run(self, playbook: str | Json, variables: Json, *options: str) -> PlaybookRun:
        """Run any playbook: one by its full name, or a play."""
        path = self._directory / "extra_vars.json"
        path.write_text(json.dumps(variables))
        if not isinstance(playbook, str):
            written = self._directory / "playbook.json"
            written.write_text(json.dumps([playbook]))
            playbook = str(written)
        command = ["ansible-playbook", "--inventory", str(self._inventory), "--extra-vars", f"@{path}", *options]
        run = self._run([*command, playbook])
        _, found, stats = run.stdout.partition("CUSTOM STATS: ")
        text = stats.partition("\tRUN: ")[2]
        return PlaybookRun(run.returncode, run.stdout, json.loads(text) if found and text.strip() else {})

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._programs / command[0]), *command[1:]],
            check=False,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_SHOW_CUSTOM_STATS": "1",
                "ANSIBLE_NOCOLOR": "1",
                "NO_COLOR": "1",
            },
        )
