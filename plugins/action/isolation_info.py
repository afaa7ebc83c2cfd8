# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module isolation_info: what the host returns is checked on the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction


class ActionModule(HostAction):
    """Ask the host what is isolated."""

    module = "isolation_info"
    needed = ("isolations", "damaged", "agree", "cut_off_by_others", "action_log")

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the isolations are isolations. Raises AnswerError."""
        checks.isolation_info(found)
