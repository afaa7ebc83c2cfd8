# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interfaces, addresses, routes and neighbours of a network namespace, over rtnetlink.

What the kernel answers is parsed as bytes of unknown origin: a message that is cut short or contradicts itself is a
ValueError, never a shorter list of interfaces.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import typing as t

_TIMEOUT = 5.0
_BUFFER = 1 << 18
_ATTEMPTS = 4

_CLONE_NEWNET = 0x40000000
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWNSID, _RTM_GETNSID = 16, 18, 88, 90
_RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 20, 22, 24, 26
_RTM_NEWNEIGHTBL, _RTM_GETNEIGHTBL = 64, 66
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 3, 5, 18, 29, 37
_IFLA_INFO_KIND = 1
_IFLA_ADDRESS, _IFLA_MTU, _IFLA_AF_SPEC = 1, 4, 26
_IFLA_INET_CONF, _IFLA_INET6_CONF = 1, 2
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 1, 4, 5, 6, 9, 15, 18
_NDTA_PARMS, _NDTPA_IFINDEX = 6, 1
_NETNSA_NSID, _NETNSA_FD = 1, 3
_SKIP_STATISTICS = 1 << 3
_ATTRIBUTE_TYPE = 0x3FFF  # without the bits for "nested" and "network byte order"
_IFF_UP = 0x1
_RTM_F_CLONED = 0x200
_ARPHRD_LOOPBACK = 772

_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("=BxHiII")  # family, type of hardware, index, flags, which flags changed
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_INT = struct.Struct("=i")
_ADDRESS = struct.Struct("=BBBBI")  # family, length of the prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, lengths of both prefixes, tos, table, protocol, scope, type, flags
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, hops, index
_FAMILY = struct.Struct("=H")

_ALL_LINKS = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + struct.pack("=HHI", 8, _IFLA_EXT_MASK, _SKIP_STATISTICS)

LOOPBACK, PHYSICAL = "loopback", "physical"


class RawLink(t.NamedTuple):
    """An interface as the kernel tells of it.

    Attributes:
        name: bytes that are no name in UTF-8 are lone surrogates; not fit for display.
        ifindex: its number in its namespace, positive.
        kind: what the kernel calls it (C(veth), C(tun), C(bridge), ...), C(loopback), or C(physical) where it has no
            kind: hardware, and drivers that make interfaces by themselves.
        up: whether it is up.
        peer: ifindex of its other end or lower device; 0 for none.
        peer_nsid: what its namespace calls the one that the peer, or the socket of a tunnel, is in; None where that is
            the same. -1 where the kernel has no name for it.
    """

    name: str
    ifindex: int
    kind: str
    up: bool
    peer: int
    peer_nsid: int | None


class Device(t.NamedTuple):
    """An interface with what can be set on it.

    Attributes:
        link: the interface.
        address: its MAC address, in lower case with colons; empty for none.
        mtu: in bytes.
        ipv4, ipv6: its settings, in the order of C(IPV4_DEVCONF_) and C(DEVCONF_) in the headers of Linux.
    """

    link: RawLink
    address: str
    mtu: int
    ipv4: tuple[int, ...]
    ipv6: tuple[int, ...]


class Address(t.NamedTuple):
    """An IP address of an interface.

    Attributes:
        text: the address.
        prefix: length of its prefix in bits.
        ifindex: of the interface.
        scope: 0 for one that is valid everywhere.
    """

    text: str
    prefix: int
    ifindex: int
    scope: int


class Route(t.NamedTuple):
    """A route.

    Attributes:
        family: C(socket.AF_INET), C(socket.AF_INET6), or one that is not understood.
        destination: with the length of its prefix; empty for the default route.
        hops: each with a gateway, or empty, and the number of an interface, or 0.
        table: number of the table.
        kind: type of the route, 1 for unicast.
        metric: 0 where it has none.
        protocol: who made it: 2 for the kernel.
        cached: it was learned, and is in no table.
    """

    family: int
    destination: str
    hops: tuple[tuple[str, int], ...]
    table: int
    kind: int
    metric: int
    protocol: int
    cached: bool


