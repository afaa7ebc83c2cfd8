# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows as a table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: table
short_description: Rows as a table of plain text
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes lines for people of a list of mappings, such as results of many hosts. No line holds an escape sequence, a
    line end, or what Ansible would take for a template, whatever the rows hold.
positional: _input, columns
options:
  _input:
    description:
      - The rows. Texts, numbers, bools and lists of these are shown, and a dash for what is missing or empty.
    type: list
    elements: dict
    required: true
  columns:
    description: Keys of the rows, in order. With spaces for underscores they are the headings.
    type: list
    elements: str
    required: true
  cell_width:
    description: Characters of the widest cell, at least V(4). What is longer is cut.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Say which host has which policy set
  ansible.builtin.debug:
    msg: "{{ rows | ironpost.container_guard.table(['host', 'digest', 'changed']) }}"
"""

RETURN = r"""
_value:
  description: A line of headings, and a line for each row. Nothing at all without rows.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import table as tables


def table(rows: t.Any, columns: t.Sequence[str], cell_width: int = tables.CELL_WIDTH) -> list[str]:
    """The lines. Raises AnsibleFilterError."""
    try:
        return tables.table(rows, columns, cell_width)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"table": table}
