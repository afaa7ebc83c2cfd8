# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module policy_set: policies are read, compiled and tested on the controller."""

from __future__ import annotations

import pathlib
import typing as t

from ansible.errors import AnsibleError

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.cases import check_cases
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.load import load_policies
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction


class ActionModule(HostAction):
    """Compile and test the policies of O(src), then hand them to the module on the host."""

    module = "policy_set"
    needed = ("digest", "path", "policies")

    def ask_host(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Compile and test, then run the module. Raises GuardError."""
        # Without src, or with options that do not exist, the module's own argument spec has the best message.
        if not arguments.get("src") or arguments.get("state") == "rolled_back":
            return super().ask_host(arguments, variables)
        source = self._source(arguments["src"])
        loaded = load_policies(source)
        tested = check_cases(source, loaded.policy_set)
        compiled = Deployment(loaded.policy_set, loaded.files).to_json()
        found = super().ask_host({**arguments, "compiled": compiled}, variables)
        return {
            **found,
            "tests": {"passed": tested.passed},
            "warnings": [*found.get("warnings", ()), *map(str, loaded.warnings), *map(str, tested.warnings)],
        }

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the digests are digests. Raises AnswerError."""
        checks.digests(found)

    def _source(self, src: str) -> pathlib.Path:
        try:
            return pathlib.Path(self._find_needle("files", src))
        except AnsibleError as error:
            raise GuardError(
                f"there is no policy directory {src} on the controller",
                kind="policies_missing",
                remedy=f"src is absolute, or relative to the role or the playbook. {error}",
            ) from error
