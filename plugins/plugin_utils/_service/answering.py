# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In the place of a rule engine: what is delivered is answered here and now, and acknowledged as a host does it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import json
import logging
import typing as t
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answerer import Answerer, Policies
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Response
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import alerts_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import SCHEME
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.receipt import (
    CRASHED,
    Delivery,
    entries,
    state_of,
)

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering

logger = logging.getLogger(__name__)

Event = dict[str, t.Any]


class Acknowledges(t.Protocol):
    """What is needed of the deliveries."""

    async def receipt(self, authorization: str, body: bytes) -> None:
        """Take the header and the body of a receipt. Raises GuardError where it does not count."""

    def run_ended(self, delivery: str, why: str, heard: bool) -> None:
        """The delivery with that id is acknowledged no more."""


class Host:
    """What answers on this host.

    Args:
        name: inventory name of this host.
        answerer: decides and acts.
        engine: of this host.
        inventory: what is known of its containers.
        policies: those in force, or None.
        mode: how the guard is to work at the moment: C(enforce) or C(audit).
        recorded: called, in another thread, with what was put on record.
    """

    def __init__(
        self,
        name: str,
        answerer: Answerer,
        engine: Engine,
        inventory: Inventory,
        policies: Callable[[], Policies | None],
        mode: Callable[[], str],
        recorded: Callable[[Sequence[ActionEvent]], object] = lambda _events: None,
    ) -> None:
        self.name = name
        self._answerer = answerer
        self._engine = engine
        self._inventory = inventory
        self._policies = policies
        self._mode = mode
        self._recorded = recorded

    def answer(self, values: Sequence[Mapping[str, t.Any]]) -> dict[str, t.Any]:
        """Answer alerts as the intake hands them on; what the module C(alert_response) would return of it."""
        alerts, rejected = _read(values)
        policies = self._policies()
        if policies is None:
            trouble = PolicyError("this host has no policy set that could be used", kind="policy_set_missing")
            responses = [self._answerer.unanswered(alert, trouble) for alert in alerts]
        else:
            resolver = Resolver(self._engine, self._inventory)
            responses, _warnings = self._answerer.answer(alerts, policies, resolver, self._mode())
        recorded = self._record(responses)
        return {
            "responses": [response.to_dict() for response in responses],
            "outcomes": [{"record_id": _record_id(response, recorded)} for response in responses],
            "rejected": rejected,
            "policy_set_digest": policies.digest if policies else "",
            "answered_at": now(),
        }

    @property
    def gathering(self) -> Gathering | None:
        """What evidence of the last batch is to be collected; None where there is none."""
        return self._answerer.gathering

    def collect(self, gathering: Gathering) -> None:
        """Collect the evidence that policies want of alerts that were answered."""
        events = gathering.collect()
        try:
            self._answerer.log.append(events)
        except GuardError as error:
            logger.error("What was collected is not on record: %s", error)
        self._recorded(events)

    def _record(self, responses: Sequence[Response]) -> set[str]:
        recorded: set[str] = set()
        try:
            recorded = self._answerer.record(responses)
        except GuardError as error:
            logger.error("What was done is not on record: %s", error)
        self._answerer.remember(responses, recorded)
        self._recorded([one.event for one in responses if one.event and one.event.id in recorded])
        return recorded


class Answering:
    """Answers deliveries, one after the other.

    Args:
        host: who answers.
        told: takes what nobody answered, as the intake tells it.
    """

    def __init__(self, host: Host, told: Callable[[Sequence[Mapping[str, t.Any]]], Awaitable[None]]) -> None:
        self._host = host
        self._told = told
        self._events: asyncio.Queue[Event] = asyncio.Queue(1)
        self._answering = concurrent.futures.ThreadPoolExecutor(1, "container-guard-answering")
        self._collecting = concurrent.futures.ThreadPoolExecutor(1, "container-guard-evidence")

    async def put(self, event: Event) -> None:
        """Take an event of the intake; waits while another one is waiting."""
        if "unanswered" in event:
            await self._told(event["unanswered"])
        else:
            await self._events.put(event)

    async def run(self, deliveries: Acknowledges) -> t.NoReturn:
        """Answer until cancelled.

        Args:
            deliveries: take the receipt of each.
        """
        loop = asyncio.get_running_loop()
        while True:
            event = await self._events.get()
            try:
                authorization, body = await loop.run_in_executor(self._answering, self._answer, event)
                await deliveries.receipt(authorization, body)
            except GuardError as error:
                # Such as one that is too late, by a clock that was set meanwhile. What was answered is remembered.
                logger.warning("A delivery is made again: %s", error)
                deliveries.run_ended(str(event["delivery"]["id"]), str(error), heard=True)
            gathering = self._host.gathering
            if gathering and gathering.wanted:
                self._collecting.submit(self._collect, gathering)

    def _answer(self, event: Event) -> tuple[str, bytes]:
        """The receipt for an event."""
        delivery = t.cast(Delivery, Delivery.of({"ansible_eda": {"event": event}}))
        name, alerts = self._host.name, alerts_of(event) or []
        try:
            found = self._host.answer(alerts)
            state = state_of(found)
        except Exception as error:  # a defect of the guard must not end the service
            logger.exception("A delivery failed")
            found, state = {"msg": f"internal error: {error!r}"}, CRASHED
        answers = entries(alerts, name, found, datetime.datetime.now(datetime.timezone.utc))
        receipt = delivery.receipt(name, [name], state, answers, found)
        return f"{SCHEME} {delivery.capability}", json.dumps(receipt).encode("utf-8")

    def _collect(self, gathering: Gathering) -> None:
        try:
            self._host.collect(gathering)
        except Exception:  # as above
            logger.exception("Evidence could not be collected")


def _read(values: Sequence[Mapping[str, t.Any]]) -> tuple[list[Alert], list[dict[str, t.Any]]]:
    alerts, rejected = [], []
    for index, value in enumerate(values):
        try:
            alerts.append(Alert.from_dict(dict(value)))
        except AlertError as error:
            rejected.append({"index": index, **error.to_dict()})
    return alerts, rejected


def _record_id(response: Response, recorded: set[str]) -> str:
    return response.event.id if response.event and response.event.id in recorded else ""
