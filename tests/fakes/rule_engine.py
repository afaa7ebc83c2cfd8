# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tests of the spool have in common: alerts, and an engine whose hosts do as they are told."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.delivery import (
    Deliveries,
    DeliverySettings,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import alerts_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Offer, Spool, SpoolLimits

DEADLINE = 10.0
"""For what must happen, in seconds: far more than it takes, also on a busy machine."""
PLACES = 25
"""Playbook runs that go on at the same time; with so many no event is taken."""
EVENT_BYTES = 65_536
"""An event at most: with more, the rule engine stands still for too long."""
Event = dict[str, t.Any]


def alert(rule: str = "r", host: str = "web-1", severity: str = "high", **fields: t.Any) -> Alert:
    return Alert.from_dict(
        {"source": "s", "rule": rule, "severity": severity, "host": host, "inventory_host": host, **fields}
    )


def offer(rule: str = "r", host: str = "web-1", severity: str = "high", **fields: t.Any) -> Offer:
    return Offer(alert(rule, host, severity, **fields), (host,))


def lookup(rule: str = "r", *targets: str) -> Offer:
    """An alert whose host nobody knows."""
    return Offer(alert(rule, ""), targets or ("all",))


def receipt(event: Event, host: str, outcome: str = "no_policy", state: str = "answered", **fields: t.Any) -> bytes:
    """What the host says of a delivery: the same of all its alerts."""
    delivery = event["delivery"]
    answers = [
        {"trace_id": each["trace_id"], "outcome": outcome, "container": each.get("container")}
        for each in alerts_of(event) or ()
    ]
    return json.dumps(
        {
            "delivery": delivery["id"],
            **{name: delivery[name] for name in ("hosts", "pattern", "deadline")},
            "trace_ids": [answer["trace_id"] for answer in answers],
            "host": host,
            "run_hosts": delivery["hosts"],
            "state": state,
            "message": "",
            "alerts": answers if state == "answered" else [],
            **fields,
        }
    ).encode()


def authorization(event: Event) -> str:
    return f"Receipt {event['delivery']['capability']}"


