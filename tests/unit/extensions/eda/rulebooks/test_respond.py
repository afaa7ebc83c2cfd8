# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible_rulebook.util import substitute_variables

import ansible_collections.ironpost.container_guard as collection
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import (
    FLAT,
    Options,
    parse_options,
    unread_variables,
)

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def ruleset() -> t.Any:
    path = pathlib.Path(next(iter(collection.__path__)), "extensions/eda/rulebooks/respond.yml")
    (ruleset,) = yaml.safe_load(path.read_text())
    return ruleset


def args_of(ruleset: t.Any, variables: dict[str, t.Any]) -> dict[str, t.Any]:
    """What the source gets from these rulebook variables."""
    (source,) = ruleset["sources"]
    args = source["ironpost.container_guard.alerts"]
    return {name: substitute_variables(value, variables) for name, value in args.items()}


def options_with(ruleset: t.Any, variables: dict[str, t.Any]) -> Options:
    """The options that the source gets from these rulebook variables."""
    return parse_options(args_of(ruleset, variables))


def test_all_options_are_in_one_variable_and_the_older_ones_in_their_own(ruleset: t.Any) -> None:
    (source,) = ruleset["sources"]
    args = dict(source["ironpost.container_guard.alerts"])
    assert args.pop("guard") == "{{ guard | default(none) }}"
    assert args.pop("variables")
    assert args == {name: f"{{{{ guard_{name} | default(none) }}}}" for name in FLAT}


def test_the_variable_of_all_options_passes_whole(ruleset: t.Any) -> None:
    guard = {"token": TOKEN, "port": 5001, "senders": [{"name": "a", "tokens": ["x" * 20], "hosts": ["web-1"]}]}
    options = options_with(ruleset, {"guard": guard})
    assert (options.port, options.senders[0].hosts) == (5001, ("web-1",))
    with pytest.raises(ValueError, match=r"unknown option of guard 'hots'. Did you mean hosts\?"):
        options_with(ruleset, {"guard": {"token": TOKEN, "hots": ["web-1"]}})
    with pytest.raises(ValueError, match="token is given twice"):
        options_with(ruleset, {"guard": guard, "guard_token": TOKEN})


def test_misspelt_variables_are_told(ruleset: t.Any) -> None:
    variables = {
        "guard_token": TOKEN,
        "guard_hots": ["web-1"],
        "guard_spool": "/x",
        "guard": {},
        "gaurd": 1,
        "other": 2,
    }
    assert unread_variables(args_of(ruleset, variables)) == [
        "The variable guard_hots is not read by the source. Did you mean guard_hosts?",
        "The variable guard_spool is not read. Set spool in guard",
        "The variable gaurd is not read by the source. Did you mean guard?",
    ]
    assert (
        unread_variables(
            args_of(
                ruleset, {"guard_token": TOKEN, "guard_unanswered_playbook": "page.yml", "guard_connect_timeout": 5}
            )
        )
        == []
    )


def test_variables_that_are_not_set_leave_the_defaults(ruleset: t.Any) -> None:
    assert options_with(ruleset, {"guard_token": TOKEN}) == Options(token=TOKEN)


def test_variables_of_a_file_or_of_the_environment(ruleset: t.Any) -> None:
    variables = {
        "guard_path_token": TOKEN,
        "guard_port": "5001",
        "guard_batch_window": 0.5,
        "guard_hosts": ["web-1"],
        "guard_host_map": {"054aab939018": "web-2"},
        "guard_lookup_hosts": [],
    }
    assert options_with(ruleset, variables) == Options(
        path_token=TOKEN,
        port=5001,
        batch_window=0.5,
        hosts=("web-1",),
        host_map={"054aab939018": "web-2"},
        lookup_hosts=(),
    )


def test_a_token_that_templating_takes_for_a_number(ruleset: t.Any) -> None:
    with pytest.raises(ValueError, match="token was read as int"):
        options_with(ruleset, {"guard_token": "1234567890123456"})


def test_one_host_that_hangs_does_not_delay_the_others(ruleset: t.Any) -> None:
    assert ruleset["execution_strategy"] == "parallel"
    assert ruleset["rules"][0]["action"] == {"run_playbook": {"name": "ironpost.container_guard.respond"}}
