# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import tomllib
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.spelling import Canonical, Origin

PAUSE = {"type": "pause"}
FRONT = {"type": "network_disconnect", "networks": ["front"]}


def policies(content: dict[str, t.Any]) -> t.Any:
    return Canonical(content).content["policies"]


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('action = "Pause"', PAUSE),
        ('action = "pause"', PAUSE),
        ('action = { type = "Pause" }', PAUSE),
        ("[action]\nPause = []", PAUSE),
        ("[action]\nPause = {}", PAUSE),
        ("[action.Pause]", PAUSE),
        ("[action]\nStop = []", {"type": "stop"}),
        ("[action.Stop]\ngrace = 3", {"type": "stop", "grace": 3}),
        ('action = "Stop"', {"type": "stop"}),
        ('[action.NetworkDisconnect]\nnetworks = ["front"]', FRONT),
        ('[action]\nNetworkDisconnect = { networks = ["front"] }', FRONT),
        ('action = { NetworkDisconnect = { networks = ["front"] } }', FRONT),
        ('action = { type = "network_disconnect", networks = ["front"] }', FRONT),
        ('action = { type = "NetworkDisconnect", networks = ["front"] }', FRONT),
        ("[action.NetworkDisconnect]", {"type": "network_disconnect"}),
        ('action = "NetworkDisconnect"', {"type": "network_disconnect"}),
    ],
)
def test_every_spelling_of_an_action(text: str, action: dict[str, t.Any]) -> None:
    (policy,) = policies(tomllib.loads(f'id = "p"\n{text}'))
    assert policy == {"id": "p", "action": action}


def test_lists_of_actions_have_the_same_spellings() -> None:
    content = yaml.safe_load(
        "id: p\nactions: [Pause, {NetworkDisconnect: {networks: [front]}}]\nfallback:\n- Stop:\n- type: Pause\n"
    )
    (policy,) = policies(content)
    assert policy == {"id": "p", "actions": [PAUSE, FRONT], "fallback": [{"type": "stop"}, PAUSE]}


@pytest.mark.parametrize("severity", ["Info", "Low", "Medium", "High", "Critical", "CRITICAL", "info"])
def test_severities_in_any_case(severity: str) -> None:
    assert policies({"id": "p", "severity_threshold": severity}) == [
        {"id": "p", "severity_threshold": severity.lower()}
    ]


@pytest.mark.parametrize(
    ("content", "canonical"),
    [
        ({"id": "p"}, {"policies": [{"id": "p"}]}),
        ({"policies": [{"id": "p"}]}, {"policies": [{"id": "p"}]}),
        ({"policy": [{"id": "p"}, {"id": "q"}]}, {"policies": [{"id": "p"}, {"id": "q"}]}),
        ({"policy": {"id": "p"}, "limits": {}}, {"policies": [{"id": "p"}], "limits": {}}),
        ({"protect": {}, "limits": {}}, {"protect": {}, "limits": {}}),
        ({}, {}),
    ],
)
def test_one_policy_many_and_tables(content: dict[str, t.Any], canonical: dict[str, t.Any]) -> None:
    assert Canonical(content).content == canonical


@pytest.mark.parametrize(
    "content",
    [
        {"policies": {"id": "p"}},
        {"policies": [], "policy": []},
        {"policies": None, "limits": 7},
        {"policy": 7, "policies": 8},
        {"policies": [7, None, ["id"]]},
        {"policies": [{"id": "p", "limits": {}}]},
        {"id": "p", "limits": {}},
        {"polices": []},
        {7: 8},
        *(
            {"policies": [{"action": action, "actions": action, "fallback": [action]}]}
            for action in (
                7,
                None,
                [],
                {},
                {"typ": "pause"},
                {"Pause": True},
                {"Pause": [1]},
                {"Pause": "x"},
                {"Pause": {"type": "stop"}},
                {"Pause": [], "Stop": []},
                {"type": 7},
                {"type": "PAUSED"},
                {"networks": []},
                {7: []},
            )
        ),
        {"policies": [{"severity_threshold": severity} for severity in ("Hihg", "high ", 3, None, ["High"])]},
    ],
)
def test_what_is_not_known_stays_as_it_is(content: dict[t.Any, t.Any]) -> None:
    before = repr(content)
    assert Canonical(content).content == content
    assert repr(content) == before


@pytest.mark.parametrize(
    ("content", "canonical", "origin"),
    [
        ({"id": "p"}, ("policies", 0, "id"), Origin(("id",))),
        ({"id": "p"}, ("policies", 0), Origin(())),
        ({"policy": [{}, {}]}, ("policies", 1, "id"), Origin(("policy", "1", "id"))),
        ({"policy": {"id": "p"}}, ("policies", 0, "id"), Origin(("policy", "id"))),
        ({"id": "p", "action": "Pause"}, ("policies", 0, "action", "type"), Origin(("action",))),
        (
            {"policy": [{"action": {"NetworkDisconnect": {"networks": []}}}]},
            ("policies", 0, "action", "networks", 3),
            Origin(("policy", "0", "action", "NetworkDisconnect", "networks", "3")),
        ),
        (
            {"policies": [{"fallback": ["Stop", {"Pause": []}]}]},
            ("policies", 0, "fallback", 1, "type"),
            Origin(("policies", "0", "fallback", "1", "Pause"), is_key=True),
        ),
        ({"limits": {}}, ("limits", "x"), Origin(("limits", "x"))),
    ],
)
def test_where_it_came_from(content: dict[str, t.Any], canonical: tuple[object, ...], origin: Origin) -> None:
    assert Canonical(content).origin(canonical) == origin
