# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The thread that writes: what arrives while one transaction is synced to disk is the next one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import pathlib
import queue
import sqlite3
import threading
import typing as t
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import ISOLATED
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accounting import Accounts
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.database import (
    Database,
    Ended,
    Json,
    Row,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.dedup import BY_TIME, Dedup, First

logger = logging.getLogger(__name__)

_RETRY = 1.0
"""Seconds until what could not be written is tried again, where nothing else is to be written."""
_TIDY = 60.0
"""Seconds between two looks at what of the history is too old or too much."""
_TAKEN = 1000
"""Requests after which no more are taken into a transaction."""


class SpoolError(GuardError):
    """Nothing was stored. Kinds: C(spool_full), C(spool_unusable), C(spool_in_use), C(shutting_down)."""

    default_kind = "spool_unusable"


@dataclasses.dataclass
class Store:
    """Alerts of one request, to be stored all or none. The answer is a list of L(Placed).

    Attributes:
        rows: without numbers.
        counts: elements of the same request that are not stored.
        remembered: values by name.
    """

    rows: Sequence[Row]
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    remembered: Mapping[str, Json] = dataclasses.field(default_factory=dict)


class Placed(t.NamedTuple):
    """Where an alert has gone: its number, or the trace id of the one that it was folded into."""

    seq: int
    folded_into: str


@dataclasses.dataclass
class Settle:
    """What must be written some time: it has happened, whatever the disk does. The answer is None.

    Attributes:
        ended: alerts that have ended.
        progress: what is known of the hosts of alerts that wait, by number.
        counts: elements that are not stored.
    """

    ended: Sequence[Ended] = ()
    progress: Mapping[int, Mapping[str, Json]] = dataclasses.field(default_factory=dict)
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Read:
    """A look at the database. The answer is what C(look) returns."""

    look: Callable[[Database], t.Any]


@dataclasses.dataclass
class Forget:
    """Fold nothing into alerts that have ended. The answer is None."""


Request = Store | Settle | Read | Forget
Asked = tuple[Request, t.Any]
"""A request, and the token that comes with its answer."""
Answer = tuple[t.Any, t.Any]
"""The token that came with a request; and its answer, or the SpoolError."""
COMES_AGAIN = object()
"""Token of alerts that wait from now on and nobody offered; the answer are their rows, by trace id of the former."""


class Writer:
    """The thread, the only one that has the database.

    Args:
        directory: of the spool.
        dedup: empty.
        clock: seconds since the epoch.
        keep: seconds for which alerts that ended are kept, the same for their raw messages, and bytes of them at most.
        answered: is called in the thread with the answers to some requests.

    Attributes:
        accounts: as they are on disk. Replaced, never changed.
        history: number and bytes of alerts that have ended; a little less than there are.
        trouble: why nothing can be written, or empty.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        dedup: Dedup,
        clock: Callable[[], float],
        keep: tuple[float, float, int],
        answered: Callable[[list[Answer]], None],
    ) -> None:
        self.accounts = Accounts()
        self.history = (0, 0)
        self.trouble = ""
        self._directory = directory
        self._dedup = dedup
        self._clock = clock
        self._keep = keep
        self._answered = answered
        self._requests: queue.SimpleQueue[Sequence[Asked] | None] = queue.SimpleQueue()
        self._database: Database | None = None
        self._last_seq = 0
        self._owed = _Owed()
        self._doubtful = False
        self._tidied = clock()
        self._untidy = False
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> tuple[list[Row], dict[str, Json]]:
        """Open the database and start the thread. Returns what waits, and what is remembered. Raises SpoolError."""
        try:
            database = Database(self._directory)
            rows, remembered = list(database.waiting()), database.remembered()
            self.accounts = Accounts(database.accounts())
            self.history = database.history()
            self._last_seq = database.last_seq()
            now = self._clock()
            for row in rows:
                if not _is_answered(json.loads(row.hosts)):
                    self._dedup.add(row.key, row.seq, row.trace_id)
            for key, seq, trace_id, outcome, ended in database.ended_since(now - self._dedup.longest):
                self._dedup.recall(key, seq, trace_id, outcome, ended, now)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise self._unusable(error) from error
        self._database = database
        self._thread.start()
        return rows, remembered

    def ask(self, requests: Sequence[Asked]) -> None:
        """Have requests done. What is asked first is done first."""
        self._requests.put(requests)

    def stop(self) -> None:
        """Have no more done than was asked for, and wait for that."""
        self._requests.put(None)
        self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            requests, going = self._take()
            try:
                answers = self._do(requests)
            except Exception as error:  # whoever waits must hear of it
                logger.exception("The spool failed")
                answers = [(token, self._unusable(error)) for _request, token in requests]
            self._answered(answers)
            if self._untidy or self.history[1] > self._keep[2] or abs(self._clock() - self._tidied) > _TIDY:
                self._tidied, self._untidy = self._clock(), self._tidy()
        if self._database:
            self._database.close()

    def _take(self) -> tuple[list[Asked], bool]:
        """What is to be done now, and whether there may be more."""
        taken: list[Asked] = []
        with contextlib.suppress(queue.Empty):
            item = self._requests.get(timeout=_RETRY if self._owed or self._untidy or self.trouble else _TIDY)
            while item is not None and len(taken) < _TAKEN:
                taken += item
                item = self._requests.get_nowait()
            if item is None:
                return taken, False
            taken += item
        return taken, True

    def _do(self, requests: Sequence[Asked]) -> list[Answer]:
        now = self._clock()
        stores: list[tuple[Store, t.Any, list[Placed]]] = []
        rows: list[Row] = []
        repeats: dict[int, Row] = {}
        folds: list[First] = []
        answers: list[Answer] = []
        seq = self._last_seq
        for request, token in requests:
            if isinstance(request, Settle):
                ended = [self._ended(item, now) for item in request.ended]
                self._owed.add(ended, request)
                for number, hosts in request.progress.items():
                    if _is_answered(hosts):
                        self._dedup.answered(number)
                answers.append((token, None))
            elif isinstance(request, Store):
                placed = []
                for row in request.rows:
                    first = self._dedup.first(row.key, now)
                    if first and self._answers(first, row):
                        first.folded += 1
                        folds.append(first)
                        if first.until is None:
                            repeats[first.seq] = row
                        placed.append(Placed(0, first.trace_id))
                        continue
                    seq += 1
                    self._dedup.add(row.key, seq, row.trace_id)
                    rows.append(row._replace(seq=seq))
                    placed.append(Placed(seq, ""))
                stores.append((request, token, placed))
            elif isinstance(request, Forget):
                self._dedup.forget_ended()
                answers.append((token, None))
        owed = self._owed
        # Where something is wrong, it is looked whether it still is: who goes by /healthz sends nothing meanwhile.
        error = self._write(stores, rows, repeats) if stores or owed or self.trouble else None
        if error is None:
            answers += [(token, placed) for _store, token, placed in stores]
            answers += [(COMES_AGAIN, dict(owed.again))] if owed.again else []
        else:
            for row in rows:
                self._dedup.withdraw(row.seq)
            for first in folds:
                first.folded -= 1
            answers += [(token, error) for _store, token, _placed in stores]
        answers += [(token, self._read(request)) for request, token in requests if isinstance(request, Read)]
        return answers

    def _write(
        self,
        stores: Sequence[tuple[Store, t.Any, list[Placed]]],
        rows: Sequence[Row],
        repeats: Mapping[int, Row],
    ) -> SpoolError | None:
        """One transaction. Returns the error; nothing was written then.

        Args:
            stores: what was asked for.
            rows: of that what is stored.
            repeats: of that the last repeat of each alert that is open, by number.
        """
        accounts, owed = self.accounts.copy(), self._owed
        last_seq = rows[-1].seq if rows else self._last_seq
        remembered: dict[str, Json] = {}
        for store, _token, placed in stores:
            folded = sum(1 for place in placed if place.folded_into)
            accounts.arrive(len(placed) - folded, folded, store.counts)
            remembered.update(store.remembered)
        accounts.arrive(counts=owed.counts)
        for ended in owed.ended:
            accounts.end(ended.account)
        try:
            database = self._open()
            with database.transaction():
                if self._doubtful:
                    database.forget_after(self._last_seq)
                database.insert(rows)
                database.repeat(repeats)
                owed.again.update(self._too_early(database, owed))
                again = [row._replace(seq=seq) for seq, row in enumerate(owed.again.values(), last_seq + 1)]
                owed.again = dict(zip(owed.again, again, strict=True))
                database.insert(again)
                accounts.arrive(len(again))
                database.note(owed.progress)
                database.end(owed.ended)
                database.write_accounts(accounts.to_dict())
                database.remember(remembered)
        except (sqlite3.Error, OSError) as error:
            return self._failed(error)
        except Exception as error:  # a fault of ours is no reason to hold what was not stored for stored
            logger.exception("The spool failed")
            return self._failed(error)
        for trace_id, row in owed.again.items():
            self._dedup.add(row.key, row.seq, row.trace_id)
            logger.info("Alert %s was repeated, and its last repeat is answered as alert %s", trace_id, row.trace_id)
        self._last_seq = last_seq + len(again)
        self.accounts = accounts
        number, size = self.history
        self.history = number + len(owed.ended), size + sum(ended.bytes for ended in owed.ended)
        self._owed = _Owed()
        self._doubtful = False
        if self.trouble:
            logger.warning("The spool in %s can be written again", self._directory)
            self.trouble = ""
        return None

    def _too_early(self, database: Database, owed: _Owed) -> dict[str, Row]:
        """Last repeats of alerts that ended as they did by their time: the same of a later time is another question.

        An alert that came after the end and says the same asks it already. By trace id of the one that has ended.
        """
        by_time = {
            item.seq: item.trace_id
            for item in owed.ended
            if item.trace_id not in owed.again and any(r.get("outcome") in BY_TIME for r in item.hosts.values())
        }
        if not by_time:
            return {}
        rows = [row for row in database.repeated(by_time) if not self._dedup.first(row.key, self._clock())]
        return {by_time[row.seq]: row for row in rows}

    def _answers(self, first: First, row: Row) -> bool:
        """Whether what came of an alert is the answer to a repeat of it.

        An isolation answers what happened before it. What happens afterwards may come of a release.
        """
        if first.outcome != ISOLATED:
            return True
        if first.acted is None:

            def look(database: Database) -> float:
                ended = database.ended(first.seq)  # not by its trace id, which others may have as well
                return _acted(*ended) if ended else 0.0

            acted = self._read(Read(look))
            first.acted = acted if isinstance(acted, float) else 0.0
        return 0.0 < _happened(json.loads(row.body)) <= first.acted

    def _open(self) -> Database:
        """The database, to be written. Raises sqlite3.Error, OSError."""
        if self._database is None or self._doubtful:
            # What is wrong may be the connection: the file was replaced, or the disk was mounted anew.
            database = Database(self._directory)
            if self._database:
                self._database.close()
            self._database = database
        return self._database

    def _failed(self, error: Exception) -> SpoolError:
        # A commit that failed may have come about, with alerts of which nobody knows.
        self._doubtful = True
        unusable = self._unusable(error)
        if not self.trouble:
            logger.error("%s", unusable)
        self.trouble = unusable.message
        return unusable

    def _unusable(self, error: Exception) -> SpoolError:
        return SpoolError(
            f"the spool in {self._directory} cannot be used: {error}",
            remedy="Check its disk, owner and free space. Where it is damaged, move the directory away",
        )

    def _ended(self, item: Ended, now: float) -> Ended:
        return dataclasses.replace(item, folded=self._dedup.end(item.seq, item.outcome, now))

    def _read(self, request: Read) -> t.Any:
        try:
            return request.look(self._database or self._open())
        except Exception as error:  # what is damaged may be anything, and is no matter of what else was asked for
            return self._unusable(error)

    def _tidy(self) -> bool:
        """Remove what is too old or too much of the history. Returns whether there is more."""
        now = self._clock()
        seconds, raw_seconds, most_bytes = self._keep
        if self._untidy or self.history[1] > most_bytes:
            most_bytes -= most_bytes // 20  # so that it is not full again at once
        try:
            database = self._open()
            with database.transaction():
                removed = database.prune(now - seconds, now - raw_seconds, most_bytes)
            self.history = database.history()
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return False
        return removed > 0


class _Owed:
    """What has happened and is not written yet. It is true where there is something."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.progress: dict[int, Mapping[str, Json]] = {}
        self.counts: dict[str, int] = {}
        self.again: dict[str, Row] = {}  # what comes again, by trace id of the one that has ended

    def __bool__(self) -> bool:
        return bool(self.ended or self.progress or self.counts)

    def add(self, ended: Sequence[Ended], settle: Settle) -> None:
        self.ended += ended
        self.progress.update(settle.progress)
        for name, number in settle.counts.items():
            self.counts[name] = self.counts.get(name, 0) + number


def _is_answered(hosts: Mapping[str, Json]) -> bool:
    """Whether all hosts have answered an alert."""
    return all(known and known.get("answers") for known in hosts.values())


def _acted(received: float, hosts: Mapping[str, Json], alert: Mapping[str, Json]) -> float:
    """When the container of an alert was isolated at the earliest, by the clock of its detector; 0 where unknown.

    That clock may be wrong, and alerts take a while to arrive. How long after its receipt an alert was acted on is
    known: so long after it had happened, the container was not isolated any earlier. That it happened after its receipt
    is not believed: it would answer all that comes.
    """
    records = [record for record in hosts.values() if record and record.get("outcome") == ISOLATED]
    took = min((record.get("milliseconds") or 0 for record in records), default=0)
    happened = _happened(alert)
    return min(happened, received) + took / 1000 if happened else 0.0


def _happened(alert: Mapping[str, Json]) -> float:
    """When an alert happened, in seconds since the epoch, as its detector says; 0 where it says nothing."""
    moment = timestamp.parse_timestamp(alert.get("time"))
    return moment.timestamp() if moment else 0.0
