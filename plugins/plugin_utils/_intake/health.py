# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What /healthz and /metrics say, put together from the parts of the intake."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import Connections
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import (
    COUNTER,
    GAUGE,
    Counters,
    Family,
    Histogram,
    labelled,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls

FIGURES: Mapping[str, str] = {
    "waiting_alerts": "alerts in the spool that are not answered yet",
    "waiting_bytes": "their size in bytes",
    "history_alerts": "alerts in the history",
    "history_bytes": "their size in bytes",
    "oldest_alert_seconds": "age of the oldest alert that waits",
    "deliveries_under_way": "deliveries that not all hosts have acknowledged yet",
    "sick_hosts": "hosts that did not acknowledge their last delivery",
    "fleet_limit_reached": "1 while max_isolations_per_fleet_window holds alerts back, otherwise 0",
    "delivery_timeouts_total": "deliveries that a host did not acknowledge within answer_timeout",
    "events_total": "events that were given to the rule engine",
    "unanswered_events_total": "those of them about alerts that nobody answered",
    "receipts_total": "receipts of hosts that counted",
    "kafka_connected": "1 while the brokers of topics answer, else 0",
    "kafka_partitions": "partitions of topics that this member of the group has",
    "kafka_lag_records": "records in these that were not taken yet",
    "hosts_reporting": "hosts whose services send heartbeats",
    "hosts_missing": "hosts whose services have sent none for three intervals",
    "hosts_degraded": "hosts whose services say that not all is well",
    "reports_waiting": "events out of reports of host services that the rule engine has not taken yet",
    "connections": "open connections of senders",
    "connections_max": "most open connections of senders",
    "troubles": "troubles that /healthz names; it fails while there are any",
}
"""The figures of all parts, by name, and what they are. Those that end in _total are counters."""
ELEMENTS, EXPIRY = "elements_total", "certificate_expires_timestamp_seconds"
HEARTBEAT_AGE = "heartbeat_age_seconds"
LABELLED: Mapping[str, str] = {
    ELEMENTS: "elements of all inputs, by account: received is the sum of all others and of those that wait",
    EXPIRY: "when the first certificate of a file expires, by option",
    HEARTBEAT_AGE: "seconds since the last heartbeat of a host service, by host of the inventory",
}
"""Metrics of this module with labels."""


class Spool(t.Protocol):
    """What is needed of the spool."""

    @property
    def accounts(self) -> Mapping[str, int]:
        """Numbers of elements, by account. C(received) is the sum of all others."""

    def troubles(self) -> Sequence[str]:
        """Why nothing can be stored at the moment."""

    def figures(self) -> Mapping[str, float]:
        """Values of gauges."""


class Deliveries(t.Protocol):
    """What is needed of the deliveries."""

    def health(self) -> Sequence[str]:
        """Why alerts are not answered at the moment."""

    def figures(self) -> Mapping[str, float]:
        """Values of gauges."""


class Watching(t.Protocol):
    """What watches files."""

    def troubles(self) -> Sequence[str]:
        """What is wrong with them; those of before hold."""


@dataclasses.dataclass
class Health:
    """How the intake is. Lines are for people, and hold no secret and nothing by a sender.

    Attributes:
        spool: where alerts wait.
        deliveries: that take them to hosts.
        watching: what reads files of others: their troubles are warnings, as what was read before holds.
        tls: the certificates, where there are any.
        connections: of the listener.
        counters: of the listener.
        notes: what was found at the start.
        measured: figures of inputs, for metrics.
        further: metrics of whoever the intake is a part of.
        heartbeat_ages: seconds since the last heartbeat of host services, by host.
        vital: parts whose troubles keep alerts from being answered, or from being known to be.
    """

    spool: Spool
    deliveries: Deliveries
    connections: Connections
    counters: Counters
    tls: Tls | None = None
    watching: Sequence[Watching] = ()
    notes: list[str] = dataclasses.field(default_factory=list)
    measured: list[Callable[[], Mapping[str, float]]] = dataclasses.field(default_factory=list)
    heartbeat_ages: Callable[[], Mapping[str, float]] = dict
    vital: Sequence[Watching] = ()
    further: Callable[[], Sequence[Family | Histogram]] = tuple

    def troubles(self) -> list[str]:
        """Why alerts are not answered at the moment."""
        of_tls = self.tls.troubles() if self.tls else []
        of_parts = [trouble for part in self.vital for trouble in part.troubles()]
        return list(dict.fromkeys([*self.spool.troubles(), *self.deliveries.health(), *of_parts, *of_tls]))

    def warnings(self) -> list[str]:
        """What will keep some from being answered."""
        of_tls = self.tls.warnings() if self.tls else []
        return [*of_tls, *(trouble for watching in self.watching for trouble in watching.troubles()), *self.notes]

    def shown(self) -> tuple[int, dict[str, t.Any]]:
        """Status and content of /healthz."""
        if self.tls:
            self.tls.refresh()
        troubles = self.troubles()
        return (503 if troubles else 200), {
            "status": "failing" if troubles else "ok",
            "troubles": troubles,
            "warnings": self.warnings(),
            "elements": dict(self.spool.accounts),
            "refused": self.counters.by("requests_refused_total", "kind"),
        }

    def families(self) -> list[Family | Histogram]:
        """Content of /metrics."""
        accounts = dict(self.spool.accounts)
        figures = {
            "waiting_alerts": float(accounts.pop("waiting", 0)),
            **self.spool.figures(),
            **self.deliveries.figures(),
            **{name: value for figures in self.measured for name, value in figures().items()},
            "connections": len(self.connections),
            "connections_max": self.connections.most,
            "troubles": len(self.troubles()),
        }
        expiry = self.tls.expiry() if self.tls else {}
        return [
            labelled(ELEMENTS, COUNTER, LABELLED[ELEMENTS], "account", accounts),
            *self.counters.families(),
            *(
                Family(name, COUNTER if name.endswith("_total") else GAUGE, FIGURES.get(name, name), {(): value})
                for name, value in figures.items()
            ),
            labelled(EXPIRY, GAUGE, LABELLED[EXPIRY], "option", expiry),
            labelled(HEARTBEAT_AGE, GAUGE, LABELLED[HEARTBEAT_AGE], "host", self.heartbeat_ages()),
            *self.further(),
        ]
