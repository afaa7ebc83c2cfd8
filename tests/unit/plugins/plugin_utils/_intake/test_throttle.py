# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import logging

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle


def test_one_line_of_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    throttle = Throttle(logging.getLogger("test"))
    for number in range(3):
        throttle.warning("full", "full %d", number)
        throttle.warning("slow", "slow %d", number)
    assert caplog.messages == ["full 0", "slow 0"]


def test_again_after_the_interval(caplog: pytest.LogCaptureFixture) -> None:
    throttle = Throttle(logging.getLogger("test"), interval=0)
    throttle.warning("full", "full")
    throttle.warning("full", "full")
    assert len(caplog.messages) == 2
