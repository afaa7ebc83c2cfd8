# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import (
    ACTION_TYPES,
    ENDING,
    Action,
    check_actions,
    preceded,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ({"type": "pause"}, {"type": "pause"}),
        ({"type": "pause", "networks": None, "grace": None}, {"type": "pause"}),
        ({"type": "stop"}, {"type": "stop", "grace": 10}),
        ({"type": "stop", "grace": 0}, {"type": "stop", "grace": 0}),
        ({"type": "kill", "approval": False}, {"type": "kill"}),
        ({"type": "kill", "approval": True}, {"type": "kill", "approval": True, "approval_timeout": 86_400}),
        (
            {"type": "stop", "approval": True, "approval_timeout": 60},
            {"type": "stop", "grace": 10, "approval": True, "approval_timeout": 60},
        ),
        ({"type": "network_disconnect"}, {"type": "network_disconnect", "networks": ["*"]}),
        ({"type": "network_disconnect", "networks": []}, {"type": "network_disconnect", "networks": ["*"]}),
        (
            {"type": "network_disconnect", "networks": ["b", "a"]},
            {"type": "network_disconnect", "networks": ["b", "a"]},
        ),
    ],
)
def test_an_action_has_the_options_of_its_type(given: dict[str, object], canonical: dict[str, object]) -> None:
    action = Action.from_dict(given)
    assert action.to_dict() == canonical
    assert Action.from_dict(canonical) == action


@pytest.mark.parametrize(
    ("types", "done"),
    [
        (["kill"], ["pause", "network_disconnect", "kill"]),
        (["stop"], ["network_disconnect", "stop"]),
        (["pause", "kill"], ["network_disconnect", "pause", "kill"]),
        (["network_disconnect", "stop"], ["network_disconnect", "stop"]),
    ],
)
def test_what_waits_for_approval_is_preceded_by_what_can_be_undone(types: list[str], done: list[str]) -> None:
    asking = tuple(Action(name, approval=name in ENDING) for name in types)
    assert [action.type for action in preceded(asking)] == done
    assert preceded(tuple(map(Action, types))) == tuple(map(Action, types))
    assert [action.ends for action in preceded(asking)] == [False] * len(done)


@pytest.mark.parametrize(
    "types",
    [["pause"], ["stop"], ["network_disconnect"], ["network_disconnect", "pause"], ["stop", "network_disconnect"]],
)
def test_actions_that_work_together(types: list[str]) -> None:
    check_actions([Action(name) for name in types])


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([], "there is no action"),
        (["pause", "stop"], "pause and stop exclude each other"),
        (["stop", "network_disconnect", "pause"], "pause and stop exclude each other"),
        (["pause", "pause"], "action pause is given twice"),
        (["stop", "pause", "stop", "pause"], "action pause, stop is given twice"),
        (["network_disconnect", "network_disconnect"], "action network_disconnect is given twice"),
    ],
)
def test_actions_that_do_not(types: list[str], message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        check_actions([Action(name) for name in types])
    assert caught.value.kind == "invalid_action"
    assert caught.value.remedy


def test_every_type_makes_an_action() -> None:
    assert [Action.from_dict({"type": name}).to_dict()["type"] for name in ACTION_TYPES] == list(ACTION_TYPES)
