# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import runpy
import subprocess
import sys
import typing as t

import pytest
import yaml

import ansible_collections.ironpost.container_guard as collection
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options

# By the path that the rulebook engine would use, which is through the symlink to a checkout.
PATH = f"{next(iter(collection.__path__))}/extensions/eda/plugins/event_source/alerts.py"


@pytest.fixture(scope="module")
def plugin() -> dict[str, t.Any]:
    return runpy.run_path(PATH)


def test_the_documentation_states_the_options_and_their_defaults(plugin: dict[str, t.Any]) -> None:
    documented = yaml.safe_load(plugin["DOCUMENTATION"])["options"]
    options = dataclasses.asdict(Options())
    assert sorted(documented) == sorted(options)
    for name, default in options.items():
        expected = list(default) if isinstance(default, tuple) else default
        assert documented[name].get("default") == expected, name


def test_the_examples_are_usable(plugin: dict[str, t.Any]) -> None:
    known = {field.name for field in dataclasses.fields(Options)} | {"guard"}
    for source in yaml.safe_load(plugin["EXAMPLES"]):
        ((name, args),) = source.items()
        assert name == "ironpost.container_guard.alerts"
        assert set(args) <= known


async def test_bad_options_end_the_source(plugin: dict[str, t.Any]) -> None:
    assert inspect.iscoroutinefunction(plugin["main"])
    with pytest.raises(ValueError, match="Set token"):
        await plugin["main"](asyncio.Queue(), {})


def test_it_loads_on_its_own_and_without_ansible() -> None:
    script = (
        f"import runpy, sys; runpy.run_path({PATH!r})\n"
        "print(*(name for name in sys.modules if name == 'ansible' or name.startswith('ansible.')))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd="/", env=environment, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == ""
