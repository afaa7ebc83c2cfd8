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
import errno
import fcntl
import os
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.text import display
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import cgroup

_NS_GET_PARENT = 0xB702
# Pid namespaces nest so deep at most.
_MOST_LEVELS = 32
_FULL_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


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
    group = _group(pid, container_id, hierarchy)
    if group is None:
        return None
    try:
        if group.hierarchy.version == 1:
            return _read(os.path.join(group.directory, "freezer.state")).strip() == "FROZEN"
        return "frozen 1" in _read(os.path.join(group.directory, "cgroup.events")).splitlines()
    except OSError:
        return None


def outside_freezer(
    pid: int, container_id: str, hierarchy: cgroup.Hierarchy | None = None
) -> tuple[Process, ...] | None:
    """What is in the pid namespace of a container, or in one below, and not in its freezer; None if that is not known.

    It is not known where the process is gone or on another host, or where the namespaces of all processes of the host
    may not be read, which takes CAP_SYS_PTRACE.

    Nothing is said of a container with the pid namespace of the host. Processes that belong to another container, which
    shares the pid namespace, are not meant. A command that the engine is just starting in the container is outside for
    a moment: what was found counts when it is found again.

    Args:
        pid: of its first process, as the engine tells it.
        container_id: in full.
        hierarchy: of control groups, which freezes; that of this host by default.
    """
    group = _group(pid, container_id, hierarchy)
    if group is None:
        return None
    try:
        own, ours = _pid_namespace(pid), _pid_namespace("self")
        if own == ours:
            return ()
        namespaces = {own: True, ours: False}
        found: list[Process] = []
        for other in os.listdir("/proc"):
            if other.isdigit() and _is_within(other, own, namespaces):
                found += _outside(other, group, container_id)
        return tuple(sorted(found))
    except OSError:
        return None


def _group(pid: int, container_id: str, hierarchy: cgroup.Hierarchy | None) -> cgroup.Group | None:
    """The freezer of a container, as its first process shows it."""
    try:
        with _directory(f"/proc/{pid}") as process:
            memberships = cgroup.memberships_of(process)
            if cgroup.names(memberships, container_id) or _is_first(process):
                return cgroup.group_of(memberships, container_id, hierarchy)
    except OSError:
        pass
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


def _is_within(pid: str, own: str, known: dict[str, bool]) -> bool:
    """Whether a process is in a pid namespace or in one below it. Raises OSError where that cannot be known.

    Args:
        pid: of the process.
        own: the pid namespace.
        known: the answers for pid namespaces, which this adds to.
    """
    try:
        try:
            namespace = _pid_namespace(pid)
            if namespace not in known:
                known[namespace] = _is_below(pid, own)
            return known[namespace]
        except PermissionError:
            # Some are closed even to root, by a security module. Anybody may see whether it is in our own namespace.
            with _directory(f"/proc/{pid}") as process:
                if len(_numbers(process)) == 1:
                    return False
            raise
    except (FileNotFoundError, ProcessLookupError):
        return False


def _outside(pid: str, group: cgroup.Group, container_id: str) -> list[Process]:
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
                    found.append(Process(int(pid), int(task), display(name), display(path or "")))
    return found


def _is_of_another(memberships: t.Sequence[cgroup.Membership], group: cgroup.Group, container_id: str) -> bool:
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
        before, _, after = file.read().rpartition(") ")
    return before.partition("(")[2], after[:1]


def _pid_namespace(pid: int | str) -> str:
    """Raises OSError."""
    return os.readlink(f"/proc/{pid}/ns/pid")


def _is_below(pid: str, namespace: str) -> bool:
    """Whether the pid namespace of a process is below another one, which is below ours. Raises OSError."""
    inode = int(namespace[len("pid:[") : -1])
    current = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(_MOST_LEVELS + 1):
            if os.fstat(current).st_ino == inode:
                return True
            try:
                parent = fcntl.ioctl(current, _NS_GET_PARENT)
            except OSError as error:
                # Above this one are those that we are in ourselves.
                if error.errno == errno.EPERM:
                    return False
                raise
            os.close(current)
            current = parent
        return False
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
