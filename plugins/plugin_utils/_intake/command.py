# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role rulebook asks of the source on the control node, as the user of the service.

    python -m ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.command check <VARIABLES.json
    python -m ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.command waiting SPOOL

C(check) says whether the source would start with these variables of the rulebook, before anything is restarted, and
prints a L(Checked) as JSON. C(waiting) prints how many alerts of a spool are not answered yet. Both say on stderr what
is wrong, in a line without secrets, and exit with 1 then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
import sys
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import spool
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accept import reached
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.inventory import read_inventory
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.listener import HEALTH
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import (
    FLAT,
    VARIABLES,
    WHOLE,
    parse_options,
    unread_variables,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """Variables with which the source would start.

    Attributes:
        hosts: how many the inventory has; 0 where the options name none.
        health: address of /healthz on this machine.
        certificate_required: whether nobody is answered there without a client certificate.
        warnings: sentences for people.
    """

    hosts: int
    health: str
    certificate_required: bool
    warnings: Sequence[str]


def check(variables: Mapping[str, object]) -> Checked:
    """Check the variables of the rulebook C(respond).

    Raises ValueError for options with which the source would not start, with which nobody would find it, and for hosts
    that are not in the inventory. Raises InventoryError.
    """
    options = parse_options({WHOLE: variables.get(WHOLE), **{name: variables.get(f"{WHOLE}_{name}") for name in FLAT}})
    if not options.port:
        raise ValueError("port is 0, so that the system would choose another one at every start. Set it")
    if options.certfile:
        Tls(options)
    hosts = 0
    if options.inventory:
        inventory = asyncio.run(read_inventory(options.inventory))
        missing = inventory.missing(options)
        if missing:
            raise ValueError(". ".join(missing))
        hosts = len(inventory.hosts)
    return Checked(
        hosts=hosts,
        health=f"{'https' if options.certfile else 'http'}://{reached(options.host)}:{options.port}{HEALTH}",
        certificate_required=bool(options.cafile) and options.certificate_required,
        warnings=unread_variables({VARIABLES: list(variables)}),
    )


def main(arguments: Sequence[str], variables: t.TextIO) -> int:
    """Do what the command line says; the exit status."""
    try:
        match list(arguments):
            case ["check"]:
                print(json.dumps(dataclasses.asdict(check(json.load(variables)))))
            case ["waiting", directory]:
                print(spool.waiting(pathlib.Path(directory)))
            case _:
                raise ValueError("say check or waiting SPOOL")
    except (ValueError, GuardError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin))
