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
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.containers import ALL_FIELDS, TAG, Known

_NOTHING = Known(Container("", ""), ALL_FIELDS)
_MATCHES_NOTHING = "\0"


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
        self._engines: dict[tuple[frozenset[str], bool], PolicyEngine] = {}
        self._asking: dict[frozenset[str], frozenset[str]] = {}

    def decide(self, alert: Alert, known: Known | None) -> Ruling:
        """The policy for an alert and its container; None for an alert that names none.

        Which containers of its host such an alert would reach is known on that host only, so no answer is certain.
        """
        container, unknown = _asked_about(known or _NOTHING)
        policy = self._engine(unknown).decide(alert, container)
        if policy is None:
            return Ruling("", True)
        if known is None or policy.id in self._asking[unknown]:
            return Ruling(policy.id, False)
        if TAG not in unknown:
            return Ruling(policy.id, True)
        sure = self._engine(unknown, whatever_tag=True).decide(alert, container)
        return Ruling(policy.id, sure is not None and sure.id == policy.id)

    def protected(self, known: Known) -> bool | None:
        """Whether the container is protected; None where it might be, by what is not known of it."""
        container, unknown = _asked_about(known)
        if self._engine(unknown, whatever_tag=TAG in unknown).protection(container):
            return True
        might = TAG in unknown and self._engine(unknown).protection(container)
        return None if might or _asks(self._set.protect, unknown) else False

    def nearest_misses(self, alert: Alert, known: Known | None) -> list[str]:
        """For an alert that no policy answers: the policies that came closest, and what they lack. Slow."""
        container, unknown = known or _NOTHING
        if TAG in unknown:
            container = dataclasses.replace(container, images=tuple(f"{image}:<NA>" for image in container.images))
        misses = self._engine(unknown - {TAG}).nearest_misses(alert, container)
        return ["{}: {}".format(policy.id, "; ".join(map(str, unmet))) for policy, unmet in misses]

    def _engine(self, unknown: frozenset[str], whatever_tag: bool = False) -> PolicyEngine:
        """The engine for what is not known.

        Args:
            unknown: what is not known.
            whatever_tag: where the tag is not known: count as met what is met whatever it is, not what might be.
        """
        engine = self._engines.get((unknown, whatever_tag))
        if engine is None:
            policies = self._set.policies
            self._asking[unknown] = frozenset(
                policy.id
                for policy in policies
                if _asks(policy.target_filter, unknown) or _asks(policy.exclude, unknown)
            )
            blind = tuple(
                dataclasses.replace(
                    policy,
                    target_filter=_without(policy.target_filter, unknown, whatever_tag),
                    exclude=_without(policy.exclude, unknown, not whatever_tag),
                )
                for policy in policies
            )
            protect = _without(self._set.protect, unknown & {TAG}, whatever_tag)
            engine = PolicyEngine(dataclasses.replace(self._set, policies=blind, protect=protect))
            self._engines[unknown, whatever_tag] = engine
        return engine


def _asked_about(known: Known) -> Known:
    """The container as the policies of an engine see it: of an image without its tag they see where that begins."""
    if TAG not in known.unknown:
        return known
    container = known.container
    return known._replace(container=dataclasses.replace(container, images=tuple(f"{it}:" for it in container.images)))


def _asks(target_filter: TargetFilter, fields: frozenset[str]) -> bool:
    return any(getattr(target_filter, field) for field in fields - {TAG})


def _without(target_filter: TargetFilter, unknown: frozenset[str], whatever_tag: bool) -> TargetFilter:
    """The filter without what is not known."""
    fields: dict[str, tuple[str, ...]] = dict.fromkeys(unknown - {TAG}, ())
    if TAG in unknown and target_filter.image_patterns:
        patterns = [known for each in target_filter.image_patterns for known in _without_tag(each, whatever_tag)]
        fields["image_patterns"] = tuple(patterns) or (_MATCHES_NOTHING,)
    return dataclasses.replace(target_filter, **fields)


def _without_tag(pattern: str, whatever_tag: bool) -> list[str]:
    """Patterns for C(repository:) that say whether this one matches it with a tag behind.

    Args:
        pattern: a glob for an image reference.
        whatever_tag: with every tag; else with some tag, or without one.
    """
    if whatever_tag:
        return [pattern] if pattern.endswith("*") else []
    named = pattern.partition("@")[0]  # what asks for a digest asks for what is not known, too
    # What is left for the tag can hold no slash and no colon.
    last = max(named.rfind("/"), named.rfind(":"), 0)
    beginnings = [named[:end] for end in range(last + 1, len(named) + 1) if named[end - 1] in ":*?"]
    return [f"{named}:", *beginnings]
