# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.filter.seconds import seconds


@pytest.mark.parametrize(("given", "expected"), [(100, 100), ("100", 100), ("2m", 120), ("1h30m", 5400)])
def test_durations(given: object, expected: int) -> None:
    assert seconds(given) == expected


@pytest.mark.parametrize("given", ["soon", "", -1, None])
def test_what_is_none_is_an_error_that_says_what_is(given: object) -> None:
    with pytest.raises(AnsibleFilterError, match="Give seconds, or days"):
        seconds(given)
