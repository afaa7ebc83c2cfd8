# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The generic alert: the record of the guard itself, for everything that no other parser reads."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Detector
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES

NAME = "generic"


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object seems to be meant for one."""
    return "rule" in message or "severity" in message


def convert(message: dict[str, t.Any]) -> dict[str, t.Any]:
    """The alert as it is."""
    return {"severity": None, **message}


DETECTOR = Detector(NAME, recognises, convert, severities={severity: severity for severity in SEVERITIES})
