# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies, alerts and containers for property tests. Their words are few, so that they often match each other."""

from __future__ import annotations

import typing as t

from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    Alert,
    ContainerRef,
    Subject,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES, Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import EVIDENCE
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    MODES,
    SCOPES,
    Policy,
    TargetFilter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet

words = st.sampled_from(["", "a", "b", "ab", "ba", "aab", "abb"])
images = st.sampled_from(["a", "a:1", "docker.io/library/a", "library/b:latest", "r:5000/a", "b@sha256:0", "sha256:0"])
globs = st.sampled_from(["a", "b", "ab", "a*", "*b", "*", "?", "a?b", "*a*", "**", "?*", "b*a"])
image_globs = globs | st.sampled_from(["a:latest", "*:1", "*/a", "docker.io/*", "a:*", "*:5000/*:latest", "*@sha256:?"])
label_globs = st.sampled_from(["x", "y", "x=", "x=a", "x=a*", "y=*b", "y=?", "x=*", "y=a=b"])
labels = st.dictionaries(st.sampled_from(["x", "y", "z"]), words | st.just("a=b"), max_size=3)


def _some(patterns: st.SearchStrategy[str], least: int = 1) -> st.SearchStrategy[list[str]]:
    return st.lists(patterns, min_size=least, max_size=3)


target_filters = st.fixed_dictionaries(
    {},
    optional={
        "container_names": _some(globs, 0),
        "image_patterns": _some(image_globs, 0),
        "labels": _some(label_globs, 0),
    },
)
_grace = st.integers(0, 300)
_disconnect = st.fixed_dictionaries({"type": st.just("network_disconnect")}, optional={"networks": _some(globs)})
_pause = st.fixed_dictionaries({"type": st.just("pause")})
_stop = st.fixed_dictionaries({"type": st.just("stop")}, optional={"grace": _grace})
_pair = st.tuples(_disconnect, _pause | _stop).map(list)
_single = (_disconnect | _pause | _stop).map(lambda action: [action])
_texts = st.text(
    st.characters(
        min_codepoint=0x20, exclude_characters="\x7f\x85\u2028\u2029\ufeff", exclude_categories=["Cs", "Cc", "Cn"]
    ),
    max_size=20,
)


_evidence = st.sampled_from(EVIDENCE) | st.fixed_dictionaries(
    {"type": st.just("archive"), "paths": st.lists(st.sampled_from(["/", "/etc", "/var/www"]), min_size=1, max_size=3)}
)


def policy_dicts(ids: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, t.Any]]:
    """Policies as people write them, all of them valid."""
    return st.fixed_dictionaries(
        {"id": ids, "actions": _pair | _single},
        optional={
            "name": _texts,
            "description": _texts,
            "enabled": st.booleans(),
            "priority": st.integers(0, 3),
            "mode": st.sampled_from(MODES),
            "severity_threshold": st.sampled_from(SEVERITIES),
            "sources": _some(globs),
            "rules": _some(globs),
            "tags": _some(globs),
            "hosts": _some(globs),
            "scope": st.sampled_from(SCOPES),
            "fallback": st.just([]) | _pair | _single,
            "evidence": st.lists(_evidence, max_size=3, unique_by=str),
            "cooldown": st.integers(0, 604_800),
            "release_after": st.integers(0, 31_536_000),
            "target_filter": st.builds(
                lambda wanted, excluded: {**wanted, **({"exclude": excluded} if excluded else {})},
                target_filters,
                target_filters,
            ),
        },
    )


def sets_of_policy_dicts(most: int) -> st.SearchStrategy[list[dict[str, t.Any]]]:
    """Policies with different ids."""
    ids = st.integers(0, 999).map(lambda number: f"p{number}")
    return st.lists(policy_dicts(ids), max_size=most, unique_by=lambda policy: policy["id"])


limit_dicts = st.fixed_dictionaries(
    {},
    optional={
        "max_containers_per_alert": st.integers(1, 1_000),
        "max_isolations_per_window": st.fixed_dictionaries(
            {"count": st.integers(1, 10_000), "seconds": st.integers(1, 86_400)}
        ),
        "max_alert_age": st.integers(0, 86_400),
    },
)


def policy_sets(most: int) -> st.SearchStrategy[PolicySet]:
    """Compiled sets, with something protected and limited or not."""
    return st.builds(
        lambda policies, protect, limits, mode: PolicySet.of(
            map(Policy.from_dict, policies), TargetFilter.from_dict(protect), Limits.from_dict(limits), mode
        ),
        sets_of_policy_dicts(most),
        target_filters,
        limit_dicts,
        st.sampled_from(MODES),
    )


alerts = st.builds(
    Alert,
    id=st.just("alert"),
    trace_id=st.just("trace"),
    source=words | st.sampled_from(["falco", "wazuh"]),
    rule=words,
    severity=st.sampled_from(Severity),
    received_at=st.just(""),
    tags=st.lists(words, max_size=3).map(tuple),
    host=words,
    inventory_host=words,
    container=st.sampled_from([ContainerRef(name="c"), *(ContainerRef(subject=subject) for subject in Subject)]),
)
containers = st.builds(
    Container, id=st.just("0" * 64), name=words, images=st.lists(images, max_size=2).map(tuple), labels=labels
)
