# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding: which policy of a set answers an alert about a container.

A set is compiled once. Policy i is bit i, in the order in which policies are asked. What an alert has selects one mask,
what a container has selects another, and the lowest bit of both is the answer: the cost hardly grows with the policies.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import GlobIndex
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    AUDIT,
    SCOPES,
    Condition,
    Policy,
    Target,
    hosts_of,
    image_forms,
    scope_of,
    scopes_of,
    stricter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet

CACHE_SIZE = 10_000
"""Most masks that each of the caches holds."""
NEAREST_MISSES = 3


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a policy set says about an alert and a container.

    Attributes:
        outcome: C(isolate), C(audit), C(protected) or C(no_policy).
        policy: the policy that answers, or None.
        explain: works out which conditions were met; for C(no_policy), the nearest misses and what they lack.
    """

    outcome: str
    policy: Policy | None
    explain: t.Callable[[], tuple[str, ...]]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, for people."""
        return self.explain()


class PolicyEngine:
    """One compiled policy set.

    Args:
        policy_set: the set.
        cache_size: most masks that each of the caches holds. An entry holds texts of an alert, up to 10 KB of them.
    """

    def __init__(self, policy_set: PolicySet, cache_size: int = CACHE_SIZE) -> None:
        self._cache_size = cache_size
        self.limits = policy_set.limits
        self._mode = policy_set.mode
        self._protect = policy_set.protect
        self._policies = [policy for policy in policy_set.policies if policy.enabled]
        self._everything = everything = (1 << len(self._policies)) - 1
        self._by_severity = dict.fromkeys(Severity, 0)
        self._by_scope = dict.fromkeys(SCOPES, 0)
        self._sources, self._rules, self._tags, self._hosts = (_Dimension(everything) for _dimension in range(4))
        self._names, self._images, self._labels = (_Dimension(everything) for _dimension in range(3))
        self._excluded_names, self._excluded_images, self._excluded_labels = (_Dimension(0) for _dimension in range(3))
        for index, policy in enumerate(self._policies):
            bit = 1 << index
            self._by_scope[policy.scope] |= bit
            for severity in Severity:
                if severity >= policy.severity_threshold:
                    self._by_severity[severity] |= bit
            for dimension, patterns in (
                (self._sources, policy.sources),
                (self._rules, policy.rules),
                (self._tags, policy.tags),
                (self._hosts, policy.hosts),
                (self._names, policy.target_filter.container_names),
                (self._images, policy.target_filter.image_patterns),
                (self._excluded_names, policy.exclude.container_names),
                (self._excluded_images, policy.exclude.image_patterns),
            ):
                dimension.add(patterns, bit)
            self._labels.add_labels(policy.target_filter.labels, bit)
            self._excluded_labels.add_labels(policy.exclude.labels, bit)
        self._alert_masks: dict[t.Hashable, int] = {}
        self._target_masks: dict[t.Hashable, int] = {}
        self._name_masks: dict[t.Hashable, int] = {}

    def wants(self, alert: Alert, scope: str | None = None, on_any_host: bool = False) -> bool:
        """Whether any policy could answer the alert, whatever container it is about.

        Args:
            alert: the alert.
            scope: ask the policies of this scope, as if the alert were for them; None for those that may answer it.
            on_any_host: ask whatever host it is about, as where that is yet to be found out.
        """
        scopes = scopes_of(alert) if scope is None else (scope,)
        return any(self._alert_mask(alert, each, on_any_host) for each in scopes)

    def may_reach(self, alert: Alert, name: str) -> bool:
        """Whether any policy could answer the alert about a container of that name, whatever else it is."""
        names = self._name_masks.get(name)
        if names is None:
            names = self._names.mask([name]) & ~self._excluded_names.mask([name])
            self._remember(self._name_masks, name, names)
        return bool(self._alert_mask(alert, scope_of(alert)) & names)

    def mode_of(self, policy: Policy) -> str:
        """The mode of a policy in this set."""
        return stricter(self._mode, policy.mode)

    def decide(self, alert: Alert, target: Target) -> Policy | None:
        """The first policy that answers the alert about the container, or None."""
        mask = self._alert_mask(alert, scope_of(alert))
        if mask:
            mask &= self._target_mask(target)
        return self._policies[(mask & -mask).bit_length() - 1] if mask else None

    def protection(self, target: Target) -> Condition | None:
        """Why the container must never be isolated, or None."""
        return next((condition for condition in self._protect.conditions(target) if condition.met), None)

    def judge(self, alert: Alert, target: Target | None) -> Judgement:
        """What the set says, with reasons. Without a container only C(no_policy) can be found out."""
        policy = self.decide(alert, target) if target else None
        if policy is None or target is None:
            return Judgement("no_policy", None, lambda: self._why_none(alert, target))
        found, container = policy, target
        protection = self.protection(container)
        mode = self.mode_of(found)

        def explain() -> tuple[str, ...]:
            reasons = [str(each) for each in (*found.alert_conditions(alert), *found.target_conditions(container))]
            if protection:
                reasons.append(f"protected: {protection}")
            elif mode != found.mode:
                reasons.append(f"the policy set is in mode {mode}")
            return tuple(reasons)

        return Judgement("protected" if protection else "audit" if mode == AUDIT else "isolate", policy, explain)

    def _why_none(self, alert: Alert, target: Target | None) -> tuple[str, ...]:
        if not self._policies:
            return ("the policy set has no enabled policy",)
        misses = self.nearest_misses(alert, target)
        reasons = tuple("{}: {}".format(policy.id, "; ".join(map(str, unmet))) for policy, unmet in misses)
        return reasons or ("no container has what the policies for this alert ask for",)

    def nearest_misses(self, alert: Alert, target: Target | None) -> list[tuple[Policy, list[Condition]]]:
        """The policies with the fewest unmet conditions, and those, for people who wonder why nothing happened.

        Only these policies are read. The unmet conditions of all are counted by their masks: plane i has bit i of every
        count.
        """
        planes: list[int] = []
        for carry in self._unmet(alert, target):
            for index, plane in enumerate(planes):
                planes[index], carry = plane ^ carry, plane & carry
            if carry:
                planes.append(carry)
        misses = []
        for count in range(1, 1 << len(planes)):
            those = self._everything
            for index, plane in enumerate(planes):
                those &= plane if count >> index & 1 else ~plane
            while those:
                lowest = those & -those
                those ^= lowest
                policy = self._policies[lowest.bit_length() - 1]
                conditions = policy.alert_conditions(alert) + (policy.target_conditions(target) if target else [])
                misses.append((policy, [condition for condition in conditions if not condition.met]))
                if len(misses) == NEAREST_MISSES:
                    return misses
        return misses

    def _unmet(self, alert: Alert, target: Target | None) -> t.Iterator[int]:
        """For each condition that policies can have, those that have it and to which it is not met."""
        met = [
            self._by_severity[alert.severity],
            self._by_scope.get(scope_of(alert), 0),
            self._sources.mask([alert.source]),
            self._rules.mask([alert.rule]),
            self._tags.mask(alert.tags),
            self._hosts.mask(hosts_of(alert)),
        ]
        if target:
            images = image_forms(target.images)
            met += [self._names.mask([target.name]), self._images.mask(images), self._labels.label_mask(target.labels)]
            yield self._excluded_names.mask([target.name])
            yield self._excluded_images.mask(images)
            yield self._excluded_labels.label_mask(target.labels)
        for mask in met:
            yield self._everything & ~mask

    def _alert_mask(self, alert: Alert, scope: str, on_any_host: bool = False) -> int:
        hosts = None if on_any_host else (alert.inventory_host, alert.host)
        key = (alert.severity, alert.source, alert.rule, alert.tags, hosts, scope)
        mask = self._alert_masks.get(key)
        if mask is None:
            mask = self._by_severity[alert.severity] & self._by_scope.get(scope, 0)
            # A dimension is asked only while something is left to rule out.
            if mask:
                mask &= self._rules.mask([alert.rule])
            if mask:
                mask &= self._sources.mask([alert.source])
            if mask:
                mask &= self._tags.mask(alert.tags)
            if mask and not on_any_host:
                mask &= self._hosts.mask(hosts_of(alert))
            self._remember(self._alert_masks, key, mask)
        return mask

    def _target_mask(self, target: Target) -> int:
        key = _target_key(target)
        mask = self._target_masks.get(key)
        if mask is None:
            images = image_forms(target.images)
            mask = self._names.mask([target.name]) & self._images.mask(images)
            mask &= self._labels.label_mask(target.labels)
            mask &= ~(self._excluded_names.mask([target.name]) | self._excluded_images.mask(images))
            mask &= ~self._excluded_labels.label_mask(target.labels)
            self._remember(self._target_masks, key, mask)
        return mask

    def _remember(self, cache: dict[t.Hashable, int], key: t.Hashable, value: int) -> None:
        # Attackers choose what alerts and containers are called, so the caches are bounded. Starting over is simpler
        # than ageing entries and costs about the same.
        if len(cache) >= self._cache_size:
            cache.clear()
        cache[key] = value


