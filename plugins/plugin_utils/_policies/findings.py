# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with a policy directory: all of it at once."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing to mend.

    Attributes:
        file: where it is, relative to the directory.
        message: what is wrong.
        hint: what was probably meant, or what to do; may be empty.
        policy_id: of which policy, or empty.
        line: line in the file from 1, or 0 where it is not known.
        column: column in the line from 1, or 0 where it is not known.
        level: C(error) blocks the deployment, C(warning) does not.
    """

    file: str
    message: str
    hint: str = ""
    policy_id: str = ""
    line: int = 0
    column: int = 0
    level: str = "error"

    def __str__(self) -> str:
        policy = f" policy {self.policy_id}:" if self.policy_id else ""
        place = place_of(self.file, self.line, self.column)
        return f"{place}:{policy} {self.message}" + (f" ({self.hint})" if self.hint else "")

    def to_dict(self) -> dict[str, t.Any]:
        """The finding as the action plugin returns it."""
        return dataclasses.asdict(self)


def place_of(file: str, line: int, column: int) -> str:
    """The place as editors and terminals understand it, C(file:line:column), as far as it is known."""
    return ":".join([file, *(str(number) for number in (line, column) if number)])
