# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deliveries: takes what waits in the spool to the rule engine, again and again, until it is answered or told."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Awaitable, Callable

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Spool

Event = dict[str, t.Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """How alerts are delivered. Times are in seconds.

    Attributes:
        batch_window: longest time that an alert waits for company; an eighth of it without another one is enough.
        batch_interval: least time between two deliveries to one host.
        batch_max: most alerts in an event.
        answer_timeout: after which a host that said nothing is asked again; longer than a run may take.
        answer_deadline: after which an alert is unanswered.
        max_deliveries: playbook runs at the same time, 2 to 21: the engine does 25 things at a time.
        max_hosts: most hosts that share a run; as many as Ansible has forks, so that hosts which hang hold up nobody.
        receipts: whether hosts say what they answered. Without, an alert has ended once it was handed over.
    """

    batch_window: float = 0.2
    batch_interval: float = 1.0
    batch_max: int = 500
    answer_timeout: float = 120.0
    answer_deadline: float = 600.0
    max_deliveries: int = 21
    max_hosts: int = 5
    receipts: bool = True


class Deliveries:
    """The loop around the schedule.

    Args:
        spool: open.
        settings: of the source.
        put: hands an event to the rule engine; waits while that is busy.
        receipt_url: where hosts' answers are sent to; may be set later, before run().
        confirmed: called with host and digest of the policy set by which a host has answered.
    """

    def __init__(
        self,
        spool: Spool,
        settings: DeliverySettings,
        put: Callable[[Event], Awaitable[None]],
        *,
        receipt_url: str = "",
        confirmed: Callable[[str, str], None] = lambda _host, _digest: None,
    ) -> None:
        raise NotImplementedError

    async def run(self) -> t.NoReturn:
        """Deliver for ever, until cancelled. Raises what put raises: alerts are then still in the spool."""
        raise NotImplementedError

    async def receipt(self, authorization: str, body: bytes) -> None:
        """Take a receipt: C(Authorization) header and body of the request. Raises ReceiptError, which has a status."""
        raise NotImplementedError

    def health(self) -> list[str]:
        """What is wrong, a sentence each; empty where all is well."""
        raise NotImplementedError

    def figures(self) -> dict[str, float]:
        """For metrics: C(deliveries_under_way), C(sick_hosts), C(oldest_alert_seconds), ... Cheap."""
        raise NotImplementedError

    async def drain(self, timeout: float) -> None:
        """Begin no delivery any more, and wait until those under way are answered, but not longer than that."""
        raise NotImplementedError
