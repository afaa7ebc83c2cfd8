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
    addresses_of,
    endpoints_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.process import process_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

CLOCK_TOLERANCE = datetime.timedelta(seconds=2)
"""How far a detector's clock may be behind the engine's before a container counts as created after the alert."""


class ResolutionError(GuardError):
    """No single container is meant.

    Kinds: C(not_found), C(ambiguous), C(stale), C(no_container), C(invalid_container).
    """

    default_kind = "not_found"


class _Changes:
    """When containers got what they hand on to each other, as far as the engine still knows.

    Attributes:
        renamed: when they got their names, by full id.
        connected: when they were put on networks, by full id and the id of the network.
    """

    def __init__(self) -> None:
        self.renamed: dict[str, datetime.datetime] = {}
        self.connected: dict[tuple[str, str], datetime.datetime] = {}

    def take(self, event: t.Mapping[str, t.Any]) -> None:
        """Take one event, the oldest first. Raises LookupError, TypeError where it is none."""
        what, actor = (event["Type"], event["Action"]), event["Actor"]
        moment = datetime.datetime.fromtimestamp(event["timeNano"] / 10**9, datetime.timezone.utc)
        if what == ("container", "rename"):
            self.renamed[actor["ID"]] = moment
        elif what == ("network", "connect"):
            self.connected[actor["Attributes"]["container"], actor["ID"]] = moment


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
        self._changed: _Changes | None = None

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

    def by_pid(self, pid: int, seen_at: datetime.datetime | None = None) -> Container:
        """The container that a process of this host is of. Raises ResolutionError, EngineError.

        Args:
            pid: in the numbers of the host.
            seen_at: when the process was seen. One that began later only has the number of another: C(stale).
        """
        try:
            process = process_of(pid)
        except OSError as error:
            raise ResolutionError(f"process {pid} cannot be looked at: {error.strerror}") from error
        if process is None:
            raise ResolutionError(f"process {pid} has ended")
        if seen_at and process.started > seen_at + CLOCK_TOLERANCE:
            raise ResolutionError(
                f"process {pid} began after the alert, which means an earlier one of that number",
                kind="stale",
                remedy="Nothing was done",
            )
        found = self._find(lambda listing: [listing.entries[one] for one in process.containers(listing.entries)])
        if not found:
            raise ResolutionError(
                f"process {pid} is of no container that Docker runs on this host", kind="no_container"
            )
        return self._one("process", str(pid), found)

    def by_address(
        self,
        addresses: t.Sequence[str],
        seen_at: datetime.datetime,
        held: t.Mapping[str, t.Collection[str]] | None = None,
    ) -> Container:
        """The container that had one of the addresses. Raises ResolutionError, EngineError.

        Args:
            addresses: as ipaddress writes them.
            seen_at: when it had it. One that was given the address later is not meant: C(stale).
            held: full ids of containers that had addresses by then and have none any more, by address.
        """
        listing = self._list()
        now = [(address, entry) for address in addresses for entry in listing.by_address(address)]
        then = {entry["Id"]: entry for address, entry in now if not self._given_since(entry, address, seen_at)}
        for address in addresses:
            then.update({one: listing.entries[one] for one in (held or {}).get(address, ()) if one in listing.entries})
        wanted = " or ".join(addresses)
        if now and not then:
            raise ResolutionError(
                f"container {name_of(now[0][1])} was given {now[0][0]} after the alert, which means what had it before",
                kind="stale",
                remedy="Nothing was done",
            )
        for container_id in list(then):
            # Who shares its network has the same address.
            then.update({peer.id: listing.entries[peer.id] for peer in self.network_peers(container_id)})
        return self._one("address", wanted, list(then.values()))

    def _given_since(self, entry: Entry, address: str, seen_at: datetime.datetime) -> bool:
        """Whether a container got an address after a moment: when it was started, or put on the network."""
        latest = seen_at + CLOCK_TOLERANCE
        container = self._one("id", entry["Id"], [entry])
        changes = self._changes()
        networks = [
            str(endpoint.get("NetworkID"))
            for endpoint in endpoints_of(entry).values()
            if address in addresses_of(endpoint)
        ]
        moments = [
            container.created,
            container.started,
            *(changes.connected.get((entry["Id"], one)) for one in networks),
        ]
        return any(moment and moment > latest for moment in moments)

    def _check_existed(self, container: Container, seen_at: datetime.datetime) -> None:
        """Whether what was found by something that containers hand on was there by then. Raises ResolutionError."""
        latest = seen_at + CLOCK_TOLERANCE
        # The engine remembers its last events only. Of an older change of the name nothing is known.
        for what, moment in (("created", container.created), ("renamed", self._changes().renamed.get(container.id))):
            if moment and moment > latest:
                raise ResolutionError(
                    f"the container named {container.name} was {what} after the alert, which means an earlier one of "
                    "that name",
                    kind="stale",
                    remedy="Nothing was done. Look at what the name stands for now",
                )

    def _changes(self) -> _Changes:
        if self._changed is None:
            self._changed = _Changes()
            # A proxy may let no events through, or others.
            with contextlib.suppress(EngineError, LookupError, TypeError):
                for event in self._engine.past_events():
                    self._changed.take(event)
        return self._changed

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
                found = self._inventory.remembered(container_id) or self._engine.inspect_container(container_id)
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
            self._listing = self._listed(lambda: self._inventory.listing(after=self._begun))
            found = find(self._listing)
        return found

    def _list(self) -> Listing:
        if self._listing is None:
            self._listing = self._listed(self._inventory.listing)
        return self._listing

    def _listed(self, listing: t.Callable[[], Listing]) -> Listing:
        if self._cannot_list:
            raise self._cannot_list  # not once for each alert, as that may take as long as the engine may
        try:
            return listing()
        except EngineError as error:
            self._cannot_list = error
            raise


def _network_owner(entry: Entry) -> str:
    """The id of the container whose network it uses, or empty."""
    mode, _separator, owner = ((entry.get("HostConfig") or {}).get("NetworkMode") or "").partition(":")
    return owner if mode == "container" else ""
