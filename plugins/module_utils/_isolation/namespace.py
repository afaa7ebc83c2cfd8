# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interfaces in the network namespace of a container, and which of them lead out of it.

Programs in containers make interfaces of their own: VPN clients, inner engines, clusters in a container. These lead
nowhere but into the same namespace, and so end with the networks of the container. What counts is a way out that the
engine does not know of.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.text import display
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import cgroup, netlink
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.netlink import RawLink

# Where the other end of an interface is, its lower device, or the socket of a tunnel.
HERE, INNER, OUTSIDE, UNKNOWN = "here", "inner", "outside", "unknown"

# Fallback devices that the kernel adds to every network namespace once the module of a tunnel is loaded. They are down
# and lead nowhere.
_FALLBACKS = frozenset(
    ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6gretap0"]
)
_LOOPBACK_NAME = "lo"
_PAIRS = frozenset(["veth", "netkit", "vxcan"])
# Kinds that lead nowhere, or of which the kernel says where they lead (IFLA_LINK_NETNSID). All others count as leading
# out: macvlan and ipvlan sit on a device outside; wireguard sends by the namespace that it was made in, which the
# kernel does not tell, and to make it outside and move it into a container is a usual way to use it; the rest is not
# known.
_TELLING = _PAIRS | frozenset(
    [
        *(netlink.LOOPBACK, "dummy", "ifb", "nlmon", "vcan", "tun", "bridge", "bond", "team", "vrf", "vlan"),
        *("vxlan", "geneve", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan"),
        *("ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm"),
    ]
)
# Inner engines: so many processes are looked at for the namespaces that they are in, and so many of these.
_MOST_PROCESSES = 5_000
_MOST_NAMESPACES = 64
_MOST_LISTED = 20


class Link(t.NamedTuple):
    """An interface.

    Attributes:
        name: as text for display: whoever has NET_ADMIN in the container chooses it.
        ifindex: its number in its namespace; 0 where that is not known.
        kind: what the kernel calls it: C(veth), C(tun), C(bridge), C(dummy), C(macvlan), C(vxlan), ...; C(loopback);
            C(physical) for one without a kind; C(unknown) where names alone can be read.
        up: whether it is up; taken for true where that is not known.
        peer: ifindex of its other end or lower device, in the namespace where that is; 0 for none.
        place: where that is: C(here), in the same namespace, also for what has none; C(inner), in a namespace that
            only processes of the container are in and out of which no way leads; C(outside); C(unknown).
    """

    name: str
    ifindex: int
    kind: str
    up: bool
    peer: int
    place: str

    @property
    def leads_out(self) -> bool:
        """Whether it leads out of the namespace, or may."""
        return self.place not in (HERE, INNER) or self.kind not in _TELLING

    def __str__(self) -> str:
        return self.name if self.kind == UNKNOWN else f"{self.name} ({self.kind})"


class Links(t.NamedTuple):
    """The interfaces of a network namespace.

    Attributes:
        links: the interfaces.
        complete: whether it is known what they are. If not, it was not permitted to enter the namespace, and they have
            names alone.
    """

    links: tuple[Link, ...]
    complete: bool


class Findings(t.NamedTuple):
    """What the interfaces say about an isolation, as sentences without an end.

    Attributes:
        contradictions: ways out that the engine does not know of.
        warnings: what else is there.
    """

    contradictions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def findings(found: Links, known: int, of_overlay: bool = False) -> Findings:
    """What the interfaces say about an isolation.

    Args:
        found: the interfaces.
        known: how many attached endpoints inspect shows for the owner of the namespace.
        of_overlay: whether one of them is on an overlay network. The engine then attaches the container to
            docker_gwbridge besides, which inspect of the container does not show.
    """
    own = [link for link in found.links if not _is_inert(link)]
    out = [link for link in own if link.leads_out]
    inside = [link for link in own if not link.leads_out]
    contradictions, warnings = [], []
    if len(out) > known + of_overlay:
        verb = "which lead out of it or may do so" if found.complete else "of which nothing but the names could be read"
        contradictions.append(
            f"its network namespace holds {_listed(out)}, {verb}, but inspect knows of {known} network(s)"
            + (" and docker_gwbridge" if of_overlay else "")
        )
    if inside:
        warnings.append(
            f"it has network interfaces of its own, which do not lead out of its network namespace: {_listed(inside)}"
        )
    return Findings(tuple(contradictions), tuple(warnings))


def links_of(pid: int, container_id: str) -> Links | None:
    """The interfaces in the network namespace of a process of a container; None where that cannot be known.

    That is so where the process is gone or on another host. To know more than their names takes CAP_SYS_ADMIN and
    CAP_SYS_PTRACE.

    Args:
        pid: of the process, as the engine tells it.
        container_id: of the container, in full: a control group of the process must name it.
    """
    with contextlib.ExitStack() as stack:
        try:
            # This descriptor is of that one process for ever: it does not follow the pid to the next one.
            process = _opened(stack, f"/proc/{pid}", os.O_DIRECTORY)
            memberships = cgroup.memberships_of(process)
            if not cgroup.names(memberships, container_id):
                return None
            names = _names(process)
        except (OSError, ValueError):
            return None
        try:
            namespace = _opened(stack, "ns/net", dir_fd=process)
            group = cgroup.group_of(memberships, container_id)
            return Links(_read(stack, namespace, group), complete=True)
        except (OSError, ValueError):
            return Links(tuple(_named(name) for name in names), complete=False)


class _Namespace:
    """A network namespace, open, with its interfaces."""

    def __init__(self, stack: contextlib.ExitStack, descriptor: int) -> None:
        """Raises OSError, ValueError."""
        self.descriptor = descriptor
        self._netlink = stack.enter_context(contextlib.closing(netlink.open_socket(descriptor)))
        self.links = netlink.read_links(self._netlink)
        self._nsids: dict[int, int | None] = {}

    def looks_beyond(self) -> bool:
        return any(link.peer_nsid is not None for link in self.links)

    def nsids(self, others: t.Iterable[_Namespace]) -> set[int]:
        """What this one calls these others. Raises OSError, ValueError."""
        for other in others:
            if other.descriptor not in self._nsids:
                self._nsids[other.descriptor] = netlink.nsid_of(self._netlink, other.descriptor)
        found = {self._nsids[other.descriptor] for other in others}
        return {nsid for nsid in found if nsid is not None}

    def seen(self, sealed: t.Collection[_Namespace]) -> tuple[Link, ...]:
        """Its interfaces, where no way leads out of these others. Raises OSError, ValueError."""
        inner = self.nsids(sealed) if self.looks_beyond() else set()
        by_index = {link.ifindex: link for link in self.links}
        return tuple(
            Link(display(link.name), link.ifindex, link.kind, link.up, link.peer, place_of(link, by_index, inner))
            for link in self.links
        )


def place_of(link: RawLink, by_index: t.Mapping[int, RawLink], inner: t.Container[int]) -> str:
    """Where the other end of an interface is.

    Args:
        link: the interface.
        by_index: all interfaces of its namespace.
        inner: what its namespace calls those out of which no way leads.
    """
    if link.peer_nsid is not None:
        return INNER if link.peer_nsid in inner else OUTSIDE
    peer = by_index.get(link.peer)
    if link.kind in _PAIRS:
        # Kernels before 4.0 do not tell the namespace: the index must not be taken for that of another interface here.
        return HERE if peer is not None and peer.kind == link.kind and peer.peer == link.ifindex else OUTSIDE
    return HERE if peer is not None or not link.peer else OUTSIDE


def _read(stack: contextlib.ExitStack, descriptor: int, group: cgroup.Group | None) -> tuple[Link, ...]:
    own = _Namespace(stack, descriptor)
    inner: list[_Namespace] = []
    if group is not None and own.looks_beyond():
        inner = list(_inner_namespaces(stack, descriptor, group))
    # A process of the container may be in a namespace that itself leads out, such as that of the host.
    while True:
        sealed = [one for one in inner if not any(link.leads_out for link in one.seen([own, *inner]))]
        if len(sealed) == len(inner):
            return own.seen(inner)
        inner = sealed


def _inner_namespaces(stack: contextlib.ExitStack, own: int, group: cgroup.Group) -> t.Iterator[_Namespace]:
    """Network namespaces, besides its own and that of this process, that processes of a container are in."""
    seen = {os.fstat(own).st_ino, os.stat("/proc/self/ns/net").st_ino}
    most = len(seen) + _MOST_NAMESPACES
    for pid in itertools.islice(group.pids(), _MOST_PROCESSES):
        if len(seen) >= most:
            return
        # One that cannot be read, as its last process has ended, is left out: what leads there leads out.
        with contextlib.suppress(OSError, ValueError):
            if os.stat(f"/proc/{pid}/ns/net").st_ino in seen:
                continue
            descriptor = _opened(stack, f"/proc/{pid}/ns/net")
            seen.add(os.fstat(descriptor).st_ino)
            yield _Namespace(stack, descriptor)


def _names(process: int) -> list[str]:
    """Names of the interfaces, which the kernel keeps free of spaces, colons and slashes. Raises OSError."""
    with open(_open("net/dev", dir_fd=process), encoding="utf-8", errors="surrogateescape") as file:
        return [line.partition(":")[0].strip(" ") for line in file.read().split("\n")[2:] if ":" in line]


def _named(name: str) -> Link:
    loopback = name == _LOOPBACK_NAME
    return Link(display(name), 0, UNKNOWN, True, 0, HERE if loopback else UNKNOWN)


def _listed(links: t.Sequence[Link]) -> str:
    words = sorted(map(str, links))
    more = len(words) - _MOST_LISTED
    return ", ".join(words[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _is_inert(link: Link) -> bool:
    if link.kind == UNKNOWN:
        return link.name == _LOOPBACK_NAME or link.name in _FALLBACKS
    return link.kind == netlink.LOOPBACK or (link.name in _FALLBACKS and not link.up and not link.leads_out)


def _open(path: str, flags: int = 0, dir_fd: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=dir_fd)


def _opened(stack: contextlib.ExitStack, path: str, flags: int = 0, dir_fd: int | None = None) -> int:
    descriptor = _open(path, flags, dir_fd)
    stack.callback(os.close, descriptor)
    return descriptor
