# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What engines do when the disk is full on which they keep what they have to remember."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN, refused
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.guarded import BOTH, LOOPBACK, Guarded
from ansible_collections.ironpost.container_guard.tests.testbed.small_disk import SmallDisk

NO_SPACE = "no space left on device"


@pytest.fixture
def world(shared_disk: SmallDisk) -> t.Iterator[HostWorld]:
    found = HostWorld(shared_disk.host)
    with found:
        yield found
        shared_disk.heal()


def policy(world: HostWorld, container: str) -> str:
    return str(world.engine.inspect_container(container)["HostConfig"]["RestartPolicy"]["Name"])


@pytest.mark.fact("C.disk.1", "C.disk.2", "C.disk.3")
def test_what_cannot_be_written_down_is_done_and_answered_with_500(world: HostWorld, shared_disk: SmallDisk) -> None:
    network = world.make_network("n")
    container = world.make_container("c", {network: PLAIN}, restart_policy=("always", 0))
    shared_disk.fill()
    world.engine.pause(container)
    assert world.state(container) == "paused"
    with refused(500, NO_SPACE):
        world.engine.disconnect(network, container)
    assert (world.keys(container), world.interfaces(container)) == ({}, LOOPBACK)
    with refused(500, NO_SPACE):
        world.engine.set_restart_policy(container, "no", 0)
    assert policy(world, container) == "always"
    with refused(500, NO_SPACE):
        world.engine.connect(network, container, PLAIN)
    assert world.interfaces(container) > LOOPBACK
    assert list(world.keys(container)) == [world.name("n")]


@pytest.mark.fact("C.disk.4")
def test_what_was_not_written_down_is_forgotten_when_the_engine_restarts(
    world: HostWorld, shared_disk: SmallDisk
) -> None:
    network = world.make_network("n")
    container = world.make_container("c", {network: PLAIN}, restart_policy=("always", 0))
    shared_disk.fill()
    with refused(500, NO_SPACE):
        world.engine.disconnect(network, container)
    assert world.interfaces(container) == LOOPBACK
    shared_disk.host.kill_engine()
    shared_disk.heal()
    shared_disk.host.start_engine()
    world.come_back(container)
    assert world.interfaces(container) == {"lo", "eth0"}


@pytest.mark.fact("C.disk.1", "C.disk.3")
def test_the_guard_cuts_off_and_does_not_say_that_it_holds(
    world: HostWorld, shared_disk: SmallDisk, tmp_path: pathlib.Path
) -> None:
    """With its journal on a disk that works: what is told is what the engine did not write down."""
    guarded = Guarded(world, tmp_path)
    container = world.make_container("c", {world.make_network("n"): PLAIN}, restart_policy=("always", 0))
    before = guarded.seen(container)
    shared_disk.fill()
    outcome = guarded.guard.isolate(container, BOTH)
    assert (world.state(container), world.interfaces(container)) == ("paused", LOOPBACK)
    # An engine that is started anew would start it, with its networks.
    assert outcome.outcome == "failed", outcome
    assert NO_SPACE in str([step.message for step in outcome.steps])
    shared_disk.heal()
    assert guarded.guard.isolate(container, BOTH).outcome == "isolated"
    guarded.release(container)
    assert guarded.seen(container) == before
