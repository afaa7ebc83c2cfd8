# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module preflight_info: what the host finds is judged on the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.common import DEFAULT_POLICY_SET
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import DEFAULT_STATE_DIR
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.preflight import judged


class ActionModule(HostAction):
    """Ask the host what it has, and say what that means and what mends it."""

    module = "preflight_info"
    needed = ("checks", "policy_set_digest", "python", "package_manager", "user", "uid", "time")

    def ask_host(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run the module between two looks at the clock, and judge its answer. Raises AnswerError."""
        before = utc_now()
        found = super().ask_host(arguments, variables)
        if found.get("failed"):
            return found
        return judged(
            found,
            state_dir=str(arguments.get("state_dir") or DEFAULT_STATE_DIR),
            policy_set=str(arguments.get("policy_set") or arguments.get("path") or DEFAULT_POLICY_SET),
            before=before,
            after=utc_now(),
        )

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the digest is a digest. Raises AnswerError."""
        checks.digests(found)
