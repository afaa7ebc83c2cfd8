# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel says about the containers of a fake engine."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.freezer import Process
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.host_ports import Listener
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import (
    HERE,
    OUTSIDE,
    Link,
    Links,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import Details
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import Endpoint
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine


class FakeTruth:
    """A GroundTruth that is at one with the engine, until told otherwise.

    Attributes:
        more: interfaces that the engine does not know of.
        escaped: processes that are not in the freezer.
        thawed: the kernel froze nothing, whatever the engine says.
        listening: sockets of the host.
        set_on_interfaces: what is set on the interfaces of all containers; None where that cannot be known.
    """

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.more: list[Link] = []
        self.escaped: list[Process] = []
        self.thawed = False
        self.listening: list[Listener] = []
        self.set_on_interfaces: Details | None = None

    def links(self, pid: int, container_id: str) -> Links | None:
        names = self._engine.interfaces_of(pid, container_id)
        if names is None:
            return None
        found = [link(name) if name != "lo" else link("lo", "loopback", HERE) for name in sorted(names)]
        return Links((*found, *self.more), complete=True)

    def details(self, pid: int, container_id: str, endpoints: t.Sequence[Endpoint]) -> Details | None:
        return self.set_on_interfaces

    def frozen(self, pid: int, container_id: str) -> bool | None:
        return self._engine.state_of(container_id) == "paused" and not self.thawed

    def unfrozen(self, pid: int, container_id: str, since: float) -> tuple[Process, ...] | None:
        return tuple(self.escaped)

    def listeners(self) -> list[Listener]:
        return self.listening


class Unreadable:
    """A GroundTruth of another host: nothing is known."""

    def links(self, *_arguments: t.Any) -> None:
        return None

    def details(self, *_arguments: t.Any) -> None:
        return None

    def frozen(self, *_arguments: t.Any) -> None:
        return None

    def unfrozen(self, *_arguments: t.Any) -> None:
        return None

    def listeners(self) -> None:
        return None


def link(name: str, kind: str = "veth", place: str = OUTSIDE) -> Link:
    """An interface that is up; by default one that leads out."""
    return Link(name, 2, kind, True, 0 if place == HERE else 7, place)
