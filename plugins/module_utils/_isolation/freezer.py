# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The freezer of a container: whether it is frozen, and which of its processes are not in it.

A pause freezes a control group, and the engine says C(Paused) from then on. Whoever has root on the host, or in a
container that may change control groups, can move a process out of that group beforehand, or thaw it behind the back of
the engine. So the pid namespace is compared with the control group, and the kernel asked whether it is frozen.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.text import display
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.process import Membership
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import cgroup

# The kernel refuses it for what is above our own namespace, and nests 32 of them at most.
_NS_GET_PARENT = 0xB702
_MOST_LISTED = 10
_FULL_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")

Processes = t.Mapping[t.Tuple[int, ...], t.Sequence[int]]
"""Pids of this host, by the inodes of the pid namespace that they are in, and of those above it."""


class Process(t.NamedTuple):
    """A process, or a thread of one, that is in the pid namespace of a container and not in its freezer.

    Attributes:
        pid: its number on this host.
        tid: the number of the thread; C(pid) for the process itself.
        name: as text for display.
        group: the control group that it is in instead, as text for display.
    """

    pid: int
    tid: int
    name: str
    group: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name}) in {self.group}"


def is_frozen(pid: int, container_id: str, hierarchy: cgroup.Hierarchy | None = None) -> bool | None:
    """Whether the kernel has frozen the control group of a container; None where that cannot be known.

    Args:
        pid: of its first process, as the engine tells it.
        container_id: in full.
        hierarchy: of control groups, which freezes; that of this host by default.
    """
    try:
        with _directory(f"/proc/{pid}") as process:
            group = _group(process, container_id, hierarchy)
        if group is None:
            return None
        if group.hierarchy.version == 1:
            return _read(os.path.join(group.directory, "freezer.state")).strip() == "FROZEN"
        return "frozen 1" in _read(os.path.join(group.directory, "cgroup.events")).splitlines()
    except OSError:
        return None


def outside_freezer(
    pid: int, container_id: str, processes: Processes | None = None, hierarchy: cgroup.Hierarchy | None = None
) -> tuple[Process, ...] | None:
    """What is in the pid namespace of a container, or in one below, and not in its freezer; None if that is not known.

    It is not known where the process is gone or on another host, or where read_processes knows nothing.

    Nothing is said of a container with the pid namespace of the host. Processes that belong to another container, which
    shares the pid namespace, are not meant. A command that the engine is just starting in the container is outside for
    a moment: what was found counts when it is found again.

    Args:
        pid: of its first process, as the engine tells it.
        container_id: in full.
        processes: what read_processes said, for one who asks for several containers; it is asked by default.
        hierarchy: of control groups, which freezes; that of this host by default.
    """
    try:
        with _directory(f"/proc/{pid}") as process:
            group = _group(process, container_id, hierarchy)
            if group is None:
                return None
            own = os.stat("ns/pid", dir_fd=process).st_ino
        if own == os.stat("/proc/self/ns/pid").st_ino:
            return ()
        table = read_processes() if processes is None else processes
        if table is None:
            return None
        within = [other for lineage, pids in table.items() if own in lineage for other in pids]
        return tuple(sorted(found for other in within for found in _outside(other, group, container_id)))
    except OSError:
        return None


