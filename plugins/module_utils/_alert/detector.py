# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the parsers of the detectors have in common.

A parser says whether a decoded message has the shape of its detector, and turns it into the generic shape of an alert,
with the severity in the detector's own words. What these words mean is a table, which users can override.
"""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import UNKNOWN
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES, Severity


class PassedOver(enum.Enum):
    """Why a message of a detector needs no answer."""

    NO_ALERT = "no_alert"
    """It reports what goes on, such as a flow or the start of a process."""
    RESOLVED = "resolved"
    """What it is about is over."""
    STATE_CHANGE = "state_change"
    """Docker reports what was done to it, which may be what the guard itself did."""
    SIMULATED = "simulated"
    """The detector was told to make believe."""


def _whole(message: dict[str, t.Any]) -> t.Sequence[object]:
    return (message,)


@dataclasses.dataclass(frozen=True)
class Detector:
    """How the messages of a detector are read.

    Attributes:
        name: as it stands in paths and options.
        recognises: whether an object has the shape of its messages.
        convert: an object of that shape as the generic alert, whose severity is in the detector's own words or None; or
            why it needs no answer. Raises AlertError, and nothing else.
        severities: the detector's own words, in lower case -> severity of the guard.
        default: the severity of an alert that says none of these; empty where it is refused.
        says_severity: what the detector calls its severity.
        split: the alerts that one message holds.
    """

    name: str
    recognises: t.Callable[[dict[str, t.Any]], bool]
    convert: t.Callable[[dict[str, t.Any]], dict[str, t.Any] | PassedOver]
    severities: t.Mapping[str, str]
    default: str = ""
    says_severity: str = "severity"
    split: t.Callable[[dict[str, t.Any]], t.Sequence[object]] = _whole

    def severity(self, alert: dict[str, t.Any], overrides: Overrides) -> str:
        """What the severity of a converted alert is to the guard. Raises AlertError where it says none that is known.

        Args:
            alert: as convert made it.
            overrides: of this and of other detectors.
        """
        own = text.display(alert["severity"], 64).strip().lower()
        of_source = overrides.get(first_text(alert.get("source")).lower()) if overrides else None
        if of_source:
            for key in (*texts([alert.get("rule")]), *texts(alert.get("tags")), own, DEFAULT):
                severity = of_source.get(key.strip().lower())
                if severity:
                    return severity
        severity = self.severities.get(own, self.default)
        if not severity:
            raise AlertError("{} is not one of {}".format(self.says_severity, ", ".join(self.severities)))
        return severity


Overrides = t.Mapping[str, t.Mapping[str, str]]
"""Source of alerts -> its rule, tag or own word for a severity -> severity of the guard; keys in lower case."""
DEFAULT = "default"
"""The key of an override for what none of the others is for."""


def read_overrides(value: object) -> Overrides:
    """The overrides in an option, with their keys in lower case. Raises AlertError (C(invalid_option))."""
    if not isinstance(value, dict) or not all(isinstance(mapping, dict) for mapping in value.values()):
        raise _invalid("is not a mapping of sources of alerts to mappings")
    return {
        _key(source): {_key(key): _severity(key, given) for key, given in of.items()} for source, of in value.items()
    }


def _key(key: object) -> str:
    # YAML reads the level of a rule as a number.
    return text.display(key).strip().lower()


def _severity(key: object, value: object) -> str:
    try:
        return str(Severity.parse(value))
    except AlertError:
        raise _invalid("holds something else than {} for {}".format(", ".join(SEVERITIES), _key(key))) from None


def _invalid(what: str) -> AlertError:
    return AlertError(
        f"severities {what}", kind="invalid_option", remedy="Write, for example, {tetragon: {file-monitoring: high}}"
    )


def part(message: object, *path: str) -> dict[str, t.Any]:
    """The object at that path within a message, empty where there is none."""
    for key in path:
        message = message.get(key) if isinstance(message, dict) else None
    return message if isinstance(message, dict) else {}


def texts(value: object) -> list[str]:
    """The texts in a list, without others; none where it is no list."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def said(value: object) -> t.Any:
    """The value, or None where it only says that the detector does not know."""
    return None if value in ("", UNKNOWN) else value


def first_text(*values: object) -> str:
    """The first value that is a text with something in it, or empty."""
    return next((value for value in values if isinstance(value, str) and said(value) is not None), "")


def either_side(*addresses: object) -> dict[str, t.Any] | None:
    """What a network detector says about a container: the usable addresses of a flow, or nothing."""
    usable = [each for each in dict.fromkeys(text.address(address) for address in addresses) if each]
    return {"addresses": usable} if usable else None
