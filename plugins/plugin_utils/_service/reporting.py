# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the service tells the controller: what was done, what nobody answered, breaches, and a heartbeat.

Reports are on disk before anything goes on, and leave in order, each until the controller has it. Its event source
takes each number of a file of reports once, so that what is sent again after a lost answer, or a kill between answer
and note, counts once. Nothing waits for the controller, and a heartbeat is never kept: it says how it is now.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import sqlite3
import typing as t
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reports import (
    ACTION,
    BREACH,
    MOST_BYTES,
    UNANSWERED,
    fitting,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import Config
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.holding import Breach
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.link import Link, LinkError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.outbox import Outbox

logger = logging.getLogger(__name__)

_BATCH, _BATCH_BYTES = 200, 262_144
"""Reports in one request at most, and their bytes."""
_LOOKED_AT = 1_500
"""Lines of the action log that a kill may have kept from becoming reports, as far as they are in its last megabyte: a
delivery has up to 500 alerts, with a line before acting and one after it."""
_FIRST_PAUSE = 1.0
"""Seconds before it is tried again; doubled each time, up to the time between two heartbeats."""

Json = dict[str, t.Any]
Beat = Callable[[], Awaitable[Mapping[str, t.Any]]]


def reporter_of(config: Config, inventory: Inventory) -> Reporter | None:
    """That of a configuration, None where it names no controller. Raises OSError where nothing can be kept."""
    controller = config.controller
    if controller is None:
        return None

    def image_id(container_id: str) -> str:
        with contextlib.suppress(GuardError):
            return next((str(one.get("ImageID") or "") for one in inventory.by_id(container_id)), "")
        return ""

    outbox = Outbox.open(config.intake.spool_directory)
    return Reporter(config.host, outbox, Link(controller), controller.heartbeat, image_id)


class Reporter:
    """Reports to the controller.

    Args:
        host: inventory name of this host.
        outbox: where reports wait.
        link: to the controller.
        interval: seconds between two heartbeats.
        image_id: says of which image a container is made, by its full id: C(sha256:) and digits, or empty.
    """

    def __init__(
        self, host: str, outbox: Outbox, link: Link, interval: float, image_id: Callable[[str], str] = lambda _id: ""
    ) -> None:
        self._host = host
        self._outbox = outbox
        self.link = link
        self._interval = interval
        self._image_id = image_id
        self._loop = asyncio.get_running_loop()
        self._something_to_send = asyncio.Event()
        self._batch_bytes = _BATCH_BYTES
        self._lost = 0
        self._known = outbox.dropped  # to the controller
        self._trouble = ""

    def recorded(self, events: Sequence[ActionEvent]) -> None:
        """Report what was put on record. In any thread, as the two that follow."""
        self._keep_actions([event.to_dict() for event in events])

    def catch_up(self, log: ActionLog, actor: str) -> None:
        """Report what is on record and no kill let become a report. To be called before anything is done.

        Args:
            log: of this host.
            actor: whose records are reported.
        """
        try:
            records = [one for one in log.newest(_LOOKED_AT) if one.get("actor") == actor and one.get("count", 1) == 1]
            known = self._outbox.recent()
            if not known:  # what was done before anybody was told of it is nobody's news
                self._outbox.add([], [str(one.get("id")) for one in records] or [""])
                return
        except (GuardError, sqlite3.Error) as error:
            self._failed(error)
            return
        of_the_log = ("previous", "hash")
        missed = [one for one in records if one.get("id") not in known]
        self._keep_actions([{name: one[name] for name in one if name not in of_the_log} for one in missed])

    def breached(self, breach: Breach) -> None:
        """Report that a container did not stay isolated, and what became of that."""
        self._keep([{"kind": BREACH, BREACH: {**breach._asdict(), "kinds": list(breach.kinds), "time": now()}}])

    def unanswered(self, alerts: Sequence[Mapping[str, t.Any]]) -> None:
        """Report alerts that nobody answered, as the intake tells them."""
        whole: Json = {"kind": UNANSWERED, UNANSWERED: list(alerts)}
        if len(alerts) > 1 and len(json.dumps(whole)) > MOST_BYTES // 2:
            for half in (alerts[: len(alerts) // 2], alerts[len(alerts) // 2 :]):
                self.unanswered(half)
        else:
            self._keep([whole])

    def troubles(self) -> list[str]:
        """What of the reports is lost."""
        found = [self._trouble] if self._trouble else []
        lost = self._dropped() - self._known
        if lost:
            found.append(f"{lost} reports to the controller are lost, as there was no room for them")
        return found

    async def run(self, beat: Beat) -> t.NoReturn:
        """Report until cancelled.

        Args:
            beat: says how the service is, for a heartbeat.
        """
        try:
            while True:
                try:
                    await self._run(beat)
                except Exception:  # a defect of this must not keep alerts from being answered
                    logger.exception("Reporting to the controller failed")
                    await asyncio.sleep(self._interval)
        finally:
            # The file stays open: what is done until the process ends is kept, and goes after the next start.
            await self.link.close()

    async def _run(self, beat: Beat) -> t.NoReturn:
        pause, due = 0.0, float("-inf")
        while True:
            self._something_to_send.clear()
            beats = self._loop.time() >= due
            reports = await asyncio.to_thread(self._first)
            if reports or beats:
                try:
                    await self._send(reports, await beat() if beats else None)
                except LinkError as error:
                    pause = min(max(2 * pause, _FIRST_PAUSE), max(self._interval, _FIRST_PAUSE))
                    logger.log(logging.DEBUG if pause > _FIRST_PAUSE else logging.WARNING, "No reports: %s", error)
                    # Hosts of a controller that comes back must not all come at once.
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                    continue
                pause = 0.0
                if beats:
                    due = self._loop.time() + self._interval
            if not reports:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._something_to_send.wait(), max(0.0, due - self._loop.time()))

    async def _send(self, reports: Sequence[Json], beat: Mapping[str, t.Any] | None) -> None:
        """Have reports taken, and a heartbeat. Raises LinkError."""
        dropped = self._dropped()
        whole: Json = {"host": self._host, "spool": self._outbox.id, "reports": reports}
        if beat is not None:
            waiting = {"waiting": max(0, self._outbox.number - len(reports)), "dropped": dropped}
            whole["heartbeat"] = {**beat, "interval": self._interval, **waiting}
        try:
            await self.link.post(json.dumps(whole).encode("ascii"))
        except LinkError as error:
            if error.too_large and len(reports) > 1:
                self._batch_bytes //= 2
            elif error.too_large and reports:
                logger.error("A report is larger than what the controller takes, and is dropped: %s", error)
                await asyncio.to_thread(self._remove, reports[-1]["sequence"], True)
            raise
        self._batch_bytes = min(_BATCH_BYTES, 2 * self._batch_bytes)
        if beat is not None:
            self._known = dropped
        if reports and not await asyncio.to_thread(self._remove, reports[-1]["sequence"]):
            raise LinkError("it has taken reports, and that cannot be noted: they are sent again")

    def _dropped(self) -> int:
        return self._outbox.dropped + self._lost

    # --- in other threads ---------------------------------------------------------------------------------------------

    def _keep_actions(self, events: Sequence[Json]) -> None:
        reports = [fitting({"kind": ACTION, ACTION: event, **self._image_of(event)}) for event in events]
        self._keep(reports, [str(event["id"]) for event in events])

    def _image_of(self, event: Json) -> Json:
        image = self._image_id(str((event.get("container") or {}).get("id", ""))) if event.get("changed") else ""
        return {"image_id": image} if image else {}

    def _keep(self, reports: Sequence[Json], records: Sequence[str] = ()) -> None:
        if not reports:
            return
        try:
            self._outbox.add(reports, records)
            self._trouble = ""
        except sqlite3.Error as error:
            # What was done is on record on this host, and containment goes on whatever the disk does.
            self._lost += len(reports)
            self._failed(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: they go after the next start
            self._loop.call_soon_threadsafe(self._something_to_send.set)

    def _first(self) -> list[Json]:
        try:
            return self._outbox.first(_BATCH, self._batch_bytes)
        except (sqlite3.Error, ValueError) as error:
            self._failed(error)
            return []

    def _remove(self, last: int, dropped: bool = False) -> bool:
        try:
            self._outbox.remove(last, dropped)
        except sqlite3.Error as error:
            self._failed(error)
            return False
        return True

    def _failed(self, error: Exception) -> None:
        trouble = f"reports to the controller cannot be kept: {error}"
        if trouble != self._trouble:
            logger.error("%s", trouble)
        self._trouble = trouble
