# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command behind make testbed and make testbed-down, and what the scenarios of Molecule do to their hosts."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import sys
import time
import typing as t

from ansible_collections.ironpost.container_guard.tests.testbed import falco_package, fleet
from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host
from ansible_collections.ironpost.container_guard.tests.testbed.inventory import inventory_of, inventory_of_machine
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import RECIPES, recipes
from ansible_collections.ironpost.container_guard.tests.testbed.wheels import wheels

FAULTS: dict[str, t.Callable[[Host], None]] = {
    "stop-engine": Host.stop_engine,
    "start-engine": Host.start_engine,
    "cut-off": Host.cut_off,
    "reconnect": Host.reconnect,
}


def main() -> None:
    """Bring the testbed up and say what is there, do something to it, or take it down."""
    parser = argparse.ArgumentParser(prog="testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build and start what is missing")
    commands.add_parser("list", help="build and start what is missing, and say how to reach the hosts")
    inventory = commands.add_parser("inventory", help="the same with a control node, and write an inventory of them")
    inventory.add_argument("file", type=pathlib.Path, help="JSON, of three Docker hosts and the control node")
    fault = commands.add_parser("fault", help="hurt a host, or heal it")
    fault.add_argument("host", choices=[recipe.engine for recipe in RECIPES])
    fault.add_argument("fault", choices=FAULTS)
    machine = commands.add_parser("machine", help="run the virtual machine until the file is removed")
    machine.add_argument("file", type=pathlib.Path, help="JSON: inventory of the machine, written once it is up")
    commands.add_parser("falco", help="put what stands in for Falco on the control node, run by systemd")
    down = commands.add_parser("down", help="stop and remove all hosts")
    down.add_argument("--images", action="store_true", help="remove their images, too")
    options = parser.parse_args()
    if options.command == "down":
        fleet.down(_say, images=options.images)
    elif options.command == "inventory":
        _write_inventory(options.file)
    elif options.command == "fault":
        (recipe,) = recipes([options.host])
        with contextlib.closing(Host(recipe)) as host:
            FAULTS[options.fault](host)
    elif options.command == "machine":
        _run_machine(options.file)
    elif options.command == "falco":
        falco_package.install_service(fleet.control_node(_say))
    else:
        for host in fleet.up(RECIPES, _say, complete=True):
            if options.command == "list":
                _say(
                    f"{host.name}: Docker {host.version}\n  export DOCKER_HOST={host.docker_host}\n  {host.ssh_command}"
                )


def _write_inventory(file: pathlib.Path) -> None:
    hosts = fleet.up(RECIPES, _say)
    control = fleet.control_node(_say)
    # Nothing is reached from in there.
    control.put(wheels(), "/srv/wheels")
    file.write_text(json.dumps(inventory_of(hosts, control), indent=2) + "\n")


def _run_machine(file: pathlib.Path) -> None:
    machine = fleet.virtual_machine(_say)
    try:
        machine.start()
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(inventory_of_machine(machine, os.getpid()), indent=2) + "\n")
        unfinished.rename(file)
        while file.exists():
            time.sleep(0.5)
    finally:
        machine.stop()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except TestbedError as error:
        sys.exit(f"error: {error}")
