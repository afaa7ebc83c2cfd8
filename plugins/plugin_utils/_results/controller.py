# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only the controller knows: who runs this, and which hosts there are."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

NOT_IN_INVENTORY = "its host {} is not in the inventory"
NOT_IN_THIS_RUN = "its host {} takes no part in this run"


def actor_of(variables: t.Mapping[str, t.Any], environment: t.Mapping[str, str]) -> str:
    """Who asks for what is done: the user of AWX, C(rulebook), or the user of the controller, before sudo."""
    for name in ("awx_user_name", "tower_user_name"):
        user = text.display(variables.get(name))
        if user:
            return user
    if "ansible_eda" in variables:
        return "rulebook"
    return text.display(environment.get("SUDO_USER") or environment.get("USER"))


def alerts_about_nobody(alerts: t.Any, variables: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The alerts that no host of this run answers: by id, or by number where an alert has none, why that is so."""
    inventory = variables.get("groups", {}).get("all", ())
    here = {*variables.get("ansible_play_hosts_all", ()), variables.get("inventory_hostname")}
    found = {}
    for number, alert in enumerate(alerts or (), 1):
        host = alert.get("inventory_host") if isinstance(alert, t.Mapping) else None
        if isinstance(host, str) and host and host not in here:
            why = NOT_IN_THIS_RUN if host in inventory else NOT_IN_INVENTORY
            found[str(alert.get("id") or f"number {number}")] = why.format(text.display(host))
    return found


def absent_hosts(
    wanted: t.Iterable[str], run_hosts: t.Container[str], variables: t.Mapping[str, t.Any]
) -> list[tuple[str, str]]:
    """Those of the hosts that do not answer here, and why that is so.

    Args:
        wanted: inventory hosts, or groups and patterns, which are not looked at: they mean those that take part.
        run_hosts: all hosts of the run.
        variables: of a host of the run.
    """
    groups = variables.get("groups", {})
    return [
        (host, (NOT_IN_THIS_RUN if host in groups.get("all", ()) else NOT_IN_INVENTORY).format(text.display(host)))
        for host in wanted
        if text.host_name(host) and host not in run_hosts and host not in groups
    ]


def given_alerts(variables: t.Mapping[str, t.Any]) -> t.Any:
    """What a person gave as C(guard_alerts), or None. It is read as it was given: as text of alerts is no template.

    Raises ValueError where it is text that is no JSON.
    """
    given = variables.get("guard_alerts")
    return json.loads(given) if isinstance(given, str) else given
