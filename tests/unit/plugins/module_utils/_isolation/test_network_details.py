# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is set on interfaces: read from recorded and from broken bytes, compared, kept in the journal and told."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.text import display
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import netlink
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.netlink import (
    Address,
    Device,
    RawLink,
    Route,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import (
    Details,
    Interface,
    details_of,
    differences,
    read_details,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import Endpoint
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth, Unreadable

PAUSE, CUT = Action("pause"), Action("network_disconnect")
BOTH = [PAUSE, CUT]
MAC = "02:42:0a:01:00:02"
LINK, NEIGHBOURS, ADDRESS, ROUTE = 16, 64, 20, 24
# The interfaces, tables of neighbours, addresses and routes of a namespace, as Linux 6.18 told them.
RECORDED = [
    bytes.fromhex(part)
    for part in (pathlib.Path(__file__).parent / "fixtures/details.txt").read_text(encoding="ascii").split("\n\n")
]
PARSERS: list[tuple[int, t.Callable[[bytes], object]]] = [
    (LINK, netlink.device_of),
    (NEIGHBOURS, netlink.neighbour_settings_of),
    (ADDRESS, netlink.address_of),
    (ROUTE, netlink.route_of),
]
IPV4 = "net.ipv4.conf"
ETH0 = Interface("eth0", 1500, {IPV4: "1 0 0"})


def endpoint(network: str = "front", mac_address: str = MAC, ipv4_address: str = "10.1.0.2") -> Endpoint:
    return Endpoint(network, "n1", EndpointSettings(), ipv4_address=ipv4_address, mac_address=mac_address)


def recorded() -> list[list[t.Any]]:
    return [
        [parse(payload) for payload in netlink.answers(datagram, 1, kind)[0]]
        for (kind, parse), datagram in zip(PARSERS, RECORDED, strict=True)
    ]


def device(name: str = "eth0", ifindex: int = 2, address: str = MAC, out: bool = True) -> Device:
    link = RawLink(name, ifindex, "veth", up=True, peer=7, peer_nsid=0 if out else None)
    return Device(link, address, 1500, (), ())


def route(number: int = 9, ifindex: int = 2) -> Route:
    return Route(2, f"10.{number // 256}.{number % 256}.0/24", (("10.1.0.9", ifindex),), 254, 1, 0, 3, cached=False)


def found(devices: t.Sequence[Device], *endpoints: Endpoint, routes: t.Iterable[Route] = ()) -> Details:
    return details_of(devices, [], [], routes, endpoints)


def entry_of(journal: Journal, container: str) -> Entry:
    entry = journal.load(container)
    assert entry is not None
    return entry


# --- what the kernel tells --------------------------------------------------------------------------------------------


def test_d5_what_is_set_in_a_recorded_namespace() -> None:
    devices, neighbours, addresses, routes = recorded()
    details = details_of(devices, neighbours, addresses, routes, [endpoint()])
    (interface,) = details.interfaces.values()
    assert (list(details.interfaces), interface.name, interface.mtu) == (["front"], "eth0", 1400)
    assert interface.settings[IPV4].split()[:8] == ["1", "0", "1", "1", "1", "1", "1", "0"]
    assert interface.settings["net.ipv4.neigh"] == "30000 1000 60000 5000 0 7 3 1000 800 64 1000 212992 0 5000"
    assert details.made == (
        "address 10.1.0.77/24 on network front",
        "address fd00::77/64 on network front",
        "route 10.5.0.0/16 via fd00::9 on network front",
        "route 10.6.0.0/16 via 10.1.0.8 on network front, via 10.1.0.9 on network front",
        "route 10.8.0.0/16 via 10.1.0.9 on network front table 100",
        "route 10.9.0.0/16 via 10.1.0.9 on network front metric 50",
        "route 2001:db8::/32 via fd00::9 on network front metric 1024",
        "route 2001:db9::/32 via fd00::8 on network front, via fd00::9 on network front metric 1024",
        "route blackhole 10.7.0.0/16",
        "route default via 10.1.0.1 on network front",
    )


def test_d5_sysctls_are_told_by_their_names_and_as_they_are_shown() -> None:
    devices, neighbours, addresses, routes = recorded()
    before = details_of(devices, neighbours, addresses, routes, [endpoint()])
    (interface,) = before.interfaces.values()
    changed = {
        IPV4: interface.settings[IPV4].replace("1 0 1", "1 0 0", 1),
        "net.ipv6.conf": interface.settings["net.ipv6.conf"].replace("4000 1000", "5000 1000", 1),
        "net.ipv4.neigh": "30000 1000 90000 5000 0 3 3 808 800 64 1000 212992 0 5000",
    }
    after = Details({"front": dataclasses.replace(interface, settings=changed)}, before.made)
    assert [tuple(difference.values()) for difference in differences(before, after)] == [
        ("sysctl net.ipv4.conf.eth0.proxy_arp", "1", "0"),
        ("sysctl net.ipv4.neigh.eth0.gc_stale_time", "60", "90"),
        ("sysctl net.ipv4.neigh.eth0.ucast_solicit", "7", "3"),
        ("sysctl net.ipv4.neigh.eth0.anycast_delay", "100", "80"),
        ("sysctl net.ipv6.conf.eth0.router_solicitation_interval", "4", "5"),
    ]


@pytest.mark.parametrize(("kind", "parse"), PARSERS)
@given(data=st.data())
def test_any_bytes_are_understood_or_are_a_known_error(
    kind: int, parse: t.Callable[[bytes], object], data: st.DataObject
) -> None:
    (good, *_rest) = netlink.answers(RECORDED[PARSERS.index((kind, parse))], 1, kind)[0]
    start = data.draw(st.integers(0, len(good)))
    payload = good[:start] + data.draw(st.binary(max_size=60)) + good[start + data.draw(st.integers(0, 60)) :]
    try:
        parse(payload)
    except ValueError:
        return


def test_an_interface_is_known_by_its_mac_address_and_by_nothing_else() -> None:
    assert found([device("lo", 1, ""), device("renamed")], endpoint()).interfaces["front"].name == "renamed"
    assert found([device()], endpoint(mac_address=MAC.upper())).interfaces != {}
    assert found([device()], endpoint(mac_address="02:42:0a:01:00:03")).interfaces == {}
    assert found([device()], endpoint(mac_address="")).interfaces == {}


def test_what_sits_on_an_interface_and_has_its_address_is_not_taken_for_it() -> None:
    vlan = device("eth0.5", 1, out=False)
    assert found([vlan, device()], endpoint()).interfaces["front"].name == "eth0"


def test_where_two_have_one_address_nothing_is_told_of_them() -> None:
    assert found([device(), device("twin", 3)], endpoint()).interfaces == {}
    assert found([device()], endpoint(), endpoint("back")).interfaces == {}


def test_the_address_of_an_endpoint_is_told_elsewhere() -> None:
    own, other = Address("10.1.0.2", 24, 2, 0), Address("10.1.0.3", 24, 2, 0)
    details = details_of([device()], [], [own, other], [], [endpoint()])
    assert details.made == ("address 10.1.0.3/24 on network front",)


def test_routes_that_come_by_themselves_are_none_that_can_be_lost() -> None:
    routes = [route()._replace(protocol=protocol) for protocol in (1, 2, 9)] + [route()._replace(cached=True)]
    assert found([device()], endpoint(), routes=routes).made == ()


def test_a_route_keeps_its_text_where_the_interface_has_another_name_or_number() -> None:
    before = found([device()], endpoint(), routes=[route()])
    after = found([device("eth2", 9)], endpoint(), routes=[route(ifindex=9)])
    assert [one["what"] for one in differences(before, after)] == ["name of the interface on network front"]


def test_thousands_of_routes_are_counted_and_not_kept() -> None:
    details = found([device()], endpoint(), routes=[route(number) for number in range(900)])
    assert (len(details.made), details.more) == (100, 800)
    lost = differences(details, found([device()], endpoint(), routes=[route(0)]))
    assert len(lost) == 100
    assert lost[-1] == {
        "what": "number of further routes and addresses, as far as they were counted",
        "before": "800",
        "after": "0",
    }


def test_what_is_told_is_bounded() -> None:
    before = Details({f"n{number}": ETH0 for number in range(250)})
    after = Details({f"n{number}": dataclasses.replace(ETH0, mtu=1400) for number in range(250)})
    lost = differences(before, after)
    assert len(lost) == 201
    assert lost[-1] == {
        "what": "number of further settings of its networks that were lost",
        "before": "0",
        "after": "50",
    }


def test_where_many_are_left_nobody_says_which_are_missing() -> None:
    before = Details({}, ("route a",), 30)
    assert differences(before, Details({}, ("route b",), 20)) == [
        {"what": "number of further routes and addresses, as far as they were counted", "before": "30", "after": "20"}
    ]


def test_names_that_were_written_by_attackers_are_shown_inert() -> None:
    name = "\x1b[2J{{x}}"
    details = found([device(name), device(name, 3, "", out=False)], endpoint(), routes=[route(ifindex=3)])
    assert details.interfaces["front"].name == display(name)
    assert details.made == (f"route 10.0.9.0/24 via 10.1.0.9 dev {display(name)}",)


def test_a_process_that_is_not_of_the_container_tells_nothing() -> None:
    assert read_details(os.getpid(), "f" * 64, [endpoint()]) is None
    assert read_details(2**22 + 1, "f" * 64, [endpoint()]) is None


# --- what was lost ----------------------------------------------------------------------------------------------------


def test_what_is_as_it_was_is_no_difference() -> None:
    details = Details({"front": ETH0}, ("route 10.9.0.0/16 via 10.1.0.9",))
    assert differences(details, details) == []


def test_where_one_of_them_is_not_known_nothing_is_claimed() -> None:
    details = Details({"front": ETH0})
    assert differences(None, details) == differences(details, None) == []


def test_d5_names_mtu_sysctls_and_routes_are_told() -> None:
    before = Details({"front": Interface("eth0", 1400, {IPV4: "1 0 1"})}, ("route 10.9.0.0/16 via 10.1.0.9",))
    after = Details({"front": Interface("eth2", 1500, {IPV4: "0 0 1"})}, ("route 10.8.0.0/16 via 10.1.0.9",))
    assert differences(before, after) == [
        {"what": "name of the interface on network front", "before": "eth0", "after": "eth2"},
        {"what": "MTU on network front", "before": "1400", "after": "1500"},
        {"what": "sysctl net.ipv4.conf.eth0.forwarding", "before": "1", "after": "0"},
        {"what": "route 10.9.0.0/16 via 10.1.0.9", "before": "present", "after": "missing"},
    ]


def test_the_sysctl_that_follows_the_mtu_is_told_where_it_did_not_follow_it() -> None:
    def with_mtu(mtu: int, mtu_of_ipv6: int) -> Details:
        return Details({"front": Interface("eth0", mtu, {"net.ipv6.conf": f"0 64 {mtu_of_ipv6}"})})

    assert [one["what"] for one in differences(with_mtu(1400, 1400), with_mtu(1500, 1500))] == ["MTU on network front"]
    assert differences(with_mtu(1500, 1280), with_mtu(1500, 1500)) == [
        {"what": "sysctl net.ipv6.conf.eth0.mtu", "before": "1280", "after": "1500"}
    ]


def test_a_sysctl_that_is_newer_than_the_guard_is_told_by_its_number() -> None:
    before, after = (Details({"front": Interface("eth0", 1500, {IPV4: f"{'0 ' * 40}{last}"})}) for last in (1, 0))
    assert differences(before, after) == [{"what": "sysctl net.ipv4.conf.eth0.#40", "before": "1", "after": "0"}]


# --- one walk ---------------------------------------------------------------------------------------------------------

BEFORE = Details({"front": Interface("eth0", 1400, {IPV4: "1 0"})}, ("route 10.9.0.0/16 via 10.1.0.9",))
AFTER = Details({"front": Interface("eth2", 1500, {IPV4: "0 0"})})


@pytest.fixture
def truth(engine: FakeEngine) -> FakeTruth:
    found = FakeTruth(engine)
    found.set_on_interfaces = BEFORE
    return found


@pytest.fixture
def isolator(engine: FakeEngine, journal: Journal, truth: FakeTruth) -> Isolator:
    return Isolator(engine, journal, truth=truth)


@pytest.fixture
def web(engine: FakeEngine) -> str:
    engine.add_network("front", "10.1.0.0/24")
    return engine.add_container("web", networks={"front": EndpointSettings()})


def test_it_is_on_disk_before_the_first_network_is_left(
    engine: FakeEngine, isolator: Isolator, journal: Journal, truth: FakeTruth, web: str
) -> None:
    seen = []
    engine.before("disconnect", lambda: seen.append(entry_of(journal, web).details))
    isolator.isolate(web, BOTH)
    assert seen == [BEFORE] == [entry_of(journal, web).details]


def test_it_is_kept_as_it_was_before_the_first_network_was_left(
    engine: FakeEngine, isolator: Isolator, journal: Journal, truth: FakeTruth, web: str
) -> None:
    isolator.isolate(web, [PAUSE])
    assert entry_of(journal, web).details is None
    isolator.isolate(web, BOTH)
    truth.set_on_interfaces = AFTER
    engine.connect("front", web, EndpointSettings())
    isolator.isolate(web, BOTH)
    assert entry_of(journal, web).details == BEFORE


def test_d5_a_release_tells_what_was_lost(isolator: Isolator, truth: FakeTruth, web: str) -> None:
    isolator.isolate(web, BOTH)
    truth.set_on_interfaces = AFTER
    outcome = isolator.release(web)
    assert outcome.outcome == "released"
    assert [one["what"] for one in outcome.not_restored] == [
        "name of the interface on network front",
        "MTU on network front",
        "sysctl net.ipv4.conf.eth0.forwarding",
        "route 10.9.0.0/16 via 10.1.0.9",
    ]
    assert "MTU on network front was '1400' and is '1500' now" in outcome.warnings


def test_d5_one_that_lost_nothing_tells_nothing(isolator: Isolator, truth: FakeTruth, web: str) -> None:
    isolator.isolate(web, BOTH)
    assert isolator.release(web).not_restored == ()


def test_d5_a_new_process_has_lost_what_was_made_by_hand(isolator: Isolator, truth: FakeTruth, web: str) -> None:
    isolator.isolate(web, [PAUSE, CUT, Action("kill")])
    truth.set_on_interfaces = dataclasses.replace(BEFORE, made=())
    assert [one["what"] for one in isolator.release(web).not_restored] == [
        "processes",
        "route 10.9.0.0/16 via 10.1.0.9",
    ]


def test_d5_networks_come_back_in_the_order_of_the_interfaces(
    engine: FakeEngine, isolator: Isolator, truth: FakeTruth
) -> None:
    names = {"a": "eth10", "b": "eth2", "d": "eth0"}
    truth.set_on_interfaces = Details({network: Interface(name, 1500, {}) for network, name in names.items()})
    for network in "abcd":
        engine.add_network(network)
    container = engine.add_container("many", networks=dict.fromkeys("abcd", EndpointSettings()))
    isolator.isolate(container, BOTH)
    connected = [step.detail for step in isolator.release(container).steps if step.action == "connect"]
    assert connected == ["d", "b", "a", "c"]


def test_what_was_set_by_another_process_meanwhile_is_not_taken_for_that_of_before(
    engine: FakeEngine, isolator: Isolator, journal: Journal, truth: FakeTruth, web: str
) -> None:
    isolator.isolate(web, [PAUSE])
    engine.kill(web)
    engine.start(web)
    isolator.isolate(web, BOTH)
    assert entry_of(journal, web).details is None


def test_on_another_host_nothing_is_known_and_nothing_told(engine: FakeEngine, journal: Journal, web: str) -> None:
    isolator = Isolator(engine, journal, truth=Unreadable())
    isolator.isolate(web, BOTH)
    assert entry_of(journal, web).details is None
    assert isolator.release(web).not_restored == ()


def test_an_entry_with_details_is_read_as_it_was_written(
    isolator: Isolator, journal: Journal, truth: FakeTruth, web: str
) -> None:
    isolator.isolate(web, BOTH)
    entry = entry_of(journal, web)
    assert Entry.from_json(entry.to_json()) == entry
