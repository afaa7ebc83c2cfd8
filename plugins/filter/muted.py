# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook mute says."""

from __future__ import annotations

DOCUMENTATION = r"""
name: muted
short_description: What is muted on a host, a line for each
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes lines for people of the result of M(ironpost.container_guard.mute), also where it failed.
options:
  _input:
    description: The result, as registered.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what is muted
  ansible.builtin.debug:
    msg: "{{ result | ironpost.container_guard.muted }}"
"""

RETURN = r"""
_value:
  description: Lines with what is muted, until when, by whom and why.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.handed_on import muted


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"muted": muted}
