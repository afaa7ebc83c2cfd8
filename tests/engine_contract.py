# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guard relies on in a Docker Engine: the same tests for the fake and for a real one.

Each test names the row of what was measured that it checks: a finding of section A by number, or a fact of section C.
"""

from __future__ import annotations

import abc
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings, Engine
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
    ) -> str:
        """Create a container on networks given by id, bring it into a state and return its id.

        The state C(restarting) is one with time to act in; come_back() ends it.
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


def without_endpoint_id(keys: dict[str, dict[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
    return {name: {**key, "EndpointID": ""} for name, key in keys.items()}


def refused(status: int, text: str) -> pytest.RaisesExc[EngineError]:
    """Expect an answer of the engine."""
    return pytest.RaisesExc(EngineError, match=text, check=lambda error: error.status == status)


class EngineContract:
    """Derive from it and give the fixture."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError

    # --- pause --------------------------------------------------------------------------------------------------------

    def test_c_pause_and_unpause_of_a_running_container(self, world: World) -> None:
        """C: paused counts as running and is listed as paused."""
        container = world.make_container("c")
        world.engine.pause(container)
        state = world.engine.inspect_container(container)["State"]
        assert (state["Status"], state["Running"], state["Paused"]) == ("paused", True, True)
        assert [c["State"] for c in world.engine.list_containers() if c["Id"] == container] == ["paused"]
        world.engine.unpause(container)
        assert world.state(container) == "running"

    @pytest.mark.parametrize("state", ["running", "paused", "restarting"])
    def test_c_kill_ends_a_container_in_any_state_that_counts_as_running(self, world: World, state: str) -> None:
        """C: kill ends a paused one, too, and what was pending is cancelled; it is neither paused nor running then."""
        policy = ("always", 0) if state == "restarting" else ("no", 0)
        container = world.make_container("c", state=state, restart_policy=policy)
        world.engine.kill(container)
        found = world.engine.inspect_container(container)["State"]
        assert (found["Status"], found["Running"], found["Paused"]) == ("exited", False, False)

    @pytest.mark.parametrize("state", ["created", "exited"])
    def test_c_kill_of_one_that_does_not_run(self, world: World, state: str) -> None:
        """C: Stopped: kill 409."""
        container = world.make_container("c", state=state)
        with refused(409, "not running"):
            world.engine.kill(container)

    def test_c_paused_refuses_pause_and_start(self, world: World) -> None:
        """C: Paused: pause 409, start 409."""
        container = world.make_container("c", state="paused")
        with refused(409, "is already paused"):
            world.engine.pause(container)
        with refused(409, "cannot start a paused container"):
            world.engine.start(container)
        assert world.state(container) == "paused"

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

    def test_c_running_refuses_unpause_and_takes_start(self, world: World) -> None:
        """C: Unpause when not paused: 500. Start when running: 304, no error."""
        container = world.make_container("c")
        with refused(500, "is not paused"):
            world.engine.unpause(container)
        world.engine.start(container)

    def test_a5_stop_ends_a_paused_container(self, world: World) -> None:
        """A5: a stop thaws and ends it."""
        container = world.make_container("c", state="paused")
        world.engine.stop(container, 0)
        assert world.state(container) == "exited"
        assert world.engine.inspect_container(container)["State"]["Pid"] == 0

    # --- restarting ---------------------------------------------------------------------------------------------------

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

    def test_a4_policy_no_does_not_cancel_a_pending_restart(self, world: World) -> None:
        """A4: with the restart policy set to no it comes back once more, with its networks."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state="restarting", restart_policy=("always", 0))
        world.engine.set_restart_policy(container, "no", 0)
        world.come_back(container)
        assert world.state(container) == "running"
        assert world.is_member(container, network)
        assert world.interfaces(container) == {"lo", "eth0"}

    def test_a4_stop_cancels_a_pending_restart(self, world: World) -> None:
        """A4: stopped while it is restarting it is exited, and then disconnect answers 200."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN}, state="restarting", restart_policy=("always", 0))
        world.engine.stop(container, 0)
        assert world.state(container) == "exited"
        world.engine.disconnect(network, container)
        assert world.keys(container) == {}

    # --- disconnect ---------------------------------------------------------------------------------------------------

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

    def test_c_disconnect_of_a_container_that_never_started(self, world: World) -> None:
        """C: disconnect answers, created -> 200; until the first start the key does not know the network's id."""
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("web",))}, state="created")
        key = world.key(container, network)
        assert (key["NetworkID"], key["EndpointID"]) == ("", "")
        assert key["Aliases"] == ["web"]
        world.engine.disconnect(network, container)
        assert world.keys(container) == {}

    def test_c_disconnect_survives_a_restart(self, world: World) -> None:
        """A7: a disconnect survives stop and start; a container without keys starts with lo alone."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN})
        world.engine.disconnect(network, container)
        world.engine.stop(container, 0)
        world.engine.start(container)
        assert world.keys(container) == {}
        assert world.interfaces(container) == {"lo"}

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

    def test_c_duplicate_network_name(self, world: World) -> None:
        """C: use NetworkID: a duplicate name is 400 "is ambiguous"."""
        network = world.make_network("n")
        world.make_network("again", name=world.name("n"))
        container = world.make_container("c")
        with refused(400, "is ambiguous"):
            world.engine.disconnect(world.name("n"), container)
        world.engine.connect(network, container, PLAIN)
        world.engine.disconnect(network, container)

    # --- connect ------------------------------------------------------------------------------------------------------

    def test_c_round_trip_of_static_settings(self, world: World) -> None:
        """C: restored with {IPAMConfig, Aliases, DriverOpts}, inspect differs in EndpointID only."""
        network = world.make_network("n")
        settings = EndpointSettings(ipv4_address=world.address(network, 50), aliases=("web", "www"))
        container = world.make_container("c", {network: settings})
        before = world.keys(container)
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        after = world.keys(container)
        assert without_endpoint_id(after) == without_endpoint_id(before)
        assert only(after)["EndpointID"] != only(before)["EndpointID"]

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
        assert without_endpoint_id(world.keys(container)) == without_endpoint_id(before)

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
        assert without_endpoint_id(world.keys(container)) == without_endpoint_id(before)

    def test_c_round_trip_with_ipv6(self, world: World) -> None:
        """C: `::1` goes with a v6 endpoint, and both addresses come back."""
        network = world.make_network("n", ipv6=True)
        container = world.make_container("c", {network: PLAIN})
        before = world.keys(container)
        assert only(before)["GlobalIPv6Address"]
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        assert without_endpoint_id(world.keys(container)) == without_endpoint_id(before)

    def test_c_round_trip_on_the_default_bridge(self, world: World) -> None:
        """C: the default bridge shows neither aliases nor IPAMConfig; its address is dynamic."""
        container = world.make_container("c")
        assert world.engine.inspect_container(container)["HostConfig"]["NetworkMode"] == "default"
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

    def test_c_round_trip_of_several_networks(self, world: World) -> None:
        """C: either reconnect order; each network keeps its own settings, and interfaces get new names."""
        first, second = world.make_network("n1"), world.make_network("n2", internal=True)
        container = world.make_container("c", {first: EndpointSettings(aliases=("a",)), second: PLAIN})
        before = world.keys(container)
        assert world.interfaces(container) == {"lo", "eth0", "eth1"}
        for key in before.values():
            world.engine.disconnect(key["NetworkID"], container)
        assert world.interfaces(container) == {"lo"}
        for key in reversed(before.values()):
            world.engine.connect(key["NetworkID"], container, settings_in(key))
        assert without_endpoint_id(world.keys(container)) == without_endpoint_id(before)
        assert world.interfaces(container) == {"lo", "eth2", "eth3"}

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

    def test_c_aliases_gain_the_short_id(self, world: World) -> None:
        """C: on user networks the short id is among the aliases, last when the engine adds it, and never twice."""
        if world.engine.version().api_at_least(1, 45):
            pytest.skip("newer engines show it among DNSNames instead (read)")
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("b", "a"))})
        short = container[:12]
        assert world.key(container, network)["Aliases"] == ["b", "a", short]
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, EndpointSettings(aliases=(short, "a", "b")))
        assert world.key(container, network)["Aliases"] == [short, "a", "b"]

    def test_c_aliases_gain_the_host_name(self, world: World) -> None:
        """C: a host name of one's own is added too, and an aliases list from inspect comes back unchanged."""
        if world.engine.version().api_at_least(1, 45):
            pytest.skip("newer engines show it among DNSNames instead (read)")
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("web",))}, hostname="shop")
        before = world.keys(container)
        assert only(before)["Aliases"] == ["web", container[:12], "shop"]
        world.engine.disconnect(network, container)
        world.engine.connect(network, container, settings_in(only(before)))
        assert without_endpoint_id(world.keys(container)) == without_endpoint_id(before)

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

    def test_c_connect_twice(self, world: World) -> None:
        """C and A10: connect twice -> 403 "already exists"."""
        network = world.make_network("n")
        container = world.make_container("c", {network: PLAIN})
        with refused(403, "already exists in network"):
            world.engine.connect(network, container, PLAIN)
        assert world.interfaces(container) == {"lo", "eth0"}

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

    def test_c_address_outside_the_subnet(self, world: World) -> None:
        """C: IP outside subnet 500."""
        network = world.make_network("n")
        container = world.make_container("c")
        with refused(500, "does not belong to any of this network's subnets"):
            world.engine.connect(network, container, EndpointSettings(ipv4_address="203.0.113.1"))

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

    def test_c_static_address_on_an_automatic_subnet(self, world: World) -> None:
        """C: pinning an IP is refused (400) on auto-subnets, and leaves no key."""
        network = world.make_network("n", user_configured=False)
        container = world.make_container("c")
        with refused(400, "only when connecting to networks with user configured subnets"):
            world.engine.connect(network, container, EndpointSettings(ipv4_address=world.address(network, 77)))
        assert list(world.keys(container)) == ["bridge"]

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

    def test_a1_failed_connect_leaves_a_live_interface(self, world: World) -> None:
        """A1: connect 500 "port is already allocated": interface alive, disconnect 500, no member, inspect lists it."""
        network, port = world.make_network("n"), world.free_host_port()
        container = world.make_container("c", {network: PLAIN}, published={"80/tcp": port})
        world.engine.disconnect(network, container)
        world.make_container("thief", {network: PLAIN}, published={"80/tcp": port})
        with refused(500, "port is already allocated"):
            world.engine.connect(network, container, PLAIN)
        key = world.key(container, network)
        assert key["NetworkID"] == network
        assert key["EndpointID"]
        assert key["IPAddress"]
        assert not world.is_member(container, network)
        assert world.interfaces(container) == {"lo", "eth1"}
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

    def test_c_host_mode(self, world: World) -> None:
        """C: running in host network mode -> disconnect 400, paused too, and connect 400."""
        network = world.make_network("n")
        container = world.make_container("c", network_mode="host")
        host = only(world.keys(container))["NetworkID"]
        for _ in range(2):
            with refused(400, "cannot be disconnected from host network"):
                world.engine.disconnect(host, container)
            with refused(400, "sharing network namespace with another container or host"):
                world.engine.connect(network, container, PLAIN)
            if world.state(container) == "running":
                world.engine.pause(container)
        with refused(500, "is not connected to network"):
            world.engine.disconnect(network, container)
        assert world.interfaces(container) > {"lo"}

    def test_c_host_mode_disconnected_while_stopped_is_not_isolated(self, world: World) -> None:
        """C: allowed once stopped; started again it has no key and is on the host's network all the same."""
        container = world.make_container("c", network_mode="host")
        host = only(world.keys(container))["NetworkID"]
        world.engine.stop(container, 0)
        world.engine.disconnect(host, container)
        world.engine.start(container)
        assert world.keys(container) == {}
        assert world.interfaces(container) > {"lo"}

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

    def test_c_sidecar_needs_a_running_owner(self, world: World) -> None:
        """C: a sidecar of a stopped owner cannot start: 409. While stopped it takes a connect: 200."""
        network = world.make_network("n")
        owner = world.make_container("owner", {network: PLAIN})
        sidecar = world.make_container("sidecar", network_mode=f"container:{owner}", state="exited")
        world.engine.connect(network, sidecar, PLAIN)
        world.engine.stop(owner, 0)
        with refused(409, "cannot join network of a non running container"):
            world.engine.start(sidecar)

    # --- restart policy, auto-remove, look-up -------------------------------------------------------------------------

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

    def test_c_restart_policy_refusals(self, world: World) -> None:
        """C: an unknown name, and a count with any policy but on-failure, are 400."""
        container = world.make_container("c", restart_policy=("always", 0))
        with refused(400, "invalid restart policy"):
            world.engine.set_restart_policy(container, "sometimes", 0)
        for name in ("no", "always", "unless-stopped"):
            with refused(400, "maximum retry count cannot be used"):
                world.engine.set_restart_policy(container, name, 3)

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

    def test_a11_a_name_like_an_id_wins(self, world: World) -> None:
        """A11: a container NAMED with another's 12-hex id wins the look-up; the full id still means the other."""
        victim = world.make_container("victim")
        impostor = world.make_container("impostor", name=victim[:12])
        assert world.engine.inspect_container(victim[:12])["Id"] == impostor
        assert world.engine.inspect_container(victim[:13])["Id"] == victim
        assert world.engine.inspect_container(victim)["Id"] == victim

    def test_c_look_up(self, world: World) -> None:
        """C: names carry a leading slash; inspect takes a name with or without it."""
        container = world.make_container("c")
        found = world.engine.inspect_container(container)
        assert found["Name"] == "/" + world.name("c")
        for name in (found["Name"], world.name("c"), container[:12]):
            assert world.engine.inspect_container(name.removeprefix("/"))["Id"] == container

    @pytest.mark.parametrize("state", ["created", "running", "paused", "exited"])
    def test_c_list(self, world: World, state: str) -> None:
        """C: the list holds every state; it shows networks but never their aliases."""
        network = world.make_network("n")
        container = world.make_container("c", {network: EndpointSettings(aliases=("web",))}, state=state)
        (entry,) = (entry for entry in world.engine.list_containers() if entry["Id"] == container)
        assert entry["Names"] == ["/" + world.name("c")]
        assert entry["State"] == state
        assert isinstance(entry["Created"], int)
        found = world.engine.inspect_container(container)
        assert entry["Image"] == found["Config"]["Image"]
        assert entry["Labels"] == found["Config"]["Labels"]
        assert entry["ImageID"].startswith("sha256:")
        assert only(entry["NetworkSettings"]["Networks"])["Aliases"] is None
        assert only(found["NetworkSettings"]["Networks"])["Aliases"]

    def test_c_internal_network(self, world: World) -> None:
        """C: an internal network looks like any other to its members: address, interface, and even a gateway."""
        network = world.make_network("n", internal=True)
        container = world.make_container("c", {network: PLAIN})
        assert world.engine.inspect_network(network)["Internal"] is True
        assert world.key(container, network)["IPAddress"] == world.address(network, 2)
        assert world.key(container, network)["Gateway"] == world.address(network, 1)
        assert world.interfaces(container) == {"lo", "eth0"}

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


def only(keys: dict[str, dict[str, t.Any]]) -> dict[str, t.Any]:
    """The only key of a container on one network."""
    (key,) = keys.values()
    return key
