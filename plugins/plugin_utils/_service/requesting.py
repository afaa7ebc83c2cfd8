# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating and releasing by hand on the host itself, with the same records and refusals as from a controller."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import (
    MAX_RELEASE_AFTER,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import ACTION_TYPES, Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import (
    protecting,
    unprotected,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.durations import parse_duration
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.reporting import Asked, reported
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import (
    DEFAULT_ACTIONS,
    Requests,
    Result,
    Selection,
    claim_filter,
    claimed,
    event_of,
    expired_at,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service import showing
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import DEFAULT_POLICY_SET
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.guard import (
    DONE,
    NOT_DONE,
    Guard,
    Json,
    Said,
    wrong_usage,
)


def isolate(
    guard: Guard,
    references: Sequence[str],
    actions: str = "",
    reason: str = "",
    release_after: str = "",
    force: bool = False,
    check: bool = False,
) -> Said:
    """Isolate containers by ids or names. Raises GuardError before anything was touched."""
    wanted = _actions(actions)
    seconds = _release_after(release_after)
    config = guard.config
    policies = None if force else _protecting(config.policy_set)
    request = _Request(guard, reason, force, check, policies)
    targets = request.selection.named(references)
    results = request.requests.isolate(targets, wanted, request.cause, force, seconds)
    found = request.report(results, tuple(action.to_dict() for action in wanted))
    if found["changed"] and policies is None and not force:
        found["warnings"].append(unprotected(config.policy_set))
    return _said(found, [*showing.result_lines(found), *([] if check else showing.undoing_lines(found))])


def release(
    guard: Guard,
    references: Sequence[str],
    *,
    policy: str = "",
    trace: str = "",
    expired: bool = False,
    reason: str = "",
    restart: bool = False,
    recreate_networks: bool = False,
    force: bool = False,
    check: bool = False,
) -> Said:
    """Release containers by ids or names; without any, all that policy, trace and expired mean.

    Raises GuardError before anything was touched.
    """
    if trace and not text.token(trace):
        raise wrong_usage("--trace is not an identifier", "Give a trace id as status shows it")
    wanted, over = claim_filter(policy, trace), expired_at(utc_now())
    which = (lambda claim: over(claim) and wanted(claim)) if expired else wanted
    request = _Request(guard, reason, force, check)
    targets = request.selection.named(references, True) if references else request.selection.recorded(which)
    results = request.requests.release(
        claimed(targets, which) if expired else targets,
        restart=restart,
        force=force,
        which=which,
        cause=request.cause,
        recreate_networks=recreate_networks,
        # What ends by its time does not say that alerts of before were wrong.
        remembered=not expired,
    )
    found = request.report(results, ())
    return _said(found, showing.result_lines(found))


class _Request:
    """One request, from what it needs to what is on record."""

    def __init__(
        self, guard: Guard, reason: str, force: bool, check: bool, policies: PolicyEngine | None = None
    ) -> None:
        config = guard.config
        self._guard, self._force, self._check = guard, force, check
        self._intents = None if check else Intents(guard.log, guard.files.warnings)
        retry = Retry(max_attempts=config.retry_max_attempts, backoff_base=config.retry_backoff_base / 1000)
        # What is asked for is told, and what the journal knows of it, also where the engine does not answer.
        engine = guard.engine(config.action_timeout, retry)
        resolver = Resolver(engine)
        self.selection = Selection(resolver, guard.journal)
        self.cause = Cause(reason=text.display(reason), trace_id=str(uuid.uuid4()), actor=guard.actor)
        self.requests = Requests(
            guard.isolator(engine, retry),
            guard.journal,
            resolver,
            Protection(resolver, policies, config.docker_host),
            config.max_concurrent_actions,
            check,
            self._intents,
        )

    def report(self, results: Sequence[Result], actions: tuple[Json, ...]) -> Json:
        """What came of it, as the module C(isolation) returns it; it is on record then."""
        guard = self._guard
        reasons = ("forced",) if self._force else ()
        events = [event_of(one, actions, self.cause, reasons, host=guard.config.host) for one in results]
        found = reported(results, events, guard.log, self._intents, Asked(check=self._check))
        found["warnings"] += guard.files.warnings
        return {**found, "trace_id": self.cause.trace_id}


def _said(found: Json, lines: Sequence[str]) -> Said:
    failed = bool(found.pop("failed", False))
    troubles = [*showing.trouble_lines(found), *(f"warning: {text.display(one)}" for one in found["warnings"])]
    return Said(found, lines, troubles, NOT_DONE if failed else DONE)


def _protecting(path: str) -> PolicyEngine | None:
    """The policies, which say what is protected; None where there are none. Raises GuardError."""
    try:
        return protecting(path, DEFAULT_POLICY_SET)
    except PolicyError as error:
        raise GuardError(
            error.message,
            kind=error.kind,
            remedy="Nothing was touched, as a policy set says what is protected. Deploy it again, or use --force, "
            "which isolates also what is protected",
        ) from None


def _actions(given: str) -> list[Action]:
    names = [name.strip() for name in given.split(",")] if given else [action["type"] for action in DEFAULT_ACTIONS]
    for name in names:
        if name not in ACTION_TYPES:
            raise wrong_usage(
                f"there is no action {text.display(name, 80)!r}", f"Give some of {', '.join(ACTION_TYPES)}"
            )
    actions = [Action(name) for name in names]
    Goal.of(actions)  # says so where they exclude each other
    return actions


def _release_after(given: str) -> int:
    seconds = parse_duration(given, "--release-after") if given else 0
    if seconds > MAX_RELEASE_AFTER:
        raise wrong_usage(f"--release-after is {text.display(given, 80)}", f"Give at most {MAX_RELEASE_AFTER} seconds")
    return seconds
