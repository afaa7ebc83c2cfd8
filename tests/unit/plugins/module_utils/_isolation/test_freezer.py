# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a freezer, and of processes of other hosts."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.freezer import (
    Process,
    contradictions,
    is_frozen,
    outside_freezer,
    read_processes,
)

ID = "a1" * 32


@pytest.mark.parametrize("pid", [os.getpid(), 0, 2**30], ids=["ours", "none", "huge"])
def test_a_process_of_another_host_says_nothing(pid: int) -> None:
    assert is_frozen(pid, ID) is None
    assert outside_freezer(pid, ID) is None


def test_our_own_pid_namespace_is_not_listed() -> None:
    processes = read_processes()
    own = os.stat("/proc/self/ns/pid").st_ino
    assert processes is None or own not in {lineage[0] for lineage in processes}
    assert processes is None or all(os.getpid() not in pids for pids in processes.values())


def test_c3_a_process_outside_is_a_contradiction() -> None:
    (found,) = contradictions(True, [Process(7, 7, "miner", "/docker"), Process(7, 9, "miner", "/docker")])
    assert found == "it has processes that no pause freezes: process 7 (miner) in /docker"


def test_c3_a_container_that_is_not_frozen_is_a_contradiction() -> None:
    assert contradictions(False, ()) == ("inspect says it is paused, but the kernel has not frozen it",)


@pytest.mark.parametrize("frozen", [True, None])
@pytest.mark.parametrize("outside", [(), None])
def test_c3_what_is_as_it_should_be_or_is_not_known_is_none(
    frozen: bool | None, outside: tuple[Process, ...] | None
) -> None:
    assert contradictions(frozen, outside) == ()


def test_many_processes_do_not_fill_the_record() -> None:
    (found,) = contradictions(None, [Process(pid, pid, "x", "/") for pid in range(1, 5001)])
    assert found.endswith(" and 4990 more")
    assert len(found) < 400
