# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which interfaces lead out of a network namespace, and what that says about an isolation."""

from __future__ import annotations

import os

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.namespace import (
    HERE,
    INNER,
    OUTSIDE,
    UNKNOWN,
    Findings,
    Link,
    Links,
    findings,
    links_of,
    place_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.netlink import RawLink


def link(name: str, kind: str, place: str = HERE, *, up: bool = True) -> Link:
    return Link(name, 9, kind, up, 0, place)


LO = link("lo", "loopback")
VETH = link("eth0", "veth", OUTSIDE)
GATEWAY = link("eth1", "veth", OUTSIDE)


def complete(*links: Link) -> Links:
    return Links(links, complete=True)


def names(*given: str) -> Links:
    return Links(tuple(Link(name, 0, UNKNOWN, True, 0, UNKNOWN) for name in ("lo", *given)), complete=False)


@pytest.mark.parametrize(
    "own",
    [
        [link("tun0", "tun")],
        [link("docker0", "bridge"), link("veth1", "veth", INNER), link("veth2", "veth", INNER)],
        [link("a", "veth"), link("b", "veth")],
        [link("dummy0", "dummy"), link("ifb0", "ifb")],
        [link("flannel.1", "vxlan"), link("cali", "ipip"), link("eth0.5", "vlan")],
        [link("sit0", "sit", up=True)],
    ],
)
def test_c1_interfaces_of_the_container_itself_are_a_warning(own: list[Link]) -> None:
    found = findings(complete(LO, *own), known=0)
    assert found.contradictions == ()
    (warning,) = found.warnings
    assert warning.startswith("it has network interfaces of its own")
    for one in own:
        assert f"{one.name} ({one.kind})" in warning


@pytest.mark.parametrize(
    "way_out",
    [
        VETH,
        link("mv0", "macvlan", OUTSIDE),
        link("mv0", "macvlan"),
        link("iv0", "ipvlan"),
        link("enp0s1", "physical"),
        link("vx0", "vxlan", OUTSIDE),
        link("tun0", "tun", OUTSIDE),
        link("wg0", "wireguard"),
        link("new0", "a kind that nobody knows yet"),
        link("sit0", "sit", OUTSIDE, up=False),
    ],
)
def test_c1_what_leads_out_and_the_engine_does_not_know_is_a_contradiction(way_out: Link) -> None:
    (contradiction,) = findings(complete(LO, link("tun9", "tun"), way_out), known=0).contradictions
    assert f"{way_out.name} ({way_out.kind})" in contradiction
    assert "tun9" not in contradiction
    assert findings(complete(LO, VETH, GATEWAY, way_out), known=2).contradictions != ()


def test_c1_what_the_engine_knows_is_none() -> None:
    assert findings(complete(LO, VETH), known=1) == Findings()
    assert findings(complete(LO, link("eth0", "macvlan", OUTSIDE)), known=1) == Findings()


def test_c1_docker_gwbridge_of_overlay_networks_is_known() -> None:
    assert findings(complete(LO, VETH, GATEWAY), known=1, of_overlay=True) == Findings()
    assert findings(complete(LO, VETH, GATEWAY), known=1).contradictions != ()
    stray = findings(complete(LO, VETH, GATEWAY, link("x", "veth", OUTSIDE)), known=1, of_overlay=True)
    assert "docker_gwbridge" in stray.contradictions[0]


def test_devices_that_the_kernel_adds_to_every_namespace_are_nothing() -> None:
    inert = [link(name, kind, up=False) for name, kind in (("tunl0", "ipip"), ("gre0", "gre"), ("ip_vti0", "vti"))]
    assert findings(complete(LO, *inert), known=0) == Findings()
    assert findings(names("tunl0", "sit0"), known=0) == Findings()


def test_where_names_alone_can_be_read_more_of_them_than_networks_are_a_contradiction() -> None:
    assert findings(names("eth0"), known=1) == Findings()
    (contradiction,) = findings(names("eth0", "tun0"), known=1).contradictions
    assert "eth0, tun0, of which nothing but the names could be read" in contradiction


def test_a_container_with_many_interfaces_does_not_fill_the_record() -> None:
    (warning,) = findings(complete(*(link(f"d{number:05}", "dummy") for number in range(5000))), known=0).warnings
    assert len(warning) < 600
    assert warning.endswith("and 4980 more")


def raw(kind: str, *, index: int = 2, peer: int = 0, nsid: int | None = None) -> RawLink:
    return RawLink(f"i{index}", index, kind, up=True, peer=peer, peer_nsid=nsid)


@pytest.mark.parametrize(
    ("one", "others", "place"),
    [
        (raw("veth", peer=3), [raw("veth", index=3, peer=2)], HERE),
        # Without the number of a namespace, as kernels before 4.0 tell it, an index may mean another interface.
        (raw("veth", peer=3), [], OUTSIDE),
        (raw("veth", peer=3), [raw("bridge", index=3)], OUTSIDE),
        (raw("veth", peer=3), [raw("veth", index=3, peer=7)], OUTSIDE),
        (raw("veth"), [], OUTSIDE),
        (raw("veth", peer=3, nsid=0), [raw("veth", index=3, peer=2)], OUTSIDE),
        (raw("veth", peer=3, nsid=1), [], INNER),
        (raw("veth", peer=3, nsid=-1), [], OUTSIDE),
        (raw("vlan", peer=3), [raw("veth", index=3, peer=9, nsid=0)], HERE),
        (raw("vlan", peer=3), [], OUTSIDE),
        (raw("vxlan"), [], HERE),
        (raw("vxlan", peer=2, nsid=0), [], OUTSIDE),
        (raw("tun"), [], HERE),
    ],
)
def test_where_the_other_end_is(one: RawLink, others: list[RawLink], place: str) -> None:
    assert place_of(one, {link.ifindex: link for link in [one, *others]}, inner={1}) == place


def test_a_process_that_is_not_of_the_container_says_nothing() -> None:
    assert links_of(os.getpid(), "f" * 64) is None


def test_a_process_that_does_not_exist_says_nothing() -> None:
    assert links_of(2**30, "f" * 64) is None
    assert links_of(0, "f" * 64) is None
