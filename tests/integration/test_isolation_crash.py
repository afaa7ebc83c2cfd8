# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guard killed with SIGKILL at every step: whatever it leaves, a second isolate and a release lead out of.

A child process does the real work, and dies before a call to the engine or to the file system that changes something,
after it, or once the engine has the request and nobody waits for the answer.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import itertools
import os
import pathlib
import signal
import traceback
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import (
    ISOLATED,
    RELEASED,
    Outcome,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld

ENGINE_CALLS = ("pause", "unpause", "stop", "kill", "start", "set_restart_policy", "disconnect", "connect")
FILE_CALLS = ("fsync", "rename", "replace", "unlink")
BEFORE, DURING, AFTER = "before", "during", "after"

CUT_OFF = (Action("pause"), Action("network_disconnect"))
ENDED = (*CUT_OFF, Action("kill"))

ISOLATING = {BEFORE: {"fsync", "rename", "pause", "disconnect", "set_restart_policy"}}
RELEASING = {BEFORE: {"fsync", "rename", "unlink", "connect", "set_restart_policy"}}

Work = t.Callable[[Isolator], Outcome]


@dataclasses.dataclass
class Bomb:
    """Kills the process that it is in with SIGKILL.

    Attributes:
        fuse: how many points the process has to live through.
        trace: file to say in where it went off.
    """

    fuse: int
    trace: pathlib.Path
    _calling: str = ""

    def plant(self, engine: DockerEngine) -> None:
        """Put points around all that changes something."""
        for name in ENGINE_CALLS:
            setattr(engine, name, self._around(name, getattr(engine, name), on_engine=True))
        for name in FILE_CALLS:
            setattr(os, name, self._around(name, getattr(os, name)))
        get_response = http.client.HTTPConnection.getresponse

        def answered(connection: http.client.HTTPConnection, *arguments: t.Any, **options: t.Any) -> t.Any:
            if self._calling:
                self._point(DURING, self._calling)
            return get_response(connection, *arguments, **options)

        setattr(http.client.HTTPConnection, "getresponse", answered)  # noqa: B010 - mypy rejects the assignment

    def _around(self, name: str, call: t.Callable[..., t.Any], on_engine: bool = False) -> t.Callable[..., t.Any]:
        def called(*arguments: t.Any, **options: t.Any) -> t.Any:
            self._point(BEFORE, name)
            self._calling = name if on_engine else ""
            try:
                return call(*arguments, **options)
            finally:
                self._calling = ""
                self._point(AFTER, name)

        return called

    def _point(self, moment: str, name: str) -> None:
        if not self.fuse:
            self.trace.write_text(f"{moment} {name}")
            os.kill(os.getpid(), signal.SIGKILL)
        self.fuse -= 1


class Scenario:
    """A container, or one with the owner of its network, that is isolated and released again and again."""

    def __init__(self, world: HostWorld, directory: pathlib.Path, sidecar: bool = False) -> None:
        self.world = world
        self.state_dir = str(directory / "state")
        self.trace = directory / "trace"
        self.journal = Journal(self.state_dir, lock_timeout=5)
        self.guard = Isolator(world.engine, self.journal)
        static = world.make_network("static")
        prefix = world.engine.inspect_network(static)["IPAM"]["Config"][0]["Subnet"].rpartition(".")[0]
        networks = {
            static: EndpointSettings(ipv4_address=f"{prefix}.77", aliases=("database", "db")),
            world.make_network("dynamic"): EndpointSettings(aliases=("backend",)),
        }
        self.networked = self.container = world.make_container("c", networks, restart_policy=("on-failure", 7))
        if sidecar:
            self.container = world.make_container(
                "sidecar", network_mode=f"container:{self.networked}", restart_policy=("on-failure", 7)
            )
        self.started_at = self.process()
        self.before = self.seen()
        self.points: dict[str, set[str]] = collections.defaultdict(set)

    def process(self) -> str:
        return str(self.world.engine.inspect_container(self.container)["State"]["StartedAt"])

    def seen(self) -> dict[str, t.Any]:
        """All that a release has to give back, by container, as the engine says it."""
        return {container: self._seen(container) for container in (self.container, self.networked)}

    def _seen(self, container: str) -> dict[str, t.Any]:
        found = self.world.engine.inspect_container(container)
        networks = found["NetworkSettings"]["Networks"]
        for endpoint in networks.values():
            # The engine makes them anew with each connect. An address that nobody asked for may be another one, too.
            fresh = ["EndpointID", "MacAddress", *([] if endpoint["IPAMConfig"] else ["IPAddress"])]
            for name in fresh:
                endpoint[name] = bool(endpoint[name])
            for name in ("Aliases", "DNSNames"):
                endpoint[name] = sorted(endpoint.get(name) or ())
            endpoint["IPAMConfig"] = endpoint["IPAMConfig"] or {}
        return {
            "networks": networks,
            "restart_policy": found["HostConfig"]["RestartPolicy"],
            "state": {name: found["State"][name] for name in ("Status", "Running", "Paused", "Restarting")},
        }

    # --- work that is killed ------------------------------------------------------------------------------------------

    def killed_at(self, point: int, work: Work) -> bool:
        """Let a child work until it is killed at that point; whether it lived to see it."""
        self.trace.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            self._die(point, work)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        if not status:
            return False
        moment, name = self.trace.read_text().split()
        self.points[moment].add(name)
        # Shown where the test fails.
        print(f"point {point}: killed {moment} {name}")
        return True

    def _die(self, point: int, work: Work) -> t.NoReturn:
        try:
            # A connection of its own: the one of its parent is not to be shared.
            engine = DockerEngine(self.world.docker_host)
            Bomb(point, self.trace).plant(engine)
            outcome = work(Isolator(engine, Journal(self.state_dir, lock_timeout=5)))
            os._exit(0 if outcome.ok else 3)
        except BaseException:
            os.write(2, traceback.format_exc().encode())
            os._exit(4)

    # --- what must be so ----------------------------------------------------------------------------------------------

    def assert_recorded(self) -> None:
        """Whatever is not as before is in the journal, which is in order."""
        for container, seen in self.seen().items():
            if seen != self.before[container]:
                assert self.journal.load(container), f"changed, and not in the journal: {seen}"
        _entries, damaged = self.journal.entries()
        assert not damaged

    def isolate(self, actions: t.Sequence[Action], may_be_ended: bool = False) -> None:
        outcome = self.guard.isolate(self.container, actions)
        assert outcome.outcome == ISOLATED, outcome
        seen = self.seen()
        # Its owner is not asked to stand still, so that it is known for one that runs.
        assert seen[self.networked]["networks"] == {}
        assert seen[self.container]["restart_policy"]["Name"] == seen[self.networked]["restart_policy"]["Name"] == "no"
        state = seen[self.container]["state"]["Status"]
        wanted = {"exited"} if Action("kill") in actions else {"paused", "exited"} if may_be_ended else {"paused"}
        assert state in wanted
        entry = self.journal.load(self.container)
        assert entry is not None
        assert entry.phase == "isolated"

    def release(self, restart: bool = False) -> None:
        outcome = self.guard.release(self.container, restart=restart)
        assert (outcome.outcome, outcome.error, outcome.conflicts) == (RELEASED, None, ()), outcome
        assert self.seen() == self.before
        assert self.journal.entries() == ([], [])
        if outcome.changed:
            # Open sessions end with their process, and only then.
            resumed = self.process() == self.started_at
            assert outcome.sessions_may_resume == resumed, outcome
            anew = any(difference["what"] == "processes" for difference in outcome.not_restored)
            assert anew != resumed, outcome
        self.started_at = self.process()


CASES = {
    "cut_off": {"actions": CUT_OFF},
    "ended": {"actions": ENDED},
    "sidecar": {"actions": CUT_OFF, "sidecar": True},
    "restarted": {"actions": CUT_OFF, "restart": True},
}


@pytest.mark.parametrize("case", ["cut_off", "ended", "sidecar"])
def test_isolating(docker_world: HostWorld, tmp_path: pathlib.Path, case: str) -> None:
    actions = CASES[case]["actions"]
    scenario = Scenario(docker_world, tmp_path, "sidecar" in CASES[case])

    def isolate(guard: Isolator) -> Outcome:
        return guard.isolate(scenario.container, actions)

    for point in itertools.count():
        for again in (True, False):
            died = scenario.killed_at(point, isolate)
            scenario.assert_recorded()
            if again:
                scenario.isolate(actions)
            scenario.release()
        if not died:
            break
    print(point, dict(scenario.points))


@pytest.mark.parametrize("case", ["cut_off", "ended", "sidecar", "restarted"])
def test_releasing(docker_world: HostWorld, tmp_path: pathlib.Path, case: str) -> None:
    actions = CASES[case]["actions"]
    restart = "restart" in CASES[case]
    scenario = Scenario(docker_world, tmp_path, "sidecar" in CASES[case])

    def release(guard: Isolator) -> Outcome:
        return guard.release(scenario.container, restart=restart)

    for point in itertools.count():
        for again in (True, False):
            scenario.isolate(actions)
            died = scenario.killed_at(point, release)
            scenario.assert_recorded()
            if again:
                scenario.isolate(actions, may_be_ended=restart)
            scenario.release()
        if not died:
            break
    print(point, dict(scenario.points))
