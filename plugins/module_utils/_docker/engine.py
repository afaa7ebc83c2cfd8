# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guard asks of a Docker Engine: the contract that the SDK client and the fake of the unit tests fulfil.

These calls are all that a socket proxy has to let through.
"""

from __future__ import annotations

import dataclasses
import typing as t

Pieces = t.Generator[bytes, None, None]
"""An answer that is read in pieces."""


@dataclasses.dataclass(frozen=True)
class EngineVersion:
    """Version of the engine (such as C(20.10.24)) and of the API in use (such as C(1.41))."""

    engine: str
    api: str


@dataclasses.dataclass(frozen=True)
class EndpointSettings:
    """What a container asked of a network, and asks again when it is connected anew.

    Attributes:
        ipv4_address: the static IPv4 address, or empty for a dynamic one. Likewise ipv6_address.
        link_local_ips: static link-local addresses.
        aliases: DNS names in that network.
        links: legacy links, as C(container:alias).
        driver_opts: options of the network driver.
        mac_address: MAC address, or empty. Engines 20.10 to 28.5 ignore it when they connect a container that exists
            (measured), which the API says they should not; 20.10 gives back the one of creation by itself.
        gw_priority: which network gives the default route, highest first; from API 1.48.
    """

    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_opts: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    mac_address: str = ""
    gw_priority: int = 0


EVENTS: t.Mapping[str, t.Sequence[str]] = {
    "container": (
        *("create", "destroy", "die", "kill", "pause", "rename"),
        *("restart", "start", "stop", "unpause", "update"),
    ),
    "network": ("connect", "disconnect"),
    # A tag that moves changes by which image the list names its containers.
    "image": ("delete", "import", "load", "pull", "tag", "untag"),
}
"""The events that are followed: types and their actions. Commands run in containers (C(exec_...)) make floods."""


class EventStream(t.Protocol):
    """Events as C(GET /events) gives them, in the order of the engine, and none but those of EVENTS.

    The iteration ends when the stream is closed, and after a silence. It raises EngineError when it breaks off.
    """

    def __iter__(self) -> t.Iterator[dict[str, t.Any]]:
        """Itself."""

    def __next__(self) -> dict[str, t.Any]:
        """Wait for the next event."""

    def close(self) -> None:
        """End it, from any thread, also while another waits for the next event."""


class Engine(t.Protocol):
    """A Docker Engine. Containers and networks are named by their full ids.

    Every method raises EngineError or a subclass of it, and nothing else.
    """

    def version(self) -> EngineVersion:
        """Versions of the engine and of the API in use, as told when the connection was made."""

    def live_restore(self) -> bool:
        """Whether containers outlive the engine: what is paused is still paused after a restart of it (fact A7)."""

    def list_containers(self, container_id: str = "") -> list[dict[str, t.Any]]:
        """All containers, running or not, as C(GET /containers/json) gives them; or those whose id begins so.

        The list is behind: pause shows up in it 1 ms after its event, and die 60 ms (measured). A call that inspects
        the container waits until its change is done, and then the list shows it (measured).
        """

    def events(self, since: int | None = None, silence: float = 60) -> EventStream:
        """Follow the events. Those from the return of this call on are in the stream.

        Args:
            since: replay those of this moment and later, in nanoseconds since the epoch by the engine's clock. It has
                the last 256 of all kinds only.
            silence: seconds without an event after which the stream ends: neither a frozen engine nor a dead network
                can be told from a host where nothing happens, but by asking anew.
        """

    def past_events(self) -> list[dict[str, t.Any]]:
        """The events until now that the engine still has, oldest first: those of EVENTS among its last 256."""

    def list_images(self) -> list[dict[str, t.Any]]:
        """The images, as C(GET /images/json) gives them, but for those that are only a layer of others."""

    def inspect_container(self, container_id: str) -> dict[str, t.Any]:
        """As C(GET /containers/{id}/json). Raises NotFound."""

    def inspect_network(self, network_id: str) -> dict[str, t.Any]:
        """As C(GET /networks/{id}): Containers lists those with a running endpoint. Raises NotFound."""

    def create_network(self, definition: t.Mapping[str, t.Any]) -> str:
        """Make a network of what inspect_network said of one that is gone; its id. 409 where its name is taken."""

    def pause(self, container_id: str) -> None:
        """Freeze every process. 409 when it is paused, stopped or restarting."""

    def unpause(self, container_id: str) -> None:
        """Thaw. 500 when it is not paused."""

    def stop(self, container_id: str, grace: int) -> None:
        """Signal, wait up to grace seconds, kill. No error when it is stopped."""

    def kill(self, container_id: str) -> None:
        """End every process at once (SIGKILL), also of a paused container. 409 when it does not run."""

    def start(self, container_id: str) -> None:
        """Start. No error when it runs; 409 when it is paused."""

    def set_restart_policy(self, container_id: str, name: str, maximum_retry_count: int) -> None:
        """Set the restart policy. The name must not be empty: the engine ignores that (measured)."""

    def disconnect(self, network_id: str, container_id: str) -> None:
        """Take a container off a network. 500 when it is not connected, 400 in host mode while it runs."""

    def connect(self, network_id: str, container_id: str, settings: EndpointSettings) -> None:
        """Put a container on a network. 403 when it is connected, or when a static address is taken."""

    def create_container(self, name: str, definition: t.Mapping[str, t.Any]) -> str:
        """Make a container of that name, as C(POST /containers/create) takes it; its id. 404 without the image."""

    def remove_container(self, container_id: str) -> None:
        """Remove one, whatever its state, with volumes that nobody named. Raises NotFound."""

    # What is read in pieces, as the engine sends it and never whole in memory: containers decide how much it is. Errors
    # are raised by the call or while its pieces are read. Who does not read to the end closes the generator.

    def top(self, container_id: str) -> Pieces:
        """JSON: its processes. 409 when it does not run; it works on a paused one."""

    def stats(self, container_id: str) -> Pieces:
        """JSON: what it uses, measured over a second. Zeros when it does not run (measured)."""

    def changed_files(self, container_id: str) -> Pieces:
        """JSON: files that differ from the image, or C(null) where none does (measured)."""

    def logs(self, container_id: str, tail: int) -> Pieces:
        """Text: the last lines of stdout and stderr, each with a timestamp. 501 with the logging driver C(none)."""

    def archive(self, container_id: str, path: str) -> Pieces:
        """Tar: a path in it, with what volumes hold and without what tmpfs does. 404 when there is no such path."""

    def export(self, container_id: str) -> Pieces:
        """Tar: its file system, without volumes and tmpfs."""
