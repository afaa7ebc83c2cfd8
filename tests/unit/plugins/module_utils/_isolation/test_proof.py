# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What proves an isolation: never said on thin evidence, and never denied for what leads nowhere."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import NO_RETRY
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import breaches
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.freezer import Process
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import HERE, INNER, OUTSIDE
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth, Unreadable, link

PAUSE, CUT = Action("pause"), Action("network_disconnect")
BOTH = [PAUSE, CUT]
ESCAPED = Process(pid=4711, tid=4711, name="miner", group="/user.slice")


@pytest.fixture
def truth(engine: FakeEngine) -> FakeTruth:
    return FakeTruth(engine)


@pytest.fixture
def isolator(engine: FakeEngine, journal: Journal, truth: FakeTruth) -> Isolator:
    return Isolator(engine, journal, truth, NO_RETRY, settle_timeout=0.2)


@pytest.fixture
def web(engine: FakeEngine) -> str:
    engine.add_network("front", "10.1.0.0/24")
    return engine.add_container("web", networks={"front": EndpointSettings()})


class TestInterfaces:
    """C1: only what leads out of the namespace contradicts."""

    @pytest.mark.parametrize(
        ("name", "kind", "place"),
        [
            ("tun0", "tun", HERE),
            ("docker0", "bridge", HERE),
            ("dummy0", "dummy", HERE),
            ("veth1", "veth", HERE),
            ("vethabc", "veth", INNER),
        ],
    )
    def test_what_leads_nowhere_is_a_warning(
        self, isolator: Isolator, truth: FakeTruth, web: str, name: str, kind: str, place: str
    ) -> None:
        truth.more = [link(name, kind, place)]
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "isolated"
        assert any(f"{name} ({kind})" in warning for warning in outcome.warnings)
        again = isolator.isolate(web, BOTH)
        assert again.outcome == "held"

    @pytest.mark.parametrize(("name", "kind"), [("eth7", "veth"), ("mv0", "macvlan"), ("ens3", "physical")])
    def test_what_leads_out_is_a_contradiction(
        self, isolator: Isolator, truth: FakeTruth, web: str, name: str, kind: str
    ) -> None:
        truth.more = [link(name, kind, OUTSIDE)]
        outcome = isolator.isolate(web, BOTH)
        assert (outcome.outcome, outcome.error and outcome.error["kind"]) == ("unknown", "contradiction")
        assert f"{name} ({kind})" in (outcome.error or {})["message"]

    def test_the_bridge_of_overlay_networks_is_known(
        self, engine: FakeEngine, isolator: Isolator, truth: FakeTruth, web: str
    ) -> None:
        """docker_gwbridge: an interface that inspect of the container does not show."""
        engine.connect(engine.add_network("mesh", "10.9.0.0/24", driver="overlay"), web, EndpointSettings())
        truth.more = [link("eth9")]
        outcome = isolator.isolate(web, [PAUSE, Action("network_disconnect", networks=("front",))])
        assert outcome.outcome == "isolated"
        assert isolator.isolate(web, BOTH).outcome == "unknown", "without an overlay network nothing explains it"

    def test_a_contradiction_does_not_end_the_retries_while_steps_are_left(
        self, engine: FakeEngine, isolator: Isolator, truth: FakeTruth, web: str
    ) -> None:
        truth.more = [link("eth7")]
        engine.fail_next("disconnect", EngineError("not now", status=409))
        engine.before("set_restart_policy", lambda: None)
        outcome = isolator.isolate(web, BOTH)
        assert [step.action for step in outcome.steps].count("disconnect") == 2
        assert outcome.after["networks"] == []


class TestFreezer:
    """C3: the kernel has the last word on what is paused."""

    def test_a_process_outside_the_freezer_is_a_contradiction(
        self, isolator: Isolator, truth: FakeTruth, web: str
    ) -> None:
        truth.escaped = [ESCAPED]
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "unknown"
        assert "process 4711 (miner) in /user.slice" in (outcome.error or {})["message"]

    def test_a_thawed_group_is_a_contradiction(self, isolator: Isolator, truth: FakeTruth, web: str) -> None:
        truth.thawed = True
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "unknown"
        assert "the kernel has not frozen it" in (outcome.error or {})["message"]

    def test_it_is_a_breach_afterwards(
        self, engine: FakeEngine, isolator: Isolator, journal: Journal, truth: FakeTruth, web: str
    ) -> None:
        isolator.isolate(web, BOTH)
        truth.escaped = [ESCAPED]
        entry = journal.load(web)
        assert entry is not None
        found = breaches.inspect(isolator, Resolver(engine), entry)
        assert [breach.kind for breach in found.breaches] == ["contradiction"]

    def test_it_does_not_matter_where_no_pause_is_wanted(self, isolator: Isolator, truth: FakeTruth, web: str) -> None:
        truth.escaped, truth.thawed = [ESCAPED], True
        assert isolator.isolate(web, [CUT]).outcome == "isolated"


class Reticent(FakeEngine):
    """An engine that says less than Docker does, as the Docker-compatible socket of Podman."""

    endpoint_ids = True
    members = True

    def inspect_container(self, container_id: str) -> dict[str, t.Any]:
        found = super().inspect_container(container_id)
        for settings in found["NetworkSettings"]["Networks"].values() if not self.endpoint_ids else ():
            settings["EndpointID"] = ""
        return found

    def inspect_network(self, network_id: str) -> dict[str, t.Any]:
        found = super().inspect_network(network_id)
        return found if self.members else {name: value for name, value in found.items() if name != "Containers"}


class TestThinEvidence:
    """C6: what an engine does not say proves nothing."""

    @pytest.fixture
    def engine(self) -> Reticent:
        return Reticent()

    @pytest.fixture
    def isolator(self, engine: Reticent, journal: Journal) -> Isolator:
        return Isolator(engine, journal, Unreadable(), NO_RETRY, settle_timeout=0.2)

    def test_networks_without_endpoints_are_no_proof(self, engine: Reticent, isolator: Isolator, web: str) -> None:
        """Podman answers every EndpointID with "": nothing was disconnected, and it answers on all its networks."""
        engine.endpoint_ids = False
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "unknown"
        assert "does not say whether it is connected" in (outcome.error or {})["message"]
        assert engine.interfaces(web) != {"lo"}

    def test_networks_without_members_are_no_proof(self, engine: Reticent, isolator: Isolator, web: str) -> None:
        engine.members = False
        outcome = isolator.isolate(web, BOTH)
        assert outcome.outcome == "unknown"
        assert "does not say which containers are on it" in (outcome.error or {})["message"]

    def test_an_engine_that_says_all_is_believed(self, isolator: Isolator, web: str) -> None:
        assert isolator.isolate(web, BOTH).outcome == "isolated"

    def test_the_namespace_is_proof_enough(self, engine: Reticent, journal: Journal, web: str) -> None:
        engine.members = False
        assert Isolator(engine, journal, FakeTruth(engine), NO_RETRY).isolate(web, BOTH).outcome == "isolated"
