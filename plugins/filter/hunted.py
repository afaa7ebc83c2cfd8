# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook hunt says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: hunted
short_description: All containers that match on a fleet, counted before any is touched
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes one list of what M(ironpost.container_guard.isolation) returned on each host in check mode, and says whether
    all of it may be isolated.
  - With O(listed), says what came of it.
options:
  _input:
    description: By host, the result of M(ironpost.container_guard.isolation); one that failed, too.
    type: dict
    required: true
  max:
    description: How many containers may be isolated in all, V(1) or more.
    type: int
    default: 10
  isolate:
    description: Whether they are to be isolated.
    type: bool
    default: false
  trace_id:
    description: By which the isolations are to be recorded on all hosts. Made up where it is empty.
    type: str
    default: ''
  listed:
    description: What this filter returned before they were isolated; then the input is what came of that.
    type: dict
"""

EXAMPLES = r"""
- name: Say what matches
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: would} | ironpost.container_guard.hunted(max=5)).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(containers) has of each container its host, name, id, image, by what it matched, and its outcome. C(isolate) has
      the ids to isolate by host, and is empty where C(refused) says why they must not be. C(trace_id) is that by which
      they are to be recorded. C(not_reached) says why a host did not answer, C(complete) whether all of them told all,
      and C(lines) all of it for people.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import hunted as hunting


def hunted(
    hosts: t.Any,
    max: t.Any = hunting.DEFAULT_MAX,  # noqa: A002 - what it is called in playbooks
    isolate: bool = False,
    trace_id: t.Any = "",
    listed: t.Any = None,
) -> dict[str, t.Any]:
    """The summary. Raises AnsibleFilterError."""
    try:
        return hunting.isolated(listed, hosts) if listed else hunting.hunted(hosts, max, isolate, trace_id)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"hunted": hunted}
