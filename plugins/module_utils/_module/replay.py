# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module replay, as far as it is a module: its options. All its work is done by the action plugin."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "alerts": {"type": "path", "required": True},
        "src": {"type": "path", "required": True},
        "containers": {"type": "path"},
        "host_map": {"type": "dict", "default": {}},
        "report": {"type": "path"},
    }


def main() -> None:
    """Entry point."""
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True), refuse)


def refuse(_module: AnsibleModule) -> dict[str, t.Any]:
    """What is left for a host to do. Raises GuardError (C(not_on_controller))."""
    raise GuardError(
        "alerts are replayed on the controller only",
        kind="not_on_controller",
        remedy="Call it by its full name ironpost.container_guard.replay, so that its action plugin runs",
    )
