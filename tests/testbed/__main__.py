# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command behind make testbed and make testbed-down."""

from __future__ import annotations

import argparse
import sys

from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import RECIPES


def main() -> None:
    """Bring the testbed up and say what is there, or take it down."""
    parser = argparse.ArgumentParser(prog="testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build and start what is missing")
    commands.add_parser("list", help="build and start what is missing, and say how to reach the hosts")
    down = commands.add_parser("down", help="stop and remove all hosts")
    down.add_argument("--images", action="store_true", help="remove their images, too")
    options = parser.parse_args()
    if options.command == "down":
        fleet.down(_say, images=options.images)
        return
    hosts = fleet.up(RECIPES, _say, complete=True)
    if options.command == "list":
        for host in hosts:
            _say(f"{host.name}: Docker {host.version}\n  export DOCKER_HOST={host.docker_host}\n  {host.ssh_command}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        main()
    except TestbedError as error:
        sys.exit(f"error: {error}")
