# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses

from ansible_collections.ironpost.container_guard.plugins.module_utils import _outcomes
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import OUTCOMES, Decision


def test_outcomes_are_those_of_the_one_table_and_one_that_acts() -> None:
    assert set(OUTCOMES) == {"isolate", *_outcomes.OUTCOMES}


def test_reasons_are_worked_out_once_and_when_they_are_read() -> None:
    asked: list[str] = []

    def explain() -> tuple[str, ...]:
        asked.append("why")
        return ("because",)

    decision = Decision("no_policy", "a", "t", explain=explain)
    down = decision.turned_down("expired", "too old")
    assert asked == []
    assert down.reasons == ("because", "too old")
    assert (decision.reasons, down.reasons) == (("because",), ("because", "too old"))
    assert asked == ["why"]


def test_it_is_returned_with_all_its_fields() -> None:
    decision = Decision("isolate", "a", "t", actions=(Action("pause"),), explain=lambda: ("because",))
    fields = {field.name for field in dataclasses.fields(Decision)} - {"explain"}
    assert decision.to_dict().keys() == fields | {"reasons"}
    assert decision.to_dict()["reasons"] == ["because"]
    assert decision.to_dict()["actions"][0]["type"] == "pause"
