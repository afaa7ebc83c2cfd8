# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import inspect
import json
import os
import pathlib
import runpy
import subprocess
import sys
import typing as t

import pytest
import yaml

import ansible_collections.ironpost.container_guard as collection

# By the path that the rulebook engine would use, which is through the symlink to a checkout.
DIRECTORY = pathlib.Path(next(iter(collection.__path__)), "extensions/eda/plugins/event_filter")
NAMES = ("normalize", "decide")
FALCO = {
    "priority": "Critical",
    "rule": "Shell",
    "hostname": "web-1",
    "output_fields": {"container.id": "0123456789ab"},
}


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest) -> str:
    return str(DIRECTORY / f"{request.param}.py")


@pytest.fixture
def plugin(path: str) -> dict[str, t.Any]:
    return runpy.run_path(path)


def test_there_are_no_others() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.py")} == set(NAMES)


def test_the_documentation_states_the_one_argument(plugin: dict[str, t.Any]) -> None:
    documented = yaml.safe_load(plugin["DOCUMENTATION"])["options"]
    parameters = inspect.signature(plugin["main"]).parameters.values()
    named = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
    assert named == ["event", *documented]


def test_the_examples_are_rulebooks(plugin: dict[str, t.Any]) -> None:
    (rulebook,) = yaml.safe_load(plugin["EXAMPLES"])
    filters = [name for source in rulebook["sources"] for each in source["filters"] for name in each]
    assert filters == [f"ironpost.container_guard.{name}" for name in NAMES]


def test_an_event_may_be_normalised_whole_and_dropped(plugin: dict[str, t.Any], tmp_path: pathlib.Path) -> None:
    assert not inspect.iscoroutinefunction(plugin["main"])
    (tmp_path / "filters.yml").write_text("hosts: [web-1]")
    event = plugin["main"]({"payload": FALCO, "meta": {}}, config=str(tmp_path / "filters.yml"))
    assert json.loads(json.dumps(event))["meta"] == {"hosts": ["web-1"]}
    assert plugin["main"]({"payload": "nothing", "meta": {}}) == []


def test_sources_do_not_know_of_each_other(path: str) -> None:
    first, second = runpy.run_path(path), runpy.run_path(path)
    assert first["main"]({"payload": FALCO})
    assert second["main"]({"payload": FALCO}), "to this source it is no repeat"


def test_it_loads_on_its_own_and_without_ansible(path: str) -> None:
    script = (
        f"import runpy, sys; print(bool(runpy.run_path({path!r})['main']({{'payload': {FALCO!r}}})))\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('ansible', 'aiohttp', 'docker')))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd="/", env=environment, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.split() == ["True"]
