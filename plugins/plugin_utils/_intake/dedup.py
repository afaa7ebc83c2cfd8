# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Repeats: the same alert again is answered with the first one, as long as the answer would be the same."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import typing as t
from collections.abc import Iterable

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    AUDIT,
    EXPIRED,
    ISOLATED,
    NO_POLICY,
    OWN_EFFECT,
    PROTECTED,
    STALE,
    SUPERSEDED,
    UNRESOLVED,
)

DECIDED = frozenset((NO_POLICY, PROTECTED, AUDIT))
"""Outcomes after which the same alert would be decided the same way, as nothing was done."""
BY_TIME = frozenset((SUPERSEDED, EXPIRED, STALE, UNRESOLVED, OWN_EFFECT))
"""Outcomes that an alert has by its time, so that the same alert of a later time may have another one."""


def key_of(alert: Alert, targets: Iterable[str] = ()) -> bytes:
    """What an alert has in common with its repeats, and with no other: 16 bytes.

    Never its text, which differs from one repeat to the next. Always whom it goes to, as an alert is answered with
    another one by those hosts alone that get the other one.

    Args:
        alert: that may be a repeat.
        targets: hosts that are to answer it.
    """
    container = alert.container
    if container.id:
        about: t.Any = container.id
    elif container.name:
        about = (container.name,)
    else:
        about = (container.subject.value, container.pid, *sorted(container.addresses))
    whose = (alert.inventory_host, alert.host, sorted(targets))
    said = (whose, about, alert.source, alert.rule, int(alert.severity), alert.tags)
    return hashlib.blake2b(repr(said).encode("utf-8", "surrogatepass"), digest_size=16).digest()


@dataclasses.dataclass
class First:
    """The alert that its repeats are folded into.

    Attributes:
        seq: number of it in the spool.
        trace_id: of it.
        until: seconds since the epoch until which it takes repeats; None while it is open.
        folded: repeats so far.
        outcome: how it ended; empty while it is open.
        acted: when its container was isolated, in seconds since the epoch by the clock of its detector; None where
            nobody has asked yet, 0 where it is not known.
    """

    seq: int
    trace_id: str
    until: float | None = None
    folded: int = 0
    outcome: str = ""
    acted: float | None = None


class Dedup:
    """The alerts that take repeats: all that are not answered, and for a short while some that have ended.

    Args:
        isolated_for: seconds for which one that ended C(isolated) takes repeats.
        decided_for: the same for those in DECIDED.
    """

    def __init__(self, isolated_for: float, decided_for: float) -> None:
        self._seconds = {ISOLATED: isolated_for, **dict.fromkeys(DECIDED, decided_for)}
        self._firsts: dict[bytes, First] = {}
        self._open: dict[int, tuple[bytes, First]] = {}
        self._leaving: collections.deque[tuple[float, bytes, First]] = collections.deque()

    @property
    def longest(self) -> float:
        """Seconds after which no alert that ended takes repeats."""
        return max(self._seconds.values())

    def first(self, key: bytes, now: float) -> First | None:
        """The alert that one with that key is folded into, if any."""
        found = self._firsts.get(key)
        if found is None or found.until is None or now < found.until <= now + self.longest:
            return found
        return None  # its time is over, or the clock was set back

    def add(self, key: bytes, seq: int, trace_id: str) -> None:
        """An alert that is open from now on."""
        first = self._firsts[key] = First(seq, trace_id)
        self._open[seq] = key, first

    def withdraw(self, seq: int) -> None:
        """Forget an alert that was added, and was not stored after all."""
        self.answered(seq)
        self._open.pop(seq, None)

    def answered(self, seq: int) -> None:
        """An alert is answered by all, and open only until somebody was told: it takes no repeats any more."""
        if seq in self._open:
            self._remove(*self._open[seq])

    def end(self, seq: int, outcome: str, now: float) -> int:
        """An alert has ended so. Returns how many were folded into it."""
        if seq not in self._open:
            return 0
        key, first = self._open.pop(seq)
        if self._firsts.get(key) is first:
            first.outcome = outcome
            self._retire(key, first, now + self._seconds.get(outcome, 0), now)
        self._forget_old(now)
        return first.folded

    def recall(self, key: bytes, seq: int, trace_id: str, outcome: str, ended: float, now: float) -> None:
        """An alert that ended before a restart."""
        self._retire(key, First(seq, trace_id, outcome=outcome), ended + self._seconds.get(outcome, 0), now)

    def forget_ended(self) -> None:
        """Take no repeats for alerts that have ended: policies have changed, and the answer may be another one."""
        while self._leaving:
            self._remove(*self._leaving.popleft()[1:])

    def _retire(self, key: bytes, first: First, until: float, now: float) -> None:
        first.until = until
        if until <= now:
            self._remove(key, first)
        else:
            self._firsts[key] = first
            self._leaving.append((until, key, first))

    def _forget_old(self, now: float) -> None:
        while self._leaving and not now < self._leaving[0][0] <= now + self.longest:
            self._remove(*self._leaving.popleft()[1:])

    def _remove(self, key: bytes, first: First) -> None:
        if self._firsts.get(key) is first:
            del self._firsts[key]
