# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database of the spool: what is on disk, and nothing about who waits for it.

Few statements with many rows each. SQLite runs a statement without the lock of the interpreter and wants it back after
each row that it returns and each statement; while the event loop is busy that takes 5 ms. Hence rows go in as one
statement, and come out as one text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import sqlite3
import typing as t
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

Json = t.Any

encode = json.JSONEncoder(check_circular=False).encode
"""A value as JSON, in ASCII, of the length that it has in an event."""

NAME = "spool.db"

_VARIABLES = 5_000 if sqlite3.sqlite_version_info >= (3, 32) else 999
"""Parameters of a statement at most: far from the limit, as statements are kept."""
_STATEMENTS = 16
"""Statements that are kept. Those with many rows are large."""
_PRUNED = 2_000
"""Rows of history that are removed at a time: more than are added, and nobody who stores waits long for it."""

VERSION = 1
"""Of the tables. A spool of another version is not touched."""

_TABLES = """
CREATE TABLE alerts (
    seq INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, key BLOB NOT NULL, received REAL NOT NULL,
    severity INTEGER NOT NULL, container TEXT NOT NULL, hosts TEXT NOT NULL, body_bytes INTEGER NOT NULL,
    raw_bytes INTEGER NOT NULL, body TEXT NOT NULL, raw TEXT NOT NULL, sender TEXT NOT NULL,
    kind TEXT NOT NULL
);
CREATE INDEX alerts_trace_id ON alerts (trace_id);
CREATE TABLE repeats (
    seq INTEGER PRIMARY KEY, received REAL NOT NULL, received_at TEXT NOT NULL, time TEXT NOT NULL
);
CREATE TABLE progress (seq INTEGER PRIMARY KEY, hosts TEXT NOT NULL);
CREATE VIEW alerts_now AS
    SELECT seq, trace_id, key, received, severity, container, ifnull(progress.hosts, alerts.hosts) AS hosts,
    body_bytes, raw_bytes, body, sender, kind FROM alerts LEFT JOIN progress USING (seq);
CREATE TABLE history (
    seq INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, key BLOB NOT NULL, received REAL NOT NULL, ended REAL NOT NULL,
    account TEXT NOT NULL, outcome TEXT NOT NULL, folded INTEGER NOT NULL, hosts TEXT NOT NULL,
    bytes INTEGER NOT NULL, body TEXT NOT NULL, raw TEXT NOT NULL
);
CREATE INDEX history_trace_id ON history (trace_id);
CREATE INDEX history_ended ON history (ended, bytes);
CREATE INDEX history_raw ON history (ended) WHERE raw != '';
CREATE TABLE accounts (name TEXT PRIMARY KEY, number INTEGER NOT NULL);
CREATE TABLE remembered (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_TRACE = """
SELECT 'waiting', '', received, NULL, 0, hosts, body, seq FROM alerts_now WHERE trace_id = ?
UNION ALL SELECT account, outcome, received, ended, folded, hosts, body, seq FROM history WHERE trace_id = ?
ORDER BY seq DESC LIMIT 1
"""


class Row(t.NamedTuple):
    """An alert as it is stored.

    Attributes:
        seq: its number; later alerts have higher ones.
        trace_id: of the alert.
        key: what its repeats share with it.
        received: seconds since the epoch.
        severity: 0 to 4.
        container: short text by which alerts about one container are told apart from those about another.
        hosts: JSON, host or pattern -> null, or what is known of it.
        body_bytes: of the body.
        raw_bytes: of the message as received.
        body: JSON, the alert without C(raw).
        raw: the message as received, base64, or empty.
        sender: name of whose it is.
        kind: short text by which alerts of one rule are told apart from those of another.
    """

    seq: int
    trace_id: str
    key: bytes
    received: float
    severity: int
    container: str
    hosts: str
    body_bytes: int
    raw_bytes: int
    body: str
    raw: str
    sender: str = ""
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Ended:
    """An alert that has ended, and how.

    Attributes:
        seq: its number.
        trace_id: of it.
        at: seconds since the epoch.
        account: one of the accounts of ends.
        outcome: a word of OUTCOMES, or empty where nobody said anything.
        hosts: host -> what is known of it.
        bytes: of the alert: there is room for others again.
        folded: how many alerts were folded into it.
    """

    seq: int
    trace_id: str
    at: float
    account: str
    outcome: str
    hosts: Mapping[str, Json]
    bytes: int = 0
    folded: int = 0


class Database:
    """A connection. Everything raises sqlite3.Error; what is not within L(transaction) only reads.

    Args:
        directory: exists.
        read_only: for a look from another process.
    """

    def __init__(self, directory: pathlib.Path, *, read_only: bool = False) -> None:
        self._path = directory / NAME
        if not read_only:
            # SQLite gives its other files the mode of this one.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._inode = self._path.stat().st_ino
        mode = "ro" if read_only else "rw"
        self._connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        try:
            if not read_only:
                self._prepare()
            if self._value("PRAGMA user_version") != VERSION:
                raise sqlite3.DatabaseError(f"it is not a spool of version {VERSION}")
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA journal_size_limit = 16777216")
        if self._value("PRAGMA user_version") == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is done within is synced to disk at the end, or not done. Raises OSError where the file is gone."""
        if os.stat(self._path).st_ino != self._inode:
            raise FileNotFoundError(f"{self._path} was replaced")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # some errors of SQLite roll back by themselves
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def insert(self, rows: Sequence[Row]) -> None:
        """Store alerts."""
        self._put("INSERT INTO alerts", rows)

    def note(self, progress: Mapping[int, Mapping[str, Json]]) -> None:
        """Store what is known of the hosts of alerts that wait, by number."""
        self._put("REPLACE INTO progress", [(seq, encode(hosts)) for seq, hosts in progress.items()])

    def repeat(self, repeats: Mapping[int, Row]) -> None:
        """Store when alerts that wait, by number, came the last time."""
        times = []
        for seq, row in repeats.items():
            alert = json.loads(row.body)
            times.append((seq, row.received, alert["received_at"], alert["time"]))
        self._put("REPLACE INTO repeats", times)

    def repeated(self, seqs: Iterable[int]) -> list[Row]:
        """The alerts that wait under those numbers and came again, with the time of the last repeat.

        Their trace ids are new, as hosts remember by it what they answered.
        """
        found = self._connection.execute(
            "SELECT seq, trace_id, key, repeats.received, severity, container, hosts, body_bytes, raw_bytes, body, raw,"
            " sender, kind, received_at, time FROM alerts JOIN repeats USING (seq)"
            " WHERE seq IN (SELECT value FROM json_each(?))",
            (json.dumps(list(seqs)),),
        ).fetchall()
        rows = []
        for *columns, received_at, time in found:
            row, trace_id = Row._make(columns), str(uuid.uuid4())
            body = encode({**json.loads(row.body), "trace_id": trace_id, "received_at": received_at, "time": time})
            rows.append(row._replace(trace_id=trace_id, body=body, body_bytes=len(body)))
        return rows

    def end(self, ended: Sequence[Ended]) -> None:
        """Move alerts to the history. Those that are not there any more are passed over."""
        if not ended:
            return
        told = json.dumps([[e.seq, e.at, e.account, e.outcome, e.folded, encode(e.hosts)] for e in ended])
        self._connection.execute(
            "INSERT OR REPLACE INTO history SELECT seq, trace_id, alerts.key, received, json_extract(value, '$[1]'),"
            " json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),"
            " json_extract(value, '$[5]'), body_bytes + raw_bytes + length(value), body, raw"
            " FROM json_each(?) JOIN alerts ON seq = json_extract(value, '$[0]')",
            (told,),
        )
        for table in ("alerts", "progress", "repeats"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE seq IN (SELECT json_extract(value, '$[0]') FROM json_each(?))",  # noqa: S608 - names of ours
                (told,),
            )

    def write_accounts(self, accounts: Mapping[str, int]) -> None:
        """Store the accounts."""
        self._put("REPLACE INTO accounts", list(accounts.items()))

    def remember(self, values: Mapping[str, Json]) -> None:
        """Store values by name."""
        self._put("REPLACE INTO remembered", [(name, encode(value)) for name, value in values.items()])

    def forget_after(self, seq: int) -> None:
        """Remove alerts with higher numbers: of a transaction that failed, and came about all the same."""
        self._connection.execute("DELETE FROM alerts WHERE seq > ?", (seq,))
        self._connection.execute("DELETE FROM repeats WHERE seq > ?", (seq,))

    def prune(self, older: float, raw_older: float, most_bytes: int) -> int:
        """Remove a little of the history that is too old or too much. Returns how many rows that concerned.

        Args:
            older: seconds since the epoch.
            raw_older: the same, for the message as received.
            most_bytes: of the history.
        """
        run, changes = self._connection.execute, self._connection.total_changes
        run(
            "UPDATE history SET bytes = bytes - length(raw), raw = '' WHERE seq IN"
            " (SELECT seq FROM history WHERE raw != '' AND ended < ? ORDER BY ended LIMIT ?)",
            (raw_older, _PRUNED),
        )
        run(
            "DELETE FROM history WHERE seq IN (SELECT seq FROM history WHERE ended < ? ORDER BY ended LIMIT ?)",
            (older, _PRUNED),
        )
        excess = self.history()[1] - most_bytes
        if excess > 0:
            run(
                "DELETE FROM history WHERE seq IN (SELECT seq FROM (SELECT seq, sum(bytes) OVER (ORDER BY ended, seq) -"
                " bytes AS before FROM (SELECT seq, ended, bytes FROM history ORDER BY ended, seq LIMIT ?))"
                " WHERE before < ?)",
                (_PRUNED, excess),
            )
        return self._connection.total_changes - changes

    def accounts(self) -> dict[str, int]:
        """The accounts."""
        return dict(self._connection.execute("SELECT name, number FROM accounts"))

    def remembered(self) -> dict[str, Json]:
        """All values by name."""
        return {name: json.loads(value) for name, value in self._connection.execute("SELECT * FROM remembered")}

    def last_seq(self) -> int:
        """The highest number of which anything is known."""
        return int(
            self._value(
                "SELECT ifnull(max(seq), 0) FROM (SELECT max(seq) AS seq FROM alerts"
                " UNION ALL SELECT max(seq) FROM history UNION ALL SELECT max(seq) FROM progress)"
            )
        )

    def waiting(self) -> Iterator[Row]:
        """The alerts that wait, without body and raw, and with what is known of their hosts."""
        for columns in self._connection.execute(
            "SELECT seq, trace_id, key, received, severity, container, hosts, body_bytes, raw_bytes, '', '',"
            " sender, kind FROM alerts_now ORDER BY seq"
        ):
            yield Row._make(columns)

    def ended_since(self, moment: float) -> list[tuple[bytes, int, str, str, float]]:
        """Key, number, trace id, outcome and time of alerts that have ended since."""
        return self._connection.execute(
            "SELECT key, seq, trace_id, outcome, ended FROM history WHERE ended > ?", (moment,)
        ).fetchall()

    def ended(self, seq: int) -> tuple[float, dict[str, Json], dict[str, Json]] | None:
        """When an alert that has ended was received, what is known of its hosts, and the alert itself."""
        found = self._connection.execute("SELECT received, hosts, body FROM history WHERE seq = ?", (seq,)).fetchone()
        return (found[0], json.loads(found[1]), json.loads(found[2])) if found else None

    def history(self) -> tuple[int, int]:
        """Number and bytes of the alerts that have ended."""
        number, size = self._connection.execute("SELECT count(*), ifnull(sum(bytes), 0) FROM history").fetchone()
        return number, size

    def bodies(self, seqs: Iterable[int]) -> dict[int, dict[str, Json]]:
        """The alerts that wait under those numbers, without C(raw)."""
        text = self._value(
            "SELECT '[' || ifnull(group_concat('[' || seq || ',' || body || ']'), '') || ']' FROM alerts"
            " WHERE seq IN (SELECT value FROM json_each(?))",
            json.dumps(list(seqs)),
        )
        return dict(json.loads(text))

    def raws(self, seqs: Iterable[int]) -> dict[int, str]:
        """Their messages as received."""
        text = self._value(
            "SELECT '[' || ifnull(group_concat('[' || seq || ',\"' || raw || '\"]'), '') || ']' FROM alerts"
            " WHERE seq IN (SELECT value FROM json_each(?))",
            json.dumps(list(seqs)),
        )
        return dict(json.loads(text))

    def trace(self, trace_id: str) -> dict[str, Json] | None:
        """What is known of an alert."""
        found = self._connection.execute(_TRACE, (trace_id, trace_id)).fetchone()
        if not found:
            return None
        state, outcome, received, ended, folded, hosts, body, _seq = found
        return {
            "trace_id": trace_id,
            "state": state,
            "outcome": outcome,
            "received": received,
            "ended": ended,
            "folded": folded,
            "hosts": json.loads(hosts),
            "alert": json.loads(body),
        }

    def _put(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        if not rows:
            return
        width = len(rows[0])
        for chunk in _chunks(rows, _VARIABLES // width):
            places = ",".join(["({})".format(",".join("?" * width))] * len(chunk))
            self._connection.execute(f"{statement} VALUES {places}", list(itertools.chain.from_iterable(chunk)))

    def _value(self, statement: str, *parameters: object) -> t.Any:
        return self._connection.execute(statement, parameters).fetchone()[0]


def _chunks(rows: Sequence[t.Any], size: int) -> Iterator[Sequence[t.Any]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
