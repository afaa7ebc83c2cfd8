# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every finding about engines that shaped the guard (A1 to A11) is checked by a test on real engines that names it."""

from __future__ import annotations

import pathlib
import re

import pytest

TESTS = pathlib.Path(__file__).absolute().parents[1]
ON_ENGINES = [TESTS / "engine_contract.py", *sorted((TESTS / "integration").glob("test_*.py"))]
# In the marker `fact`, or at the beginning of the docstring.
NAMED = re.compile(r'fact\([^)]*"(A\d+)"|"""(?:C and )?(A\d+):')


def named() -> set[str]:
    return {name for path in ON_ENGINES for match in NAMED.findall(path.read_text()) for name in match if name}


@pytest.mark.parametrize("number", range(1, 12))
def test_a_finding_has_a_test(number: int) -> None:
    assert f"A{number}" in named()
