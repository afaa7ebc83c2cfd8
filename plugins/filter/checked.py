# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The preflight of all hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: checked
short_description: The preflight of all hosts in one table
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes a table of what M(ironpost.container_guard.preflight_info) found on each host, and says below it what is
    missing on which hosts, and the command that mends it.
positional: _input, left
options:
  _input:
    description:
      - By host, the result of M(ironpost.container_guard.preflight_info); one that failed, too, and an empty one where
        there is none.
    type: dict
    required: true
  left:
    description: Hosts that are passed over where they have no result, as they are still to be asked.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Say what is missing
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: preflight} | ironpost.container_guard.checked).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(lines) for people, the last of which is the C(conclusion), and whether all hosts are C(ready).
    - C(hosts) says of each host whether it is C(ready), what was C(found), and its C(problems), each with C(name),
      C(problem), C(state), C(what) and C(remedy).
  type: dict
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.preflight import checked


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"checked": checked}
