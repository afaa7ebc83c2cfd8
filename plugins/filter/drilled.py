# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook drill says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: drilled
short_description: Whether alerts come to an isolation on each host of a fleet, or where not and why
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes one summary, for people and for programs, of what the steps of a drill returned on each host.
positional: _input, check_mode
options:
  _input:
    description:
      - By host a mapping of results, as far as there are any; of those that failed, too.
      - C(victim) is that of M(ironpost.container_guard.drill), C(seen) of M(ironpost.container_guard.isolation_info)
        with the trace id, C(decision) of M(ironpost.container_guard.decision_info), C(release) of
        M(ironpost.container_guard.isolation), C(left) of M(ironpost.container_guard.isolation_info) after that, and
        C(removed) of M(ironpost.container_guard.drill).
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
    msg: "{{ ({inventory_hostname: {'victim': victim, 'seen': seen}} | ironpost.container_guard.drilled).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) has of each host C(posted_to_contained) in milliseconds, whether the isolation was C(verified), the
      container C(released) and C(cleaned) up, the step that it C(failed_at) and C(why), C(trace_id) and C(policy_id).
    - C(passed) says whether all did, and C(lines) has all of it for people.
  type: dict
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.drilled import drilled


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"drilled": drilled}
