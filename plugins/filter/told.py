# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a playbook says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: told
short_description: What came of each container, a line for each
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes lines for people of what P(ironpost.container_guard.handed_on#filter) returns.
options:
  _input:
    description: What is handed on.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what came of it
  ansible.builtin.debug:
    msg: "{{ result | ironpost.container_guard.handed_on(ansible_check_mode) | ironpost.container_guard.told }}"
"""

RETURN = r"""
_value:
  description: Lines such as C(shop-7) with the outcome, the policy and the trace id.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.handed_on import told


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"told": told}
