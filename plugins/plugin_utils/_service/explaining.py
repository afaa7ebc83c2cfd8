# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Explaining: which policy would answer an alert about a container, and why the others do not."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import NO_POLICY
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge, Verdict


class Reading(t.NamedTuple):
    """What one policy says of an alert about a container.

    Attributes:
        policy_id: of the policy.
        answers: whether it is the one that answers.
        why: what it goes by, as the policies say it.
    """

    policy_id: str
    answers: bool
    why: tuple[str, ...]


class Explanation(t.NamedTuple):
    """What would be done about an alert, and why.

    Attributes:
        alert: as if it were about the container.
        verdict: what would be decided now.
        reasons: what decides beside the conditions of the policies.
        readings: of each policy, in the order in which they are asked.
    """

    alert: Alert
    verdict: Verdict
    reasons: tuple[str, ...]
    readings: tuple[Reading, ...]


def explain(policy_set: PolicySet, judge: Judge, alert: Alert, container: Container, host: str) -> Explanation:
    """What would be done about such an alert about the container. Raises EngineError.

    Args:
        policy_set: the policies.
        judge: of the same.
        alert: which may be about another container; one that names none is left so.
        container: that is meant.
        host: inventory name of this host; empty where it is not known.
    """
    if alert.subject not in (Subject.NOTHING, Subject.NOT_DOCKER):
        alert = dataclasses.replace(alert, container=ContainerRef(container.id, addresses=alert.container.addresses))
    if host:
        alert = dataclasses.replace(alert, inventory_host=host)
    verdict = _about(judge.decide(alert), alert, container)
    readings = tuple(_readings(policy_set, alert, container))
    said = {why for reading in readings for why in reading.why}
    reasons = () if verdict.decision.outcome == NO_POLICY else verdict.decision.reasons
    return Explanation(alert, verdict, tuple(reason for reason in reasons if reason not in said), readings)


def _about(verdicts: Sequence[Verdict], alert: Alert, container: Container) -> Verdict:
    """The verdict on the container: an alert that names none may reach others, and not this one."""
    none = Verdict(alert, Decision(NO_POLICY, alert.id, alert.trace_id))
    found = {(one.decision.container or {}).get("id", container.id): one for one in reversed(verdicts)}
    return found.get(container.id, none)


def _readings(policy_set: PolicySet, alert: Alert, container: Container) -> t.Iterator[Reading]:
    answering = PolicyEngine(policy_set).decide(alert, container)
    first = (f"policy {answering.id} is asked first",) if answering else ()
    for policy in policy_set.policies:
        conditions = [*policy.alert_conditions(alert), *policy.target_conditions(container)]
        unmet = tuple(str(condition) for condition in conditions if not condition.met)
        if answering and policy.id == answering.id:
            yield Reading(policy.id, True, tuple(map(str, conditions)))
        elif not policy.enabled:
            yield Reading(policy.id, False, ("it is not enabled", *unmet))
        else:
            yield Reading(policy.id, False, unmet or first)
