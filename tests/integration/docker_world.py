# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers and networks for tests on a real Docker Engine, under names and subnets that collide with nothing."""

from __future__ import annotations

import random
import socket
import time
import typing as t
import uuid

import docker
import docker.errors
import docker.types

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import (
    DEFAULT_DOCKER_HOST,
    DockerEngine,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.tests.engine_contract import World
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

IMAGE = "container-guard/busybox:latest"
LABEL = "container-guard.test"
SLEEP = ("sleep", "3600")
# The delay before a restart doubles with each one, from 0.1 s; after five of them there are 1.6 s to act in.
CRASHES = 5
CRASH_LOOP = ("sh", "-c", f'echo x >>/tmp/runs; [ "$(wc -l </tmp/runs)" -gt {CRASHES} ] && exec sleep 3600; exit 1')

T = t.TypeVar("T")


def interfaces_of(pid: int) -> set[str]:
    """Interfaces in the network namespace of a process of this machine."""
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
        return {line.partition(":")[0].strip() for line in file.read().splitlines()[2:]}


class DockerWorld(World):
    """A corner of a real engine. Use it as a context manager: it leaves nothing behind."""

    engine: DockerEngine

    def __init__(self, docker_host: str = DEFAULT_DOCKER_HOST, prefix: str = "cg-test") -> None:
        self.prefix = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.labels = {LABEL: self.prefix}
        self.docker_host = docker_host
        self.engine = DockerEngine(docker_host)
        self.api = docker.APIClient(base_url=docker_host, version="auto", timeout=60)

    def __enter__(self) -> DockerWorld:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.cleanup()
        finally:
            self.api.close()
            self.engine.close()

    def name(self, suffix: str) -> str:
        return f"{self.prefix}-{suffix}"

    def make_network(
        self,
        suffix: str,
        *,
        user_configured: bool = True,
        ipv6: bool = False,
        internal: bool = False,
        name: str = "",
        subnet: str | None = None,
    ) -> str:
        """Create a network and return its id.

        Args:
            suffix: of its name.
            user_configured: with a subnet given, so that static addresses are allowed.
            ipv6: with an IPv6 subnet besides.
            internal: without a way out.
            name: the full name instead.
            subnet: this one instead of a free one.
        """
        for attempt in range(20):
            pools = []
            if user_configured:
                # 198.18.0.0/15 is for benchmarks (RFC 2544): no network that the host can reach is in it.
                second, third = random.choice((18, 19)), random.randrange(256)  # noqa: S311 - a draw, no secret
                pools.append(docker.types.IPAMPool(subnet=subnet or f"198.{second}.{third}.0/24"))
                if ipv6:
                    pools.append(docker.types.IPAMPool(subnet=f"fd00:198:{second}:{third:x}::/64"))
            try:
                return str(
                    self.api.create_network(
                        name or self.name(suffix),
                        ipam=docker.types.IPAMConfig(pool_configs=pools) if pools else None,
                        internal=internal,
                        enable_ipv6=ipv6,
                        labels=self.labels,
                    )["Id"]
                )
            except docker.errors.APIError as error:
                if attempt == 19 or "overlap" not in str(error.explanation):
                    raise EngineError(str(error.explanation), status=error.status_code) from error
        raise AssertionError("unreachable")

    def rename(self, container_id: str, suffix: str) -> None:
        self.api.rename(container_id, self.name(suffix))

    def make_container(
        self,
        suffix: str,
        networks: t.Mapping[str, EndpointSettings] | None = None,
        *,
        state: str = "running",
        network_mode: str | None = None,
        hostname: str = "",
        restart_policy: tuple[str, int] = ("no", 0),
        auto_remove: bool = False,
        published: t.Mapping[str, int | None] | None = None,
        name: str = "",
        mac_address: str = "",
        image: str = IMAGE,
        command: t.Sequence[str] = SLEEP,
        labels: t.Mapping[str, str] | None = None,
        **options: t.Any,
    ) -> str:
        """Create a container, bring it into a state and return its id. See World.

        Args:
            suffix: of its name.
            networks: ids of networks, and what is asked of each.
            state: C(created), C(running), C(paused), C(restarting) or C(exited).
            network_mode: C(default), C(host), C(none), C(container:<id>) or a network. None: the first of C(networks).
            hostname: its host name; the engine's choice by default.
            restart_policy: name and maximum retry count.
            auto_remove: remove it when it stops.
            published: container port such as C(80/tcp) to a port of 127.0.0.1, or None for an ephemeral one.
            name: the full name instead.
            mac_address: as it is asked for the container, and not for one of its networks.
            image: image to run.
            command: what to run.
            labels: labels besides the one that cleanup goes by.
            options: further arguments of create_host_config, such as C(tmpfs).
        """
        names = {self.engine.inspect_network(one)["Name"]: settings for one, settings in (networks or {}).items()}
        first = next(iter(names), None)
        container = str(
            self.api.create_container(
                image,
                list(CRASH_LOOP if state == "restarting" else command),
                name=name or self.name(suffix),
                labels={**(labels or {}), **self.labels},
                ports=[tuple(port.split("/")) for port in published or ()],
                hostname=hostname or None,
                mac_address=mac_address or None,
                stop_signal="SIGKILL",  # PID 1 ignores SIGTERM, and no test wants to wait for the grace period
                host_config=self.api.create_host_config(
                    network_mode=network_mode or first or "default",
                    restart_policy={"Name": restart_policy[0], "MaximumRetryCount": restart_policy[1]},
                    auto_remove=auto_remove,
                    port_bindings={port: ("127.0.0.1", host) for port, host in (published or {}).items()},
                    **options,
                ),
                networking_config=self._networking_config(first, names[first]) if first else None,
            )["Id"]
        )
        # API 1.41 takes one network at creation.
        for other in list(names)[1:]:
            self.engine.connect(other, container, names[other])
        if state != "created":
            self.engine.start(container)
        if state == "paused":
            self.engine.pause(container)
        elif state == "exited":
            self.engine.stop(container, 0)
        elif state == "restarting":
            self.until(lambda: self._is_between_restarts(container), f"{suffix} restarts")
        return container

    def remove_network(self, network_id: str) -> None:
        try:
            self.api.remove_network(network_id)
        except docker.errors.APIError as error:
            raise EngineError(str(error.explanation), status=error.status_code) from error

    def come_back(self, container_id: str) -> None:
        self.until(lambda: self.state(container_id) == "running", "the container comes back")

    def wait_gone(self, container_id: str) -> None:
        self.until(
            lambda: all(entry["Id"] != container_id for entry in self.engine.list_containers()), "the container is gone"
        )

    def interfaces(self, container_id: str) -> set[str]:
        return interfaces_of(self.engine.inspect_container(container_id)["State"]["Pid"])

    def free_host_port(self) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def exec(self, container_id: str, *command: str) -> tuple[int, str]:
        """Run a command in a container; its exit code, and what it wrote to stdout and stderr."""
        exec_id = self.api.exec_create(container_id, list(command))["Id"]
        output = self.api.exec_start(exec_id).decode(errors="replace")
        return int(self.api.exec_inspect(exec_id)["ExitCode"]), output

    def until(self, condition: t.Callable[[], T], what: str, seconds: float = 30) -> T:
        """Ask again and again until the answer is true, and return it."""
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds} seconds")
            time.sleep(0.01)
        return answer

    def cleanup(self) -> None:
        """Remove all that carries our label, also what a test made and lost."""
        mine = {"label": f"{LABEL}={self.prefix}"}
        for container in self.api.containers(all=True, filters=mine):
            try:
                self.api.remove_container(container["Id"], force=True, v=True)
            except docker.errors.APIError as error:
                # One that removes itself is gone already, or about to go.
                if error.status_code not in (404, 409):
                    raise
                self.wait_gone(container["Id"])
        for network in self.api.networks(filters=mine):
            # An endpoint made while its container was restarting outlives it.
            for endpoint in self.api.inspect_network(network["Id"])["Containers"].values():
                self.api.disconnect_container_from_network(endpoint["Name"], network["Id"], force=True)
            self.api.remove_network(network["Id"])

    def _is_between_restarts(self, container: str) -> bool:
        found = self.engine.inspect_container(container)
        return bool(found["State"]["Restarting"] and found["RestartCount"] >= CRASHES)

    def _networking_config(self, network: str, settings: EndpointSettings) -> t.Any:
        links: t.Any = [tuple(link.split(":", 1)) for link in settings.links]
        endpoint: t.Any = self.api.create_endpoint_config(
            aliases=list(settings.aliases) or None,
            links=links or None,
            ipv4_address=settings.ipv4_address or None,
            ipv6_address=settings.ipv6_address or None,
            link_local_ips=list(settings.link_local_ips) or None,
            driver_opt=dict(settings.driver_opts) or None,
            mac_address=settings.mac_address or None,
        )
        endpoints: t.Any = {network: endpoint}
        return self.api.create_networking_config(endpoints)


class HostWorld(DockerWorld):
    """A corner of the engine of a test host.

    Attributes:
        host: the test host.
    """

    def __init__(self, host: Host) -> None:
        super().__init__(host.docker_host)
        self.host = host

    def free_host_port(self) -> int:
        # The ports of a test host are its own, as its network namespace is.
        probe = "import socket; probe = socket.create_server(('127.0.0.1', 0)); print(probe.getsockname()[1])"
        status, output = self.host.exec("python3", "-c", probe)
        assert status == 0, output
        return int(output)
