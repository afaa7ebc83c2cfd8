# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of a release is refused beforehand, with its cause."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import (
    EndpointSettings,
    EngineVersion,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import NO_RETRY
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import Hold
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.host_ports import (
    Listener,
    listeners,
    process_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

BOTH = [Action("pause"), Action("network_disconnect")]


@pytest.fixture
def truth(engine: FakeEngine) -> FakeTruth:
    return FakeTruth(engine)


@pytest.fixture
def isolator(engine: FakeEngine, journal: Journal, truth: FakeTruth) -> Isolator:
    return Isolator(engine, journal, truth, NO_RETRY, settle_timeout=0.2)


def refusal(isolator: Isolator, engine: FakeEngine, container_id: str) -> str:
    """Why a release is refused, which touches nothing."""
    before = len(engine.changes)
    outcome = isolator.release(container_id)
    assert outcome.outcome == "refused", outcome
    assert len(engine.changes) == before
    assert outcome.error is not None
    return str(outcome.error["message"])


class TestPorts:
    @pytest.mark.parametrize("address", ["", "127.0.0.1"])
    def test_a_host_port_that_a_process_of_the_host_holds(
        self, engine: FakeEngine, isolator: Isolator, truth: FakeTruth, address: str
    ) -> None:
        container = engine.add_container("web", published={"80/tcp": 8080})
        isolator.isolate(container, BOTH)
        truth.listening = [Listener(address, "8080/tcp", "1")]
        assert "host port 8080/tcp is taken by a process of the host" in refusal(isolator, engine, container)
        truth.listening = [Listener("", "8080/udp", "1"), Listener("", "8081/tcp", "2")]
        assert isolator.release(container).outcome == "released"

    def test_its_own_port_on_a_network_that_it_kept_is_no_obstacle(
        self, engine: FakeEngine, isolator: Isolator, truth: FakeTruth
    ) -> None:
        engine.add_network("front", "10.1.0.0/24")
        engine.add_network("back", "10.2.0.0/24")
        both = {"front": EndpointSettings(), "back": EndpointSettings()}
        container = engine.add_container("web", networks=both, published={"80/tcp": 8080})
        isolator.isolate(container, [Action("network_disconnect", networks=("front",))])
        truth.listening = [Listener("", "8080/tcp", "1")]
        assert isolator.release(container).outcome == "released"

    def test_listeners_are_those_where_the_engine_is(self, tmp_path: object) -> None:
        """The peer of the socket is this process, in place of an engine."""
        path = os.path.join(str(tmp_path), "docker.sock")
        with socket.socket(socket.AF_UNIX) as engine, socket.socket() as tcp, socket.socket(socket.AF_INET6) as tcp6:
            engine.bind(path)
            engine.listen()
            tcp.bind(("127.0.0.1", 0))
            tcp.listen()
            tcp6.bind(("::", 0))
            tcp6.listen()
            accepting = threading.Thread(target=lambda: engine.accept()[0].close())
            accepting.start()
            found = listeners(f"unix://{path}")
            accepting.join()
            assert found is not None
            by_port = {listener.port: listener for listener in found}
            one, all_of_them = by_port[f"{tcp.getsockname()[1]}/tcp"], by_port[f"{tcp6.getsockname()[1]}/tcp"]
            assert (one.address, all_of_them.address) == ("127.0.0.1", "")
            assert process_of(one).endswith(f", pid {os.getpid()}")

    @pytest.mark.parametrize("docker_host", ["tcp://10.0.0.1:2375", "unix:///nowhere/docker.sock", ""])
    def test_of_another_host_nothing_is_known(self, docker_host: str) -> None:
        assert listeners(docker_host) is None


class TestAddresses:
    def test_an_address_outside_the_subnet_of_a_network_that_was_made_anew(
        self, engine: FakeEngine, isolator: Isolator
    ) -> None:
        network = engine.add_network("front", "10.1.0.0/24")
        settings = EndpointSettings(ipv4_address="10.1.0.50")
        container = engine.add_container("web", networks={"front": settings})
        isolator.isolate(container, BOTH)
        engine.remove_network(network)
        engine.add_network("front", "10.7.0.0/24")
        assert "address 10.1.0.50 is in no subnet of network front" in refusal(isolator, engine, container)

    def test_addresses_of_ipv6_are_the_same_in_any_spelling(self, engine: FakeEngine, isolator: Isolator) -> None:
        engine.add_network("front", ("10.1.0.0/24", "fd00::/64"))
        settings = EndpointSettings(ipv6_address="fd00:0:0:0::0050")
        container = engine.add_container("web", networks={"front": settings})
        isolator.isolate(container, BOTH)
        engine.add_container("squatter", networks={"front": EndpointSettings(ipv6_address="fd00::50")})
        assert "address fd00::50 on network front is taken by container squatter" in refusal(
            isolator, engine, container
        )


class TestSharers:
    """D6: released is not said of one that is left without a network."""

    @pytest.fixture
    def owner(self, engine: FakeEngine) -> str:
        return engine.add_container("owner")

    @pytest.fixture
    def sidecar(self, engine: FakeEngine, owner: str, isolator: Isolator) -> str:
        container = engine.add_container("sidecar", network_mode=f"container:{owner}")
        assert isolator.isolate(container, BOTH).ok
        return container

    def test_whose_owner_was_started_anew(
        self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str
    ) -> None:
        engine.kill(owner)
        engine.start(owner)
        message = refusal(isolator, engine, sidecar)
        assert "container owner, whose network it uses, was started anew meanwhile" in message
        assert isolator.release(sidecar, restart=True).outcome == "released"

    def test_whose_owner_is_gone(self, engine: FakeEngine, isolator: Isolator, owner: str, sidecar: str) -> None:
        engine.remove_container(owner)
        assert "no longer exists, and it is left with none" in refusal(isolator, engine, sidecar)
        outcome = isolator.release(sidecar, force=True)
        assert outcome.outcome == "released"
        assert "released all the same" in outcome.warnings[0]

    def test_whose_owner_runs_as_before(self, isolator: Isolator, sidecar: str) -> None:
        assert isolator.release(sidecar).outcome == "released"


class TestSwarm:
    def test_an_overlay_network_that_the_node_forgot_is_connected_by_its_name(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """D3: a node forgets an overlay network with its last container there, and learns of it again by its name."""
        network = engine.add_network("mesh", "10.9.0.0/24", driver="overlay")
        container = engine.add_container("task", networks={"mesh": EndpointSettings()})
        inspect_network, connect = engine.inspect_network, engine.connect

        def as_of_swarm(network_id: str) -> dict[str, object]:
            return {**inspect_network(network_id), "Scope": "swarm"}

        monkeypatch.setattr(engine, "inspect_network", as_of_swarm)
        isolator.isolate(container, BOTH)
        engine.remove_network(network)

        def learns(network_id: str, container_id: str, settings: EndpointSettings) -> None:
            if network_id == "mesh":
                engine.add_network("mesh", "10.9.0.0/24", driver="overlay", network_id=network)
            connect(network_id, container_id, settings)

        monkeypatch.setattr(engine, "connect", learns)
        assert isolator.release(container).outcome == "released"
        assert list(engine.inspect_container(container)["NetworkSettings"]["Networks"]) == ["mesh"]


class TestMacAddress:
    """D5: lost silently on Docker 29, which would take it back in connect."""

    def test_is_given_back_where_the_engine_takes_one(self, journal: Journal) -> None:
        engine = FakeEngine(EngineVersion(engine="29.5.0", api="1.55"))
        network = engine.add_network("front", "10.1.0.0/24")
        settings = EndpointSettings(mac_address="02:42:ac:11:00:99")
        container = engine.add_container("web", networks={"front": settings})
        isolator = Isolator(engine, journal, FakeTruth(engine), NO_RETRY, settle_timeout=0.2)
        before = engine.inspect_container(container)["NetworkSettings"]["Networks"]["front"]["MacAddress"]
        assert isolator.isolate(container, BOTH).ok
        outcome = isolator.release(container)
        after = engine.inspect_container(container)["NetworkSettings"]["Networks"]["front"]["MacAddress"]
        assert (outcome.outcome, outcome.not_restored, after) == ("released", (), before)
        assert network

    def test_of_a_configured_one_the_loss_is_told_where_it_does_not(self, journal: Journal) -> None:
        engine = FakeEngine(EngineVersion(engine="28.5.2", api="1.51"))
        engine.add_network("front", "10.1.0.0/24")
        settings = EndpointSettings(mac_address="02:42:ac:11:00:99")
        container = engine.add_container("web", networks={"front": settings})
        isolator = Isolator(engine, journal, FakeTruth(engine), NO_RETRY, settle_timeout=0.2)
        assert isolator.isolate(container, BOTH).ok
        outcome = isolator.release(container)
        assert [difference["what"] for difference in outcome.not_restored] == ["mac_address on network front"]


class TestPruned:
    """D4: a prune takes what is left of an isolated container."""

    @pytest.fixture
    def network(self, engine: FakeEngine) -> str:
        return engine.add_network("front", "10.1.0.0/24", labels={"team": "shop"}, driver_opts={"mtu": "1400"})

    @pytest.fixture
    def container(self, engine: FakeEngine, network: str) -> str:
        return engine.add_container("web", networks={"front": EndpointSettings(ipv4_address="10.1.0.50")})

    def test_the_last_member_of_a_network_is_warned_of(
        self, engine: FakeEngine, isolator: Isolator, container: str
    ) -> None:
        outcome = isolator.isolate(container, BOTH)
        assert any("the last one on network front, which docker network prune" in text for text in outcome.warnings)

    def test_one_of_several_is_not(self, engine: FakeEngine, isolator: Isolator, container: str) -> None:
        engine.add_container("other", networks={"front": EndpointSettings()})
        assert not any("prune" in warning for warning in isolator.isolate(container, BOTH).warnings)

    @pytest.mark.parametrize("action", ["stop", "kill"])
    def test_one_that_is_ended_is_warned_of(
        self, engine: FakeEngine, isolator: Isolator, container: str, action: str
    ) -> None:
        outcome = isolator.isolate(container, [Action(action)])
        assert any(warning.startswith("docker container prune removes it") for warning in outcome.warnings)

    def test_a_network_that_is_gone_is_made_anew_where_that_is_asked_for(
        self, engine: FakeEngine, isolator: Isolator, network: str, container: str
    ) -> None:
        before = engine.inspect_network(network)
        isolator.isolate(container, BOTH)
        engine.remove_network(network)
        assert "network front no longer exists; recreate_networks makes it anew" in refusal(isolator, engine, container)
        planned = isolator.release(container, check=True, recreate_networks=True)
        outcome = isolator.release(container, recreate_networks=True)
        assert outcome.outcome == "released"
        done = [(step.action, step.detail) for step in outcome.steps]
        assert done == [(step.action, step.detail) for step in planned.steps]
        assert done[0] == ("create_network", "front")
        after = engine.inspect_network("front")
        assert {name: after[name] for name in ("IPAM", "Options", "Labels", "Driver", "Internal")} == {
            name: before[name] for name in ("IPAM", "Options", "Labels", "Driver", "Internal")
        }
        key = engine.inspect_container(container)["NetworkSettings"]["Networks"]["front"]
        assert key["IPAddress"] == "10.1.0.50"
        assert [difference["what"] for difference in outcome.not_restored] == ["network front"]


class TestNotSupported:
    """B5: what cannot work for good on this engine is told apart, so that a policy can take its fallback."""

    def test_a_pause_without_a_freezer(self, engine: FakeEngine, isolator: Isolator) -> None:
        container = engine.add_container("rootless", freezes=False)
        outcome = isolator.isolate(container, BOTH)
        assert (outcome.outcome, outcome.unsupported) == ("failed", ("pause",))
        assert outcome.after["networks"] == [], "what can be done is done"
        claim = isolator.claim([Action("kill")])
        outcome = isolator.walk(container, Hold((claim,), without=outcome.unsupported)).run()
        assert (outcome.outcome, outcome.unsupported) == ("isolated", ())
        assert engine.state_of(container) == "exited"
        assert engine.inspect_container(container)["NetworkSettings"]["Networks"] == {}
        assert isolator.release(container).outcome == "released"
