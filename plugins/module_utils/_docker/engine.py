# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guard asks of a Docker Engine: the contract that the SDK client and the fake of the unit tests fulfil.

These calls are all that a socket proxy has to let through.
"""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class EngineVersion:
    """Version of the engine (such as C(20.10.24)) and of the API in use (such as C(1.41))."""

    engine: str
    api: str

    def api_at_least(self, major: int, minor: int) -> bool:
        """Whether the API in use is of that version or newer."""
        parts = self.api.split(".")
        return (int(parts[0]), int(parts[1])) >= (major, minor)


@dataclasses.dataclass(frozen=True)
class EndpointSettings:
    """What a container asked of a network, and asks again when it is connected anew.

    Attributes:
        ipv4_address: the static IPv4 address, or empty for a dynamic one. Likewise ipv6_address.
        link_local_ips: static link-local addresses.
        aliases: DNS names in that network.
        links: legacy links, as C(container:alias).
        driver_opts: options of the network driver.
        mac_address: MAC address, or empty; honoured from API 1.44 (read).
    """

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_opts: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    mac_address: str = ""


class Engine(t.Protocol):
    """A Docker Engine. Containers and networks are named by their full ids.

    Every method raises EngineError or a subclass of it, and nothing else.
    """

    def version(self) -> EngineVersion:
        """Versions of the engine and of the API in use."""

    def list_containers(self) -> list[dict[str, t.Any]]:
        """All containers, running or not, as C(GET /containers/json) gives them."""

    def inspect_container(self, container_id: str) -> dict[str, t.Any]:
        """As C(GET /containers/{id}/json). Raises NotFound."""

    def inspect_network(self, network_id: str) -> dict[str, t.Any]:
        """As C(GET /networks/{id}): Containers lists those with a running endpoint. Raises NotFound."""

    def pause(self, container_id: str) -> None:
        """Freeze every process. 409 when it is paused, stopped or restarting."""

    def unpause(self, container_id: str) -> None:
        """Thaw. 500 when it is not paused."""

    def stop(self, container_id: str, grace: int) -> None:
        """Signal, wait up to grace seconds, kill. No error when it is stopped."""

    def start(self, container_id: str) -> None:
        """Start. No error when it runs; 409 when it is paused."""

    def set_restart_policy(self, container_id: str, name: str, maximum_retry_count: int) -> None:
        """Set the restart policy. The name must not be empty: the engine ignores that (measured)."""

    def disconnect(self, network_id: str, container_id: str) -> None:
        """Take a container off a network. 500 when it is not connected, 400 in host mode while it runs."""

    def connect(self, network_id: str, container_id: str, settings: EndpointSettings) -> None:
        """Put a container on a network. 403 when it is connected, or when a static address is taken."""
