# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Protection: the containers that must not be isolated, whoever asks."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine

PART_LABEL = "container-guard.part"
"""The label that marks containers of the guard itself, whatever its value: a controller, a socket proxy."""

_TCP_PORT = re.compile(r"tcp://.*:(\d{1,5})/?")
_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


class Protection:
    """Says of containers why they must not be isolated.

    Args:
        resolver: knows the containers of the host.
        policies: of the host; None where it has no policy set.
        docker_host: where the engine is reached. Where that is a port that a container publishes, that one is the
            proxy through which the guard reaches the engine, and would be cut off only once.
        running_in: ids of the containers that this process may run in.
    """

    def __init__(
        self,
        resolver: Resolver,
        policies: PolicyEngine | None = None,
        docker_host: str = "",
        running_in: t.Callable[[], set[str]] | None = None,
    ) -> None:
        self._resolver = resolver
        self._policies = policies
        port = _TCP_PORT.fullmatch(docker_host)
        self._engine_port = int(port.group(1)) if port else None
        self._running_in = (running_in or containers_of_this_process)()

    def reason(self, container: Container, actions: t.Iterable[Action]) -> str:
        """Why it must not be isolated by these actions, or empty. Raises EngineError.

        To cut off a network is to cut off all that use it, and to end its owner leaves them without one (measured), so
        that these count, too.
        """
        own = self._of(container)
        if own:
            return f"protected: {own}"
        if any(action.type in ("network_disconnect", "stop", "kill") for action in actions):
            for peer in self._resolver.network_peers(container.id):
                why = self._of(peer)
                if why:
                    return f"container {peer.name} shares its network and is protected: {why}"
        return ""

    def _of(self, container: Container) -> str:
        if PART_LABEL in container.labels:
            return f"it is a part of the guard (label {PART_LABEL})"
        if container.id in self._running_in:
            return "this process runs in it"
        if self._engine_port is not None and self._engine_port in self._resolver.published_ports(container.id):
            return f"it publishes port {self._engine_port}, by which the guard reaches the engine"
        condition = self._policies.protection(container) if self._policies else None
        return str(condition) if condition else ""


def containers_of_this_process() -> set[str]:
    """Full ids in the paths of this process's control groups and mounts; empty outside of containers."""
    found: set[str] = set()
    for path in ("/proc/self/cgroup", "/proc/self/mountinfo"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                # Of the mounts only those of the container's own files tell: others may show any container.
                lines = [line for line in file if path.endswith("cgroup") or "/etc/hostname" in line]
        except OSError:
            continue
        found.update(*(_CONTAINER_ID.findall(line) for line in lines))
    return found
