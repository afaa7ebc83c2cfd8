# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action log: JSON lines, one ActionEvent each, chained by SHA-256 so that a change or a gap shows."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.errors import ActionLogError

START = "0" * 64
"""What the first record has for the hash of the one before."""
_TAIL = 1 << 20


class ActionLog:
    """The action log of a host: C(actions.jsonl) in its state directory."""

    def __init__(self, state_dir: str) -> None:
        self._directory = state_dir
        self.path = os.path.join(state_dir, "actions.jsonl")

    def append(self, events: t.Sequence[ActionEvent]) -> None:
        """Write the events, on disk when this returns. Raises ActionLogError."""
        if not events:
            return
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
                previous, torn = _last(file)
                lines = [b"\n"] if torn else []
                for event in events:
                    record = {**event.to_dict(), "previous": previous}
                    previous = _hash(record)
                    lines.append(_canonical({**record, "hash": previous}) + b"\n")
                file.seek(0, os.SEEK_END)
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ActionLogError(
                f"cannot write {self.path}: {error.strerror}",
                remedy="What was done is in the result of the module. Check state_dir, its owner and free space",
            ) from error

    def verify(self) -> dict[str, t.Any]:
        """Whether the chain is whole.

        Returns:
            C(records): how many records were read. C(intact): whether each fits the one before. C(first_break): number
            of the first line that does not, or None. C(last_hash): hash of the last record. Removing the newest records
            does not show unless that hash was kept elsewhere.

        Raises:
            ActionLogError: it cannot be read.
        """
        previous, records, first_break = START, 0, None
        try:
            with open(self.path, "rb") as file:
                for number, line in enumerate(file, start=1):
                    record = _record(line)
                    if record is None:
                        # A torn line is what a power cut leaves; the chain goes on behind it.
                        if line.endswith(b"\n") and not line.strip():
                            continue
                        first_break = first_break or number
                        continue
                    records += 1
                    claimed = record.pop("hash", "")
                    if first_break is None and (record.get("previous") != previous or claimed != _hash(record)):
                        first_break = number
                    previous = claimed
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ActionLogError(f"cannot read {self.path}: {error.strerror}") from error
        return {"records": records, "intact": first_break is None, "first_break": first_break, "last_hash": previous}


def _last(file: t.BinaryIO) -> tuple[str, bool]:
    """Hash of the last whole record, and whether a torn line follows it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    torn = bool(tail) and not tail.endswith(b"\n")
    for line in reversed(tail.splitlines()):
        record = _record(line)
        if record is not None:
            return str(record.get("hash", "")), torn
    return START, torn


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
