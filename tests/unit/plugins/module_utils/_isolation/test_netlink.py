# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel tells of interfaces, from recorded and from broken bytes."""

from __future__ import annotations

import errno
import pathlib
import socket
import struct
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import netlink
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.netlink import RawLink

# A namespace with a veth pair inside and one veth whose peer is elsewhere, as Linux 6.18 answered RTM_GETLINK.
RECORDED = [
    bytes.fromhex(part)
    for part in (pathlib.Path(__file__).parent / "fixtures/links.txt").read_text(encoding="ascii").split("\n\n")
]
LINKS = [
    RawLink("lo", 1, "loopback", up=False, peer=0, peer_nsid=None),
    RawLink("vb", 2, "veth", up=False, peer=3, peer_nsid=None),
    RawLink("va", 3, "veth", up=False, peer=2, peer_nsid=None),
    RawLink("eth0", 5, "veth", up=False, peer=35, peer_nsid=0),
]
NEWLINK = 16
IFNAME, LINK, LINKINFO, NETNSID, INFO_KIND = 3, 5, 18, 37, 1


def attribute(kind: int, value: bytes) -> bytes:
    padded = value + b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + padded


def message(payload: bytes, kind: int = 16, flags: int = 2, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def link(*attributes: bytes, index: int = 7, hardware: int = 1, flags: int = 1) -> bytes:
    return message(struct.pack("=BxHiII", 0, hardware, index, flags, 0) + b"".join(attributes))


def parse(datagram: bytes) -> list[RawLink]:
    return [netlink.link_of(payload) for payload in netlink.answers(datagram, 1, NEWLINK)[0]]


def test_a_recorded_answer_tells_every_interface() -> None:
    found = [netlink.answers(datagram, 1, NEWLINK) for datagram in RECORDED]
    assert [netlink.link_of(payload) for payloads, _torn, _done in found for payload in payloads] == LINKS
    assert [(torn, done) for _payloads, torn, done in found] == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan", "wireguard", "dummy", "vxlan", "tun"])
def test_a_kind_is_what_the_kernel_says(kind: str) -> None:
    info = attribute(LINKINFO, attribute(INFO_KIND, kind.encode() + b"\0"))
    nested = struct.pack("=HH", len(info), LINKINFO | 0x8000) + info[4:]
    for one in (info, nested):
        expected = RawLink("x0", 7, kind, up=True, peer=2, peer_nsid=0)
        assert parse(
            link(attribute(IFNAME, b"x0\0"), one, attribute(LINK, struct.pack("=i", 2)), attribute(NETNSID, b"\0" * 4))
        ) == [expected]


def test_an_interface_without_a_kind_is_hardware() -> None:
    assert [one.kind for one in parse(link(attribute(IFNAME, b"enp0s1\0")))] == ["physical"]
    assert [one.kind for one in parse(link(attribute(IFNAME, b"lo\0"), hardware=772))] == ["loopback"]


def test_a_namespace_without_a_name_is_another_one() -> None:
    assert parse(link(attribute(IFNAME, b"x\0"), attribute(NETNSID, struct.pack("=i", -1))))[0].peer_nsid == -1


def test_a_name_that_is_no_text_is_kept() -> None:
    (found,) = parse(link(attribute(IFNAME, b"\xff\x1b[2J\0rest")))
    assert found.name == "\udcff\x1b[2J"


@pytest.mark.parametrize(
    "datagram",
    [
        b"\1",
        message(b"\0" * 8),
        link(),
        link(attribute(IFNAME, b"")),
        link(attribute(IFNAME, b"x0\0"), index=0),
        link(attribute(IFNAME, b"x0\0"), attribute(LINK, b"\0\0")),
        link(attribute(IFNAME, b"x0\0"), attribute(NETNSID, b"\0" * 8)),
        link(attribute(IFNAME, b"x0\0"), struct.pack("=HH", 3, LINK)),
        link(attribute(IFNAME, b"x0\0"), struct.pack("=HH", 400, LINK)),
        link(attribute(IFNAME, b"x0\0"), attribute(LINKINFO, struct.pack("=HH", 0, INFO_KIND))),
        link(attribute(IFNAME, b"x0\0"), b"\1\0"),
        struct.pack("=IHHII", 15, 16, 2, 1, 0),
        struct.pack("=IHHII", 2**32 - 1, 16, 2, 1, 0),
        message(b"", kind=2),
    ],
)
def test_what_is_malformed_is_an_error(datagram: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|no name|four bytes"):
        parse(datagram)


@given(st.data())
def test_an_answer_that_is_cut_short_is_never_a_shorter_list_that_is_complete(data: st.DataObject) -> None:
    whole = b"".join(RECORDED)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        _payloads, _torn, done = netlink.answers(cut, 1, NEWLINK)
    except ValueError:
        return
    assert not done


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_are_a_known_error(noise: bytes) -> None:
    try:
        parse(noise + RECORDED[1])
    except (ValueError, OSError):
        return


def test_an_error_of_the_kernel_is_raised_as_such() -> None:
    with pytest.raises(PermissionError):
        parse(message(struct.pack("=i", -errno.EPERM), kind=2))


class Kernel:
    """Answers a dump by given datagrams, one list for each time that it is asked."""

    def __init__(self, *answers: list[bytes], port: int = 0) -> None:
        self.answers = list(answers)
        self.port = port
        self.queue: list[tuple[bytes, int]] = []

    def sendto(self, _request: bytes, _address: object) -> None:
        self.queue = [(b"noise", 4711), *((datagram, 0) for datagram in self.answers.pop(0))]

    def recvmsg(self, _size: int) -> tuple[bytes, list[t.Any], int, tuple[int, int]]:
        data, port = self.queue.pop(0)
        return data, [], 0, (port, 0)


def as_socket(kernel: Kernel) -> socket.socket:
    return t.cast("socket.socket", kernel)


def torn(sequence: int) -> list[bytes]:
    name = attribute(IFNAME, b"x0\0")
    payload = struct.pack("=BxHiII", 0, 1, 7, 1, 0) + name
    return [message(payload, flags=0x12, sequence=sequence), message(b"\0" * 4, kind=3, sequence=sequence)]


def test_a_list_that_changed_while_it_was_made_is_read_again_and_strangers_are_not_listened_to() -> None:
    again = message(struct.pack("=BxHiII", 0, 1, 8, 1, 0) + attribute(IFNAME, b"y0\0"), sequence=2)
    kernel = Kernel(torn(1), [again + message(b"\0" * 4, kind=3, sequence=2)])
    assert [one.name for one in netlink.read_links(as_socket(kernel))] == ["y0"]


def test_a_list_that_never_stands_still_is_an_error() -> None:
    with pytest.raises(ValueError, match="faster"):
        netlink.read_links(as_socket(Kernel(*(torn(number) for number in range(1, 5)))))
