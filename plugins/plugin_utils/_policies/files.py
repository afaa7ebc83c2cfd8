# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading policy files: YAML, JSON and TOML, within bounds."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import re
import typing as t

import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text as texts
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies import toml
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.findings import Finding
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.positions import (
    Position,
    Positions,
    json_positions,
    toml_positions,
    yaml_positions,
)

MAX_FILE_SIZE = 10 * 1024 * 1024
"""Largest policy file, in bytes."""
MAX_DEPTH = 32
"""Most levels of lists and mappings in each other; a policy has six."""
MAX_NUMBER = 2**53
"""Largest integer: up to here all readers of JSON agree."""
TESTS = "tests"
"""Name of the folder beside policies that holds their tests."""
# Files that commonly stand beside policies; any other unknown suffix may be a misspelt one, and is warned of.
_NOT_POLICIES = (".md", ".txt", ".rst", "")


@dataclasses.dataclass(frozen=True)
class PolicyFile:
    """One file, decoded.

    Attributes:
        name: relative to the directory.
        content: what it holds, not validated yet.
        text: what it was decoded from.
        suffix: says the format.
    """

    name: str
    content: t.Any
    text: str = dataclasses.field(default="", repr=False)
    suffix: str = ".yml"

    @functools.cached_property
    def positions(self) -> Positions:
        """Where things stand in it. Takes as long as decoding it."""
        return _FORMATS[self.suffix].locate(self.text)


def read_policy_files(source: pathlib.Path) -> tuple[list[PolicyFile], list[Finding]]:
    """The policy files of a directory, or a single file; and what is wrong with those that cannot be read.

    Hidden files and subdirectories are not read. Raises OSError where the directory itself cannot be.
    """
    if source.is_file():
        root, paths = source.parent, [source]
    else:
        root, paths = source, sorted(path for path in source.iterdir() if not path.name.startswith("."))
    files, findings = [], []
    for path in paths:
        name = texts.display(path.name)
        suffix = path.suffix.lower()
        if path.is_dir() and suffix not in _FORMATS and name != TESTS:
            hint = f"move its policies up; a folder of policy tests is called {TESTS}"
            findings.append(Finding(name, "the directory is not read", hint, level="warning"))
            continue
        if suffix not in _FORMATS:
            if not path.is_dir() and suffix not in _NOT_POLICIES:
                hint = "policy files end in {}".format(", ".join(_FORMATS))
                findings.append(Finding(name, "the file is not read", hint, level="warning"))
            continue
        try:
            text = _text(path, root)
            content = _FORMATS[suffix].decode(text)
            _check_bounds(content)
            files.append(PolicyFile(name, content, text, suffix))
        except _Unreadable as error:
            line, column = error.position
            findings.append(Finding(name, str(error), error.hint, line=line, column=column))
    return files, findings


class _Unreadable(Exception):
    def __init__(self, message: str, hint: str = "", position: Position = (0, 0)) -> None:
        super().__init__(message)
        self.hint = hint
        self.position = position


def _text(path: pathlib.Path, root: pathlib.Path) -> str:
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise _Unreadable("the link leads out of the policy directory", "copy the file")
        if not real.is_file():
            raise _Unreadable("it is not a regular file")
        with real.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise _Unreadable(f"cannot be read: {error.strerror}") from error
    except RuntimeError as error:  # what resolve() makes of links in a circle before Python 3.13
        raise _Unreadable("cannot be read: the link leads to itself") from error
    if len(data) > MAX_FILE_SIZE:
        raise _Unreadable(f"it is larger than {MAX_FILE_SIZE // 1024 // 1024} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unreadable(f"it is not UTF-8 (at byte {error.start})") from error


def _check_bounds(value: t.Any, depth: int = 0) -> None:
    """Raises _Unreadable for what later steps, which print and compare it, could choke on."""
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise _Unreadable(f"a number is larger than {MAX_NUMBER}")
    items = [*value, *value.values()] if isinstance(value, dict) else value
    if isinstance(items, (list, tuple, set)):
        if depth == MAX_DEPTH:
            raise _Unreadable(f"lists and mappings are nested deeper than {MAX_DEPTH} levels")
        for item in items:
            _check_bounds(item, depth + 1)


class _Loader(yaml.SafeLoader):
    """YAML without two of its traps: of a key that stands twice the last would win, and aliases can be bombs."""

    # A tag such as !vault that others in this process teach the SafeLoader is none of a policy.
    yaml_constructors: t.ClassVar[dict[str | None, t.Any]] = dict(yaml.constructor.SafeConstructor.yaml_constructors)
    yaml_multi_constructors: t.ClassVar[dict[str | None, t.Any]] = {}

    def compose_node(self, parent: yaml.Node | None, index: t.Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: t.Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs of PyYAML lack it
            raise _Unreadable("YAML aliases are not read", "write the value out", _marked(event.start_mark))
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[t.Hashable, t.Any]:
        seen = set()
        for key, _value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused below, like everything that cannot be a key
            if key.value in seen:
                message = f"the key {texts.display(key.value, 64)} stands twice in one mapping"
                raise _Unreadable(message, position=_marked(key.start_mark))
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _marked(mark: t.Any) -> Position:
    return (mark.line + 1, mark.column + 1) if mark else (0, 0)


def _yaml(text: str) -> t.Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise _Unreadable(f"it is not YAML: {problem}", position=_marked(error.problem_mark)) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _Unreadable("it is not YAML: {}".format(" ".join(str(error).split()))) from error
    except (AttributeError, LookupError, TypeError) as error:
        # PyYAML trusts a tag: !!bool on another text is a KeyError, and so on.
        raise _Unreadable("it is not YAML: a value does not fit its tag", "leave tags such as !!int out") from error


def _json(text: str) -> t.Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _Unreadable(f"it is not JSON: {error.msg}", position=(error.lineno, error.colno)) from error
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"it is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Unreadable(f"the key {texts.display(key, 64)} stands twice in one object")
        found[key] = value
    return found


def _toml(text: str) -> t.Any:
    try:
        return toml.loads(text)
    except ImportError as error:
        raise _Unreadable(str(error)) from error
    except (ValueError, RecursionError) as error:
        place = re.search(r" \(at line (\d+), column (\d+)\)\Z", str(error))
        message = str(error)[: place.start()] if place else str(error)
        position = (int(place[1]), int(place[2])) if place else (0, 0)
        raise _Unreadable(f"it is not TOML: {message}", position=position) from error


class _Format(t.NamedTuple):
    decode: t.Callable[[str], t.Any]
    locate: t.Callable[[str], Positions]


_YAML = _Format(_yaml, yaml_positions)
_FORMATS = {
    ".yml": _YAML,
    ".yaml": _YAML,
    ".json": _Format(_json, json_positions),
    ".toml": _Format(_toml, toml_positions),
}
