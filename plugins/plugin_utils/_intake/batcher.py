# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gathers alerts into events, so that a storm of alerts is one playbook run on the hosts concerned."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import itertools
import logging
import typing as t
from collections.abc import Awaitable, Callable, Iterable, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle

logger = logging.getLogger(__name__)

Event = dict[str, t.Any]

QUIET = 8
"""An event leaves once no alert arrived for this fraction of the window: a lone alert hardly waits, a burst does."""


class NotTakenError(GuardError):
    """No alert of an offer was taken; the same offer may succeed later. Kinds: C(full), C(shutting_down)."""


class _Waiting(t.NamedTuple):
    """An alert that is held, and when it arrived by the clock of the event loop."""

    at: float
    alert: Alert


def event_of(alerts: Iterable[Alert], lookup_hosts: Iterable[str]) -> Event:
    """The event for these alerts: C(alerts), and C(meta.hosts) to limit a playbook run to.

    Where an alert has no inventory host, the lookup hosts are asked as well. Raises ValueError where this leaves no
    host at all: an empty limit means every host of the inventory.
    """
    alerts = list(alerts)
    hosts = {alert.inventory_host for alert in alerts}
    if "" in hosts:
        hosts = (hosts - {""}).union(lookup_hosts)
    if not hosts:
        raise ValueError("an event without hosts would run on every host of the inventory")
    return {"alerts": [alert.to_dict() for alert in alerts], "meta": {"hosts": sorted(hosts)}}


class Batcher:
    """Holds alerts until they leave as events.

    Attributes:
        accepted: alerts taken so far.
        unknown_host: alerts dropped so far, as their host is not known and there are no lookup hosts.
        emitted: events that left so far.
    """

    def __init__(self, options: Options, emit: Callable[[Event], Awaitable[None]]) -> None:
        self.accepted = 0
        self.unknown_host = 0
        self.emitted = 0
        self._options = options
        self._emit = emit
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._arrival = asyncio.Event()
        self._emitted_at = float("-inf")
        self._closed = False
        self._throttle = Throttle(logger)

    @property
    def waiting(self) -> int:
        """Alerts held in memory."""
        return len(self._waiting)

    def offer(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Take the alerts, all or none, and give them their inventory host.

        Returns those that will leave in an event: alerts of an unknown host are dropped where there are no lookup
        hosts to ask. Raises NotTakenError.
        """
        if self._closed:
            raise NotTakenError("the intake is shutting down", kind="shutting_down", remedy="Send again")
        if self.waiting + len(alerts) > self._options.queue_max:
            raise NotTakenError(
                f"{self.waiting} alerts wait already, of at most {self._options.queue_max}",
                kind="full",
                remedy="Send again later",
            )
        placed = [dataclasses.replace(a, inventory_host=self._options.inventory_host(a.host)) for a in alerts]
        taken = [alert for alert in placed if alert.inventory_host or self._options.lookup_hosts]
        if len(taken) < len(placed):
            self.unknown_host += len(placed) - len(taken)
            dropped = next(alert for alert in placed if not alert.inventory_host)
            self._throttle.warning(
                "unknown_host",
                "Dropped an alert of host %r, which is neither in hosts nor in host_map, as lookup_hosts is empty",
                dropped.host,
            )
        if taken:
            now = asyncio.get_running_loop().time()
            self._waiting.extend(_Waiting(now, alert) for alert in taken)
            self.accepted += len(taken)
            self._arrival.set()
        return taken

    async def run(self) -> t.NoReturn:
        """Emit events for ever. Raises what emitting raises; the alerts of that event are then still held."""
        now = asyncio.get_running_loop().time
        while True:
            await self._arrival.wait()
            # Arrivals in the meantime move the time of departure, so it is asked for again.
            while (delay := self._departure() - now()) > 0:
                await asyncio.sleep(delay)
            await self._emit_next()

    def close(self) -> None:
        """Take nothing any more."""
        self._closed = True

    async def flush(self) -> None:
        """Emit all that waits, without waiting for company."""
        while self._waiting:
            await self._emit_next()

    def _departure(self) -> float:
        options, oldest, newest = self._options, self._waiting[0].at, self._waiting[-1].at
        earliest = self._emitted_at + options.batch_interval
        if self.waiting >= options.batch_max:
            return earliest
        return max(earliest, min(oldest + options.batch_window, newest + options.batch_window / QUIET))

    async def _emit_next(self) -> None:
        batch = [waiting.alert for waiting in itertools.islice(self._waiting, self._options.batch_max)]
        await self._emit(event_of(batch, self._options.lookup_hosts))
        # Only now, so that a shutdown while the engine is busy loses nothing, and what it holds counts as waiting.
        for _sent in batch:
            self._waiting.popleft()
        if not self._waiting:
            self._arrival.clear()
        self._emitted_at = asyncio.get_running_loop().time()
        self.emitted += 1
