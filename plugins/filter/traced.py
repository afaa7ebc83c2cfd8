# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook trace says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: traced
short_description: What became of an alert, for people
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes lines of what M(ironpost.container_guard.alert_info) and M(ironpost.container_guard.isolation_info) know of an
    alert or a request.
positional: _input, hosts, trace_id
options:
  _input:
    description: The result of M(ironpost.container_guard.alert_info); one that failed, too.
    type: dict
    required: true
  hosts:
    description: By host, the result of M(ironpost.container_guard.isolation_info); one that failed, too.
    type: dict
    required: true
  trace_id:
    description: Of the alert or the request.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Say what became of it
  ansible.builtin.debug:
    msg: "{{ history | ironpost.container_guard.traced({inventory_hostname: found}, trace_id) }}"
"""

RETURN = r"""
_value:
  description: C(lines), and whether anybody knows of it, C(known).
  type: dict
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.traced import known, traced


def _traced(history: t.Any, hosts: t.Any, trace_id: t.Any) -> dict[str, t.Any]:
    return {"lines": traced(history, hosts, str(trace_id)), "known": known(history, hosts, str(trace_id))}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"traced": _traced}
