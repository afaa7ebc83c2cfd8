# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module policy_set_info."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import (
    path_of,
    previous_path,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import read_deployment


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {"path": {"type": "path", "default": common.DEFAULT_POLICY_SET, "aliases": ["policy_set"]}}


def main() -> None:
    """Entry point."""
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True), report)


def report(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError."""
    path = path_of(module.params)
    deployment = _deployment(path)
    warnings = []
    try:
        previous = _deployment(previous_path(path))
    except PolicyError as error:
        previous = None
        warnings.append(f"there is nothing to roll back to: {error.message}")
    result: dict[str, t.Any] = {
        "changed": False,
        "path": path,
        "deployed": deployment is not None,
        "previous": previous.policy_set.digest if previous else None,
        "warnings": warnings,
    }
    if deployment:
        policy_set = deployment.policy_set
        result.update(
            digest=policy_set.digest,
            policies=[policy.to_dict() for policy in policy_set.policies],
            protect=policy_set.protect.to_dict(),
            limits=policy_set.limits.to_dict(),
            mode=policy_set.mode,
            deployed_at=deployment.deployed_at,
            files=list(deployment.files),
        )
    return result


def _deployment(path: str) -> Deployment | None:
    try:
        return read_deployment(path)
    except PolicyError as error:
        if error.kind == "policy_set_missing":
            return None
        raise
