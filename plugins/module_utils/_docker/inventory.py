# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containers of a host: the engine's raw list, kept for a while.

Where a process lives long enough, a Watcher keeps it right by the event stream, and then it does not age.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import name_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inspections import Inspections
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

DEFAULT_TTL = 60
SHORTEST_PREFIX = 12
MISS_AGE = 1.0
"""Seconds. A list as young as that is believed when it says that there is no such container."""

Entry = t.Dict[str, t.Any]
"""A container as C(GET /containers/json) gives it."""


class Listing:
    """The containers of one moment: look-ups in one listing agree with each other. It never changes.

    Attributes:
        entries: by full id.
        number: which of the list calls of its inventory it came from.
        taken: when that call began, by the inventory's clock.
    """

    def __init__(self, entries: t.Mapping[str, Entry], number: int, taken: float) -> None:
        self.entries = entries
        self.number = number
        self.taken = taken

    def all(self) -> list[Entry]:
        """All containers, running or not."""
        return list(self.entries.values())

    def by_id(self, prefix: str) -> list[Entry]:
        """Those whose id begins so. Fewer than 12 digits match nothing."""
        if len(prefix) < SHORTEST_PREFIX:
            return []
        return [entry for container_id, entry in self.entries.items() if container_id.startswith(prefix)]

    def by_name(self, name: str) -> list[Entry]:
        """Those with exactly that name, without the leading slash."""
        return list(self._named.get(name, ()))

    def by_address(self, address: str) -> list[Entry]:
        """Those that have an IP address, as ipaddress writes it, on any network."""
        return list(self._addressed.get(address, ()))

    def changed(self, container_id: str, entry: Entry | None) -> Listing:
        """The same but for one container; None where it is gone."""
        entries = dict(self.entries)
        if entry is None:
            entries.pop(container_id, None)
        else:
            entries[container_id] = entry
        return Listing(entries, self.number, self.taken)

    @functools.cached_property
    def _named(self) -> dict[str, list[Entry]]:
        named: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            named.setdefault(name_of(entry), []).append(entry)
        return named

    @functools.cached_property
    def _addressed(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.entries.values():
            for address in {one for endpoint in endpoints_of(entry).values() for one in addresses_of(endpoint)}:
                found.setdefault(address, []).append(entry)
        return found


def endpoints_of(entry: Entry) -> t.Mapping[str, t.Mapping[str, t.Any]]:
    """The endpoints of a container in the list, by the name of the network."""
    return (entry.get("NetworkSettings") or {}).get("Networks") or {}


def addresses_of(endpoint: t.Mapping[str, t.Any]) -> set[str]:
    """The IP addresses of an endpoint, as ipaddress writes them."""
    return {canonical(endpoint.get(key) or "") for key in ("IPAddress", "GlobalIPv6Address")} - {""}


def canonical(address: str) -> str:
    """An IP address in its canonical form, with or without the length of its network, or empty."""
    return text.address(address.partition("/")[0])


class Inventory:
    """What the engine lists, asked for as seldom as can be. Safe to share between threads.

    Look-ups return every container that matches, so that the caller can tell ambiguous from found. They raise
    EngineError where the engine must be asked and does not answer.

    Args:
        engine: the engine.
        ttl: seconds that a list is believed, 1 to 3600.
        clock: seconds that only grow.
        inspections: takes what is inspected on the way; None where nobody wants to remember that.
    """

    def __init__(
        self,
        engine: Engine,
        ttl: float = DEFAULT_TTL,
        clock: t.Callable[[], float] = time.monotonic,
        inspections: Inspections | None = None,
    ) -> None:
        if not 1 <= ttl <= 3600:
            raise GuardError(f"ttl is {ttl}, but must be from 1 to 3600", kind="invalid_option")
        self.ttl = ttl
        self._engine = engine
        self._clock = clock
        self._inspections = inspections
        self._lock = threading.Lock()
        # Held while the engine is asked: answers are kept in the order in which they were given.
        self._asking = threading.Lock()
        self._listing: Listing | None = None
        self._call: _Call | None = None
        self._begun = 0
        self._invalidated = 0
        self._followed = False
        self._hanging: set[str] = set()

    @property
    def begun(self) -> int:
        """How many list calls have begun. A listing with a greater number was asked for later than this."""
        with self._lock:
            return self._begun

    @property
    def age(self) -> float | None:
        """Seconds since what is known was true: 0 while the events are followed, None where nothing is known."""
        with self._lock:
            return self._age()

    @property
    def fresh(self) -> bool:
        """Whether a look-up would be answered without asking the engine."""
        with self._lock:
            return self._is_fresh()

    def all(self) -> list[Entry]:
        """All containers, running or not."""
        return self.listing().all()

    def by_id(self, prefix: str) -> list[Entry]:
        """Those whose id begins so, of 12 or more digits."""
        return self._look_up(lambda listing: listing.by_id(prefix))

    def by_name(self, name: str) -> list[Entry]:
        """Those with exactly that name, without the leading slash."""
        return self._look_up(lambda listing: listing.by_name(name))

    def listing(self, after: int = 0) -> Listing:
        """The containers of one moment, from memory where that is fresh.

        Args:
            after: ask the engine unless the listing came from a call that began after so many others.
        """
        while True:
            with self._lock:
                after = max(after, self._invalidated)
                if self._listing and self._listing.number > after and self._is_fresh():
                    return self._listing
                call, leads = self._call, self._call is None
                if call is None:
                    self._begun += 1
                    call = self._call = _Call(self._begun)
            if leads:
                self._carry_out(call)
            if call.number > after:
                return call.answer.result()  # whoever waited for a call shares its error, too
            concurrent.futures.wait([call.answer])

    def refresh(self) -> Listing:
        """List now."""
        return self.listing(after=self.begun)

    def invalidate(self) -> None:
        """Believe no list that was asked for until now."""
        with self._lock:
            self._invalidated = self._begun

    def remembered(self, container_id: str) -> dict[str, t.Any] | None:
        """What inspect says of the container with that full id, without asking the engine.

        None where that is not known, or nobody keeps it right at the moment.
        """
        if self._inspections is None or not self._followed:
            return None
        return self._inspections.get(container_id)

    def numbers(self) -> tuple[int, int]:
        """How many containers there are, by the last list, and how many of them are remembered."""
        listing, inspections = self._listing, self._inspections
        return len(listing.entries) if listing else 0, 0 if inspections is None else len(inspections)

    def fill(self) -> bool:
        """Inspect one container of which nothing is remembered yet; False where there is none. Raises EngineError."""
        inspections, listing = self._inspections, self._listing
        if inspections is None or listing is None:
            return False
        missing = next((one for one in listing.entries if one not in inspections and one not in self._hanging), None)
        if missing is None:
            self._hanging.clear()  # they have another chance the next time
            return False
        try:
            self._inspect(missing)
        except NotFound:
            self.reread(missing)
        except EngineError:
            self._hanging.add(missing)  # it must not keep the others from being known
            raise
        return True

    def _inspect(self, container_id: str) -> None:
        asked = 0 if self._inspections is None else self._inspections.mark()
        found = self._engine.inspect_container(container_id)
        if self._inspections is not None and found["Id"] == container_id:
            self._inspections.put(found, asked)

    def changed(self, container_id: str) -> None:
        """Something has happened to the container with that full id: ask for it anew. Raises EngineError."""
        if self._inspections is not None:
            self._inspections.forget(container_id)
        with contextlib.suppress(NotFound):
            # The engine tells some changes before its list shows them, and answers this when the change is done.
            self._inspect(container_id)
        self.reread(container_id)

    def reread(self, container_id: str) -> None:
        """Ask for one container, by its full id, and keep what is answered."""
        with self._asking:
            found = [entry for entry in self._engine.list_containers(container_id) if entry["Id"] == container_id]
            with self._lock:
                if self._listing:
                    self._listing = self._listing.changed(container_id, found[0] if found else None)

    def follow(self, followed: bool) -> None:
        """Say whether somebody calls reread() at every change from now on, so that the list does not age.

        Once nobody does, it is as old as the list call that it came from, though it may have been right for longer.
        """
        with self._lock:
            self._followed = followed

    def _look_up(self, find: t.Callable[[Listing], list[Entry]]) -> list[Entry]:
        listing = self.listing()
        found = find(listing)
        if not found and self._clock() - listing.taken >= MISS_AGE:
            # It may have been started since. Many questions about what is gone must not be as many list calls.
            found = find(self.listing(after=listing.number))
        return found

    def _carry_out(self, call: _Call) -> None:
        try:
            with self._asking:
                taken = self._clock()
                entries = {entry["Id"]: entry for entry in self._engine.list_containers()}
                listing = Listing(entries, call.number, taken)
                with self._lock:
                    before, self._listing, self._call = self._listing, listing, None
                self._forget_changed(before, listing)
        except BaseException as error:  # else those who wait for the call would wait for ever
            with self._lock:
                self._call = None
            call.answer.set_exception(error)
        else:
            call.answer.set_result(listing)

    def _forget_changed(self, before: Listing | None, now: Listing) -> None:
        """Forget what was inspected of containers that are not what they were: there are changes without an event."""
        if self._inspections is None:
            return
        self._inspections.keep(now.entries)
        for container_id, entry in now.entries.items():
            known = before.entries.get(container_id) if before else None
            if known is not None and _without_times(known) != _without_times(entry):
                self._inspections.forget(container_id)

    def _age(self) -> float | None:
        if self._listing is None:
            return None
        return 0.0 if self._followed else self._clock() - self._listing.taken

    def _is_fresh(self) -> bool:
        age = self._age()
        return age is not None and age < self.ttl and t.cast(Listing, self._listing).number > self._invalidated


def _without_times(entry: Entry) -> Entry:
    # Such as "Up 3 minutes".
    return {name: value for name, value in entry.items() if name != "Status"}


class _Call:
    """A list call under way, which any number of threads may wait for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answer: concurrent.futures.Future[Listing] = concurrent.futures.Future()
