# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alertmanager: messages of its webhook receiver, each with a group of alerts; also what Rancher makes of them.

An alert knows labels only, and whoever exports a metric writes its labels: a workload those of its own. It does not
write of which target they are, C(job) and C(instance), and not C(alertname), which a rule of Prometheus sets. So a
container is named by cAdvisor alone, and Falco spoke by way of falcosidekick only where no rule made the alert.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import MAX_TAGS, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import (
    Detector,
    PassedOver,
    first_text,
    part,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors import falco
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError

NAME = "alertmanager"

SEVERITIES = {
    **dict.fromkeys(("critical", "page", "emergency", "alert", "fatal"), "critical"),
    **dict.fromkeys(("error", "high", "major"), "high"),
    **dict.fromkeys(("warning", "warn", "medium", "moderate"), "medium"),
    **dict.fromkeys(("notice", "low", "minor"), "low"),
    **dict.fromkeys(("info", "information", "informational", "debug", "none", "ok"), "info"),
}
"""Label C(severity), which is free text, or C(priority) of falcosidekick -> severity of the guard."""
_OTHERWISE = "medium"

_GROUP_KEYS = ("groupKey", "groupLabels", "commonLabels", "receiver")
_TRUNCATED = "truncatedAlerts"
_HOST_LABELS = ("host", "hostname", "node", "nodename")
_CADVISOR = "cadvisor"
"""The job of Prometheus by which cAdvisor is scraped, perhaps behind a C(/)."""
_DOCKER_CGROUP = re.compile(r"/(?:[^/]+/)*?(?:docker/|docker-)([0-9a-f]{64})(?:\.scope)?(/.*)?", re.ASCII | re.DOTALL)
"""Label C(id) of cAdvisor: /docker/ID by cgroupfs, /system.slice/docker-ID.scope by systemd, and what is below it."""


def recognises(message: dict[str, t.Any]) -> bool:
    """Whether the object has the shape of a group of alerts."""
    return isinstance(message.get("alerts"), list) and any(key in message for key in _GROUP_KEYS)


def split(message: dict[str, t.Any]) -> list[object]:
    """The alerts of a group; those that were left out of it make one more element, which convert refuses."""
    # Each has a status of its own, also where the group still fires. Rancher says it of the group alone.
    alerts = [
        {"status": message.get("status"), **alert} if isinstance(alert, dict) else alert for alert in message["alerts"]
    ]
    missing = message.get(_TRUNCATED)
    if isinstance(missing, int) and not isinstance(missing, bool) and missing > 0:
        return [*alerts, {_TRUNCATED: missing}]
    return alerts


def convert(alert: dict[str, t.Any], source: str = NAME) -> dict[str, t.Any] | PassedOver:
    """One alert of a group in the generic shape, or why it needs no answer. Raises AlertError.

    Args:
        alert: as split made it.
        source: who sends such groups.
    """
    if _TRUNCATED in alert:
        raise AlertError(
            f"{text.display(alert[_TRUNCATED], 32)} more alerts of the group were left out",
            kind="truncated",
            remedy="Set max_alerts: 0 in webhook_configs of the receiver",
        )
    if alert.get("status") == "resolved":
        return PassedOver.RESOLVED
    labels, annotations = part(alert, "labels"), part(alert, "annotations")
    message = first_text(*(annotations.get(key) for key in ("description", "message", "summary")))
    if _is_of_falco(labels):
        found = falco.convert(_of_falco(labels, message))
    else:
        found = {
            "source": source,
            "rule": labels.get("alertname"),
            "severity": labels.get("severity"),
            "host": _host(labels),
            "container": _container(labels),
            "tags": [f"{key}={value}" for key, value in labels.items() if isinstance(value, str)][:MAX_TAGS],
            "message": message,
        }
    return {**found, "id": _identity(alert), "time": alert.get("startsAt")}


def _identity(alert: dict[str, t.Any]) -> str | None:
    """What the alert keeps as long as it fires, however often it is sent."""
    fingerprint, since = text.token(alert.get("fingerprint")), timestamp.parse_timestamp(alert.get("startsAt"))
    return f"{fingerprint}-{timestamp.format_timestamp(since)}" if fingerprint and since else None


def _is_of_cadvisor(labels: dict[str, t.Any]) -> bool:
    return first_text(labels.get("job")).rpartition("/")[2] == _CADVISOR


def _is_of_falco(labels: dict[str, t.Any]) -> bool:
    return labels.get("source") == falco.NAME and {"priority", "rule"} <= labels.keys() and "alertname" not in labels


def _host(labels: dict[str, t.Any]) -> str:
    if _is_of_cadvisor(labels):
        named = first_text(*(labels.get(key) for key in _HOST_LABELS))
        if named:
            return named
    # The instance is the address of the exporter.
    return first_text(labels.get("instance")).rpartition(":")[0] or first_text(labels.get("instance"))


def _container(labels: dict[str, t.Any]) -> dict[str, t.Any] | None:
    in_kubernetes = "pod" in labels and "namespace" in labels
    if not _is_of_cadvisor(labels):
        return {"subject": Subject.NOT_DOCKER.value} if in_kubernetes else None
    cgroup = first_text(labels.get("id"))
    of_docker = _DOCKER_CGROUP.fullmatch(cgroup)
    if of_docker and of_docker.group(2):
        # What is below the control group of a container was made in there. cAdvisor takes any id in its name for one.
        return {"id": of_docker.group(1)}
    image, name = first_text(labels.get("image")), text.container_name(labels.get("name"))
    if of_docker:
        return {"id": of_docker.group(1), "name": name, "image": image}
    if in_kubernetes or cgroup.startswith("/"):
        return {"subject": Subject.NOT_DOCKER.value}
    return {"name": name, "image": image} if name else None


def _of_falco(labels: dict[str, t.Any], message: str) -> dict[str, t.Any]:
    """The message of Falco of which falcosidekick made labels, with _ for the dots in the names of its fields."""
    return {
        "rule": labels["rule"],
        "priority": labels["priority"],
        "source": labels.get("eventsource"),
        "hostname": labels.get("hostname"),
        "tags": first_text(labels.get("tags")).split(","),
        "output": message,
        "output_fields": labels,
    }


DETECTOR = Detector(NAME, recognises, convert, SEVERITIES, _OTHERWISE, split=split)
