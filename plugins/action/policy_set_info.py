# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module policy_set_info: what the host returns is checked on the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction


class ActionModule(HostAction):
    """Ask the host which policies it has."""

    module = "policy_set_info"
    needed = ("path", "deployed")

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the digests are digests. Raises AnswerError."""
        checks.digests(found)
