# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host may say."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError


def test_the_places_of_what_a_host_refuses_are_those_in_what_it_was_given() -> None:
    found: dict[str, t.Any] = {"rejected": [{"index": 1, "kind": "x"}, {"index": 0}]}
    checks.rejected(found, [3, 7])
    assert found == {"rejected": [{"index": 7, "kind": "x"}, {"index": 3}]}
    checks.rejected({}, [])


@pytest.mark.parametrize("index", [2, -1, "0", None, True, 0.0])
def test_a_place_of_nothing(index: object) -> None:
    with pytest.raises(AnswerError):
        checks.rejected({"rejected": [{"index": index}]}, [3, 7])
