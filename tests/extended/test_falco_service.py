# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role falco_output where systemd runs Falco, under the second name that its package gives the unit.

In the virtual machine. What is told to the stand-in about the kernel comes through a named pipe.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS
from ansible_collections.ironpost.container_guard.tests.testbed import falco_package
from ansible_collections.ironpost.container_guard.tests.testbed.vm import VirtualMachine

ALERTS = "/var/log/falco/alerts.json"


def apply(machine: VirtualMachine, directory: pathlib.Path, **variables: object) -> str:
    """Apply the role as an ordinary user with sudo; what was printed."""
    inventory, playbook = directory / "inventory.json", directory / "role.json"
    inventory.write_text(json.dumps({"all": {"hosts": {"web-1": {**machine.operator_inventory, **variables}}}}))
    role = {"role": "ironpost.container_guard.falco_output"}
    playbook.write_text(json.dumps([{"hosts": "all", "become": True, "gather_facts": False, "roles": [role]}]))
    done = subprocess.run(
        [pathlib.Path(sys.executable).with_name("ansible-playbook"), "--inventory", inventory, playbook],
        check=False,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def falco(virtual_machine: VirtualMachine) -> t.Iterator[VirtualMachine]:
    """The machine, with Falco as its package leaves it: enabled, and running."""
    falco_package.install_service(virtual_machine)
    yield virtual_machine
    falco_package.remove(virtual_machine)


def started(machine: VirtualMachine) -> str:
    """Which run of the unit is on: it is another one after each restart."""
    status, output = machine.exec("systemctl", "show", "--property=ActiveState,InvocationID", "falco-modern-bpf")
    assert status == 0, output
    assert "ActiveState=active" in output
    return output


def test_falco_is_restarted_once_and_says_the_name_of_the_inventory(
    falco: VirtualMachine, tmp_path: pathlib.Path
) -> None:
    before = started(falco)
    apply(falco, tmp_path, falco_output_by="file")
    after = started(falco)
    assert after != before
    event = {
        "rule": "Shell",
        "priority": "Critical",
        "tags": [],
        "output": "A shell",
        "prints": [],
        "fields": {"container.id": "0123456789ab"},
    }
    # Each alert is written by a file of its own, so that its end is the end of a line.
    tell = (
        f'printf "%s\\n" "$0" >{falco_package.EVENTS}; until grep -q "}}$" {ALERTS}; do sleep 0.1; done; cat {ALERTS}'
    )
    status, output = falco.exec("sh", "-c", tell, json.dumps(event))
    assert status == 0, output
    alert = json.loads(output)
    assert (alert["hostname"], alert["output_fields"]["container.id"]) == ("web-1", "0123456789ab")

    assert " changed=0 " in apply(falco, tmp_path, falco_output_by="file")
    assert started(falco) == after
    apply(falco, tmp_path, falco_output_state="absent")
    assert started(falco) != after
    status, output = falco.exec("systemctl", "show", "--property=Environment", "falco-modern-bpf")
    assert (status, output.strip()) == (0, "Environment=")