class NeighbourSettings(t.NamedTuple):
    """How an interface looks for its neighbours.

    Attributes:
        family: C(socket.AF_INET) or C(socket.AF_INET6).
        ifindex: of the interface; 0 for what new ones begin with.
        values: by C(NDTPA_) in the headers of Linux, in the order of bytes of this machine.
    """

    family: int
    ifindex: int
    values: t.Mapping[int, bytes]


def open_socket(namespace: int) -> socket.socket:
    """A netlink socket in a network namespace, given as a file descriptor. Raises OSError where that is not permitted.

    It takes CAP_SYS_ADMIN, in the user namespace of that namespace, too. The caller stays where it is.
    """
    made: list[socket.socket] = []
    errors: list[OSError] = []

    def run() -> None:
        try:
            made.append(enter(namespace))
        except OSError as error:
            errors.append(error)

    # setns moves one thread, and a socket stays in the namespace that it was made in: so a thread goes there, makes the
    # socket, and ends. It is of no pool, which would use it again.
    thread = threading.Thread(target=run, name="container-guard-namespace")
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    thread.join()
    if errors:
        raise errors[0]
    return made[0]


def enter(namespace: int) -> socket.socket:
    """Move the calling thread into a network namespace for good, and make a netlink socket there. Raises OSError."""
    _setns(namespace)
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    made.settimeout(_TIMEOUT)
    return made


def read_links(netlink: socket.socket) -> list[RawLink]:
    """All interfaces of the namespace of the socket. Raises OSError; ValueError for what cannot be understood."""
    return [link_of(payload) for payload in _dump(netlink, _RTM_GETLINK, _ALL_LINKS, _RTM_NEWLINK)]


def read_devices(netlink: socket.socket, most: int) -> list[Device]:
    """The same, with what can be set on them. Raises OSError, ValueError; ValueError, too, for more than that many."""
    return [device_of(payload) for payload in _all(netlink, _RTM_GETLINK, _ALL_LINKS, _RTM_NEWLINK, most)]


def read_neighbour_settings(netlink: socket.socket, most: int) -> list[NeighbourSettings]:
    """How the interfaces look for their neighbours. Raises as read_devices."""
    payloads = _all(netlink, _RTM_GETNEIGHTBL, b"\0" * 4, _RTM_NEWNEIGHTBL, most)
    return [neighbour_settings_of(payload) for payload in payloads]


def read_addresses(netlink: socket.socket, most: int) -> list[Address]:
    """The addresses of all interfaces. Raises as read_devices."""
    return [address_of(p) for p in _all(netlink, _RTM_GETADDR, b"\0" * _ADDRESS.size, _RTM_NEWADDR, most)]


def read_routes(netlink: socket.socket, most: int) -> list[Route]:
    """The routes of all tables, up to so many. Where there are more, the socket is used up then.

    Raises OSError, ValueError.
    """
    payloads = _dump(netlink, _RTM_GETROUTE, b"\0" * _ROUTE.size, _RTM_NEWROUTE, most)
    return [route_of(payload) for payload in payloads[:most]]


def _all(netlink: socket.socket, request: int, payload: bytes, answer: int, most: int) -> list[bytes]:
    found = _dump(netlink, request, payload, answer, most)
    if len(found) > most:
        raise ValueError("there is more of it than can be read")
    return found


def _dump(netlink: socket.socket, request: int, payload: bytes, answer: int, most: int | None = None) -> list[bytes]:
    """What the kernel answers to a request for all of a kind. It is not read on where it is more than that."""
    for sequence in range(1, _ATTEMPTS + 1):
        _send(netlink, request, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, payload)
        payloads: list[bytes] = []
        whole, done = True, False
        while not done:
            found, torn, done = answers(_receive(netlink), sequence, answer)
            payloads += found
            whole = whole and not torn
            if most is not None and len(payloads) > most:
                return payloads
        if whole:
            return payloads
    raise ValueError("it changes faster than it can be read")


def answers(datagram: bytes, sequence: int, answer: int) -> tuple[list[bytes], bool, bool]:
    """Of one datagram: what it answers, whether that changed while it was made, and whether it ends here.

    Raises OSError for an error that the kernel tells, ValueError for what cannot be understood.
    """
    payloads, torn, done = [], False, False
    for kind, flags, number, payload in _messages(datagram):
        if number != sequence:
            continue  # what is left of an earlier attempt
        torn = torn or bool(flags & _NLM_F_DUMP_INTR)
        if kind == _NLMSG_DONE:
            done = True
        elif kind == answer:
            payloads.append(payload)
    return payloads, torn, done


