# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CrowdSec: alerts of its HTTP notification in the format C({{.|toJson}}), or of its file notification.

It says who attacks, which is somebody outside. A container is named only where the attack was read from the log of
one, by the Docker datasource.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    Detector,
    PassedOver,
    first_text,
    part,
    texts,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity

NAME = "crowdsec"


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of an alert of CrowdSec."""
    alert = _unwrapped(message)
    return "scenario" in alert and "scope" in part(alert, "source")


def convert(message: dict[str, t.Any]) -> dict[str, t.Any] | PassedOver:
    """The alert in the generic shape, or why it needs no answer."""
    alert = _unwrapped(message)
    if alert.get("simulated") is True:
        return PassedOver.SIMULATED
    attacker = part(alert, "source")
    scope, value = (first_text(attacker.get(key)) for key in ("scope", "value"))
    return {
        "id": alert.get("uuid"),
        "source": NAME,
        "rule": alert["scenario"],
        "severity": None,
        # A scenario can collect for hours before it overflows; only then there is something to answer.
        "time": first_text(alert.get("stop_at"), alert.get("start_at"), alert.get("created_at")),
        "host": alert.get("machine_id"),
        "container": _container(alert),
        "tags": [*texts(alert.get("labels")), *([f"{scope.lower()}:{value}"] if scope and value else [])],
        "message": alert.get("message"),
    }


def _unwrapped(message: dict[str, t.Any]) -> dict[str, t.Any]:
    return part(message, "alert") if message.get("program") == NAME else message


def _container(alert: dict[str, t.Any]) -> dict[str, t.Any] | None:
    """The container whose log it was read from; None where it was read from something else."""
    names = set()
    events = alert.get("events") or alert.get("Events")
    for event in events if isinstance(events, list) else ():
        meta = _meta(part(event).get("meta"))
        # Other datasources have something else there, which may look like the name of a container.
        if meta.get("datasource_type") == "docker":
            names.add(text.container_name(meta.get("datasource_path")))
    names.discard("")
    if not names:
        return None
    # Of several it would be any.
    return {"name": names.pop() if len(names) == 1 else "", "subject": Subject.UNIDENTIFIED.value}


def _meta(meta: object) -> dict[str, t.Any]:
    pairs = [part(pair) for pair in meta] if isinstance(meta, list) else []
    return {first_text(pair.get("key")): pair.get("value") for pair in pairs}


DETECTOR = Detector(NAME, recognises, convert, severities={}, default=str(Severity.LOW))