class _Dimension:
    """One key of the policies: those that do not have it match anything (or, for exclusions, nothing)."""

    def __init__(self, unrestricted: int) -> None:
        self._unrestricted = unrestricted
        self._index = GlobIndex()
        self._by_label: dict[str, GlobIndex] = {}

    def _restrict(self, patterns: t.Sequence[str], bit: int) -> None:
        if patterns:
            self._unrestricted &= ~bit

    def add(self, patterns: t.Sequence[str], bit: int) -> None:
        """The policy of the bit asks for one of these patterns."""
        self._restrict(patterns, bit)
        for pattern in patterns:
            self._index.add(pattern, bit)

    def add_labels(self, wanted: t.Sequence[str], bit: int) -> None:
        """The policy of the bit asks for one of these labels."""
        self._restrict(wanted, bit)
        for label in wanted:
            key, separator, pattern = label.partition("=")
            self._by_label.setdefault(key, GlobIndex()).add(pattern if separator else "*", bit)

    def mask(self, values: t.Iterable[str]) -> int:
        """The policies that one of the values satisfies."""
        found = self._unrestricted
        for value in values:
            found |= self._index.mask(value)
        return found

    def label_mask(self, labels: t.Mapping[str, str]) -> int:
        """The policies that one of the labels satisfies."""
        found = self._unrestricted
        for key, value in labels.items():
            index = self._by_label.get(key)
            if index is not None:
                found |= index.mask(value)
        return found


def _target_key(target: Target) -> t.Hashable:
    return (target.name, target.images, tuple(sorted(target.labels.items())))
