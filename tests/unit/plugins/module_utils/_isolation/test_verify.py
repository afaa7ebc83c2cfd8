# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading network namespaces on this machine, and what counts as an interface."""

from __future__ import annotations

import os

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import interfaces_of


def test_a_process_that_is_not_of_the_container_says_nothing() -> None:
    assert interfaces_of(os.getpid(), "f" * 64) is None


def test_a_process_that_does_not_exist_says_nothing() -> None:
    assert interfaces_of(2**30, "f" * 64) is None


def test_a_process_of_the_control_group_lists_its_interfaces() -> None:
    with open(f"/proc/{os.getpid()}/cgroup", encoding="ascii") as file:
        part_of_the_path = file.read().strip()[-1]
    found = interfaces_of(os.getpid(), part_of_the_path)
    assert found is not None
    assert "lo" in found
