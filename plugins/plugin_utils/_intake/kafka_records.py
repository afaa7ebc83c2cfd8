# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records of a topic: what alerts are in them, the same for every controller that reads them, and how far they go."""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import time
import typing as t
from collections.abc import Callable, Container, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Overrides
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    Facets,
    Origin,
    Reading,
    Rejected,
    read_message,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.files import joined
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.offsets import Partition

AHEAD = 60.0
"""How far the clock of a producer may be ahead of this one, in seconds. Beyond, its time is not believed."""
_MOST = 1_000
"""Elements after which no more records are read at once."""
_MOST_BYTES = 4_194_304
"""Bytes of records after which no more are read at once."""
_MILLISECONDS = 1000


class Record(t.Protocol):
    """What is needed of a record. All of it is what a producer sent."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int | None:
        """Milliseconds since the epoch, of the producer or of the broker, as the topic is set. -1 or None for none."""

    @property
    def value(self) -> bytes | None:
        """The message."""


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """In the place of a record that the client could not decode. Nothing but its offset is known.

    Attributes:
        offset: of it.
        why: for people.
    """

    offset: int
    why: str
    timestamp: int = 0
    value: None = None


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a partition is in the spool.

    Attributes:
        next: the offset after the last record that is.
        until: the latest time of all these records, in milliseconds since the epoch, as far as it can be believed.
        beyond: the latest one that could not be believed; 0 for none.
    """

    next: int = 0
    until: int = 0
    beyond: int = 0

    @classmethod
    def from_dict(cls, value: object) -> Position:
        """The position that was stored. Raises ValueError."""
        names = {field.name for field in dataclasses.fields(cls)}
        if (
            isinstance(value, Mapping)
            and names - {"beyond"} <= value.keys() <= names  # that was not always stored
            and all(isinstance(number, int) and number >= 0 for number in value.values())
        ):
            return cls(**value)
        raise ValueError("it is no position in a partition")

    def to_dict(self) -> dict[str, int]:
        """What is stored."""
        return dataclasses.asdict(self)

    def has(self, record: Record, now: float) -> bool:
        """Whether a record is in the spool, or was. C(now) is in seconds since the epoch.

        Where a topic was made anew its offsets begin anew, and are of later records. To hold a record for a new one by
        mistake does no harm, as hosts know the alert.
        """
        of_record = _time(record)
        latest = self.until if of_record <= _believed(now) else self.beyond
        return record.offset < self.next and of_record <= latest

    def after(self, records: Sequence[Record], now: float) -> Position:
        """The position once these are in the spool. C(now) is in seconds since the epoch."""
        times = [_time(record) for record in records]
        believed = _believed(now)
        before = Position() if records[0].offset < self.next else self
        return Position(
            records[-1].offset + 1,
            max([before.until, *(min(time, believed) for time in times)]),
            max([before.beyond, *(time for time in times if time > believed)]),
        )


class Read(t.NamedTuple):
    """What was read of some records.

    Attributes:
        reading: their elements, numbered through.
        offsets: of the records.
        first: the number of the first element of each.
    """

    reading: Reading
    offsets: Sequence[int]
    first: Sequence[int]

    def offset(self, place: int) -> int:
        """The offset of the record that the element at a place is of."""
        return self.offsets[bisect.bisect_right(self.first, place) - 1]


class Reader:
    """Reads records.

    Args:
        detector: whose messages they are; empty where the shape of each tells.
        severities: before those of the detectors.
        most: bytes of a record.
        clock: seconds since the epoch.
    """

    def __init__(self, detector: str, severities: Overrides, most: int, clock: Callable[[], float] = time.time) -> None:
        self._detector = detector
        self._severities = severities
        self._most = most
        self._clock = clock

    def read(self, partition: Partition, records: Sequence[Record], unwanted: Container[Facets] = frozenset()) -> Read:
        """What the first records hold, at least one and as many as are read at once.

        Args:
            partition: where they are.
            records: that follow on each other.
            unwanted: what is known to be wanted by nobody, and need not be read whole.
        """
        readings: list[Reading] = []
        first: list[int] = []
        elements = size = 0
        for record in records:
            if readings and (elements >= _MOST or size >= _MOST_BYTES):
                break
            reading = self._read(partition, record, unwanted)
            readings.append(reading)
            first.append(elements)
            elements += reading.received
            size += len(record.value or b"")
        return Read(joined(readings), [record.offset for record in records[: len(readings)]], first)

    def _read(self, partition: Partition, record: Record, unwanted: Container[Facets]) -> Reading:
        try:
            if isinstance(record, Unreadable):
                raise AlertError(f"the record cannot be decoded ({record.why})", kind="unreadable")
            if not record.value:
                raise AlertError("the record has no value", kind="not_an_alert")
            if len(record.value) > self._most:
                raise AlertError(
                    f"the record has {len(record.value)} bytes, of at most {self._most}",
                    kind="too_large",
                    remedy="Raise body_limit, or send less in a record",
                )
            origin = self._origin(partition, record)
            return read_message(record.value, self._detector, self._severities, unwanted, origin)
        except AlertError as error:
            return Reading((), (Rejected.of(0, error),))

    def _origin(self, partition: Partition, record: Record) -> Origin:
        """Hosts know an alert that another controller delivers again by its identity and the time of its receipt."""
        name = f"{partition.topic}/{partition.partition}/{record.offset}/{record.timestamp}"
        return Origin(name, self.received_at(record))

    def received_at(self, record: Record) -> str:
        """When a record was received: by its own time, as that is the same for all who read it.

        Nothing is received in the future, but for what clocks may be apart (AHEAD): a time that lies there would go
        before a release that is yet to come.
        """
        moment = timestamp.of_epoch(_time(record) / _MILLISECONDS) if self.has_time(record) else None
        return timestamp.format_timestamp(moment or datetime.datetime.fromtimestamp(self._clock(), datetime.UTC))

    def has_time(self, record: Record) -> bool:
        """Whether the time of a record can be believed."""
        return 0 < _time(record) <= _believed(self._clock())


def _time(record: Record) -> int:
    """Its time in milliseconds since the epoch; 0 or less where it has none."""
    return record.timestamp or 0


def _believed(now: float) -> int:
    """The latest time that is believed, in milliseconds since the epoch, where C(now) is in seconds."""
    return int((now + AHEAD) * _MILLISECONDS)
