# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several hosts: alerts about all of them at the same time, and hosts that hang."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import SHELL, Json, elements, falco, post
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.sides import PEER, Burst, Guard, Peer, Side, local
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import (
    PAUSE,
    Stage,
    Victim,
    Watch,
    make_victims,
    unpause,
)
from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import RECIPES

SETTLE = 10.0


class Place:
    """A host of the testbed, reached over ssh, and a corner of its engine. Use it as a context manager.

    Attributes:
        name: in the inventory.
        world: the corner.
        watch: on the engine.
    """

    def __init__(self, name: str, host: Host) -> None:
        self.name = name
        self.host = host
        self.world = Stage(host.docker_host)
        self.watch = Watch(host.docker_host)
        self._directory = f"/var/tmp/cg-bench-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Place:
        self._stack = contextlib.ExitStack()
        self._stack.callback(self.host.exec, "rm", "-rf", self._directory)
        self._stack.enter_context(self.world)
        self._stack.enter_context(self.watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def variables(self) -> Json:
        """Of the inventory, for the guard."""
        return {
            **self.host.inventory,
            "guard_state_dir": f"{self._directory}/state",
            "guard_policy_set_path": f"{self._directory}/policy_set.json",
        }

    def deploy(self, policy_set: str) -> None:
        """Put a policy set there."""
        write = 'mkdir -p "$1" && printf %s "$2" >"$1/policy_set.json"'
        status, output = self.host.exec("sh", "-c", write, "sh", self._directory, policy_set)
        if status:
            raise RuntimeError(f"{self.name}: {output}")


def alerts_of_hosts(docker_host: str, collections: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """100 alerts about 100 containers of three hosts, over ssh, against the peer."""
    count = 18 if quick else 100
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-", ignore_cleanup_errors=True) as directory,
        _places() as places,
    ):
        victims = {place: make_victims(place.world, "fleet", _share(count, number)) for number, place in places.items()}
        warming = {place: make_victims(place.world, "warm", 1) for place in victims}
        base = pathlib.Path(directory)
        with Guard(base / "guard", {place.name: place.variables for place in victims}) as guard:
            for place in victims:
                place.deploy(guard.deploy(place.world.prefix, "pause"))
            _until_paused(guard, warming)
            ours, our_burst = _until_paused(guard, victims)
            say(f"{count} alerts, ours: {shown(ours)}")
        for place, those in [*victims.items(), *warming.items()]:
            unpause(place.world, those)
        with Peer(
            base / "peer",
            {place.name: place.host.inventory for place in victims},
            collections,
            playbook=PEER / "playbook_of_hosts",
        ) as peer:
            _until_paused(peer, warming)
            theirs, their_burst = _until_paused(peer, victims)
            say(f"{count} alerts, the peer: {shown(theirs)}")
    return [
        Row(
            f"{count} alerts, {count} containers, three hosts over ssh, to the last paused",
            ours,
            theirs,
            # The ratio grows with the number of alerts.
            at_least=None if quick else 20,
        ),
        Row("  senders wait for their answer, longest", max(our_burst.waits), max(their_burst.waits)),
    ]


def sick_hosts(docker_host: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """One alert about a healthy host, alone, and while the engine of another is frozen and a third one is silent."""
    rounds = 3 if quick else 7
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-", ignore_cleanup_errors=True) as directory,
        Stage(docker_host) as world,
        Watch(docker_host) as watch,
        _silent_port() as port,
        contextlib.closing(fleet.private_host(RECIPES[-1])) as frozen,
    ):
        try:
            frozen.start()
            state = {"guard_state_dir": f"{directory}/frozen"}
            hosts = {
                "web-1": local(docker_host),
                "frozen": local(frozen.docker_host, **state),
                "silent": {**frozen.inventory, "ansible_port": port},
            }
            with Guard(pathlib.Path(directory) / "guard", hosts) as guard:
                guard.deploy(world.prefix, "pause")
                alone, beside = [], []
                victims = make_victims(world, "healthy", 2 * rounds + 1)
                for number, victim in enumerate(victims[: rounds + 1]):
                    guard.be_idle()
                    seconds = _healthy(guard, watch, victim)
                    if number:  # the first round warms
                        alone.append(seconds)
                frozen.freeze_engine()
                for victim in victims[rounds + 1 :]:
                    for host in ("frozen", "silent"):
                        post(guard.port, falco("0" * 12, host=host, rule=f"{SHELL} {victim.name}"))
                    _hanging(guard)
                    beside.append(_healthy(guard, watch, victim))
                    say(f"alone {shown(statistics.median(alone))}, beside two that hang {shown(beside[-1])}")
                waiting = elements(guard.port)["waiting"]
        finally:
            frozen.stop()
    return [
        Row(
            "one alert to paused while another host is frozen and a third silent, against alone",
            statistics.median(beside),
            statistics.median(alone),
            at_most=1.5,
            note=f"medians of {rounds}; {waiting} alerts of the two waited at the end",
        )
    ]


def _until_paused(side: Side, victims: Mapping[Place, Sequence[Victim]]) -> tuple[float, Burst]:
    """Seconds from the first alert until the last container was paused, and how the senders fared."""
    for place in victims:
        place.watch.forget()
    messages = [falco(one.id, one.name, host=place.name) for place, those in victims.items() for one in those]
    burst = side.send_all(messages)
    side.rest()
    last = max(place.watch.wait([(PAUSE, one.id) for one in those], SETTLE) for place, those in victims.items())
    return last - burst.started, burst


def _healthy(guard: Guard, watch: Watch, victim: Victim) -> float:
    started = time.monotonic()
    post(guard.port, falco(victim.id, victim.name, host="web-1"))
    return watch.wait([(PAUSE, victim.id)], 120) - started


def _hanging(guard: Guard) -> None:
    """Wait until there are playbook runs, and nothing but waits in them."""

    def hanging() -> bool:
        before = guard.cpu_of_runs()
        time.sleep(0.5)
        return guard.children() > 0 and guard.cpu_of_runs() - before < 0.05

    guard.wait_for(hanging, "runs that hang")


def _share(count: int, number: int) -> int:
    """How many of so many containers are those of one of three hosts."""
    return (count + 2 - number) // 3


@contextlib.contextmanager
def _places() -> Iterator[dict[int, Place]]:
    with contextlib.ExitStack() as stack:
        hosts = fleet.up(RECIPES)
        for host in hosts:
            stack.callback(host.close)
        yield {number: stack.enter_context(Place(f"web-{number + 1}", host)) for number, host in enumerate(hosts)}


@contextlib.contextmanager
def _silent_port() -> Iterator[int]:
    """A port where connections are taken, and nothing is ever said."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(listener.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()
