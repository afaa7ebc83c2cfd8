# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module policy_set, as far as it runs on the host: put a compiled policy set in place."""

from __future__ import annotations

import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import write_atomically
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "src": {"type": "path", "required": True},
        "path": {"type": "path", "default": common.DEFAULT_POLICY_SET, "aliases": ["dest"]},
        "compiled": {"type": "str"},
    }


def main() -> None:
    """Entry point."""
    common.run(AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True), deploy)


def deploy(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError; then what was deployed before stays."""
    path, compiled = module.params["path"], module.params["compiled"]
    if compiled is None:
        raise GuardError(
            "the policies were not compiled on the controller",
            kind="not_compiled",
            remedy="Call it by its full name ironpost.container_guard.policy_set, so that its action plugin runs",
        )
    if not os.path.isabs(path):
        raise common.invalid_option(f"path is {path}, but must be absolute")
    # The host checks what it was sent: nothing is deployed that it could not load again.
    wanted = PolicySet.from_json(compiled, "the compiled policy set")
    before, damage = _deployed(path)
    changed = before is None or before.digest != wanted.digest
    if changed and not module.check_mode:
        _write(path, wanted.to_json())
    policies = {policy.id: policy for policy in before.policies} if before else {}
    wanted_policies = {policy.id: policy for policy in wanted.policies}
    result: dict[str, t.Any] = {
        "changed": changed,
        "path": path,
        "digest": wanted.digest,
        "previous_digest": before.digest if before else "",
        "policies": list(wanted_policies),
        "added": sorted(set(wanted_policies) - set(policies)),
        "removed": sorted(set(policies) - set(wanted_policies)),
        "modified": sorted(
            name for name in set(policies) & set(wanted_policies) if policies[name] != wanted_policies[name]
        ),
        "warnings": [f"{damage}. It is replaced"] if damage else [],
    }
    if module._diff:
        result["diff"] = {
            "before_header": path,
            "after_header": path,
            "before": _readable(before),
            "after": _readable(wanted),
        }
    return result


def read_policy_set(path: str) -> PolicySet:
    """The policy set that is deployed at the path. Raises PolicyError."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise PolicyError(
            f"no policy set is deployed at {path}",
            kind="policy_set_missing",
            remedy="Deploy one with the playbook ironpost.container_guard.deploy_policies",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"cannot read {path}: {error}", kind="policy_set_damaged") from error
    return PolicySet.from_json(text, path)


def _deployed(path: str) -> tuple[PolicySet | None, str]:
    """What is deployed, or None and, where something is there that cannot be read, what is wrong with it."""
    try:
        return read_policy_set(path), ""
    except PolicyError as error:
        return None, "" if error.kind == "policy_set_missing" else error.message


def _write(path: str, text: str) -> None:
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        write_atomically(path, text, 0o644)
    except OSError as error:
        raise GuardError(
            f"cannot write {path}: {error.strerror}",
            kind="write_failed",
            remedy="What was deployed before is still in place. Check the directory, its owner and free space",
        ) from error


def _readable(policy_set: PolicySet | None) -> str:
    if policy_set is None:
        return ""
    return json.dumps(json.loads(policy_set.to_json()), indent=2, sort_keys=True) + "\n"
