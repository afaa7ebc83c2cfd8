# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service on a real engine: alerts are answered, isolations are held, and nothing is lost."""

from __future__ import annotations

import json
import pathlib
import signal
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.service_process import (
    HOST,
    ServiceProcess,
    falco,
    policy_set,
)

PAUSE = {"id": "pause", "target_filter": {"container_names": ["cg-test-*"]}, "actions": [{"type": "pause"}]}


@pytest.fixture
def service(tmp_path: pathlib.Path, docker_world: DockerWorld) -> t.Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path / "service", docker_world.docker_host) as process:
        yield process


def is_paused(world: DockerWorld, container: str) -> bool:
    return bool(world.engine.inspect_container(container)["State"]["Paused"])


def networks(world: DockerWorld, container: str) -> list[str]:
    return sorted(world.engine.inspect_container(container)["NetworkSettings"]["Networks"])


def test_an_alert_cuts_off_the_container_that_it_names_and_only_that(
    service: ServiceProcess, docker_world: DockerWorld
) -> None:
    network = docker_world.make_network("net")
    target, bystander = (
        docker_world.make_container(name, {network: EndpointSettings()}) for name in ("target", "bystander")
    )
    before = docker_world.engine.inspect_container(bystander)

    answer = service.post(falco(target))

    (alert,) = answer["alerts"]
    service.until(lambda: service.records("isolated"), "the container is isolated")
    (record,) = service.records("isolated")
    assert (record["trace_id"], record["policy_id"], record["actor"], record["host"]) == (
        alert["trace_id"],
        "quarantine",
        "service",
        HOST,
    )
    assert is_paused(docker_world, target)
    assert networks(docker_world, target) == []
    assert docker_world.engine.inspect_container(bystander) == before
    service.until(lambda: service.elements()["answered"] == 1, "the alert is answered")
    assert service.elements()["waiting"] == 0


def test_a_container_is_known_before_the_alert_so_that_its_snapshot_is_exact(
    service: ServiceProcess, docker_world: DockerWorld
) -> None:
    target = docker_world.make_container("target", restart_policy=("always", 0))
    service.post(falco(target))
    service.until(lambda: service.records("isolated"), "the container is isolated")
    entry = json.loads((service.directory / f"state/isolations/{target}.json").read_text())
    assert entry["snapshot"]["paused"] is False
    assert entry["snapshot"]["restart_policy"]["name"] == "always"
    assert [endpoint["network"] for endpoint in entry["snapshot"]["endpoints"]] == ["bridge"]


def test_what_no_policy_wants_is_dropped_and_counted(service: ServiceProcess, docker_world: DockerWorld) -> None:
    target = docker_world.make_container("target")
    answer = service.post(falco(target, priority="Notice"))
    assert answer["dropped"] == 1
    assert service.elements()["dropped"] == 1
    assert not is_paused(docker_world, target)


def test_a_stranger_is_let_in_nowhere(service: ServiceProcess) -> None:
    service.post(falco("0" * 64), status=202)
    status, _text = service.get("/alerts")
    assert status == 405


def test_who_sets_an_isolated_container_free_finds_it_held_again(
    service: ServiceProcess, docker_world: DockerWorld
) -> None:
    network = docker_world.make_network("net")
    target = docker_world.make_container("target", {network: EndpointSettings()})
    service.post(falco(target))
    service.until(lambda: service.records("isolated"), "the container is isolated")

    docker_world.engine.unpause(target)
    service.until(lambda: len(service.records("isolated")) == 2, "it is paused again")
    assert is_paused(docker_world, target)
    docker_world.api.connect_container_to_network(target, network)
    service.until(lambda: len(service.records("isolated")) == 3, "it is off the network again")
    assert networks(docker_world, target) == []
    docker_world.api.restart(target, timeout=0)
    service.until(lambda: is_paused(docker_world, target), "it is paused after a restart")


def test_a_policy_says_what_a_breach_leads_to(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    policies = policy_set({**PAUSE, "on_breach": {"action": "repair", "max_repairs": 1, "then": "kill"}})
    target = docker_world.make_container("target")
    with ServiceProcess(tmp_path / "service", docker_world.docker_host, policies) as service:
        service.post(falco(target))
        service.until(lambda: service.records("isolated"), "the container is isolated")
        docker_world.engine.unpause(target)
        service.until(lambda: len(service.records("isolated")) == 2, "it is paused again")
        docker_world.engine.unpause(target)
        service.until(
            lambda: not docker_world.engine.inspect_container(target)["State"]["Running"], "it is ended the second time"
        )


def test_a_breach_that_is_only_to_be_reported_is_told_once(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    target = docker_world.make_container("target")
    policies = policy_set({**PAUSE, "on_breach": "report"})
    with ServiceProcess(tmp_path / "service", docker_world.docker_host, policies) as service:
        service.post(falco(target))
        service.until(lambda: service.records("isolated"), "the container is isolated")
        docker_world.engine.unpause(target)
        service.until(lambda: service.records("failed"), "the breach is on record")
        assert service.records("failed")[0]["error"]["kind"] == "breach"
        assert not is_paused(docker_world, target)
        service.until(lambda: service.get("/healthz")[0] == 503, "health says so")


def test_an_alert_that_was_accepted_is_answered_after_a_kill(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    target = docker_world.make_container("target")
    service = ServiceProcess(tmp_path / "service", docker_world.docker_host)
    with service:
        service.post(falco(target))
        service.stop(signal.SIGKILL)
    with service:
        service.until(lambda: service.records("isolated"), "the container is isolated")
        service.until(lambda: service.elements()["answered"] == 1, "the alert is answered")
    assert is_paused(docker_world, target)


def test_a_changed_policy_set_is_in_force_at_once_and_a_bad_one_is_not(
    service: ServiceProcess, docker_world: DockerWorld
) -> None:
    target = docker_world.make_container("target")
    service.deploy(policy_set({**PAUSE, "rules": ["Nothing of the kind"]}))
    service.send_signal(signal.SIGHUP)
    service.until(lambda: sum("is in force" in line for line in service.lines) == 2, "the new set is in force")
    assert service.post(falco(target))["dropped"] == 1
    service.deploy("{}")
    service.until(lambda: any("STATUS=degraded" in said for said in service.status), "it says that the set is bad")
    status, text = service.get("/healthz")
    assert status == 503
    assert "is not a deployed policy set" in text
    assert service.post(falco(target))["dropped"] == 1


def test_in_mode_audit_it_only_watches(service: ServiceProcess, docker_world: DockerWorld) -> None:
    (service.directory / "mode").write_text("audit\n")
    target = docker_world.make_container("target")
    service.stop()
    service.start()
    service.post(falco(target))
    service.until(lambda: service.records("audit"), "it says what it would have done")
    assert not is_paused(docker_world, target)


def test_it_ends_in_an_orderly_way(service: ServiceProcess) -> None:
    assert service.stop() == 0
    service.until(lambda: any("STOPPING=1" in said for said in service.status), "it says that it stops")


def _elements(service: ServiceProcess) -> dict[str, int]:
    _status, text = service.get("/healthz")
    found: dict[str, int] = json.loads(text)["elements"]
    return found
