# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports that the controller has not taken yet: on disk, in order, and no more than there is room for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import sqlite3
import threading
import typing as t
import uuid
from collections.abc import Mapping, Sequence

logger = logging.getLogger(__name__)

NAME = "outbox.db"
VERSION = 1
"""Of the tables. A file of another version is not touched."""
MOST_REPORTS = 20_000
MOST_BYTES = 67_108_864
"""Where there are more reports, or more bytes, the oldest go."""
RECENT = 500
"""Records of the action log that are known to have become reports: the newest ones."""
_ID, _DROPPED = "id", "dropped"
_TABLES = """
CREATE TABLE reports (sequence INTEGER PRIMARY KEY AUTOINCREMENT, bytes INTEGER NOT NULL, report TEXT NOT NULL);
CREATE TABLE recent (number INTEGER PRIMARY KEY AUTOINCREMENT, record TEXT NOT NULL);
CREATE TABLE remembered (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

Json = dict[str, t.Any]


class Outbox:
    """A file of reports. Safe to share between threads. Everything raises sqlite3.Error; opening it OSError, too.

    Args:
        directory: of the spool; made where it is not there.
        most: reports at most.
        most_bytes: of them.

    Attributes:
        id: of this file: whoever takes reports knows by it and by their numbers which ones he has. It outlives
            restarts, and another file has another one.
        number, bytes: of the reports that wait.
        dropped: how many there was no room for, since the file was made.
    """

    def __init__(self, directory: pathlib.Path, most: int = MOST_REPORTS, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / NAME
        # SQLite gives its other files the mode of this one.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            values = dict(self._connection.execute("SELECT * FROM remembered"))
            self.id, self.dropped = str(values[_ID]), int(values.get(_DROPPED, 0))
            self.number, self.bytes = self._connection.execute(
                "SELECT count(*), ifnull(sum(bytes), 0) FROM reports"
            ).fetchone()
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def open(cls, directory: pathlib.Path) -> Outbox:
        """That in a directory, a new one where it is damaged: no host is unguarded for that. Raises OSError."""
        try:
            try:
                return cls(directory)
            except sqlite3.OperationalError:
                raise
            except (sqlite3.DatabaseError, LookupError, ValueError) as error:
                logger.error("The reports in %s are damaged, and put aside: %s", directory / NAME, error)
                for name in (NAME, f"{NAME}-wal", f"{NAME}-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(directory / name, directory / f"{name}.damaged")
                return cls(directory)
        except sqlite3.Error as error:
            raise OSError(f"reports cannot be kept in {directory / NAME}: {error}") from None

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA journal_size_limit = 16777216")
        version = run("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"it is no outbox of version {VERSION}")
        run("INSERT OR IGNORE INTO remembered VALUES (?, ?)", (_ID, str(uuid.uuid4())))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def recent(self) -> set[str]:
        """Ids of the records that became reports last, also of those that were taken; empty for a new file."""
        with self._lock:
            return {record for (record,) in self._connection.execute("SELECT record FROM recent")}

    def add(self, reports: Sequence[Mapping[str, t.Any]], records: Sequence[str] = ()) -> None:
        """Keep reports, on disk when this returns. Where there is no room for them, the oldest go, and are counted.

        Args:
            reports: JSON-serialisable.
            records: ids of the records of the action log that they are about.
        """
        rows = [(len(text), text) for text in map(json.dumps, reports)]
        with self._lock:
            number, size = self.number + len(rows), self.bytes + sum(length for length, _text in rows)
            with self._transaction():
                self._connection.executemany("INSERT INTO reports (bytes, report) VALUES (?, ?)", rows)
                self._connection.executemany("INSERT INTO recent (record) VALUES (?)", [(one,) for one in records])
                self._connection.execute(
                    "DELETE FROM recent WHERE number <= (SELECT max(number) FROM recent) - ?", (RECENT,)
                )
                gone = self._too_much(number, size)
                if gone:
                    self._connection.execute("DELETE FROM reports WHERE sequence <= ?", (gone[-1][0],))
                    self._count_dropped(len(gone))
            self.number, self.bytes = number - len(gone), size - sum(length for _sequence, length in gone)
            self.dropped += len(gone)

    def first(self, most: int, most_bytes: int) -> list[Json]:
        """The reports that wait the longest, each with its C(sequence): one at least, where there is any.

        Args:
            most: reports.
            most_bytes: of them, unless the first one alone is larger.
        """
        found: list[Json] = []
        with self._lock:
            rows = self._connection.execute(
                "SELECT sequence, bytes, report FROM reports ORDER BY sequence LIMIT ?", (most,)
            )
            for sequence, length, report in rows:
                most_bytes -= length
                if found and most_bytes < 0:
                    break
                found.append({"sequence": sequence, **json.loads(report)})
        return found

    def remove(self, last: int, dropped: bool = False) -> None:
        """Forget all reports up to that number: they were taken, or C(dropped), as nobody will take them."""
        with self._lock:
            with self._transaction():
                number, size = self._connection.execute(
                    "SELECT count(*), ifnull(sum(bytes), 0) FROM reports WHERE sequence <= ?", (last,)
                ).fetchone()
                self._connection.execute("DELETE FROM reports WHERE sequence <= ?", (last,))
                if dropped:
                    self._count_dropped(number)
            self.number, self.bytes = self.number - number, self.bytes - size
            self.dropped += number if dropped else 0

    def _too_much(self, number: int, size: int) -> list[tuple[int, int]]:
        """Number and bytes of the oldest reports, of so many in all, that there is no room for."""
        gone: list[tuple[int, int]] = []
        if number <= self._most and size <= self._most_bytes:
            return gone
        for sequence, length in self._connection.execute("SELECT sequence, bytes FROM reports ORDER BY sequence"):
            if number <= self._most and size <= self._most_bytes:
                break
            gone.append((sequence, length))
            number, size = number - 1, size - length
        return gone

    def _count_dropped(self, number: int) -> None:
        self._connection.execute("REPLACE INTO remembered VALUES (?, ?)", (_DROPPED, str(self.dropped + number)))

    @contextlib.contextmanager
    def _transaction(self) -> t.Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # some errors of SQLite roll back by themselves
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise
