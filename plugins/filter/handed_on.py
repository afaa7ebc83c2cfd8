# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a playbook hands on of a result."""

from __future__ import annotations

DOCUMENTATION = r"""
name: handed_on
short_description: What came of each container, for set_stats and for people
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes of the result of M(ironpost.container_guard.isolation) or M(ironpost.container_guard.alert_response) what our
    playbooks hand on with C(set_stats). Failures are handed on, too, with what is known.
positional: _input, check_mode
options:
  _input:
    description: The result, as registered.
    type: dict
    required: true
  check_mode:
    description: Whether it was only said what would be done; C(ansible_check_mode).
    type: bool
    required: true
"""

EXAMPLES = r"""
- name: Hand the results on
  ansible.builtin.set_stats:
    data:
      isolated: >-
        {{ {inventory_hostname: result | ironpost.container_guard.handed_on(ansible_check_mode)} }}
"""

RETURN = r"""
_value:
  description:
    - C(containers) is a list of mappings with C(container), C(container_id), C(outcome), C(policy_id), C(trace_id) and
      C(check_mode), one for each container or alert; C(summary) counts the outcomes; C(check_mode) says it for all.
    - C(error) holds kind, message and remedy of what went wrong, or is empty.
    - C(not_restored) lists what a release could not give back.
  type: dict
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.handed_on import handed_on


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"handed_on": handed_on}
