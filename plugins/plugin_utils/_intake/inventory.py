# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of an inventory, as ansible-inventory lists them: EDA plugins import no Ansible, so it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
import typing as t
from collections.abc import Iterable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options

logger = logging.getLogger(__name__)

READ_AGAIN = 300.0
"""How long an inventory is taken to be as it was, in seconds."""
TIMEOUT = 60.0
"""How long reading an inventory may take, in seconds."""


class InventoryError(GuardError):
    """The inventory cannot be read."""

    default_kind = "inventory_unreadable"


@dataclasses.dataclass(frozen=True)
class Inventory:
    """Names in an inventory.

    Attributes:
        groups: the hosts of each group, those of its children included; C(all) is one of them.
    """

    groups: Mapping[str, frozenset[str]]

    @property
    def hosts(self) -> frozenset[str]:
        """All hosts."""
        return self.groups["all"]

    def __contains__(self, name: object) -> bool:
        return name in self.hosts or name in self.groups

    def expand(self, names: Iterable[str]) -> tuple[str, ...]:
        """The hosts of these hosts and groups, sorted. What is neither is none."""
        found: set[str] = set()
        for name in names:
            found |= {name} if name in self.hosts else self.groups.get(name, frozenset())
        return tuple(sorted(found))

    def missing(self, options: Options) -> list[str]:
        """What to say of names in the options that are not in the inventory. For people, a sentence each."""
        named = {
            "hosts": options.hosts,
            "host_map": options.host_map.values(),
            "lookup_hosts": options.lookup_hosts,
            "senders": [host for sender in options.senders for host in sender.hosts],
            "files": [file.host for file in options.files if file.host],
            "kafka": list(options.kafka.hosts) if options.kafka else [],
        }
        found = []
        for option, names in named.items():
            # A group is for looking up only: an alert is about one host.
            known: t.Container[str] = self if option == "lookup_hosts" else self.hosts
            unknown = sorted({name for name in names if name not in known})
            if unknown:
                shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
                found.append(f"{option}: not in the inventory: {shown}. Alerts about them reach no host")
        return found


async def read_inventory(path: str, timeout: float = TIMEOUT) -> Inventory:
    """The inventory at a path, or a comma-separated list of hosts, as C(ansible-playbook -i) takes it.

    Raises InventoryError.
    """
    # Where ansible-rulebook runs in an environment that is not activated, the command is beside its Python.
    beside = os.path.dirname(sys.executable)
    command = shutil.which("ansible-inventory", path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if command is None:
        raise InventoryError(
            "ansible-inventory is not installed", remedy="Leave inventory out, or install ansible-core"
        )
    try:
        process = await asyncio.create_subprocess_exec(
            *(command, "--inventory", path, "--list"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # a plugin that asks for a password finds no terminal
            env={**os.environ, "ANSIBLE_DEPRECATION_WARNINGS": "0"},
        )
    except OSError as error:
        raise InventoryError(f"ansible-inventory cannot be run: {error}") from None
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate()
    except TimeoutError:
        raise InventoryError(
            f"the inventory {text.display(path, 200)} was not read within {timeout:g} seconds",
            remedy="Try ansible-inventory --list by hand",
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    said = text.display(errors.decode("utf-8", "replace").strip(), 500)
    if process.returncode:
        raise InventoryError(f"the inventory {text.display(path, 200)} cannot be read: {said}")
    # A source that cannot be parsed is a warning to ansible-inventory, and an empty list.
    found = _inventory_of(output)
    if not found.hosts:
        raise InventoryError(f"the inventory {text.display(path, 200)} has no hosts: {said}")
    return found


def _inventory_of(output: bytes) -> Inventory:
    try:
        listed = json.loads(output)
    except ValueError as error:
        raise InventoryError(f"ansible-inventory gave no JSON ({error})") from None
    own = {
        name: (frozenset(_names(group.get("hosts"))), _names(group.get("children")))
        for name, group in listed.items()
        if name != "_meta" and isinstance(group, dict)
    }
    groups = {name: _below(name, own) for name in (*own, "all")}
    variables = listed.get("_meta", {}).get("hostvars", {})
    groups["all"] |= frozenset(variables) if isinstance(variables, dict) else frozenset()
    return Inventory(groups)


def _below(name: str, own: Mapping[str, tuple[frozenset[str], list[str]]]) -> frozenset[str]:
    """The hosts of a group and of its children. Each group is looked at once, whatever refers to what."""
    found: set[str] = set()
    seen, todo = {name}, [name]
    while todo:
        hosts, children = own.get(todo.pop(), (frozenset(), []))
        found |= hosts
        todo += [child for child in children if child not in seen]
        seen.update(children)
    return frozenset(found)


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


class InventoryWatch:
    """Reads an inventory now and then, as hosts come and go.

    Attributes:
        current: as it was last read; None where it never could be.
    """

    def __init__(self, options: Options) -> None:
        self.current: Inventory | None = None
        self._options = options
        self._troubles: list[str] = []

    def troubles(self) -> list[str]:
        """Why it cannot be read, or which names in the options are not in it. For people."""
        return list(self._troubles)

    async def run(self) -> t.NoReturn:
        """Read it for ever, every few minutes. Each new trouble is logged."""
        while True:
            try:
                self.current = await read_inventory(self._options.inventory)
                troubles = self.current.missing(self._options)
            except InventoryError as error:
                troubles = [str(error)]
            for trouble in troubles:
                if trouble not in self._troubles:
                    logger.error("%s", trouble)
            self._troubles = troubles
            await asyncio.sleep(READ_AGAIN)
