# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grafana: its webhook contact point, which sends what Alertmanager does, and says of which organisation it is."""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors import alertmanager

NAME = "grafana"


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of a group of alerts of Grafana."""
    return alertmanager.recognises(message) and "orgId" in message


DETECTOR = dataclasses.replace(
    alertmanager.DETECTOR,
    name=NAME,
    recognises=recognises,
    convert=functools.partial(alertmanager.convert, source=NAME),
)
