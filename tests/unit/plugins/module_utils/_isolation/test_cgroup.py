# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which control group freezes a container, and where it is found."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.process import (
    Membership,
    parse_memberships,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.cgroup import (
    Group,
    Hierarchy,
    find_hierarchy,
    group_of,
    names,
)

ID, OTHER = "a1" * 32, "b2" * 32
V1 = "37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer"
V1_OTHER = "38 31 0:35 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V2_HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
ROOT = "23 1 254:0 / / rw,relatime - ext4 /dev/root rw"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([ROOT, V2], Hierarchy(2, "/sys/fs/cgroup", "/")),
        ([ROOT, V2_HYBRID, V1_OTHER, V1], Hierarchy(1, "/sys/fs/cgroup/freezer", "/")),
        ([ROOT, V1_OTHER, V2_HYBRID], Hierarchy(2, "/sys/fs/cgroup/unified", "/")),
        ([ROOT, V1_OTHER], None),
        (["5 4 0:1 /docker/x /mnt/a\\040b rw - cgroup none rw,cpu,freezer"], Hierarchy(1, "/mnt/a b", "/docker/x")),
        (["", "nonsense", "1 2 3 4 5 6 -"], None),
    ],
)
def test_the_hierarchy_that_freezes(lines: list[str], expected: Hierarchy | None) -> None:
    assert find_hierarchy(lines) == expected


def test_the_lines_of_a_process() -> None:
    text = "6:freezer:/docker/x\n2:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/system.slice/docker-x.scope\n"
    found = parse_memberships(text)
    assert found == (
        Membership(("freezer",), "/docker/x"),
        Membership(("cpu", "cpuacct"), "/a:b"),
        Membership(("name=systemd",), "/"),
        Membership((), "/system.slice/docker-x.scope"),
    )
    assert Hierarchy(1, "/f", "/").path_in(found) == "/docker/x"
    assert Hierarchy(2, "/f", "/").path_in(found) == "/system.slice/docker-x.scope"
    assert Hierarchy(1, "/f", "/").path_in(found[1:]) is None


@pytest.mark.parametrize(
    ("root", "path", "directory"),
    [
        ("/", "/docker/x", "/f/docker/x"),
        ("/", "/", "/f"),
        ("/docker/x", "/docker/x/y", "/f/y"),
        ("/docker/x", "/docker/xy", None),
        ("/", "/../../other", None),
    ],
)
def test_where_a_group_is_found(root: str, path: str, directory: str | None) -> None:
    assert Hierarchy(1, "/f", root).directory_of(path) == directory


def test_a_group_holds_those_below_it_alone() -> None:
    group = Group(Hierarchy(2, "/f", "/"), f"/docker/{ID}", f"/f/docker/{ID}")
    assert group.holds(f"/docker/{ID}")
    assert group.holds(f"/docker/{ID}/docker/{OTHER}")
    assert not group.holds(f"/docker/{ID}x")
    assert not group.holds("/docker")
    assert not group.holds(None)


@pytest.mark.parametrize("name", [f"docker/{ID}", f"system.slice/docker-{ID}.scope", f"kubepods/pod1/{ID}"])
def test_the_group_of_a_container_is_the_topmost_that_names_it(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / name / "init.scope" / OTHER).mkdir(parents=True)
    hierarchy = Hierarchy(2, str(tmp_path), "/")
    expected = Group(hierarchy, f"/{name}", str(tmp_path / name))
    for path in (f"/{name}", f"/{name}/init.scope", f"/{name}/init.scope/{OTHER}"):
        assert group_of([Membership((), path)], ID, hierarchy) == expected
    # Moved in the hierarchy that freezes, it is still named by another one.
    assert group_of([Membership((), "/"), Membership(("pids",), f"/{name}")], ID, hierarchy) == expected
    # Moved in all of them.
    assert group_of([Membership((), "/")], ID, hierarchy) == expected
    assert group_of([Membership((), "/")], "c3" * 32, hierarchy) is None


def test_a_process_of_another_host_is_named_by_no_group() -> None:
    assert not names([Membership((), f"/docker/{OTHER}"), Membership(("pids",), "/")], ID)
