# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics in the text format of Prometheus. Values of labels are words of ours, never of a sender."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

PREFIX = "container_guard_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COUNTER, GAUGE = "counter", "gauge"

Labels = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Family:
    """A metric and its samples.

    Attributes:
        name: without the prefix.
        kind: C(counter) or C(gauge).
        help: what it counts, a sentence without a full stop.
        samples: by labels.
    """

    name: str
    kind: str
    help: str
    samples: Mapping[Labels, float]

    def lines(self) -> list[str]:
        """As Prometheus reads it."""
        return _lines(self.name, self.kind, self.help, [("", labels, value) for labels, value in self.samples.items()])


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How often something took how long.

    Attributes:
        name: without the prefix.
        help: what was measured, a sentence without a full stop.
        bounds: upper bounds, ascending.
        samples: by labels, how many there were up to each of the bounds and beyond all, and their sum.
    """

    name: str
    help: str
    bounds: Sequence[float]
    samples: Mapping[Labels, tuple[Sequence[int], float]]

    def lines(self) -> list[str]:
        """As Prometheus reads it."""
        found: list[tuple[str, Labels, float]] = []
        for labels, (counts, total) in self.samples.items():
            until = list(itertools.accumulate(counts))
            for bound, count in zip((*self.bounds, math.inf), until, strict=True):
                found.append(("_bucket", (*labels, ("le", _number(bound))), count))
            found += [("_sum", labels, total), ("_count", labels, until[-1])]
        return _lines(self.name, "histogram", self.help, found)


COUNTED: Mapping[str, str] = {
    "requests_total": "requests, by listener (alerts, receipts) and status of the answer",
    "requests_refused_total": "requests of which nothing was taken, by listener and kind of the error",
    "elements_rejected_total": "rejected elements, by kind",
    "elements_passed_over_total": "elements that need no answer, by reason",
    "elements_of_sender_total": "elements, by sender",
    "reports_total": "reports of host services, by kind: action, unanswered, breach, heartbeat, rejected, or known",
    "lines_skipped_total": "lines of followed files that hold no message, by reason",
    "kafka_records_total": "records of topics, by what became of them: taken, or known as they came before",
    "kafka_failures_total": "failures to reach or to use the brokers of topics, by what was tried",
    "handshakes_failed_total": "failed TLS handshakes, by reason",
    "connections_closed_total": "connections refused (all places taken by known senders), shed (for a newer one) or "
    "silent (no request came on it)",
    "accept_errors_total": "failures of the system to accept a connection, by error",
    "malformed_requests_total": "requests that are no HTTP",
}
"""The counters of the listener, by name, and what they count."""


class Counters:
    """Counters of the names in COUNTED."""

    def __init__(self) -> None:
        self._samples: dict[str, collections.Counter[Labels]] = {name: collections.Counter() for name in COUNTED}

    def add(self, name: str, amount: int = 1, /, **labels: str) -> None:
        """Count. Values of labels must be few."""
        self._samples[name][tuple(labels.items())] += amount

    def by(self, name: str, label: str) -> dict[str, int]:
        """A counter by the values of one of its labels."""
        found: collections.Counter[str] = collections.Counter()
        for labels, count in self._samples[name].items():
            found[dict(labels)[label]] += count
        return dict(found)

    def families(self) -> list[Family]:
        """All of them. A sample begins when it is first counted."""
        return [Family(name, COUNTER, what, self._samples[name]) for name, what in COUNTED.items()]


def labelled(name: str, kind: str, what: str, label: str, values: Mapping[str, float]) -> Family:
    """A metric with one label, by its values."""
    return Family(name, kind, what, {((label, of),): value for of, value in values.items()})


def render(families: Iterable[Family | Histogram]) -> str:
    """The metrics as Prometheus reads them."""
    return "\n".join([*(line for family in families for line in family.lines()), ""])


def _lines(name: str, kind: str, what: str, samples: Iterable[tuple[str, Labels, float]]) -> list[str]:
    """The lines of a metric: of each sample the end of its name, its labels and its value."""
    name = PREFIX + name
    lines = [f"# HELP {name} {_escaped(what)}", f"# TYPE {name} {kind}"]
    for end, labels, value in samples:
        shown = ",".join(f'{label}="{_escaped(of)}"' for label, of in labels)
        lines.append(f"{name}{end}{{{shown}}} {_number(value)}" if shown else f"{name}{end} {_number(value)}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
