# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    Alert,
    ContainerRef,
    Subject,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES, Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    SCOPES,
    Condition,
    Policy,
    TargetFilter,
    image_forms,
    scope_of,
    stricter,
)
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import policy_dicts

ALERT = Alert(
    id="a",
    trace_id="t",
    source="falco",
    rule="Terminal shell",
    severity=Severity.HIGH,
    received_at="",
    tags=("x", "mitre_1"),
    host="node7",
    inventory_host="web1.example.com",
    container=ContainerRef(name="web-1"),
)
WEB = Container(id="0" * 64, name="web-1", images=("nginx:1.27",), labels={"env": "prod", "tier": ""})


@given(policy_dicts(st.just("p")))
def test_the_canonical_spelling_is_read_back_to_an_equal_policy(value: dict[str, t.Any]) -> None:
    policy = Policy.from_dict(value)
    canonical = policy.to_dict()
    assert Policy.from_dict(canonical) == policy
    assert Policy.from_dict(canonical).to_dict() == canonical


def test_defaults() -> None:
    assert Policy.from_dict({"id": "p", "action": {"type": "pause"}}) == Policy(
        id="p", actions=(Action("pause"),), name="p"
    )


def test_everything_that_is_given_is_kept() -> None:
    value = {
        "id": "p",
        "name": "Policy",
        "description": "Why",
        "enabled": False,
        "priority": 0,
        "mode": "audit",
        "severity_threshold": "critical",
        "sources": ["falco"],
        "rules": ["Terminal*"],
        "tags": ["mitre_*"],
        "hosts": ["web*"],
        "scope": "matching_containers",
        "target_filter": {
            "container_names": ["web-*"],
            "image_patterns": ["nginx:*"],
            "labels": ["env=prod"],
            "exclude": {"container_names": ["web-canary"]},
        },
        "actions": [{"type": "network_disconnect", "networks": ["front"]}, {"type": "stop", "grace": 5}],
        "fallback": [{"type": "pause"}],
        "evidence": ["top", "inspect", {"type": "archive", "paths": ["/etc", "/var/www"]}],
        "cooldown": 300,
        "release_after": 3600,
    }
    assert Policy.from_dict(value).to_dict() == value


@pytest.mark.parametrize("threshold", SEVERITIES)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_an_alert_is_at_least_as_severe_as_the_threshold(threshold: str, severity: str) -> None:
    policy = Policy(id="p", actions=(), severity_threshold=Severity.parse(threshold))
    alert = dataclasses.replace(ALERT, severity=Severity.parse(severity))
    met = SEVERITIES.index(severity) >= SEVERITIES.index(threshold)
    assert policy.alert_conditions(alert)[0] == Condition("severity_threshold", met, threshold, severity)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("container", "named"),
    [
        (ContainerRef(), False),
        (ContainerRef(image="nginx"), False),
        (ContainerRef(id="0" * 12), True),
        (ContainerRef(name="web-1"), True),
    ],
)
def test_the_scope_parts_alerts_that_name_a_container_from_those_that_do_not(
    scope: str, container: ContainerRef, named: bool
) -> None:
    policy = Policy(id="p", actions=(), scope=scope)
    condition = policy.alert_conditions(dataclasses.replace(ALERT, source="suricata", container=container))[1]
    assert (condition.field, condition.met) == ("scope", (scope == "alert_container") is named)


@pytest.mark.parametrize(
    ("source", "container", "scope"),
    [
        ("falco", ContainerRef(id="0" * 12), "alert_container"),
        ("falco", ContainerRef(name="web-1"), "alert_container"),
        ("falco", ContainerRef(subject=Subject.UNIDENTIFIED), "alert_container"),
        ("falco", ContainerRef(subject=Subject.NOT_DOCKER), ""),
        ("falco", ContainerRef(), ""),
        ("Wazuh", ContainerRef(), ""),
        ("tetragon", ContainerRef(), ""),
        ("suricata", ContainerRef(subject=Subject.UNIDENTIFIED), "alert_container"),
        ("suricata", ContainerRef(subject=Subject.NOT_DOCKER), ""),
        ("suricata", ContainerRef(), "matching_containers"),
        ("honeypot", ContainerRef(), "matching_containers"),
    ],
)
def test_only_alerts_that_say_nothing_about_containers_are_for_whatever_container_matches(
    source: str, container: ContainerRef, scope: str
) -> None:
    assert scope_of(dataclasses.replace(ALERT, source=source, container=container)) == scope


@pytest.mark.parametrize(
    ("mode", "other", "wins"),
    [("enforce", "enforce", "enforce"), ("enforce", "audit", "audit"), ("audit", "enforce", "audit")],
)
def test_the_stricter_mode_wins(mode: str, other: str, wins: str) -> None:
    assert stricter(mode, other) == wins


@pytest.mark.parametrize("mode", ["", "Audit", "off", "enforce "])
def test_another_mode_is_an_error(mode: str) -> None:
    for modes in ((mode, "audit"), ("enforce", mode)):
        with pytest.raises(PolicyError, match="is unknown") as caught:
            stricter(*modes)
        assert caught.value.kind == "invalid_option"


@pytest.mark.parametrize(
    ("field", "patterns", "met"),
    [
        ("sources", ["fal*"], True),
        ("sources", ["wazuh", "falco"], True),
        ("sources", ["Falco"], False),
        ("rules", ["Terminal*"], True),
        ("rules", ["Terminal"], False),
        ("rules", ["* shell"], True),
        ("tags", ["mitre_*"], True),
        ("tags", ["mitre"], False),
        ("tags", ["y", "x"], True),
        ("hosts", ["web?.example.com"], True),
        ("hosts", ["node*"], False),
        ("hosts", ["web1"], False),
    ],
)
def test_one_pattern_of_a_list_is_enough(field: str, patterns: list[str], met: bool) -> None:
    policy = Policy.from_dict({"id": "p", "action": {"type": "pause"}, field: patterns})
    _severity, _scope, condition = policy.alert_conditions(ALERT)
    assert (condition.field, condition.met) == (field, met)


