# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the controller knows."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.controller import (
    absent_hosts,
    actor_of,
    concerned,
    hosts_of_nobody,
    run_hosts,
)


@pytest.mark.parametrize(
    ("variables", "environment", "actor"),
    [
        ({"awx_user_name": "ada", "ansible_eda": {}}, {"USER": "root"}, "ada"),
        ({"tower_user_name": "ada"}, {}, "ada"),
        ({"awx_user_name": "", "ansible_eda": {}}, {"USER": "root"}, "rulebook"),
        ({}, {"SUDO_USER": "ada", "USER": "root"}, "ada"),
        ({}, {"USER": "ada"}, "ada"),
        ({}, {}, ""),
        ({"awx_user_name": "{{ x }}\x1b"}, {}, "{ { x }}\\x1b"),
    ],
)
def test_who_asks(variables: dict[str, t.Any], environment: dict[str, str], actor: str) -> None:
    assert actor_of(variables, environment) == actor


def test_hosts_of_alerts_for_which_nobody_answers() -> None:
    variables = {
        "groups": {"all": ["web-1", "web-2", "web-3"]},
        "ansible_play_hosts_all": ["web-1", "web-2"],
        "inventory_hostname": "localhost",
    }
    alerts = [
        {"id": "1", "inventory_host": "web-1"},
        {"id": "2", "inventory_host": "web-9"},
        {"id": "3", "inventory_host": "localhost"},
        {"id": "4", "inventory_host": ""},
        {"id": "5"},
        "no alert",
        {"inventory_host": "web-3"},
        {"inventory_host": ["web-9"]},
        {"id": "9", "inventory_host": "{{ web-9 }}"},
    ]
    assert hosts_of_nobody(alerts, variables) == {
        "web-9": "its host web-9 is not in the inventory",
        "web-3": "its host web-3 takes no part in this run",
    }
    assert hosts_of_nobody(None, {}) == {}


def test_hosts_that_do_not_answer_in_this_run() -> None:
    variables = {"groups": {"all": ["web-1", "web-2"], "web": ["web-1"], "ungrouped": []}}
    assert absent_hosts(["web-1", "web-2", "weeb-1", "web", "all", "web*", "web:!x"], ["web-1"], variables) == [
        ("web-2", "its host web-2 takes no part in this run"),
        ("weeb-1", "its host weeb-1 is not in the inventory"),
    ]


def test_which_alerts_a_host_is_given() -> None:
    named = ["web-1", "web-2", "", None, "web-9", "web-1"]
    alerts = [*({"inventory_host": host} for host in named), {"source": "falco"}, "no alert", {"inventory_host": "a b"}]
    # What names none, and what is none, concerns each of them.
    of_all = [2, 3, 6, 7, 8]
    assert concerned(alerts, "web-1") == sorted([0, 5, *of_all])
    assert concerned(alerts, "web-2", ["web-9"]) == sorted([1, 4, *of_all])
    assert concerned(alerts, "web-3") == of_all
    assert concerned(None, "web-1") == concerned("[]", "web-1") == []


def test_the_hosts_of_a_run() -> None:
    assert run_hosts({"ansible_play_hosts_all": ["b", "a"], "inventory_hostname": "a"}) == ["b", "a"]
    assert run_hosts({"inventory_hostname": "a"}) == ["a"]
