# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a container as far as isolation changes it, and as the snapshot keeps it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings

ORCHESTRATOR_LABELS = ("com.docker.compose.", "com.docker.swarm.", "com.hashicorp.nomad.")
"""How the labels begin by which compose, swarm and nomad know their containers."""
ENGINE_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")

NO_NETWORK = "none"
"""The network that is none: every container on it has only its loopback interface."""


@dataclasses.dataclass(frozen=True)
class RestartPolicy:
    """Restart policy of a container, as the engine stores it."""

    name: str = "no"
    maximum_retry_count: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.maximum_retry_count}" if self.maximum_retry_count else self.name


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A container on a network.

    Attributes:
        network: name of the network.
        network_id: id of the network; empty where the container never ran (measured).
        settings: what the container asked of the network.
        attached: it has an interface there. A container that does not run has none; on one that runs, a connect that
            failed leaves the network in inspect without one (measured).
        ipv4_address, ipv6_address, mac_address: what it was given; empty while it does not run.
    """

    network: str
    network_id: str
    settings: EndpointSettings
    attached: bool = True
    ipv4_address: str = ""
    ipv6_address: str = ""
    mac_address: str = ""

    @property
    def reference(self) -> str:
        """What calls to the engine name the network by: its id, as a name need not be unique (400 "is ambiguous")."""
        return self.network_id or self.network


class HostPort(t.NamedTuple):
    """A published port: the address it listens on, empty for all, and the port, such as C(80/tcp)."""

    address: str
    port: str


@dataclasses.dataclass(frozen=True)
class ContainerState:
    """What inspect says of a container.

    Attributes:
        id, name: of the container.
        status: C(created), C(running), C(paused), C(restarting), C(exited), C(removing) or C(dead).
        running: it has a process; also true while it is paused.
        paused: all its processes are frozen.
        restarting: it ended, and the engine waits to start it again. The engine then answers 409 to pause and 500 to
            disconnect (measured).
        pid: its first process as the engine's host numbers it, 0 where there is none.
        network_mode: C(default), C(host), C(none), C(container:ID) or the name of a network.
        auto_remove: the engine deletes it as soon as it ends.
        restart_policy: as inspect says.
        endpoints: by name of the network.
        ports: container port to host addresses and ports, as published now.
        fixed_ports: the host ports that it was made with; the engine chooses the others anew each time.
        started_at: when its process began, as the engine writes it; another value means that it was started anew.
        labels: those of compose, swarm and nomad, which may start it or put another in its place.
        health_checked: the engine checks its health.
        exit_code: of the process that ended last.
        finished_at: when that was, as the engine writes it.
        engine_socket: the path by which the socket of the engine, or a directory above it, is mounted in it, or empty.
    """

    id: str
    name: str
    status: str
    running: bool
    paused: bool
    restarting: bool
    pid: int
    network_mode: str
    auto_remove: bool
    restart_policy: RestartPolicy
    endpoints: tuple[Endpoint, ...]
    ports: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    fixed_ports: tuple[HostPort, ...] = ()
    started_at: str = ""
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    health_checked: bool = False
    exit_code: int = 0
    finished_at: str = ""
    engine_socket: str = ""

    @classmethod
    def from_inspect(cls, found: dict[str, t.Any], pins_mac: bool = False) -> ContainerState:
        """The state in an answer of C(GET /containers/{id}/json).

        Args:
            found: the answer.
            pins_mac: the engine gives back a MAC address that is asked for on connect.
        """
        state, host_config = found["State"], found["HostConfig"]
        policy = host_config.get("RestartPolicy") or {}
        networks = found["NetworkSettings"].get("Networks") or {}
        published = found["NetworkSettings"].get("Ports") or {}
        configured_mac = (found.get("Config") or {}).get("MacAddress") or ""
        return cls(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            status=state["Status"],
            running=state["Running"],
            paused=state["Paused"],
            restarting=state["Restarting"],
            pid=state.get("Pid") or 0,
            network_mode=host_config.get("NetworkMode") or "default",
            auto_remove=bool(host_config.get("AutoRemove")),
            restart_policy=RestartPolicy(policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0),
            endpoints=tuple(
                _endpoint(name, settings, found["Id"], configured_mac, pins_mac)
                for name, settings in sorted(networks.items())
            ),
            ports={
                port: tuple(sorted(f"{binding['HostIp']}:{binding['HostPort']}" for binding in bindings or ()))
                for port, bindings in sorted(published.items())
            },
            fixed_ports=tuple(
                HostPort(binding.get("HostIp") or "", f"{binding['HostPort']}/{port.partition('/')[2]}")
                for port, bindings in sorted((host_config.get("PortBindings") or {}).items())
                for binding in bindings or ()
                if binding.get("HostPort") not in (None, "", "0")
            ),
            started_at=state.get("StartedAt") or "",
            labels={
                name: value
                for name, value in sorted(((found.get("Config") or {}).get("Labels") or {}).items())
                if name.startswith(ORCHESTRATOR_LABELS)
            },
            health_checked=bool(state.get("Health")),
            exit_code=state.get("ExitCode") or 0,
            finished_at=state.get("FinishedAt") or "",
            engine_socket=next(
                (
                    mount["Source"]
                    for mount in found.get("Mounts") or ()
                    if mount.get("Source") and any(_holds(mount["Source"], path) for path in ENGINE_SOCKETS)
                ),
                "",
            ),
        )

    @property
    def own_network(self) -> bool:
        """Whether its network namespace is its own, and not that of the host or of another container."""
        return self.network_mode != "host" and not self.network_owner

    @property
    def network_owner(self) -> str:
        """The id of the container whose network it uses, or empty."""
        mode, _separator, owner = self.network_mode.partition(":")
        return owner if mode == "container" else ""

    @property
    def live_endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints that connect it: all where it does not run, as it takes them up when it starts."""
        return tuple(endpoint for endpoint in self.endpoints if endpoint.attached or not self.pid)

    def endpoint_like(self, other: Endpoint) -> Endpoint | None:
        """The endpoint on the network of the other one: by id where both have one, else by name."""
        for endpoint in self.live_endpoints:
            both = endpoint.network_id and other.network_id
            if endpoint.network_id == other.network_id if both else endpoint.network == other.network:
                return endpoint
        return None

    def to_dict(self) -> dict[str, t.Any]:
        """The state as the journal keeps it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, t.Any]) -> ContainerState:
        """What to_dict wrote. Raises KeyError or TypeError where it is something else."""
        return cls(
            **{
                **value,
                "restart_policy": RestartPolicy(**value["restart_policy"]),
                "endpoints": tuple(
                    Endpoint(**{**endpoint, "settings": _settings_from_dict(endpoint["settings"])})
                    for endpoint in value["endpoints"]
                ),
                "ports": {port: tuple(bindings) for port, bindings in value["ports"].items()},
                "fixed_ports": tuple(HostPort(*port) for port in value["fixed_ports"]),
            }
        )

    def summary(self) -> dict[str, t.Any]:
        """What people compare: before and after, in diff mode."""
        return {
            "running": self.running,
            "paused": self.paused,
            "restart_policy": str(self.restart_policy),
            "networks": sorted(endpoint.network for endpoint in self.live_endpoints),
        }


def _endpoint(name: str, found: dict[str, t.Any], container_id: str, configured_mac: str, pins_mac: bool) -> Endpoint:
    ipam = found.get("IPAMConfig") or {}
    mac_address = found.get("MacAddress") or ""
    return Endpoint(
        network=name,
        network_id=found["NetworkID"],
        settings=EndpointSettings(
            ipv4_address=ipam.get("IPv4Address") or "",
            ipv6_address=ipam.get("IPv6Address") or "",
            link_local_ips=tuple(ipam.get("LinkLocalIPs") or ()),
            # Engines before 25 show the short id, which they add by themselves, among the aliases.
            aliases=tuple(alias for alias in found.get("Aliases") or () if alias != container_id[:12]),
            links=tuple(found.get("Links") or ()),
            driver_opts=found.get("DriverOpts") or {},
            # One that the engine made must not be asked for again: before 28 it is made from the IPv4 address, which
            # may belong to somebody else by then.
            mac_address=mac_address if pins_mac or (configured_mac and mac_address == configured_mac) else "",
            gw_priority=found.get("GwPriority") or 0,
        ),
        attached=bool(found.get("EndpointID")),
        ipv4_address=found.get("IPAddress") or "",
        ipv6_address=found.get("GlobalIPv6Address") or "",
        mac_address=mac_address,
    )


def _holds(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _settings_from_dict(value: dict[str, t.Any]) -> EndpointSettings:
    lists = {name: tuple(value[name]) for name in ("link_local_ips", "aliases", "links")}
    return EndpointSettings(**{**value, **lists})
