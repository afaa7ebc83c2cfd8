# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container of a real engine an alert means, and which it never does."""

from __future__ import annotations

import datetime
import json
import os
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker import resolver as resolver_module
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.lazy import connected_when_asked
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.readings import alerts_from_bytes


def judge(world: DockerWorld, **policy: t.Any) -> Judge:
    """Whatever an alert is about, the containers of the world are what it could isolate."""
    actions = {"actions": [{"type": "pause"}, {"type": "network_disconnect"}]}
    sweep = {"id": "sweep", "scope": "matching_containers", "target_filter": {"container_names": [world.name("*")]}}
    policies = [Policy.from_dict({**actions, **each}) for each in ({"id": "named", **policy}, sweep)]
    return Judge(PolicyEngine(PolicySet.of(policies)), Resolver(world.engine), "docker-1")


def falco(**fields: object) -> Alert:
    message = {
        "hostname": "docker-1",
        "priority": "Critical",
        "rule": "Terminal shell in container",
        "source": "syscall",
        "output_fields": {key.replace("__", "."): value for key, value in fields.items()},
    }
    (alert,) = alerts_from_bytes(json.dumps(message).encode())
    return alert


def outcomes(judge: Judge, alert: Alert) -> list[str]:
    return [verdict.decision.outcome for verdict in judge.decide(alert)]


def test_an_alert_that_names_no_container_of_docker_means_none(docker_world: DockerWorld) -> None:
    container = docker_world.make_container("web")
    judging = judge(docker_world)
    assert outcomes(judging, falco(container__id="host", container__name="host")) == ["no_container"]
    assert outcomes(judging, falco(container__id="101", container__name="pct-mail")) == ["no_container"]
    assert outcomes(judging, falco(container__id=None)) == ["unresolved"]
    assert outcomes(judging, falco()) == ["unresolved"]
    assert outcomes(judging, falco(container__id=None, container__name=container[:12])) == ["unresolved"]
    assert outcomes(judging, falco(container__id="0123456789ab")) == ["gone"]
    assert outcomes(judging, falco(container_id=container[:12])) == ["isolate"]
    assert outcomes(judging, falco(container__name=docker_world.name("web"))) == ["isolate"]
    nothing = Alert.from_dict({"source": "suricata", "rule": "r", "severity": "high", "host": "docker-1"})
    assert outcomes(judging, nothing) == ["isolate"]


def test_a_name_that_was_given_after_the_alert_is_stale(
    docker_world: DockerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "CLOCK_TOLERANCE", datetime.timedelta(0))
    blue, green = docker_world.make_container("web"), docker_world.make_container("web-new")
    alert = Alert.from_dict({**falco(container__name=docker_world.name("web")).to_dict(), "time": now()})
    assert outcomes(judge(docker_world), alert) == ["isolate"]
    docker_world.rename(blue, "web-old")
    docker_world.rename(green, "web")
    assert outcomes(judge(docker_world), alert) == ["stale"]
    later = Alert.from_dict({**alert.to_dict(), "time": now(), "received_at": now()})
    assert outcomes(judge(docker_world), later) == ["isolate"]


def said(**container: t.Any) -> Alert:
    """An alert of a detector that says something else of a container than its id or name, seen this moment."""
    said = {"source": "generic", "rule": "r", "severity": "high", "host": "docker-1", "time": now()}
    return Alert.from_dict({**said, "container": container})


def test_a_process_means_its_container_and_none_that_began_later(
    docker_world: DockerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "CLOCK_TOLERANCE", datetime.timedelta(0))
    container, other = docker_world.make_container("web"), docker_world.make_container("other")
    pid = docker_world.engine.inspect_container(container)["State"]["Pid"]
    alert = said(pid=pid)
    (verdict,) = judge(docker_world).decide(alert)
    assert (verdict.decision.container or {})["id"] == container
    assert outcomes(judge(docker_world), said(pid=os.getpid())) == ["no_container"]
    early = Alert.from_dict({**alert.to_dict(), "time": "2026-01-01T00:00:00Z", "received_at": "2026-01-01T00:00:00Z"})
    assert outcomes(judge(docker_world), early) == ["stale"]
    docker_world.engine.kill(container)
    assert outcomes(judge(docker_world), alert) == ["unresolved"]
    assert docker_world.engine.inspect_container(other)["State"]["Running"]


def test_an_address_means_the_one_container_that_had_it(
    docker_world: DockerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver_module, "CLOCK_TOLERANCE", datetime.timedelta(0))
    network = docker_world.make_network("net")

    def address_of(container: str) -> str:
        networks = docker_world.engine.inspect_container(container)["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    first = docker_world.make_container("first", {network: EndpointSettings()})
    address = address_of(first)
    flow = {"subject": "nothing", "addresses": ["203.0.113.9", address]}
    alert = said(**flow)
    (verdict,) = judge(docker_world).decide(alert)
    assert ((verdict.decision.container or {})["id"], verdict.decision.policy_id) == (first, "named")

    second = docker_world.make_container("second", {network: EndpointSettings()})
    both = said(subject="nothing", addresses=[address, address_of(second)])
    assert outcomes(judge(docker_world), both) == ["ambiguous"]

    docker_world.engine.disconnect(network, first)
    docker_world.engine.disconnect(network, second)
    docker_world.engine.connect(network, second, EndpointSettings(ipv4_address=address))
    assert address_of(second) == address
    assert outcomes(judge(docker_world), alert) == ["stale"]
    (verdict,) = judge(docker_world).decide(said(**flow))
    assert (verdict.decision.container or {})["id"] == second


def test_the_owner_of_a_network_is_excluded_for_its_sidecar_too(docker_world: DockerWorld) -> None:
    owner = docker_world.make_container("vpn")
    sidecar = docker_world.make_container("torrent", network_mode=f"container:{owner}")
    excluding = judge(docker_world, target_filter={"exclude": {"container_names": ["*-vpn"]}})
    (verdict,) = excluding.decide(falco(container__id=sidecar[:12]))
    assert verdict.decision.outcome == "protected"
    assert "-vpn, which policy named excludes" in verdict.decision.reasons[-1]
    assert outcomes(judge(docker_world), falco(container__id=sidecar[:12])) == ["isolate"]


def test_an_engine_is_connected_when_an_alert_needs_it(docker_world: DockerWorld) -> None:
    connected: list[DockerEngine] = []

    def connect() -> DockerEngine:
        connected.append(docker_world.engine)
        return docker_world.engine

    policy = Policy.from_dict({"id": "p", "rules": ["Terminal*"], "action": {"type": "pause"}})
    judging = Judge(PolicyEngine(PolicySet.of([policy])), Resolver(connected_when_asked(connect)), "docker-1")
    elsewhere = Alert.from_dict({**falco(container__id="0123456789ab").to_dict(), "inventory_host": "docker-2"})
    assert outcomes(judging, elsewhere) == ["other_host"]
    assert outcomes(judging, falco(container__id="host")) == ["no_container"]
    assert connected == []
    container = docker_world.make_container("web")
    assert outcomes(judging, falco(container__id=container[:12])) == ["isolate"]
    assert len(connected) == 1
