# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our modules on one host of the testbed, over ssh, run by the real ansible-playbook."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS

PREFIX = "ironpost.container_guard."
PATIENCE = 600
Json = dict[str, t.Any]


class Remote:
    """Ansible on this machine, and one host that it reaches over ssh.

    Args:
        directory: for the inventory, the playbooks and the results.
        inventory: variables of the host.
        options: of ansible-playbook, such as C(--become).
        core: a release of ansible-core of those that C(tools/setup.sh cores) installs, or that of this environment.
    """

    def __init__(self, directory: pathlib.Path, inventory: Json, *options: str, core: str = "") -> None:
        self._directory = directory
        self._programs = COLLECTIONS.parent / f"core-{core}/bin" if core else pathlib.Path(sys.executable).parent
        self._options = options
        self._inventory = directory / "inventory.json"
        self._inventory.write_text(json.dumps({"all": {"hosts": {"target": inventory}}}))

    def modules(self, *calls: tuple[str, Json]) -> list[Json]:
        """The whole results of our modules, called one after the other by their names, whatever came of them."""
        results = self._directory / "results.json"
        results.unlink(missing_ok=True)
        tasks: list[Json] = [
            {PREFIX + name: options, "register": f"result_{number}", "ignore_errors": True}
            for number, (name, options) in enumerate(calls)
        ]
        names = ", ".join(f"result_{number}" for number in range(len(calls)))
        keep = {"content": f"{{{{ [{names}] | to_json }}}}", "dest": str(results)}
        tasks.append({"ansible.builtin.copy": keep, "delegate_to": "localhost", "become": False})
        playbook = self._directory / "modules.json"
        play = {"hosts": "target", "gather_facts": False, "tasks": tasks}
        playbook.write_text(json.dumps([play]))
        _status, output = self._run(str(playbook))
        assert results.exists(), output
        found: list[Json] = json.loads(results.read_text())
        return found

    def playbook(self, name: str, variables: Json) -> tuple[int, str]:
        """Run one of our playbooks by its full name on the host; its exit status and what it printed."""
        extra = self._directory / "extra_vars.json"
        extra.write_text(json.dumps({"guard_target": "target", **variables}))
        return self._run("--extra-vars", f"@{extra}", PREFIX + name)

    def _run(self, *words: str) -> tuple[int, str]:
        program = str(self._programs / "ansible-playbook")
        done = subprocess.run(
            [program, "--inventory", str(self._inventory), *self._options, *words],
            check=False,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_SHOW_CUSTOM_STATS": "1",
                "ANSIBLE_NOCOLOR": "1",
                "NO_COLOR": "1",
            },
        )
        return done.returncode, done.stdout
