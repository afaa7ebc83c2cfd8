# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A swarm of two test hosts. What they say to each other stays on the bridge of the machine."""

from __future__ import annotations

import contextlib
import typing as t

import docker

from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import Recipe

PORT = 2377


class Swarm:
    """A manager and a worker with the same engine, for this process alone.

    Attributes:
        manager, worker: the hosts.
    """

    def __init__(self, recipe: Recipe) -> None:
        """Describe it; start() makes it be."""
        self.manager = fleet.private_host(recipe, "manager")
        self.worker = fleet.private_host(recipe, "worker")

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.manager, self.worker

    def start(self) -> None:
        """Start both hosts, and let them join. Raises TestbedError."""
        for host in self.hosts:
            host.start()
        try:
            with _engine(self.manager) as manager, _engine(self.worker) as worker:
                manager.init_swarm(**_addresses(self.manager))
                token = manager.inspect_swarm()["JoinTokens"]["Worker"]
                worker.join_swarm([f"{self.manager.address}:{PORT}"], token, **_addresses(self.worker))
        except docker.errors.APIError as error:
            raise TestbedError(f"{self.manager} and {self.worker} cannot be a swarm: {error}") from error

    def stop(self) -> None:
        """Stop both hosts and remove all that is left of them."""
        for host in self.hosts:
            host.stop()
            host.close()


def _addresses(host: Host) -> dict[str, str]:
    return {"listen_addr": f"{host.address}:{PORT}", "advertise_addr": host.address}


def _engine(host: Host) -> t.Any:
    return contextlib.closing(docker.APIClient(base_url=host.docker_host, version="auto", timeout=60))
