# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container is meant: exactly one, or a reason why none.

The engine's own look-up is not asked: it prefers a container *named* with another's short id (measured), so an attacker
who names a container chooses what an id means. Ids are compared with ids and names with names, in one raw list.
"""

from __future__ import annotations

import contextlib
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container, name_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import (
    Entry,
    Inventory,
    Listing,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

CLOCK_TOLERANCE = datetime.timedelta(seconds=2)
"""How far a detector's clock may be behind the engine's before a container counts as created after the alert."""


class ResolutionError(GuardError):
    """No single container is meant. Kinds: C(not_found), C(ambiguous), C(stale), C(invalid_container)."""

    default_kind = "not_found"


class Resolver:
    """Looks containers up in one listing. Lives as long as one batch of alerts.

    Where the listing is older than the batch, the first look-up that finds nothing lists again, once for the batch: the
    container may have been started since.

    Args:
        engine: the engine.
        inventory: what is known of its containers; None to list them for this batch.
    """

    def __init__(self, engine: Engine, inventory: Inventory | None = None) -> None:
        self._engine = engine
        self._inventory = Inventory(engine) if inventory is None else inventory
        self._begun = self._inventory.begun
        self._listing: Listing | None = None
        self._cannot_list: EngineError | None = None
        self._inspected: dict[str, Container] = {}
        self._renamed: dict[str, datetime.datetime] | None = None

    def by_id(self, container_id: str) -> Container:
        """The container with that id or prefix of it, of 12 or more digits. Raises ResolutionError, EngineError."""
        return self._one("id", container_id, self._find(lambda listing: listing.by_id(container_id)))

    def by_name(self, name: str, seen_at: datetime.datetime | None = None) -> Container:
        """The container with exactly that name. Raises ResolutionError, EngineError.

        Args:
            name: without the leading slash.
            seen_at: when it was seen under that name. A container that was created, or got the name, later only took
                the name over: C(stale).
        """
        container = self._one("name", name, self._find(lambda listing: listing.by_name(name)))
        if seen_at:
            self._check_existed(container, seen_at)
        return container

    def _check_existed(self, container: Container, seen_at: datetime.datetime) -> None:
        """Whether what was found by something that containers hand on was there by then. Raises ResolutionError."""
        latest = seen_at + CLOCK_TOLERANCE
        # The engine remembers its last events only. Of an older change of the name nothing is known.
        for what, moment in (("created", container.created), ("renamed", self._renames().get(container.id))):
            if moment and moment > latest:
                raise ResolutionError(
                    f"the container named {container.name} was {what} after the alert, which means an earlier one of "
                    "that name",
                    kind="stale",
                    remedy="Nothing was done. Look at what the name stands for now",
                )

    def _renames(self) -> dict[str, datetime.datetime]:
        """When containers got their names, by full id, as far as the engine still knows."""
        if self._renamed is None:
            self._renamed = {}
            # A proxy may let no events through, or others.
            with contextlib.suppress(EngineError, LookupError, TypeError):
                for event in self._engine.past_events():
                    if event["Type"] == "container" and event["Action"] == "rename":
                        moment = datetime.datetime.fromtimestamp(event["timeNano"] / 10**9, datetime.timezone.utc)
                        self._renamed[event["Actor"]["ID"]] = moment
        return self._renamed

    def all(
        self,
        unreadable: dict[str, EngineError] | None = None,
        named: t.Callable[[str], bool] | None = None,
    ) -> list[Container]:
        """All containers of the host that can still be inspected. Raises EngineError.

        Args:
            unreadable: takes the names of those that the engine does not tell of, with its answers, instead of raising.
            named: leaves those out whose name it says no to; they are not even inspected.
        """
        found = []
        for entry in self._list().all():
            if named and not named(name_of(entry)):
                continue
            try:
                with contextlib.suppress(ResolutionError):
                    found.append(self._one("id", entry["Id"], [entry]))
            except EngineError as error:
                if unreadable is None:
                    raise
                unreadable[name_of(entry)] = error
        return found

    def network_owner(self, container_id: str) -> Container | None:
        """The container whose network the one with that full id uses, where that is another. Raises EngineError."""
        entries = self._list().entries
        owner = entries.get(_network_owner(entries.get(container_id) or {}))
        with contextlib.suppress(ResolutionError):
            return self._one("id", owner["Id"], [owner]) if owner else None
        return None

    def network_peers(self, container_id: str) -> list[Container]:
        """The other containers on the same network of one container, running or not: its owner and all that use it.

        Raises EngineError.
        """
        owners = {entry["Id"]: _network_owner(entry) for entry in self._list().all()}
        owner = owners.get(container_id) or container_id
        found = []
        for entry in self._list().all():
            if entry["Id"] != container_id and owner in (entry["Id"], owners[entry["Id"]]):
                with contextlib.suppress(ResolutionError):
                    found.append(self._one("id", entry["Id"], [entry]))
        return sorted(found, key=lambda container: container.name)

    def linked_from(self, container_id: str) -> list[str]:
        """Names of the containers that link to one with that full id on the default bridge. Raises EngineError."""
        names = (self._list().entries.get(container_id) or {}).get("Names") or ()
        # The engine lists it by those links, too: /other/alias (measured).
        return sorted({name.split("/")[1] for name in names if name.count("/") == 2})

    def published_ports(self, container_id: str) -> set[int]:
        """The ports of the host that a container with that full id publishes. Raises EngineError."""
        entry = self._list().entries.get(container_id) or {}
        return {port["PublicPort"] for port in entry.get("Ports") or () if port.get("PublicPort")}

    @property
    def listed(self) -> bool:
        """Whether the engine has listed its containers."""
        return self._listing is not None

    def by_reference(self, reference: str) -> Container:
        """The container that a person names: by full id, by id prefix of 12 or more digits, or by exact name.

        Raises ResolutionError (C(ambiguous) also where one container has the id and another the name), EngineError.
        """
        container_id, name = text.container_id(reference), text.container_name(reference)
        if not (container_id or name):
            raise ResolutionError(
                f"{text.display(reference, 80)!r} is neither a container id nor a container name",
                kind="invalid_container",
                remedy="Give 12 to 64 hexadecimal digits of the id, or the exact name",
            )

        def matches(listing: Listing) -> list[Entry]:
            # Nothing is more exact than a full id, also where somebody named another container so.
            if container_id in listing.entries:
                return [listing.entries[container_id]]
            found = [*listing.by_id(container_id), *listing.by_name(name)]
            return list({entry["Id"]: entry for entry in found}.values())

        return self._one("id or name", container_id or name, self._find(matches))

    def _one(self, key: str, wanted: str, matches: list[Entry]) -> Container:
        if not matches:
            raise ResolutionError(
                f"no container on this host has the {key} {wanted}",
                remedy="It may be gone, or run on another host",
            )
        if len(matches) > 1:
            raise ResolutionError(
                "{} containers match the {} {}: {}".format(
                    len(matches), key, wanted, ", ".join(f"{name_of(m)} ({m['Id'][:12]})" for m in matches[:5])
                ),
                kind="ambiguous",
                remedy="Nothing was done. Give the full id",
            )
        container_id = matches[0]["Id"]
        if container_id not in self._inspected:
            removed = f"the container with the {key} {wanted} was removed just now"
            try:
                found = self._engine.inspect_container(container_id)
            except NotFound as error:
                raise ResolutionError(removed) from error
            if found["Id"] != container_id:
                # Once it is gone, the engine takes a full id for a name, and 64 digits are a valid name (measured).
                raise ResolutionError(removed)
            self._inspected[container_id] = Container.from_inspect(found, matches[0].get("Image") or "")
        return self._inspected[container_id]

    def _find(self, find: t.Callable[[Listing], list[Entry]]) -> list[Entry]:
        found = find(self._list())
        if not found and self._list().number <= self._begun:
            if self._cannot_list:
                raise self._cannot_list  # not once for each alert, as that may take as long as the engine may
            try:
                self._listing = self._inventory.listing(after=self._begun)
            except EngineError as error:
                self._cannot_list = error
                raise
            found = find(self._listing)
        return found

    def _list(self) -> Listing:
        if self._listing is None:
            self._listing = self._inventory.listing()
        return self._listing


def _network_owner(entry: Entry) -> str:
    """The id of the container whose network it uses, or empty."""
    mode, _separator, owner = ((entry.get("HostConfig") or {}).get("NetworkMode") or "").partition(":")
    return owner if mode == "container" else ""
