# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ground truth: what the kernel of the host says about a container, beside what the engine says."""

from __future__ import annotations

import threading
import time
import typing as t

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import (
        freezer,
        host_ports,
        namespace,
    )
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import Details
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import Endpoint

# What reads the kernel is imported where it is asked: the first pause does not wait for it.


class GroundTruth(t.Protocol):
    """What is asked of the kernel. Where it cannot be known, as the engine is on another host, the answer is None."""

    def links(self, pid: int, container_id: str) -> namespace.Links | None:
        """The interfaces in the network namespace of a process of the container."""

    def details(self, pid: int, container_id: str, endpoints: t.Sequence[Endpoint]) -> Details | None:
        """What is set on its interfaces, and inspect does not show.

        Args:
            pid: of its first process.
            container_id: in full.
            endpoints: those that it is on.
        """

    def frozen(self, pid: int, container_id: str) -> bool | None:
        """Whether its control group is frozen."""

    def unfrozen(self, pid: int, container_id: str, since: float) -> tuple[freezer.Process, ...] | None:
        """What is in its pid namespace and not in its freezer.

        Args:
            pid: of its first process.
            container_id: in full.
            since: when it was paused, by time.monotonic().
        """

    def listeners(self) -> list[host_ports.Listener] | None:
        """The sockets that listen where the engine publishes ports."""


class HostTruth:
    """The kernel of this host. Safe to share between threads.

    Args:
        docker_host: where the engine is reached.
    """

    def __init__(self, docker_host: str = "") -> None:
        self._docker_host = docker_host
        self._lock = threading.Lock()
        self._processes: freezer.Processes | None = None
        self._read_at = float("-inf")

    def links(self, pid: int, container_id: str) -> namespace.Links | None:
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import namespace

        return namespace.links_of(pid, container_id)

    def details(self, pid: int, container_id: str, endpoints: t.Sequence[Endpoint]) -> Details | None:
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import network_details

        return network_details.read_details(pid, container_id, endpoints)

    def frozen(self, pid: int, container_id: str) -> bool | None:
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import freezer

        return freezer.is_frozen(pid, container_id)

    def unfrozen(self, pid: int, container_id: str, since: float) -> tuple[freezer.Process, ...] | None:
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import freezer

        found = freezer.outside_freezer(pid, container_id, self._table(since))
        # A command that the engine is just starting is outside for a moment: what was found counts when it is again.
        return freezer.outside_freezer(pid, container_id) if found else found

    def listeners(self) -> list[host_ports.Listener] | None:
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import host_ports

        return host_ports.listeners(self._docker_host)

    def _table(self, since: float) -> freezer.Processes | None:
        """The processes of the host, read once for all containers that were paused before."""
        with self._lock:
            from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import freezer

            if self._read_at <= since:
                self._read_at = time.monotonic()
                self._processes = freezer.read_processes()
            return self._processes
