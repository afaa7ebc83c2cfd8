# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module decision_info: what the host returns is checked on the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction


class ActionModule(HostAction):
    """Ask the host what it would decide."""

    module = "decision_info"
    needed = ("decisions", "rejected", "summary")

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the decisions are decisions. Raises AnswerError."""
        for decision in checks.dicts(found.get("decisions"), "decisions"):
            checks.outcome(decision.get("outcome"), checks.DECISIONS)
        if found.get("summary") is not None:
            checks.counts(found["summary"], checks.DECISIONS)
        checks.digests(found)