def nsid_of(netlink: socket.socket, namespace: int) -> int | None:
    """What the namespace of the socket calls another one, given as a file descriptor; None where it has no name for it.

    Raises OSError, ValueError.
    """
    request = b"\0\0\0\0" + _attribute(_NETNSA_FD, struct.pack("=I", namespace))
    _send(netlink, _RTM_GETNSID, _NLM_F_REQUEST, 0, request)
    for kind, _flags, _number, payload in _messages(_receive(netlink)):
        if kind == _RTM_NEWNSID:
            nsid = _number_of(_attributes(payload[4:]).get(_NETNSA_NSID, b""))
            return nsid if nsid >= 0 else None
    raise ValueError("no answer to RTM_GETNSID")


def _setns(namespace: int) -> None:
    setns = getattr(os, "setns", None)  # Python 3.12
    if setns is not None:
        setns(namespace, _CLONE_NEWNET)
        return
    try:
        import ctypes  # which minimal installations of Python lack

        failed = ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET)
    except (ImportError, AttributeError) as error:
        raise OSError(errno.ENOSYS, str(error)) from error
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _send(netlink: socket.socket, kind: int, flags: int, sequence: int, payload: bytes) -> None:
    netlink.sendto(_MESSAGE.pack(_MESSAGE.size + len(payload), kind, flags, sequence, 0) + payload, (0, 0))


def _receive(netlink: socket.socket) -> bytes:
    while True:
        data, _ancillary, flags, (port, _groups) = netlink.recvmsg(_BUFFER)
        if flags & socket.MSG_TRUNC:
            raise ValueError("a message of the kernel is longer than expected")
        if port == 0:  # any process may write to a netlink socket
            return data


def _messages(datagram: bytes) -> t.Iterator[tuple[int, int, int, bytes]]:
    """Type, flags, sequence number and payload of each message."""
    at = 0
    while at < len(datagram):
        if len(datagram) - at < _MESSAGE.size:
            raise ValueError("a message of the kernel is cut short")
        length, kind, flags, sequence, _port = _MESSAGE.unpack_from(datagram, at)
        if not _MESSAGE.size <= length <= len(datagram) - at:
            raise ValueError("a message of the kernel is cut short")
        payload = datagram[at + _MESSAGE.size : at + length]
        if kind == _NLMSG_ERROR:
            number = -_number_of(payload[: _INT.size])
            raise OSError(number, os.strerror(number))
        yield kind, flags, sequence, payload
        at += _aligned(length)


def link_of(payload: bytes) -> RawLink:
    """The interface that a message tells of. Raises ValueError."""
    return _link(payload, _attributes_after(payload, _LINK))


def device_of(payload: bytes) -> Device:
    """The same, with what can be set on it. Raises ValueError."""
    attributes = _attributes_after(payload, _LINK)
    families = _attributes(attributes.get(_IFLA_AF_SPEC, b""))
    ipv4 = _attributes(families.get(socket.AF_INET, b"")).get(_IFLA_INET_CONF, b"")
    ipv6 = _attributes(families.get(socket.AF_INET6, b"")).get(_IFLA_INET6_CONF, b"")
    return Device(
        _link(payload, attributes),
        address=":".join(f"{byte:02x}" for byte in attributes.get(_IFLA_ADDRESS, b"")),
        mtu=_number_of(attributes[_IFLA_MTU]) if _IFLA_MTU in attributes else 0,
        ipv4=_numbers_of(ipv4),
        ipv6=_numbers_of(ipv6),
    )


def neighbour_settings_of(payload: bytes) -> NeighbourSettings:
    """What a message tells of neighbours. Raises ValueError."""
    if len(payload) < _INT.size:
        raise ValueError("a table of neighbours is cut short")
    parameters = _attributes(_attributes(payload[_INT.size :]).get(_NDTA_PARMS, b""))
    ifindex = _number_of(parameters[_NDTPA_IFINDEX]) if _NDTPA_IFINDEX in parameters else 0
    return NeighbourSettings(payload[0], ifindex, parameters)


