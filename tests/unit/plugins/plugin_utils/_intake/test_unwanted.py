# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Facets
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import unwanted as module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.unwanted import MOMENT, Unwanted


def facets(rule: str = "noise") -> Facets:
    return Facets.of(Alert.from_dict({"source": "s", "rule": rule, "severity": "low"}))


def test_for_a_moment_by_sender_and_policy_set() -> None:
    now = 100.0
    unwanted = Unwanted(lambda: now)
    assert facets() not in unwanted.by("a", "set-1")
    unwanted.add("a", facets())
    assert facets() in unwanted.by("a", "set-1")
    assert facets("other") not in unwanted.by("a", "set-1")
    assert facets() not in unwanted.by("b", "set-1")
    assert facets() not in unwanted.by("a", "set-2")
    unwanted.add("a", facets())
    now += MOMENT
    assert facets() not in unwanted.by("a", "set-2")
    unwanted.add("a", facets())
    unwanted.forget()
    assert facets() not in unwanted.by("a", "set-2")


def test_only_so_many_are_kept() -> None:
    unwanted = Unwanted(lambda: -1.0)
    unwanted.by("a", "")
    for number in range(module._MOST + 10):
        unwanted.add("a", facets(str(number)))
    assert facets("0") in unwanted.by("a", "")
    assert sum(map(len, unwanted._by_sender.values())) <= module._MOST
