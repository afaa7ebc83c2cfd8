# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a policy wants done where somebody undoes an isolation of it."""

from __future__ import annotations

import dataclasses
import typing as t

REPAIR, ESCALATE, REPORT = "repair", "escalate", "report"
ON_BREACH = (REPAIR, ESCALATE, REPORT)
KILL, CUT = "kill", "network_disconnect"
THEN = (KILL, CUT, REPORT)
"""What may follow once it was repaired too often. A stop would run what is paused once more."""


@dataclasses.dataclass(frozen=True)
class OnBreach:
    """What is done where a container does not stay isolated, by the host service.

    Attributes:
        action: C(repair) isolates it again, C(escalate) does at once what C(then) says, C(report) only tells.
        max_repairs: how often it is repaired within the window. A healer that restarts what it finds unhealthy would
            let the entry point run each time.
        window: seconds.
        then: what is done after that, C(kill), C(network_disconnect) or C(report).
    """

    action: str = REPAIR
    max_repairs: int = 5
    window: int = 600
    then: str = KILL

    @classmethod
    def from_value(cls, value: str | t.Mapping[str, t.Any] | None) -> OnBreach:
        """The one in a value that the schema has checked: an action, or a mapping of all."""
        if value is None:
            return cls()
        return cls(action=value) if isinstance(value, str) else cls(**value)

    def to_dict(self) -> dict[str, t.Any]:
        """In its one canonical spelling."""
        return dataclasses.asdict(self)


DEFAULT = OnBreach()
OF_A_PERSON = OnBreach(then=REPORT)
"""For what a person isolated, who did not say that it may be ended."""
