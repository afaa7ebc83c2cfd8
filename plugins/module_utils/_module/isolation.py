# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module isolation."""

from __future__ import annotations

import dataclasses
import os
import typing as t
import uuid

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import ResolutionError, Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Cause, Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import MAX_GRACE, Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import sharer_warnings

DEFAULT_ACTIONS = ({"type": "pause"}, {"type": "network_disconnect"})


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "container": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["isolated", "released"], "default": "isolated"},
        "reason": {"type": "str", "default": ""},
        "trace_id": {"type": "str", "default": ""},
        **common.actions_spec(),
        **common.engine_spec(),
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    common.run(AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True), isolate_or_release)


def isolate_or_release(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError before anything was touched."""
    params = module.params
    trace_id = text.token(params["trace_id"])
    if params["trace_id"] and not trace_id:
        raise common.invalid_option(
            "trace_id is not an identifier", "Use up to 128 letters, digits and any of . _ : -, such as a UUID"
        )
    trace_id = trace_id or str(uuid.uuid4())
    actions = actions_of(params)
    state_dir = common.state_dir_of(params)
    journal = Journal(state_dir)
    engine = common.engine_of(params)
    resolver = Resolver(engine)
    container = _resolve(resolver, journal, params)
    isolator = Isolator(engine, journal)
    event = ActionEvent(
        outcome="failed",
        trace_id=trace_id,
        container=container.to_dict(),
        actions=tuple(action.to_dict() for action in actions) if params["state"] == "isolated" else (),
        reasons=tuple(filter(None, [text.display(params["reason"])])),
    )
    try:
        if params["state"] == "isolated":
            cause = Cause(reason=text.display(params["reason"]), trace_id=trace_id)
            outcome = isolator.isolate(container.id, actions, cause, check=module.check_mode)
        else:
            outcome = isolator.release(container.id, check=module.check_mode)
    except GuardError as error:
        if not module.check_mode:
            record([event.with_error(error)], state_dir, {})
        raise
    if params["state"] == "isolated" and outcome.ok:
        warnings = sharer_warnings([sharer.name for sharer in resolver.sharers(container.id)])
        outcome = dataclasses.replace(outcome, warnings=(*outcome.warnings, *warnings))
    result = {**outcome.to_dict(), "trace_id": trace_id, "event_id": ""}
    if module._diff:
        result["diff"] = {"before": result["before"], "after": result["after"]}
    if outcome.error:
        result.update(failed=True, msg=_message(outcome))
    if not module.check_mode and (outcome.changed or not outcome.ok):
        event = event.with_outcome(outcome)
        result["event_id"] = event.id
        record([event], state_dir, result)
    return result


def actions_of(params: t.Mapping[str, t.Any]) -> list[Action]:
    """The actions that the options ask for. Raises GuardError (C(invalid_option))."""
    if params["actions"] is not None and params["state"] == "released":
        raise common.invalid_option(
            "actions is given with state=released", "A release undoes all of them: leave it out"
        )
    actions = []
    for value in params["actions"] if params["actions"] is not None else DEFAULT_ACTIONS:
        for name, owner in (("networks", "network_disconnect"), ("grace", "stop")):
            if value.get(name) is not None and value["type"] != owner:
                raise common.invalid_option(f"action {value['type']} has no {name}", f"{name} belongs to {owner}")
        if value.get("grace") is not None:
            common.in_range(value, "grace", 0, MAX_GRACE)
        actions.append(Action.from_dict(value))
    return actions


def record(events: t.Sequence[ActionEvent], state_dir: str, result: dict[str, t.Any]) -> None:
    """Write the action log. What was done is done: where that fails, the result keeps it and says so."""
    try:
        ActionLog(state_dir).append(events)
    except GuardError as error:
        result.update(failed=True, error=error.to_dict(), msg="; ".join(filter(None, [result.get("msg"), str(error)])))


def _resolve(resolver: Resolver, journal: Journal, params: t.Mapping[str, t.Any]) -> Container:
    try:
        return resolver.by_reference(params["container"])
    except ResolutionError as error:
        if error.kind == "not_found" and params["state"] == "released":
            for entry in journal.entries()[0]:
                if params["container"].lstrip("/") == entry.snapshot.name or entry.snapshot.id.startswith(
                    text.container_id(params["container"]) or "-"
                ):
                    raise ResolutionError(
                        f"container {entry.snapshot.name} ({entry.snapshot.id[:12]}) is isolated since {entry.since}, "
                        "but was removed meanwhile: there is nothing left to release",
                        kind="container_gone",
                        remedy="Delete its journal entry once you no longer need it: "
                        + os.path.join(params["state_dir"], "isolations", f"{entry.snapshot.id}.json"),
                    ) from error
        raise


def _message(outcome: Outcome) -> str:
    error = outcome.error or {}
    return "{}: {}{}".format(outcome.outcome, error["message"], f". {error['remedy']}" if error.get("remedy") else "")
