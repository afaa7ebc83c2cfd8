# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures on real Docker Engines. The absence of one is an error, not a reason to skip: see make setup, make testbed.

Tests of modules that begin as in EVERY_ENGINE, and those that hurt an engine, run once on each engine of the testbed.
The others run on the engine of this machine.
"""

from __future__ import annotations

import collections
import fcntl
import gc
import os
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host
from ansible_collections.ironpost.container_guard.tests.testbed.podman import PodmanHost
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import RECIPES, recipes
from ansible_collections.ironpost.container_guard.tests.testbed.small_disk import SmallDisk
from ansible_collections.ironpost.container_guard.tests.testbed.swarm import Swarm
from ansible_collections.ironpost.container_guard.tests.testbed.vm import VirtualMachine

pytest.register_assert_rewrite("ansible_collections.ironpost.container_guard.tests.engine_contract")

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

EVERY_ENGINE = (
    *("test_engine_contract", "test_evidence", "test_inventory", "test_isolation", "test_service_engines"),
    "test_testbed",
)
PRIVATE = {"faulty_host", "shared_disk", "small_disk", "swarm"}
"""Fixtures of hosts for this run alone."""
ENGINES = tuple(recipe.engine for recipe in RECIPES)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        action="append",
        choices=ENGINES,
        help="run the tests that are for every engine of the testbed on this one only; may be given several times",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    on_every = metafunc.module.__name__.rpartition(".")[2].startswith(EVERY_ENGINE)
    if "testbed_engine" in metafunc.fixturenames and (on_every or not PRIVATE.isdisjoint(metafunc.fixturenames)):
        engines = metafunc.config.getoption("engine") or ENGINES
        # What the guard writes to a disk is the same on each.
        metafunc.parametrize("testbed_engine", engines[-1:] if "small_disk" in metafunc.fixturenames else engines)


class Testbed:
    """The hosts that this run uses, started when a test first needs them."""

    __test__ = False  # pytest takes every class called Test... for a test

    def __init__(self) -> None:
        self._shared: dict[str, Host] = {}
        self._private: dict[str, Host] = {}
        self._swarms: dict[str, Swarm] = {}

    def shared(self, engine: str) -> Host:
        """The host of that engine that all test runs share, and that is to stay healthy."""
        if engine not in self._shared:
            (self._shared[engine],) = fleet.up(recipes([engine]))
        return self._shared[engine]

    def private(self, engine: str) -> Host:
        """A host of that engine for this run alone, which tests may hurt."""
        if engine not in self._private:
            self._private[engine] = fleet.private_host(self.shared(engine).recipe)
        self._private[engine].start()
        return self._private[engine]

    def swarm(self, engine: str) -> Swarm:
        """A swarm of that engine for this run alone."""
        if engine not in self._swarms:
            self._swarms[engine] = Swarm(self.shared(engine).recipe)
            self._swarms[engine].start()
        return self._swarms[engine]

    def close(self) -> None:
        for swarm in self._swarms.values():
            swarm.stop()
        for host in self._private.values():
            host.stop()
        for host in [*self._private.values(), *self._shared.values()]:
            host.close()


@pytest.fixture(scope="session")
def testbed() -> t.Iterator[Testbed]:
    found = Testbed()
    yield found
    found.close()


@pytest.fixture(scope="module")
def usual_places() -> t.Iterator[None]:
    """What the guard has on a host unless it is told otherwise: C(/var/lib/container-guard) and the like.

    The hosts are shared by all processes that run tests. So one file of tests at a time uses these places there.
    """
    with open(__file__, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def virtual_machine() -> t.Iterator[VirtualMachine]:
    """A virtual machine for one file of tests, started when a test first needs it, which tests may reboot.

    Not for all of the run: it takes a quarter of a core also while nothing is asked of it.
    """
    machine = fleet.virtual_machine()
    machine.start()
    yield machine
    machine.stop()


@pytest.fixture(scope="module")
def podman_host() -> t.Iterator[PodmanHost]:
    """A host with Podman for one file of tests, started when a test first needs it."""
    host = fleet.podman_host()
    try:
        host.start()
        yield host
    finally:
        host.stop()


@pytest.fixture
def testbed_engine() -> str:
    """The engine of the testbed that a test runs on; empty for the engine of this machine."""
    return ""


@pytest.fixture
def faulty_host(testbed: Testbed, testbed_engine: str) -> t.Iterator[Host]:
    """A test host whose engine may be killed, frozen and restarted. It is a healthy one again afterwards."""
    host = testbed.private(testbed_engine)
    yield host
    gc.collect()  # see pytest_itemcollected
    host.heal()


@pytest.fixture
def small_disk(testbed: Testbed, testbed_engine: str) -> t.Iterator[SmallDisk]:
    """A test host whose disk may be filled and made read-only. It is stopped afterwards."""
    host = testbed.private(testbed_engine)
    try:
        yield SmallDisk(host)
    finally:
        gc.collect()  # see pytest_itemcollected
        host.stop()


@pytest.fixture
def shared_disk(testbed: Testbed, testbed_engine: str) -> t.Iterator[SmallDisk]:
    """The same, where the engine keeps on that disk what it has to remember."""
    host = testbed.private(testbed_engine)
    try:
        yield SmallDisk(host, shared=True)
    finally:
        gc.collect()  # see pytest_itemcollected
        host.stop()


@pytest.fixture
def swarm(testbed: Testbed, testbed_engine: str) -> Swarm:
    """Two test hosts that are a swarm. What a test makes there, it removes."""
    return testbed.swarm(testbed_engine)


@pytest.fixture
def docker_world(request: pytest.FixtureRequest, testbed_engine: str) -> t.Iterator[DockerWorld]:
    """A corner of an engine for one test, removed afterwards whatever happened.

    The engine is that of faulty_host where the test asks for it, too. On the testbed it is a HostWorld.
    """
    from ansible_collections.ironpost.container_guard.tests.integration.docker_world import (
        DEFAULT_DOCKER_HOST,
        DockerWorld,
        HostWorld,
    )

    if not testbed_engine:
        with DockerWorld(os.environ.get("DOCKER_HOST") or DEFAULT_DOCKER_HOST) as world:
            yield world
    elif "faulty_host" in request.fixturenames:
        host: Host = request.getfixturevalue("faulty_host")
        with HostWorld(host) as world:
            yield world
            host.heal()
    else:
        testbed: Testbed = request.getfixturevalue("testbed")
        with HostWorld(testbed.shared(testbed_engine)) as world:
            yield world


# --- how tests run, and the table of engines --------------------------------------------------------------------------


def pytest_itemcollected(item: pytest.Item) -> None:
    if not PRIVATE.isdisjoint(getattr(item, "fixturenames", ())):
        # The SDK leaves its socket open where it cannot connect, as to an engine that was killed.
        item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
    call = getattr(item, "callspec", None)
    engine = call and call.params.get("testbed_engine")
    if engine:
        others = "-".join(part for part in call.id.split("-") if part != engine)
        case = item.nodeid.partition("[")[0].rpartition("/")[2] + (f"[{others}]" if others else "")
        item.user_properties += [("engine", engine), ("case", case)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say for each case how it went on each engine."""
    cells: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for outcome, word in (("passed", "ok"), ("failed", "FAILED"), ("error", "FAILED")):
        for report in terminalreporter.stats.get(outcome, ()):
            properties = dict(getattr(report, "user_properties", ()))  # a module that cannot be collected has none
            if "engine" in properties:
                cells[properties["case"]][properties["engine"]] = word
    if not cells:
        return
    terminalreporter.section("engines")
    width = max(map(len, cells))
    columns = [engine for engine in ENGINES if any(engine in row for row in cells.values())]
    terminalreporter.write_line(f"{'':{width}}  " + "  ".join(f"{engine:6}" for engine in columns).rstrip())
    for case, row in cells.items():
        line = f"{case:{width}}  " + "  ".join(f"{row.get(engine, '-'):6}" for engine in columns).rstrip()
        terminalreporter.write_line(line, red="FAILED" in row.values())
