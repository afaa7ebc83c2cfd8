# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only the controller knows: who runs this, and which hosts there are."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import alerts_of

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


def run_hosts(variables: t.Mapping[str, t.Any]) -> list[str]:
    """All hosts of the run of this task."""
    return [str(host) for host in variables.get("ansible_play_hosts_all") or [variables.get("inventory_hostname", "")]]


def concerned(alerts: t.Any, host: str, absent: t.Collection[str] = ()) -> list[int]:
    """The places of those alerts that a host is to answer: they name it, or no host.

    Args:
        alerts: a list, or nothing. An element that is no alert names no host.
        host: inventory name.
        absent: hosts that take no part, where it is this host that says so.
    """
    return [place for place, alert in enumerate(_list(alerts)) if _host_of(alert) in ("", host, *absent)]


def hosts_of_nobody(alerts: t.Any, variables: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The hosts that alerts are about and that nobody in this run answers for, and why that is so."""
    inventory = variables.get("groups", {}).get("all", ())
    here = {*variables.get("ansible_play_hosts_all", ()), variables.get("inventory_hostname")}
    found = {}
    for host in map(_host_of, _list(alerts)):
        if host and host not in here:
            found[host] = _why_absent(host, inventory)
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
        (host, _why_absent(host, groups.get("all", ())))
        for host in wanted
        if text.host_name(host) and host not in run_hosts and host not in groups
    ]


def _why_absent(host: str, inventory: t.Container[str]) -> str:
    return (NOT_IN_THIS_RUN if host in inventory else NOT_IN_INVENTORY).format(text.display(host))


def given_alerts(variables: t.Mapping[str, t.Any]) -> list[t.Any] | None:
    """What a person gave as C(guard_alerts), or None. It is read as it was given: as text of alerts is no template.

    Raises GuardError (C(invalid_option)) where it is no list of alerts.
    """
    given = variables.get("guard_alerts")
    if given is None or (isinstance(given, str) and not given.strip()):
        return None  # blank is what a survey of AWX gives where nothing was filled in
    try:
        given = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError) as error:
        raise _invalid(f"is text that is no JSON: {error}") from error
    if isinstance(given, t.Mapping):
        given = [given]
    if not isinstance(given, (list, tuple)):
        raise _invalid("is no list of alerts")
    return list(given)


def event_alerts(variables: t.Mapping[str, t.Any]) -> list[t.Any] | None:
    """The alerts of the event of the rulebook, or None. They are read as they are: their texts are no templates.

    Raises PackedError, a GuardError, where those that are packed cannot be read.
    """
    event = variables.get("ansible_eda")
    event = event.get("event") if isinstance(event, t.Mapping) else None
    return alerts_of(event) if isinstance(event, t.Mapping) else None


def _list(alerts: t.Any) -> t.Sequence[t.Any]:
    return alerts if isinstance(alerts, (list, tuple)) else ()


def _host_of(alert: t.Any) -> str:
    return text.host_name(alert.get("inventory_host")) if isinstance(alert, t.Mapping) else ""


def _invalid(what: str) -> GuardError:
    return GuardError(f"guard_alerts {what}", kind="invalid_option", remedy="Nothing was touched")
