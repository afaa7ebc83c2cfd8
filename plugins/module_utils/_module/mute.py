# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module mute."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import MUTED
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import read_policy_set
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.durations import parse_duration
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mute, Mutes
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.recording import record
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

PRESENT, ABSENT = "present", "absent"


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "policy": {"type": "str", "default": ""},
        "container": {"type": "str", "default": ""},
        "whole_host": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": [PRESENT, ABSENT], "default": PRESENT},
        "for": {"type": "str", "default": ""},
        "until": {"type": "str", "default": "", "aliases": ["ends_at"]},
        "reason": {"type": "str", "default": ""},
        "force": {"type": "bool", "default": False},
        "actor": {"type": "str", "default": ""},
        "controller_time": {"type": "str"},
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET},
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True), mute)


def mute(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError; then what was muted before stays so."""
    params, check = module.params, module.check_mode
    moment = common.clock_of(params)()
    wanted = _wanted(params, moment)
    files = StateDir(common.state_dir_of(params))
    mutes = Mutes(files)
    if check:  # it writes nothing, and a lock is a file
        before = mutes.holding(moment)
        after, changed = _changed(before, params["state"], wanted)
    else:
        with mutes.changing():
            before = mutes.holding(moment)
            after, changed = _changed(before, params["state"], wanted)
            if changed:
                mutes.write(after)
    result: dict[str, t.Any] = {
        "changed": changed,
        "mutes": [dataclasses.asdict(one) for one in after],
        "warnings": [*files.warnings, *_doubts(params, wanted)],
    }
    if changed and not check:
        record([_event(params, wanted, before)], ActionLog(files), result)
    if module._diff:
        result["diff"] = {"before": _shown(before), "after": _shown(after)}
    return result


def _wanted(params: t.Mapping[str, t.Any], moment: datetime.datetime) -> Mute:
    """What is to be muted, or no longer. Raises GuardError (C(invalid_option))."""
    policy, container, reason = (params[name].strip() for name in ("policy", "container", "reason"))
    if bool(policy or container) == params["whole_host"]:
        raise common.invalid_option(
            "whole_host is given with policy or container"
            if params["whole_host"]
            else "neither policy, container nor whole_host is given",
            "Nothing was changed. Say policy, container or both; or whole_host for all alerts about the host",
        )
    until = moment + datetime.timedelta(seconds=1)
    if params["state"] == PRESENT:
        if not reason:
            raise common.invalid_option("reason is not given", "Nothing was muted. Say why, for those who wonder later")
        until = _end(params, moment)
    return Mute.of(
        policy, container, moment, until, text.display(reason), text.display(params["actor"], 128), params["force"]
    )


def _end(params: t.Mapping[str, t.Any], moment: datetime.datetime) -> datetime.datetime:
    if bool(params["for"].strip()) == bool(params["until"].strip()):
        raise common.invalid_option(
            "both for and until are given" if params["for"].strip() else "neither for nor until is given",
            "Nothing was muted. Say for how long, such as 2h, or until when; at most 7d",
        )
    if params["for"].strip():
        end = moment + datetime.timedelta(seconds=parse_duration(params["for"], "for"))
        return end.replace(microsecond=0)
    until = parse_timestamp(params["until"].strip())
    if until is None:
        raise common.invalid_option(
            f"until is {text.display(params['until'], 80)!r}", "Give a moment in RFC 3339, such as 2026-04-05T12:43:02Z"
        )
    return until


def _changed(before: t.Sequence[Mute], state: str, wanted: Mute) -> tuple[tuple[Mute, ...], bool]:
    """The mutes with the one that is wanted, or without it, and whether that is a change. The last word counts."""
    now = next((one for one in before if one.subject == wanted.subject), None)
    others = [one for one in before if one.subject != wanted.subject]
    if state == ABSENT:
        return tuple(others), now is not None
    # Who says the same again, and when it began, is no change.
    if now is not None and dataclasses.replace(wanted, since=now.since, actor=now.actor) == now:
        return tuple(before), False
    return tuple(sorted([*others, wanted], key=lambda one: one.subject)), True


def _event(params: t.Mapping[str, t.Any], wanted: Mute, before: t.Iterable[Mute]) -> ActionEvent:
    """The record of who muted what, or ended that before its time: nobody is to be silenced without a trace."""
    reasons = [str(wanted)]
    if params["state"] == ABSENT:
        ended = next(one for one in before if one.subject == wanted.subject)
        reasons = [f"ended early: {ended}", *filter(None, [wanted.reason])]
    return ActionEvent(MUTED, policy_id=wanted.policy, actor=wanted.actor, changed=True, reasons=tuple(reasons))


def _doubts(params: t.Mapping[str, t.Any], wanted: Mute) -> list[str]:
    """Why it may mute nothing."""
    if params["state"] == ABSENT or not wanted.policy:
        return []
    try:
        known = {policy.id for policy in read_policy_set(params["policy_set"]).policies}
    except PolicyError as error:
        return [f"whether there is a policy {wanted.policy} is not known: {error.message}"]
    return [] if wanted.policy in known else [f"the policy set of this host has no policy {wanted.policy}"]


def _shown(mutes: t.Iterable[Mute]) -> str:
    return "".join(f"{one}\n" for one in mutes)
