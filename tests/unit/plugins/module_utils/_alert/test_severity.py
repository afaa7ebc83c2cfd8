# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES, Severity


def test_order_and_names() -> None:
    assert SEVERITIES == ("info", "low", "medium", "high", "critical")
    assert max(Severity) is Severity.CRITICAL


@pytest.mark.parametrize("severity", Severity)
def test_parse_any_case(severity: Severity) -> None:
    name = str(severity)
    assert {Severity.parse(text) for text in (name, name.upper(), f" {name.title()} ")} == {severity}


@pytest.mark.parametrize("value", ["", "urgent", "4", 4, None, True, ["high"]])
def test_parse_nothing_else(value: object) -> None:
    with pytest.raises(AlertError, match="severity is not one of info, low, medium, high, critical"):
        Severity.parse(value)
