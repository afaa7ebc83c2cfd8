# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real PostgreSQL, as an EDA controller hands events on through one."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import types
import typing as t
import uuid

import psycopg
import xxhash

_USER = "postgres"
_CHUNK = 7_000
"""Largest part of an event in a notification, in bytes; PostgreSQL takes 8,000."""
_START = 60
"""Seconds."""


class Postgres:
    """A server of its own, on a Unix socket in a temporary directory, as long as its context lasts.

    It runs as the user C(postgres) where the test runs as root, which PostgreSQL refuses to run as.

    Attributes:
        dsn: how to connect to it.
    """

    def __init__(self) -> None:
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix="cg-test-postgres-"))
        self._user = _USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self._process: subprocess.Popen[bytes] | None = None
        self.dsn = f"host={self._directory} dbname=postgres user={_USER}"

    def __enter__(self) -> Postgres:
        """Start the server and wait until it answers."""
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """End the server, and remove what it has written."""
        self._end()

    def listeners(self, channel: str) -> int:
        """How many connections listen on a channel."""
        with self._connection() as connection:
            query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s"
            found = connection.execute(query, [f'LISTEN "{channel}"%']).fetchone()
        return int(found[0]) if found else 0

    def notify(self, channel: str, event: dict[str, t.Any]) -> None:
        """Hand an event on as an EDA controller does: in several notifications, where it is too large for one."""
        text = json.dumps(event)
        notes = [text]
        if len(text) > _CHUNK:
            parts = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
            about = {
                "_message_chunked_uuid": str(uuid.uuid4()),
                "_message_chunk_count": len(parts),
                "_message_length": len(text),
                "_message_xx_hash": xxhash.xxh32(text.encode()).hexdigest(),
            }
            notes = [
                json.dumps({**about, "_message_chunk_sequence": number, "_chunk": part})
                for number, part in enumerate(parts, 1)
            ]
        with self._connection() as connection:
            for note in notes:
                connection.execute("SELECT pg_notify(%s, %s)", [channel, note])

    def _connection(self) -> psycopg.Connection[tuple[t.Any, ...]]:
        return psycopg.connect(self.dsn, autocommit=True)

    def _start(self) -> None:
        shutil.chown(self._directory, self._user)
        data = self._directory / "data"
        made = subprocess.run(
            [_program("initdb"), "--pgdata", data, "--username", _USER, "--auth", "trust", "--no-sync", "--no-locale"],
            user=self._user,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr.decode()
        log = self._directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", data, "-k", self._directory, "-c", "listen_addresses=", "-c", "fsync=off"],
                user=self._user,
                cwd="/",
                env={"PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self._connection().close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()}")
            time.sleep(0.05)

    def _end(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGINT)  # which ends its connections, too
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._directory)


def _program(name: str) -> str:
    """The path of a program of the server, which Debian keeps off PATH."""
    found = shutil.which(name)
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    if found is None and not versions:
        raise AssertionError(f"{name} is not installed. Use: tools/setup.sh postgresql")
    return found or str(versions[-1])
