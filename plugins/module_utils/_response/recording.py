# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing the action log at the end of a module."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog


def record(
    events: t.Sequence[ActionEvent],
    log: ActionLog,
    result: dict[str, t.Any],
) -> set[str]:
    """Write the action log. What was done is done: where that fails, the result keeps it and says so.

    Args:
        events: what to record.
        log: of the host.
        result: of the module; an error is added.

    Returns:
        the ids of those that have a record of their own.
    """
    try:
        return log.append(events)
    except GuardError as error:
        not_recorded(error, result)
        return set()


def not_recorded(error: GuardError, result: dict[str, t.Any]) -> None:
    """Say in the result of a module that what it did is not on record."""
    result.update(failed=True, error=error.to_dict(), msg="; ".join(filter(None, [result.get("msg"), str(error)])))
