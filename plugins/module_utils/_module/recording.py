# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing the action log at the end of a module."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir


def record(
    events: t.Sequence[ActionEvent],
    state_dir: str,
    result: dict[str, t.Any],
    periods: t.Mapping[str, int] | None = None,
) -> None:
    """Write the action log. What was done is done: where that fails, the result keeps it and says so.

    Args:
        events: what to record.
        state_dir: where the log is.
        result: of the module; warnings and an error are added.
        periods: for each policy id, seconds within which repeats of a decision are one record.
    """
    files = StateDir(state_dir)
    try:
        ActionLog(files).append(events, periods or {})
    except GuardError as error:
        result.update(failed=True, error=error.to_dict(), msg="; ".join(filter(None, [result.get("msg"), str(error)])))
    if files.warnings:
        result["warnings"] = [*result.get("warnings", ()), *files.warnings]
