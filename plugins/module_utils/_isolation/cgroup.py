# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Control groups of a container, as the kernel of this host tells of them.

The engine may run on another host, where a pid means another process: nothing is said of a process unless a control
group names the container. A process that was moved in one hierarchy is still named by the others.
"""

from __future__ import annotations

import collections
import os
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.process import (
    Membership,
    parse_memberships,
    read_file,
)

_ESCAPE = re.compile(r"\\([0-7]{3})")
# A host with thousands of containers has some ten thousand control groups.
_MOST_DIRECTORIES = 50_000


class Hierarchy(t.NamedTuple):
    """The hierarchy of control groups that freezes.

    Attributes:
        version: 1 or 2.
        directory: where it is mounted.
        root: which of its groups is mounted there.
    """

    version: int
    directory: str
    root: str

    def path_in(self, memberships: t.Sequence[Membership]) -> str | None:
        """The group of a process in this hierarchy."""
        for membership in memberships:
            if "freezer" in membership.controllers if self.version == 1 else not membership.controllers:
                return membership.path
        return None

    def directory_of(self, path: str) -> str | None:
        """Where a group of this hierarchy is found; None for one outside of what is mounted."""
        root = self.root.rstrip("/")
        if not f"{path}/".startswith(f"{root}/") or ".." in path.split("/"):
            return None
        return self.directory + path[len(root) :].rstrip("/")


class Group(t.NamedTuple):
    """The control group of a container in the hierarchy that freezes.

    Attributes:
        hierarchy: that one.
        path: of the group in it.
        directory: where it is found.
    """

    hierarchy: Hierarchy
    path: str
    directory: str

    def holds(self, path: str | None) -> bool:
        """Whether a group is this one, or one below it."""
        return path is not None and (path == self.path or path.startswith(f"{self.path}/"))

    def pids(self) -> t.Iterator[int]:
        """The processes in it and below it, in the numbers of this host; none of a group that is gone."""
        for directory, _directories, _files in os.walk(self.directory):
            try:
                with open(os.path.join(directory, "cgroup.procs"), encoding="utf-8") as file:
                    # A threaded group of version 2 refuses to be read; its processes are listed by the one above.
                    yield from (int(line) for line in file if line.strip() != "0")
            except OSError:
                continue


def freezing_hierarchy() -> Hierarchy | None:
    """The hierarchy that engines freeze containers in: version 1 where it has a freezer, else version 2."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return find_hierarchy(file)
    except OSError:
        return None


def find_hierarchy(mountinfo: t.Iterable[str]) -> Hierarchy | None:
    """See freezing_hierarchy. For the lines of C(/proc/self/mountinfo)."""
    second = None
    for line in mountinfo:
        fields = line.split()
        if "-" not in fields[6:]:
            continue
        kind, _source, options = [*fields[fields.index("-", 6) + 1 :], "", "", ""][:3]
        if kind == "cgroup" and "freezer" in options.split(","):
            return Hierarchy(1, _unescaped(fields[4]), _unescaped(fields[3]))
        if kind == "cgroup2" and second is None:
            second = Hierarchy(2, _unescaped(fields[4]), _unescaped(fields[3]))
    return second


def memberships_of(process: int, task: str = "") -> tuple[Membership, ...]:
    """The control groups of a process, given as a descriptor of its directory in /proc. Raises OSError.

    Args:
        process: the descriptor.
        task: the number of one of its threads, for the groups of that one.
    """
    path = f"task/{task}/cgroup" if task else "cgroup"
    return parse_memberships(read_file(path, process))


def names(memberships: t.Iterable[Membership], container_id: str) -> bool:
    """Whether any control group names the container."""
    return any(container_id in membership.path for membership in memberships)


def group_of(
    memberships: t.Sequence[Membership], container_id: str, hierarchy: Hierarchy | None = None
) -> Group | None:
    """The control group of a container, one of whose processes has these; None where it is not found on this host.

    Where none of them names the container, as all were changed, the group is looked for by name.

    Args:
        memberships: those of the process.
        container_id: in full.
        hierarchy: the one that freezes; that of this host by default.
    """
    hierarchy = hierarchy or freezing_hierarchy()
    if hierarchy is None:
        return None
    for path in _paths_of(memberships, container_id):
        directory = hierarchy.directory_of(path)
        if directory is not None and os.path.isdir(directory):
            return Group(hierarchy, path, directory)
    for number, (directory, directories, _files) in enumerate(os.walk(hierarchy.directory)):
        for name in directories:
            if container_id in name:
                found = os.path.join(directory, name)
                root = hierarchy.root.rstrip("/")
                return Group(hierarchy, root + found[len(hierarchy.directory) :], found)
        if number > _MOST_DIRECTORIES:
            return None
    return None


def _paths_of(memberships: t.Iterable[Membership], container_id: str) -> t.Iterator[str]:
    """The groups that name the container, and are above those of a process, as inner engines make more below.

    An engine gives a container the same path in every hierarchy: what most of them say comes first.
    """
    found: collections.Counter[str] = collections.Counter()
    for membership in memberships:
        parts = membership.path.split("/")
        for number, part in enumerate(parts):
            if container_id in part:
                found["/".join(parts[: number + 1])] += 1
                break
    return (path for path, _count in found.most_common())


def _unescaped(field: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 8)), field)
