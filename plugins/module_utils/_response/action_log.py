# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action log: JSON lines, one ActionEvent each, chained by SHA-256 so that a change or a gap shows.

Its size is bounded: it is rotated, and what repeats itself is counted. The chain goes on over files, and over what the
fallback of the state directory holds while the disk takes nothing. An attempt has a line before more
than a pause is done, so that one that was cut short shows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import time
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.errors import ActionLogError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.repeats import Repeats
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir, StateDirError

START = "0" * 64
"""What the first record has for the hash of the one before."""
NAME = "actions.jsonl"
INTENDED = "intended"
"""The outcome of a line that was written before acting."""
MAX_BYTES = 10_000_000
MAX_FILES = 10
_REPEATS = "actions.repeats.json"
_LOCK = "actions"
_LOCK_TIMEOUT = 10
_TAILS = (1 << 14, 1 << 20)
"""Bytes of the end of the log in which its last record is looked for; nearly always the first is enough."""
_MAX_INTERRUPTED = 100
_MOST_RECORDS = 100
# What a line has that was written before acting, or is the end of such an attempt. Quotes in a text are escaped.
_MARKS = (b'"outcome":"intended"', b'"intended":"')


class ActionLog:
    """The action log of a host: C(actions.jsonl) in its state directory, C(actions.jsonl.1) before that, and so on.

    Args:
        files: where it is; whose C(warnings) say what did not work.
        max_bytes: size from which a file is rotated.
        max_files: how many files are kept.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        files: StateDir,
        max_bytes: int = MAX_BYTES,
        max_files: int = MAX_FILES,
        clock: t.Callable[[], float] = time.time,
    ) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._keep = max_files - 1
        self._clock = clock
        self.path = os.path.join(files.path, NAME)

    def append(self, events: t.Sequence[ActionEvent], periods: t.Mapping[str, int] | None = None) -> set[str]:
        """Write the events, on disk when this returns; the ids of those that have a record. Raises ActionLogError.

        Args:
            events: what was done or decided.
            periods: for each policy id, seconds within which repeats of a decision are counted instead; an hour for
                those that are not named.
        """
        if not events:
            return set()
        try:
            with self._files.lock(_LOCK, _LOCK_TIMEOUT):
                before = self._files.read(_REPEATS)
                repeats = Repeats.from_json(before, self._clock())
                written = [record for event in events for record in repeats.take(event, periods or {})]
                full = self._files.size(NAME) >= self._max_bytes
                counts = repeats.all_counts() if full and self._files.rotate(NAME, self._keep) else repeats.due_counts()
                self._write([*counts, *(event.to_dict() for event in written)])
                # Last: to count a few too many after a kill is better than to count what is not on record.
                if repeats.to_json() != (before or b"").decode("utf-8", "replace"):
                    self._files.write(_REPEATS, repeats.to_json())
                return {event.id for event in written}
        except StateDirError as error:
            raise ActionLogError(
                f"cannot write the action log: {error.message}",
                remedy="What was done is in the result of the module. Check state_dir, its owner and free space",
            ) from error

    def intend(self, events: t.Sequence[ActionEvent]) -> list[ActionEvent]:
        """Write that they are about to be acted on; the events, each with C(intended). That fails for nothing.

        Where the log cannot be written, containment comes first, and that is told in C(warnings).
        """
        if not events:
            return []
        marked = [dataclasses.replace(event, intended=event.intended or str(uuid.uuid4())) for event in events]
        lines = [
            {
                "outcome": INTENDED,
                "id": event.intended,
                "time": now(),
                **{name: getattr(event, name) for name in ("trace_id", "alert_id", "policy_id", "actor", "host")},
                "container": dict(event.container) if event.container else None,
                "actions": [dict(action) for action in event.actions],
            }
            for event in marked
        ]
        try:
            with self._files.lock(_LOCK, _LOCK_TIMEOUT):
                self._write(lines)
        except StateDirError as error:
            self._files.warnings.append(f"what is about to be done is not on record: {error}")
        return marked

    def unfinished(self, container_ids: t.Collection[str], ids: t.Collection[str]) -> list[dict[str, t.Any]]:
        """The lines of attempts on those containers of which no end is on record, oldest first.

        Args:
            container_ids: full ids.
            ids: of attempts that may have no line, as they were cut short before it was written: C(id) alone is told.

        Raises:
            ActionLogError: it cannot be read.
        """
        begun: dict[str, dict[str, t.Any]] = {}
        ended: set[str] = set()
        try:
            with self._files.lock(_LOCK, _LOCK_TIMEOUT) if self._names() else contextlib.nullcontext():
                for name in self._names():
                    for line in self._files.lines(name):
                        if any(mark in line for mark in _MARKS):
                            record = _record(line) or {}
                            ended.add(str(record.get("intended", "")))
                            if record.get("outcome") == INTENDED:
                                begun[str(record.get("id", ""))] = record
        except StateDirError as error:
            raise ActionLogError(f"cannot read the action log: {error.message}") from error
        concerned = {
            key: record for key, record in begun.items() if (record.get("container") or {}).get("id") in container_ids
        }
        told = {**{key: {"id": key} for key in ids if key and key not in begun}, **concerned}
        return [record for key, record in told.items() if key not in ended]

    def of_trace(self, trace_id: str) -> list[dict[str, t.Any]]:
        """The records with that trace id, oldest first, at most 100 of the newest. Raises ActionLogError."""
        # As it is written: the id holds nothing that JSON escapes.
        return self._records(f'"trace_id":"{trace_id}"', lambda record: record.get("trace_id") == trace_id)

    def of_container(self, container_id: str = "", name: str = "") -> list[dict[str, t.Any]]:
        """The records about a container, oldest first, at most 100 of the newest. Raises ActionLogError.

        Args:
            container_id: the id or 12 and more digits of it; empty to go by the name.
            name: which more than one container may have had.
        """

        def is_meant(record: t.Mapping[str, t.Any]) -> bool:
            container = record.get("container")
            if not isinstance(container, dict):
                return False
            by_id = bool(container_id) and str(container.get("id")).startswith(container_id)
            return by_id or (bool(name) and container.get("name") == name)

        return self._records(container_id or name, is_meant)

    def _records(self, mark: str, is_meant: t.Callable[[dict[str, t.Any]], bool]) -> list[dict[str, t.Any]]:
        """Those that are meant of the lines that have the mark, oldest first, at most 100 of the newest."""
        found: list[dict[str, t.Any]] = []
        try:
            with self._files.lock(_LOCK, _LOCK_TIMEOUT) if self._names() else contextlib.nullcontext():
                for name in self._names():
                    for line in self._files.lines(name):
                        record = _record(line) if mark.encode("ascii") in line else None
                        if record and record.get("outcome") != INTENDED and is_meant(record):
                            found.append(record)
        except StateDirError as error:
            raise ActionLogError(f"cannot read the action log: {error.message}") from error
        return found[-_MOST_RECORDS:]

    def newest(self, most: int) -> list[dict[str, t.Any]]:
        """The records that were written last, oldest first, without the lines before acting. Raises ActionLogError.

        Args:
            most: lines that are looked at, in the newest file.
        """
        try:
            lines = (self._files.read(NAME, last=_TAILS[-1]) or b"").splitlines()[-most:]
        except StateDirError as error:
            raise ActionLogError(f"cannot read the action log: {error.message}") from error
        return [record for record in map(_record, lines) if record and record.get("outcome") != INTENDED]

    def verify(self) -> dict[str, t.Any]:
        """Whether the chain is whole, over all files that are kept.

        Returns:
            C(records): how many records were read. C(intact): whether each fits the one before. C(first_break): number
            of the first line that does not, counted from the oldest file, or None. C(last_hash): hash of the last
            record. Removing the newest records does not show unless that hash was kept elsewhere. C(files): how many
            there are. C(oldest): time of the oldest record that is kept, or empty. C(follows): hash of the record
            before that, zeros where none was forgotten. C(interrupted): the lines of attempts of which no end is on
            record, as they were cut short or are being made, the newest of them.

        Raises:
            ActionLogError: it cannot be read.
        """
        chain = _Chain()
        try:
            names = self._names()
            with self._files.lock(_LOCK, _LOCK_TIMEOUT) if names else contextlib.nullcontext():
                names = self._names()
                # Only once all places are taken a file is forgotten; before that the oldest one has the beginning.
                chain.may_begin_anywhere = f"{NAME}.{self._keep}" in names
                for name in names:
                    chain.read(self._files.read(name) or b"")
        except StateDirError as error:
            raise ActionLogError(f"cannot read the action log: {error.message}") from error
        return {
            "records": chain.records,
            "intact": chain.first_break is None,
            "first_break": chain.first_break,
            "last_hash": chain.previous,
            "files": len(names),
            "oldest": chain.oldest,
            "follows": chain.follows,
            "interrupted": list(chain.intended.values())[-_MAX_INTERRUPTED:],
        }

    def _names(self) -> list[str]:
        """The files that are there, oldest first."""
        names = [*(f"{NAME}.{number}" for number in range(self._keep, 0, -1)), NAME]
        return [name for name in names if self._files.size(name)]

    def _write(self, records: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        previous = self._last_hash()
        lines = []
        for record in records:
            chained = {**record, "previous": previous}
            previous = _hash(chained)
            lines.append(_canonical({**chained, "hash": previous}) + b"\n")
        if lines:
            self._files.append(NAME, b"".join(lines))

    def _last_hash(self) -> str:
        for name in (NAME, f"{NAME}.1"):
            for size in _TAILS:
                for line in reversed((self._files.read(name, last=size) or b"").splitlines()):
                    record = _record(line)
                    if record is not None:
                        return str(record.get("hash", ""))
        return START


class _Chain:
    """What was read of a log so far."""

    def __init__(self) -> None:
        self.may_begin_anywhere = False
        self.records = 0
        self.previous = self.follows = START
        self.first_break: int | None = None
        self.oldest = ""
        self.intended: dict[str, dict[str, t.Any]] = {}
        self._line = 0

    def read(self, content: bytes) -> None:
        for line in content.splitlines(keepends=True):
            self._line += 1
            record = _record(line)
            if record is None:
                # A torn line is what a power cut leaves; the chain goes on behind it.
                if line.strip():
                    self.first_break = self.first_break or self._line
                continue
            self._take(record)

    def _take(self, record: dict[str, t.Any]) -> None:
        claimed = record.pop("hash", "")
        if not self.records:
            self.oldest = str(record.get("time", ""))
            if self.may_begin_anywhere:
                self.previous = self.follows = str(record.get("previous", ""))
        self.records += 1
        if self.first_break is None and (record.get("previous") != self.previous or claimed != _hash(record)):
            self.first_break = self._line
        self.previous = claimed
        if record.get("outcome") == INTENDED:
            shown = {name: value for name, value in record.items() if name not in ("outcome", "previous")}
            self.intended[str(record.get("id"))] = shown
        else:
            self.intended.pop(str(record.get("intended")), None)


def _record(line: bytes) -> dict[str, t.Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _hash(record: t.Mapping[str, t.Any]) -> str:
    return hashlib.sha256(_canonical(record)).hexdigest()


def _canonical(record: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
