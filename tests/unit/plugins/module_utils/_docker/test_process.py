# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container a process is of, by its control groups."""

from __future__ import annotations

import datetime
import subprocess

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.process import (
    Process,
    groups_of,
    process_of,
)

A, B = "a" * 64, "b" * 64
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("memberships", "groups"),
    [
        (f"12:pids:/docker/{A}\n11:memory:/docker/{A}\n", ((A,), (A,))),
        (f"0::/system.slice/docker-{A}.scope\n", ((A,),)),
        (f"0::/docker/{A}/docker/{B}", ((A, B),)),
        (f"0::/system.slice/docker-{A}.scope/init.scope", ((A,),)),
        (f"0::/machine.slice/libpod-{A}.scope", ((A,),)),
        (f"0::/kubepods.slice/cri-containerd-{A}.scope", ((A,),)),
        ("0::/user.slice/user-0.slice/session-1.scope", ()),
        (f"0::/docker/{A}0", ()),
        (f"0::/docker/{A[1:]}", ()),
        ("", ()),
    ],
    ids=["v1", "v2", "nested", "systemd inside", "podman", "cri", "host", "longer", "shorter", "nothing"],
)
def test_groups(memberships: str, groups: tuple[tuple[str, ...], ...]) -> None:
    assert groups_of(memberships) == groups


def test_the_outermost_that_is_known_counts() -> None:
    process = Process(NOW, ((A, B), (A,)))
    assert process.containers({A, B}) == {A}
    assert process.containers({B}) == {B}, "the engine itself runs in a container"
    assert process.containers(()) == set()


def test_hierarchies_that_contradict_each_other_name_several() -> None:
    assert Process(NOW, ((A,), (B,))).containers({A, B}) == {A, B}


def test_a_process_of_this_host() -> None:
    before = datetime.datetime.now(datetime.UTC)
    with subprocess.Popen(["sleep", "60"]) as child:
        found = process_of(child.pid)
        child.kill()
    assert found is not None
    # The kernel counts in hundredths of a second.
    tick = datetime.timedelta(seconds=0.05)
    assert before - tick <= found.started <= datetime.datetime.now(datetime.UTC) + tick
    assert process_of(child.pid) is None
