# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module isolation: what the host returns is checked on the controller."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.controller import actor_of


class ActionModule(HostAction):
    """Isolate or release on the host."""

    module = "isolation"
    needed = ("results", "summary")

    def defaults(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """What only the controller knows: who asks for it, and what time it is."""
        # Hosts may have the time wrong, and releases are compared with the moments at which alerts were received.
        return {"actor": actor_of(variables, os.environ), "controller_time": now()}

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the outcomes are outcomes. Raises AnswerError."""
        checks.isolation(found)

    def outcomes(self, found: dict[str, t.Any]) -> t.Iterable[str]:
        """The outcome of each container."""
        return [result["outcome"] for result in found.get("results") or ()]
