# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module mute: what the host returns is checked on the controller."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.controller import actor_of


class ActionModule(HostAction):
    """Mute on the host."""

    module = "mute"
    needed = ("mutes",)

    def defaults(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """What only the controller knows: who asks for it, and what time it is."""
        # A host whose clock is wrong would mute for too long, or not at all.
        return {"actor": actor_of(variables, os.environ), "controller_time": now()}

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the mutes are mutes. Raises AnswerError."""
        checks.mutes(found)
