# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module alert_response."""

from __future__ import annotations

import collections
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import is_green
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import ENFORCE, stricter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answerer import (
    Answerer,
    Policies,
    Setting,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import read_policy_set
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.recording import not_recorded
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Response
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

RULEBOOK = "rulebook"
"""Who answers alerts that the event source of the guard received, where nobody says otherwise."""


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "alerts": {"type": "list", "elements": "dict", "required": True},
        "given": {"type": "bool", "default": False},
        "absent_hosts": {"type": "dict", "default": {}},
        "host": {"type": "str", "default": ""},
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET},
        "mode": {"type": "str", "default": ENFORCE},
        "actor": {"type": "str", "default": ""},
        "controller_time": {"type": "str"},
        "fail_on_error": {"type": "bool", "default": True},
        **common.engine_spec(),
        **common.retry_spec(),
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    # no_log keeps whole batches of alerts, each with its raw message, out of the system log of the host. It hides
    # nothing in the result.
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True, no_log=True), respond)


def respond(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError before anything was touched, where an option cannot be used."""
    params, check = module.params, module.check_mode
    run = _Run(params, check)
    alerts, rejected = read_alerts(params["alerts"])
    trouble: GuardError | None = None
    try:
        responses = run.answer(alerts)
    except GuardError as error:  # there are no policies to go by: that nobody answered is on record, too
        trouble, responses = error, [run.unanswered(alert, error) for alert in alerts]
    events = [response.event for response in responses if response.event]
    result: dict[str, t.Any] = {
        "changed": any(event.changed for event in events),
        "policy_set_digest": run.digest,
        "responses": [response.to_dict() for response in responses],
        "rejected": rejected,
        "summary": {
            "decisions": dict(collections.Counter(response.decision.outcome for response in responses)),
            "outcomes": dict(collections.Counter(event.outcome for event in events)),
        },
    }
    if module._diff:
        result["diff"] = [_difference(event) for event in events if event.container and event.before != event.after]
    troubles = _troubles(responses, rejected)
    if troubles:
        result["msg"] = "; ".join(troubles)
        result["failed"] = params["fail_on_error"]
        result["error"] = next((event.error for event in events if event.error and not is_green(event.outcome)), None)
    if trouble:
        result.update(msg=str(trouble), failed=True, error=trouble.to_dict())
    recorded = run.record(responses, result)
    result["outcomes"] = [_answer(response, check, recorded) for response in responses]
    result["evidence_wanted"] = run.evidence_wanted
    result["warnings"] = [*run.warnings, *_warnings(events)]
    result["answered_at"] = now()
    return result


class _Run:
    """One run of the module on one host. Raises GuardError (C(invalid_option)) where an option cannot be used.

    Attributes:
        digest: of the policy set, once it was read.
    """

    def __init__(self, params: t.Mapping[str, t.Any], check: bool) -> None:
        retry, concurrency = common.retry_of(params), common.concurrency_of(params)
        clock, engine = common.clock_of(params), common.lazy_engine_of(params, retry)
        state_dir = common.state_dir_of(params)
        stricter(ENFORCE, params["mode"])  # says so where it is none
        delivered = not params["given"] and any("received_at" in value for value in params["alerts"])
        setting = Setting(
            host=params["host"],
            docker_host=params["docker_host"],
            actor=text.display(params["actor"], 128) or (RULEBOOK if delivered else ""),
            # Alerts that a person gives count each time, and what nobody has received before has no age.
            delivered=delivered,
            aged=bool(params["controller_time"]) and delivered,
            check=check,
            concurrency=concurrency,
            retry=retry,
            clock=clock,
            absent={str(host): str(why) for host, why in params["absent_hosts"].items()},
        )
        self._path, self._mode = params["policy_set"], params["mode"]
        # One object for all that is remembered, so that what does not work is told once.
        self._files = StateDir(state_dir)
        self._answerer = Answerer(engine, self._files, setting)
        self._told: tuple[str, ...] = ()
        self.digest = ""

    @property
    def warnings(self) -> list[str]:
        """What the user should know beside what became of alerts."""
        return [*self._told, *self._files.warnings]

    def answer(self, alerts: t.Sequence[Alert]) -> list[Response]:
        """Decide and act. Raises GuardError where the policy set cannot be used."""
        policies = Policies(read_policy_set(self._path))
        self.digest = policies.digest
        responses, self._told = self._answerer.answer(alerts, policies, mode=self._mode)
        return responses

    def unanswered(self, alert: Alert, error: GuardError) -> Response:
        """The response to an alert that could not even be decided."""
        return self._answerer.unanswered(alert, error)

    def record(self, responses: t.Sequence[Response], result: dict[str, t.Any]) -> set[str]:
        """Put on record what was done, and remember what was answered; the ids of events that have a record."""
        recorded: set[str] = set()
        try:
            recorded = self._answerer.record(responses)
        except GuardError as error:
            not_recorded(error, result)
        self._answerer.remember(responses, recorded)
        return recorded

    @property
    def evidence_wanted(self) -> list[dict[str, t.Any]]:
        """What the module evidence is to collect once it is told what was done, as that may take long."""
        gathering = self._answerer.gathering
        return [wanted.to_dict() for wanted in gathering.wanted] if gathering else []


def read_alerts(values: t.Sequence[dict[str, t.Any]]) -> tuple[list[Alert], list[dict[str, t.Any]]]:
    """The alerts, and what is none: one bad element must not keep the others from being answered."""
    alerts, rejected = [], []
    for index, value in enumerate(values):
        try:
            # Only records of the guard itself, made by its event source, say when they were received.
            alerts.append(Alert.from_dict(value) if "received_at" in value else _given(value))
        except AlertError as error:
            rejected.append({"index": index, **error.to_dict()})
    return alerts, rejected


def _given(value: dict[str, t.Any]) -> Alert:
    """The alert in what a person gives, which may be the message of a detector. Raises AlertError."""
    # Alerts of the rulebook come without, and what is not imported costs no time.
    from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import alert_from_object

    return alert_from_object(value)


def _answer(response: Response, check: bool, recorded: t.Collection[str]) -> dict[str, t.Any]:
    """What became of an alert, short enough for artifacts of playbooks."""
    decision, event = response.decision, response.event
    container = decision.container
    return {
        "alert_id": decision.alert_id,
        "trace_id": decision.trace_id,
        "container": {"id": container["id"], "name": container["name"]} if container else None,
        "policy_id": decision.policy_id,
        "outcome": response.outcome,
        "check_mode": check,
        "record_id": event.id if event and event.id in recorded else "",
    }


def _troubles(responses: t.Sequence[Response], rejected: t.Sequence[dict[str, t.Any]]) -> list[str]:
    """Why the module fails, each reason once: a batch in which something dangerous stayed connected is never green.

    Which alerts are refused is in C(rejected): the action plugin gives a host its share of the list alone, so that
    their places here are not those that the caller knows.
    """
    found = []
    for response in responses:
        event, container = response.event, response.decision.container
        if not is_green(response.outcome) and not (event and event.repeat_of):
            error = (event.error if event else None) or {"message": "; ".join(response.decision.reasons)}
            subject = container["name"] if container else response.decision.alert_id
            found.append("{}: {}: {}".format(subject, response.outcome, error["message"]))
    return [
        *found,
        *dict.fromkeys(
            "an alert is refused: {message} (rejected says which)".format(**rejection) for rejection in rejected
        ),
    ]


def _warnings(events: t.Iterable[ActionEvent]) -> list[str]:
    return [
        "{}: {}".format(event.container["name"] if event.container else event.alert_id, warning)
        for event in events
        for warning in event.warnings
    ]


def _difference(event: ActionEvent) -> dict[str, t.Any]:
    name = (event.container or {})["name"]
    return {"before_header": name, "after_header": name, "before": dict(event.before), "after": dict(event.after)}
