# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding about containers of which not everything is known."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.containers import ALL_FIELDS, Known

_NOTHING = Known(Container("", ""), ALL_FIELDS)


class Ruling(t.NamedTuple):
    """What a policy set says, as far as that can be known.

    Attributes:
        policy: the id of the first policy that answers or might; empty where none can.
        certain: whether it does answer. It is not certain where the policy asks for what is not known.
    """

    policy: str
    certain: bool


class PartialJudge:
    """Decides like the engine, and tells what it cannot know.

    For each combination of unknown fields there is an engine whose policies do not ask for them. Its answer is the
    first policy that answers whatever the unknown is, or that might: every policy before it fails on what is known.
    """

    def __init__(self, policy_set: PolicySet) -> None:
        self._set = policy_set
        self._engines: dict[frozenset[str], PolicyEngine] = {}
        self._asking: dict[frozenset[str], frozenset[str]] = {}

    def decide(self, alert: Alert, known: Known | None) -> Ruling:
        """The policy for an alert and its container; None for an alert that names none.

        Which containers of its host such an alert would reach is known on that host only, so no answer is certain.
        """
        container, unknown = known or _NOTHING
        policy = self._engine(unknown).decide(alert, container)
        if policy is None:
            return Ruling("", True)
        return Ruling(policy.id, known is not None and policy.id not in self._asking[unknown])

    def protected(self, known: Known) -> bool:
        """Whether the container is protected, by what is known of it."""
        return self._engine(known.unknown).protection(known.container) is not None

    def nearest_misses(self, alert: Alert, known: Known | None) -> list[str]:
        """For an alert that no policy answers: the policies that came closest, and what they lack. Slow."""
        container, unknown = known or _NOTHING
        misses = self._engine(unknown).nearest_misses(alert, container)
        return ["{}: {}".format(policy.id, "; ".join(map(str, unmet))) for policy, unmet in misses]

    def _engine(self, unknown: frozenset[str]) -> PolicyEngine:
        engine = self._engines.get(unknown)
        if engine is None:
            policies = self._set.policies
            self._asking[unknown] = frozenset(policy.id for policy in policies if _asks(policy, unknown))
            blind = tuple(_without(policy, unknown) for policy in policies)
            engine = self._engines[unknown] = PolicyEngine(dataclasses.replace(self._set, policies=blind))
        return engine


def _asks(policy: Policy, fields: frozenset[str]) -> bool:
    return any(getattr(each, field) for each in (policy.target_filter, policy.exclude) for field in fields)


def _without(policy: Policy, fields: frozenset[str]) -> Policy:
    def stripped(target_filter: TargetFilter) -> TargetFilter:
        return dataclasses.replace(target_filter, **dict.fromkeys(fields, ()))

    return dataclasses.replace(policy, target_filter=stripped(policy.target_filter), exclude=stripped(policy.exclude))
