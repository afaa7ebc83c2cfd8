# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Facets
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import kafka_records
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_records import (
    Position,
    Reader,
    Unreadable,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.offsets import Partition

NOW = 1_775_000_000.0
MILLISECONDS = int(NOW * 1000)
PARTITION = Partition("alerts", 3)


class Record(t.NamedTuple):
    offset: int
    value: bytes | None
    timestamp: int | None = MILLISECONDS - 5000


def body(rule: str = "r", **more: t.Any) -> bytes:
    return json.dumps({"source": "s", "rule": rule, "severity": "low", **more}).encode()


def reader(detector: str = "", most: int = 1000, now: float = NOW) -> Reader:
    return Reader(detector, {}, most, lambda: now)


def test_who_reads_a_record_when_makes_the_same_alerts_of_it() -> None:
    records = [Record(7, body("one") + b"\n" + body("two")), Record(8, body("three", id="own", trace_id="also-own"))]
    first = reader().read(PARTITION, records).reading.alerts
    assert first == reader(now=NOW + 300).read(PARTITION, records).reading.alerts
    assert [alert.received_at for alert in first] == ["2026-03-31T23:33:15.000000Z"] * 3
    assert (first[2].id, first[2].trace_id) == ("own", "also-own")
    assert len({alert.id for alert in first} | {alert.trace_id for alert in first}) == 6


@pytest.mark.parametrize("other", [Record(8, body()), Record(7, body(), MILLISECONDS)], ids=["offset", "time"])
def test_other_records_make_other_alerts(other: Record) -> None:
    (one,) = reader().read(PARTITION, [Record(7, body())]).reading.alerts
    (another,) = reader().read(PARTITION, [other]).reading.alerts
    (elsewhere,) = reader().read(Partition("alerts", 4), [Record(7, body())]).reading.alerts
    assert len({one.id, another.id, elsewhere.id}) == 3


def test_ids_that_cannot_be_used_are_none() -> None:
    records = [Record(1, body(id=["{{ x }}"], trace_id="{% y"))]
    (first,), (second,) = (reader().read(PARTITION, records).reading.alerts for _time in range(2))
    assert first == second
    assert "{" not in first.id + first.trace_id


@pytest.mark.parametrize("time", [None, -1, 0, MILLISECONDS + 60_001, 10**15, 10**18])
def test_a_time_that_cannot_be_believed_is_that_of_now(time: int | None) -> None:
    (alert,) = reader().read(PARTITION, [Record(1, body(), time)]).reading.alerts
    assert alert.received_at == "2026-03-31T23:33:20.000000Z"
    assert not reader().has_time(Record(1, body(), time))


@pytest.mark.parametrize("time", [1, MILLISECONDS - 10**9, MILLISECONDS + 60_000])
def test_clocks_may_be_a_little_apart(time: int) -> None:
    assert reader().has_time(Record(1, body(), time))


def test_what_is_no_alert_is_rejected_where_it_is() -> None:
    records = [
        Record(4, body("one")),
        Record(5, None),
        Record(6, b""),
        Record(7, b"x" * 1001),
        Record(9, b"nonsense"),
        Unreadable(10, "UnicodeDecodeError"),
        Record(11, b"[7," + body("two") + b"]"),
    ]
    read = reader().read(PARTITION, records)
    assert read.offsets == [4, 5, 6, 7, 9, 10, 11]
    assert [(read.offset(one.index), one.kind) for one in read.reading.rejected] == [
        (5, "not_an_alert"),
        (6, "not_an_alert"),
        (7, "too_large"),
        (9, "not_json"),
        (10, "unreadable"),
        (11, "not_an_alert"),
    ]
    assert [read.offset(place) for place in read.reading.places] == [4, 11]
    assert read.reading.received == 8


def test_a_detector_may_be_given() -> None:
    read = reader("falco").read(PARTITION, [Record(1, body())])
    assert [one.kind for one in read.reading.rejected] == ["not_an_alert"]


def test_what_nobody_wants_is_counted_and_not_read_whole() -> None:
    (alert,) = reader().read(PARTITION, [Record(1, body("noise"))]).reading.alerts
    noise = Facets.of(alert)
    records = [Record(offset, body("noise") + b"\n" + body(f"rule {offset}")) for offset in range(3)]
    read = reader().read(PARTITION, records, {noise})
    assert read.reading.unwanted == {noise: 3}
    assert [read.offset(place) for place in read.reading.places] == [0, 1, 2]
    assert read.reading.received == 6


def test_no_more_than_some_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_records, "_MOST", 3)
    array = b"[" + b",".join([body()] * 5) + b"]"
    assert reader().read(PARTITION, [Record(1, array), Record(2, body())]).offsets == [1]
    assert reader().read(PARTITION, [Record(offset, body()) for offset in range(9)]).offsets == [0, 1, 2]
    monkeypatch.setattr(kafka_records, "_MOST_BYTES", 1)
    assert reader().read(PARTITION, [Record(offset, body()) for offset in range(9)]).offsets == [0]


def test_a_position_says_what_is_in_the_spool() -> None:
    position = Position()
    assert not position.has(Record(0, b"", 0), NOW)
    records = [Record(4, b"", 2000), Record(6, b"", 1000)]
    position = position.after(records, NOW)
    assert position == Position.from_dict(json.loads(json.dumps(position.to_dict()))) == Position(7, 2000)
    assert all(position.has(record, NOW) for record in records)
    assert not position.has(Record(7, b"", 1000), NOW)
    # The topic was made anew.
    anew = Record(4, b"", 3000)
    assert not position.has(anew, NOW)
    assert position.after([anew], NOW) == Position(5, 3000)


def test_a_time_of_the_future_does_not_make_later_records_known() -> None:
    position = Position().after([Record(4, b"", 10**15)], NOW)
    assert position.until == MILLISECONDS + 60_000
    assert not position.has(Record(3, b"", position.until + 1), NOW + 1)


def test_a_record_of_the_future_is_known_where_it_comes_again() -> None:
    records = [Record(4, b"", 10**15), Record(5, b"", MILLISECONDS), Record(6, b"", 10**12 * 9)]
    position = Position().after(records[:2], NOW).after(records[2:], NOW)
    assert position == Position.from_dict(json.loads(json.dumps(position.to_dict())))
    assert all(position.has(record, NOW + 1) for record in records)
    assert not position.has(Record(4, b"", 10**15 + 1), NOW)
    # The topic was made anew.
    assert position.after([Record(4, b"", 3000)], NOW).beyond == 0


def test_a_position_that_was_stored_before_there_was_all_of_it() -> None:
    assert Position.from_dict({"next": 1, "until": 2}) == Position(1, 2)


@pytest.mark.parametrize(
    "value",
    [None, 7, {}, {"next": 1}, {"next": "1", "until": 2}, {"next": -1, "until": 2}, {"next": 1, "until": 2, "x": 3}],
)
def test_a_position_that_is_none(value: object) -> None:
    with pytest.raises(ValueError, match="no position"):
        Position.from_dict(value)
