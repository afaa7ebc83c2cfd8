# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command C(container-guard) on a host."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service import command as by_hand
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import (
    DEFAULT_CONFIG,
    ConfigError,
    read_config,
)

_NOT_CONFIGURED = 78
"""EX_CONFIG of sysexits.h: systemd is told not to start the service again, which would not help."""


def main(arguments: list[str] | None = None) -> int:
    """What the command line asks for; its exit status."""
    parser = argparse.ArgumentParser(prog="container-guard", description="The guard of the containers on this host.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    by_hand.add_commands(commands)
    for name, what in (("serve", "answer alerts, until SIGTERM"), ("check", "check the configuration, and say so")):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--config", default=DEFAULT_CONFIG, metavar="FILE", help=f"by default {DEFAULT_CONFIG}")
        command.set_defaults(run=_serve_or_check)
    options = parser.parse_args(arguments)
    return int(options.run(options))


def _serve_or_check(options: argparse.Namespace) -> int:
    try:
        config = read_config(options.config)
    except ConfigError as error:
        print(f"container-guard: {error}", file=sys.stderr)
        return _NOT_CONFIGURED
    if options.command == "check":
        print(f"{options.config} is a sound configuration")
        return 0
    # What people type in the night must not fail, nor wait, for what only the service needs.
    from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import SpoolError
    from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.service import serve
    from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.systemd import Manager

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        asyncio.run(serve(config, Manager()))
    except (ValueError, OSError, SpoolError) as error:
        print(f"container-guard: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
