# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.shadows import shadowed
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import (
    alerts,
    containers,
    policy_sets,
)


def policy(policy_id: str, **keys: t.Any) -> Policy:
    return Policy.from_dict({"id": policy_id, "action": {"type": "pause"}, **keys})


def shadows(earlier: dict[str, t.Any], later: dict[str, t.Any]) -> bool:
    return bool(list(shadowed([policy("a", **earlier), policy("b", **later)])))


@settings(max_examples=300)
@given(policy_sets(8), st.lists(st.tuples(alerts, containers), min_size=1, max_size=30))
def test_what_is_shadowed_never_answers(policy_set: PolicySet, questions: list[tuple[Alert, Container]]) -> None:
    for later, earlier in shadowed(policy_set.policies):
        assert policy_set.policies.index(earlier) < policy_set.policies.index(later)
        assert earlier.enabled
        assert later.enabled
        for alert, target in questions:
            if all(condition.met for condition in later.alert_conditions(alert) + later.target_conditions(target)):
                conditions = earlier.alert_conditions(alert) + earlier.target_conditions(target)
                assert all(condition.met for condition in conditions)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({}, {}),
        ({}, {"severity_threshold": "high", "rules": ["a"], "target_filter": {"labels": ["x"]}}),
        ({"severity_threshold": "low"}, {"severity_threshold": "low"}),
        ({"mode": "audit"}, {"mode": "enforce"}),
        ({"rules": ["a*"]}, {"rules": ["a*"]}),
        ({"rules": ["a*"]}, {"rules": ["a?b*", "ab"]}),
        ({"rules": ["a?"]}, {"rules": ["a?"]}),
        ({"rules": ["*b*"]}, {"rules": ["a?b*c"]}),
        ({"hosts": ["web-*", "db"]}, {"hosts": ["db", "web-1"]}),
        ({"target_filter": {"labels": ["x"]}}, {"target_filter": {"labels": ["x=1", "x"]}}),
        ({"target_filter": {"labels": ["x=*"]}}, {"target_filter": {"labels": ["x"]}}),
        ({"target_filter": {"labels": ["x=a*"]}}, {"target_filter": {"labels": ["x=ab?"]}}),
        (
            {"target_filter": {"exclude": {"container_names": ["web-1"]}}},
            {"target_filter": {"exclude": {"container_names": ["web-*"]}}},
        ),
        ({}, {"target_filter": {"exclude": {"labels": ["x"]}}}),
        ({"scope": "matching_containers"}, {"scope": "matching_containers", "tags": ["a"]}),
    ],
)
def test_a_policy_that_can_never_answer(earlier: dict[str, t.Any], later: dict[str, t.Any]) -> None:
    assert shadows(earlier, later)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"severity_threshold": "high"}, {"severity_threshold": "low"}),
        ({"scope": "matching_containers"}, {}),
        ({"enabled": False}, {}),
        ({}, {"enabled": False}),
        ({"rules": ["a"]}, {}),
        ({"rules": ["a"]}, {"rules": ["a", "b"]}),
        ({"rules": ["a?"]}, {"rules": ["a*"]}),
        ({"rules": ["a"]}, {"tags": ["a"]}),
        ({"target_filter": {"labels": ["x=1"]}}, {"target_filter": {"labels": ["x"]}}),
        ({"target_filter": {"labels": ["x*=1"]}}, {"target_filter": {"labels": ["xy=1"]}}),
        ({"target_filter": {"labels": ["x"]}}, {"target_filter": {"labels": ["xy"]}}),
        ({"target_filter": {"exclude": {"labels": ["x"]}}}, {}),
        (
            {"target_filter": {"exclude": {"container_names": ["web-*"]}}},
            {"target_filter": {"exclude": {"container_names": ["web-1"]}}},
        ),
    ],
)
def test_a_policy_that_can(earlier: dict[str, t.Any], later: dict[str, t.Any]) -> None:
    assert not shadows(earlier, later)


def test_the_first_that_always_answers_before_is_named() -> None:
    policies = [policy("a", rules=["x"]), policy("b", sources=["f*"]), policy("c"), policy("d", sources=["falco"])]
    assert [(later.id, earlier.id) for later, earlier in shadowed(policies)] == [("d", "b")]


def test_a_thousand_policies_take_no_time() -> None:
    policies = [
        policy(f"p{number}", target_filter={"container_names": [f"c{number}-*"], "exclude": {"labels": [f"x{number}"]}})
        for number in range(1_000)
    ]
    start = time.monotonic()
    assert list(shadowed(policies)) == []
    assert time.monotonic() - start < 5
