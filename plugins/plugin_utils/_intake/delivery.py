# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deliveries: takes what waits in the spool to the rule engine, again and again, until it is answered or told."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import datetime
import time
import typing as t
from collections.abc import Awaitable, Callable, Collection, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    AT_ONCE,
    FROM_CRITICAL_ON,
    LIMIT,
    NOT_TOLD,
    OUTCOMES,
    UNKNOWN_HOST,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.ending import Endings, Event, known_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.fleet_limit import NAME as FLEET
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.fleet_limit import FleetLimit
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import written
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import (
    Answer,
    Claim,
    Receipt,
    ReceiptError,
    capability,
    read_receipt,
    verdict,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.schedule import (
    NEVER,
    Delivery,
    Open,
    Outcome,
    Pace,
    Schedule,
    Turn,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Accepted, Spool, SpoolError

__all__ = ["Deliveries", "DeliverySettings", "Event", "ReceiptError"]

_SILENCE = 5
"""Deliveries in a row that nobody acknowledged, after which nothing is sent again until a receipt comes."""
_STUCK = 60.0
"""Seconds after which an engine that takes no event is in trouble."""
_TELLINGS = 4
"""Runs that tell what nobody answered at most: those that hang must not take the places of deliveries."""
_GRACE = 60.0
"""Seconds for which a capability is good beyond what it is needed for."""
_HOUR = 3600.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """How alerts are delivered. Times are in seconds.

    Attributes:
        batch_window: longest time that an alert waits for company; a sixteenth of it without another one is enough.
        batch_interval: least time between the beginnings of two deliveries to one host.
        batch_max: most alerts in an event, at most 500.
        answer_timeout: after which a host that said nothing is asked again; longer than a run may take.
        answer_deadline: after which an alert is unanswered.
        max_deliveries: playbook runs at the same time, 2 to 21: the engine does 25 things at a time.
        max_hosts: most hosts that share a run; as many as Ansible has forks, so that hosts which hang hold up nobody.
        receipts: whether hosts say what they answered. Without, an alert has ended once it was handed over.
        tell_interval: least time between two events of what nobody answered: each is a playbook run or a job, of which
            the engine does 25 at a time.
        retry_pause: before a host that did not answer is asked again; doubled each time, up to a minute.
        fleet_limit: containers that hosts may isolate within C(fleet_window) seconds before alerts that are not
            critical are held back; 0 for any number.
        wind_up: that a run may go on once it is answered, or given up, before others may have its place.
    """

    batch_window: float = 0.2
    batch_interval: float = 1.0
    batch_max: int = 500
    answer_timeout: float = 120.0
    answer_deadline: float = 600.0
    max_deliveries: int = 21
    max_hosts: int = 5
    receipts: bool = True
    tell_interval: float = 10.0
    retry_pause: float = 5.0
    fleet_limit: int = 0
    fleet_window: int = 0
    wind_up: float = 10.0


class PlaybookRuns(t.Protocol):
    """The playbook runs that the rule engine has started.

    Attributes:
        interval: between two looks, in seconds.
    """

    interval: float

    def look(self, known: Sequence[str]) -> Collection[str]:
        """Which of these deliveries, or other events, have a run that goes on. Called in another thread."""

    def end(self, delivery: str, why: str) -> None:
        """Have the run of a delivery ended, soon."""


class Deliveries:
    """The loop around the schedule.

    Args:
        spool: open.
        settings: of the source.
        put: hands an event to the rule engine; waits while that is busy.
        receipt_url: where the answers of hosts are sent to; empty where the artifacts of jobs hold them. It may be
            set later, before run().
        confirmed: called with host and digest of the policy set by which it has answered.
        runs: sees the playbook runs, None where they are elsewhere. It may be set later, before run().
        now: seconds, of a clock that is never set.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        spool: Spool,
        settings: DeliverySettings,
        put: Callable[[Event], Awaitable[None]],
        *,
        receipt_url: str = "",
        confirmed: Callable[[str, str], None] = lambda _host, _digest: None,
        runs: PlaybookRuns | None = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.receipt_url = receipt_url
        self._spool = spool
        self._settings = settings
        self._put = put
        self.runs = runs
        self._confirmed = confirmed
        self._now = now
        self._wall = wall
        self._schedule = Schedule(
            Pace(
                window=settings.batch_window,
                interval=settings.batch_interval,
                most_alerts=settings.batch_max,
                most_hosts=settings.max_hosts,
                most_deliveries=settings.max_deliveries,
                timeout=settings.answer_timeout,
                pause=settings.retry_pause,
                wind_up=settings.wind_up,
            )
        )
        self._outbox: collections.deque[Delivery] = collections.deque()
        self._endings = Endings(spool, wall)
        self._fleet = FleetLimit(settings.fleet_limit, settings.fleet_window, spool.position(FLEET))
        self._left_over: list[Open] = []
        self._something_to_do = asyncio.Event()
        self._something_to_send = asyncio.Event()
        self._something_ended = asyncio.Event()
        self._putting_since: float | None = None
        self._draining = False
        self._digests: dict[str, str] = {}  # of policy sets, by host
        self._heard_at = 0  # how many timeouts there had been when the last receipt came
        self._given_up = 0  # timeouts that were seen to
        self._events = 0
        self._unanswered_events = 0
        self._tell_at = float("-inf")
        self._receipts = 0

    async def run(self) -> t.NoReturn:
        """Deliver for ever, until cancelled. Raises what put raises: alerts are then still in the spool."""
        self._spool.watch(self._arrived)
        working = [asyncio.create_task(self._send_all())]
        if self.runs:
            working.append(asyncio.create_task(self._watch(self.runs)))
        for task in working:
            task.add_done_callback(lambda _task: self._something_to_do.set())
        try:
            while True:
                self._something_to_do.clear()
                await self._take_turns()
                for task in working:
                    if task.done():
                        task.result()
                await self._wait()
        finally:
            for task in working:
                task.cancel()
            await asyncio.wait(working)

    async def receipt(self, authorization: str, body: bytes) -> None:
        """Take a receipt: C(Authorization) header and body of the request. Raises ReceiptError, which has a status."""
        now = datetime.datetime.fromtimestamp(self._wall(), datetime.UTC)
        receipt = read_receipt(self._spool.key, authorization, body, now)
        self._receipts += 1
        self._heard_at = self._schedule.timeouts
        if receipt.state == "answered" and receipt.policy_set_digest:
            self._answered_by(receipt.host, receipt.policy_set_digest)
        said: dict[str, list[Answer]] = {}
        for answer in receipt.answers:
            said.setdefault(answer.trace_id, []).append(answer)
        tried: list[Open] = []

        def judge(alert: Open) -> Outcome:
            outcome = self._judge(alert, receipt, said.get(alert.trace_id, ()))
            if not outcome.final:
                tried.append(alert)
            return outcome

        works = receipt.state in ("answered", UNKNOWN_HOST)
        members = receipt.run_hosts if receipt.pattern else ()
        answered = self._schedule.acknowledge(receipt.delivery, receipt.host, members, works, judge, said, self._now())
        for alert in answered:
            if receipt.host in alert.answers:
                self._endings.answered(alert, receipt.host, alert.answers[receipt.host])
        await self._count_isolations(receipt)
        self._something_to_do.set()
        self._something_to_send.set()
        await self._endings.close([*answered, *tried])
        self._something_ended.set()

    def under_way(self) -> list[str]:
        """Ids of the deliveries that the engine has taken, and that not all hosts have acknowledged yet."""
        return [delivery.id for delivery in self._schedule.deliveries.values() if delivery.due < NEVER]

    def run_ended(self, delivery: str, why: str, heard: bool) -> None:
        """The run of a delivery has ended: whoever has not acknowledged it does not any more.

        Args:
            delivery: its id.
            why: nothing came of these hosts.
            heard: whether it is known that they did not answer, so that to ask them again repeats nothing.
        """
        if self._schedule.run_ended(delivery, why, self._now()):
            if heard:
                self._heard_at = self._schedule.timeouts
            else:
                self._schedule.timeouts += 1
            self._something_to_do.set()
            self._something_ended.set()

    async def _count_isolations(self, receipt: Receipt) -> None:
        """Count what a host isolated, also for alerts that are tried again, or were given up meanwhile."""
        isolated = [
            answer.container.id or answer.container.name
            for answer in receipt.answers
            if OUTCOMES[answer.outcome].counts
        ]
        if self._fleet.take(receipt.host, isolated, self._wall()):
            # What cannot be written is counted all the same, until a restart.
            with contextlib.suppress(SpoolError):
                await self._spool.remember(FLEET, self._fleet.remembered)

    def health(self) -> list[str]:
        """What is wrong, a sentence each; empty where all is well."""
        found = self._spool.troubles()
        stuck = self._now() - self._putting_since if self._putting_since is not None else 0.0
        if stuck > _STUCK:
            found.append(f"the rule engine has taken no event for {stuck:.0f} seconds")
        if self._silent():
            found.append(
                f"nobody has acknowledged the last {self._schedule.timeouts - self._heard_at} deliveries: whether "
                "alerts were answered is not known, and none is sent again"
            )
        overdue = self._now() - self._schedule.oldest()
        if overdue > _STUCK:
            found.append(f"an alert waits {overdue:.0f} seconds longer than answer_deadline allows")
        return found

    def figures(self) -> dict[str, float]:
        """For metrics, cheap: what is under way and what was sent, the age of the oldest alert in seconds."""
        oldest = self._schedule.oldest()
        age = self._now() + self._settings.answer_deadline - oldest
        return {
            "deliveries_under_way": len(self._schedule.deliveries),
            "sick_hosts": len(self._schedule.sick_hosts()),
            "fleet_limit_reached": int(self._fleet.reached(self._wall())),
            "oldest_alert_seconds": max(0.0, age) if len(self._schedule) else 0.0,
            "delivery_timeouts_total": self._schedule.timeouts,
            "events_total": self._events,
            "unanswered_events_total": self._unanswered_events,
            "receipts_total": self._receipts,
        }

    async def drain(self, timeout: float) -> None:
        """Begin no delivery any more, and wait until those under way are answered, but not longer than that."""
        self._draining = True
        deadline = self._now() + timeout
        while (self._endings.untold or self._endings.tellings or self._under_way()) and (
            left := deadline - self._now()
        ) > 0:
            self._something_ended.clear()
            await _wait(self._something_ended, left)
        await self._endings.close((), promptly=True)

    def _arrived(self, accepted: Sequence[Accepted]) -> None:
        """Alerts wait, of before a restart or from now on."""
        now, wall = self._now(), self._wall()
        for item in accepted:
            alert = Open(
                item.seq,
                item.trace_id,
                item.severity,
                item.container,
                now + self._settings.answer_deadline - max(0.0, wall - item.received),
                item.body_bytes,
                item.raw_bytes,
                item.received,
                item.kind,
            )
            patterns = set()
            for host, known in item.hosts.items():
                if known and "outcome" in known:
                    self._endings.answered(alert, host, known)
                    continue
                known = known or {}
                alert.turns[host] = Turn(
                    known.get("attempts", 0), why=known.get("why", ""), told=known.get("told", False)
                )
                alert.lookup = alert.lookup or known.get("lookup", False)
                if known.get("pattern"):
                    patterns.add(host)
            alert.patterns = frozenset(patterns)
            if alert.turns:
                self._schedule.add(alert, now)
            else:
                self._left_over.append(alert)
        self._something_to_do.set()

    async def _take_turns(self) -> None:
        """Do what is to be done by now."""
        now = self._now()
        ended, self._left_over = self._left_over, []
        for alert in self._schedule.expire(now):
            for host, turn in alert.turns.items():
                self._not_answered(alert, host, turn)
            alert.turns.clear()
            ended.append(alert)
        if self._fleet.reached(self._wall()):
            for alert, host, turn in self._schedule.give_up_below(Severity.CRITICAL):
                self._held_back(alert, host, turn)
                ended.append(alert)
        if not self._draining:
            begun = self._schedule.plan(now)
            if begun:
                self._outbox.extend(begun)
                self._spool.note({alert.seq: known_of(alert) for delivery in begun for alert in delivery.alerts})
        if self._silent() and self._given_up != self._schedule.timeouts:
            self._given_up = self._schedule.timeouts
            for alert, host, turn in self._schedule.give_up_tried():
                self._not_answered(alert, host, turn)
                ended.append(alert)
        if self._outbox or self._endings.untold:
            self._something_to_send.set()
        await self._endings.close(ended)

    def _answered_by(self, host: str, digest: str) -> None:
        """A host has answered by the policy set with that digest."""
        if self._digests.get(host, digest) != digest:
            self._spool.forget_decided()  # the same alert may get another answer now
        self._digests[host] = digest
        self._confirmed(host, digest)

    def _not_answered(self, alert: Open, host: str, turn: Turn) -> None:
        why = turn.why or ("no_receipt" if turn.attempts else "not_delivered")
        record = {"outcome": "", "answers": False, "why": why, "attempts": turn.attempts, "told": turn.told}
        self._endings.answered(alert, host, record)

    def _held_back(self, alert: Open, host: str, turn: Turn) -> None:
        record = {
            "outcome": LIMIT,
            "answers": False,
            "why": "fleet_limit",
            "attempts": turn.attempts,
            "told": turn.told,
        }
        self._endings.answered(alert, host, record)

    def _judge(self, alert: Open, receipt: Receipt, answers: Sequence[Answer]) -> Outcome:
        """What a host's answer to an alert leads to."""
        turn = alert.turns[receipt.host]
        if answers:
            answer, again = verdict(answers, alert.severity == Severity.CRITICAL)
        elif receipt.state == UNKNOWN_HOST:
            answer, again = Answer(alert.trace_id, UNKNOWN_HOST), False
        else:
            state = receipt.state if receipt.state != "answered" else "no_answer"
            return Outcome(False, f"{state}: {receipt.message[:200]}" if receipt.message else state)
        meaning = OUTCOMES[answer.outcome]
        if again:
            if meaning.told == AT_ONCE and not turn.told:
                self._endings.tell(alert, receipt.host, answer.outcome, turn.attempts)
            return Outcome(False, answer.outcome)
        took = answer.milliseconds
        record = {
            "outcome": answer.outcome,
            "answers": meaning.answers,
            "why": answer.outcome,
            "attempts": turn.attempts,
            "told": turn.told
            or meaning.told == NOT_TOLD
            or (meaning.answers and meaning.told not in (FROM_CRITICAL_ON, AT_ONCE)),
            "container": {"id": answer.container.id, "name": answer.container.name} if answer.container else None,
            "policy_id": answer.policy_id,
            "record_id": answer.record_id,
            "milliseconds": round((self._wall() - alert.received) * 1000) if took is None else took,
        }
        return Outcome(True, answer.outcome, record)

    async def _send_all(self) -> t.NoReturn:
        """Hand over what is to be sent; what nobody answered goes first."""
        while True:
            self._something_to_send.clear()
            while self._may_tell() or (self._outbox and not self._draining):
                if self._may_tell():
                    self._tell_at = self._now() + self._settings.tell_interval
                    await self._endings.tell_some(self._hand_over, self._now, seen=self.runs is not None)
                    self._unanswered_events += 1
                else:
                    await self._send(self._outbox.popleft())
                self._something_ended.set()
            await _wait(self._something_to_send, self._tell_at - self._now() if self._can_tell() else _HOUR)

    def _may_tell(self) -> bool:
        """Whether it is time to tell what nobody answered; at a shutdown it is."""
        return self._can_tell() and (self._draining or self._now() >= self._tell_at)

    def _can_tell(self) -> bool:
        """Whether there is something to tell, and a place for it; at a shutdown deliveries need none any more."""
        return self._endings.untold > 0 and (self._draining or len(self._endings.tellings) < _TELLINGS)

    async def _watch(self, runs: PlaybookRuns) -> t.NoReturn:
        """See which playbook runs go on, and end those that are in the way of others."""
        while True:
            asked, known = self._now(), [*self._schedule.known_runs(), *self._endings.tellings]
            living = await asyncio.to_thread(runs.look, known)
            if self._schedule.look(living, asked):
                self._something_to_do.set()
            if await self._endings.look(living, asked):
                self._something_ended.set()
                self._something_to_send.set()
            delivery = self._schedule.in_the_way(self._now())
            if delivery:
                runs.end(delivery, "others wait for its place")
            await asyncio.sleep(runs.interval)

    async def _hand_over(self, event: Event) -> None:
        self._putting_since = self._now()
        try:
            await self._put(event)
        finally:
            self._putting_since = None
        self._events += 1

    async def _send(self, delivery: Delivery) -> None:
        try:
            contents = await self._spool.contents([alert.seq for alert in delivery.alerts], delivery.with_raw())
        except SpoolError:
            contents = {}
        delivery.alerts = [alert for alert in delivery.alerts if alert.seq in contents]
        event: Event = {}
        if delivery.alerts:
            event, number = written([contents[alert.seq] for alert in delivery.alerts])
            self._schedule.leave_out(delivery, number, self._now())
        self._something_to_do.set()
        if not event or not delivery.hosts:  # all was answered or has ended meanwhile, or cannot be read now
            self._schedule.take_back(delivery, self._now())
            return
        event["meta"] = {"hosts": list(delivery.hosts)}
        if self._settings.receipts:
            event["delivery"] = self._delivery(delivery)
        await self._hand_over(event)
        if self._settings.receipts:
            self._schedule.emitted(delivery, self._now())
        else:
            over = []
            for alert, host, turn in self._schedule.hand_over(delivery):
                alert.answers[host] = {"outcome": "", "answers": None, "attempts": turn.attempts, "told": True}
                over.append(alert)
            await self._endings.close(over)
        self._something_to_do.set()

    def _delivery(self, delivery: Delivery) -> dict[str, t.Any]:
        """What the event says of itself."""
        longest = max(alert.deadline for alert in delivery.alerts) - self._now()
        until = self._wall() + max(longest, self._settings.answer_timeout) + _GRACE
        deadline = timestamp.format_timestamp(datetime.datetime.fromtimestamp(until, datetime.UTC))
        trace_ids = [alert.trace_id for alert in delivery.alerts]
        # Without an address receipts are handed on, as artifacts of a job.
        address = {"receipt_url": self.receipt_url} if self.receipt_url else {}
        claim = Claim(delivery.id, tuple(delivery.hosts), delivery.pattern, deadline, tuple(trace_ids))
        return {
            "id": delivery.id,
            "hosts": list(delivery.hosts),
            "pattern": delivery.pattern,
            "deadline": deadline,
            **address,
            "capability": capability(self._spool.key, claim),
        }

    async def _wait(self) -> None:
        """Until there may be something to do."""
        await _wait(self._something_to_do, self._schedule.wake_at(self._now()) - self._now())

    def _silent(self) -> bool:
        """Whether receipts stay out: then what was delivered may have been answered, and would be over and over."""
        return self._settings.receipts and self._schedule.timeouts - self._heard_at >= _SILENCE

    def _under_way(self) -> bool:
        return bool(self.under_way())


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, but not longer than that."""
    try:
        await asyncio.wait_for(event.wait(), min(max(seconds, 0.0), _HOUR))
    except TimeoutError:
        return
