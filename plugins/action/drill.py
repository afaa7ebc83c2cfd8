# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module drill: the alert is posted from the controller, where detectors are heard."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import (
    format_timestamp,
    parse_timestamp,
    utc_now,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.alarm import (
    Address,
    AlarmError,
    alert_about,
    raise_alarm,
)

Json = dict[str, t.Any]


class ActionModule(HostAction):
    """Let the host make or remove a victim, and raise the alarm."""

    module = "drill"
    needed = ("container", "removed", "time")

    def ask_host(self, arguments: Json, variables: Json) -> Json:
        """Make or remove it, and post the alert. The token stays here. Raises AnswerError."""
        own = {key: arguments.pop(key, None) for key in ("host", *Address._fields)}
        found = super().ask_host(arguments, variables)
        if found.get("failed") or not own["url"] or not found["container"].get("id"):
            return found
        arrived = utc_now()
        made = parse_timestamp(found["time"])
        posted_at = format_timestamp(arrived)
        ahead = round((made - arrived).total_seconds() * 1000) if made else 0
        host = str(own["host"] or variables.get("inventory_hostname", ""))
        alert = alert_about(found["container"], host, posted_at)
        found.update(alert=alert, posted_at=posted_at, clock_ahead=ahead)
        try:
            address = Address(*(str(own[key] or "") for key in Address._fields))
            return {**found, "trace_id": raise_alarm(address, alert)}
        except AlarmError as error:
            # With the container, so that it can be removed.
            return {**found, "failed": True, "msg": str(error), "error": error.to_dict()}

    def check(self, found: Json) -> None:
        """Whether the container is one. Raises AnswerError."""
        checks.container(found.get("container") or {})
