# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts from files of JSON lines: what is read of them goes the same way as what is posted."""

from __future__ import annotations

import asyncio
import collections
import logging
import pathlib
import typing as t
from collections.abc import Iterable

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Overrides
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    Facets,
    Reading,
    Rejected,
    read_message,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.follow import Batch, follow
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import FROM_FILE, FileOptions
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.rotated import Position
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import Sender
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import SpoolError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Record

logger = logging.getLogger(__name__)

_SENDER = Sender(FROM_FILE)
"""Who may write a file may write all of it, so it speaks for every host."""
_AGAIN = 1.0
"""How long to wait where the spool takes nothing, in seconds. A file waits, unlike a detector."""


class Positions(t.Protocol):
    """What is needed of the spool."""

    def position(self, name: str) -> t.Any:
        """What was last stored by that name, or None."""


class FollowedFile:
    """One file that is followed."""

    def __init__(
        self, file: FileOptions, admission: Admission, spool: Positions, severities: Overrides, counters: Counters
    ) -> None:
        self._file = file
        self._admission = admission
        self._spool = spool
        self._severities = severities
        self._counters = counters
        self._name = f"file {file.path}"
        self._throttle = Throttle(logger)
        self._unreadable = ""
        self._waits = ""

    def troubles(self) -> list[str]:
        """Why it is not read at the moment, for people."""
        return [f"{self._name}: {trouble}" for trouble in (self._unreadable, self._waits) if trouble]

    async def run(self) -> t.NoReturn:
        """Follow it until cancelled."""
        async for batch in follow(pathlib.Path(self._file.path).expanduser(), self._position(), told=self._told):
            await self._take(batch)
        raise RuntimeError("a file is followed for ever")

    def _told(self, trouble: str) -> None:
        self._unreadable = trouble

    def _position(self) -> Position | None:
        found = self._spool.position(self._name)
        try:
            return None if found is None else Position.from_dict(found)
        except ValueError as error:
            logger.error("%s is read from its end on: where it was read to is not known (%s)", self._name, error)
            return None

    async def _take(self, batch: Batch) -> None:
        """Store what a batch holds, together with its position."""
        reading = await asyncio.to_thread(reading_of, batch.records, self._file.detector, self._severities)
        position = (self._name, batch.position.to_dict())
        while True:
            try:
                await self._admission.admit(reading, _SENDER, self._file.host, position)
                break
            except SpoolError as error:
                if not self._waits:
                    logger.error("%s waits: %s", self._name, error)
                self._waits = error.message
                await asyncio.sleep(_AGAIN)
        self._waits = ""
        for record in batch.records:
            if record.body is None:
                self._counters.add("lines_skipped_total", reason=record.skipped)
                self._throttle.warning(
                    record.skipped, "%s: line %d is skipped: %s", self._name, record.line, record.skipped
                )


def reading_of(records: Iterable[Record], detector: str, severities: Overrides) -> Reading:
    """What the messages of a log hold. Elements are numbered through."""
    bodies = (record.body for record in records if record.body is not None)
    return joined(_reading(body, detector, severities) for body in bodies)


def _reading(body: bytes, detector: str, severities: Overrides) -> Reading:
    try:
        return read_message(body, detector, severities)
    except AlertError as error:
        return Reading((), (Rejected.of(0, error),))


def joined(messages: Iterable[Reading]) -> Reading:
    """What several messages hold. Elements are numbered through."""
    readings, count = [], 0
    for reading in messages:
        readings.append((count, reading))
        count += reading.received
    passed_over: collections.Counter[str] = collections.Counter()
    unwanted: collections.Counter[Facets] = collections.Counter()
    for _first, reading in readings:
        passed_over.update(reading.passed_over)
        unwanted.update(reading.unwanted)
    return Reading(
        alerts=tuple(alert for _first, reading in readings for alert in reading.alerts),
        rejected=tuple(
            Rejected(first + one.index, one.kind, one.reason, one.remedy)
            for first, reading in readings
            for one in reading.rejected
        ),
        passed_over=passed_over,
        places=tuple(first + place for first, reading in readings for place in reading.places),
        unwanted=unwanted,
    )
