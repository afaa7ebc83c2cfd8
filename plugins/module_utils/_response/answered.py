# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts that were answered: delivered again, an alert gets the answer that it got first, and nothing is done."""

from __future__ import annotations

import hashlib
import json
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir, StateDirError

MAX_REMEMBERED = 20_000
"""Answers that are remembered at most. They are kept in two files, of which the older is forgotten as a whole."""
REMEMBERED_FOR = 86_400
"""Seconds for which an answer is remembered at least, as long as there are not too many; at most twice that."""
_FEW = 8
"""Alerts of which each is searched for: that takes a tenth of the time of a look at each line."""
_NEWLINE = 10
NAME = "answered.jsonl"
_OLDER = f"{NAME}.1"
_LOCK = "answered"
_LOCK_TIMEOUT = 10


def key_of(alert: Alert) -> str:
    """What an alert has in common with another one only where it is delivered again.

    Its id alone is not enough: senders choose it, and some give all alerts of a rule the same. When it was received
    tells one that is delivered again from one that its sender sends again, as an Alertmanager does: that is a new one.
    """
    said = (
        alert.received_at,
        alert.source,
        alert.rule,
        alert.host,
        alert.time,
        *(alert.container.id, alert.container.name, alert.container.pid, alert.container.addresses),
        alert.message,
    )
    return f"{alert.id} {hashlib.sha256(json.dumps(said).encode('ascii')).hexdigest()[:32]}"


class Answer(t.NamedTuple):
    """What became of an alert, for one container.

    Attributes:
        key: of the alert.
        outcome: an outcome that answers.
        container_id: full id, or empty.
        policy_id: that answered, or empty.
        record_id: of the record in the action log, or empty.
    """

    key: str
    outcome: str
    container_id: str = ""
    policy_id: str = ""
    record_id: str = ""


class Answered:
    """The alerts that this host has answered. What does not work is told in C(warnings) of files, and never an error.

    Args:
        files: where they are remembered.
        clock: seconds since the epoch.
    """

    def __init__(self, files: StateDir, clock: t.Callable[[], float] = time.time) -> None:
        self._files = files
        self._clock = clock

    def recall(self, keys: t.Iterable[str]) -> dict[str, list[Answer]]:
        """The first answers of the alerts with those keys that were answered before."""
        wanted = {json.dumps(key).encode("ascii"): key for key in keys}
        found: dict[str, list[Answer]] = {}
        find = _few if len(wanted) <= _FEW else _many
        try:
            for name in (_OLDER, NAME) if wanted else ():
                # Most lines are about other alerts, and need not be read.
                for key, line in find(self._files.read(name) or b"", wanted):
                    answer = _parsed(line, self._clock())
                    if answer:
                        found.setdefault(key, []).append(answer)
        except StateDirError as error:
            self._warn(error)
            return {}
        return found

    def remember(self, answers: t.Iterable[Answer]) -> None:
        """Remember those whose outcome answers an alert; the others are to be tried again."""
        kept = [answer for answer in answers if OUTCOMES[answer.outcome].answers]
        if not kept:
            return
        now = int(self._clock())
        lines = b"".join(_line([answer[0], now, *answer[1:]]) for answer in kept)
        try:
            with self._files.lock(_LOCK, _LOCK_TIMEOUT):
                if self._is_full(now):
                    self._files.rotate(NAME, 1)
                self._files.append(NAME, lines)
        except StateDirError as error:
            self._warn(error)

    def _is_full(self, now: int) -> bool:
        newest = self._files.read(NAME) or b""
        first = _loaded(newest[: newest.find(b"\n")])
        return newest.count(b"\n") >= MAX_REMEMBERED // 2 or (bool(first) and abs(now - first[1]) > REMEMBERED_FOR)

    def _warn(self, error: StateDirError) -> None:
        warning = f"alerts that are delivered again may be answered again: {error}"
        if warning not in self._files.warnings:
            self._files.warnings.append(warning)


def _few(content: bytes, wanted: t.Mapping[bytes, str]) -> t.Iterator[tuple[str, bytes]]:
    """The lines about some alerts, each searched for: a pause is not to wait for a look at all lines."""
    for written, key in wanted.items():
        begins = b"[" + written + b","
        place = content.find(begins)
        while place >= 0:
            end = content.find(b"\n", place)
            if place == 0 or content[place - 1] == _NEWLINE:
                yield key, content[place : end if end >= 0 else None]
            place = content.find(begins, place + 1)


def _many(content: bytes, wanted: t.Mapping[bytes, str]) -> t.Iterator[tuple[str, bytes]]:
    """The same, found by looking at each line."""
    for line in content.split(b"\n"):
        key = wanted.get(line[1 : line.find(b'",') + 1])
        if key is not None:
            yield key, line


def _line(values: list[t.Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode("ascii") + b"\n"


def _parsed(line: bytes, now: float) -> Answer | None:
    values = _loaded(line)
    if not values or abs(now - values[1]) > 2 * REMEMBERED_FOR:
        return None
    return Answer(values[0], *values[2:])


def _loaded(line: bytes) -> list[t.Any]:
    """The values of a line, or none where it is torn or damaged."""
    try:
        values = json.loads(line)
    except ValueError:
        return []
    sound = (
        isinstance(values, list)
        and len(values) == len(Answer._fields) + 1
        and isinstance(values[1], int)
        and all(isinstance(value, str) for value in (values[0], *values[2:]))
        and values[2] in OUTCOMES
    )
    return values if sound else []
