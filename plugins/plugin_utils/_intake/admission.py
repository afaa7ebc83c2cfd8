# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what was read to what is answered: whom each alert concerns, whether anybody wants it, and that it is stored."""

from __future__ import annotations

import dataclasses
import logging
import time
import typing as t
from collections.abc import Callable, Container, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    Facets,
    Reading,
    Rejected,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accounting import (
    DROPPED,
    PASSED_OVER,
    REJECTED,
    Tally,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import Sender
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Offer, Stored
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.unwanted import Unwanted

logger = logging.getLogger(__name__)

FOREIGN_HOST, UNKNOWN_HOST = "foreign_host", "unknown_host"
_TELL_DROPPED = 600.0
"""Seconds between two lines in the log about what was dropped."""


class Store(t.Protocol):
    """What is needed of the spool."""

    async def store(
        self,
        offers: Sequence[Offer],
        counts: Mapping[str, int] | None = None,
        position: tuple[str, t.Any] | None = None,
    ) -> list[Stored]:
        """Put alerts on disk, all or none. Raises SpoolError."""


class Wants(t.Protocol):
    """What is needed of the early drop."""

    @property
    def digest(self) -> str:
        """That of the policy set in force, or empty."""

    def wants(self, alert: Alert, hosts: Sequence[str]) -> bool:
        """Whether a policy may want the alert, on any of the hosts."""


class Admitted(t.NamedTuple):
    """What became of the elements of a message.

    Attributes:
        stored: alerts, and what the spool made of them.
        dropped: how many alerts no policy wants.
        rejected: elements of which nothing was taken.
        passed_over: elements that need no answer, by reason.
        places: of what was stored in the message, from 0.
    """

    stored: Sequence[tuple[Alert, Stored]]
    dropped: int
    rejected: Sequence[Rejected]
    passed_over: Mapping[str, int]
    places: Sequence[int] = ()

    @property
    def anything(self) -> bool:
        """Whether any element was taken, or needs no answer."""
        return bool(self.stored or self.dropped or self.passed_over)

    def to_dict(self) -> dict[str, t.Any]:
        """The answer to the sender."""
        return {
            "accepted": len(self.stored),
            "alerts": [
                {
                    "id": alert.id,
                    "trace_id": stored.trace_id,
                    **({"folded_into": stored.folded_into} if stored.folded_into else {}),
                }
                for alert, stored in self.stored
            ],
            "dropped": self.dropped,
            "passed_over": dict(self.passed_over),
            "rejected": [dataclasses.asdict(rejected) for rejected in self.rejected],
        }


class Admission:
    """Lets alerts in.

    Attributes:
        dropped: what no policy wants, by host, source and rule.
    """

    def __init__(
        self,
        options: Options,
        spool: Store,
        wanted: Wants,
        counters: Counters,
        inventory: Callable[[], Inventory | None] = lambda: None,
    ) -> None:
        """Make one.

        Args:
            options: of the source.
            spool: where alerts are stored.
            wanted: says what is dropped.
            counters: of the source.
            inventory: says which hosts there are, where that is known.
        """
        self.dropped = Tally()
        self._unwanted = Unwanted()
        self._options = options
        self._spool = spool
        self._wanted = wanted
        self._counters = counters
        self._inventory = inventory
        self._throttle = Throttle(logger)
        self._told_at = time.monotonic()

    def unwanted(self, sender: Sender) -> Container[Facets]:
        """What need not be read whole, as it is dropped."""
        return self._unwanted.by(sender.name, self._wanted.digest)

    def forget(self) -> None:
        """What hosts have confirmed is not what it was, so that nothing is known to be unwanted."""
        self._unwanted.forget()

    def speaks_for(self, sender: Sender, host: str) -> bool:
        """Whether a sender may speak for a host of the inventory. Safe to ask in any thread.

        Who may speak for every host may for those that are known, where that is said.
        """
        if sender.hosts:
            return host in sender.hosts
        inventory, options = self._inventory(), self._options
        if inventory is not None:
            return host in inventory.hosts
        known = {*options.hosts, *options.host_map.values()}
        return not known or host in known

    async def admit(
        self,
        reading: Reading,
        sender: Sender,
        default_host: str = "",
        position: tuple[str, t.Any] | None = None,
        where: Callable[[int], str] = lambda _place: "",
    ) -> Admitted:
        """Take what can be taken, in one transaction. Raises SpoolError, and then nothing was.

        Args:
            reading: of one message, or of lines of a file.
            sender: whose it is.
            default_host: inventory host that alerts are about which name none that is known; may be empty.
            position: of a followed file or a partition, stored together with its alerts.
            where: says to people where the element at a place was, with a blank before it; for the log.
        """
        offers, places, dropped = [], [], sum(reading.unwanted.values())
        rejected = list(reading.rejected)
        for facets, number in reading.unwanted.items():
            host = self._options.inventory_host(facets.host) or facets.host
            self.dropped.count(host, facets.source, facets.rule, number=number)
        for place, alert in zip(reading.places, reading.alerts, strict=True):
            try:
                offer = self._offer(alert, sender, default_host)
            except _NoHost as error:
                rejected.append(Rejected(place, error.kind, error.reason, error.remedy))
                continue
            if self._wanted.wants(offer.alert, offer.targets):
                offers.append(offer)
                places.append(place)
            else:
                dropped += 1
                self._unwanted.add(sender.name, Facets.of(alert))
                self.dropped.count(offer.alert.inventory_host or offer.alert.host, alert.source, alert.rule)
        rejected.sort(key=lambda one: one.index)
        counts = {}
        if dropped:
            counts[DROPPED] = dropped
        if rejected:
            counts[REJECTED] = len(rejected)
        if reading.passed_over:
            counts[PASSED_OVER] = sum(reading.passed_over.values())
        stored = await self._spool.store(offers, counts, position)
        alerts = [(offer.alert, each) for offer, each in zip(offers, stored, strict=True)]
        admitted = Admitted(alerts, dropped, rejected, reading.passed_over, places)
        self._count(admitted, reading, sender, where)
        return admitted

    def _offer(self, alert: Alert, sender: Sender, default_host: str) -> Offer:
        options, inventory = self._options, self._inventory()
        host = options.inventory_host(alert.host)
        if not host and alert.host in sender.hosts:
            host = alert.host
        named = host
        if not named and sender.hosts and inventory is not None and alert.host in inventory.hosts:
            named = alert.host  # by another name nobody could tell that it is somebody else's
        if named and not sender.may_speak_for(named):
            raise _NoHost(
                FOREIGN_HOST,
                f"sender {sender.name} does not speak for host {named}",
                "Add the host to the hosts of that sender, if it may",
            )
        if not host:
            # Whoever speaks for one host only means that one, whatever he calls it.
            host = default_host or (sender.hosts[0] if len(sender.hosts) == 1 else "")
        if host:
            return Offer(dataclasses.replace(alert, inventory_host=host), (host,), sender=sender.name)
        asked = sender.hosts or options.lookup_hosts
        targets = inventory.expand(asked) if inventory is not None else asked
        if not targets:
            raise _NoHost(
                UNKNOWN_HOST,
                f"host {alert.host or '(none)'} is not known",
                "Add it to hosts or host_map of the guard, or let lookup_hosts ask others",
            )
        return Offer(alert, targets, expanded=inventory is not None, sender=sender.name)

    def _count(self, admitted: Admitted, reading: Reading, sender: Sender, where: Callable[[int], str]) -> None:
        counters = self._counters
        counters.add("elements_of_sender_total", reading.received, sender=sender.name)
        for rejected in admitted.rejected:
            counters.add("elements_rejected_total", kind=rejected.kind)
            self._throttle.warning(
                f"rejected {rejected.kind}",
                "Rejected an alert of sender %s%s: %s",
                sender.name,
                where(rejected.index),
                rejected.reason,
            )
        for reason, count in admitted.passed_over.items():
            counters.add("elements_passed_over_total", count, reason=reason)
        if admitted.dropped:
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        now = time.monotonic()
        if now - self._told_at < _TELL_DROPPED:
            return
        self._told_at = now
        most = (f"{count} of {' '.join(key) or 'others'}" for key, count in self.dropped.most_common(5))
        logger.info("Dropped %d alerts so far that no policy wants: %s", self.dropped.total(), ", ".join(most))


class _NoHost(Exception):
    """An alert cannot be about a host that is known and the sender's."""

    def __init__(self, kind: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.remedy = kind, reason, remedy
