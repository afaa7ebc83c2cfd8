# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module policy_set: policies are read, compiled and tested on the controller."""

from __future__ import annotations

import pathlib
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.cases import check_cases
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.load import load_policies


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type information
    """Compile and test the policies of O(src), then hand them to the module on the host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        warnings: list[str] = []
        # Without src, or with options that do not exist, the module's own argument spec has the best message.
        if arguments.get("src") and arguments.get("state") != "rolled_back":
            try:
                source = pathlib.Path(self._find_needle("files", arguments["src"]))
                loaded = load_policies(source)
                tested = check_cases(source, loaded.policy_set)
            except AnsibleError as error:
                missing = GuardError(
                    f"there is no policy directory {arguments['src']} on the controller",
                    kind="policies_missing",
                    remedy=f"src is absolute, or relative to the role or the playbook. {error}",
                )
                return _failed(result, missing)
            except GuardError as error:
                return _failed(result, error)
            arguments["compiled"] = Deployment(loaded.policy_set, loaded.files).to_json()
            warnings = [str(finding) for finding in (*loaded.warnings, *tested.warnings)]
            result["tests"] = {"passed": tested.passed}
        result.update(
            self._execute_module(
                module_name="ironpost.container_guard.policy_set", module_args=arguments, task_vars=task_vars
            )
        )
        if warnings:
            result["warnings"] = [*result.get("warnings", []), *warnings]
        return result


def _failed(result: dict[str, t.Any], error: GuardError) -> dict[str, t.Any]:
    return {**result, "failed": True, "changed": False, "msg": str(error), "error": error.to_dict()}
