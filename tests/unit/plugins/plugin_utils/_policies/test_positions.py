# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import tomllib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.positions import (
    Positions,
    json_positions,
    toml_positions,
    yaml_positions,
)

TOML = '''\
# [not] = "a table"
id = "p" # ]
"quoted.key" = 1
'literal' = 2
dotted . "k\\u0065y" . c = 1979-05-27 07:32:00
list = [ # "
  "a]", 'b"',   [1, 2],
  """c
d""",
]
inline = { x = 1, y = { "z" = [true] } }
long = """
[[table]]
id = "\\"""" # the string ends in a quote
raw = \'\'\'
a = \'\'\'
empty = ""

[table.below]
n = 1
[[tables]]
n = 2
[[ tables ]]
  n = 3
[tables.sub]
n = 4
[[tables.many]]
[[tables.many]]
n = 5
'''


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("", (2, 1), (2, 1)),
        ("id", (2, 1), (2, 6)),
        ("quoted.key", (3, 1), (3, 16)),
        ("literal", (4, 1), (4, 13)),
        ("dotted/key/c", (5, 1), (5, 27)),
        ("dotted/key", (5, 1), (5, 1)),
        ("list", (6, 1), (6, 8)),
        ("list/0", (7, 3), (7, 3)),
        ("list/1", (7, 9), (7, 9)),
        ("list/2/1", (7, 21), (7, 21)),
        ("list/3", (8, 3), (8, 3)),
        ("inline/x", (11, 12), (11, 16)),
        ("inline/y/z/0", (11, 32), (11, 32)),
        ("long", (12, 1), (12, 8)),
        ("raw", (15, 1), (15, 7)),
        ("empty", (17, 1), (17, 9)),
        ("table", (19, 1), (19, 1)),
        ("table/below", (19, 1), (19, 1)),
        ("table/below/n", (20, 1), (20, 5)),
        ("tables", (21, 1), (21, 1)),
        ("tables/0/n", (22, 1), (22, 5)),
        ("tables/1", (23, 1), (23, 1)),
        ("tables/1/n", (24, 3), (24, 7)),
        ("tables/1/sub/n", (26, 1), (26, 5)),
        ("tables/1/many/0", (27, 1), (27, 1)),
        ("tables/1/many/1/n", (29, 1), (29, 5)),
        ("tables/1/missing/2", (23, 1), (23, 1)),
    ],
)
def test_toml(path: str, key: tuple[int, int], value: tuple[int, int]) -> None:
    assert tomllib.loads(TOML)
    positions, keys = toml_positions(TOML), tuple(path.split("/")) if path else ()
    assert (positions.of(keys, key=True), positions.of(keys)) == (key, value)


YAML = """\
# policies
policies:
  - id: p
    rules: [a, "b",
      c]
    target_filter:
      labels:
        - x
  - {id: q, 7: x}
protect:
"""


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("", (2, 1), (2, 1)),
        ("policies", (2, 1), (3, 3)),
        ("policies/0", (3, 5), (3, 5)),
        ("policies/0/id", (3, 5), (3, 9)),
        ("policies/0/rules/1", (4, 16), (4, 16)),
        ("policies/0/rules/2", (5, 7), (5, 7)),
        ("policies/0/target_filter/labels/0", (8, 11), (8, 11)),
        ("policies/1", (9, 5), (9, 5)),
        ("policies/1/7", (9, 13), (9, 16)),
        ("protect", (10, 1), (10, 9)),
        ("policies/1/missing", (9, 5), (9, 5)),
        ("missing", (2, 1), (2, 1)),
    ],
)
def test_yaml(path: str, key: tuple[int, int], value: tuple[int, int]) -> None:
    positions, keys = yaml_positions(YAML), tuple(path.split("/")) if path else ()
    assert (positions.of(keys, key=True), positions.of(keys)) == (key, value)


def test_json_with_tabs_and_escapes() -> None:
    text = '{\n\t"a\\/b": [1,\t"\\ud83d\\ude00\\t"],\n\t"c":{"d":null}\n}'
    positions = json_positions(text)
    assert positions.of(("a/b",), key=True) == (2, 2)
    assert positions.of(("a/b", "1")) == (2, 14)
    assert positions.of(("c", "d")) == (3, 11)


@pytest.mark.parametrize("text", ["", "# nothing", "a: [", "\0", "a: *b", '"\\Uffffffff"', "[" * 10_000])
def test_what_cannot_be_read_has_no_positions(text: str) -> None:
    assert yaml_positions(text).of(("a", "0")) == (0, 0)
    assert json_positions(text).of(("a", "0")) == (0, 0)


def test_the_first_place_counts() -> None:
    positions = Positions()
    positions.add(("a",), (1, 2), (1, 3))
    positions.add(("a",), (5, 6), (5, 7))
    assert positions.of(("a",)) == (1, 3)
    assert positions.of(("b",)) == (0, 0)


def written(value: object) -> str:
    """The value in TOML that stands in a line."""
    if isinstance(value, dict):
        return "{{{}}}".format(", ".join(f"{json.dumps(key)} = {written(item)}" for key, item in value.items()))
    if isinstance(value, list):
        return "[{}]".format(", ".join(map(written, value)))
    return json.dumps(value)


def leaves(value: object, path: tuple[str, ...] = ()) -> t.Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*path, str(key)))
    else:
        yield path, value


texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=6)
values = st.recursive(
    st.integers(0, 999) | texts | st.booleans(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_at_each_position_stands_the_value(content: dict[str, t.Any]) -> None:
    documents = (
        (json.dumps(content, indent=1), json_positions, json.dumps),
        (json.dumps(content, indent="\t"), json_positions, json.dumps),
        ("".join(f"{json.dumps(key)} = {written(item)}\n" for key, item in content.items()), toml_positions, written),
    )
    for text, locate, write in documents:
        positions, lines = locate(text), text.split("\n")
        for path, value in leaves(content):
            line, column = positions.of(path)
            assert lines[line - 1][column - 1 :].startswith(write(value))


@given(st.text(st.sampled_from("ab=.[]{}\"'\\#,1 \n"), max_size=20))
def test_any_text_has_positions_or_none(text: str) -> None:
    for locate in (yaml_positions, json_positions, toml_positions):
        line, column = locate(text).of(("a", "b"))
        assert 0 <= line <= text.count("\n") + 1
        assert column >= 0
