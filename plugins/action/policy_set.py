# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module policy_set: policies are read, compiled and tested on the controller."""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible.errors import AnsibleError

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import (
    NO_PREVIOUS,
    ROLLED_BACK,
    place,
)
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
        """Compile and test, give the event source the set, then run the module. Raises GuardError."""
        options = {name: value for name, value in arguments.items() if name != "source_path"}
        for_source = arguments.get("source_path")
        back = arguments.get("state") == ROLLED_BACK
        # Without src, or with options that do not exist, the module's own argument spec has the best message.
        if not back and not arguments.get("src"):
            return super().ask_host(options, variables)
        if back:
            added, deployment = {"warnings": []}, None
        else:
            source = self._source(arguments["src"])
            loaded = load_policies(source)
            tested = check_cases(source, loaded.policy_set)
            deployment = Deployment(loaded.policy_set, loaded.files)
            options["compiled"] = deployment.to_json()
            added = {
                "tests": {"passed": tested.passed},
                "warnings": [*map(str, loaded.warnings), *map(str, tested.warnings)],
            }
        if for_source:
            added["source_changed"] = self._tell_source(for_source, deployment, added["warnings"])
        found = super().ask_host(options, variables)
        added["warnings"] = [*found.get("warnings", ()), *added["warnings"]]
        return {**found, **added, "changed": bool(found.get("changed") or added.get("source_changed"))}

    def _tell_source(self, path: str, wanted: Deployment | None, warnings: list[str]) -> bool:
        """Whether the file of the event source was, or is to be, another one. Raises GuardError.

        It comes before the hosts: about a host with a set that it does not know the source drops nothing, so that a
        flood would get through. About one that still has the set before it drops what neither of them wants.
        """
        path = os.path.abspath(os.path.expanduser(path))
        try:
            return place(path, wanted, write=not self._task.check_mode).changed
        except GuardError as error:
            if error.kind != NO_PREVIOUS:
                raise
            warnings.append(f"the set of the event source stays as it is: {error}")
            return False

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