def test_an_alert_without_tags_meets_no_condition_on_tags() -> None:
    condition = Policy(id="p", actions=(), tags=("*",)).alert_conditions(dataclasses.replace(ALERT, tags=()))[-1]
    assert not condition.met


def test_an_alert_without_a_host_meets_no_condition_on_hosts() -> None:
    alert = dataclasses.replace(ALERT, host="", inventory_host="")
    assert not Policy(id="p", actions=(), hosts=("*",)).alert_conditions(alert)[-1].met


def test_a_condition_says_what_was_wanted_and_what_was_found() -> None:
    policy = Policy(id="p", actions=(), rules=("a", "b", "c", "d", "e", "f"))
    assert [str(condition) for condition in policy.alert_conditions(ALERT)] == [
        "severity_threshold info matches high",
        "scope alert_container matches an alert that names a container",
        "rules [a, b, c, d, e, ...] does not match [Terminal shell]",
    ]


def test_a_condition_shows_labels_as_inert_text() -> None:
    target = dataclasses.replace(WEB, labels={"x": "{{ 1 }}\n"})
    (condition,) = TargetFilter(labels=("y",)).conditions(target)
    assert str(condition) == r"labels [y] does not match [x={ { 1 }}\n]"


@pytest.mark.parametrize(
    ("image", "forms"),
    [
        ("nginx", ["nginx", "nginx:latest"]),
        ("nginx:1.27", ["nginx:1.27"]),
        ("library/nginx", ["library/nginx", "library/nginx:latest", "nginx", "nginx:latest"]),
        (
            "docker.io/library/nginx",
            ["docker.io/library/nginx", "docker.io/library/nginx:latest", "nginx", "nginx:latest"],
        ),
        ("docker.io/library/nginx:1.27", ["docker.io/library/nginx:1.27", "nginx:1.27"]),
        ("docker.io/grafana/loki:3", ["docker.io/grafana/loki:3", "grafana/loki:3"]),
        ("registry:5000/x", ["registry:5000/x", "registry:5000/x:latest"]),
        ("registry:5000/x:2", ["registry:5000/x:2"]),
        ("registry/library/x", ["registry/library/x", "registry/library/x:latest"]),
        ("nginx@sha256:abc", ["nginx@sha256:abc"]),
        ("docker.io/library/nginx@sha256:abc", ["docker.io/library/nginx@sha256:abc", "nginx@sha256:abc"]),
        ("sha256:0123", ["sha256:0123"]),
    ],
)
def test_image_forms(image: str, forms: list[str]) -> None:
    assert image_forms([image]) == forms


def test_image_forms_of_several_references_repeat_nothing() -> None:
    assert image_forms(["nginx:latest", "nginx", "sha256:0"]) == ["nginx:latest", "nginx", "sha256:0"]
    assert image_forms([]) == []


@pytest.mark.parametrize(
    ("label", "met"),
    [
        ("env", True),
        ("tier", True),
        ("en", False),
        ("env*", False),
        ("env=prod", True),
        ("env=pro", False),
        ("env=p*", True),
        ("env=????", True),
        ("env=", False),
        ("tier=", True),
        ("tier=*", True),
        ("tier=?", False),
        ("owner=*", False),
    ],
)
def test_a_label_is_a_key_or_a_key_and_a_glob_for_its_value(label: str, met: bool) -> None:
    (condition,) = TargetFilter(labels=(label,)).conditions(WEB)
    assert condition.met is met


def test_a_label_value_may_hold_an_equals_sign() -> None:
    (condition,) = TargetFilter(labels=("opts=a=*",)).conditions(dataclasses.replace(WEB, labels={"opts": "a=b"}))
    assert condition.met


@pytest.mark.parametrize(
    ("target_filter", "unmet"),
    [
        ({}, []),
        ({"container_names": ["web-?"], "image_patterns": ["nginx:*"], "labels": ["env=prod"]}, []),
        ({"container_names": ["web-?"], "image_patterns": ["redis", "*:1.26"]}, ["image_patterns"]),
        ({"container_names": ["db"], "labels": ["gpu"]}, ["container_names", "labels"]),
        ({"exclude": {"container_names": ["web-canary"]}}, []),
        ({"exclude": {"container_names": ["web-1"]}}, ["exclude.container_names"]),
        ({"exclude": {"container_names": ["db"], "labels": ["tier"]}}, ["exclude.labels"]),
        ({"container_names": ["web-*"], "exclude": {"image_patterns": ["nginx*"]}}, ["exclude.image_patterns"]),
    ],
)
def test_every_list_must_match_and_no_excluded_one(target_filter: dict[str, t.Any], unmet: list[str]) -> None:
    policy = Policy.from_dict({"id": "p", "action": {"type": "pause"}, "target_filter": target_filter})
    assert [condition.field for condition in policy.target_conditions(WEB) if not condition.met] == unmet


def test_an_empty_filter_is_false_and_asks_for_nothing() -> None:
    assert not TargetFilter()
    assert TargetFilter().conditions(WEB) == []
    assert TargetFilter.from_dict(None) == TargetFilter.from_dict({"labels": None}) == TargetFilter()
    assert all(TargetFilter(**{name: ("a",)}) for name in ("container_names", "image_patterns", "labels"))
