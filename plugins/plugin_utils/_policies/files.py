# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading policy files: YAML, JSON and TOML, within bounds."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import tomllib
import typing as t

import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.findings import Finding

MAX_FILE_SIZE = 10 * 1024 * 1024
"""Largest policy file, in bytes."""
# Files that commonly stand beside policies; any other unknown suffix may be a misspelt one, and is warned of.
_NOT_POLICIES = (".md", ".txt", ".rst", "")


@dataclasses.dataclass(frozen=True)
class PolicyFile:
    """One file, decoded.

    Attributes:
        name: relative to the directory.
        content: what it holds, not validated yet.
    """

    name: str
    content: t.Any


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
        if path.is_dir() and not path.is_symlink():
            continue
        decode = _DECODERS.get(path.suffix.lower())
        if decode is None:
            if path.suffix.lower() not in _NOT_POLICIES:
                hint = "policy files end in {}".format(", ".join(_DECODERS))
                findings.append(Finding(path.name, "the file is not read", hint, level="warning"))
            continue
        try:
            files.append(PolicyFile(path.name, decode(_text(path, root))))
        except _Unreadable as error:
            findings.append(Finding(path.name, str(error), error.hint, line=error.line))
    return files, findings


class _Unreadable(Exception):
    def __init__(self, message: str, hint: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.hint = hint
        self.line = line


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
    if len(data) > MAX_FILE_SIZE:
        raise _Unreadable(f"it is larger than {MAX_FILE_SIZE // 1024 // 1024} MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unreadable(f"it is not UTF-8 (at byte {error.start})") from error


class _Loader(yaml.SafeLoader):
    """YAML without two of its traps: of a key that stands twice the last would win, and aliases can be bombs."""

    def compose_node(self, parent: yaml.Node | None, index: t.Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: t.Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs of PyYAML lack it
            line = event.start_mark.line + 1
            raise _Unreadable("YAML aliases are not read", "write the value out", line)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[t.Hashable, t.Any]:
        seen = set()
        for key, _value in node.value:
            if key.value in seen:
                raise _Unreadable(f"the key {key.value} stands twice in one mapping", line=key.start_mark.line + 1)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> t.Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise _Unreadable(f"it is not YAML: {error.problem}", line=line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _Unreadable(f"it is not YAML: {error}") from error


def _json(text: str) -> t.Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _Unreadable(f"it is not JSON: {error.msg}", line=error.lineno) from error
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"it is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Unreadable(f"the key {key} stands twice in one object")
        found[key] = value
    return found


def _toml(text: str) -> t.Any:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _Unreadable(f"it is not TOML: {error}") from error


_DECODERS: dict[str, t.Callable[[str], t.Any]] = {".yml": _yaml, ".yaml": _yaml, ".json": _json, ".toml": _toml}
