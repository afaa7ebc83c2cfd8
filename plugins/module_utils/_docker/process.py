# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container a process of this host is of, as the kernel tells it: /proc/PID/cgroup, of both versions."""

from __future__ import annotations

import datetime
import os
import re
import time
import typing as t

# Docker names a control group after its container: /docker/ID (cgroupfs), /system.slice/docker-ID.scope (systemd). So
# do other engines (libpod-ID.scope, cri-containerd-ID.scope): whose it is, the engine knows.
_NAMED = re.compile(r"/(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?(?=/|\Z)")
_START_TIME = 19
"""Which field of C(/proc/PID/stat) it is, counted from 0 after the command: clock ticks since the machine started."""


class Membership(t.NamedTuple):
    """One line of C(/proc/PID/cgroup).

    Attributes:
        controllers: those of the hierarchy; empty for that of version 2.
        path: in the hierarchy, absolute.
    """

    controllers: tuple[str, ...]
    path: str


class Process(t.NamedTuple):
    """A process.

    Attributes:
        started: when, by the clock of this host.
        groups: for each hierarchy of control groups in which it is in one of a container, the ids of the containers,
            outermost first. What is below the group of a container, that container may have made.
    """

    started: datetime.datetime
    groups: tuple[tuple[str, ...], ...]

    def containers(self, known: t.Container[str]) -> set[str]:
        """The containers that it is of, among those known by their full ids.

        None for a process of the host; several where the hierarchies of version 1 contradict each other.
        """
        found = (next((one for one in group if one in known), "") for group in self.groups)
        return {container_id for container_id in found if container_id}


def process_of(pid: int) -> Process | None:
    """The process with that number on this host, or None where there is none (any more). Raises OSError."""
    try:
        # What is opened stays this process, also when its number is used again meanwhile.
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        stat, memberships = (read_file(name, directory) for name in ("stat", "cgroup"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(directory)
    return Process(_started(stat), groups_of(memberships))


def groups_of(memberships: str) -> tuple[tuple[str, ...], ...]:
    """What lines of C(/proc/PID/cgroup) say, see Process."""
    found = (tuple(_NAMED.findall(membership.path)) for membership in parse_memberships(memberships))
    return tuple(filter(None, found))


def parse_memberships(text: str) -> tuple[Membership, ...]:
    """The lines of C(/proc/PID/cgroup)."""
    found = []
    for line in text.splitlines():
        _number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        found.append(Membership(tuple(controllers.split(",")) if controllers else (), path))
    return tuple(found)


def _started(stat: str) -> datetime.datetime:
    # The command stands in parentheses, and may hold any.
    ticks = int(stat.rpartition(")")[2].split()[_START_TIME])
    since_boot = ticks / os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return datetime.datetime.fromtimestamp(booted + since_boot, datetime.timezone.utc)


def read_file(name: str, directory: int) -> str:
    """The text of a file in the directory of a process in /proc, which is given open. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        return file.read()
