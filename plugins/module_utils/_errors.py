# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one error family of the guard: raised deep, shown once."""

from __future__ import annotations

import typing as t


class GuardError(Exception):
    """Something could not be done; nothing was changed unless the message says so.

    Attributes:
        kind: short machine-readable name, C(snake_case), stable over releases.
        message: what failed, and on what.
        remedy: what the reader can do about it; may be empty.
        details: further JSON-serialisable facts.
    """

    default_kind = "error"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        remedy: str = "",
        details: t.Mapping[str, t.Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind or self.default_kind
        self.message = message
        self.remedy = remedy
        self.details = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message

    def to_dict(self) -> dict[str, t.Any]:
        """The error as modules return it in C(error)."""
        return {"kind": self.kind, "message": self.message, "remedy": self.remedy, **self.details}
