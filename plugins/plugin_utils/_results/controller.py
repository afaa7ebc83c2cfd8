# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only the controller knows: who runs this, and which hosts there are."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

ABOUT_NOBODY = "its host {} is not in the inventory"


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
    """Ids of the alerts about a host that is not in the inventory, each with that host."""
    hosts = {*variables.get("groups", {}).get("all", ()), variables.get("inventory_hostname")}
    return {
        str(alert.get("id", "")): text.display(alert["inventory_host"])
        for alert in alerts or ()
        if isinstance(alert, t.Mapping) and alert.get("inventory_host") and alert["inventory_host"] not in hosts
    }
