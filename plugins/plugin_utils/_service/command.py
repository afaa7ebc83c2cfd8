# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands that people type on a host: their options, what they print, and their exit statuses."""

from __future__ import annotations

import argparse
import json
import os
import sys
import typing as t
from collections.abc import Callable, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service import looking, requesting
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import (
    DEFAULT_CONFIG,
    ConfigError,
    read_by_hand,
    unconfigured,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.guard import (
    NOT_DONE,
    WRONG,
    WRONG_USAGE,
    Guard,
    Said,
    actor_of,
    check_rights,
    places_of,
    wrong_usage,
)

MOST_ALERT_BYTES = 1_048_576
_STATUSES = "Exit status: 0 done, 1 not done, or not all of it, 2 wrong usage."
_OF_STATUS = (
    "Exit status: 0 where all that is isolated holds, 1 where something does not or that is not known, 2 wrong usage."
)
_OF_USAGE = (WRONG, "invalid_action")
_LONGEST_LINE = 10_000

Run = Callable[[argparse.Namespace], int]
Commands = t.Any
"""What argparse adds commands to."""


def add_commands(commands: Commands) -> None:
    """Add the commands to a parser. C(run) of what it parses does what was asked for, and returns the exit status."""
    _command(commands, "status", "show what is isolated, and whether it holds", _status, _OF_STATUS)
    command = _command(commands, "isolate", "isolate containers", _isolate)
    command.add_argument("containers", nargs="+", metavar="NAME|ID")
    command.add_argument("--action", default="", metavar="ACTIONS", help="by default pause,network_disconnect")
    command.add_argument("--release-after", default="", metavar="TIME", help="end it after that, such as 2h or 1h30m")
    _of_requests(command, "also what is protected, or is removed once it ends")
    command = _command(commands, "release", "give isolated containers back", _release)
    command.add_argument("containers", nargs="*", metavar="NAME|ID")
    command.add_argument("--all", action="store_true", help="every isolated container")
    command.add_argument("--expired", action="store_true", help="only what was to end by now")
    command.add_argument("--policy", default="", metavar="ID", help="only what that policy holds")
    command.add_argument("--trace", default="", metavar="ID", help="only what is held for that alert or request")
    command.add_argument("--restart", action="store_true", help="start its processes anew")
    command.add_argument("--recreate-networks", action="store_true", help="make networks anew that are gone")
    _of_requests(command, "also what cannot be given back as it was; forget what is gone")
    command = _command(commands, "explain", "say what holds a container, or who would answer an alert", _explain)
    command.add_argument("container", metavar="NAME|ID")
    command.add_argument("--alert", metavar="FILE", help="the message of a detector; - reads it from standard input")


def _command(commands: Commands, name: str, what: str, run: Run, end: str = _STATUSES) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=what, description=what, epilog=end)
    command.add_argument(
        "--config", metavar="FILE", help=f"of the service; by default {DEFAULT_CONFIG}, where there is one"
    )
    command.add_argument("--json", action="store_true", help="print all of it as JSON")
    command.set_defaults(run=run)
    return command


def _of_requests(command: argparse.ArgumentParser, force: str) -> None:
    command.add_argument("--reason", default="", metavar="TEXT", help="why, for the records")
    command.add_argument("--force", action="store_true", help=force)
    command.add_argument("--check", action="store_true", help="change nothing, and say what would be done")


def _status(options: argparse.Namespace) -> int:
    return _do(options, looking.status)


def _isolate(options: argparse.Namespace) -> int:
    def run(guard: Guard) -> Said:
        return requesting.isolate(
            guard,
            options.containers,
            actions=options.action,
            reason=options.reason,
            release_after=options.release_after,
            force=options.force,
            check=options.check,
        )

    return _do(options, run)


def _release(options: argparse.Namespace) -> int:
    def run(guard: Guard) -> Said:
        narrowed = options.expired or options.policy or options.trace
        if options.all and options.containers:
            raise wrong_usage("--all is given with names", "Give one of them")
        if not (options.containers or options.all or narrowed):
            raise wrong_usage(
                "it is not said what is meant", "Give names or ids, --policy, --trace, --expired, or --all"
            )
        return requesting.release(
            guard,
            options.containers,
            policy=options.policy,
            trace=options.trace,
            expired=options.expired,
            reason=options.reason,
            restart=options.restart,
            recreate_networks=options.recreate_networks,
            force=options.force,
            check=options.check,
        )

    return _do(options, run)


def _explain(options: argparse.Namespace) -> int:
    def run(guard: Guard) -> Said:
        if options.alert is None:
            return looking.explain(guard, options.container)
        return looking.explain_alert(guard, options.container, _read(options.alert))

    return _do(options, run)


def _do(options: argparse.Namespace, run: Callable[[Guard], Said]) -> int:
    """Do it, and print what it says; the exit status."""
    try:
        said = run(_guard(options.config))
    except ConfigError as error:
        _tell([str(error)])
        return NOT_DONE
    except GuardError as error:
        _tell([str(error)])
        return WRONG_USAGE if error.kind in _OF_USAGE else NOT_DONE
    except KeyboardInterrupt:
        _tell(["it was interrupted. What was begun is in the journal: container-guard status shows it"])
        return NOT_DONE
    # Whatever the terminal can show, names of others must not end this.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    lines = [json.dumps(said.found, indent=1)] if options.json else said.lines
    if lines:
        print("\n".join(lines))
    _tell(said.troubles)
    return said.status


def _guard(path: str | None) -> Guard:
    """The guard of this host. Raises ConfigError, GuardError (C(forbidden))."""
    config = unconfigured()
    if path or os.path.lexists(DEFAULT_CONFIG):
        path = os.path.abspath(path or DEFAULT_CONFIG)
        check_rights([path], os.R_OK)
        config = read_by_hand(path)
    check_rights(places_of(config), os.R_OK | os.W_OK)
    return Guard(config, actor_of(os.environ))


def _read(path: str) -> bytes:
    """The message in a file. Raises GuardError."""
    try:
        if path == "-":
            content = sys.stdin.buffer.read(MOST_ALERT_BYTES + 1)
        else:
            with open(path, "rb") as file:
                content = file.read(MOST_ALERT_BYTES + 1)
    except OSError as error:
        raise GuardError(f"{path} cannot be read: {error.strerror}", kind="alert_unreadable") from None
    if len(content) > MOST_ALERT_BYTES:
        raise GuardError(f"{path} is larger than {MOST_ALERT_BYTES} bytes", kind="alert_unreadable")
    return content


def _tell(troubles: Sequence[str]) -> None:
    for trouble in troubles:
        print(f"container-guard: {text.display(trouble, _LONGEST_LINE)}", file=sys.stderr)
