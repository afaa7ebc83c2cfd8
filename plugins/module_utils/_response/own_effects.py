# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts that the guard itself causes: detectors tell of its pause, stop, kill and disconnect as of anybody's.

A policy that answered them would isolate for having isolated, and with sterner actions than the first one asked for.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import age
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import ISOLATED
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import compiled

RULES: t.Mapping[str, tuple[str, ...]] = {
    # Of its Docker listener, by number, which is a tag, or description: a container was stopped, paused, killed, left
    # a network.
    "wazuh": (
        *("87904", "87905", "87906", "87924", "87929"),
        *("Docker: Container * stopped*", "Docker: Container * paused*", "Docker: Container * unpaused*"),
        *("Docker: Container * received the action: *", "Docker: Network * disconnected*"),
        "Docker: Filesystem of container * exported*",  # evidence
    ),
    # Alerts on the metrics of cAdvisor that many copy: what is paused, stopped or killed does not report.
    "alertmanager": ("ContainerKilled", "ContainerAbsent", "ContainerDown", "ContainerUnhealthy"),
    "grafana": ("ContainerKilled", "ContainerAbsent", "ContainerDown", "ContainerUnhealthy"),
}
"""By source, patterns of the rules or tags of those whose alerts may be the guard's own doing: the one list of that."""


class OwnEffects:
    """Knows alerts that tell of what the guard did.

    Args:
        journal: of this host.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def explain(self, alert: Alert, container_id: str) -> str:
        """Why the alert counts as the guard's own doing, or empty.

        It does while the isolation holds, for an alert of what was seen since it began, and of a listed rule. Never
        once the container is released.
        """
        patterns = RULES.get(alert.source.lower(), ())
        if not any(compiled(pattern).matches(said) for pattern in patterns for said in (alert.rule, *alert.tags)):
            return ""
        try:
            entry = self._journal.load(container_id)
        except GuardError:
            return ""
        since = parse_timestamp(entry.since) if entry and entry.phase == ISOLATED else None
        seen_at = age.seen_at(alert)
        if since is None or seen_at is None or seen_at < since:
            return ""
        return f"the guard isolated the container at {entry.since if entry else ''}, and such alerts tell of that"
