# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fake engine against the contract of the real one, and what only the fake can do."""

from __future__ import annotations

import concurrent.futures
import itertools
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import (
    EndpointSettings,
    Engine,
    EngineVersion,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    NotFound,
    NotSupported,
)
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN, EngineContract, World, refused
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine, Lie, traits_of


class FakeWorld(World):
    def __init__(self, version: EngineVersion) -> None:
        self.fake = FakeEngine(version)
        self.engine: Engine = self.fake
        self._subnets = itertools.count(1)
        self._ports = itertools.count(18080)

    def name(self, suffix: str) -> str:
        return f"test-{suffix}"

    def make_network(
        self, suffix: str, *, user_configured: bool = True, ipv6: bool = False, internal: bool = False, name: str = ""
    ) -> str:
        number = next(self._subnets)
        subnets = [f"198.18.{number}.0/24", *([f"fd00:198:18:{number}::/64"] if ipv6 else [])]
        return self.fake.add_network(name or self.name(suffix), subnets if user_configured else None, internal=internal)

    def rename(self, container_id: str, suffix: str) -> None:
        self.fake.rename_container(container_id, self.name(suffix))

    def make_container(
        self,
        suffix: str,
        networks: t.Mapping[str, EndpointSettings] | None = None,
        *,
        state: str = "running",
        network_mode: str | None = None,
        hostname: str = "",
        restart_policy: tuple[str, int] = ("no", 0),
        auto_remove: bool = False,
        published: t.Mapping[str, int | None] | None = None,
        name: str = "",
        mac_address: str = "",
    ) -> str:
        return self.fake.add_container(
            name or self.name(suffix),
            networks=networks,
            state=state,
            network_mode=network_mode,
            hostname=hostname,
            restart_policy=restart_policy,
            auto_remove=auto_remove,
            published=published,
            mac_address=mac_address,
        )

    def remove_network(self, network_id: str) -> None:
        self.fake.remove_network(network_id)

    def come_back(self, container_id: str) -> None:
        self.fake.come_back(container_id)

    def wait_gone(self, container_id: str) -> None:
        with pytest.raises(NotFound):
            self.fake.inspect_container(container_id)

    def interfaces(self, container_id: str) -> set[str]:
        return self.fake.interfaces(container_id)

    def free_host_port(self) -> int:
        return next(self._ports)


ENGINES = (
    EngineVersion(engine="20.10.24", api="1.41"),
    EngineVersion(engine="26.1.5", api="1.45"),
    EngineVersion(engine="28.5.2", api="1.51"),
    EngineVersion(engine="29.5.0", api="1.55"),
)


@pytest.mark.parametrize("version", ENGINES, ids=lambda version: version.engine)
class TestFakeEngine(EngineContract):
    @pytest.fixture
    def world(self, version: EngineVersion) -> World:
        return FakeWorld(version)


def test_the_newest_engine_that_is_not_newer() -> None:
    apis = ("1.24", "1.41", "1.44", "1.45", "1.50", "1.51", "1.52", "1.55", "1.100")
    found = [traits_of(EngineVersion(engine="any", api=api)).version.engine.partition(".")[0] for api in apis]
    assert found == ["20", "20", "20", "26", "26", "28", "29", "29", "29"]


def test_d5_a_failed_connect_on_29_leaves_no_interface() -> None:
    """D5: and the next one is no conflict with what is left."""
    engine = FakeEngine(ENGINES[-1])
    container = engine.add_container("web")
    engine.disconnect("bridge", container)
    engine.lie(Lie.FAILED_CONNECT, container, "bridge")
    with refused(500, "port is already allocated"):
        engine.connect("bridge", container, PLAIN)
    assert engine.interfaces(container) == {"lo"}
    engine.connect("bridge", container, PLAIN)
    assert engine.interfaces(container) == {"lo", "eth0"}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def test_calls_are_recorded_in_order(engine: FakeEngine) -> None:
    container = engine.add_container("web")
    engine.inspect_container(container)
    engine.pause(container)
    engine.set_restart_policy(container, name="no", maximum_retry_count=0)
    assert engine.calls == [
        ("inspect_container", (container,)),
        ("pause", (container,)),
        ("set_restart_policy", (container, "no", 0)),
    ]
    assert engine.changes == engine.calls[1:]


def test_building_the_world_is_no_call(engine: FakeEngine) -> None:
    network = engine.add_network("shop", "198.18.0.0/24")
    engine.add_container("web", networks={network: PLAIN}, state="paused")
    assert engine.calls == []


def test_fail_next_before_the_call(engine: FakeEngine) -> None:
    container = engine.add_container("web")
    engine.fail_next("pause", EngineError("broken", status=500))
    with refused(500, "broken"):
        engine.pause(container)
    assert engine.inspect_container(container)["State"]["Status"] == "running"
    engine.pause(container)


def test_fail_next_after_the_call(engine: FakeEngine) -> None:
    """A9: a request abandoned on client timeout was executed later."""
    container = engine.add_container("web")
    engine.fail_next("pause", EngineTimeout("no answer"), after=True)
    with pytest.raises(EngineTimeout):
        engine.pause(container)
    assert engine.inspect_container(container)["State"]["Status"] == "paused"


