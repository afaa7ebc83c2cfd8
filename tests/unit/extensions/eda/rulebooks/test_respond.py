# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest
import yaml
from ansible_rulebook.util import substitute_variables

import ansible_collections.ironpost.container_guard as collection
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options, parse_options

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def ruleset() -> t.Any:
    path = pathlib.Path(next(iter(collection.__path__)), "extensions/eda/rulebooks/respond.yml")
    (ruleset,) = yaml.safe_load(path.read_text())
    return ruleset


def options_with(ruleset: t.Any, variables: dict[str, t.Any]) -> Options:
    """The options that the source gets from these rulebook variables."""
    (source,) = ruleset["sources"]
    args = source["ironpost.container_guard.alerts"]
    return parse_options({name: substitute_variables(value, variables) for name, value in args.items()})


def test_every_option_has_its_variable(ruleset: t.Any) -> None:
    (source,) = ruleset["sources"]
    assert source["ironpost.container_guard.alerts"] == {
        field.name: f"{{{{ guard_{field.name} | default(none) }}}}" for field in dataclasses.fields(Options)
    }


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
    (rule,) = ruleset["rules"]
    assert rule["action"] == {"run_playbook": {"name": "ironpost.container_guard.respond"}}
