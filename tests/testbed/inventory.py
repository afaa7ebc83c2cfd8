# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet for Ansible: three Docker hosts, and a control node with systemd, as an inventory."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.tests.testbed.host import Host
from ansible_collections.ironpost.container_guard.tests.testbed.systemd_host import SystemdHost
from ansible_collections.ironpost.container_guard.tests.testbed.vm import VirtualMachine

CONTROL = "guard"
Json = dict[str, t.Any]


def inventory_of(hosts: t.Sequence[Host], control: SystemdHost) -> Json:
    """The inventory: an ordinary user with sudo logs in to each of them.

    Args:
        hosts: that run. They are C(web-1) and so on, in the group C(docker_hosts).
        control: that runs. It is C(guard), in the group C(control_nodes).

    Returns:
        With variables beyond those of Ansible, which begin with C(testbed_): C(testbed_name) for the command line
        of the testbed, C(testbed_engine), C(testbed_address) and C(testbed_host_key) as hosts see each other, and
        C(testbed_port) for the event source of the control node, on 127.0.0.1.
    """
    docker_hosts = {
        f"web-{number}": {
            **host.operator_inventory,
            "testbed_name": host.recipe.engine,
            "testbed_engine": host.version,
            "testbed_address": host.address,
            "testbed_host_key": host.host_key,
        }
        for number, host in enumerate(hosts, start=1)
    }
    guard = {**control.operator_inventory, "testbed_host_key": control.host_key.strip(), "testbed_port": control.port}
    return {
        "all": {
            "children": {
                "docker_hosts": {"hosts": docker_hosts},
                "control_nodes": {"hosts": {CONTROL: guard}},
            }
        }
    }


def inventory_of_machine(machine: VirtualMachine, pid: int) -> Json:
    """The inventory of a virtual machine that runs: C(vm), in the group C(docker_hosts).

    Args:
        machine: to which an ordinary user with sudo logs in.
        pid: of the process that runs it, as C(testbed_pid).
    """
    variables = {**machine.operator_inventory, "testbed_pid": pid}
    return {"all": {"children": {"docker_hosts": {"hosts": {"vm": variables}}}}}
