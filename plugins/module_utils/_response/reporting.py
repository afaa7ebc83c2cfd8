# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What came of requests of people and playbooks: put on record, and shown."""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import shown_claims
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import RELEASED
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.recording import record
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import Result


class Asked(t.NamedTuple):
    """How results are wanted.

    Attributes:
        alone: one container was asked for, whose result is also that of the request.
        check: nothing was done, and nothing is recorded.
        diff: what is different before and after is wanted.
        fail_on_error: whether a request fails where one container does.
    """

    alone: bool = False
    check: bool = False
    diff: bool = False
    fail_on_error: bool = True


def reported(
    results: t.Sequence[Result], events: t.Sequence[ActionEvent], log: ActionLog, intents: Intents | None, asked: Asked
) -> dict[str, t.Any]:
    """What the module C(isolation) returns; the action log is written on the way.

    Args:
        results: of the request.
        events: the record of each.
        log: of the host.
        intents: of the request, or None.
        asked: how it is wanted.
    """
    found: dict[str, t.Any] = {"changed": any(event.changed for event in events)}
    troubled: dict[str, t.Any] = {}
    recorded: set[str] = set()
    if not asked.check:
        done = [
            event
            for result, event in zip(results, events)
            if event.changed or not result.ok or event.outcome == RELEASED
        ]
        recorded = record([*(intents.ends if intents else ()), *done], log, troubled)
    shown = [_shown(result, event, event.id if event.id in recorded else "") for result, event in zip(results, events)]
    found.update(
        results=shown,
        summary=dict(collections.Counter(one["outcome"] for one in shown)),
        warnings=[
            warning if asked.alone else f"{one['container']['name']}: {warning}"
            for one in shown
            for warning in one["warnings"]
        ],
    )
    if asked.alone and results and results[0].outcome:
        found.update({name: value for name, value in shown[0].items() if name != "warnings"})
    if asked.diff:
        found["diff"] = [
            {
                "before_header": one["container"]["name"],
                "after_header": one["container"]["name"],
                "before": one["before"],
                "after": one["after"],
            }
            for one in shown
            if one["before"] != one["after"]
        ]
    troubles = [_message(one, asked.alone) for one in shown if one["error"]]
    if troubles:
        found.update(msg="; ".join(troubles), failed=asked.fail_on_error)
        found["error"] = next(one["error"] for one in shown if one["error"])
    elif not results:
        found["warnings"].append("no container is meant by that")
    if troubled:
        msg = "; ".join(filter(None, [found.get("msg"), troubled["msg"]]))
        found.update({**troubled, "msg": msg})
    return found


def _shown(result: Result, event: ActionEvent, event_id: str) -> dict[str, t.Any]:
    target, container = result.target, result.target.container
    known = {
        "event_id": event_id,
        "matched_by": list(target.matched_by),
        "image": text.display(container.images[0] if container and container.images else ""),
        "image_id": text.display(container.image_id if container else ""),
    }
    if result.outcome:
        return {**result.outcome.to_dict(), **known}
    return {
        **known,
        "outcome": "failed",
        "changed": False,
        "container": {name: value for name, value in (event.container or {}).items() if name != "image"},
        "before": {},
        "after": {},
        "steps": [],
        "warnings": [],
        "claims": shown_claims(target.entry) if target.entry else [],
        "error": t.cast(GuardError, result.error).to_dict(),
    }


def _message(shown: t.Mapping[str, t.Any], alone: bool) -> str:
    error = shown["error"]
    subject = shown["outcome"] if alone else "{}: {}".format(shown["container"]["name"], shown["outcome"])
    return "{}: {}{}".format(subject, error["message"], f". {error['remedy']}" if error.get("remedy") else "")