def test_fail_next_queues_and_lets_calls_pass(engine: FakeEngine) -> None:
    engine.fail_next("version", None)
    engine.fail_next("version", EngineTimeout("second"))
    engine.version()
    with pytest.raises(EngineTimeout, match="second"):
        engine.version()
    engine.version()


def test_a_misspelt_method_is_an_error_of_the_test(engine: FakeEngine) -> None:
    with pytest.raises(ValueError, match="puase"):
        engine.fail_next("puase", EngineTimeout("never"))
    with pytest.raises(ValueError, match="interfaces"):
        engine.before("interfaces", lambda: None)


def test_before_changes_the_world_in_the_middle(engine: FakeEngine) -> None:
    container = engine.add_container("web")
    engine.fail_next("unpause", EngineTimeout("not for the callback"))
    engine.pause(container)
    engine.before("disconnect", lambda: engine.unpause(container))
    engine.disconnect("bridge", container)
    assert engine.inspect_container(container)["State"]["Status"] == "running"
    assert [method for method, _ in engine.calls] == ["pause", "disconnect", "inspect_container"]


def test_before_may_wait_for_another_thread(engine: FakeEngine) -> None:
    container = engine.add_container("web")

    def race() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(engine.disconnect, "bridge", container).result(timeout=5)

    engine.before("disconnect", race)
    with refused(500, "is not connected"):
        engine.disconnect("bridge", container)


def test_a1_lie_failed_connect(engine: FakeEngine) -> None:
    """A1, without a thief of the port."""
    container = engine.add_container("web")
    engine.disconnect("bridge", container)
    engine.lie(Lie.FAILED_CONNECT, container, "bridge")
    with refused(500, "port is already allocated"):
        engine.connect("bridge", container, PLAIN)
    assert engine.interfaces(container) == {"lo", "eth1"}
    assert "bridge" in engine.inspect_container(container)["NetworkSettings"]["Networks"]
    assert engine.inspect_network("bridge")["Containers"] == {}
    with refused(500, "is not connected"):
        engine.disconnect("bridge", container)


def test_a2_lie_killed_mid_disconnect(engine: FakeEngine) -> None:
    """A2: the same answers while the namespace holds only lo."""
    container = engine.add_container("web")
    engine.lie(Lie.KILLED_MID_DISCONNECT, container, "bridge")
    assert engine.interfaces(container) == {"lo"}
    assert "bridge" in engine.inspect_container(container)["NetworkSettings"]["Networks"]
    assert engine.inspect_network("bridge")["Containers"] == {}
    with refused(500, "is not connected"):
        engine.disconnect("bridge", container)


def test_interfaces_of_a_pid(engine: FakeEngine) -> None:
    container, other = engine.add_container("web"), engine.add_container("other")
    pid = engine.inspect_container(container)["State"]["Pid"]
    assert engine.interfaces_of(pid, container) == {"lo", "eth0"}
    assert engine.interfaces_of(pid, other) is None
    engine.stop(container, 0)
    assert engine.interfaces_of(pid, container) is None
    assert engine.interfaces_of(0, container) is None


def test_ambiguous_prefix(engine: FakeEngine) -> None:
    """C: Ambiguous prefix: 500 "Multiple IDs found"."""
    for last in "01":
        engine.add_container(f"web{last}", container_id="ab" * 31 + f"c{last}")
    with refused(500, "Multiple IDs found"):
        engine.inspect_container("ab" * 6)


def test_b5_a_runtime_that_cannot_freeze(engine: FakeEngine) -> None:
    container = engine.add_container("web", freezes=False)
    for _ in range(2):
        with pytest.raises(NotSupported, match="cannot freeze") as caught:
            engine.pause(container)
        assert caught.value.status == 500
    assert engine.state_of(container) == "running"
    engine.stop(container, 0)
    with refused(409, "is not running"):
        engine.pause(container)


def test_exhausted_subnet(engine: FakeEngine) -> None:
    network = engine.add_network("tiny", "198.18.0.0/30")
    engine.add_container("first", networks={network: PLAIN})
    with refused(500, "no available IPv4 addresses"):
        engine.connect(network, engine.add_container("second"), PLAIN)


def test_a_crash_without_a_restart_policy_ends_it(engine: FakeEngine) -> None:
    container = engine.add_container("web")
    engine.crash(container)
    assert engine.inspect_container(container)["State"]["Status"] == "exited"


def test_a_moved_tag(engine: FakeEngine) -> None:
    """C: When a tag moved, the list shows a sha256 and Config.Image keeps the tag."""
    container = engine.add_container("web", image="nginx:1", listed_image="sha256:abc")
    assert engine.list_containers()[0]["Image"] == "sha256:abc"
    assert engine.inspect_container(container)["Config"]["Image"] == "nginx:1"


def test_threads(engine: FakeEngine) -> None:
    """One of three concurrent pauses wins, the others are 409."""
    container = engine.add_container("web")

    def pause() -> int:
        try:
            engine.pause(container)
        except EngineError as error:
            return error.status or 0
        return 204

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(pause) for _ in range(3)]
    assert sorted(answer.result() for answer in answers) == [204, 409, 409]
