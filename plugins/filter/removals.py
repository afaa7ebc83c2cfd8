# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook remove says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: removals
short_description: What was taken off the hosts of a fleet, and what stays there
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes one summary, for people and for programs, of what M(ironpost.container_guard.removal) returned on each host.
positional: _input, check_mode
options:
  _input:
    description: By host, the result of M(ironpost.container_guard.removal); one that failed, too.
    type: dict
    required: true
  check_mode:
    description: Whether it was only said what would be done; C(ansible_check_mode).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what came of it
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: removal} | ironpost.container_guard.removals(ansible_check_mode)).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) has of each host the paths C(removed), C(kept) and C(left); C(not_removed) says why one is not among
      them, and C(complete) that there is none; C(lines) has all of it for people.
  type: dict
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.removals import removals


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"removals": removals}