def address_of(payload: bytes) -> Address:
    """The address that a message tells of. Raises ValueError."""
    attributes = _attributes_after(payload, _ADDRESS)
    family, prefix, _flags, scope, ifindex = _ADDRESS.unpack_from(payload)
    text = _ip(family, attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b""))
    return Address(text, prefix, ifindex, scope)


def route_of(payload: bytes) -> Route:
    """The route that a message tells of. Raises ValueError."""
    attributes = _attributes_after(payload, _ROUTE)
    family, length, _source, _tos, table, protocol, _scope, kind, flags = _ROUTE.unpack_from(payload)
    destination = attributes.get(_RTA_DST)
    return Route(
        family=family,
        destination=f"{_ip(family, destination)}/{length}" if destination else "",
        hops=tuple(_hops(family, attributes)),
        table=_number_of(attributes[_RTA_TABLE]) if _RTA_TABLE in attributes else table,
        kind=kind,
        metric=_number_of(attributes[_RTA_PRIORITY]) & 0xFFFFFFFF if _RTA_PRIORITY in attributes else 0,
        protocol=protocol,
        cached=bool(flags & _RTM_F_CLONED),
    )


def _hops(family: int, attributes: t.Mapping[int, bytes]) -> t.Iterator[tuple[str, int]]:
    gateway, via = attributes.get(_RTA_GATEWAY), attributes.get(_RTA_VIA, b"")
    ifindex = _number_of(attributes[_RTA_OIF]) if _RTA_OIF in attributes else 0
    if gateway:
        yield _ip(family, gateway), ifindex
    elif len(via) > _FAMILY.size:  # a gateway of the other family
        yield _ip(_FAMILY.unpack_from(via)[0], via[_FAMILY.size :]), ifindex
    elif ifindex:
        yield "", ifindex
    rest = attributes.get(_RTA_MULTIPATH, b"")
    while rest:
        if len(rest) < _NEXT_HOP.size:
            raise ValueError("a hop is cut short")
        length, _flags, _weight, ifindex = _NEXT_HOP.unpack_from(rest)
        if not _NEXT_HOP.size <= length <= len(rest):
            raise ValueError("a hop is cut short")
        own = {kind: v for kind, v in _attributes(rest[_NEXT_HOP.size : length]).items() if kind != _RTA_MULTIPATH}
        yield from _hops(family, {_RTA_OIF: _INT.pack(ifindex), **own})
        rest = rest[_aligned(length) :]


def _link(payload: bytes, attributes: t.Mapping[int, bytes]) -> RawLink:
    _family, hardware, index, flags, _changed = _LINK.unpack_from(payload)
    name = _text(attributes.get(_IFLA_IFNAME, b""))
    if not name or index <= 0:
        raise ValueError("an interface has no name or no index")
    kind = _text(_attributes(attributes.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b""))
    nsid = attributes.get(_IFLA_LINK_NETNSID)
    return RawLink(
        name=name,
        ifindex=index,
        kind=kind or (LOOPBACK if hardware == _ARPHRD_LOOPBACK else PHYSICAL),
        up=bool(flags & _IFF_UP),
        peer=_number_of(attributes[_IFLA_LINK]) if _IFLA_LINK in attributes else 0,
        peer_nsid=None if nsid is None else _number_of(nsid),
    )


def _attributes_after(payload: bytes, header: struct.Struct) -> dict[int, bytes]:
    if len(payload) < header.size:
        raise ValueError("a message of the kernel is cut short")
    return _attributes(payload[header.size :])


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(data):
        if len(data) - at < _ATTRIBUTE.size:
            raise ValueError("an attribute is cut short")
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise ValueError("an attribute is cut short")
        found[kind & _ATTRIBUTE_TYPE] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value.ljust(_aligned(len(value)), b"\0")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _number_of(value: bytes) -> int:
    if len(value) != _INT.size:
        raise ValueError("a number has not four bytes")
    return int(_INT.unpack(value)[0])


def _numbers_of(value: bytes) -> tuple[int, ...]:
    return struct.unpack(f"={len(value) // _INT.size}i", value[: len(value) // _INT.size * _INT.size])


def _ip(family: int, value: bytes) -> str:
    """The address as text; in hexadecimal where it is of a family that has no other form. Raises ValueError."""
    return socket.inet_ntop(family, value) if family in (socket.AF_INET, socket.AF_INET6) else value.hex()


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("utf-8", "surrogateescape")
