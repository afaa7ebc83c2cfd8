# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The victims of a benchmark, and when the engine says what happened to them."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time
import typing as t

import docker
import docker.errors

from ansible_collections.ironpost.container_guard.tests.integration.docker_world import LABEL, DockerWorld

PAUSE, DISCONNECT = "pause", "disconnect"

Happening = tuple[str, str]
"""What happened, C(pause) or C(disconnect), and the full id of the container that it happened to."""


class Victim(t.NamedTuple):
    """A running container on a network of ours."""

    id: str
    name: str


class Stage(DockerWorld):
    """A corner of the engine for one benchmark. Use it as a context manager: it leaves nothing behind."""

    def __init__(self, docker_host: str) -> None:
        super().__init__(docker_host, prefix="cg-bench")

    def __enter__(self) -> t.Self:
        super().__enter__()
        return self

    def cleanup(self) -> None:
        """Remove containers and networks. One that the engine keeps (see make_victims) must not cost the results."""
        try:
            super().cleanup()
        except docker.errors.APIError:
            for network in self.api.networks(filters={"label": f"{LABEL}={self.prefix}"}):
                try:
                    self.api.remove_network(network["Id"])
                except docker.errors.APIError as error:
                    print(f"cannot remove network {network['Name']}: {error.explanation}", file=sys.stderr)


def make_victims(
    world: DockerWorld, kind: str, count: int, restart_policy: tuple[str, int] = ("no", 0), most_networks: int = 10
) -> list[Victim]:
    """Start that many containers, each on one of some new networks, ten at most by default.

    Those that are next to each other are on different ones: an engine of version 20.10 may count an endpoint too many
    where containers leave one network at a time, and then keeps the network (measured).
    """
    networks = [world.make_network(f"{kind}-{number}") for number in range(min(count, most_networks))]

    def make(number: int) -> Victim:
        suffix = f"{kind}-{number}"
        container = world.make_container(
            suffix, network_mode=networks[number % len(networks)], restart_policy=restart_policy
        )
        return Victim(container, world.name(suffix))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(make, range(count)))


def unpause(world: DockerWorld, victims: t.Iterable[Victim]) -> None:
    """Let them run again."""
    for victim in victims:
        if world.engine.inspect_container(victim.id)["State"]["Paused"]:
            world.engine.unpause(victim.id)


class Watch:
    """Notes when the event stream of the engine tells of pauses and disconnections. Use it as a context manager."""

    def __init__(self, docker_host: str) -> None:
        self._api = docker.APIClient(base_url=docker_host, version="auto")
        self._changed = threading.Condition()
        self._seen: dict[Happening, float] = {}
        # The request is answered before the constructor returns, so nothing that happens afterwards is missed.
        self._stream = self._api.events(decode=True, filters={"event": [PAUSE, DISCONNECT]})
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._thread.join(5)
        self._api.close()

    def forget(self) -> None:
        """Begin anew."""
        with self._changed:
            self._seen.clear()

    def wait(self, expected: t.Collection[Happening], timeout: float) -> float:
        """When the last of the expected things happened, on the clock of time.monotonic(). Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._seen.keys() >= set(expected), timeout):
                missing = len(set(expected) - self._seen.keys())
                raise TimeoutError(f"{missing} of {len(expected)} did not happen within {timeout:.0f} seconds")
            return max(self._seen[happening] for happening in expected)

    def _read(self) -> None:
        for event in self._stream:
            now = time.monotonic()
            actor = event["Actor"]
            container = actor["Attributes"].get("container") if event["Type"] == "network" else actor["ID"]
            with self._changed:
                self._seen.setdefault((event["Action"], container), now)
                self._changed.notify_all()
