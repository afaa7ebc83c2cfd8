# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interfaces and neighbours of a network namespace, over rtnetlink.

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
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 3, 5, 18, 29, 37
_IFLA_INFO_KIND = 1
_NETNSA_NSID, _NETNSA_FD = 1, 3
_SKIP_STATISTICS = 1 << 3
_ATTRIBUTE_TYPE = 0x3FFF  # without the bits for "nested" and "network byte order"
_IFF_UP = 0x1
_ARPHRD_LOOPBACK = 772

_MESSAGE = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("=BxHiII")  # family, type of hardware, index, flags, which flags changed
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_INT = struct.Struct("=i")

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


def open_socket(namespace: int) -> socket.socket:
    """A netlink socket in a network namespace, given as a file descriptor. Raises OSError where that is not permitted.

    It takes CAP_SYS_ADMIN, in the user namespace of that namespace, too. The caller stays where it is.
    """
    made: list[socket.socket] = []
    errors: list[OSError] = []

    def enter() -> None:
        try:
            _setns(namespace)
            made.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE))
        except OSError as error:
            errors.append(error)

    # setns moves one thread, and a socket stays in the namespace that it was made in: so a thread goes there, makes the
    # socket, and ends. It is of no pool, which would use it again.
    thread = threading.Thread(target=enter, name="container-guard-namespace")
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
    thread.join()
    if errors:
        raise errors[0]
    made[0].settimeout(_TIMEOUT)
    return made[0]


def read_links(netlink: socket.socket) -> list[RawLink]:
    """All interfaces of the namespace of the socket. Raises OSError; ValueError for what cannot be understood."""
    mask = _attribute(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATISTICS))
    request = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + mask
    for sequence in range(1, _ATTEMPTS + 1):
        _send(netlink, _RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, request)
        links, whole, done = [], True, False
        while not done:
            datagram = _receive(netlink)
            found, torn, done = parse_links(datagram, sequence)
            links += found
            whole = whole and not torn
        if whole:
            return links
    raise ValueError("the interfaces change faster than they can be read")


def parse_links(datagram: bytes, sequence: int) -> tuple[list[RawLink], bool, bool]:
    """Of one datagram: its interfaces, whether the list changed while it was made, and whether it ends here.

    Raises OSError for an error that the kernel tells, ValueError for what cannot be understood.
    """
    links, torn, done = [], False, False
    for kind, flags, number, payload in _messages(datagram):
        if number != sequence:
            continue  # what is left of an earlier attempt
        torn = torn or bool(flags & _NLM_F_DUMP_INTR)
        if kind == _NLMSG_DONE:
            done = True
        elif kind == _RTM_NEWLINK:
            links.append(_link(payload))
    return links, torn, done


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
    rest = datagram
    while rest:
        if len(rest) < _MESSAGE.size:
            raise ValueError("a message of the kernel is cut short")
        length, kind, flags, sequence, _port = _MESSAGE.unpack_from(rest)
        if not _MESSAGE.size <= length <= len(rest):
            raise ValueError("a message of the kernel is cut short")
        payload = rest[_MESSAGE.size : length]
        if kind == _NLMSG_ERROR:
            number = -_number_of(payload[: _INT.size])
            raise OSError(number, os.strerror(number))
        yield kind, flags, sequence, payload
        rest = rest[_aligned(length) :]


def _link(payload: bytes) -> RawLink:
    if len(payload) < _LINK.size:
        raise ValueError("an interface is cut short")
    _family, hardware, index, flags, _changed = _LINK.unpack_from(payload)
    attributes = _attributes(payload[_LINK.size :])
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


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        if len(data) < _ATTRIBUTE.size:
            raise ValueError("an attribute is cut short")
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            raise ValueError("an attribute is cut short")
        found[kind & _ATTRIBUTE_TYPE] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
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


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode("utf-8", "surrogateescape")
