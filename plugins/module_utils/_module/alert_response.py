# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module alert_response."""

from __future__ import annotations

import collections
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import alert_from_object
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import read_policy_set
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.recording import record
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits import Limiter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Responder, Response
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering

_UNSUCCESSFUL = ("failed", "unknown", "refused", "limit")


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "alerts": {"type": "list", "elements": "dict", "required": True},
        "host": {"type": "str", "default": ""},
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET},
        "fail_on_error": {"type": "bool", "default": True},
        **common.engine_spec(),
        **common.retry_spec(),
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    # no_log keeps whole batches of alerts, each with its raw message, out of the system log of the host. It hides
    # nothing in the result.
    common.run(AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True, no_log=True), respond)


def respond(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError before anything was touched."""
    params = module.params
    state_dir = common.state_dir_of(params)
    alerts, rejected = read_alerts(params["alerts"])
    try:
        policy_set, responses, gathering = _respond(params, alerts, state_dir, module.check_mode)
    except GuardError as error:
        # Nothing was touched. That nobody answered them must be on record, too.
        failures = [
            ActionEvent("failed", trace_id=alert.trace_id, alert_id=alert.id, host=params["host"]).with_error(error)
            for alert in alerts
        ]
        if not module.check_mode:
            record(failures, state_dir, {})
        raise
    events = [response.event for response in responses if response.event]
    result: dict[str, t.Any] = {
        "changed": any(event.changed for event in events),
        "policy_set_digest": policy_set.digest,
        "responses": [response.to_dict() for response in responses],
        "rejected": rejected,
        "summary": {
            "decisions": dict(collections.Counter(response.decision.outcome for response in responses)),
            "outcomes": dict(collections.Counter(event.outcome for event in events)),
        },
        "warnings": [
            f"{event.container['name']}: {warning}" for event in events if event.container for warning in event.warnings
        ],
    }
    if module._diff:
        result["diff"] = [
            {
                "before_header": event.container["name"],
                "after_header": event.container["name"],
                "before": dict(event.before),
                "after": dict(event.after),
            }
            for event in events
            if event.container and event.before != event.after
        ]
    troubles = [
        "{}: {}".format(event.container["name"] if event.container else event.alert_id, event.error["message"])
        for event in events
        if event.outcome in _UNSUCCESSFUL and event.error and not event.repeat_of
    ] + ["alert {index} is refused: {message}".format(**rejection) for rejection in rejected]
    if troubles:
        result["msg"] = "; ".join(troubles)
        result["failed"] = params["fail_on_error"]
    if not module.check_mode:
        # Before the evidence, which may take long: what was done must be on record whatever happens meanwhile.
        periods = {policy.id: policy.cooldown for policy in policy_set.policies if policy.cooldown}
        record(events, state_dir, result, periods)
    collected = gathering.collect() if gathering else []
    result["evidence"] = [event.to_dict() for event in collected]
    result["warnings"] += [
        "evidence of {}: {}".format((event.container or {})["name"], warning)
        for event in collected
        for warning in (*event.warnings, *([event.error["message"]] if event.error else []))
    ]
    if collected:
        record(collected, state_dir, result)
    return result


def _respond(
    params: t.Mapping[str, t.Any], alerts: list[Alert], state_dir: str, check: bool
) -> tuple[PolicySet, list[Response], Gathering | None]:
    retry, concurrency = common.retry_of(params), common.concurrency_of(params)
    policy_set = read_policy_set(params["policy_set"])
    if not alerts:
        return policy_set, [], None
    engine = common.engine_of(params, retry)
    gathering: Gathering | None = None
    if any(policy.evidence for policy in policy_set.policies) and not check:
        # Most policies want none, and what is not imported costs no time.
        from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
        from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering

        gathering = Gathering(Collector(engine, state_dir, params["host"]), concurrency)
    responder = Responder(
        Judge(PolicyEngine(policy_set), Resolver(engine), params["host"], params["docker_host"]),
        Isolator(engine, Journal(state_dir), HostTruth(params["docker_host"]), retry),
        Limiter(StateDir(state_dir), policy_set.limits),
        host=params["host"],
        concurrency=concurrency,
        check=check,
        gathering=gathering,
    )
    return policy_set, responder.respond(alerts), gathering


def read_alerts(values: t.Sequence[dict[str, t.Any]]) -> tuple[list[Alert], list[dict[str, t.Any]]]:
    """The alerts, and what is none: one bad element must not keep the others from being answered."""
    alerts, rejected = [], []
    for index, value in enumerate(values):
        try:
            # Only records of the guard itself, made by its event source, say when they were received.
            alerts.append(Alert.from_dict(value) if "received_at" in value else alert_from_object(value))
        except AlertError as error:
            rejected.append({"index": index, **error.to_dict()})
    return alerts, rejected
