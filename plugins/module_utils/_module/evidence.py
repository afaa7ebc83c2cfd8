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


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "container": {"type": "str"},
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


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "collected", ["container"]), ("state", "verified", ["case"])],
        supports_check_mode=True,
    )
    common.run(module, collect_or_verify)


def collect_or_verify(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError before anything was written."""
    if module.params["state"] == "verified":
        return _verified(module.params)
    return _collected(module.params, module.check_mode)


def _collected(params: t.Mapping[str, t.Any], check: bool) -> dict[str, t.Any]:
    trace_id = common.trace_id_of(params)
    limits = Limits(**{name: common.in_range(params, name, *bounds) for name, bounds in RANGES.items()})
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
