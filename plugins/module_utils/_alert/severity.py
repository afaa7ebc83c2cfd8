# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The severity scale of the guard."""

from __future__ import annotations

import enum

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError


class Severity(enum.IntEnum):
    """info < low < medium < high < critical."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, value: object) -> Severity:
        """The severity of that name, in any case. Raises AlertError."""
        if isinstance(value, str):
            member = cls.__members__.get(value.strip().upper())
            if member is not None:
                return member
        raise AlertError("severity is not one of {}".format(", ".join(SEVERITIES)))


SEVERITIES = tuple(str(severity) for severity in Severity)
