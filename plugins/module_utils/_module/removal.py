# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module removal."""

from __future__ import annotations

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import DIRECTORY
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import (
    path_of,
    previous_path,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import deployed
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.removal import remove
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET},
        "keep_records": {"type": "bool", "default": True},
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True), report)


def report(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError."""
    params = module.params
    policy_set = path_of({"path": params["policy_set"]})
    files = StateDir(common.state_dir_of(params))
    paths = [policy_set, previous_path(policy_set)]
    # A variable names them. What it names by a slip, such as the directory, is not removed for that.
    foreign = [path for path in paths if os.path.lexists(path) and not deployed(path)[0]]
    policy_sets = [path for path in paths if path not in foreign]
    done = remove(files, policy_sets, DIRECTORY, params["keep_records"], module.check_mode)
    return {"changed": bool(done.removed), **done._asdict(), "left": [*foreign, *done.left], "warnings": files.warnings}
