# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The message of a detector, readable and harmless."""

from __future__ import annotations

DOCUMENTATION = r"""
name: shown
short_description: The message of a detector as text that is no template
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Alerts carry the message as it was received in C(raw), as base64. What an attacker wrote into it is a template again
    once it is decoded with C(b64decode), which ansible-core 2.18 executes on the controller.
  - This filter decodes it, and breaks up by a space what would open a template. What is not printable, line ends too,
    is shown as escapes. Text that is not UTF-8 is shown as far as it is.
options:
  _input:
    description: The message as base64.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what the detector said
  ansible.builtin.debug:
    msg: "{{ ansible_eda.event.alerts | map(attribute='raw') | map('ironpost.container_guard.shown') }}"
"""

RETURN = r"""
_value:
  description: The message.
  type: str
"""

import base64
import binascii
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import shown_line


def shown(raw: t.Any) -> str:
    """The message. Raises AnsibleFilterError."""
    try:
        return shown_line(base64.b64decode(raw, validate=True).decode("utf-8", "replace"))
    except (TypeError, ValueError, binascii.Error) as error:
        raise AnsibleFilterError("shown takes base64, such as the raw of an alert, and this is none") from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"shown": shown}
