# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may import whom. The rules are those of CONTRIBUTING.md; here they are read off the imports themselves."""

from __future__ import annotations

import ast
import collections
import pathlib
import re
import sys
import typing as t

import pytest

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
COLLECTION = "ansible_collections.ironpost.container_guard."
MODULE_UTILS = "plugins.module_utils."

# Below all packages of module_utils.
BASE = {"_archive", "_errors", "_files", "_outcomes", "_state_dir"}
# What each part of module_utils may import of the others.
LAYERS = {
    "_archive": set[str](),
    "_errors": set[str](),
    "_files": set[str](),
    "_outcomes": set[str](),
    "_state_dir": {"_errors", "_files"},
    "_alert": {"_errors"},
    "_policy": {"_errors", "_outcomes", "_alert"},
    "_docker": {"_errors", "_alert"},
    "_isolation": {*BASE, "_alert", "_policy", "_docker"},
    "_evidence": {*BASE, "_alert", "_docker"},
    "_response": {*BASE, "_alert", "_policy", "_docker", "_isolation", "_evidence"},
    "_module": {*BASE, "_alert", "_policy", "_docker", "_isolation", "_evidence", "_response"},
}
DYNAMIC = {"__import__", "import_module", "import_plugin", "run_path", "run_module", "exec", "eval"}
SOURCES = sorted(path for top in ("plugins", "extensions") for path in (REPOSITORY / top).rglob("*.py"))