@dataclasses.dataclass
class Engine:
    """Takes events from a queue, and sends receipts. Sees its runs, and ends them.

    Attributes:
        deliveries: to which the receipts go.
        events: of alerts, as they came.
        unanswered: what was told.
        behaviour: by host: an outcome, a state that is none, or C(hang); C(lingers) answers, and its runs go on until
            they are ended; with C(silent) they go on without an answer. C(telling) may C(hang): what tells what nobody
            answered.
        runs: that go on, by delivery, and what ends them.
        telling: runs that tell what nobody answered.
        seen: of all these, what was looked at.
        ended: hosts of the runs that were ended, as they were.
        most: runs at the same time.
    """

    deliveries: Deliveries
    spool: Spool
    behaviour: Mapping[str, str]
    inventory: tuple[str, ...] = ()
    events: list[Event] = dataclasses.field(default_factory=list)
    unanswered: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    queue: asyncio.Queue[Event] = dataclasses.field(default_factory=lambda: asyncio.Queue(1))
    changed: asyncio.Condition = dataclasses.field(default_factory=asyncio.Condition)
    runs: dict[str, asyncio.Event] = dataclasses.field(default_factory=dict)
    ended: list[list[str]] = dataclasses.field(default_factory=list)
    telling: set[str] = dataclasses.field(default_factory=set)
    seen: set[str] = dataclasses.field(default_factory=set)
    most: int = 0
    interval: float = 0.02

    async def run(self) -> t.NoReturn:
        places = asyncio.Semaphore(PLACES)
        async with asyncio.TaskGroup() as runs:
            while True:
                await places.acquire()
                event = await self.queue.get()
                assert len(json.dumps(event)) <= EVENT_BYTES, "it would be written for too long"
                if "unanswered" in event:
                    assert "hosts" not in event["meta"]
                    self.unanswered += event["unanswered"]
                    runs.create_task(self.tell(event)).add_done_callback(lambda _task: places.release())
                else:
                    self.events.append(event)
                    task = runs.create_task(self.play(event))
                    task.add_done_callback(lambda _task: places.release())
                async with self.changed:
                    self.changed.notify_all()

    def look(self, known: Sequence[str]) -> set[str]:
        living = set(known) & {*self.runs, *self.telling}
        self.seen |= living
        return living

    def end(self, delivery: str, why: str) -> None:
        assert why
        self.runs[delivery].set()

    async def tell(self, event: Event) -> None:
        """A run that tells what nobody answered; it is not over before it was seen."""
        self.telling.add(event["id"])
        while self.deliveries.runs and (self.behaviour.get("telling") == "hang" or event["id"] not in self.seen):
            await asyncio.sleep(self.interval)
        self.telling.remove(event["id"])

    async def play(self, event: Event) -> None:
        """One run."""
        if "delivery" not in event:
            return
        run, delivery = asyncio.Event(), event["delivery"]["id"]
        self.runs[delivery] = run
        self.most = max(self.most, len(self.runs))
        try:
            await self.answer(event)
            if {self.behaviour.get(host) for host in event["meta"]["hosts"]} & {"lingers", "silent"}:
                await run.wait()
                self.ended.append(event["meta"]["hosts"])
        finally:
            del self.runs[delivery]

    async def answer(self, event: Event) -> None:
        hosts = event["meta"]["hosts"]
        if hosts == ["all"]:
            hosts = list(self.inventory)
        for host in hosts:
            does = self.behaviour.get(host, "no_policy")
            if does in ("hang", "silent"):
                continue
            does = "isolated" if does == "lingers" else does
            if does in ("unreachable", "failed", "crashed", "unknown_host"):
                body = receipt(event, host, state=does, run_hosts=hosts)
            else:
                body = receipt(event, host, does, run_hosts=hosts)
            await self.deliveries.receipt(authorization(event), body)
        async with self.changed:
            self.changed.notify_all()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for what receipts and events bring about."""

        async def poll() -> None:
            while not reached():
                async with self.changed:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self.changed.wait(), 0.05)

        await asyncio.wait_for(poll(), DEADLINE)

    async def settled(self) -> None:
        """Until nothing waits any more."""
        await self.until(lambda: self.spool.accounts["waiting"] == 0)

    def delivered(self) -> collections.Counter[str]:
        """How often each rule was delivered."""
        return collections.Counter(each["rule"] for event in self.events for each in alerts_of(event) or ())


@contextlib.asynccontextmanager
async def engine(
    directory: pathlib.Path,
    behaviour: Mapping[str, str] | None = None,
    *,
    limits: SpoolLimits | None = None,
    inventory: tuple[str, ...] = (),
    confirmed: Callable[[str, str], None] = lambda _host, _digest: None,
    sees_runs: bool = True,
    **settings: t.Any,
) -> AsyncIterator[Engine]:
    """A spool, deliveries out of it, and an engine that takes them."""
    spool = await Spool.open(directory, limits)
    queue: asyncio.Queue[Event] = asyncio.Queue(1)
    # Fast: what these tests are about is not time.
    pace = {"batch_window": 0.01, "batch_interval": 0.0, "retry_pause": 0.02, "tell_interval": 0.0}
    pace |= {"answer_timeout": 0.3, **settings}
    deliveries = Deliveries(
        spool, DeliverySettings(**pace), queue.put, receipt_url="http://127.0.0.1:1/receipts", confirmed=confirmed
    )
    running = Engine(deliveries, spool, behaviour or {}, inventory, queue=queue)
    if sees_runs:
        deliveries.runs = running
    tasks = [asyncio.create_task(deliveries.run()), asyncio.create_task(running.run())]
    try:
        yield running
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await spool.close()


def running_script(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs this script, to be killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
