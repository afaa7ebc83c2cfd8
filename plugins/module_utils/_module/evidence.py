# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module evidence."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.case_files import evidence_dir
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import (
    Item,
    Request,
    case_id,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.verify import verify
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import (
    DEFAULT_KINDS,
    DEFAULT_LIMITS,
    KINDS,
    RANGES,
    Limits,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering, Wanted
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.recording import record
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

_FULL_ID = 64


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "container": {"type": "str"},
        "wanted": {"type": "list", "elements": "dict", "options": _wanted_spec()},
        "max_concurrent_actions": {"type": "int", "default": common.DEFAULT_CONCURRENCY},
        "state": {"type": "str", "choices": ["collected", "verified"], "default": "collected"},
        "collect": {"type": "list", "elements": "str", "choices": list(KINDS), "default": list(DEFAULT_KINDS)},
        "paths": {"type": "list", "elements": "str", "default": []},
        "host": {"type": "str", "default": ""},
        "reason": {"type": "str", "default": ""},
        "trace_id": {"type": "str", "default": ""},
        "case": {"type": "str"},
        "manifest_sha256": {"type": "str", "default": ""},
        **{name: {"type": "int", "default": getattr(DEFAULT_LIMITS, name)} for name in RANGES},
        **common.engine_spec(),
        **common.state_spec(),
    }


def _wanted_spec() -> common.Spec:
    lists: common.Spec = {name: {"type": "list", "elements": "str", "default": []} for name in ("collect", "paths")}
    texts = ("case", "action_event", "reason", "trace_id", "alert_id", "policy_id")
    return {
        "container": {"type": "dict", "required": True},
        **lists,
        **{name: {"type": "str", "default": ""} for name in texts},
    }


def main() -> None:
    """Entry point."""
    module = common.GuardModule(
        argument_spec=argument_spec(),
        required_if=[("state", "collected", ["container", "wanted"], True), ("state", "verified", ["case"])],
        mutually_exclusive=[("container", "wanted")],
        supports_check_mode=True,
    )
    common.run(module, collect_or_verify)


def collect_or_verify(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError before anything was written."""
    if module.params["state"] == "verified":
        return _verified(module.params)
    if module.params["wanted"] is not None:
        return _gathered(module.params, module.check_mode)
    return _collected(module.params, module.check_mode)


def _collected(params: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
    trace_id = common.trace_id_of(params)
    limits = _limits_of(params)
    state_dir = common.state_dir_of(params)
    engine = common.engine_of(params)
    container = Resolver(engine).by_reference(params["container"])
    collector = Collector(engine, state_dir, text.display(params["host"]) or os.uname().nodename, limits)
    if check:
        items = collector.plan(container.id, params["collect"], params["paths"])
        return {
            **_result(True, items),
            "container": {name: text.display(value) for name, value in container.to_dict().items()},
            "trace_id": trace_id,
            "warnings": [item.shortcoming for item in items if item.shortcoming],
        }
    request = Request(reason=text.display(params["reason"]), trace_id=trace_id)
    case = collector.collect(container.id, params["collect"], params["paths"], request)
    result = {
        **_result(True, case.manifest.items),
        "case_id": case.manifest.case_id,
        "directory": case.directory,
        "manifest_sha256": case.manifest.sha256,
        "container": dict(case.manifest.container),
        "trace_id": trace_id,
    }
    if case.problem:
        return _failed(result, "manifest_not_written", case.problem, "Check state_dir and free space")
    if not case.kept:
        reasons = "; ".join(case.shortcomings)
        return _failed(result, "nothing_collected", f"nothing could be collected: {reasons}", "")
    return {**result, "warnings": case.shortcomings}


def _gathered(params: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
    """What policies want of containers that were acted on."""
    limits = _limits_of(params)
    state_dir = common.state_dir_of(params)
    wanted = [_wanted(value) for value in params["wanted"]]
    nothing = {**_result(bool(wanted), ()), "collected": []}
    if check or not wanted:
        return nothing
    collector = Collector(common.lazy_engine_of(params), state_dir, params["host"] or os.uname().nodename, limits)
    events = Gathering(collector, common.concurrency_of(params), params["host"], wanted).collect()
    result = {**nothing, "collected": [event.to_dict() for event in events]}
    result["changed"] = any(event.changed for event in events)
    result["warnings"] = [
        "evidence of {}: {}".format((event.container or {})["name"], warning)
        for event in events
        for warning in event.warnings
    ]
    failed = [event for event in events if event.error]
    if failed:
        told = [
            "evidence of {}: {}".format((event.container or {})["name"], (event.error or {})["message"])
            for event in failed
        ]
        result.update(failed=True, msg="; ".join(told), error=failed[0].error)
    record(events, ActionLog(StateDir(state_dir)), result)
    return result


def _wanted(value: t.Mapping[str, t.Any]) -> Wanted:
    """One of the option C(wanted). Raises GuardError (C(invalid_option)) where alert_response returns no such thing."""
    container = _shown(value["container"])
    whole = len(container.get("id", "")) == _FULL_ID and text.container_id(container["id"])
    identifiers = {name: text.token(value[name]) for name in ("action_event", "trace_id", "alert_id")}
    said = {**identifiers, "case": case_id(value["case"])}
    if not whole or any(value[name] and not said[name] for name in said):
        raise common.invalid_option("wanted is not what alert_response returns", "Hand on its evidence_wanted")
    return Wanted(
        container={name: container.get(name, "") for name in ("id", "name", "image")},
        collect=tuple(value["collect"]),
        paths=tuple(value["paths"]),
        reason=text.display(value["reason"]),
        policy_id=text.display(value["policy_id"]),
        **said,
    )


def _limits_of(params: t.Mapping[str, t.Any]) -> Limits:
    return Limits(**{name: common.in_range(params, name, *bounds) for name, bounds in RANGES.items()})


def _verified(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    sha256 = params["manifest_sha256"]
    if sha256 and not text.sha256_hex(sha256):
        raise common.invalid_option("manifest_sha256 is not a SHA-256", "Give 64 hexadecimal digits")
    directory = _directory_of(params)
    manifest, found, problems = verify(directory, sha256)
    result = {
        **_result(False, manifest.items if manifest else ()),
        "case_id": text.display(manifest.case_id) if manifest else "",
        "directory": directory,
        "manifest_sha256": found,
        "container": _shown(manifest.container) if manifest else {},
        "trace_id": text.display(manifest.request.trace_id) if manifest else "",
        "problems": problems,
    }
    if problems:
        return _failed(
            result,
            "case_changed",
            f"the case {os.path.basename(directory)} is not as it was collected: " + "; ".join(problems),
            "Do not rely on it before you know why",
        )
    return result


def _directory_of(params: t.Mapping[str, t.Any]) -> str:
    case = str(params["case"])
    if os.path.isabs(case):
        return os.path.normpath(case)
    if not case_id(case):
        raise common.invalid_option(
            f"case is {text.display(case, 80)!r}", "Give the id of a case, or the absolute path of its directory"
        )
    return os.path.join(evidence_dir(common.state_dir_of(params)), case)


def _result(changed: bool, items: t.Iterable[Item]) -> dict[str, t.Any]:
    return {
        "changed": changed,
        "case_id": "",
        "directory": "",
        "manifest_sha256": "",
        "evidence": [_shown(dataclasses.asdict(item)) for item in items],
        "problems": [],
        "error": None,
    }


def _shown(values: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What is in a manifest, inert: a manifest that was changed may hold anything."""
    return {name: value if isinstance(value, int) else text.display(value) for name, value in values.items()}


def _failed(result: dict[str, t.Any], kind: str, message: str, remedy: str) -> dict[str, t.Any]:
    error = GuardError(message, kind=kind, remedy=remedy)
    return {**result, "failed": True, "msg": str(error), "error": error.to_dict()}
