# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module alert_info. The controller does all of it, in its action plugin."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {"trace_id": {"type": "str", "required": True}, "spool": {"type": "path"}}


def main() -> None:
    """Entry point."""
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True), refuse)


def refuse(_module: AnsibleModule) -> dict[str, t.Any]:
    """What is left for a host to do. Raises GuardError (C(not_on_controller))."""
    raise GuardError(
        "the spool of the event source is on the controller only",
        kind="not_on_controller",
        remedy="Call it by its full name ironpost.container_guard.alert_info, so that its action plugin runs",
    )
