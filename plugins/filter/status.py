# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook status says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: status
short_description: What is isolated on a fleet, what does not hold, and who did not answer
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes one summary, for people and for programs, of what M(ironpost.container_guard.isolation_info) returned on each
    host.
options:
  _input:
    description: By host, the result of M(ironpost.container_guard.isolation_info); one that failed, too.
    type: dict
    required: true
  fail_on:
    description:
      - For which findings C(failed) is to name the hosts.
      - V(breach) is an isolation that does not hold, an entry of the journal that cannot be read, and an action log
        that was changed. V(unreachable) is a host, or its engine, that did not answer. V(policies) is a host that has
        no policy set, or another one than most.
      - A list, or a text of several words.
    type: list
    elements: str
    choices: [breach, policies, unreachable]
    default: []
"""

EXAMPLES = r"""
- name: Say what is isolated
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: found} | ironpost.container_guard.status).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(hosts) has of each host its C(isolations), what is C(wrong) besides, C(cut_off_by_others), its C(mutes) and
      C(policy_set), and why it was C(not_reached).
    - C(isolated), C(breaches) and C(awaiting_approval) count; C(policy_sets) has the hosts of each digest;
      C(not_reached) says why, by host.
    - C(guard_version) is the version of the collection on the controller, which is what runs on the hosts.
    - C(failed) has the hosts of each finding in O(fail_on) that there is, and C(lines) all of it for people.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.status import status


def _status(hosts: t.Any, fail_on: t.Any = ()) -> dict[str, t.Any]:
    try:
        return status(hosts, fail_on)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"status": _status}
