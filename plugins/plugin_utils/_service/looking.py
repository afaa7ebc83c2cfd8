# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looking, on the host itself: what is isolated and whether it holds, what holds a container, who would answer."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import read_message
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.breaches import Inspection, inspect
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import Finding
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import stricter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response import standing
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import (
    deployed,
    protecting,
    read_policy_set,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mutes
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import (
    DEFAULT_ACTIONS,
    Selection,
    Target,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import inert
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service import asking, explaining, showing
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import DEFAULT_POLICY_SET, Config
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.guard import (
    DONE,
    NOT_DONE,
    Guard,
    Json,
    Said,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.mode import Mode


def status(guard: Guard) -> Said:
    """What is isolated, whether it holds, and how the guard is."""
    config, engine = guard.config, guard.to_look()
    found = standing.report(engine, guard.files, config.docker_host, config.policy_set)
    found = {
        **{name: value for name, value in found.items() if name not in ("changed", "failed", "records")},
        "engine": _version(engine) if not found.get("error") else "",
        "mode": _mode(config, guard.files.warnings),
        "service": asking.ask(config)._asdict(),
    }
    holds = found["agree"] and found["action_log"]["intact"]
    return Said(
        found,
        showing.status_lines(config.host, found),
        [f"warning: {one}" for one in found["warnings"]],
        DONE if holds else NOT_DONE,
    )


def _version(engine: Engine) -> str:
    try:
        return text.display(engine.version().engine, 80)
    except EngineError:  # a socket proxy need not let this call through
        return ""


def _mode(config: Config, warnings: list[str]) -> str:
    """How the policies are to be taken, by the set and by the file of this host; empty without a set."""
    mode = Mode(pathlib.Path(config.mode))
    warnings += mode.troubles()
    deployment, _problem = deployed(config.policy_set)
    if deployment is None:
        return ""
    return stricter(deployment.policy_set.mode, mode.read())


def explain(guard: Guard, reference: str) -> Said:
    """What holds a container, and what is on record about it. Raises GuardError where nothing is known of it."""
    engine = guard.to_look()
    resolver = Resolver(engine)
    targets = Selection(resolver, guard.journal).named([reference], releasing=True)
    told = [_of_target(guard, engine, resolver, target) for target in targets]
    records = _records(guard, reference, targets)
    errors = [target.error for target in targets if target.error]
    if errors and not records and not any(map(_id, targets)):
        raise errors[0]
    found = {"containers": told, "records": records}
    # Of one that is gone all is said that can be.
    failed = any(error.kind not in ("container_gone", "not_found") for error in errors)
    troubles = [*map(str, errors), *(f"warning: {one}" for one in guard.files.warnings)]
    return Said(found, showing.explained_lines(told, records), troubles, NOT_DONE if failed else DONE)


def _of_target(guard: Guard, engine: Engine, resolver: Resolver, target: Target) -> Json:
    entry, container, error = target.entry, target.container, target.error
    inspection: Inspection | None = None
    if entry and isinstance(error, EngineError):  # to ask once more would take as long again
        inspection = Inspection(entry, None, (Finding("unreadable", error.message),))
    elif entry:
        inspection = inspect(guard.isolator(engine), resolver, entry)
    return {
        "container": _shown(container, target),
        "isolation": standing.shown(inspection) if inspection else None,
        "protected": _protection(guard, resolver, container) if container else "",
    }


def _shown(container: Container | None, target: Target) -> Json:
    known = {"id": _id(target), "name": target.name, "image": ""}
    return {name: text.display(value) for name, value in (container.to_dict() if container else known).items()}


def _protection(guard: Guard, resolver: Resolver, container: Container) -> str:
    """Why it would not be isolated, or why that is not known, or empty."""
    try:
        policies = protecting(guard.config.policy_set, DEFAULT_POLICY_SET)
        return Protection(resolver, policies, guard.config.docker_host).reason(
            container, [Action.from_dict(action) for action in DEFAULT_ACTIONS]
        )
    except (PolicyError, EngineError) as error:
        return f"not known: {error}"


def _records(guard: Guard, reference: str, targets: Sequence[Target]) -> list[Json]:
    ids = list(dict.fromkeys(filter(None, map(_id, targets))))
    if ids:
        found = [record for container_id in ids for record in guard.log.of_container(container_id)]
    else:
        # It is gone, or cannot be asked for: then the log is all that knows of it.
        container_id, name = text.container_id(reference), text.container_name(reference)
        found = guard.log.of_container(container_id, name) if container_id or name else []
    return [inert(record) for record in sorted(found, key=lambda record: str(record.get("time")))]


def _id(target: Target) -> str:
    """The full id, or empty where neither the engine nor the journal knows it."""
    return target.container.id if target.container else target.entry.snapshot.id if target.entry else ""


def explain_alert(guard: Guard, reference: str, body: bytes) -> Said:
    """Which policy would answer the alerts of a message about a container. Raises GuardError."""
    config = guard.config
    policy_set = read_policy_set(config.policy_set)
    reading = read_message(body)
    resolver = Resolver(guard.to_look())
    container = resolver.by_reference(reference)
    judge = Judge(
        PolicyEngine(policy_set),
        resolver,
        config.host,
        config.docker_host,
        Mode(pathlib.Path(config.mode)).read(),
        journal=guard.journal,
        mutes=Mutes(guard.files).holding(utc_now()),
    )
    told = [explaining.explain(policy_set, judge, alert, container, config.host) for alert in reading.alerts]
    passed_over = sum(reading.passed_over.values())
    troubles = [
        *(f"{one.reason}{f'. {one.remedy}' if one.remedy else ''}" for one in reading.rejected),
        *([f"{passed_over} of the message need no answer, and are not explained"] if passed_over else []),
        *(f"warning: {one}" for one in guard.files.warnings),
    ]
    found = {
        "container": {name: text.display(value) for name, value in container.to_dict().items()},
        "policy_set_digest": policy_set.digest,
        "alerts": [_explained(one) for one in told],
    }
    lines = [line for one in told for line in ("", *showing.explanation_lines(container.name, one))][1:]
    return Said(found, lines, troubles, NOT_DONE if reading.rejected or not told else DONE)


def _explained(one: explaining.Explanation) -> Json:
    return {
        "decision": one.verdict.decision.to_dict(),
        "policies": [{**reading._asdict(), "why": list(reading.why)} for reading in one.readings],
    }
