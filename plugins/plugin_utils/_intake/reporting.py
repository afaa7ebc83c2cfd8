# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports of host services, from a request to the rule engine: on disk before they are answered, then in order.

A number of a host is remembered in the same transaction in which its event is stored, and the event goes when the
engine has taken it. So none is lost, whenever the process dies, and what a host sends again, or an attacker who has
recorded it, counts once. The engine may be given an event again after a crash, with the same C(id).
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import logging
import pathlib
import sqlite3
import time
import typing as t
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.heartbeats import NO_CHANGE, Heartbeats
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import RefusedError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.report_store import NAME, ReportStore
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reports import (
    Report,
    Told,
    read_reports,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle

logger = logging.getLogger(__name__)

MOST_WAITING = 100_000
MOST_BYTES = 268_435_456
MOST_OF_HOST = 5_000
"""Events that wait for the rule engine at most, their bytes, and those of one host. Requests beyond that get 503."""
_OF_HEARTBEATS = 100
"""Events about how a host is that may wait beside as many as there may be."""
HEARTBEAT, KNOWN = "heartbeat", "known"
"""What else is counted beside the kinds of reports: heartbeats, and reports that came before."""
_LOOK = 1.0
"""Seconds between two looks at who is missing."""
_AGAIN = 1.0
"""Seconds until what could not be read or written is tried again."""

Json = dict[str, t.Any]
T = t.TypeVar("T")


class ReportsError(GuardError):
    """Nothing of a request was taken, and it is to be sent again."""

    default_kind = "reports_unusable"


class Reports:
    """All that host services report. Made by L(open); its methods are for the event loop.

    Args:
        store: open.
        counters: of the source.
        now: seconds, of a clock that is never set.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        store: ReportStore,
        counters: Counters,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._counters = counters
        self._now = now
        self._wall = wall
        self._beats = Heartbeats(store.hosts(), store.differing(), now())
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "reports")
        self._something_to_send = asyncio.Event()
        self._throttle = Throttle(logger)
        self._trouble = ""

    @classmethod
    async def open(cls, directory: pathlib.Path, counters: Counters, **clocks: Callable[[], float]) -> Reports:
        """That in the directory of a spool. Raises ReportsError."""
        try:
            return cls(await asyncio.to_thread(ReportStore, directory), counters, **clocks)
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise ReportsError(
                f"the reports in {directory / NAME} cannot be used: {error}",
                remedy="Check owner, free space and disk. Without that file reports of before may count again",
            ) from error

    async def close(self) -> None:
        """Close the file, once what was begun is written."""
        await asyncio.to_thread(self._thread.shutdown)
        self._store.close()

    async def take(self, body: bytes, speaks_for: Callable[[str], bool], sender: str) -> Json:
        """Take a request; its answer. On disk when this returns.

        Args:
            body: of the request.
            speaks_for: whether the sender may speak for an inventory host.
            sender: its name.

        Raises:
            RefusedError: it is none, or about a host that the sender does not speak for.
            ReportsError: it is to be sent again.
        """
        told, new = await self._do(self._take, body, speaks_for, sender)
        counts = collections.Counter(report.kind for report in new)
        counts[KNOWN] = len(told.reports) - len(new)
        counts[HEARTBEAT] = int(told.heartbeat is not None)
        for kind, number in counts.items():
            if number:
                self._counters.add("reports_total", number, kind=kind)
        rejected = [{"sequence": one.sequence, "reason": one.reason} for one in new if one.reason]
        for one in rejected[:1]:
            self._throttle.warning("report", "Rejected a report of host %s: %s", told.host, one["reason"])
        self._something_to_send.set()
        return {"taken": len(new) - len(rejected), "known": counts[KNOWN], "rejected": rejected}

    async def run(self, put: Callable[[Json], Awaitable[None]]) -> t.NoReturn:
        """Give events to the rule engine until cancelled, and see who is missing. Raises what put raises."""
        looking, host = asyncio.create_task(self._look_again_and_again()), ""
        try:
            while True:
                self._something_to_send.clear()
                found = await self._try(self._store.next, host)
                if found:
                    host, event = found
                    await put(event)
                    while await self._try(self._removed, host) is None:
                        await asyncio.sleep(_AGAIN)
                else:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._something_to_send.wait(), _AGAIN if self._trouble else None)
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    def troubles(self) -> list[str]:
        """Why reports are not taken, or not handed on, at the moment."""
        return [self._trouble] if self._trouble else []

    def figures(self) -> dict[str, float]:
        """For metrics."""
        return {"reports_waiting": self._store.number, **self._beats.figures()}

    def ages(self) -> dict[str, float]:
        """Seconds since the last heartbeat, by host."""
        return self._beats.ages(self._now())

    async def _look_again_and_again(self) -> t.NoReturn:
        while True:
            if await self._try(self._look):
                self._something_to_send.set()
            await asyncio.sleep(_LOOK)

    async def _try(self, what: Callable[..., T], *arguments: t.Any) -> T | None:
        """The same, or None where the file cannot be used now."""
        try:
            return await self._do(what, *arguments)
        except ReportsError as error:
            self._throttle.error("file", "%s", error)
            return None

    async def _do(self, what: Callable[..., T], *arguments: t.Any) -> T:
        """Do something in the thread that has the file. Raises ReportsError where it cannot be used."""
        # What is under way is done to its end, whoever stops waiting for it.
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, what, *arguments)
        except (sqlite3.Error, OSError) as error:
            self._trouble = f"reports of hosts cannot be stored: {error}"
            raise ReportsError(self._trouble, remedy="Check free space and disk of the spool") from None
        except RuntimeError:  # the thread takes nothing any more
            raise ReportsError("the intake is shutting down", kind="shutting_down", remedy="Send again") from None
        self._trouble = ""
        return found

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _take(self, body: bytes, speaks_for: Callable[[str], bool], sender: str) -> tuple[Told, Sequence[Report]]:
        told = read_reports(body)
        host = told.host
        if not speaks_for(host):
            raise RefusedError(
                403,
                f"sender {sender} does not speak for host {host}",
                kind="foreign_host",
                remedy="Add the host to the hosts of that sender, or to the inventory, if it may",
            )
        if told.heartbeat and self._beats.full(host):
            raise RefusedError(403, "more hosts report than there may be", kind="too_many_hosts")
        last = self._store.last(host, told.spool) if told.reports else 0
        new = [report for report in told.reports if report.sequence > last]
        wall = self._wall()
        change = self._beats.beat(host, told.heartbeat, self._now(), wall) if told.heartbeat else NO_CHANGE
        if not new and not change:
            return told, new
        events = [
            {**report.event, "id": f"{host}/{told.spool}/{report.sequence}", "meta": {}}
            for report in new
            if report.event
        ]
        if events:
            self._check_room(host, len(events), MOST_OF_HOST)
        elif change.events:
            self._check_room(host, len(change.events), MOST_OF_HOST + _OF_HEARTBEATS)
        taken = (host, told.spool, new[-1].sequence, wall) if new else None
        # What a heartbeat says was so when the reports before it had been made.
        self._store.store([*events, *_with_ids(change.events)], change, taken)
        self._beats.take(change)
        return told, new

    def _check_room(self, host: str, number: int, most: int) -> None:
        store, of_host = self._store, len(self._store.waiting.get(host, ()))
        everything = store.number + number > MOST_WAITING or store.bytes > MOST_BYTES
        if everything or of_host + number > most:
            whose = "" if everything else f" of host {host}"
            raise ReportsError(
                f"too many reports{whose} wait for the rule engine", kind="spool_full", remedy="Send again later"
            )

    def _look(self) -> bool:
        change = self._beats.look(self._now(), self._wall())
        if change:
            self._store.store(_with_ids(change.events), change)
            self._beats.take(change)
        return bool(change.events)

    def _removed(self, host: str) -> bool:
        self._store.remove(host)
        return True


def _with_ids(events: Sequence[Mapping[str, t.Any]]) -> list[Json]:
    return [{**event, "id": str(uuid.uuid4()), "meta": {}} for event in events]
