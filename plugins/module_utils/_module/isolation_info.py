# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module isolation_info."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import path_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._response import standing
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "trace_id": {"type": "str", "default": ""},
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET},
        **common.engine_spec(),
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True), report)


def report(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError."""
    trace_id = common.trace_id_of(module.params) if module.params["trace_id"] else ""
    files = StateDir(common.state_dir_of(module.params))
    policy_set = path_of({"path": module.params["policy_set"]})
    engine = common.lazy_engine_of(module.params)
    return standing.report(engine, files, module.params["docker_host"], policy_set, trace_id)
