# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of what host services have reported: events that wait for the rule engine, and what was taken before."""

from __future__ import annotations

import bisect
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import sqlite3
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.heartbeats import NO_CHANGE, Change, Host

NAME = "reports.db"
VERSION = 1
"""Of the tables. A file of another version is not touched."""
_SPOOLS = 8
"""Files of reports that are remembered of a host: one, unless it was made anew."""
_DIFFERING = "differing"
_TABLES = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT NOT NULL, bytes INTEGER NOT NULL, event TEXT NOT NULL
);
CREATE TABLE taken (
    host TEXT NOT NULL, spool TEXT NOT NULL, last INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (host, spool)
);
CREATE TABLE hosts (host TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE remembered (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

Json = dict[str, t.Any]


class ReportStore:
    """A connection, for one thread at a time. Everything raises sqlite3.Error, and opening it OSError, too.

    Args:
        directory: exists, and is that of a spool which nobody else has.

    Attributes:
        waiting: numbers of the events that wait, by host, each in its order; no host has none.
        number, bytes: of all of them.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        path = directory / NAME
        # SQLite gives its other files the mode of this one.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
            self.waiting: dict[str, collections.deque[int]] = {}
            self.number = self.bytes = 0
            for number, host, size in self._connection.execute(
                "SELECT number, host, bytes FROM events ORDER BY number"
            ):
                self._wait(number, host, size)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run("PRAGMA journal_size_limit = 16777216")
        version = run("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"it is no file of reports of version {VERSION}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def hosts(self) -> dict[str, Host]:
        """What is known of hosts."""
        return {host: Host(**json.loads(state)) for host, state in self._connection.execute("SELECT * FROM hosts")}

    def differing(self) -> dict[str, list[str]]:
        """The digests that differ, as they were told."""
        found = self._connection.execute("SELECT value FROM remembered WHERE name = ?", (_DIFFERING,)).fetchone()
        return dict(json.loads(found[0])) if found else {}

    def last(self, host: str, spool: str) -> int:
        """The number of the last report that was taken of it, or 0."""
        found = self._connection.execute("SELECT last FROM taken WHERE host = ? AND spool = ?", (host, spool))
        row = found.fetchone()
        return int(row[0]) if row else 0

    def store(
        self, events: Sequence[Json], change: Change = NO_CHANGE, taken: tuple[str, str, int, float] | None = None
    ) -> None:
        """Write at once, on disk when this returns, or nothing of it.

        Args:
            events: each with its C(id) and C(meta).
            change: of hosts; its events are among the others.
            taken: host, spool, number of its last report, and seconds since the epoch.
        """
        stored: list[tuple[int, str, int]] = []
        with self._transaction():
            for event in events:
                row = (str(event.get("host", "")), len(text := json.dumps(event)), text)
                cursor = self._connection.execute("INSERT INTO events (host, bytes, event) VALUES (?, ?, ?)", row)
                stored.append((int(cursor.lastrowid or 0), *row[:2]))
            self._write(change)
            if taken:
                self._connection.execute("REPLACE INTO taken VALUES (?, ?, ?, ?)", taken)
                self._connection.execute(
                    "DELETE FROM taken WHERE host = ? AND spool NOT IN"
                    " (SELECT spool FROM taken WHERE host = ? ORDER BY at DESC LIMIT ?)",
                    (taken[0], taken[0], _SPOOLS),
                )
        for one in stored:
            self._wait(*one)

    def next(self, after: str) -> tuple[str, Json] | None:
        """The host whose turn comes after that of another, and its event that has waited longest; or None.

        Hosts take turns, so that one that reports without end, as somebody who took it over may, holds up no other.
        """
        hosts = sorted(self.waiting)
        if not hosts:
            return None
        host = hosts[bisect.bisect_right(hosts, after) % len(hosts)]
        found = self._connection.execute("SELECT event FROM events WHERE number = ?", (self.waiting[host][0],))
        return host, json.loads(found.fetchone()[0])

    def remove(self, host: str) -> None:
        """The engine has the event of a host that waited longest."""
        number = self.waiting[host][0]
        with self._transaction():
            size = self._connection.execute("SELECT bytes FROM events WHERE number = ?", (number,)).fetchone()[0]
            self._connection.execute("DELETE FROM events WHERE number = ?", (number,))
        self.waiting[host].popleft()
        if not self.waiting[host]:
            del self.waiting[host]
        self.number -= 1
        self.bytes -= int(size)

    def _wait(self, number: int, host: str, size: int) -> None:
        self.waiting.setdefault(host, collections.deque()).append(number)
        self.number += 1
        self.bytes += size

    def _write(self, change: Change) -> None:
        for name, host in change.hosts.items():
            if host is None:
                self._connection.execute("DELETE FROM hosts WHERE host = ?", (name,))
                self._connection.execute("DELETE FROM taken WHERE host = ?", (name,))
            else:
                self._connection.execute("REPLACE INTO hosts VALUES (?, ?)", (name, _state(host)))
        if change.differing is not None:
            value = json.dumps(dict(change.differing))
            self._connection.execute("REPLACE INTO remembered VALUES (?, ?)", (_DIFFERING, value))

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


def _state(host: Host) -> str:
    values: Mapping[str, t.Any] = dataclasses.asdict(host)
    return json.dumps(values)
