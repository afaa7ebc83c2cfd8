# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How alerts end: somebody is told what was not answered, the log says what became of each, the history keeps it."""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import typing as t
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    AT_ONCE,
    FROM_CRITICAL_ON,
    OUTCOMES,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accounting import (
    ANSWERED,
    HANDED_OVER,
    UNANSWERED,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import leading
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.schedule import Open
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Ended, Spool, SpoolError

logger = logging.getLogger(__name__)

Event = dict[str, t.Any]
Json = t.Any

_TOLD = 500
"""Unanswered alerts in an event at most."""
_TOLD_BYTES = 65_536
"""Such an event at most, as JSON. It is written while nothing else is done, as all events, but there is one in ten
seconds."""
_FRAME_BYTES = 128
_UNWRITTEN = 1.0
"""Seconds between two writings of what is known of alerts that ask many hosts."""
_FEW_HOSTS = 16
_BEGINS_WITHIN = 60.0
"""Seconds after which the engine has begun whatever the event leads to, which may be no run that one sees."""
_NOT_YET = float("inf")


class _Untold(t.NamedTuple):
    """What somebody is to be told: that a host did not answer an alert, or how it did, and why."""

    alert: Open
    host: str
    why: str
    attempts: int


@dataclasses.dataclass
class _Telling:
    """An event of what somebody is told, on its way to them.

    Attributes:
        items: what it tells.
        since: when the engine took it.
        begun: whether its run was seen.
    """

    items: list[_Untold]
    since: float = _NOT_YET
    begun: bool = False


def known_of(alert: Open) -> dict[str, Json]:
    """What is to be remembered of the hosts of an alert that waits."""
    known = dict(alert.answers)
    for host, turn in alert.turns.items():
        known[host] = {"attempts": turn.attempts, "why": turn.why, "told": turn.told}
        if alert.lookup:
            known[host].update(lookup=True, pattern=host in alert.patterns)
    return known


class Endings:
    """Alerts that have ended, or about which somebody is to be told.

    Args:
        spool: that they are in.
        wall: seconds since the epoch.
    """

    def __init__(self, spool: Spool, wall: Callable[[], float]) -> None:
        self._spool = spool
        self._wall = wall
        self._unwritten: dict[int, Open] = {}  # by number
        self._written_at = float("-inf")
        self._queue: collections.deque[_Untold] = collections.deque()
        self._tellings: dict[str, _Telling] = {}  # by id of the event
        self._pending: dict[int, set[str]] = {}  # hosts of what is in either, by number of the alert

    @property
    def untold(self) -> int:
        """How much somebody is still to be told."""
        return len(self._queue)

    @property
    def tellings(self) -> list[str]:
        """Ids of the events whose runs have not ended yet, as far as anybody knows."""
        return list(self._tellings)

    def answered(self, alert: Open, host: str, record: dict[str, Json]) -> None:
        """A host gave its final answer, or none in time.

        Where it is none and C(told) is false, somebody is told; so, too, where the answer is one to be told at once.
        """
        alert.answers[host] = record
        at_once = record["answers"] and OUTCOMES[record["outcome"]].told == AT_ONCE
        if not record["told"] and (at_once or not record["answers"]):
            self.tell(alert, host, record["why"], record["attempts"])

    def tell(self, alert: Open, host: str, why: str, attempts: int) -> None:
        """Have somebody told of an alert and a host, once. C(told) is noted when they were."""
        pending = self._pending.setdefault(alert.seq, set())
        if host in pending:
            return
        pending.add(host)
        logger.error(
            "Alert %s %s: host %s, container %s, %s, after %d deliveries",
            alert.trace_id,
            "is to be looked at" if alert.answers.get(host, {}).get("answers") else "is not answered",
            host,
            alert.container or "not known",
            why,
            attempts,
        )
        self._queue.append(_Untold(alert, host, why, attempts))

    async def tell_some(self, put: Callable[[Event], Awaitable[None]], now: Callable[[], float], seen: bool) -> None:
        """Put an event of what is to be told.

        It was told once the run of the event has ended: until then it is told again after a restart.

        Args:
            put: hands over an event.
            now: seconds, of a clock that is never set.
            seen: whether somebody sees the runs, and calls L(look). Where nobody does, what was put was told.
        """
        items = [self._queue[number] for number in range(min(_TOLD, len(self._queue)))]
        try:
            contents = await self._spool.contents({item.alert.seq for item in items}, ())
        except SpoolError:
            contents = {}
        entries: list[dict[str, Json]] = []
        room = _TOLD_BYTES - _FRAME_BYTES
        for item in items:
            entry = _entry(item, contents.get(item.alert.seq, {}))
            room -= len(json.dumps(entry)) + 2
            if entries and room < 0:
                break
            entries.append(entry)
        event = str(uuid.uuid4())
        telling = self._tellings[event] = _Telling(items[: len(entries)])
        try:
            await put({"unanswered": entries, "id": event, "meta": {}})
        except BaseException:
            del self._tellings[event]
            raise
        for _item in telling.items:
            self._queue.popleft()
        telling.since = now()
        if not seen:
            await self._have_told([event])

    async def look(self, living: Collection[str], asked: float) -> bool:
        """Somebody saw which runs live. Returns whether something was told now.

        Args:
            living: the ids of their events.
            asked: when it was asked for.
        """
        over = []
        for event, telling in self._tellings.items():
            telling.begun = telling.begun or event in living
            waited = asked - telling.since
            if event not in living and waited >= (0.0 if telling.begun else _BEGINS_WITHIN):
                over.append(event)
        if over:
            await self._have_told(over)
        return bool(over)

    async def _have_told(self, events: Iterable[str]) -> None:
        told = [item for event in events for item in self._tellings.pop(event).items]
        for item in told:
            self._note_told(item.alert, item.host)
        await self.close((item.alert for item in told), promptly=True)

    async def close(self, alerts: Iterable[Open], *, promptly: bool = False) -> None:
        """Move alerts to the history that are over, and write what is known of the others.

        Of an alert that asks many hosts that is written once a second, unless it is to be written promptly: it costs as
        much as there are hosts, and each of them sends a receipt. Where it is lost they are asked again, and say what
        they said.
        """
        ended: list[tuple[Open, Ended]] = []
        for alert in alerts:
            if alert.over:
                continue
            self._tell_of_end(alert)
            if alert.turns or alert.seq in self._pending:
                self._unwritten[alert.seq] = alert
            else:
                alert.over = True
                self._unwritten.pop(alert.seq, None)
                ended.append((alert, self._ended(alert)))
        progress = self._to_be_written(promptly)
        if ended or progress:
            await self._spool.settle([item for _alert, item in ended], progress)
        for alert, item in ended:
            _log(alert, item)

    def _to_be_written(self, promptly: bool) -> dict[int, Mapping[str, Json]]:
        now = self._wall()
        if promptly or abs(now - self._written_at) >= _UNWRITTEN:
            self._written_at = now
            written = self._unwritten
        else:
            written = {
                seq: alert
                for seq, alert in self._unwritten.items()
                if len(alert.turns) + len(alert.answers) <= _FEW_HOSTS
            }
        self._unwritten = {seq: alert for seq, alert in self._unwritten.items() if seq not in written}
        return {seq: known_of(alert) for seq, alert in written.items()}

    def _tell_of_end(self, alert: Open) -> None:
        """Where nothing more is awaited and no host had a better answer, a critical alert may end in an open question.

        Of hosts that are asked as nobody knows whose it is, all but one have no such container: so not before the end.
        """
        if alert.turns or alert.severity < Severity.CRITICAL:
            return
        outcome = leading(record["outcome"] for record in alert.answers.values())
        if outcome and OUTCOMES[outcome].told == FROM_CRITICAL_ON:
            ended_so = {host: record for host, record in alert.answers.items() if record["outcome"] == outcome}
            if not any(record["told"] for record in ended_so.values()):
                host, record = next(iter(ended_so.items()))
                self.tell(alert, host, outcome, record["attempts"])

    def _note_told(self, alert: Open, host: str) -> None:
        self._pending[alert.seq].discard(host)
        if not self._pending[alert.seq]:
            del self._pending[alert.seq]
        if host in alert.answers:
            alert.answers[host]["told"] = True
        elif host in alert.turns:
            alert.turns[host].told = True

    def _ended(self, alert: Open) -> Ended:
        records = alert.answers.values()
        if any(record["answers"] is False for record in records):
            account = UNANSWERED
        elif all(record["answers"] for record in records):
            account = ANSWERED
        else:
            account = HANDED_OVER
        outcome = leading(record["outcome"] for record in records)
        return Ended(
            alert.seq, alert.trace_id, self._wall(), account, outcome, alert.answers, alert.body_bytes + alert.raw_bytes
        )


def _entry(item: _Untold, alert: Mapping[str, Json]) -> dict[str, Json]:
    container = alert.get("container") or {}
    return {
        "trace_id": item.alert.trace_id,
        "id": alert.get("id", ""),
        "host": item.host,
        "source": alert.get("source", ""),
        "rule": alert.get("rule", ""),
        "severity": alert.get("severity", ""),
        "container": {"id": container.get("id", ""), "name": container.get("name", "")},
        "why": item.why,
        "attempts": item.attempts,
        "received_at": alert.get("received_at", ""),
    }


def _log(alert: Open, ended: Ended) -> None:
    """One line for each alert that has ended."""
    host, record = next((host, record) for host, record in ended.hosts.items() if record["outcome"] == ended.outcome)
    container = record.get("container") or {}
    logger.info(
        "Alert %s has ended: %s, %s, host %s, container %s, policy %s, %d ms",
        alert.trace_id,
        ended.account,
        ended.outcome or "no outcome",
        host,
        container.get("name") or container.get("id") or alert.container or "none",
        record.get("policy_id") or "none",
        record.get("milliseconds") or round((ended.at - alert.received) * 1000),
    )
