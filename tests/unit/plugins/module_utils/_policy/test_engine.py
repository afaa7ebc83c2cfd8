# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    Alert,
    ContainerRef,
    Subject,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import (
    CACHE_SIZE,
    NEAREST_MISSES,
    PolicyEngine,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    Condition,
    Policy,
    TargetFilter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import (
    alerts,
    containers,
    policy_sets,
)

ALERT = Alert(
    id="a",
    trace_id="t",
    source="falco",
    rule="Shell",
    severity=Severity.HIGH,
    received_at="",
    tags=("x",),
    container=ContainerRef(name="web-1"),
)
WEB = Container(id="0" * 64, name="web-1", images=("nginx",), labels={"env": "prod"})


def engine_of(*policies: dict[str, t.Any], **protect: list[str]) -> PolicyEngine:
    actions = {"actions": [{"type": "pause"}]}
    made = [Policy.from_dict({**actions, **policy}) for policy in policies]
    return PolicyEngine(PolicySet.of(made, TargetFilter.from_dict(protect)))


def answers(policy: Policy, alert: Alert, target: Container) -> bool:
    """The plain reading of a policy."""
    conditions = policy.alert_conditions(alert) + policy.target_conditions(target)
    return policy.enabled and all(condition.met for condition in conditions)


def decided(engine: PolicyEngine, alert: Alert = ALERT, target: Container = WEB) -> str | None:
    policy = engine.decide(alert, target)
    return policy.id if policy else None


@settings(max_examples=150)
@given(policy_sets(30), st.lists(st.tuples(alerts, containers), min_size=1, max_size=8))
def test_the_engine_decides_as_the_plain_reading_of_the_policies(
    policy_set: PolicySet, questions: list[tuple[Alert, Container]]
) -> None:
    engine = PolicyEngine(policy_set)
    for alert, target in questions * 2:  # the second time from the caches
        plain = next((policy for policy in policy_set.policies if answers(policy, alert, target)), None)
        assert engine.decide(alert, target) == plain
        wanted = any(
            policy.enabled and all(condition.met for condition in policy.alert_conditions(alert))
            for policy in policy_set.policies
        )
        assert engine.wants(alert) == wanted
        assert bool(engine.protection(target)) == any(
            condition.met for condition in policy_set.protect.conditions(target)
        )


@given(policy_sets(10), alerts, st.none() | containers)
def test_nearest_misses_are_those_with_the_fewest_unmet_conditions(
    policy_set: PolicySet, alert: Alert, target: Container | None
) -> None:
    misses = PolicyEngine(policy_set).nearest_misses(alert, target)
    unmet_of = {
        policy: [
            condition
            for condition in policy.alert_conditions(alert) + (policy.target_conditions(target) if target else [])
            if not condition.met
        ]
        for policy in policy_set.policies
        if policy.enabled
    }
    assert all(unmet_of[policy] == unmet for policy, unmet in misses)
    counts = sorted(len(unmet) for unmet in unmet_of.values() if unmet)
    assert [len(unmet) for _policy, unmet in misses] == counts[:NEAREST_MISSES]


def test_the_first_policy_that_matches_wins() -> None:
    policies = [
        {"id": "late", "priority": 2},
        {"id": "b", "priority": 1},
        {"id": "a", "priority": 1, "rules": ["Other"]},
    ]
    assert decided(engine_of(*policies)) == "b"
    assert decided(engine_of(*policies), dataclasses.replace(ALERT, rule="Other")) == "a"


@pytest.mark.parametrize("number", [1, 63, 64, 65, 1000])
def test_the_last_of_many_policies_is_found(number: int) -> None:
    policies = [{"id": f"p{index:04}", "rules": [f"Rule {index}"]} for index in range(number)]
    alert = dataclasses.replace(ALERT, rule=f"Rule {number - 1}")
    assert decided(engine_of(*policies), alert) == f"p{number - 1:04}"


def test_an_empty_set_wants_nothing() -> None:
    engine = engine_of()
    assert not engine.wants(ALERT)
    assert decided(engine) is None
    assert engine.protection(WEB) is None
    assert engine.nearest_misses(ALERT, WEB) == []


def test_a_disabled_policy_is_as_good_as_none() -> None:
    engine = engine_of({"id": "off", "enabled": False, "priority": 0}, {"id": "on", "sources": ["wazuh"]})
    assert not engine.wants(ALERT)
    assert decided(engine) is None
    assert [policy.id for policy, _unmet in engine.nearest_misses(ALERT, WEB)] == ["on"]


def test_a_policy_in_audit_mode_answers_too() -> None:
    assert decided(engine_of({"id": "look", "mode": "audit", "priority": 0}, {"id": "act"})) == "look"


def test_an_alert_is_wanted_whatever_container_it_is_about() -> None:
    engine = engine_of({"id": "p", "target_filter": {"container_names": ["db"]}})
    assert engine.wants(ALERT)
    assert decided(engine) is None


@pytest.mark.parametrize(
    ("protect", "field"),
    [
        ({"container_names": ["web-*"]}, "container_names"),
        ({"image_patterns": ["nginx:latest"]}, "image_patterns"),
        ({"labels": ["env=p*"]}, "labels"),
        ({"container_names": ["db"], "labels": ["env"]}, "labels"),
    ],
)
def test_one_match_is_enough_to_protect(protect: dict[str, list[str]], field: str) -> None:
    condition = engine_of(**protect).protection(WEB)
    assert condition is not None
    assert condition.field == field


def test_what_matches_nothing_protected_is_not_protected() -> None:
    assert engine_of(container_names=["db"], image_patterns=["redis*"], labels=["env=dev"]).protection(WEB) is None


def test_protection_does_not_keep_a_policy_from_answering() -> None:
    assert decided(engine_of({"id": "p"}, container_names=["*"])) == "p"


@pytest.mark.parametrize("scope", ["alert_container", "matching_containers"])
def test_a_policy_answers_alerts_of_its_scope_only(scope: str) -> None:
    engine = engine_of({"id": "p", "scope": scope})
    nameless = dataclasses.replace(ALERT, source="suricata", container=ContainerRef())
    for alert, answered in ((ALERT, scope == "alert_container"), (nameless, scope == "matching_containers")):
        assert engine.wants(alert) is answered
        assert decided(engine, alert) == ("p" if answered else None)


@pytest.mark.parametrize(("host", "inventory_host"), [("node7", ""), ("", "node7"), ("a", "node7")])
def test_a_host_is_known_by_its_inventory_name_first(host: str, inventory_host: str) -> None:
    engine = engine_of({"id": "p", "hosts": ["node?"]})
    assert decided(engine, dataclasses.replace(ALERT, host=host, inventory_host=inventory_host)) == "p"
    assert decided(engine, dataclasses.replace(ALERT, host="node7", inventory_host="a")) is None
    assert decided(engine, dataclasses.replace(ALERT, host="other")) is None
    assert decided(engine) is None


@given(policy_sets(10), alerts, st.none() | containers)
def test_a_judgement_says_what_was_decided_and_why(
    policy_set: PolicySet, alert: Alert, target: Container | None
) -> None:
    engine = PolicyEngine(policy_set)
    for _time in range(2):  # the second time from the caches
        judgement = engine.judge(alert, target)
        assert judgement.policy == (engine.decide(alert, target) if target else None)
        assert judgement.reasons
        assert judgement.reasons == judgement.explain()
        if judgement.policy is None or target is None:
            assert judgement.outcome == "no_policy"
        elif engine.protection(target):
            assert judgement.outcome == "protected"
        else:
            mode = "audit" if policy_set.mode == "audit" else judgement.policy.mode
            assert judgement.outcome == {"enforce": "isolate", "audit": "audit"}[mode]


def test_reasons_of_a_judgement() -> None:
    policy = {"id": "p", "rules": ["Shell"], "target_filter": {"container_names": ["web-*"]}}
    met = (
        "severity_threshold info matches high",
        "scope alert_container matches an alert that names a container",
        "rules [Shell] matches [Shell]",
        "container_names [web-*] matches [web-1]",
    )
    assert engine_of(policy).judge(ALERT, WEB).reasons == met
    protected = engine_of(policy, labels=["env"]).judge(ALERT, WEB)
    assert (protected.outcome, protected.reasons) == ("protected", (*met, "protected: labels [env] matches [env=prod]"))
    missed = engine_of(policy).judge(ALERT, dataclasses.replace(WEB, name="db"))
    assert missed.reasons == ("p: container_names [web-*] does not match [db]",)
    assert engine_of({**policy, "enabled": False}).judge(ALERT, WEB).reasons == (
        "the policy set has no enabled policy",
    )


def test_reasons_are_worked_out_when_they_are_read_and_read_three_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 alerts of different rules against 1,000 policies cost 4.2 s before anything was isolated."""
    engine = engine_of(*({"id": f"p{number}", "rules": [f"Rule {number}"]} for number in range(1000)))
    read: list[str] = []
    conditions = Policy.alert_conditions

    def counted(policy: Policy, alert: Alert) -> list[Condition]:
        read.append(policy.id)
        return conditions(policy, alert)

    monkeypatch.setattr(Policy, "alert_conditions", counted)
    judgements = [engine.judge(dataclasses.replace(ALERT, rule=f"Other {number}"), WEB) for number in range(500)]
    assert {judgement.outcome for judgement in judgements} == {"no_policy"}
    assert read == []
    assert len(judgements[0].reasons) == NEAREST_MISSES
    assert len(read) == NEAREST_MISSES


@pytest.mark.parametrize("source", ["falco", "Falco", "tetragon", "wazuh"])
def test_a_source_that_names_containers_never_comes_to_matching_containers(source: str) -> None:
    engine = engine_of({"id": "p", "scope": "matching_containers"}, {"id": "q", "scope": "alert_container"})
    nameless = dataclasses.replace(ALERT, source=source, container=ContainerRef())
    assert not engine.wants(nameless)
    assert decided(engine, nameless) is None
    assert engine.judge(nameless, WEB).reasons[0] == (
        f"p: scope matching_containers does not match an alert that says nothing about containers, from {source}, "
        "which names them"
    )


@pytest.mark.parametrize("scope", ["alert_container", "matching_containers"])
def test_an_alert_about_the_host_comes_to_no_policy_though_one_would_want_it(scope: str) -> None:
    engine = engine_of({"id": "p", "scope": scope})
    alert = dataclasses.replace(ALERT, container=ContainerRef(subject=Subject.NOT_DOCKER))
    assert not engine.wants(alert)
    assert decided(engine, alert) is None
    assert engine.wants(alert, scope)
    assert not engine.wants(dataclasses.replace(alert, severity=Severity.INFO), "nonsense")


def test_by_its_name_a_container_may_be_ruled_out() -> None:
    engine = engine_of(
        {
            "id": "p",
            "target_filter": {"container_names": ["web-*"], "exclude": {"container_names": ["*-canary"]}},
        },
        {"id": "q", "rules": ["Other"]},
    )
    assert engine.may_reach(ALERT, "web-1")
    assert not engine.may_reach(ALERT, "web-canary")
    assert not engine.may_reach(ALERT, "db")
    assert not engine.may_reach(dataclasses.replace(ALERT, rule="No"), "db")
    assert engine.may_reach(dataclasses.replace(ALERT, rule="Other"), "db")


@pytest.mark.parametrize("of_the_set", ["enforce", "audit"])
@pytest.mark.parametrize("of_the_policy", ["enforce", "audit"])
def test_of_the_modes_of_set_and_policy_the_stricter_wins(of_the_set: str, of_the_policy: str) -> None:
    policy = Policy.from_dict({"id": "p", "mode": of_the_policy, "actions": [{"type": "pause"}]})
    engine = PolicyEngine(PolicySet.of([policy], mode=of_the_set))
    audit = "audit" in (of_the_set, of_the_policy)
    judgement = engine.judge(ALERT, WEB)
    assert judgement.outcome == ("audit" if audit else "isolate")
    assert ("the policy set is in mode audit" in judgement.reasons) is (of_the_set != of_the_policy == "enforce")
    assert engine.mode_of(policy) == ("audit" if audit else "enforce")


def test_where_no_container_matches_the_reason_says_so() -> None:
    assert engine_of({"id": "p"}).judge(ALERT, None).reasons == (
        "no container has what the policies for this alert ask for",
    )


def test_nearest_misses_name_what_was_not_met() -> None:
    engine = engine_of(
        {"id": "far", "severity_threshold": "critical", "sources": ["wazuh"], "tags": ["y"]},
        {"id": "near", "rules": ["Shell"], "target_filter": {"labels": ["env=dev"]}},
        {"id": "excluded", "target_filter": {"exclude": {"container_names": ["web-*"]}}},
        {"id": "farther", "severity_threshold": "critical", "sources": ["a"], "tags": ["y"], "rules": ["b"]},
    )
    assert [
        (policy.id, [str(condition) for condition in unmet]) for policy, unmet in engine.nearest_misses(ALERT, WEB)
    ] == [
        ("excluded", ["exclude.container_names [web-*] does not match [web-1]"]),
        ("near", ["labels [env=dev] does not match [env=prod]"]),
        (
            "far",
            [
                "severity_threshold critical does not match high",
                "sources [wazuh] does not match [falco]",
                "tags [y] does not match [x]",
            ],
        ),
    ]


def test_without_a_container_only_the_alert_is_compared() -> None:
    engine = engine_of({"id": "p", "rules": ["Other"], "target_filter": {"container_names": ["db"]}})
    ((_policy, unmet),) = engine.nearest_misses(ALERT, None)
    assert [condition.field for condition in unmet] == ["rules"]


def test_the_caches_stay_bounded_and_right() -> None:
    engine = engine_of(
        {"id": "odd", "rules": ["*1"]}, {"id": "web", "rules": ["*2"], "target_filter": {"labels": ["n=*0"]}}
    )
    sizes = []
    for number in range(3 * CACHE_SIZE):
        alert = dataclasses.replace(ALERT, rule=str(number))
        target = dataclasses.replace(WEB, labels={"n": str(number // 10)})
        expected = {1: "odd", 2: "web" if number // 10 % 10 == 0 else None}.get(number % 10)
        assert decided(engine, alert, target) == expected
        sizes.append((len(engine._alert_masks), len(engine._target_masks)))
    assert max(size for size, _size in sizes) == CACHE_SIZE
    assert max(size for _size, size in sizes) <= CACHE_SIZE


def test_the_cache_of_containers_stays_bounded() -> None:
    engine = engine_of({"id": "p", "target_filter": {"container_names": ["c*9"]}})
    found = [decided(engine, ALERT, dataclasses.replace(WEB, name=f"c{number}")) for number in range(3 * CACHE_SIZE)]
    assert found.count("p") == 3 * CACHE_SIZE / 10
    assert 0 < len(engine._target_masks) <= CACHE_SIZE
