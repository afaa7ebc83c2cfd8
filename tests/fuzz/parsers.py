# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs for the parsers and the filters, in this process."""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import typing as t
from collections.abc import Callable, Iterable, Iterator

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    DETECTORS,
    Origin,
    read_message,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.events import MAX_ALERTS, MAX_BYTES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filters import decide
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Reader, Record
from ansible_collections.ironpost.container_guard.tests.fuzz.inputs import Input
from ansible_collections.ironpost.container_guard.tests.fuzz.watch import Growth, Stopwatch

_ORIGIN = Origin("alerts/0/7", "2026-04-05T12:43:03.000000Z")
_AGAIN = 0.1
"""The share of messages that are read as records of a topic, too."""

Counts = collections.Counter[str]


class FailedError(AssertionError):
    """An input had a result that none may have."""

    def __init__(self, kind: str, seed: int, number: int) -> None:
        super().__init__(f"input {number} of seed {seed} for the {kind} (--only {number} makes it again)")


def assert_inert(value: object) -> None:
    """No text, key or value, is a template to Ansible."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, str):
            assert "{{" not in item, item
            assert "{%" not in item, item
            assert "{#" not in item, item
            assert not item.startswith("#jinja2:"), item
            assert not item.endswith("{"), item
        elif isinstance(item, (list, tuple)):
            rest.extend(item)
        elif isinstance(item, dict):
            rest.extend(item)
            rest.extend(item.values())


def assert_shown(text: str) -> None:
    """It may be shown on a terminal, and by Ansible."""
    assert text.isprintable(), text
    assert_inert(text)


def read(made: Input) -> Iterator[str]:
    """Read one message, and say what came of it."""
    detector = made.random.choice(sorted(DETECTORS)) if made.random.random() < 0.2 else ""
    body = made.body()
    try:
        reading = read_message(body, detector)
    except AlertError as refused:
        assert_shown(str(refused))
        yield refused.kind
        return
    if made.random.random() < _AGAIN:
        # Whoever reads a record of a topic makes the same alerts of it.
        first, second = (read_message(body, detector, origin=_ORIGIN) for _reader in range(2))
        assert first == second
        assert (len(first.alerts), first.rejected) == (len(reading.alerts), reading.rejected)
        for alert in first.alerts:
            assert_inert(alert.to_dict())
    assert reading.received == len(reading.alerts) + len(reading.rejected) + sum(reading.passed_over.values()) > 0
    for alert in reading.alerts:
        content = alert.to_dict()
        assert_inert(content)
        assert Alert.from_dict(json.loads(json.dumps(content))) == alert
        yield f"alert of {alert.source}" if alert.source in DETECTORS else "alert of another source"
    for rejected in reading.rejected:
        assert_shown(f"{rejected.reason}. {rejected.remedy}")
        yield rejected.kind
    for why, number in reading.passed_over.items():
        assert number > 0
        yield why


def read_log(made: Input) -> Iterator[str]:
    """Read a file of lines, and say what its records are. In which pieces it comes makes no difference."""
    log = made.log()
    whole = list(_records(log, [len(log)]))
    assert whole == list(_records(log, sorted(made.random.randrange(len(log) + 1) for _cut in range(5))))
    for record in whole:
        assert record.line > 0
        assert (record.body is None) == bool(record.skipped)
        if record.body is None:
            assert_shown(record.skipped)
            yield f"skipped: {record.skipped}"
            continue
        yield "record"
        with contextlib.suppress(AlertError):
            read_message(record.body)


def _records(log: bytes, cuts: Iterable[int]) -> Iterator[Record]:
    reader, start = Reader(), 0
    for cut in (*cuts, len(log)):
        yield from reader.feed(log[start:cut])
        start = cut
    yield from reader.close()


class _Faults(logging.Handler):
    """Remembers that an exception was logged: a filter never raises."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:
        """Look at what is logged."""
        self.seen = self.seen or bool(record.exc_info)


def filtering() -> Callable[[Input], Iterator[str]]:
    """A function that puts one event through a filter, and says what came of it."""
    through = decide({"GUARD_FOLD_WINDOW": "0.001"})
    faults = _Faults()
    logging.getLogger(decide.__module__).addHandler(faults)

    def filtered(made: Input) -> Iterator[str]:
        result = through(made.event())
        assert not faults.seen, "the filter has dropped the event for a fault of its own"
        events: list[dict[str, t.Any]] = result if isinstance(result, list) else [result]
        for event in events:
            assert_inert(event)
            assert event.keys() == {"alerts", "meta"}
            assert event["meta"] == {"hosts": ["all"]}
            assert 0 < len(event["alerts"]) <= MAX_ALERTS
            assert len(json.dumps(event)) <= MAX_BYTES
        yield f"{len(events)} events"

    return filtered


def run(kind: str, one: Callable[[Input], Iterator[str]], seed: int, numbers: range) -> tuple[Counts, Stopwatch]:
    """Give it the inputs of these numbers, and count what came of them. Raises FailedError."""
    counts: Counts = collections.Counter()
    watch, growth = Stopwatch(), Growth(len(numbers))
    try:
        for number in numbers:
            growth.seen(number - numbers.start)
            watch.start(number)
            try:
                counts.update(one(Input(seed, number)))
                watch.stop(number)
            except Exception as error:
                raise FailedError(kind, seed, number) from error
    finally:
        watch.end()  # else it would end the process of the tests a minute later
    if len(numbers) >= 10_000:
        growth.grown()
    return counts, watch
