# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory and its watch on real engines: real events, real breaks."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import signal
import socket
import tempfile
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineTimeout,
    EngineUnreachable,
    NotFound,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.watcher import Watcher
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import LABEL, DockerWorld
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

# The SDK leaves its socket to the garbage collector when it cannot connect (see collected).
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

REPLAYED_EVENTS = 256
Entries = dict[str, dict[str, t.Any]]


class Wire:
    """A Unix socket that leads to another, and that can be cut."""

    def __init__(self, path: pathlib.Path, target: str) -> None:
        self.url = f"unix://{path}"
        self._path = path
        self._target = target.removeprefix("unix://")
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.mend()

    def mend(self) -> None:
        """Take connections."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._start(self._accept, self._listener)

    def cut(self) -> None:
        """Break all connections off, and take no more."""
        self._path.unlink()
        for end in [self._listener, *self._ends]:
            with contextlib.suppress(OSError):  # one side of it may have been closed before
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=30)
        for end in [self._listener, *self._ends]:
            end.close()
        self._ends.clear()
        self._threads.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _address = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            self._ends += [near, far]
            far.connect(self._target)
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _start(self, function: t.Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def docker_host_of(world: DockerWorld) -> str:
    return world.engine._docker_host


def mine(world: DockerWorld, entries: t.Iterable[dict[str, t.Any]]) -> Entries:
    """Those of this test. How long one has been up is text that ages."""
    return {
        entry["Id"]: {key: value for key, value in entry.items() if key != "Status"}
        for entry in entries
        if entry["Labels"].get(LABEL) == world.prefix
    }


def is_right(world: DockerWorld, inventory: Inventory) -> bool:
    return mine(world, inventory.listing().all()) == mine(world, world.engine.list_containers())


def become_right(world: DockerWorld, inventory: Inventory) -> None:
    """Wait until the inventory agrees with the engine, which must then go on."""
    world.until(lambda: is_right(world, inventory), "the inventory agrees with the engine")
    assert is_right(world, inventory)


@pytest.fixture(autouse=True)
def collected() -> t.Iterator[None]:
    """Collect what the SDK left while its warnings are ignored, not in the middle of another test."""
    yield
    gc.collect()


@pytest.fixture
def watched(docker_world: DockerWorld) -> t.Iterator[tuple[Inventory, Watcher]]:
    inventory = Inventory(docker_world.engine, ttl=3600)
    with Watcher(inventory, docker_world.engine) as watcher:
        assert watcher.wait_in_step(30)
        yield inventory, watcher
        assert watcher.state.reconnects == 0


@pytest.mark.fact("C.lookup.4")
def test_partial_ids_and_names(docker_world: DockerWorld) -> None:
    inventory = Inventory(docker_world.engine)
    container, other = (docker_world.make_container(suffix) for suffix in ("c", "c2"))
    for length in (12, 24, 31, 64):
        assert [entry["Id"] for entry in inventory.by_id(container[:length])] == [container]
    assert [entry["Id"] for entry in inventory.by_name(docker_world.name("c"))] == [container]
    assert [entry["Id"] for entry in inventory.by_name(docker_world.name("c2"))] == [other]
    assert inventory.by_name(docker_world.prefix) == []


def test_a_life_is_followed(docker_world: DockerWorld, watched: tuple[Inventory, Watcher]) -> None:
    world, (inventory, _watcher) = docker_world, watched
    begun = inventory.begun
    network = world.make_network("n")
    container = world.make_container("c")

    def end_by_itself() -> None:
        # From outside: within its namespace, the first process takes no signal that it does not want.
        os.kill(world.engine.inspect_container(container)["State"]["Pid"], signal.SIGKILL)
        world.until(lambda: world.state(container) == "exited", "it has ended")

    changes: tuple[t.Callable[[], object], ...] = (
        lambda: world.engine.pause(container),
        lambda: world.api.rename(container, world.name("renamed")),
        lambda: world.api.connect_container_to_network(container, network),
        lambda: world.engine.disconnect(network, container),
        lambda: world.engine.unpause(container),
        end_by_itself,
        lambda: world.engine.stop(container, 0),
        lambda: world.engine.start(container),
        lambda: world.engine.kill(container),
        lambda: world.make_container("c"),
        lambda: world.api.remove_container(container, force=True),
    )
    for change in changes:
        change()
        # Inspect waits for the change, and the list does not (measured): before, both could agree on what was.
        with contextlib.suppress(NotFound):
            world.engine.inspect_container(container)
        become_right(world, inventory)
    assert [entry["Names"] for entry in mine(world, inventory.all()).values()] == [[f"/{world.name('c')}"]]
    assert inventory.begun == begun, "all that was found out by events, and listed once"


def test_a_crash_loop_is_followed(docker_world: DockerWorld, watched: tuple[Inventory, Watcher]) -> None:
    """Process ends, which the engine tells 60 ms before its list shows them (measured)."""
    inventory, _watcher = watched
    container = docker_world.make_container("c", state="restarting", restart_policy=("always", 0))
    docker_world.until(
        lambda: [entry["State"] for entry in inventory.by_id(container)] == ["restarting"], "it is known to restart"
    )
    docker_world.come_back(container)
    become_right(docker_world, inventory)
    assert inventory.by_id(container)[0]["State"] == "running"


def test_commands_in_containers_are_not_followed(docker_world: DockerWorld) -> None:
    """They come by the thousands where containers have health checks."""
    told: list[dict[str, t.Any]] = []
    inventory = Inventory(docker_world.engine, ttl=3600)
    container = docker_world.make_container("c")
    with Watcher(inventory, docker_world.engine, told.append) as watcher:
        assert watcher.wait_in_step(30)
        for _command in range(20):
            assert docker_world.exec(container, "true")[0] == 0
        docker_world.engine.pause(container)
        docker_world.until(lambda: any(event["Action"] == "pause" for event in told), "the pause is told")
    assert not [event for event in told if event["Action"].startswith("exec")]


@pytest.mark.fact("C.events.4")
def test_more_happens_during_a_break_than_the_engine_remembers(docker_world: DockerWorld) -> None:
    world = docker_world
    paused, gone, renamed = (world.make_container(suffix) for suffix in ("paused", "gone", "renamed"))
    with tempfile.TemporaryDirectory(prefix="cg-") as directory:
        wire = Wire(pathlib.Path(directory) / "s", docker_host_of(world))
        engine = DockerEngine(wire.url)
        inventory = Inventory(engine, ttl=3600)
        told: list[dict[str, t.Any]] = []
        with Watcher(inventory, engine, told.append, shortest_delay=0.1) as watcher:
            assert watcher.wait_in_step(30)
            become_right(world, inventory)
            wire.cut()
            world.until(lambda: not watcher.state.connected_since, "the break is noticed", seconds=5)
            assert isinstance(watcher.state.last_error, EngineUnreachable)
            assert not watcher.wait_in_step(0)
            world.api.remove_container(gone, force=True)
            world.api.rename(renamed, world.name("other"))
            new = world.make_container("new")
            # Pausing and unpausing so often would not do: the engine confuses itself then (measured on 20.10).
            for number in range(REPLAYED_EVENTS + 1):
                world.api.rename(paused, world.name(f"paused-{number}"))
            world.engine.pause(paused)
            wire.mend()
            assert watcher.wait_in_step(60)
            assert is_right(world, inventory), "as soon as it says so"
            assert watcher.state.reconnects == 1
            known = mine(world, inventory.all())
            assert known.keys() == {paused, renamed, new}
            assert known[paused]["State"] == "paused"
        assert not [event for event in told if event["Actor"]["ID"] == gone and event["Action"] == "destroy"]
        wire.cut()
        engine.close()


def test_an_engine_that_is_restarted(docker_world: DockerWorld, faulty_host: Host) -> None:
    inventory = Inventory(docker_world.engine, ttl=3600)
    stays, ends = (
        docker_world.make_container("stays", restart_policy=("always", 0)),
        docker_world.make_container("ends"),
    )
    with Watcher(inventory, docker_world.engine) as watcher:
        assert watcher.wait_in_step(30)
        for end in (faulty_host.stop_engine, faulty_host.kill_engine):
            end()
            docker_world.until(lambda: not watcher.state.connected_since, "the break is noticed", seconds=5)
            faulty_host.start_engine()
            assert watcher.wait_in_step(60)
            docker_world.until(lambda: inventory.by_id(stays)[0]["State"] == "running", "it came back")
            become_right(docker_world, inventory)
        assert inventory.by_id(ends)[0]["State"] == "exited"
        docker_world.engine.start(ends)
        docker_world.until(lambda: inventory.by_id(ends)[0]["State"] == "running", "it is seen to start")


@pytest.mark.fact("C.events.7")
def test_an_engine_that_is_frozen(docker_world: DockerWorld, faulty_host: Host) -> None:
    """A silent stream is all there is to see of it, as on a host where nothing happens."""
    engine = DockerEngine(faulty_host.docker_host, timeout=2)
    inventory = Inventory(engine, ttl=1)
    container = docker_world.make_container("c")
    with contextlib.closing(engine), Watcher(inventory, engine, shortest_delay=0.1) as watcher:
        assert watcher.wait_in_step(30)
        docker_world.until(lambda: watcher.state.renewals >= 2, "silence is no break")
        assert watcher.state.reconnects == 0
        faulty_host.freeze_engine()
        docker_world.until(lambda: not watcher.state.connected_since, "it is noticed", seconds=10)
        assert isinstance(watcher.state.last_error, EngineTimeout)
        with pytest.raises(EngineTimeout):
            inventory.by_id(container)
        faulty_host.thaw_engine()
        assert watcher.wait_in_step(60)
        docker_world.engine.pause(container)
        become_right(docker_world, inventory)
