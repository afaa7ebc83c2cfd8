# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service on each of the engines: Falco's own way of sending, breaches of each kind, an engine that ails."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.service_process import (
    PATH_TOKEN,
    ServiceProcess,
    falco,
)
from ansible_collections.ironpost.container_guard.tests.integration.wire import Wire
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

ALWAYS = ("always", 0)


@pytest.fixture
def service(tmp_path: pathlib.Path, docker_world: HostWorld) -> t.Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path / "service", docker_world.docker_host, action_timeout=3) as process:
        yield process


def networked(world: HostWorld, suffix: str = "target", **options: t.Any) -> tuple[str, str]:
    """A container on a network of its own, and the id of that."""
    network = world.make_network(f"{suffix}-net")
    return world.make_container(suffix, {network: EndpointSettings()}, **options), network


def is_cut_off(world: HostWorld, container: str) -> bool:
    found = world.engine.inspect_container(container)
    return bool(found["State"]["Paused"]) and not found["NetworkSettings"]["Networks"]


def test_the_way_in_which_falco_sends(service: ServiceProcess, docker_world: HostWorld) -> None:
    """Libcurl asks before it sends a body, sends it in chunks, and keeps the connection."""
    containers = [networked(docker_world, name)[0] for name in ("first", "second")]
    head = (
        f"POST /alerts/falco/{PATH_TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        "User-Agent: falcosecurity/falco\r\nAccept: */*\r\nContent-Type: application/json\r\n"
    )
    bodies = [json.dumps(falco(container)).encode() for container in containers]
    with Wire(service.port) as wire:
        wire.send(f"{head}Content-Length: {len(bodies[0])}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert [wire.line(), wire.line()] == ["HTTP/1.1 100 Continue", ""]
        wire.send(bodies[0])
        answers = [wire.answer()]
        wire.send(f"{head}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode())
        assert [wire.line(), wire.line()] == ["HTTP/1.1 100 Continue", ""]
        for part in (bodies[1][:100], bodies[1][100:], b""):
            wire.send(b"%x\r\n%b\r\n" % (len(part), part))
        answers.append(wire.answer())
    assert [(status, answer["accepted"]) for status, answer in answers] == [(202, 1), (202, 1)]
    service.until(lambda: len(service.records("isolated")) == 2, "both are isolated")
    assert all(is_cut_off(docker_world, container) for container in containers)


def test_a_breach_of_each_kind_is_mended(service: ServiceProcess, docker_world: HostWorld) -> None:
    target, network = networked(docker_world, restart_policy=ALWAYS)
    service.post(falco(target))
    service.until(lambda: service.records("isolated"), "it is isolated")

    def undone(what: str, undo: t.Callable[[], object]) -> None:
        known = len(service.records())
        undo()
        service.until(lambda: len(service.records()) > known, f"{what} is on record")
        service.until(lambda: is_cut_off(docker_world, target), f"it is held again after {what}")

    undone("unpause", lambda: docker_world.engine.unpause(target))
    undone("connect", lambda: docker_world.engine.connect(network, target, EndpointSettings()))
    undone("restart policy", lambda: docker_world.engine.set_restart_policy(target, "always", 0))
    assert docker_world.engine.inspect_container(target)["HostConfig"]["RestartPolicy"]["Name"] == "no"
    undone("restart", lambda: docker_world.api.restart(target, timeout=0))
    docker_world.api.remove_container(target, force=True)
    successor = docker_world.make_container("target", {network: EndpointSettings()})
    service.until(lambda: is_cut_off(docker_world, successor), "who took the name is isolated")


def test_an_engine_that_is_down_gets_its_alerts_when_it_is_back(
    faulty_host: Host, docker_world: HostWorld, service: ServiceProcess
) -> None:
    target, _network = networked(docker_world, restart_policy=ALWAYS)
    faulty_host.kill_engine()
    service.until(lambda: service.get("/healthz")[0] == 503, "health says that the engine is down")
    service.post(falco(target))
    faulty_host.start_engine()
    service.until(lambda: service.records("isolated"), "it is isolated")
    assert is_cut_off(docker_world, target)
    service.until(lambda: service.elements()["answered"] == 1, "the alert is answered")
    service.until(lambda: service.get("/healthz")[0] == 200, "health says that all is well")


def test_an_engine_that_is_frozen_gets_its_alerts_when_it_thaws(
    faulty_host: Host, docker_world: HostWorld, service: ServiceProcess
) -> None:
    target, _network = networked(docker_world)
    faulty_host.freeze_engine()
    service.post(falco(target))
    service.until(lambda: service.records(), "an attempt without an answer is on record")
    faulty_host.thaw_engine()
    service.until(lambda: service.elements()["answered"] == 1, "the alert is answered")
    assert is_cut_off(docker_world, target)


def test_what_a_restart_of_the_engine_ended_is_held_when_somebody_starts_it(
    faulty_host: Host, docker_world: HostWorld, service: ServiceProcess
) -> None:
    target, _network = networked(docker_world, restart_policy=ALWAYS)
    service.post(falco(target))
    service.until(lambda: service.records("isolated"), "it is isolated")
    faulty_host.restart_engine()
    service.until(lambda: service.get("/healthz")[0] == 200, "events are followed again")
    assert docker_world.state(target) == "exited"
    docker_world.engine.start(target)
    service.until(lambda: is_cut_off(docker_world, target), "it is held again")
