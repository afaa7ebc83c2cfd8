# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durations as people type them: C(2h) rather than C(7200)."""

from __future__ import annotations

import re

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
# At most nine digits, so that nothing is ever too long for an int, or for a date. Digits are those of ASCII.
_WITH_UNITS = re.compile(r"\s*".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))
_SECONDS = re.compile(r"[0-9]{1,9}")
_ACCEPTED = "Give seconds, or days, hours, minutes and seconds in this order, such as 90, 45s, 90m, 2h, 1h30m or 7d"


def parse_duration(given: object, name: str = "the duration") -> int:
    """The seconds that are meant, 0 or more.

    Args:
        given: a number of seconds, or text: digits alone are seconds, C(d), C(h), C(m), C(s) are units, in this order.
        name: of the option, for the message.

    Raises:
        GuardError: C(invalid_option), which says what is accepted. An empty text is no duration: whoever takes it as
            not given asks before.
    """
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 10**9:
        return given
    if isinstance(given, str):
        said = given.strip().lower()
        if _SECONDS.fullmatch(said):
            return int(said)
        counts = _WITH_UNITS.fullmatch(said)
        if counts and said:
            return sum(int(count or 0) * seconds for count, seconds in zip(counts.groups(), _UNITS.values()))
    raise GuardError(f"{name} is {text.display(given, 80)!r}", kind="invalid_option", remedy=_ACCEPTED)
