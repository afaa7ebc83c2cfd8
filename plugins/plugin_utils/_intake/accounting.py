# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where every element that was received has gone: accounts that add up, also after a crash."""

from __future__ import annotations

import collections
from collections.abc import Mapping

ANSWERED, UNANSWERED, HANDED_OVER = "answered", "unanswered", "handed_over"
FOLDED, DROPPED, REJECTED, PASSED_OVER = "folded", "dropped", "rejected", "passed_over"
RECEIVED, WAITING = "received", "waiting"

AT_THE_DOOR = (DROPPED, REJECTED, PASSED_OVER)
"""Accounts of elements that the spool does not keep: nothing is promised of them."""
ENDS = (ANSWERED, UNANSWERED, HANDED_OVER)
"""Accounts of alerts that the spool kept until they ended. C(handed_over) are those of a setting without receipts."""
ACCOUNTS = (RECEIVED, *ENDS, FOLDED, *AT_THE_DOOR)
"""What is written down. C(waiting) is what is left of C(received) when all the others are taken away."""


class Accounts:
    """Numbers of elements. They always add up, as C(received) is counted here and nowhere else.

    Args:
        numbers: what was written down; names that are not known are left out.
    """

    def __init__(self, numbers: Mapping[str, int] | None = None) -> None:
        self._numbers = {name: int((numbers or {}).get(name, 0)) for name in ACCOUNTS}

    def arrive(self, stored: int = 0, folded: int = 0, counts: Mapping[str, int] | None = None) -> None:
        """Count elements of one request.

        Args:
            stored: that wait from now on.
            folded: that are answered with another one.
            counts: of the accounts at the door.
        """
        counts = counts or {}
        for name in AT_THE_DOOR:
            self._numbers[name] += counts.get(name, 0)
        self._numbers[FOLDED] += folded
        self._numbers[RECEIVED] += stored + folded + sum(counts.get(name, 0) for name in AT_THE_DOOR)

    def end(self, account: str, number: int = 1) -> None:
        """Count alerts that waited and have ended. C(account) is one of ENDS."""
        self._numbers[account] += number

    def copy(self) -> Accounts:
        """The same numbers, to be changed on their own."""
        return Accounts(self._numbers)

    def to_dict(self) -> dict[str, int]:
        """All accounts by name, without C(waiting)."""
        return dict(self._numbers)

    def shown(self) -> dict[str, int]:
        """All accounts by name, C(waiting) among them."""
        others = sum(number for name, number in self._numbers.items() if name != RECEIVED)
        return {**self._numbers, WAITING: self._numbers[RECEIVED] - others}


class Tally:
    """How often something was, by a key of texts, for no more than so many keys.

    For what was dropped by (host, source, rule): attackers choose the last, so their number must be bounded.

    Args:
        most: keys that are kept. What is counted beyond them goes by OTHER.
    """

    OTHER = ("", "", "")

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._counts: collections.Counter[tuple[str, ...]] = collections.Counter()

    def count(self, *key: str, number: int = 1) -> None:
        """Count what has that key."""
        if key not in self._counts and len(self._counts) >= self._most:
            key = self.OTHER
        self._counts[key] += number

    def most_common(self, number: int = 20) -> list[tuple[tuple[str, ...], int]]:
        """The keys that were counted most often, and how often."""
        return self._counts.most_common(number)

    def total(self) -> int:
        """How much was counted."""
        return self._counts.total()
