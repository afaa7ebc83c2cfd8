# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module evidence: what the host returns is checked on the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction


class ActionModule(HostAction):
    """Collect or verify on the host."""

    module = "evidence"
    needed = ("case_id", "directory", "manifest_sha256", "evidence")

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether id and hash are such, as they become paths on the controller. Raises AnswerError."""
        checks.evidence(found)
        checks.evidence_collected(found)
