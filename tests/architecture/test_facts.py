# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every fact about engines that is documented has a test that names it, and every test names facts that there are."""

from __future__ import annotations

import ast
import collections
import pathlib
import re

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
ROW = re.compile(r"^\| (A\d+|C\.[a-z-]+\.\d+) \|", re.MULTILINE)


def documented() -> list[str]:
    """The ids of the rows, in their order."""
    return ROW.findall((REPOSITORY / "docs/engine-behaviour.md").read_text(encoding="utf-8"))


def named() -> dict[str, list[str]]:
    """The tests that name each row."""
    tests = collections.defaultdict(list)
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        for test in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_"):
                continue
            for mark in test.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fact":
                    for row in mark.args:
                        tests[ast.literal_eval(row)].append(f"{path.name}::{test.name}")
    return tests


def test_every_row_has_a_test() -> None:
    assert sorted(set(documented()) - named().keys()) == []


def test_every_mark_names_a_row() -> None:
    rows = set(documented())
    assert {row: tests for row, tests in named().items() if row not in rows} == {}


def test_every_row_has_an_id_of_its_own() -> None:
    lines = (REPOSITORY / "docs/engine-behaviour.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| id |")]
    assert len(rows) == len(set(documented())) == len(documented())
