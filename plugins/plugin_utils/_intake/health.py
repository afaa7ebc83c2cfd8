# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What /healthz and /metrics say, put together from the parts of the intake."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import Connections
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import (
    COUNTER,
    GAUGE,
    Counters,
    Family,
    gauge,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls

GAUGES: Mapping[str, str] = {
    "connections": "open connections",
    "connections_max": "most open connections",
    "waiting_alerts": "alerts in the spool that are not answered yet",
    "waiting_bytes": "their size in bytes",
    "history_alerts": "alerts in the history",
    "history_bytes": "their size in bytes",
    "oldest_alert_seconds": "age of the oldest alert that waits",
    "deliveries_under_way": "deliveries that hosts have not acknowledged yet",
    "sick_hosts": "hosts that did not acknowledge their last delivery",
    "certificate_expires_timestamp_seconds": "when the first certificate of the file expires, by option",
    "troubles": "troubles that /healthz names; it fails while there are any",
}
"""The gauges, by name, and what they measure."""


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
    """

    spool: Spool
    deliveries: Deliveries
    connections: Connections
    counters: Counters
    tls: Tls | None = None
    watching: Sequence[Watching] = ()
    notes: list[str] = dataclasses.field(default_factory=list)

    def troubles(self) -> list[str]:
        """Why alerts are not answered at the moment."""
        of_tls = self.tls.troubles() if self.tls else []
        return list(dict.fromkeys([*self.spool.troubles(), *self.deliveries.health(), *of_tls]))

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

    def families(self) -> list[Family]:
        """Content of /metrics."""
        accounts = dict(self.spool.accounts)
        gauges = {
            "waiting_alerts": float(accounts.pop("waiting", 0)),
            **self.spool.figures(),
            **self.deliveries.figures(),
            "connections": len(self.connections),
            "connections_max": self.connections.most,
            "troubles": len(self.troubles()),
        }
        expiry = self.tls.expiry() if self.tls else {}
        name = "certificate_expires_timestamp_seconds"
        return [
            Family(
                "elements_total",
                COUNTER,
                "elements of requests and lines of files, by account: received is the sum of all others and of those "
                "that wait",
                {(("account", account),): number for account, number in accounts.items()},
            ),
            *self.counters.families(),
            *(gauge(name, GAUGES.get(name, name.replace("_", " ")), value) for name, value in gauges.items()),
            Family(name, GAUGE, GAUGES[name], {(("option", option),): moment for option, moment in expiry.items()}),
        ]
