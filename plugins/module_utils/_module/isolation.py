# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module isolation."""

from __future__ import annotations

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import (
    APPROVED,
    REFUSED,
    Cause,
    Claim,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import (
    MAX_RELEASE_AFTER,
    Isolator,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import MAX_GRACE, Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import (
    ActionEvent,
    approval_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import protecting, unprotected
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.images import Images
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.reporting import Asked, reported
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import (
    DEFAULT_ACTIONS,
    Requests,
    Result,
    Selection,
    Target,
    claim_filter,
    claimed,
    event_of,
    expired_at,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

ISOLATED, RELEASED = "isolated", "released"
DECISIONS = (APPROVED, REFUSED)
STATES = (ISOLATED, RELEASED, *DECISIONS)
TARGETS = ("container", "containers", "selector", "recorded")
CLAIM_FILTERS = ("policy", "trace", "since")
FILTER_LISTS = ("container_names", "image_patterns", "labels")
# Options that not all states have.
_ONLY_FOR = {
    **dict.fromkeys(("actions", "release_after"), (ISOLATED,)),
    **dict.fromkeys(("restart", "expired_only", "recreate_networks"), (RELEASED,)),
    **dict.fromkeys(CLAIM_FILTERS, (RELEASED, *DECISIONS)),
}


def argument_spec() -> common.Spec:
    """Options of the module."""
    lists = {name: {"type": "list", "elements": "str"} for name in (*FILTER_LISTS, "images")}
    return {
        "container": {"type": "str"},
        "containers": {"type": "list", "elements": "str"},
        "selector": {"type": "dict", "options": {**lists, "exclude": {"type": "dict", "options": lists}}},
        "recorded": {"type": "bool"},
        "state": {"type": "str", "choices": list(STATES), "default": ISOLATED},
        "release_after": {"type": "int"},
        "restart": {"type": "bool"},
        "expired_only": {"type": "bool"},
        "recreate_networks": {"type": "bool"},
        "policy": {"type": "str"},
        "trace": {"type": "str"},
        "since": {"type": "str"},
        "force": {"type": "bool", "default": False},
        "fail_on_error": {"type": "bool", "default": True},
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET},
        "reason": {"type": "str", "default": ""},
        "trace_id": {"type": "str", "default": ""},
        "actor": {"type": "str", "default": ""},
        "controller_time": {"type": "str"},
        **common.actions_spec(),
        **common.engine_spec(),
        **common.retry_spec(),
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    module = common.GuardModule(
        argument_spec=argument_spec(),
        mutually_exclusive=[list(TARGETS)],
        required_one_of=[[*TARGETS, *CLAIM_FILTERS]],
        supports_check_mode=True,
    )
    common.run(module, isolate_or_release)


def isolate_or_release(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError before anything was touched."""
    params = module.params
    trace_id = common.trace_id_of(params)
    actions = actions_of(params)
    release_after = common.in_range(params, "release_after", 0, MAX_RELEASE_AFTER) if params["release_after"] else 0
    retry, concurrency, state_dir = common.retry_of(params), common.concurrency_of(params), common.state_dir_of(params)
    force, check, isolates = params["force"], module.check_mode, params["state"] == ISOLATED
    now = common.clock_of(params)
    which = _claims(params, now())
    policies = _policies(params)
    files = StateDir(state_dir)
    journal, log = Journal(files), ActionLog(files)
    intents = None if check else Intents(log, files.warnings)
    # What is asked for is told, and what the journal knows of it, also where the engine does not answer.
    engine = common.lazy_engine_of(params, retry)
    resolver = Resolver(engine)
    targets = _targets(Selection(resolver, journal), params, which, engine)
    requests = Requests(
        Isolator(engine, journal, HostTruth(params["docker_host"]), retry, now=now),
        journal,
        resolver,
        Protection(resolver, policies, params["docker_host"]),
        concurrency,
        check,
        intents,
    )
    cause = Cause(reason=text.display(params["reason"]), trace_id=trace_id, actor=text.display(params["actor"], 128))
    if params["state"] in DECISIONS:
        results = requests.decide(targets, params["state"], cause, force, which)
    elif not isolates:
        results = requests.release(
            targets,
            restart=bool(params["restart"]),
            force=force,
            which=which,
            cause=cause,
            recreate_networks=bool(params["recreate_networks"]),
            # What ends by its time does not say that alerts of before were wrong.
            remembered=not params["expired_only"],
        )
    elif params["recorded"]:
        results = requests.repair(targets, force, cause)
    else:
        results = requests.isolate(targets, actions, cause, force, release_after)
    asked = tuple(action.to_dict() for action in actions) if isolates and not params["recorded"] else ()
    if params["state"] == APPROVED:
        events = [_event(result, _awaited(result.target, which), cause, params) for result in results]
    else:
        events = [_event(result, asked, cause, params) for result in results]
    asked_for = Asked(params["container"] is not None, check, module._diff, params["fail_on_error"])
    found = reported(results, events, log, intents, asked_for)
    found["warnings"] += files.warnings
    if found["changed"] and policies is None and _asks_protection(params):
        found["warnings"].append(unprotected(params["policy_set"]))
    return {**found, "trace_id": trace_id}


def _claims(params: t.Mapping[str, t.Any], moment: datetime.datetime) -> t.Callable[[Claim], bool]:
    """Whose isolation a release ends. Raises GuardError (C(invalid_option))."""
    since = parse_timestamp(params["since"]) if params["since"] else None
    if params["since"] and since is None:
        raise common.invalid_option(
            f"since is {text.display(params['since'], 80)!r}", "Give a moment in RFC 3339, such as 2026-04-05T12:43:02Z"
        )
    wanted, over = claim_filter(params["policy"] or "", params["trace"] or "", since), expired_at(moment)
    if params["state"] in DECISIONS:
        return lambda claim: claim.approval is not None and wanted(claim)
    return (lambda claim: over(claim) and wanted(claim)) if params["expired_only"] else wanted


def actions_of(params: t.Mapping[str, t.Any]) -> list[Action]:
    """The actions that the options ask for. Raises GuardError (C(invalid_option))."""
    for name, states in _ONLY_FOR.items():
        if params[name] is not None and params["state"] not in states:
            raise common.invalid_option(
                f"{name} is given with state={params['state']}", f"It belongs to state={', '.join(states)}"
            )
    if params["actions"] is not None and params["recorded"]:
        raise common.invalid_option("actions is given with recorded", "The journal says what holds: leave it out")
    actions = []
    for value in params["actions"] if params["actions"] is not None else DEFAULT_ACTIONS:
        for name, owner in (("networks", "network_disconnect"), ("grace", "stop")):
            if value.get(name) is not None and value["type"] != owner:
                raise common.invalid_option(f"action {value['type']} has no {name}", f"{name} belongs to {owner}")
        if value.get("grace") is not None:
            common.in_range(value, "grace", 0, MAX_GRACE)
        actions.append(Action.from_dict(value))
    Goal.of(actions)  # says so where they exclude each other
    return actions


def _policies(params: t.Mapping[str, t.Any]) -> PolicyEngine | None:
    """The policies of the host, where they matter. Raises PolicyError."""
    return protecting(params["policy_set"], common.DEFAULT_POLICY_SET) if _asks_protection(params) else None


def _asks_protection(params: t.Mapping[str, t.Any]) -> bool:
    return params["state"] in (ISOLATED, APPROVED) and not params["force"]


def _targets(
    selection: Selection, params: t.Mapping[str, t.Any], which: t.Callable[[Claim], bool], engine: Engine
) -> list[Target]:
    releasing, deciding = params["state"] == RELEASED, params["state"] in DECISIONS
    if params["container"] is not None:
        targets = selection.named([params["container"]], releasing)
    elif params["containers"] is not None:
        targets = selection.named(params["containers"], releasing)
    elif params["selector"] is not None:
        selector, excluded = params["selector"], params["selector"].get("exclude") or {}
        _refuse_blank(selector, "selector")
        _refuse_blank(excluded, "selector (exclude)")
        wanted, exclude = _filter(selector), _filter(excluded)
        images = Images(engine, selector.get("images") or (), excluded.get("images") or ())
        if not (wanted or images.wanted):
            raise common.invalid_option(
                "selector has neither container_names, images, image_patterns nor labels",
                'Nothing was changed. To mean every container, ask for container_names: ["*"]',
            )
        targets = selection.matching(wanted, exclude, images)
        if releasing or deciding:
            # Most containers that match are not isolated, and are not to be called released.
            targets = claimed(selection.to_release(targets), which)
    elif params["recorded"] and not releasing and not deciding:
        targets = selection.to_repair()
    elif params["recorded"] or any(params[name] for name in CLAIM_FILTERS):
        targets = selection.recorded(which)
        if deciding:  # on one that nobody holds any more, nothing waits
            targets = [target for target in targets if not target.entry or target.entry.claims]
    else:
        raise common.invalid_option("recorded is false, and nothing else says which containers are meant")
    return claimed(targets, which) if params["expired_only"] else targets


def _filter(value: t.Mapping[str, t.Any]) -> TargetFilter:
    return TargetFilter.from_dict({name: value.get(name) for name in FILTER_LISTS})


def _refuse_blank(value: t.Mapping[str, t.Any], what: str) -> None:
    """Raises GuardError (C(invalid_option)) where a list was given, and something in it was not."""
    for name in (*FILTER_LISTS, "images"):
        if not all(entry.strip() for entry in value.get(name) or ()):
            raise common.invalid_option(
                f"{name} of {what} has a blank entry", "Nothing was changed. Leave the list out, or say what is meant"
            )


def _event(
    result: Result, actions: tuple[dict[str, t.Any], ...], cause: Cause, params: t.Mapping[str, t.Any]
) -> ActionEvent:
    approval = _decided(result.outcome.claims, params["state"]) if result.outcome else None
    return event_of(result, actions, cause, ("forced",) if params["force"] else (), approval)


def _awaited(target: Target, which: t.Callable[[Claim], bool]) -> tuple[dict[str, t.Any], ...]:
    """What waits for approval on a container, as actions."""
    claims = target.entry.claims if target.entry else ()
    return tuple({"type": claim.approval.action} for claim in claims if claim.approval and which(claim))


def _decided(claims: t.Iterable[t.Mapping[str, t.Any]], state: str) -> dict[str, t.Any] | None:
    """What of the claims was decided so, as records show it; the last of several."""
    decided = [one for one in map(approval_of, claims) if one and one["decision"] == state]
    return max(decided, key=lambda one: one["decided_at"], default=None)
