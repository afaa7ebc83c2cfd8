# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guard killed with SIGKILL at every step: whatever it leaves, a second isolate and a release lead out of.

A child process does the real work, and dies before a call to the engine or to the file system that changes something,
after it, or once the engine has the request and nobody waits for the answer.
"""

from __future__ import annotations

import collections
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
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import HELD, ISOLATED, RELEASED
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld

ENGINE_CALLS = ("pause", "unpause", "stop", "kill", "start", "set_restart_policy", "disconnect", "connect")
FILE_CALLS = ("fsync", "rename", "replace", "unlink")
BEFORE, DURING, AFTER = "before", "during", "after"

CUT_OFF = (Action("pause"), Action("network_disconnect"))
ENDED = (*CUT_OFF, Action("kill"))

Work = t.Callable[[Isolator], Outcome]


class Case(t.NamedTuple):
    """What is isolated, and how.

    Attributes:
        name: of the case.
        actions: of the isolation.
        restart: whether the release that is killed ends the processes.
        sidecar: isolate a container that uses the network of another one.
    """

    name: str
    actions: tuple[Action, ...] = CUT_OFF
    restart: bool = False
    sidecar: bool = False

    def __str__(self) -> str:
        return self.name


CUT_OFF_CASE = Case("cut off")
ENDED_CASE = Case("ended", actions=ENDED)
RESTARTED_CASE = Case("restarted", restart=True)
SIDECAR_CASE = Case("sidecar", sidecar=True)


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

    def __init__(self, world: HostWorld, directory: pathlib.Path, case: Case) -> None:
        self.world = world
        self.case = case
        self.state_dir = str(directory / "state")
        self.trace = directory / "trace"
        self.journal = Journal(self.state_dir, lock_timeout=5)
        self.guard = Isolator(world.engine, self.journal)
        static = world.make_network("static", internal=True)
        prefix = world.engine.inspect_network(static)["IPAM"]["Config"][0]["Subnet"].rpartition(".")[0]
        networks = {
            static: EndpointSettings(ipv4_address=f"{prefix}.77", aliases=("database", "db")),
            world.make_network("dynamic", internal=True): EndpointSettings(aliases=("backend",)),
        }
        self.networked = self.container = world.make_container("c", networks, restart_policy=("on-failure", 7))
        if case.sidecar:
            self.container = world.make_container(
                "sidecar", network_mode=f"container:{self.networked}", restart_policy=("on-failure", 7)
            )
        self.started_at = self.process()
        self.before = self.seen()
        self.met: dict[str, set[str]] = collections.defaultdict(set)

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

    def killed_at(self, point: int, work: Work) -> str:
        """Let a child work until it is killed at that point; the moment, or empty where it lived to the end."""
        self.trace.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            self._die(point, work)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        if not status:
            return ""
        moment, name = self.trace.read_text().split()
        self.met[name].add(moment)
        print(f"point {point}: killed {moment} {name}")  # shown where the test fails
        return moment

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

    def assert_was_killed_around(self, *names: str) -> None:
        """The guard made those calls, and each was the last one of a child."""
        for name in names:
            moments = {BEFORE, DURING, AFTER} if name in ENGINE_CALLS else {BEFORE, AFTER}
            assert self.met[name] == moments, name

    def isolate(self) -> None:
        if self.seen() == self.before:
            self.started_at = self.process()  # the release that was killed was done, and this is a new isolation
        outcome = self.guard.isolate(self.container, self.case.actions)
        assert outcome.outcome in (ISOLATED, HELD), outcome
        seen = self.seen()
        for container in seen.values():
            assert (container["networks"], container["restart_policy"]["Name"]) == ({}, "no")
        status = seen[self.container]["state"]["Status"]
        if Action("kill") in self.case.actions:
            assert status == "exited"
        else:
            # A release that restarts may have ended it and not lived to start it. The isolation itself does not end it.
            assert status == "paused" or (self.case.restart and status == "exited")
            assert "kill" not in [step.action for step in outcome.steps]
        assert {entry.phase for entry in self.journal.entries()[0]} == {"isolated"}

    def release(self) -> None:
        outcome = self.guard.release(self.container)
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


def again_after(moment: str, point: int) -> bool:
    """Whether to isolate again before the release.

    What is true after one call is so before the next one: each such state is met twice, and gets both ways out.
    """
    return moment == AFTER or (moment == DURING and point % 2 == 0)


@pytest.mark.parametrize("case", [CUT_OFF_CASE, ENDED_CASE, SIDECAR_CASE], ids=str)
def test_isolating_is_killed(docker_world: HostWorld, tmp_path: pathlib.Path, case: Case) -> None:
    scenario = Scenario(docker_world, tmp_path, case)
    for point in itertools.count():
        moment = scenario.killed_at(point, lambda guard: guard.isolate(scenario.container, case.actions))
        scenario.assert_recorded()
        if again_after(moment, point):
            scenario.isolate()
        scenario.release()
        if not moment:
            break
    scenario.assert_was_killed_around("fsync", "rename", "disconnect", "set_restart_policy", "pause")


@pytest.mark.parametrize("case", [CUT_OFF_CASE, RESTARTED_CASE, SIDECAR_CASE], ids=str)
def test_releasing_is_killed(docker_world: HostWorld, tmp_path: pathlib.Path, case: Case) -> None:
    scenario = Scenario(docker_world, tmp_path, case)
    for point in itertools.count():
        scenario.isolate()
        moment = scenario.killed_at(point, lambda guard: guard.release(scenario.container, restart=case.restart))
        scenario.assert_recorded()
        if again_after(moment, point):
            scenario.isolate()
        scenario.release()
        if not moment:
            break
    last = ("kill", "start") if case.restart else ("unpause",)
    scenario.assert_was_killed_around("fsync", "rename", "unlink", "connect", "set_restart_policy", *last)
