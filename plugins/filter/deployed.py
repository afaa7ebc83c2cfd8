# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of a deployment of policies."""

from __future__ import annotations

DOCUMENTATION = r"""
name: deployed
short_description: Which host has which policy set since when, in one table
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes a table of what M(ironpost.container_guard.policy_set) returned on each host, and says whether all hosts were
    reached and have the same set.
positional: _input, left
options:
  _input:
    description:
      - By host, the result of M(ironpost.container_guard.policy_set); one that failed, too, and an empty one where
        there is none.
    type: dict
    required: true
  left:
    description: Hosts that have their turn later, where they have no result yet.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Say what came of it
  ansible.builtin.debug:
    msg: "{{ ({inventory_hostname: result} | ironpost.container_guard.deployed).lines }}"
"""

RETURN = r"""
_value:
  description:
    - C(lines) for people, the last of which is the C(conclusion); whether all is C(good) so far, which is so where all
      hosts that had their turn were reached and have the same set; and C(digests) by host.
  type: dict
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.deployed import deployed


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"deployed": deployed}
