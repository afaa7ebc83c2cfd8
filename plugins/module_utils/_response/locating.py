# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container of this host an alert means: exactly one, or why none."""

from __future__ import annotations

import datetime

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import age
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import canonical
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import (
    CLOCK_TOLERANCE,
    ResolutionError,
    Resolver,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal


class Locator:
    """Finds the containers that alerts mean. Lives as long as one batch of alerts.

    Args:
        resolver: finds containers by one thing that is said of them.
        journal: of this host, which knows the addresses that isolated containers had; None where there is none.
    """

    def __init__(self, resolver: Resolver, journal: Journal | None = None) -> None:
        self._resolver = resolver
        self._journal = journal
        self._isolated: list[Entry] | None = None

    def named(self, alert: Alert, host_known: bool) -> Container:
        """The container that the alert names, or of which it names a process. Raises ResolutionError, EngineError.

        An id is unique in a fleet. All else that means a container is handed on from one to the next, so that it counts
        on a host that is known and for what was there when the alert was made.
        """
        said = alert.container
        if said.id:
            return self._resolver.by_id(said.id)
        if not (said.name or said.pid):
            raise ResolutionError("it means a container, and says neither a usable id nor a name")
        if not host_known:
            # Names and pids repeat over a fleet; only an id says which host is meant.
            raise ResolutionError(
                "it names its container by {}, but its host is not known to be this one".format(
                    "name" if said.name else "a process"
                ),
                remedy="Map the host name that the detector sends to the inventory",
            )
        if said.name:
            return self._resolver.by_name(said.name, age.seen_at(alert))
        return self._resolver.by_pid(said.pid, age.seen_at(alert))

    def addressed(self, alert: Alert, host_known: bool) -> Container | None:
        """The container at one end of the flow that the alert is about, or None where no container is.

        Raises ResolutionError, EngineError.
        """
        addresses, seen_at = alert.container.addresses, age.seen_at(alert)
        if not (addresses and host_known and seen_at):
            return None
        try:
            return self._resolver.by_address(addresses, seen_at, self._held_at(seen_at))
        except ResolutionError as error:
            if error.kind == "not_found":
                return None
            raise

    def _held_at(self, moment: datetime.datetime) -> dict[str, set[str]]:
        """The isolated containers that had an address by then, by address: they may be off their networks by now."""
        if self._isolated is None:
            self._isolated = self._journal.entries()[0] if self._journal else []
        found: dict[str, set[str]] = {}
        for entry in self._isolated:
            since, started = parse_timestamp(entry.since), parse_timestamp(entry.started_at)
            if since is None or moment > since + CLOCK_TOLERANCE or (started and started > moment + CLOCK_TOLERANCE):
                continue
            for endpoint in entry.snapshot.endpoints:
                for address in (canonical(endpoint.ipv4_address), canonical(endpoint.ipv6_address)):
                    found.setdefault(address, set()).add(entry.snapshot.id)
        return found
