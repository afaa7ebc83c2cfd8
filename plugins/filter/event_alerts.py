# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All alerts of an event."""

from __future__ import annotations

DOCUMENTATION = r"""
name: event_alerts
short_description: All alerts of an event of the rulebook, also those that are packed
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - An event with many alerts has the first one in C(alerts), and the others in C(packed_alerts), as the rule engine
    takes long to write what one can read. This filter returns them all.
  - M(ironpost.container_guard.alert_response) needs no filter. It takes all alerts of the event where it is given none.
options:
  _input:
    description: The event.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show which rules fired
  ansible.builtin.debug:
    msg: "{{ ansible_eda.event | ironpost.container_guard.event_alerts | map(attribute='rule') | unique }}"
"""

RETURN = r"""
_value:
  description: The alerts, those that matter most first. Those that were packed have an empty C(raw).
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import alerts_of


def event_alerts(event: t.Any) -> list[t.Any]:
    """The alerts; none of an event that is about none. Raises AnsibleFilterError."""
    if not isinstance(event, t.Mapping):
        raise AnsibleFilterError("event_alerts takes an event, such as ansible_eda.event, and this is none")
    try:
        return alerts_of(event) or []
    except GuardError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"event_alerts": event_alerts}
