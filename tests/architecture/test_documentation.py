# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is documented is what is there."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pathlib
import re
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome, StepResult
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Response

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
PLUGINS = "ansible_collections.ironpost.container_guard.plugins"
MODULES = sorted(path.stem for path in (REPOSITORY / "plugins/modules").glob("*.py") if path.stem != "__init__")
ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir())
# What Ansible itself adds to or takes out of results, and documents.
COMMON_RETURN_VALUES = {"changed", "diff", "failed", "msg", "warnings"}


def read_yaml(path: str) -> t.Any:
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


def documentation(module: str, part: str) -> dict[str, t.Any]:
    found = yaml.safe_load(getattr(importlib.import_module(f"{PLUGINS}.modules.{module}"), part))
    assert isinstance(found, dict)
    return found


def documented_options(module: str) -> dict[str, t.Any]:
    """The options of a module, those of its fragments included."""
    found = documentation(module, "DOCUMENTATION")
    options = dict(found.get("options", {}))
    for fragment in found.get("extends_documentation_fragment", []):
        file, _dot, part = fragment.removeprefix("ironpost.container_guard.").partition(".")
        source = importlib.import_module(f"{PLUGINS}.doc_fragments.{file}").ModuleDocFragment
        shared = yaml.safe_load(getattr(source, part.upper() or "DOCUMENTATION"))["options"]
        assert not options.keys() & shared.keys()
        options.update(shared)
    return options


def facts(options: dict[str, t.Any], suboptions: str) -> dict[str, t.Any]:
    """What an argument spec and its documentation must agree on."""
    return {
        name: {
            "type": option.get("type", "str"),
            "elements": option.get("elements"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": option.get("choices"),
            "aliases": option.get("aliases", []),
            "suboptions": facts(option.get(suboptions) or {}, suboptions),
        }
        for name, option in options.items()
    }


def undescribed(values: dict[str, t.Any], *nested: str) -> list[str]:
    found = []
    for name, value in values.items():
        description = value.get("description")
        lines = [description] if isinstance(description, str) else description
        if not lines or not all(isinstance(line, str) and line.endswith(".") for line in lines) or "type" not in value:
            found.append(name)
        for key in nested:
            found += [f"{name}.{below}" for below in undescribed(value.get(key, {}), *nested)]
    return found


def version(text: str) -> tuple[int, ...]:
    assert re.fullmatch(r"\d+\.\d+\.\d+", text), text
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("module", MODULES)
def test_the_argument_spec_is_documented(module: str) -> None:
    spec = importlib.import_module(f"{PLUGINS}.module_utils._module.{module}").argument_spec()
    assert facts(documented_options(module), "suboptions") == facts(spec, "options")


@pytest.mark.parametrize("module", MODULES)
def test_options_with_a_fallback_name_its_environment_variable(module: str) -> None:
    spec = importlib.import_module(f"{PLUGINS}.module_utils._module.{module}").argument_spec()
    options = documented_options(module)
    for name, option in spec.items():
        for variable in option.get("fallback", (None, []))[1]:
            assert f"E({variable})" in str(options[name]["description"])


@pytest.mark.parametrize("module", MODULES)
def test_every_option_and_return_value_is_described(module: str) -> None:
    assert undescribed(documented_options(module), "suboptions") == []
    returned = documentation(module, "RETURN")
    assert undescribed(returned, "contains") == []
    assert [name for name, value in returned.items() if not value.get("returned")] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_named_after_its_file_and_explains_itself(module: str) -> None:
    found = documentation(module, "DOCUMENTATION")
    assert found["module"] == module
    assert not found["short_description"].endswith(".")
    assert f"ironpost.container_guard.{module}" in importlib.import_module(f"{PLUGINS}.modules.{module}").EXAMPLES


@pytest.mark.parametrize("module", MODULES)
def test_what_is_seen_also_exists(module: str) -> None:
    others = [entry["module"] for entry in documentation(module, "DOCUMENTATION").get("seealso", ())]
    assert {other.removeprefix("ironpost.container_guard.") for other in others} <= set(MODULES) - {module}


def test_the_result_of_isolation_is_documented() -> None:
    outcome = Outcome("isolated", True, "id", "name", {}, {}, steps=(StepResult("pause", "", "done"),)).to_dict()
    returned = documentation("isolation", "RETURN")
    assert outcome.keys() - COMMON_RETURN_VALUES <= returned.keys()
    assert returned["container"]["contains"].keys() == outcome["container"].keys()
    assert returned["steps"]["contains"].keys() == outcome["steps"][0].keys()


def test_the_result_of_alert_response_is_documented() -> None:
    response = Response(Decision("isolate", "a", "t"), ActionEvent("isolated")).to_dict()
    contains = documentation("alert_response", "RETURN")["responses"]["contains"]
    assert contains.keys() == response.keys()
    for name in ("decision", "event"):
        assert contains[name]["contains"].keys() == response[name].keys()


@pytest.mark.parametrize("record", [Outcome, StepResult, Decision, ActionEvent])
def test_every_attribute_of_a_record_is_described(record: type) -> None:
    described = re.findall(r"^    ([a-z_]+(?:, [a-z_]+)*): ", inspect.getdoc(record) or "", re.MULTILINE)
    names = [name for names in described for name in names.split(", ")]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(record))


@pytest.mark.parametrize("role", ROLES)
def test_the_defaults_of_a_role_are_documented(role: str) -> None:
    options = read_yaml(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read_yaml(f"roles/{role}/defaults/main.yml") or {}
    assert {name: option["default"] for name, option in options.items() if "default" in option} == defaults
    assert all(name.startswith(f"{role}_") for name in options)
    assert undescribed(options, "options") == []
    assert not [name for name, option in options.items() if option.get("required") and "default" in option]


def test_the_version_is_not_behind_the_changelog() -> None:
    changelog = REPOSITORY / "changelogs" / "changelog.yaml"
    released = (read_yaml("changelogs/changelog.yaml") or {}).get("releases", {}) if changelog.is_file() else {}
    now = version(read_yaml("galaxy.yml")["version"])
    assert max(map(version, released), default=now) <= now
    # A released version has its notes; one that is not yet has fragments that will become them.
    assert now in map(version, released) or list((REPOSITORY / "changelogs" / "fragments").glob("*.yml"))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_was_added_in_a_version_that_exists(module: str) -> None:
    now = version(read_yaml("galaxy.yml")["version"])
    assert version(documentation(module, "DOCUMENTATION")["version_added"]) <= now


def test_the_action_group_lists_exactly_the_modules() -> None:
    groups = read_yaml("meta/runtime.yml")["action_groups"]
    assert groups.keys() == {"container_guard"}
    assert sorted(groups["container_guard"]) == MODULES


def test_an_action_plugin_belongs_to_a_module() -> None:
    assert {path.stem for path in (REPOSITORY / "plugins/action").glob("*.py")} <= set(MODULES)
