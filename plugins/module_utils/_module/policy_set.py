# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module policy_set, as far as it runs on the host: put a compiled policy set in place, or the previous one."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import write_atomically
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import (
    deployed,
    read_deployment,
)

DEPLOYED, ROLLED_BACK = "deployed", "rolled_back"
NO_PREVIOUS = "no_previous"


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "src": {"type": "path"},
        "path": {"type": "path", "default": common.DEFAULT_POLICY_SET, "aliases": ["dest"]},
        "state": {"type": "str", "choices": [DEPLOYED, ROLLED_BACK], "default": DEPLOYED},
        "source_path": {"type": "path"},
        "compiled": {"type": "str"},
    }


def main() -> None:
    """Entry point."""
    module = common.GuardModule(
        argument_spec=argument_spec(), required_if=[("state", DEPLOYED, ("src",))], supports_check_mode=True
    )
    common.run(module, put_in_place)


def put_in_place(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError; then what was deployed before stays."""
    path = path_of(module.params)
    back = module.params["state"] == ROLLED_BACK
    done = place(path, None if back else _compiled(module.params["compiled"]), write=not module.check_mode)
    before, wanted = done.before, done.now.policy_set
    policies = {policy.id: policy for policy in before.policies} if before else {}
    wanted_policies = {policy.id: policy for policy in wanted.policies}
    result: dict[str, t.Any] = {
        "changed": done.changed,
        "path": path,
        "digest": wanted.digest,
        "previous_digest": before.digest if before else "",
        "deployed_at": done.now.deployed_at,
        "policies": list(wanted_policies),
        "added": sorted(set(wanted_policies) - set(policies)),
        "removed": sorted(set(policies) - set(wanted_policies)),
        "modified": sorted(
            name for name in set(policies) & set(wanted_policies) if policies[name] != wanted_policies[name]
        ),
        "warnings": [f"{done.damage}. It is replaced"] if done.damage else [],
    }
    if module._diff:
        result["diff"] = {
            "before_header": path,
            "after_header": path,
            "before": readable(before) if before else "",
            "after": readable(wanted),
        }
    return result


class Placed(t.NamedTuple):
    """What is at a path.

    Attributes:
        now: what is there, or would be; C(deployed_at) is empty where it was not written.
        before: the set that was there before, or None.
        damage: what is wrong with a file that was there and cannot be read, or empty.
        changed: whether another set was there.
    """

    now: Deployment
    before: PolicySet | None
    damage: str
    changed: bool


def place(path: str, wanted: Deployment | None, write: bool) -> Placed:
    """Put a policy set in place by a rename, and keep the one before; unless an equal one is there.

    Args:
        path: absolute.
        wanted: what is to be there; None for the one that the last deployment replaced.
        write: whether to do it, or only to say what would be done.

    Raises:
        GuardError: what was there before is still there, then.
    """
    now = wanted or _previous(path)
    before, damage = deployed(path)
    if before and before.policy_set.digest == now.policy_set.digest:
        return Placed(before, before.policy_set, damage, changed=False)
    now = dataclasses.replace(now, deployed_at=timestamp.now() if write else "")
    if write:
        # A rollback keeps nothing: run again, on a fleet of which one host failed, it must not go forward.
        if before and wanted:
            # First, so that an interrupted run can only lose what was deployed before that, and never what is deployed.
            _write(previous_path(path), before.to_json())
        _write(path, now.to_json())
    return Placed(now, before.policy_set if before else None, damage, changed=True)


def path_of(params: t.Mapping[str, t.Any]) -> str:
    """Where the policy set is deployed. Raises GuardError (C(invalid_option)) where that is not absolute."""
    if not os.path.isabs(params["path"]):
        raise common.invalid_option(f"path is {params['path']}, but must be absolute")
    return str(params["path"])


def previous_path(path: str) -> str:
    """Where the set is kept that was deployed before the one at the path."""
    return f"{path}.previous"


def readable(policy_set: PolicySet) -> str:
    """The set for people who compare it with another: one fact a line, each with the policy it belongs to, by id.

    A unified diff shows few lines around a change, so a line that did not name its policy would tell nothing.
    """
    policies = sorted(policy_set.policies, key=lambda policy: policy.id)
    parts: list[tuple[str, dict[str, t.Any]]] = [
        *((f"policy {policy.id}", policy.to_dict()) for policy in policies),
        ("protect", policy_set.protect.to_dict()),
        ("limits", policy_set.limits.to_dict()),
        ("policy set", {"mode": policy_set.mode}),
    ]
    return "".join(f"{name}: {fact}\n" for name, content in parts for fact in _facts(content))


def _facts(content: t.Mapping[str, t.Any], prefix: str = "") -> t.Iterator[str]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _facts(value, f"{prefix}{key}.")
        elif value not in ("", []):
            yield f"{prefix}{key} = {json.dumps(value)}"


def _compiled(text: str | None) -> Deployment:
    if text is None:
        raise GuardError(
            "the policies were not compiled on the controller",
            kind="not_compiled",
            remedy="Call it by its full name ironpost.container_guard.policy_set, so that its action plugin runs",
        )
    # The host checks what it was sent: nothing is deployed that it could not load again.
    return Deployment.from_json(text, "the compiled policy set")


def _previous(path: str) -> Deployment:
    try:
        return read_deployment(previous_path(path))
    except PolicyError as error:
        if error.kind != "policy_set_missing":
            raise
        raise GuardError(
            f"there is no earlier policy set to go back to: {previous_path(path)} does not exist",
            kind=NO_PREVIOUS,
            remedy="It is kept by every deployment that replaces another. Deploy the policies that you want",
        ) from None


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
