# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service killed with SIGKILL at every step of an answer: the alert is answered, and the container comes back.

Killed are: the spool before and after each transaction, the journal and the log around each operation on files, each
call that changes something before it, while the engine has it and after it, and the receipt. What is left behind is
seen to by the next service, which is killed one step later.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import http.client
import itertools
import os
import pathlib
import signal
import sys
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.database import Database
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.delivery import Deliveries
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service import main
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.service_process import ServiceProcess, falco

FUSE, TRACE = "GUARD_TEST_FUSE", "GUARD_TEST_TRACE"
ENGINE_CALLS = ("pause", "unpause", "disconnect", "connect", "set_restart_policy")
FILE_CALLS = ("fsync", "rename", "replace", "unlink")
CHANGES_OF_THE_SPOOL = ("insert", "note", "end")


class Bomb:
    """Kills its process once it was armed and has lived through so many points."""

    def __init__(self, fuse: int, trace: pathlib.Path) -> None:
        self._fuse = fuse
        self._trace = trace
        self._armed = False
        self._calling = ""
        signal.signal(signal.SIGUSR1, self._arm)

    def plant(self) -> None:
        """Put points around all that changes something."""
        for name in ENGINE_CALLS:
            setattr(DockerEngine, name, self._around(name, getattr(DockerEngine, name), on_engine=True))
        for name in FILE_CALLS:
            setattr(os, name, self._around(name, getattr(os, name)))
        for name in CHANGES_OF_THE_SPOOL:
            setattr(Database, name, self._around(f"spool {name}", getattr(Database, name)))
        transaction = Database.transaction

        @contextlib.contextmanager
        def committed(database: Database) -> t.Iterator[None]:
            with transaction(database):
                yield
            self._point("after", "commit")

        setattr(Database, "transaction", committed)  # noqa: B010 - mypy rejects the assignment
        receipt = Deliveries.receipt

        async def acknowledged(deliveries: Deliveries, *arguments: t.Any) -> None:
            self._point("before", "receipt")
            await receipt(deliveries, *arguments)
            self._point("after", "receipt")

        setattr(Deliveries, "receipt", acknowledged)  # noqa: B010 - as above
        get_response = http.client.HTTPConnection.getresponse

        def answered(connection: http.client.HTTPConnection, *arguments: t.Any, **options: t.Any) -> t.Any:
            if self._calling:
                self._point("during", self._calling)
            return get_response(connection, *arguments, **options)

        setattr(http.client.HTTPConnection, "getresponse", answered)  # noqa: B010 - as above

    def _arm(self, *_arguments: object) -> None:
        self._armed = True

    def _around(self, name: str, call: t.Callable[..., t.Any], on_engine: bool = False) -> t.Callable[..., t.Any]:
        def called(*arguments: t.Any, **options: t.Any) -> t.Any:
            self._point("before", name)
            self._calling = name if on_engine else ""
            try:
                return call(*arguments, **options)
            finally:
                self._calling = ""
                self._point("after", name)

        return called

    def _point(self, moment: str, name: str) -> None:
        if not self._armed:
            return
        if not self._fuse:
            self._trace.write_text(f"{moment} {name}")
            os.kill(os.getpid(), signal.SIGKILL)
        self._fuse -= 1


def run() -> int:
    """The service, with a bomb in it."""
    Bomb(int(os.environ[FUSE]), pathlib.Path(os.environ[TRACE])).plant()
    return main.main()


if __name__ == "__main__":
    sys.exit(run())


def test_whenever_it_is_killed_the_alert_is_answered_and_the_container_comes_back(
    tmp_path: pathlib.Path, docker_world: DockerWorld
) -> None:
    network = docker_world.make_network("net")
    target = docker_world.make_container("target", {network: EndpointSettings(aliases=("db",))})
    before = _seen(docker_world, target)
    trace = tmp_path / "trace"
    met: dict[str, set[str]] = collections.defaultdict(set)
    survived, left, before_that = False, "", ""
    for fuse in itertools.count():
        trace.unlink(missing_ok=True)
        environment = {FUSE: str(fuse), TRACE: str(trace)}
        with ServiceProcess(
            tmp_path / "service", docker_world.docker_host, env=environment, module=__name__
        ) as service:
            if left:
                service.until(functools.partial(_answered, service, left), f"answered, killed {before_that}")
                assert _is_cut_off(docker_world, target)
            _settle(service, docker_world, target)
            assert _seen(docker_world, target) == before
            service.send_signal(signal.SIGUSR1)
            rule = f"shell {fuse}"
            left = rule if service.try_post(falco(target, rule=rule)) else ""
            survived = service.outlives(functools.partial(_answered, service, rule))
        if survived:
            break
        before_that = trace.read_text()
        moment, _blank, what = before_that.partition(" ")
        met[what].add(moment)
    assert {"pause", "disconnect", "fsync", "spool insert", "commit", "receipt"} <= set(met)
    assert met["pause"] == {"before", "during", "after"}


def _settle(service: ServiceProcess, world: DockerWorld, container: str) -> None:
    """Give the container back, whatever was left."""
    journal = Journal(str(service.directory / "state"))
    released = Isolator(world.engine, journal).release(container)
    assert released.ok, released.error
    assert journal.load(container) is None


def _answered(service: ServiceProcess, rule: str) -> bool:
    """Whether an answer to the alert is on record, and nothing waits."""
    records = [one for one in service.records() if one["rule"] == rule]
    return bool(records) and records[-1]["outcome"] in ("isolated", "held") and service.elements()["waiting"] == 0


def _is_cut_off(world: DockerWorld, container: str) -> bool:
    found = world.engine.inspect_container(container)
    return bool(found["State"]["Paused"]) and not found["NetworkSettings"]["Networks"]


def _seen(world: DockerWorld, container: str) -> t.Any:
    found = world.engine.inspect_container(container)
    networks = {
        name: {key: value for key, value in endpoint.items() if key not in ("EndpointID", "MacAddress", "IPAddress")}
        for name, endpoint in found["NetworkSettings"]["Networks"].items()
    }
    return found["State"]["Status"], found["State"]["StartedAt"], networks


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