class Import(t.NamedTuple):
    """One import: the line, and the module, within the collection without the name of the collection."""

    line: int
    module: str
    ours: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def imports(tree: ast.AST) -> t.Iterator[Import]:
    """All imports, wherever they stand. C(from a import b) counts as C(a.b), since b may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["{}{}.{}".format("." * node.level, node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for name in names:
            ours = name.startswith(COLLECTION)
            yield Import(node.lineno, name.removeprefix(COLLECTION), ours)


def layer(module: str) -> str:
    """The part of module_utils that a module of the collection belongs to, or empty."""
    return module.removeprefix(MODULE_UTILS).partition(".")[0] if module.startswith(MODULE_UTILS) else ""


def violations(path: str, source: str) -> list[str]:
    """What a file, whose path is relative to the repository, must not do and does."""
    tree = ast.parse(source)
    found = [f"{path}:{line}: {what}" for line, what in (*_imports_badly(path, tree), *_acts_badly(path, tree))]
    if path.startswith("plugins/modules/"):
        found += [f"{path}:{line}: {what}" for line, what in _more_than_a_module(path, tree)]
    return found


def _imports_badly(path: str, tree: ast.AST) -> t.Iterator[tuple[int, str]]:
    here = layer(path.removesuffix(".py").replace("/", "."))
    allowed = _allowed_packages(path)
    for item in imports(tree):
        there = layer(item.module) if item.ours else ""
        if item.module.startswith("."):
            yield item.line, "imports relatively"
        elif not item.ours:
            if item.package not in sys.stdlib_module_names and not any(
                item.module == package or item.module.startswith(f"{package}.") for package in allowed
            ):
                yield item.line, f"imports {item.module}"
        elif item.module.startswith("extensions.") and path.startswith("plugins/"):
            yield item.line, "imports extensions"
        elif here and not there:
            yield item.line, f"imports {item.module}, which is not sent to hosts"
        elif here and there != here and there not in LAYERS[here]:
            yield item.line, f"imports {there} from {here}"
        elif path.startswith("plugins/modules/") and there != "_module":
            yield item.line, f"imports {item.module} past _module"
        elif path.startswith("plugins/plugin_utils/") and there == "_module":
            yield item.line, "imports a module"


def _allowed_packages(path: str) -> tuple[str, ...]:
    """Packages beside the standard library."""
    if path == "plugins/module_utils/_docker/sdk.py":
        return ("docker", "requests")
    if path.startswith("plugins/module_utils/_module/"):
        return ("ansible.module_utils",)
    # Of what plugins have in common, only the base of action plugins knows ansible-core.
    if path.startswith(("plugins/action/", "plugins/filter/", "plugins/lookup/")) or path == (
        "plugins/plugin_utils/_results/action.py"
    ):
        return ("ansible",)
    if path == "plugins/plugin_utils/_warm/server.py":
        return ("ansible",)
    if path == "plugins/plugin_utils/_policies/toml.py":
        return ("tomli",)
    if path.startswith("plugins/plugin_utils/_policies/"):
        return ("jsonschema", "yaml")
    if path == "plugins/plugin_utils/_intake/filter_options.py":
        return ("yaml",)
    # Optional, and imported by whoever wants topics.
    if path == "plugins/plugin_utils/_intake/kafka_client.py":
        return ("aiokafka", "cramjam")
    if path.startswith("plugins/plugin_utils/_intake/") or path == "plugins/plugin_utils/_service/link.py":
        return ("aiohttp",)
    if path == "plugins/plugin_utils/_records/compression.py":
        return ("backports.zstd", "compression.zstd")  # the second is of the standard library from 3.14 on
    return ()


def _acts_badly(path: str, tree: ast.AST) -> t.Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in DYNAMIC:
            yield node.lineno, f"uses {name}, which hides imports"
        if name == "init_plugin_loader":
            yield node.lineno, "uses init_plugin_loader, which breaks the rulebook engine"


def _more_than_a_module(path: str, tree: ast.Module) -> t.Iterator[tuple[int, str]]:
    """A module is a docstring, its documentation, one import and the call."""
    name = pathlib.PurePath(path).stem
    expected = [
        "from __future__ import annotations",
        "DOCUMENTATION",
        "EXAMPLES",
        "RETURN",
        f"from {COLLECTION}{MODULE_UTILS}_module.{name} import main",
        "if __name__ == '__main__':\n    main()",
    ]
    body = tree.body[1:] if ast.get_docstring(tree) else tree.body
    for node in body:
        text = ast.unparse(node)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            text = ast.unparse(node.targets[0])
        if not expected or text != expected.pop(0):
            yield node.lineno, "is more than documentation, one import and the call"
            return
    if expected:
        yield 0, f"lacks {expected[0]}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_keeps_the_rules(path: pathlib.Path) -> None:
    assert violations(path.relative_to(REPOSITORY).as_posix(), path.read_text(encoding="utf-8")) == []


def test_every_part_of_module_utils_has_its_place_in_the_order() -> None:
    parts = {path.stem for path in (REPOSITORY / "plugins/module_utils").iterdir() if path.stem.strip("_") != "pycache"}
    assert parts - {"__init__"} == set(LAYERS)


def test_the_order_has_no_way_back() -> None:
    for part, below in LAYERS.items():
        assert part not in below
        assert below == below.union(*(LAYERS[other] for other in below))


def test_event_driven_plugins_reach_no_ansible_and_no_docker() -> None:
    modules = {
        path.relative_to(REPOSITORY).as_posix().removesuffix(".py").replace("/", "."): path
        for path in SOURCES
        if path.name != "__init__.py"
    }
    queue = collections.deque(name for name in modules if name.startswith("extensions.eda.plugins."))
    assert queue
    reached = set(queue)
    while queue:
        name = queue.popleft()
        for item in imports(ast.parse(modules[name].read_text(encoding="utf-8"))):
            assert item.ours or item.package not in ("ansible", "docker"), f"{name}:{item.line} imports {item.module}"
            # The last part may be a name in the module.
            target = item.module if item.module in modules else item.module.rpartition(".")[0]
            if item.ours and target in modules and target not in reached:
                reached.add(target)
                queue.append(target)
    assert "plugins.module_utils._alert.alert" in reached, "the walk follows imports"


MODULE = f'''"""Made up."""
from __future__ import annotations
DOCUMENTATION = r"""{{}}"""
EXAMPLES = r"""[]"""
RETURN = r"""{{}}"""
from {COLLECTION}plugins.module_utils._module.made_up import main
if __name__ == "__main__":
    main()
'''
UTILS = f"from {COLLECTION}plugins.module_utils."


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("plugins/modules/made_up.py", MODULE),
        ("plugins/module_utils/_policy/made_up.py", f"import json\n{UTILS}_alert.alert import Alert\n"),
        ("plugins/module_utils/_policy/made_up.py", f"{UTILS}_policy import glob\n"),
        ("plugins/module_utils/_module/made_up.py", "from ansible.module_utils.basic import AnsibleModule\n"),
        ("plugins/module_utils/_docker/sdk.py", "def f():\n    import docker.errors\n    import requests\n"),
        ("plugins/plugin_utils/_intake/made_up.py", f"from aiohttp import web\n{UTILS}_alert import text\n"),
        ("plugins/action/made_up.py", "from ansible.plugins.action import ActionBase\n"),
        ("plugins/filter/made_up.py", "from ansible.errors import AnsibleFilterError\n"),
        ("plugins/lookup/made_up.py", "from ansible.plugins.lookup import LookupBase\n"),
        ("plugins/plugin_utils/_results/action.py", f"import ansible.errors\n{UTILS}_outcomes import is_green\n"),
    ],
)
def test_what_keeps_the_rules_is_left_alone(path: str, source: str) -> None:
    assert violations(path, source) == []


@pytest.mark.parametrize(
    ("path", "source", "what"),
    [
        ("plugins/module_utils/_errors.py", f"{UTILS}_files import write_atomically", "imports _files from _errors"),
        ("plugins/module_utils/_alert/x.py", f"{UTILS}_policy.glob import Glob", "imports _policy from _alert"),
        ("plugins/module_utils/_alert/x.py", f"{UTILS}_files import write_atomically", "imports _files from _alert"),
        ("plugins/module_utils/_policy/x.py", f"{UTILS}_docker import container", "imports _docker from _policy"),
        ("plugins/module_utils/_policy/x.py", f"{UTILS}_isolation.plan import Plan", "imports _isolation from _policy"),
        ("plugins/module_utils/_docker/x.py", f"{UTILS}_policy.policy import Target", "imports _policy from _docker"),
        ("plugins/module_utils/_docker/x.py", f"import {COLLECTION}{MODULE_UTILS}_policy.glob", "imports _policy from"),
        (
            "plugins/module_utils/_isolation/x.py",
            f"{UTILS}_response import errors",
            "imports _response from _isolation",
        ),
        ("plugins/module_utils/_response/x.py", f"{UTILS}_module import common", "imports _module from _response"),
        (
            "plugins/module_utils/_module/x.py",
            f"from {COLLECTION}plugins.plugin_utils._policies.load import f",
            "not sent",
        ),
        ("plugins/module_utils/_policy/x.py", "import yaml", "imports yaml"),
        ("plugins/module_utils/_policy/x.py", "from jsonschema import validators", "imports jsonschema.validators"),
        ("plugins/module_utils/_alert/x.py", "def f():\n    import aiohttp.web", "imports aiohttp.web"),
        ("plugins/module_utils/_docker/engine.py", "import docker", "imports docker"),
        (
            "plugins/module_utils/_isolation/x.py",
            "try:\n    import requests\nexcept ImportError: pass",
            "imports requests",
        ),
        (
            "plugins/module_utils/_policy/x.py",
            "from ansible.module_utils.basic import env_fallback",
            "imports ansible.",
        ),
        ("plugins/module_utils/_module/x.py", "from ansible.errors import AnsibleError", "imports ansible.errors"),
        ("plugins/module_utils/_module/x.py", "import ansible", "imports ansible"),
        ("plugins/module_utils/_policy/x.py", "from . import glob", "imports relatively"),
        (
            "plugins/module_utils/_policy/x.py",
            "import importlib\nimportlib.import_module('yaml')",
            "uses import_module",
        ),
        ("plugins/module_utils/_policy/x.py", "yaml = __import__('yaml')", "uses __import__"),
        (
            "plugins/action/x.py",
            f"from {COLLECTION}extensions.eda.plugins.event_source.alerts import main",
            "extensions",
        ),
        ("plugins/plugin_utils/_intake/x.py", "from ansible.errors import AnsibleError", "imports ansible.errors"),
        ("plugins/plugin_utils/_results/x.py", "from ansible.errors import AnsibleError", "imports ansible.errors"),
        ("plugins/plugin_utils/_intake/x.py", f"{UTILS}_module import common", "imports a module"),
        ("extensions/eda/plugins/event_source/x.py", "import ansible.constants", "imports ansible.constants"),
        (
            "extensions/eda/plugins/event_filter/x.py",
            "from ansible_rulebook import util",
            "imports ansible_rulebook.util",
        ),
        ("extensions/eda/plugins/event_source/x.py", "loader.init_plugin_loader()", "breaks the rulebook engine"),
        ("plugins/modules/made_up.py", MODULE.replace("_module.made_up", "_policy.glob"), "past _module"),
        ("plugins/modules/made_up.py", MODULE.replace("made_up import", "other import"), "more than documentation"),
        ("plugins/modules/made_up.py", MODULE + "main()\n", "more than documentation"),
        ("plugins/modules/made_up.py", "import os\n" + MODULE, "more than documentation"),
        ("plugins/modules/made_up.py", MODULE.replace('r"""[]"""', "f()"), "more than documentation"),
        ("plugins/modules/made_up.py", MODULE.partition("if ")[0], "lacks if __name__"),
    ],
)
def test_what_breaks_a_rule_is_found(path: str, source: str, what: str) -> None:
    found = violations(path, source)
    assert any(what in violation for violation in found), found
    assert all(violation.startswith(f"{path}:") for violation in found)


def test_every_module_that_runs_on_hosts_has_an_action_plugin_that_checks_its_answer() -> None:
    modules = {path.stem for path in (REPOSITORY / "plugins/modules").glob("*.py")}
    actions = {path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / "plugins/action").glob("*.py")}
    assert modules == set(actions)
    for name in modules - {"replay", "alert_info"}:  # which run nothing on a host
        assert "class ActionModule(HostAction)" in actions[name]
        assert f'module = "{name}"' in actions[name]


def test_every_module_takes_its_options_as_people_give_them() -> None:
    for path in (REPOSITORY / "plugins/module_utils/_module").glob("*.py"):
        made = re.findall(r"\b(?:common\.)?(\w+Module)\(", path.read_text(encoding="utf-8"))
        assert set(made) <= {"GuardModule"} or path.stem == "common", f"{path.name}: use common.GuardModule"
