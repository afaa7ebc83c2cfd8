# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where in a file a key or a value stands.

Decoders tell content without positions. They are found by reading the text a second time, which is done only when
there is something to report: a good file costs nothing.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import typing as t

import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies import toml

Path = tuple[str, ...]
"""The keys, and places in lists from C("0"), that lead from the whole file to a value."""
Position = tuple[int, int]
"""Line and column from 1, or 0 where they are not known."""
UNKNOWN: Position = (0, 0)


class Positions:
    """The positions in one file."""

    def __init__(self) -> None:
        self._found: dict[Path, tuple[Position, Position]] = {}

    def add(self, path: Path, key: Position, value: Position) -> None:
        """A value stands somewhere, and its key, too. The first place that is told of counts."""
        self._found.setdefault(path, (key, value))

    def of(self, path: Path, key: bool = False) -> Position:
        """Where the value of the path stands, or its key; or the innermost thing around it that is known."""
        if path in self._found:
            return self._found[path][0 if key else 1]
        return self.of(path[:-1]) if path else UNKNOWN


def yaml_positions(text: str) -> Positions:
    """The positions in a YAML text without aliases."""
    found = Positions()
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        # JSON that is no YAML. The decoders have told of all else.
        root = None
    if root is not None:
        _add_node(found, (), root, root)
    return found


def json_positions(text: str) -> Positions:
    """The positions in a JSON text: nearly all of JSON is YAML."""
    # What is not is a tab between tokens. In strings JSON has none.
    return yaml_positions(text.replace("\t", " "))


def _add_node(found: Positions, path: Path, key: yaml.Node, value: yaml.Node) -> None:
    found.add(path, _start(key), _start(value))
    if isinstance(value, yaml.MappingNode):
        for below_key, below in value.value:
            if isinstance(below_key, yaml.ScalarNode):
                _add_node(found, (*path, below_key.value), below_key, below)
    elif isinstance(value, yaml.SequenceNode):
        for index, below in enumerate(value.value):
            _add_node(found, (*path, str(index)), below, below)


def _start(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def toml_positions(text: str) -> Positions:
    """The positions in a text that is valid TOML."""
    scanner = _TomlScanner(text)
    with contextlib.suppress(_LostError, ValueError, RecursionError):  # what was found up to there is right
        scanner.scan()
    return scanner.positions


class _LostError(Exception):
    """The scanner came upon something that it does not know."""


class _TomlScanner:
    """Reads just enough of TOML to know where things stand, because no library tells."""

    _IGNORED = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
    _STRING = re.compile(
        r'"""(?:\\.|[^\\])*?"""(?:"{0,2})|' + r"'''.*?'''(?:'{0,2})|" + r'"(?:\\.|[^"\\])*"|' + r"'[^']*'",
        re.DOTALL,
    )
    _BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
    _BARE_VALUE = re.compile(r"[^,\]}#\n]+")

    def __init__(self, text: str) -> None:
        self.positions = Positions()
        self._text = text
        self._at = 0
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._tables: dict[Path, int] = {}
        """For each [[array of tables]], how many tables it has up to here."""

    def scan(self) -> None:
        """Read the whole text."""
        self._skip()
        self.positions.add((), self._here(), self._here())
        table: Path = ()
        while self._at < len(self._text):
            table = self._header() if self._next("[") else table
            self._skip()
            if self._at < len(self._text) and not self._next("["):
                self._pair(table)
                self._skip()

    def _header(self) -> Path:
        start = self._here()
        array = self._text.startswith("[[", self._at)
        self._take("[[" if array else "[")
        keys = self._keys()
        self._take("]]" if array else "]")
        path = self._inside((), keys[:-1])
        for depth in range(1, len(path) + 1):
            self.positions.add(path[:depth], start, start)
        path = (*path, keys[-1])
        if array:
            self._tables[path] = self._tables.get(path, 0) + 1
            self.positions.add(path, start, start)
        if path in self._tables:
            path = (*path, str(self._tables[path] - 1))
        self.positions.add(path, start, start)
        return path

    def _inside(self, path: Path, keys: t.Iterable[str]) -> Path:
        """The path of keys below another, by way of the last table of an array."""
        for key in keys:
            path = (*path, key)
            if path in self._tables:
                path = (*path, str(self._tables[path] - 1))
        return path

    def _pair(self, table: Path) -> None:
        start = self._here()
        keys = self._keys()
        self._take("=")
        self._skip()
        for depth in range(1, len(keys)):
            self.positions.add((*table, *keys[:depth]), start, start)
        self._value((*table, *keys), start)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip()
            string = self._STRING.match(self._text, self._at)
            match = string or self._BARE_KEY.match(self._text, self._at)
            if not match:
                raise _LostError
            self._at = match.end()
            keys.append(str(toml.loads(f"key = {match[0]}")["key"]) if string else match[0])
            self._skip()
            if not self._next("."):
                return keys
            self._at += 1

    def _value(self, path: Path, key: Position | None = None) -> None:
        here = self._here()
        self.positions.add(path, key or here, here)
        if self._next("["):
            self._list(lambda index: self._value((*path, str(index))), "]")
        elif self._next("{"):
            self._list(lambda _index: self._pair(path), "}")
        else:
            match = self._STRING.match(self._text, self._at) or self._BARE_VALUE.match(self._text, self._at)
            if not match:
                raise _LostError
            self._at = match.end()

    def _list(self, read_item: t.Callable[[int], None], end: str) -> None:
        self._at += 1
        index = 0
        self._skip()
        while not self._next(end):
            read_item(index)
            index += 1
            self._skip()
            if self._next(","):
                self._at += 1
                self._skip()
            elif not self._next(end):
                raise _LostError
        self._at += 1

    def _next(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _take(self, text: str) -> None:
        self._skip()
        if not self._next(text):
            raise _LostError
        self._at += len(text)

    def _skip(self) -> None:
        match = self._IGNORED.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _here(self) -> Position:
        line = bisect.bisect_right(self._lines, self._at)
        return line, self._at - self._lines[line - 1] + 1
