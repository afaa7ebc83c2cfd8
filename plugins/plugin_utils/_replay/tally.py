# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counting what attackers can make up any number of."""

from __future__ import annotations

import dataclasses
import typing as t

K = t.TypeVar("K", bound=t.Hashable)
S = t.TypeVar("S")


@dataclasses.dataclass
class Entry(t.Generic[S]):
    """How often something was counted, and a sample of it."""

    count: int
    sample: S


class Tally(t.Generic[K, S]):
    """Finds the most frequent of any number of keys in bounded memory (the algorithm of Misra and Gries).

    Counts are exact while there are at most C(size) keys. With more, each may be too low by up to C(undercount), which
    is at most the number of all that was counted divided by C(size).

    Attributes:
        undercount: by how much a count may be too low.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: dict[K, Entry[S]] = {}
        self.undercount = 0

    def add(self, key: K, sample: t.Callable[[], S]) -> None:
        """Count the key; the sample is made only for a key that is not held already."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.count += 1
        elif len(self._entries) < self._size:
            self._entries[key] = Entry(1, sample())
        else:
            # Costs as much as there are entries, which were counted one by one before: constant on the average.
            self.undercount += 1
            for held in self._entries.values():
                held.count -= 1
            self._entries = {held: entry for held, entry in self._entries.items() if entry.count}

    def top(self, most: int) -> list[tuple[K, Entry[S]]]:
        """The keys with the highest counts, highest first."""
        return sorted(self._entries.items(), key=lambda item: (-item[1].count, str(item[0])))[:most]
