# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guard relies on in a Docker Engine: the same tests for the fake and for real ones.

Each test names the row of what was measured that it checks: a finding of section A by number, or a fact of section C.
Engines are 20.10, 26.1, 28.5 and 29, which the fake imitates. Where they differ, the test says what each of them
answers. What it says of 29 was measured elsewhere, with API 1.55: there is no package of it yet.
"""

from __future__ import annotations

import abc
import contextlib
import io
import json
import tarfile
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import (
    EndpointSettings,
    Engine,
    EventStream,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound

UNKNOWN_ID = "0" * 64
PLAIN = EndpointSettings()


class World(abc.ABC):
    """Makes what a test needs on one engine, under names and subnets of its own, and removes it all."""

    engine: Engine

    @abc.abstractmethod
    def name(self, suffix: str) -> str:
        """The full name of a container or network of that suffix."""

    @abc.abstractmethod
    def make_network(
        self, suffix: str, *, user_configured: bool = True, ipv6: bool = False, internal: bool = False, name: str = ""
    ) -> str:
        """Create a network, with a subnet of our own or one that the engine chooses, and return its id."""

    @abc.abstractmethod
    def rename(self, container_id: str, suffix: str) -> None:
        """Give a container the name of another suffix."""

    @abc.abstractmethod
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
        """Create a container on networks given by id, bring it into a state and return its id.

        The state C(restarting) is one with time to act in; come_back() ends it. The MAC address is asked for the
        container, and not for one of its networks.
        """

    @abc.abstractmethod
    def remove_network(self, network_id: str) -> None:
        """Remove a network."""

    @abc.abstractmethod
    def come_back(self, container_id: str) -> None:
        """Wait until a restarting container was started again."""

    @abc.abstractmethod
    def wait_gone(self, container_id: str) -> None:
        """Wait until the engine does not know the container."""

    @abc.abstractmethod
    def interfaces(self, container_id: str) -> set[str]:
        """Interfaces in the network namespace of a container with a process."""

    @abc.abstractmethod
    def free_host_port(self) -> int:
        """A TCP port of the host that nothing uses."""

    def address(self, network_id: str, host: int) -> str:
        """An IPv4 address in a network."""
        subnet = self.engine.inspect_network(network_id)["IPAM"]["Config"][0]["Subnet"]
        return f"{subnet.split('/')[0].rpartition('.')[0]}.{host}"

    def state(self, container_id: str) -> str:
        return str(self.engine.inspect_container(container_id)["State"]["Status"])

    def keys(self, container_id: str) -> dict[str, dict[str, t.Any]]:
        """What inspect says of its networks, by name."""
        return dict(self.engine.inspect_container(container_id)["NetworkSettings"]["Networks"])

    def key(self, container_id: str, network_id: str) -> dict[str, t.Any]:
        return self.keys(container_id)[self.engine.inspect_network(network_id)["Name"]]

    def is_member(self, container_id: str, network_id: str) -> bool:
        return container_id in self.engine.inspect_network(network_id)["Containers"]

    def engine_from(self, major: int) -> bool:
        """Whether the engine is of that major version or newer."""
        return int(self.engine.version().engine.partition(".")[0]) >= major

    def restorable(self, keys: dict[str, dict[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
        """What inspect says again after a reconnect: all but the id of the endpoint.

        From 28 on the MAC address is made at random, where before it was made from the IPv4 address.
        """
        lost = {"EndpointID": "", "MacAddress": ""} if self.engine_from(28) else {"EndpointID": ""}
        return {name: {**key, **lost} for name, key in keys.items()}


def settings_in(key: dict[str, t.Any]) -> EndpointSettings:
    """What the container asked of the network, as inspect shows it."""
    ipam = key["IPAMConfig"] or {}
    return EndpointSettings(
        ipv4_address=ipam.get("IPv4Address", ""),
        ipv6_address=ipam.get("IPv6Address", ""),
        link_local_ips=tuple(ipam.get("LinkLocalIPs") or ()),
        aliases=tuple(key["Aliases"] or ()),
        links=tuple(key["Links"] or ()),
        driver_opts=key["DriverOpts"] or {},
    )


def refused(status: int, text: str) -> pytest.RaisesExc[EngineError]:
    """Expect an answer of the engine."""
    return pytest.RaisesExc(EngineError, match=text, check=lambda error: error.status == status)


class EngineContract:
    """Derive from it and give the fixture."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    # --- pause --------------------------------------------------------------------------------------------------------

    @pytest.mark.fact("C.pause.1")
    def test_c_pause_and_unpause_of_a_running_container(self, world: World) -> None:
        """C: paused counts as running and is listed as paused."""
        container = world.make_container("c")
        world.engine.pause(container)
        state = world.engine.inspect_container(container)["State"]
        assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
        assert [c["State"] for c in world.engine.list_containers() if c["Id"] == container] == ["paused"]
        world.engine.unpause(container)
        assert world.state(container) == "running"

    @pytest.mark.fact("C.pause.7", "C.restart-policy.4")
    @pytest.mark.parametrize("state", ["running", "paused", "restarting"])
    def test_c_kill_ends_a_container_in_any_state_that_counts_as_running(self, world: World, state: str) -> None:
        """C: kill ends a paused one, too, and what was pending is cancelled; it is neither paused nor running then."""
        policy = ("always", 0) if state == "restarting" else ("no", 0)
        container = world.make_container("c", state=state, restart_policy=policy)
        world.engine.kill(container)
        found = world.engine.inspect_container(container)["State"]
        assert (found["Status"], found["Running"], found["Paused"]) == ("exited", False, False)

    @pytest.mark.fact("C.pause.4")
    @pytest.mark.parametrize("state", ["created", "exited"])
    def test_c_kill_of_one_that_does_not_run(self, world: World, state: str) -> None:
        """C: Stopped: kill 409."""
        container = world.make_container("c", state=state)
        with refused(409, "not running"):
            world.engine.kill(container)

    @pytest.mark.fact("C.pause.2")
    def test_c_paused_refuses_pause_and_start(self, world: World) -> None:
        """C: Paused: pause 409, start 409."""
        container = world.make_container("c", state="paused")
        with refused(409, "is already paused"):
            world.engine.pause(container)
        with refused(409, "cannot start a paused container"):
            world.engine.start(container)
        assert world.state(container) == "paused"

    @pytest.mark.fact("C.pause.4", "C.pause.5")
    @pytest.mark.parametrize("state", ["created", "exited"])
    def test_c_stopped_refuses_pause(self, world: World, state: str) -> None:
        """C: Stopped: pause 409. Unpause when not paused: 500. Stop when stopped: no error."""
        container = world.make_container("c", state=state)
        with refused(409, "is not running"):
            world.engine.pause(container)
        with refused(500, "is not paused"):
            world.engine.unpause(container)
        world.engine.stop(container, 0)
        assert world.state(container) == state

    @pytest.mark.fact("C.pause.5")
    def test_c_running_refuses_unpause_and_takes_start(self, world: World) -> None:
        """C: Unpause when not paused: 500. Start when running: 304, no error."""
        container = world.make_container("c")
        with refused(500, "is not paused"):
            world.engine.unpause(container)
        world.engine.start(container)

    @pytest.mark.fact("A5")
    def test_a5_stop_ends_a_paused_container(self, world: World) -> None:
        """A5: a stop thaws and ends it."""
        container = world.make_container("c", state="paused")
        world.engine.stop(container, 0)
        assert world.state(container) == "exited"
        assert world.engine.inspect_container(container)["State"]["Pid"] == 0

    # --- restarting ---------------------------------------------------------------------------------------------------

    @pytest.mark.fact("A4")
    def test_a4_restarting_refuses_pause_and_disconnect(self, world: World) -> None:
        """A4: pause 409, disconnect 500; it counts as running and keeps its keys.

        Connect would be accepted and is not tried here: the endpoint stays in the network when the container is gone,
        and the network can only be removed after a forced disconnect (measured).
        """
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state="restarting", restart_policy=("always", 0))
        found = world.engine.inspect_container(container)
        assert found["State"]["Running"]
        assert found["State"]["Restarting"]
        assert found["State"]["Pid"] == 0
        with refused(409, "is restarting, wait until the container is running"):
            world.engine.pause(container)
        with refused(500, "is not paused"):
            world.engine.unpause(container)
        with refused(500, "is not connected to network"):
            world.engine.disconnect(network, container)
        world.engine.start(container)
        assert world.key(container, network)["EndpointID"] == ""
        assert not world.is_member(container, network)

    @pytest.mark.fact("A4", "C.restart-policy.4")
    def test_a4_policy_no_does_not_cancel_a_pending_restart(self, world: World) -> None:
        """A4: with the restart policy set to no it comes back once more, with its networks."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state="restarting", restart_policy=("always", 0))
        world.engine.set_restart_policy(container, "no", 0)
        world.come_back(container)
        assert world.state(container) == "running"
        assert world.is_member(container, network)
        assert world.interfaces(container) == {"lo", "eth0"}

    @pytest.mark.fact("A4", "C.restart-policy.4")
    def test_a4_stop_cancels_a_pending_restart(self, world: World) -> None:
        """A4: stopped while it is restarting it is exited, and then disconnect answers 200."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state="restarting", restart_policy=("always", 0))
        world.engine.stop(container, 0)
        assert world.state(container) == "exited"
        world.engine.disconnect(network, container)
        assert world.keys(container) == {}

    # --- disconnect ---------------------------------------------------------------------------------------------------

    @pytest.mark.fact("C.disconnect.1", "C.disconnect.2", "C.pause.3")
    @pytest.mark.parametrize("state", ["running", "paused"])
    def test_c_disconnect_of_a_running_container(self, world: World, state: str) -> None:
        """C: disconnect answers, running or paused -> 200: no key, no member, only lo left."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state=state)
        assert world.interfaces(container) == {"lo", "eth0"}
        world.engine.disconnect(network, container)
        assert world.keys(container) == {}
        assert not world.is_member(container, network)
        assert world.interfaces(container) == {"lo"}
        with refused(500, "is not connected to network"):
            world.engine.disconnect(network, container)

    @pytest.mark.fact("C.disconnect.2", "C.disconnect.3")
    def test_c_disconnect_of_a_stopped_container(self, world: World) -> None:
        """C: disconnect answers, stopped -> 200; its key has no endpoint and the network does not list it."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state="exited")
        key = world.key(container, network)
        assert (key["NetworkID"], key["EndpointID"], key["IPAddress"]) == (network, "", "")
        assert not world.is_member(container, network)
        world.engine.disconnect(network, container)
        assert world.keys(container) == {}
        with refused(500, "is not connected to the network"):
            world.engine.disconnect(network, container)

    @pytest.mark.fact("C.disconnect.4")
    def test_c_disconnect_of_a_container_that_never_started(self, world: World) -> None:
        """C: disconnect answers, created -> 200; until the first start the key does not know the network's id."""
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("web",))}, state="created")
        key = world.key(container, network)
        assert (key["NetworkID"], key["EndpointID"]) == ("", "")
        assert key["Aliases"] == ["web"]
        world.engine.disconnect(network, container)
        assert world.keys(container) == {}

    @pytest.mark.fact("A7", "C.disconnect.5")
    def test_c_disconnect_survives_a_restart(self, world: World) -> None:
        """A7: a disconnect survives stop and start; a container without keys starts with lo alone."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN})
        world.engine.disconnect(network, container)
        world.engine.stop(container, 0)
        world.engine.start(container)
        assert world.keys(container) == {}
        assert world.interfaces(container) == {"lo"}

    @pytest.mark.fact("C.disconnect.6")
    def test_images_are_known_by_the_ids_that_containers_have(self, world: World) -> None:
        made_of = world.engine.inspect_container(world.make_container("web"))
        (image,) = [one for one in world.engine.list_images() if one["Id"] == made_of["Image"]]
        assert made_of["Config"]["Image"] in image["RepoTags"]

    def test_c_unknown_container_and_network(self, world: World) -> None:
        """C: disconnect answers, unknown container / network -> 404."""
        container = world.make_container("c")
        calls: list[t.Callable[[], object]] = [
            lambda: world.engine.inspect_container(UNKNOWN_ID),
            lambda: world.engine.inspect_network(UNKNOWN_ID),
            lambda: world.engine.pause(UNKNOWN_ID),
            lambda: world.engine.unpause(UNKNOWN_ID),
            lambda: world.engine.stop(UNKNOWN_ID, 0),
            lambda: world.engine.start(UNKNOWN_ID),
            lambda: world.engine.set_restart_policy(UNKNOWN_ID, "no", 0),
            lambda: world.engine.disconnect("bridge", UNKNOWN_ID),
            lambda: world.engine.disconnect(UNKNOWN_ID, container),
            lambda: world.engine.connect("bridge", UNKNOWN_ID, PLAIN),
            lambda: world.engine.connect(UNKNOWN_ID, container, PLAIN),
        ]
        for call in calls:
            with pytest.raises(NotFound) as caught:
                call()
            assert caught.value.status == 404

    @pytest.mark.fact("C.disconnect.7")
    def test_c_deleted_network_of_a_running_container(self, world: World) -> None:
        """C: a deleted network -> 404, for connect and disconnect."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN})
        with refused(403, "has active endpoints"):
            world.remove_network(network)
        world.engine.disconnect(network, container)
        world.remove_network(network)
        with refused(404, "not found"):
            world.engine.connect(network, container, PLAIN)
        with refused(404, "not found"):
            world.engine.disconnect(network, container)

    @pytest.mark.fact("C.disconnect.7")
    def test_c_deleted_network_of_a_stopped_container(self, world: World) -> None:
        """C: a deleted network: the key stays, the id is 500, start is 404, the name can be disconnected."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state="exited")
        world.remove_network(network)
        assert list(world.keys(container)) == [world.name("n")]
        with refused(404, "not found"):
            world.engine.start(container)
        with refused(500, "is not connected to the network"):
            world.engine.disconnect(network, container)
        world.engine.disconnect(world.name("n"), container)
        assert world.keys(container) == {}

    @pytest.mark.fact("C.disconnect.8")
    def test_c_duplicate_network_name(self, world: World) -> None:
        """C: use NetworkID: a duplicate name is 400 "is ambiguous"; newer engines refuse to make one."""
        network = world.make_network("n")
        if world.engine_from(26):
            with refused(409, "already exists"):
                world.make_network("again", name=world.name("n"))
            return
        world.make_network("again", name=world.name("n"))
        container = world.make_container("c")
        with refused(400, "is ambiguous"):
            world.engine.disconnect(world.name("n"), container)
        world.engine.connect(network, container, PLAIN)
        world.engine.disconnect(network, container)

    # --- connect ------------------------------------------------------------------------------------------------------

    @pytest.mark.fact("C.connect.1")
    def test_c_round_trip_of_static_settings(self, world: World) -> None:
        """C: restored with {IPAMConfig, Aliases, DriverOpts}, inspect differs in EndpointID, on 28 in MacAddress."""
        network = world.make_network("n")
        settings = EndpointSettings(ipv4_address=world.address(network, 50), aliases=("web", "www"))
        container = world.make_container("c", {network: settings})
        before = world.keys(container)
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        after = world.keys(container)
        assert world.restorable(after) == world.restorable(before)
        assert only(after)["EndpointID"] != only(before)["EndpointID"]

    @pytest.mark.fact("C.connect.1")
    def test_c_round_trip_of_driver_options(self, world: World) -> None:
        """C: driver options come back, and none of them leaves null."""
        network = world.make_network("n")
        container = world.make_container("c", network_mode="none")
        none = only(world.keys(container))["NetworkID"]
        world.engine.disconnect(none, container)
        world.engine.connect(network, container, EndpointSettings(driver_opts={"k": "v"}))
        before = world.keys(container)
        assert only(before)["DriverOpts"] == {"k": "v"}
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        assert world.restorable(world.keys(container)) == world.restorable(before)

    @pytest.mark.fact("C.connect.1")
    def test_c_round_trip_of_a_legacy_link_on_a_user_network(self, world: World) -> None:
        """C: links come back as container:alias."""
        network = world.make_network("n")
        world.make_container("db", {network: PLAIN})
        link = f"{world.name('db')}:database"
        container = world.make_container("c", {network: EndpointSettings(links=(link,))})
        before = world.keys(container)
        assert only(before)["Links"] == [link]
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        assert world.restorable(world.keys(container)) == world.restorable(before)

    @pytest.mark.fact("C.connect.1")
    def test_c_round_trip_with_ipv6(self, world: World) -> None:
        """C: `::1` goes with a v6 endpoint, and both addresses come back."""
        network = world.make_network("n", ipv6=True)
        container = world.make_container("c", {network: PLAIN})
        before = world.keys(container)
        assert only(before)["GlobalIPv6Address"]
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        assert world.restorable(world.keys(container)) == world.restorable(before)

    @pytest.mark.fact("C.connect.1", "C.mode.8")
    def test_c_round_trip_on_the_default_bridge(self, world: World) -> None:
        """C: the default bridge shows neither aliases nor IPAMConfig; its address is dynamic."""
        container = world.make_container("c")
        mode = world.engine.inspect_container(container)["HostConfig"]["NetworkMode"]
        assert mode == ("bridge" if world.engine_from(26) else "default")
        before = world.keys(container)
        assert (only(before)["Aliases"], only(before)["IPAMConfig"]) == (None, None)
        bridge = only(before)["NetworkID"]
        world.engine.disconnect(bridge, container)
        assert world.keys(container) == {}
        world.engine.connect(bridge, container, settings_in(only(before)))
        dynamic = {
            "IPAddress": "",
            "MacAddress": "",
            "EndpointID": "",
        }  # others use the default bridge at the same time
        assert {**only(world.keys(container)), **dynamic} == {**only(before), **dynamic}

    @pytest.mark.fact("C.connect.1", "C.connect.14")
    def test_c_round_trip_of_several_networks(self, world: World) -> None:
        """C: either reconnect order; each network keeps its own settings. Interfaces get new names before 28."""
        first, second = world.make_network("n1"), world.make_network("n2", internal=True)
        container = world.make_container("c", {first: EndpointSettings(aliases=("a",)), second: PLAIN})
        before = world.keys(container)
        assert world.interfaces(container) == {"lo", "eth0", "eth1"}
        for key in before.values():
            world.engine.disconnect(key["NetworkID"], container)
        assert world.interfaces(container) == {"lo"}
        for key in reversed(before.values()):
            world.engine.connect(key["NetworkID"], container, settings_in(key))
        assert world.restorable(world.keys(container)) == world.restorable(before)
        names = {"eth0", "eth1"} if world.engine_from(28) else {"eth2", "eth3"}
        assert world.interfaces(container) == {"lo", *names}

    @pytest.mark.fact("C.connect.2")
    def test_c_naive_connect_loses_the_settings(self, world: World) -> None:
        """C: a naive connect loses static IP and aliases."""
        network = world.make_network("n")
        settings = EndpointSettings(ipv4_address=world.address(network, 50), aliases=("web",))
        container = world.make_container("c", {network: settings})
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, PLAIN)
        key = world.key(container, network)
        assert key["IPAMConfig"] is None
        assert key["IPAddress"] == world.address(network, 2)
        assert "web" not in (key["Aliases"] or ())

    @pytest.mark.fact("C.connect.3")
    def test_c_aliases_gain_the_short_id(self, world: World) -> None:
        """C: on user networks the short id is among the aliases, last when the engine adds it, and never twice.

        Newer engines show it among DNSNames instead, and among the aliases only where one asked for it.
        """
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("b", "a"))})
        short = container[:12]
        if world.engine_from(26):
            assert world.key(container, network)["Aliases"] == ["b", "a"]
            assert world.key(container, network)["DNSNames"] == [world.name("c"), "b", "a", short]
        else:
            assert world.key(container, network)["Aliases"] == ["b", "a", short]
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, EndpointSettings(aliases=(short, "a", "b")))
        assert world.key(container, network)["Aliases"] == [short, "a", "b"]

    @pytest.mark.fact("C.connect.4")
    def test_c_aliases_gain_the_host_name(self, world: World) -> None:
        """C: a host name of one's own is added likewise, and an aliases list from inspect comes back unchanged."""
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("web",))}, hostname="shop")
        before = world.keys(container)
        if world.engine_from(26):
            assert only(before)["Aliases"] == ["web"]
            assert only(before)["DNSNames"] == [world.name("c"), "web", container[:12], "shop"]
        else:
            assert only(before)["Aliases"] == ["web", container[:12], "shop"]
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        assert world.restorable(world.keys(container)) == world.restorable(before)

    @pytest.mark.fact("C.connect.5")
    @pytest.mark.parametrize("state", ["running", "exited"])
    def test_d5_mac_address_in_connect(self, world: World, state: str) -> None:
        """C: connect answers 200 to a MAC address, and the endpoint gets another, but for 29, which honours it."""
        network, asked = world.make_network("n"), "02:42:00:00:00:99"
        container = world.make_container("c", {network: PLAIN}, state=state)
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, EndpointSettings(mac_address=asked))
        world.engine.start(container)
        found = world.key(container, network)["MacAddress"]
        assert found
        assert (found == asked) == world.engine_from(29)

    @pytest.mark.fact("C.connect.5")
    def test_d5_mac_address_of_the_container(self, world: World) -> None:
        """C: it is that of its first network, and comes back on 20.10 alone. 29 ignores it and does not show it."""
        network, asked = world.make_network("n"), "02:42:00:00:00:99"
        container = world.make_container("c", {network: PLAIN}, mac_address=asked)
        shown = world.engine.inspect_container(container)["Config"].get("MacAddress")
        assert shown == (None if world.engine_from(29) else asked)
        assert (world.key(container, network)["MacAddress"] == asked) != world.engine_from(29)
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, PLAIN)
        assert (world.key(container, network)["MacAddress"] == asked) != world.engine_from(26)

    @pytest.mark.fact("C.connect.16")
    def test_d5_mac_address_of_a_network_at_creation(self, world: World) -> None:
        """C: taken from 26 on, until a disconnect; shown in Config before 29. Stopped, the key shows none."""
        network, asked = world.make_network("n"), "02:42:00:00:00:99"
        container = world.make_container("c", {network: EndpointSettings(mac_address=asked)}, state="created")
        if not world.engine_from(26):
            world.engine.start(container)
            assert world.key(container, network)["MacAddress"] != asked
            return
        assert world.key(container, network)["MacAddress"] == asked
        world.engine.start(container)
        assert world.key(container, network)["MacAddress"] == asked
        shown = world.engine.inspect_container(container)["Config"].get("MacAddress")
        assert shown == (None if world.engine_from(29) else asked)
        world.engine.stop(container, 0)
        assert world.key(container, network)["MacAddress"] == ""
        world.engine.start(container)
        assert world.key(container, network)["MacAddress"] == asked
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, PLAIN)
        assert world.key(container, network)["MacAddress"] not in ("", asked)

    @pytest.mark.fact("C.connect.6")
    def test_c_gateway_priority(self, world: World) -> None:
        """C: connect takes it on 28.5; older engines ignore it, and do not show it."""
        network = world.make_network("n")
        container = world.make_container("c")
        world.engine.connect(network, container, EndpointSettings(gw_priority=7))
        assert world.key(container, network).get("GwPriority") == (7 if world.engine_from(28) else None)
        other = world.make_container("other", {network: PLAIN})
        assert world.key(other, network).get("GwPriority") == (0 if world.engine_from(28) else None)

    @pytest.mark.fact("C.connect.7")
    def test_c_dynamic_addresses_are_the_lowest_free_ones(self, world: World) -> None:
        """C: a container that comes back gets its own address unless a newcomer took it."""
        network = world.make_network("n")
        first, second, third = (world.make_container(f"c{i}", {network: PLAIN}) for i in range(3))

        def host(container: str) -> int:
            return int(world.key(container, network)["IPAddress"].rpartition(".")[2])

        assert [host(c) for c in (first, second, third)] == [2, 3, 4]
        world.engine.disconnect(network, first)
        world.engine.disconnect(network, second)
        world.engine.connect(network, second, PLAIN)
        world.engine.connect(network, first, PLAIN)
        assert [host(c) for c in (first, second, third)] == [3, 2, 4]
        world.engine.disconnect(network, second)
        newcomer = world.make_container("newcomer", {network: PLAIN})
        world.engine.connect(network, second, PLAIN)
        assert [host(c) for c in (newcomer, second)] == [2, 5]

    @pytest.mark.fact("A10", "C.connect.8")
    def test_c_connect_twice(self, world: World) -> None:
        """C and A10: connect twice -> 403 "already exists"."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN})
        with refused(403, "already exists in network"):
            world.engine.connect(network, container, PLAIN)
        assert world.interfaces(container) == {"lo", "eth0"}

    @pytest.mark.fact("A3")
    def test_a3_address_taken(self, world: World) -> None:
        """A3: connect to a taken address -> 403, a key without address, id or interface, that disconnect denies."""
        network = world.make_network("n")
        taken = EndpointSettings(ipv4_address=world.address(network, 50), aliases=("web",))
        owner = world.make_container("owner", {network: taken})
        container = world.make_container("c")
        bridge = only(world.keys(container))["NetworkID"]
        world.engine.disconnect(bridge, container)
        with refused(403, "Address already in use"):
            world.engine.connect(network, container, taken)
        key = world.key(container, network)
        assert (key["NetworkID"], key["EndpointID"], key["IPAddress"]) == ("", "", "")
        assert key["IPAMConfig"] == {"IPv4Address": taken.ipv4_address}
        assert not world.is_member(container, network)
        assert world.interfaces(container) == {"lo"}
        with refused(500, "is not connected to network"):
            world.engine.disconnect(network, container)
        # The key does not stand in the way once the address is free.
        world.engine.disconnect(network, owner)
        world.engine.connect(network, container, taken)
        assert world.key(container, network)["IPAddress"] == taken.ipv4_address

    @pytest.mark.fact("C.connect.9")
    def test_c_address_outside_the_subnet(self, world: World) -> None:
        """C: IP outside subnet 500, and a key without id; newer engines 400, and no key."""
        network = world.make_network("n")
        container = world.make_container("c")
        answer = (
            refused(400, "no configured subnet or ip-range contain the IP address")
            if world.engine_from(26)
            else refused(500, "does not belong to any of this network's subnets")
        )
        with answer:
            world.engine.connect(network, container, EndpointSettings(ipv4_address="203.0.113.1"))

    @pytest.mark.fact("C.connect.8", "C.connect.10")
    def test_c_stopped_container_to_a_taken_address(self, world: World) -> None:
        """C: stopped container to a taken IP 200, then start 403; a second connect keeps the first settings."""
        network = world.make_network("n")
        taken = EndpointSettings(ipv4_address=world.address(network, 50))
        world.make_container("owner", {network: taken})
        container = world.make_container("c", {network: PLAIN}, state="exited")
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, taken)
        world.engine.connect(network, container, EndpointSettings(ipv4_address=world.address(network, 51)))
        assert world.key(container, network)["IPAMConfig"] == {"IPv4Address": taken.ipv4_address}
        with refused(403, "Address already in use"):
            world.engine.start(container)
        assert world.state(container) == "exited"

    @pytest.mark.fact("C.connect.11")
    def test_c_static_address_on_an_automatic_subnet(self, world: World) -> None:
        """C: pinning an IP is refused (400) on auto-subnets, and leaves no key; 29 takes it."""
        network = world.make_network("n", user_configured=False)
        container = world.make_container("c")
        if world.engine_from(29):
            world.engine.connect(network, container, EndpointSettings(ipv4_address=world.address(network, 77)))
            assert world.key(container, network)["IPAddress"] == world.address(network, 77)
            return
        with refused(400, "only when connecting to networks with user configured subnets"):
            world.engine.connect(network, container, EndpointSettings(ipv4_address=world.address(network, 77)))
        assert list(world.keys(container)) == ["bridge"]

    @pytest.mark.fact("C.connect.12")
    @pytest.mark.parametrize("state", ["running", "exited"])
    def test_c_default_bridge_refuses_addresses_and_aliases(self, world: World, state: str) -> None:
        """C: static addresses and aliases are refused (400) on the default bridge."""
        container = world.make_container("c", state=state)
        world.engine.disconnect("bridge", container)
        with refused(400, "supported on user defined networks only"):
            world.engine.connect("bridge", container, EndpointSettings(ipv4_address="172.17.0.77"))
        with refused(400, "alias is supported only for containers in user defined networks"):
            world.engine.connect("bridge", container, EndpointSettings(aliases=("web",)))
        assert world.keys(container) == {}

    @pytest.mark.fact("A1")
    def test_a1_failed_connect_leaves_a_live_interface(self, world: World) -> None:
        """A1: connect 500 "port is already allocated": interface alive, disconnect 500, no member, inspect lists it.

        On 29 the interface is gone.
        """
        network, port = world.make_network("n"), world.free_host_port()
        container = world.make_container("c", {network: PLAIN}, published={"80/tcp": port})
        world.engine.disconnect(network, container)
        world.make_container("thief", {network: PLAIN}, published={"80/tcp": port})
        with refused(500, "port is already allocated"):
            world.engine.connect(network, container, PLAIN)
        if world.engine_from(29):
            assert not world.is_member(container, network)
            assert world.interfaces(container) == {"lo"}
            return
        key = world.key(container, network)
        assert key["NetworkID"] == network
        assert key["EndpointID"]
        assert key["IPAddress"]
        assert not world.is_member(container, network)
        assert world.interfaces(container) == {"lo", "eth0" if world.engine_from(28) else "eth1"}
        with refused(500, "is not connected to network"):
            world.engine.disconnect(network, container)
        with refused(500, "failed to add interface"):
            world.engine.connect(network, container, PLAIN)
        # The remedy: stop, disconnect, start.
        world.engine.stop(container, 0)
        world.engine.disconnect(network, container)
        world.engine.start(container)
        assert world.keys(container) == {}
        assert world.interfaces(container) == {"lo"}

    # --- network modes ------------------------------------------------------------------------------------------------

    @pytest.mark.fact("C.mode.1")
    def test_c_host_mode(self, world: World) -> None:
        """C: running in host network mode -> disconnect 400, paused too, and connect 400."""
        network = world.make_network("n")
        container = world.make_container("c", network_mode="host")
        host = only(world.keys(container))["NetworkID"]
        for _ in range(2):
            # 28.5: "cannot disconnect container from host network - container was created in host network mode"
            with refused(400, "cannot (be disconnected|disconnect container) from host network"):
                world.engine.disconnect(host, container)
            with refused(400, "sharing network namespace with another container or host"):
                world.engine.connect(network, container, PLAIN)
            if world.state(container) == "running":
                world.engine.pause(container)
        with refused(500, "is not connected to network"):
            world.engine.disconnect(network, container)
        assert world.interfaces(container) > {"lo"}

    @pytest.mark.fact("C.mode.2")
    def test_c_host_mode_disconnected_while_stopped_is_not_isolated(self, world: World) -> None:
        """C: allowed once stopped; started again it has no key and is on the host's network all the same."""
        container = world.make_container("c", network_mode="host")
        host = only(world.keys(container))["NetworkID"]
        world.engine.stop(container, 0)
        world.engine.disconnect(host, container)
        world.engine.start(container)
        assert world.keys(container) == {}
        assert world.interfaces(container) > {"lo"}

    @pytest.mark.fact("C.mode.3")
    def test_c_none_mode(self, world: World) -> None:
        """C: network mode none -> disconnect 200 (connecting another first: 400)."""
        network = world.make_network("n")
        container = world.make_container("c", network_mode="none")
        none = only(world.keys(container))["NetworkID"]
        with refused(400, "multiple networks with one of the networks in private"):
            world.engine.connect(network, container, PLAIN)
        assert world.interfaces(container) == {"lo"}
        world.engine.disconnect(none, container)
        world.engine.connect(network, container, PLAIN)
        with refused(400, "multiple networks with one of the networks in private"):
            world.engine.connect(none, container, PLAIN)
        world.engine.disconnect(network, container)
        world.engine.connect(none, container, PLAIN)
        assert list(world.keys(container)) == ["none"]

    @pytest.mark.fact("C.mode.4")
    def test_c_container_mode(self, world: World) -> None:
        """C: network mode container:<id> -> Networks {}, disconnect 500, connect 400; the owner's interfaces."""
        network, other = world.make_network("n"), world.make_network("other")
        owner = world.make_container("owner", {network: PLAIN})
        sidecar = world.make_container("sidecar", network_mode=f"container:{owner}")
        assert world.keys(sidecar) == {}
        with refused(500, "is not connected to network"):
            world.engine.disconnect(network, sidecar)
        with refused(400, "sharing network namespace with another container or host"):
            world.engine.connect(other, sidecar, PLAIN)
        assert world.interfaces(sidecar) == {"lo", "eth0"}
        world.engine.pause(owner)
        assert world.interfaces(sidecar) == {"lo", "eth0"}
        world.engine.disconnect(network, owner)
        assert world.interfaces(sidecar) == {"lo"}

    @pytest.mark.fact("C.mode.5")
    def test_c_restarting_the_owner_strands_the_sidecar(self, world: World) -> None:
        """C: restarting the owner strands the sidecar in a namespace of its own."""
        network = world.make_network("n")
        owner = world.make_container("owner", {network: PLAIN})
        sidecar = world.make_container("sidecar", network_mode=f"container:{owner}")
        world.engine.stop(owner, 0)
        assert world.interfaces(sidecar) == {"lo"}
        world.engine.start(owner)
        assert world.interfaces(sidecar) == {"lo"}
        assert world.interfaces(owner) == {"lo", "eth0"}
        world.engine.stop(sidecar, 0)
        world.engine.start(sidecar)
        assert world.interfaces(sidecar) == {"lo", "eth0"}

    @pytest.mark.fact("C.mode.6")
    def test_c_sidecar_needs_a_running_owner(self, world: World) -> None:
        """C: a sidecar of a stopped owner cannot start: 409. While stopped it takes a connect: 200."""
        network = world.make_network("n")
        owner = world.make_container("owner", {network: PLAIN})
        sidecar = world.make_container("sidecar", network_mode=f"container:{owner}", state="exited")
        world.engine.connect(network, sidecar, PLAIN)
        world.engine.stop(owner, 0)
        with refused(409, "cannot join network (namespace )?of a non running container"):
            world.engine.start(sidecar)

    # --- restart policy, auto-remove, look-up -------------------------------------------------------------------------

    @pytest.mark.fact("C.pause.3", "C.restart-policy.1")
    @pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
    def test_c_restart_policy_in_any_state(self, world: World, state: str) -> None:
        """C: update RestartPolicy: any state, the exact pair comes back, and an empty name is ignored."""
        container = world.make_container("c", state=state, restart_policy=("on-failure", 7))

        def policy() -> dict[str, t.Any]:
            return dict(world.engine.inspect_container(container)["HostConfig"]["RestartPolicy"])

        assert policy() == {"Name": "on-failure", "MaximumRetryCount": 7}
        world.engine.set_restart_policy(container, "no", 0)
        assert policy() == {"Name": "no", "MaximumRetryCount": 0}
        world.engine.set_restart_policy(container, "", 0)
        assert policy() == {"Name": "no", "MaximumRetryCount": 0}
        world.engine.set_restart_policy(container, "on-failure", 7)
        assert policy() == {"Name": "on-failure", "MaximumRetryCount": 7}
        assert world.state(container) == state

    @pytest.mark.fact("C.restart-policy.2")
    def test_c_restart_policy_refusals(self, world: World) -> None:
        """C: an unknown name, and a count with any policy but on-failure, are 400."""
        container = world.make_container("c", restart_policy=("always", 0))
        with refused(400, "invalid restart policy"):
            world.engine.set_restart_policy(container, "sometimes", 0)
        for name in ("no", "always", "unless-stopped"):
            with refused(400, "maximum retry count (cannot be used with|can only be used with 'on-failure')"):
                world.engine.set_restart_policy(container, name, 3)

    @pytest.mark.fact("C.stop.1")
    def test_c_auto_remove(self, world: World) -> None:
        """C: auto-remove: stop deletes it; of the restart policies only "no" is accepted."""
        container = world.make_container("c", auto_remove=True)
        world.engine.set_restart_policy(container, "no", 0)
        with refused(409, "AutoRemove is enabled"):
            world.engine.set_restart_policy(container, "always", 0)
        world.engine.pause(container)
        world.engine.unpause(container)
        world.engine.stop(container, 0)
        world.wait_gone(container)

    @pytest.mark.fact("A11")
    def test_a11_a_name_like_an_id_wins(self, world: World) -> None:
        """A11: a container NAMED with another's 12-hex id wins the look-up; the full id still means the other."""
        victim = world.make_container("victim")
        impostor = world.make_container("impostor", name=victim[:12])
        assert world.engine.inspect_container(victim[:12])["Id"] == impostor
        assert world.engine.inspect_container(victim[:13])["Id"] == victim
        assert world.engine.inspect_container(victim)["Id"] == victim

    @pytest.mark.fact("C.lookup.1")
    def test_c_look_up(self, world: World) -> None:
        """C: names carry a leading slash; inspect takes a name with or without it."""
        container = world.make_container("c")
        found = world.engine.inspect_container(container)
        assert found["Name"] == "/" + world.name("c")
        for name in (found["Name"], world.name("c"), container[:12]):
            assert world.engine.inspect_container(name.removeprefix("/"))["Id"] == container

    @pytest.mark.fact("C.lookup.6")
    @pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
    def test_c_list(self, world: World, state: str) -> None:
        """C: the list holds every state; it shows networks but never their aliases.

        A state that just changed is in the list once inspect has answered, which waits for the change to be done.
        """
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("web",))}, state=state)
        found = world.engine.inspect_container(container)
        (entry,) = (entry for entry in world.engine.list_containers() if entry["Id"] == container)
        assert entry["Names"] == ["/" + world.name("c")]
        assert entry["State"] == state
        assert isinstance(entry["Created"], int)
        assert entry["Image"] == found["Config"]["Image"]
        assert entry["Labels"] == found["Config"]["Labels"]
        assert entry["ImageID"].startswith("sha256:")
        assert only(entry["NetworkSettings"]["Networks"])["Aliases"] is None
        assert only(found["NetworkSettings"]["Networks"])["Aliases"]

    @pytest.mark.fact("C.mode.7")
    def test_c_internal_network(self, world: World) -> None:
        """C: an internal network gives address and interface, and before 26 even a gateway."""
        network = world.make_network("n", internal=True)
        container = world.make_container("c", {network: PLAIN})
        assert world.engine.inspect_network(network)["Internal"] is True
        assert world.key(container, network)["IPAddress"] == world.address(network, 2)
        assert world.key(container, network)["Gateway"] == ("" if world.engine_from(26) else world.address(network, 1))
        assert world.interfaces(container) == {"lo", "eth0"}

    @pytest.mark.fact("C.disconnect.9")
    def test_c_published_ports_vanish_and_ephemeral_ones_change(self, world: World) -> None:
        """C: published ports vanish with the network while PortBindings stay; ephemeral host ports change."""
        network, fixed = world.make_network("n"), world.free_host_port()
        container = world.make_container("c", {network: PLAIN}, published={"80/tcp": fixed, "81/tcp": None})

        def ports() -> dict[str, int]:
            found = world.engine.inspect_container(container)["NetworkSettings"]["Ports"]
            return {port: int(bindings[0]["HostPort"]) for port, bindings in found.items()}

        before, bindings = ports(), world.engine.inspect_container(container)["HostConfig"]["PortBindings"]
        assert before["80/tcp"] == fixed
        world.engine.disconnect(network, container)
        assert ports() == {}
        assert world.engine.inspect_container(container)["HostConfig"]["PortBindings"] == bindings
        world.engine.connect(network, container, PLAIN)
        assert ports()["80/tcp"] == fixed
        assert ports()["81/tcp"] != before["81/tcp"]

    # --- evidence -----------------------------------------------------------------------------------------------------

    @pytest.mark.fact("C.evidence.1", "C.pause.3")
    @pytest.mark.parametrize("state", ["running", "paused"])
    def test_c_top_and_stats_of_a_container_with_processes(self, world: World, state: str) -> None:
        """C: top and stats work while it is paused."""
        container = world.make_container("c", state=state)
        found = json.loads(b"".join(world.engine.top(container)))
        assert len(found["Processes"]) == 1
        command = found["Titles"].index("CMD")
        assert found["Processes"][0][command] == "sleep 3600"
        found = json.loads(b"".join(world.engine.stats(container)))
        assert found["pids_stats"]["current"] == 1
        assert not found["read"].startswith("0001")

    @pytest.mark.fact("C.evidence.2", "C.pause.4")
    @pytest.mark.parametrize("state", ["created", "restarting", "exited"])
    def test_c_top_and_stats_of_a_container_without_processes(self, world: World, state: str) -> None:
        """C: top 409. Stats are 200 and zeros, which must not be taken for a container that does nothing."""
        container = world.make_container(
            "c", state=state, restart_policy=("always" if state == "restarting" else "no", 0)
        )
        with refused(409, "is not running|is restarting"):
            b"".join(world.engine.top(container))
        found = json.loads(b"".join(world.engine.stats(container)))
        assert found["read"].startswith("0001")
        assert not found["pids_stats"]

    @pytest.mark.fact("C.evidence.3", "C.pause.3")
    @pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
    def test_c_the_rest_needs_no_process(self, world: World, state: str) -> None:
        """C: changes, logs, archive and export work in any state. An archive ends with 1,024 zeros."""
        container = world.make_container("c", state=state)
        assert isinstance(json.loads(b"".join(world.engine.changed_files(container))), (list, type(None)))
        assert b"".join(world.engine.logs(container, 10)) == b""
        for pieces in (world.engine.export(container), world.engine.archive(container, "/")):
            content = b"".join(pieces)
            assert content.endswith(bytes(1024))
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                assert isinstance(archive.getnames(), list)

    @pytest.mark.fact("C.evidence.7")
    def test_c_archive_of_no_path(self, world: World) -> None:
        """C: a path that is not there is 404, as an unknown container is, and says which of both."""
        container = world.make_container("c")
        with pytest.raises(NotFound) as caught:
            b"".join(world.engine.archive(container, "/no/such/path"))
        assert "No such container" not in caught.value.message

    @pytest.mark.fact("C.evidence.7")
    @pytest.mark.parametrize("call", ["top", "stats", "changed_files", "logs", "archive", "export"])
    def test_c_no_evidence_of_an_unknown_container(self, world: World, call: str) -> None:
        """C: 404."""
        options = {"logs": (10,), "archive": ("/",)}.get(call, ())
        with refused(404, "No such container"):
            b"".join(getattr(world.engine, call)(UNKNOWN_ID, *options))

    # --- events -------------------------------------------------------------------------------------------------------

    @pytest.mark.fact("C.lookup.8")
    def test_c_list_of_one(self, world: World) -> None:
        """C: the list of one container, by its full id; of one that is not there it is empty."""
        container = world.make_container("c")
        world.make_container("other")
        assert [entry["Id"] for entry in world.engine.list_containers(container)] == [container]
        assert world.engine.list_containers(UNKNOWN_ID) == []

    @pytest.mark.fact("C.events.2")
    def test_c_events_of_a_life(self, world: World) -> None:
        """C: every change of a state is told; a kill may be told twice."""
        with contextlib.closing(world.engine.events()) as stream:
            container = world.make_container("c", auto_remove=True)
            world.engine.pause(container)
            world.engine.set_restart_policy(container, "no", 0)
            world.engine.unpause(container)
            world.engine.kill(container)
            actions = [event["Action"] for event in until(stream, "container", "destroy", container)]
        assert actions == ["create", "start", "pause", "update", "unpause", "kill", "die", "destroy"]

    @pytest.mark.fact("C.lookup.7")
    @pytest.mark.parametrize(
        ("call", "told", "state"), [("pause", "pause", "paused"), ("kill", "die", "exited")], ids=["pause", "kill"]
    )
    def test_c_a_change_is_in_the_list_once_inspect_has_answered(
        self, world: World, call: str, told: str, state: str
    ) -> None:
        """C: the event comes before the list shows it; inspect waits until the change is done."""
        container = world.make_container("c")
        with contextlib.closing(world.engine.events()) as stream:
            thread = threading.Thread(target=getattr(world.engine, call), args=(container,))
            thread.start()
            until(stream, "container", told, container)
            found = world.engine.inspect_container(container)["State"]["Status"]
            (entry,) = world.engine.list_containers(container)
            thread.join()
            assert found == entry["State"] == state

    @pytest.mark.fact("C.events.1")
    def test_c_events_of_networks(self, world: World) -> None:
        """C: disconnect of a running container comes twice (20.10 and 26.1) or once (28.5); connect comes once.

        Connecting a stopped one is not told, and on 28.5 disconnecting it is not, either.
        """
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN})
        with contextlib.closing(world.engine.events()) as stream:
            world.engine.disconnect(network, container)
            world.engine.connect(network, container, PLAIN)
            world.engine.stop(container, 0)
            world.engine.disconnect(network, container)
            world.engine.connect(network, container, PLAIN)
            world.engine.set_restart_policy(container, "no", 0)
            events = until(stream, "network", "connect", container)
            assert [event["Action"] for event in events] == ["disconnect", "connect"]
            assert {event["Actor"]["ID"] for event in events} == {network}
            until(stream, "container", "stop", container)
            rest = until(stream, "container", "update", container, kinds=("network", "container"))
            assert "connect" not in [event["Action"] for event in rest]

    @pytest.mark.fact("C.events.6")
    def test_c_killing_a_restarting_container_is_not_told(self, world: World) -> None:
        """C: it is exited then, without an event; a stop is told."""
        container = world.make_container("c", state="restarting", restart_policy=("always", 0))
        with contextlib.closing(world.engine.events()) as stream:
            world.engine.kill(container)
            world.engine.set_restart_policy(container, "no", 0)
            assert [event["Action"] for event in until(stream, "container", "update", container)] == ["update"]

    @pytest.mark.fact("C.events.3")
    def test_c_since_is_inclusive(self, world: World) -> None:
        """C: a replay begins with the event of that very moment."""
        container = world.make_container("c")
        with contextlib.closing(world.engine.events()) as stream:
            world.engine.pause(container)
            (pause,) = until(stream, "container", "pause", container)
        world.engine.set_restart_policy(container, "no", 0)
        with contextlib.closing(world.engine.events(since=pause["timeNano"])) as stream:
            first, second = until(stream, "container", "update", container)
        assert first == pause
        assert second["timeNano"] > pause["timeNano"]
        with contextlib.closing(world.engine.events(since=pause["timeNano"] + 1)) as stream:
            assert until(stream, "container", "update", container) == [second]

    @pytest.mark.fact("C.events.8")
    def test_c_past_events_end_by_themselves(self, world: World) -> None:
        """C: where the end lies in the past, the engine sends what it remembers until then, and ends the answer."""
        container = world.make_container("c")
        world.engine.pause(container)
        world.engine.inspect_container(container)
        past = [event["Action"] for event in world.engine.past_events() if event["Actor"]["ID"] == container]
        assert past == ["create", "start", "pause"]
        world.rename(container, "d")
        last = [event for event in world.engine.past_events() if event["Actor"]["ID"] == container][-1]
        assert (last["Action"], last["timeNano"] > 0) == ("rename", True)

    @pytest.mark.fact("C.events.7")
    def test_c_a_stream_ends_after_a_silence(self, world: World) -> None:
        """C: nothing is sent while nothing happens, not even a sign of life."""
        container = world.make_container("c")
        with contextlib.closing(world.engine.events(silence=0.05)) as stream:
            assert [event for event in stream if event["Actor"]["ID"] == container] == []

    def test_c_a_stream_ends_when_another_thread_closes_it(self, world: World) -> None:
        container = world.make_container("c")
        stream, woken = world.engine.events(), threading.Event()

        def read() -> None:
            for event in stream:
                if event["Actor"]["ID"] == container:
                    woken.set()

        thread = threading.Thread(target=read)
        thread.start()
        world.engine.pause(container)
        assert woken.wait(timeout=30)
        stream.close()
        thread.join(timeout=30)
        assert not thread.is_alive()
        assert list(stream) == []
        stream.close()


def until(
    stream: EventStream, kind: str, action: str, container_id: str, kinds: t.Sequence[str] = ()
) -> list[dict[str, t.Any]]:
    """The events of that kind about the container, up to that action. One that comes twice counts once."""
    found: list[dict[str, t.Any]] = []
    for event in stream:
        actor = event["Actor"]
        about = actor["Attributes"].get("container") if event["Type"] == "network" else actor["ID"]
        if about != container_id or event["Type"] not in (kinds or (kind,)):
            continue
        if not found or found[-1]["Action"] != event["Action"]:
            found.append(event)
        if (event["Type"], event["Action"]) == (kind, action):
            return found
    raise AssertionError(f"no {action} of {container_id} in {found}")


def only(keys: dict[str, dict[str, t.Any]]) -> dict[str, t.Any]:
    """The only key of a container on one network."""
    (key,) = keys.values()
    return key