def read_processes() -> Processes | None:
    """The processes of this host that are not in our own pid namespace; None where that cannot be known.

    It takes CAP_SYS_PTRACE.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    try:
        lineages: dict[str, tuple[int, ...]] = {_pid_namespace("self"): ()}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # of one that has ended meanwhile
                try:
                    namespace = _pid_namespace(name)
                    if namespace not in lineages:
                        lineages[namespace] = _lineage(name)
                    if lineages[namespace]:
                        found.setdefault(lineages[namespace], []).append(int(name))
                except PermissionError:
                    # Some are closed even to root, by a security module. Anybody may see whether one is in ours.
                    with _directory(f"/proc/{name}") as process:
                        if len(_numbers(process)) != 1:
                            return None
    except OSError:
        return None
    return found


def contradictions(frozen: bool | None, outside: t.Sequence[Process] | None) -> tuple[str, ...]:
    """What the kernel says against the word of the engine that a container is paused, as sentences without an end.

    Args:
        frozen: what is_frozen said.
        outside: what outside_freezer said.
    """
    found = []
    if frozen is False:
        found.append("inspect says it is paused, but the kernel has not frozen it")
    if outside:
        words = list(dict.fromkeys(map(str, outside)))
        more = f" and {len(words) - _MOST_LISTED} more" if len(words) > _MOST_LISTED else ""
        found.append(f"it has processes that no pause freezes: {', '.join(words[:_MOST_LISTED])}{more}")
    return tuple(found)


def _group(process: int, container_id: str, hierarchy: cgroup.Hierarchy | None) -> cgroup.Group | None:
    """The freezer of a container, as its first process shows it. Raises OSError."""
    memberships = cgroup.memberships_of(process)
    if cgroup.names(memberships, container_id) or _is_first(process):
        return cgroup.group_of(memberships, container_id, hierarchy)
    return None


def _is_first(process: int) -> bool:
    """Whether it is the first process of a pid namespace below ours, as that of a container is. Raises OSError.

    One that was moved out of all control groups of its container is told from a stranger with its pid by this.
    """
    numbers = _numbers(process)
    return len(numbers) > 1 and numbers[-1] == "1"


def _numbers(process: int) -> list[str]:
    """The numbers of a process: in our pid namespace, and in those below that it is in. Raises OSError."""
    with open(
        os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), encoding="utf-8", errors="replace"
    ) as file:
        return next((line.split()[1:] for line in file if line.startswith("NSpid:")), [])


def _outside(pid: int, group: cgroup.Group, container_id: str) -> list[Process]:
    """Those threads of a process that are not in the freezer; none of one that has ended. Raises OSError."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), _directory(f"/proc/{pid}") as process:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                memberships = cgroup.memberships_of(process, task)
                path = group.hierarchy.path_in(memberships)
                if group.holds(path) or _is_of_another(memberships, group, container_id):
                    continue
                name, state = _stat(process, task)
                # What has ended and was not waited for has left its group.
                if state not in ("Z", "X"):
                    found.append(Process(pid, int(task), display(name), display(path or "")))
    return found


def _is_of_another(memberships: t.Sequence[Membership], group: cgroup.Group, container_id: str) -> bool:
    """Whether its control groups name another container, and none of them this one.

    A host may be a container itself, which its own control groups name.
    """
    if cgroup.names(memberships, container_id):
        return False
    named = {found for membership in memberships for found in _FULL_ID.findall(membership.path)}
    return bool(named - set(_FULL_ID.findall(group.path)))


def _stat(process: int, task: str) -> tuple[str, str]:
    """Name and state of a thread. Raises OSError."""
    path = f"task/{task}/stat"
    with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), encoding="utf-8", errors="replace") as file:
        # The name may hold parentheses, spaces and line ends; what follows it does not.
        before, _end, after = file.read().rpartition(") ")
    return before.partition("(")[2], after[:1]


def _pid_namespace(pid: str) -> str:
    """Raises OSError."""
    return os.readlink(f"/proc/{pid}/ns/pid")


def _lineage(pid: str) -> tuple[int, ...]:
    """The pid namespace of a process and those above it, up to ours, as numbers of inodes. Raises OSError."""
    found: list[int] = []
    current = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while True:
            found.append(os.fstat(current).st_ino)
            try:
                parent = fcntl.ioctl(current, _NS_GET_PARENT)
            except PermissionError:
                return tuple(found)
            os.close(current)
            current = parent
    finally:
        os.close(current)


@contextlib.contextmanager
def _directory(path: str) -> t.Iterator[int]:
    """A descriptor of a directory. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
