# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spool: an alert that was accepted is on disk until it was answered, or somebody was told that it was not."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import secrets
import sqlite3
import stat
import time
import typing as t
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import write_atomically
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import writer
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accounting import (
    AT_THE_DOOR,
    RECEIVED,
    Accounts,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.database import (
    Database,
    Ended,
    Json,
    Row,
    encode,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.dedup import Dedup, key_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.room import Place, Room
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.writer import SpoolError

_KEY = "key"
_LOCK = "lock"
_HOST_COST = 8
"""What an alert takes in memory for each byte that names its hosts: one whose host nobody knows may ask hundreds."""
_AT_THE_DOOR = frozenset(AT_THE_DOOR)
_KIND = 32
"""Letters of source and rule by which kinds of alerts are told apart."""
_COUNTS_WAIT = 1.0
"""Seconds for which counts of elements that are not stored may wait to be written."""
_DAY, _HOUR = 86_400, 3_600

__all__ = ["Accepted", "Ended", "Offer", "Spool", "SpoolError", "SpoolLimits", "Stored", "trace"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpoolLimits:
    """How much is kept, and for how long.

    Attributes:
        max_bytes: of alerts that wait.
        max_alerts: that wait.
        senders: how many there may be: they share the room.
        history_days: for which alerts that ended are kept.
        history_max_bytes: of alerts that ended; the oldest go first.
        raw_hours: for which the message as received is kept with an alert that ended.
        fold_isolated: seconds after an isolation within which the same alert is folded into the one that led to it.
        fold_decided: seconds after the outcomes no_policy, protected and audit within which the same alert is folded.
    """

    max_bytes: int = 268_435_456
    max_alerts: int = 100_000
    senders: int = 1
    history_days: float = 7
    history_max_bytes: int = 209_715_200
    raw_hours: float = 24
    fold_isolated: float = 10
    fold_decided: float = 10


@dataclasses.dataclass(frozen=True)
class Offer:
    """An alert to be stored.

    Attributes:
        alert: with its C(inventory_host), or without where it is not known.
        targets: inventory hosts that are to answer, at least one. Where the alert has no C(inventory_host), each may
            be a pattern or group as well, such as C(all).
        expanded: none of the targets is a pattern or group. It need not be said of an alert with C(inventory_host).
        sender: name of whose it is, whose share of the room it takes.
    """

    alert: Alert
    targets: tuple[str, ...]
    expanded: bool = False
    sender: str = ""


@dataclasses.dataclass(frozen=True)
class Stored:
    """What became of an offer.

    Attributes:
        trace_id: of the alert.
        folded_into: trace id of the alert with which it is answered, or empty.
    """

    trace_id: str
    folded_into: str = ""


@dataclasses.dataclass(frozen=True)
class Accepted:
    """An alert that waits.

    Attributes:
        seq: its number; later alerts have higher ones.
        trace_id: of the alert.
        severity: 0 to 4.
        container: short text by which alerts about one container are told apart from those about another.
        received: seconds since the epoch.
        body_bytes: of its JSON, without the message as received.
        raw_bytes: of the message as received, base64.
        hosts: those that are to answer, or patterns -> None, or what is known of it, as it was last noted. With
            C(lookup) true nobody knows of which host the alert is, with C(pattern) true it may be a pattern.
        kind: short text by which alerts of one rule are told apart from those of another.
    """

    seq: int
    trace_id: str
    severity: int
    container: str
    received: float
    body_bytes: int
    raw_bytes: int
    hosts: Mapping[str, Json]
    kind: str = ""


class Spool:
    """Made by L(open). All methods are for the thread of the event loop; a thread of its own writes."""

    def __init__(self, directory: pathlib.Path, limits: SpoolLimits, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._limits = limits
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lock = _locked(directory)
        self._writer = writer.Writer(
            directory,
            Dedup(limits.fold_isolated, limits.fold_decided),
            clock,
            (limits.history_days * _DAY, limits.raw_hours * _HOUR, limits.history_max_bytes),
            self._answered,
        )
        self._key = b""
        self._remembered: dict[str, Json] = {}
        self._room = Room(limits.max_alerts, limits.max_bytes, limits.senders)
        self._accounts = Accounts()
        self._counts: collections.Counter[str] = collections.Counter()
        self._leaving: collections.Counter[str] = collections.Counter()
        self._open: list[Accepted] = []
        self._asked: list[writer.Asked] = []  # in this turn of the loop
        self._watcher: Callable[[Sequence[Accepted]], None] | None = None
        self._end_watcher: Callable[[Sequence[str], Mapping[str, str]], None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, directory: pathlib.Path, limits: SpoolLimits | None = None, clock: Callable[[], float] = time.time
    ) -> Spool:
        """Open the spool in a directory, which is made (0700) where it is missing.

        Raises SpoolError: C(spool_in_use) where another process has it, else C(spool_unusable).
        """
        try:
            _prepare(directory)
            spool = cls(directory, limits or SpoolLimits(), clock)
        except OSError as error:
            raise SpoolError(
                f"the spool in {directory} cannot be used: {error}",
                remedy="Check the directory, its owner and its disk",
            ) from error
        try:
            spool._key = _secret(directory)
            rows, spool._remembered = await asyncio.to_thread(spool._writer.start)
        except BaseException as error:
            os.close(spool._lock)
            if isinstance(error, OSError):
                raise SpoolError(f"the key of the spool in {directory} cannot be used: {error}") from error
            raise
        spool._take_over(rows)
        return spool

    async def store(
        self,
        offers: Sequence[Offer],
        counts: Mapping[str, int] | None = None,
        position: tuple[str, Json] | None = None,
    ) -> list[Stored]:
        """Put alerts on disk, all or none, with what else is known of the same request or batch of lines.

        Returns once they are synced to disk, in the order of the offers. Without offers and position the counts are
        written within a second, and nothing is waited for.

        Args:
            offers: each is stored, or folded into an earlier one.
            counts: elements that are not offered: C(rejected), C(dropped), C(passed_over). C(received) may be said,
                and is then the number of all elements, offers included.
            position: name of a followed file or a partition, and how far it is read.

        Raises:
            SpoolError: nothing was stored, and no position; the same may be offered again later.
            ValueError: the counts do not add up, or an offer has no targets.
        """
        counts = _checked(counts or {}, len(offers))
        if not all(offer.targets for offer in offers):
            raise ValueError("an alert that concerns no host cannot be answered")
        if self._closed:
            raise SpoolError("the intake is shutting down", kind="shutting_down", remedy="Send again")
        if not offers and position is None:
            self._count(counts)
            return []
        now = self._clock()
        taken: set[str] = set()
        rows = self._reserved([_row(self._with_own_trace_id(offer, taken), now) for offer in offers])
        request = writer.Store(rows, counts, dict([position]) if position else {})
        placed = await self._ask(request)
        return [Stored(row.trace_id, place.folded_into) for row, place in zip(rows, placed, strict=True)]

    def position(self, name: str) -> Json | None:
        """What was last remembered by that name."""
        return self._remembered.get(name)

    async def remember(self, name: str, value: Json) -> None:
        """Keep a JSON value by name, such as the port for receipts. Raises SpoolError."""
        await self._ask(writer.Store((), {}, {name: value}))

    @property
    def key(self) -> bytes:
        """The secret behind capabilities, made once."""
        return self._key

    @property
    def accounts(self) -> dict[str, int]:
        """Numbers of elements: C(received) is the sum of all others, C(waiting) among them. Cheap."""
        accounts = self._accounts.copy()
        accounts.arrive(counts=self._counts + self._leaving)
        return accounts.shown()

    def figures(self) -> dict[str, float]:
        """For metrics: C(waiting_alerts), C(waiting_bytes), C(history_alerts), C(history_bytes). Cheap."""
        number, size = self._writer.history
        return {
            "waiting_alerts": self._room.alerts,
            "waiting_bytes": self._room.bytes,
            "history_alerts": number,
            "history_bytes": size,
        }

    def troubles(self) -> list[str]:
        """Why nothing can be stored at the moment, or nothing more of a sender; empty where it can."""
        return [*([self._writer.trouble] if self._writer.trouble else []), *self._room.troubles()]

    def forget_decided(self) -> None:
        """Fold nothing into alerts that have ended: policies have changed, and the answer may be another one."""
        self._have_done(writer.Forget(), None)

    async def trace(self, trace_id: str) -> dict[str, Json] | None:
        """What is known of an alert that waits or has ended, as L(trace) returns it. Raises SpoolError."""
        found: dict[str, Json] | None = await self._ask(writer.Read(lambda database: database.trace(trace_id)))
        return found

    async def close(self) -> None:
        """Write what is still to be written, and give the directory back."""
        if not self._closed:
            self._write_counts()
            self._closed = True
            self._hand_over()
            await asyncio.to_thread(self._writer.stop)
            os.close(self._lock)

    # For what is given back once it was answered.

    def waiting(self) -> list[str]:
        """Trace ids of all alerts that wait."""
        return list(self._room)

    def waits(self, trace_id: str) -> bool:
        """Whether an alert waits."""
        return trace_id in self._room

    def watch_ends(self, watcher: Callable[[Sequence[str], Mapping[str, str]], None]) -> None:
        """Have a function called with the trace ids of alerts that have ended.

        Its other argument are those of alerts that wait in their place, as the last repeat of one that has ended asks
        another question.
        """
        self._end_watcher = watcher

    # For the deliveries.

    def watch(self, watcher: Callable[[Sequence[Accepted]], None]) -> None:
        """Have a function called with what waits, now and whenever something was stored."""
        self._watcher = watcher
        waiting, self._open = self._open, []
        if waiting:
            watcher(waiting)

    async def contents(self, seqs: Iterable[int], raw_seqs: Iterable[int]) -> dict[int, dict[str, Json]]:
        """Alerts that wait, as they go into an event, by number. Those that are not there any more are left out.

        Args:
            seqs: their numbers.
            raw_seqs: of those whose C(raw) is wanted; it is empty in the others.

        Raises SpoolError.
        """
        seqs, raw_seqs = list(seqs), list(raw_seqs)

        def look(database: Database) -> tuple[dict[int, dict[str, Json]], dict[int, str]]:
            return database.bodies(seqs), database.raws(raw_seqs) if raw_seqs else {}

        bodies, raws = await self._ask(writer.Read(look))
        for seq, alert in bodies.items():
            alert["raw"] = raws.get(seq, "")
        return t.cast("dict[int, dict[str, Json]]", bodies)

    def note(self, progress: Mapping[int, Mapping[str, Json]]) -> None:
        """Write what is known of the hosts of alerts, by number, before long."""
        self._have_done(writer.Settle(progress=progress), None)

    async def settle(self, ended: Sequence[Ended], progress: Mapping[int, Mapping[str, Json]] | None = None) -> None:
        """Move alerts that have ended to the history, and write what is known of others.

        Returns once it is on disk. Where it cannot be written now, it is as soon as it can.
        """
        await self._ask(writer.Settle(ended, progress or {}))

    def _ask(self, request: writer.Request) -> asyncio.Future[t.Any]:
        future: asyncio.Future[t.Any] = self._loop.create_future()
        if self._closed:
            future.set_exception(SpoolError("the spool is closed", kind="shutting_down"))
        else:
            self._have_done(request, (request, future))
        return future

    def _have_done(self, request: writer.Request, token: object) -> None:
        """Ask the writer, at the next turn of the loop: what came together is one transaction, and wakes it once."""
        if not self._asked:
            self._loop.call_soon(self._hand_over)
        self._asked.append((request, token))

    def _hand_over(self) -> None:
        asked, self._asked = self._asked, []
        if asked:
            self._writer.ask(asked)

    def _answered(self, answers: list[writer.Answer]) -> None:
        """In the thread of the writer."""
        if answers:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._take_answers, answers, self._writer.accounts)

    def _take_answers(self, answers: list[writer.Answer], accounts: Accounts) -> None:
        self._accounts = accounts
        stored: list[Accepted] = []
        ended: list[str] = []
        again: dict[str, str] = {}
        for token, answer in answers:
            if token is None:
                continue
            if token is writer.COMES_AGAIN:
                self._room.take(_places(answer.values()))
                stored += [_accepted(row, row.seq) for row in answer.values()]
                again.update({before: row.trace_id for before, row in answer.items()})
                continue
            request, future = token
            if isinstance(request, writer.Store):
                stored += self._settle_store(request, answer)
            elif isinstance(request, writer.Settle):
                self._room.give_back(item.trace_id for item in request.ended)
                ended += [item.trace_id for item in request.ended]
                self._leaving.subtract(request.counts)
            if future.done():
                continue
            if isinstance(answer, SpoolError):
                future.set_exception(answer)
            else:
                future.set_result(answer)
        if self._end_watcher and (ended or again):
            self._end_watcher(ended, again)
        if stored:
            if self._watcher:
                self._watcher(stored)
            else:
                self._open += stored

    def _settle_store(self, request: writer.Store, answer: list[writer.Placed] | SpoolError) -> list[Accepted]:
        if isinstance(answer, SpoolError):
            self._room.give_back(row.trace_id for row in request.rows)
            return []
        self._remembered.update(request.remembered)
        placed = list(zip(request.rows, answer, strict=True))
        self._room.give_back(row.trace_id for row, place in placed if place.folded_into)
        return [_accepted(row, place.seq) for row, place in placed if not place.folded_into]

    def _take_over(self, rows: Sequence[Row]) -> None:
        self._accounts = self._writer.accounts
        self._open = [_accepted(row, row.seq) for row in rows]
        self._room.take(_places(rows))

    def _with_own_trace_id(self, offer: Offer, taken: set[str]) -> Offer:
        """The offer, with another trace id where one that waits has the same: senders may choose it."""
        if offer.alert.trace_id in self._room or offer.alert.trace_id in taken:
            offer = dataclasses.replace(offer, alert=dataclasses.replace(offer.alert, trace_id=str(uuid.uuid4())))
        taken.add(offer.alert.trace_id)
        return offer

    def _reserved(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The rows, for which there is room from now on; messages as received are left out before they are refused."""
        places = _places(rows)
        if self._room.refusal(places, with_raw=True):
            rows = [row._replace(raw="", raw_bytes=0) for row in rows]
            places = _places(rows)
            if full := self._room.refusal(places):
                raise SpoolError(full, kind="spool_full", remedy="Send again later, or see why alerts are not answered")
        self._room.take(places)
        return rows

    def _count(self, counts: Mapping[str, int]) -> None:
        if not self._counts:
            self._loop.call_later(_COUNTS_WAIT, self._write_counts)
        for name, number in counts.items():
            self._counts[name] += number

    def _write_counts(self) -> None:
        if self._counts:
            counts, self._counts = self._counts, collections.Counter()
            self._leaving.update(counts)
            self._ask(writer.Settle(counts=counts))


def trace(directory: pathlib.Path, trace_id: str) -> dict[str, Json] | None:
    """What the spool in a directory knows of an alert, for another process; the spool may be in use.

    C({"trace_id", "state": "waiting" or an account of ENDS, "outcome", "received", "ended" (seconds since the epoch),
    "folded", "hosts": {host: {"outcome", "policy_id", "record_id", "container", "milliseconds", "attempts", "why"} or
    None}, "alert": {...}}). Raises SpoolError.
    """
    with _looking_into(directory) as database:
        return database.trace(trace_id)


def waiting(directory: pathlib.Path) -> int:
    """How many alerts in the spool of a directory are not answered yet, for another process. Raises SpoolError."""
    with _looking_into(directory) as database:
        return sum(1 for _row in database.waiting())


@contextlib.contextmanager
def _looking_into(directory: pathlib.Path) -> Iterator[Database]:
    try:
        with contextlib.closing(Database(directory, read_only=True)) as database:
            yield database
    except (sqlite3.Error, OSError, ValueError) as error:
        raise SpoolError(
            f"the spool in {directory} cannot be read: {error}", remedy="Check its path, and that it is yours to read"
        ) from error


def _checked(counts: Mapping[str, int], offered: int) -> dict[str, int]:
    """The counts of elements that are not offered. Raises ValueError."""
    others = {name: number for name, number in counts.items() if number and name != RECEIVED}
    received = offered + sum(others.values())
    if (
        not others.keys() <= _AT_THE_DOOR
        or min(others.values(), default=0) < 0
        or counts.get(RECEIVED, received) != received
    ):
        raise ValueError(f"{dict(counts)} and {offered} offers do not add up")
    return others


def _row(offer: Offer, now: float) -> Row:
    alert = offer.alert.to_dict()
    raw = alert.pop("raw")
    body = encode(alert)
    known = None if offer.alert.inventory_host else {"lookup": True, "pattern": not offer.expanded}
    hosts = encode(dict.fromkeys(offer.targets, known))
    return Row(
        0,
        offer.alert.trace_id,
        key_of(offer.alert, offer.targets),
        now,
        int(offer.alert.severity),
        _container(offer.alert),
        hosts,
        len(body),
        len(raw),
        body,
        raw,
        offer.sender,
        _kind(offer.alert),
    )


def _places(rows: Iterable[Row]) -> dict[str, Place]:
    return {
        row.trace_id: Place(row.sender, row.severity, row.body_bytes + row.raw_bytes + _HOST_COST * len(row.hosts))
        for row in rows
    }


def _container(alert: Alert) -> str:
    container = alert.container
    other = container.pid or ",".join(container.addresses)
    return container.id[:12] or container.name or str(other)


def _kind(alert: Alert) -> str:
    return f"{alert.source[:_KIND]}/{alert.rule[:_KIND]}"


def _accepted(row: Row, seq: int) -> Accepted:
    return Accepted(
        seq,
        row.trace_id,
        row.severity,
        row.container,
        row.received,
        row.body_bytes,
        row.raw_bytes,
        json.loads(row.hosts),
        row.kind,
    )


def _prepare(directory: pathlib.Path) -> None:
    """Make the directory and see that it is ours. Raises OSError."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{directory} is not a directory of this user")
    if stat.S_IMODE(found.st_mode) != 0o700:
        directory.chmod(0o700)


def _locked(directory: pathlib.Path) -> int:
    """The descriptor that holds the lock of a spool. Raises OSError, SpoolError."""
    descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        raise SpoolError(
            f"another process has the spool in {directory}",
            kind="spool_in_use",
            remedy="Give each rulebook a spool of its own",
        ) from None
    return descriptor


def _secret(directory: pathlib.Path) -> bytes:
    """The secret in a spool, made where there is none. Raises OSError."""
    path = directory / _KEY
    with contextlib.suppress(FileNotFoundError):
        found = path.read_bytes()
        if len(found) >= 32:
            return found
    write_atomically(str(path), secrets.token_hex(32), 0o600)
    return path.read_bytes()
