# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Durations as people type them, for what takes seconds."""

from __future__ import annotations

DOCUMENTATION = r"""
name: seconds
short_description: The seconds of a duration as people type it
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - For keywords of ansible-core, such as C(timeout), which take a number. The filter P(ansible.builtin.int#filter)
    makes V(0) of C(2m), and that is no timeout at all.
options:
  _input:
    description: A number of seconds, or text such as V(90), V(45s), V(90m), V(2h) or V(1h30m).
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Respond to alerts
  ironpost.container_guard.alert_response:
    alerts: "{{ alerts }}"
  timeout: "{{ guard_task_timeout | default(100, true) | ironpost.container_guard.seconds }}"
"""

RETURN = r"""
_value:
  description: The seconds. Anything that is no duration is an error, which says what is one.
  type: int
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.durations import parse_duration


def seconds(given: t.Any) -> int:
    """The seconds. Raises AnsibleFilterError."""
    try:
        return parse_duration(given)
    except GuardError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"seconds": seconds}
