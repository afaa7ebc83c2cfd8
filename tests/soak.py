# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service for half an hour among alerts, breaches, releases and containers that come and go: make soak.

At the end the accounts add up, the memory is what it was, the action log is whole, and what is isolated holds.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import random
import sys
import tempfile
import threading
import time
import typing as t

import docker.errors

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.service_process import (
    ServiceProcess,
    falco,
    policy_set,
)

SECONDS = 1800
CONTAINERS = 12
MOST_GROWTH = 10_000_000
"""Bytes that it may take more than in the first third, in which its caches fill."""
_PATIENCE = 120.0


class Soak:
    """A service, and all that goes on around it."""

    def __init__(self, world: DockerWorld, service: ServiceProcess, seed: int) -> None:
        self._world = world
        self._service = service
        self._chance = random.Random(seed)  # noqa: S311 - a draw, no secret
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._number = 0
        self._network = world.make_network("net")
        self._containers = [self._make() for _number in range(CONTAINERS)]
        self._isolator = Isolator(world.engine, Journal(str(service.directory / "state"), lock_timeout=10))
        self.done: dict[str, int] = {}
        self.troubles: list[str] = []

    def run(self, seconds: float, say: t.Callable[[str], None]) -> list[int]:
        """Go on for so long; the resident sets meanwhile."""
        works = {self._alert: 0.3, self._noise: 0.02, self._breach: 0.7, self._release: 2.0, self._churn: 3.0}
        threads = [threading.Thread(target=self._again, args=work) for work in works.items()]
        for thread in threads:
            thread.start()
        sizes: list[int] = []
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.troubles:
            self._stop.wait(min(left, max(seconds / 60, 1.0)))
            sizes.append(self._memory())
            say(f"{sizes[-1] / 1e6:.1f} MB, {self.done}, {self._service.elements()}")
        self._stop.set()
        for thread in threads:
            thread.join()
        return sizes

    def settled(self) -> None:
        """Wait until nothing waits any more."""
        self._service.until(lambda: self._service.elements()["waiting"] == 0, "nothing waits")

    def wrong(self, sizes: t.Sequence[int]) -> list[str]:
        """What is not as it should be, a sentence each."""
        found = list(self.troubles)
        accounts = self._service.elements()
        if accounts["received"] != sum(count for name, count in accounts.items() if name != "received"):
            found.append(f"the accounts do not add up: {accounts}")
        early = max(sizes[: max(1, len(sizes) // 3)])
        if sizes[-1] - early > MOST_GROWTH:
            found.append(f"it takes {sizes[-1] / 1e6:.1f} MB, and took {early / 1e6:.1f} MB")
        log = ActionLog(StateDir(str(self._service.directory / "state"))).verify()
        if not log["intact"]:
            found.append(f"the action log is broken at line {log['first_break']}")
        return found

    def _again(self, work: t.Callable[[], None], pause: float) -> None:
        while not self._stop.wait(self._chance.uniform(0, 2 * pause)):
            try:
                work()
            except (EngineError, docker.errors.APIError, docker.errors.NotFound, GuardError):
                continue  # somebody else was faster, which is what this is about
            except Exception as error:  # whatever it is, it is told at the end
                self.troubles.append(f"{work.__name__.strip('_')}: {error!r}")
                return
            with self._lock:
                name = work.__name__.strip("_")
                self.done[name] = self.done.get(name, 0) + 1

    def _make(self) -> str:
        self._number += 1
        return self._world.make_container(f"c{self._number}", {self._network: EndpointSettings()})

    def _any(self) -> str:
        with self._lock:
            return self._chance.choice(self._containers)

    def _alert(self) -> None:
        self._service.post(falco(self._any(), rule=f"shell {self._chance.randrange(10)}"))

    def _noise(self) -> None:
        self._service.post(falco(self._any(), rule=f"noise {self._chance.randrange(1000)}", priority="Notice"))

    def _breach(self) -> None:
        container = self._any()
        kind = self._chance.choice(("unpause", "connect", "restart"))
        if kind == "unpause":
            self._world.engine.unpause(container)
        elif kind == "connect":
            self._world.engine.connect(self._network, container, EndpointSettings())
        else:
            self._world.api.restart(container, timeout=0)

    def _release(self) -> None:
        self._isolator.release(self._any())

    def _churn(self) -> None:
        new = self._make()
        with self._lock:
            old = self._containers.pop(self._chance.randrange(len(self._containers)))
            self._containers.append(new)
        self._world.api.remove_container(old, force=True)

    def _memory(self) -> int:
        status = pathlib.Path(f"/proc/{self._service.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def main() -> int:
    """Soak, and say by the exit status whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int, default=None, help="by default another one each time")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    print(f"seed {seed}", flush=True)
    policies = policy_set(
        {
            "id": "soak",
            "severity_threshold": "critical",
            "target_filter": {"container_names": ["cg-soak-*"]},
            "actions": [{"type": "pause"}, {"type": "network_disconnect"}],
            "on_breach": {"max_repairs": 1000, "window": 60},
            "release_after": 20,
        }
    )
    with tempfile.TemporaryDirectory(prefix="container-guard-soak-") as directory, contextlib.ExitStack() as stack:
        world = stack.enter_context(DockerWorld(prefix="cg-soak"))
        env = {"MALLOC_ARENA_MAX": "2"}  # as its unit has it
        service = ServiceProcess(pathlib.Path(directory) / "service", world.docker_host, policies, env)
        with service:
            soak = Soak(world, service, seed)
            sizes = soak.run(options.seconds, lambda text: print(text, flush=True))
            soak.settled()
            wrong = soak.wrong(sizes)
            if wrong:
                print(service.printed[-20_000:])
    for trouble in wrong:
        print(f"wrong: {trouble}", file=sys.stderr)
    print("all is well" if not wrong else "not all is well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
