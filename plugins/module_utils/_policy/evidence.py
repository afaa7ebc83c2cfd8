# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a policy wants collected of a container."""

from __future__ import annotations

import dataclasses
import typing as t

EVIDENCE = ("inspect", "top", "changes", "logs", "stats", "export")
ARCHIVE = "archive"
MAX_PATHS = 100


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A list of evidence.

    Attributes:
        kinds: any of EVIDENCE, in the order of the policy.
        paths: absolute paths in the container, to archive.
    """

    kinds: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @classmethod
    def from_list(cls, values: t.Iterable[t.Any]) -> Evidence:
        """The evidence in a list that the schema has checked."""
        kinds, paths = [], []
        for value in values:
            if isinstance(value, str):
                kinds.append(value)
            else:
                paths += value["paths"]
        return cls(tuple(kinds), tuple(paths))

    def to_list(self) -> list[t.Any]:
        """The list in its one canonical spelling, with all archives in one entry at the end."""
        archives = [{"type": ARCHIVE, "paths": list(self.paths)}] if self.paths else []
        return [*self.kinds, *archives]

    def __bool__(self) -> bool:
        return bool(self.kinds or self.paths)


NO_EVIDENCE = Evidence()
