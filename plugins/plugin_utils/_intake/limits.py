# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many connections and requests there may be, in all and of one address: nobody keeps the others out."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import ipaddress
from collections.abc import Callable, Iterable

MOMENT = 1.0
"""How long whoever connects has to prove himself before others of his address take the place, in seconds."""
_LOOK = 0.01


def peer_of(address: str) -> str:
    """Whom limits see behind an address: itself, or the network of 64 bits, as somebody with IPv6 has all of that."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        return str(parsed.ipv4_mapped)
    return str(parsed)


@dataclasses.dataclass(eq=False)
class Connection:
    """An open connection.

    Attributes:
        peer: whom limits count it for.
        opened: when, by the clock of the limits, in seconds.
        close: closes it at once.
        spoke: whether the head of a request arrived whole.
        known: whether a sender proved itself on it.
    """

    peer: str
    opened: float
    close: Callable[[], object]
    spoke: bool = False
    known: bool = False


class Connections:
    """The open connections. A new one is let in at the expense of the oldest on which nobody has proved himself.

    So half-open connections, of which anybody can make thousands, give way to a sender, which needs a moment only.
    Whoever makes too many from one address takes the places of his own, once they had that moment.
    """

    def __init__(self, most: int, most_of_peer: int) -> None:
        self.most = most
        self.most_of_peer = most_of_peer
        # In the order in which they came: dictionaries keep it, and forget one in no time.
        self._open: dict[Connection, None] = {}
        self._of_peer: dict[str, dict[Connection, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> tuple[bool, Connection | None]:
        """Whether a new connection is let in, and which one has to be closed for it, if any.

        That one is forgotten already. One that is not let in is not remembered.
        """
        of_peer = self._of_peer.get(connection.peer, {})
        if len(of_peer) >= self.most_of_peer:
            victim = self._oldest_unknown(of_peer, connection.opened - MOMENT)
        elif len(self) >= self.most:
            victim = self._oldest_unknown(self._open, connection.opened)
        else:
            self._remember(connection)
            return True, None
        if victim is None:
            return False, None
        self.forget(victim)
        self._remember(connection)
        return True, victim

    @staticmethod
    def _oldest_unknown(connections: Iterable[Connection], until: float) -> Connection | None:
        for connection in connections:
            if connection.opened > until:
                break
            if not connection.known:
                return connection
        return None

    def _remember(self, connection: Connection) -> None:
        self._open[connection] = None
        self._of_peer.setdefault(connection.peer, {})[connection] = None

    def forget(self, connection: Connection) -> None:
        """It is closed. Nothing happens where it was forgotten before."""
        if connection not in self._open:
            return
        del self._open[connection]
        of_peer = self._of_peer[connection.peer]
        del of_peer[connection]
        if not of_peer:
            del self._of_peer[connection.peer]

    def silent_since(self, moment: float) -> list[Connection]:
        """Those opened before that moment on which no head of a request has arrived."""
        found = []
        for connection in self._open:
            if connection.opened >= moment:
                break
            if not connection.spoke:
                found.append(connection)
        return found

    async def heard(self, timeout: float) -> None:
        """Wait until the head of a request has arrived on each of them, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.silent_since(float("inf")):
                    await asyncio.sleep(_LOOK)


class Requests:
    """Places for requests whose bodies are read and stored, which bounds the memory that they take."""

    def __init__(self, most: int, most_of_peer: int) -> None:
        self._most = most
        self._most_of_peer = most_of_peer
        self._under_way = 0
        self._of_peer: collections.Counter[str] = collections.Counter()
        self._waiting: collections.deque[tuple[str, asyncio.Future[None]]] = collections.deque()

    def full(self, peer: str) -> bool:
        """Whether there is no place."""
        return self._under_way >= self._most or self._of_peer[peer] >= self._most_of_peer

    def take(self, peer: str) -> None:
        """Take a place, which there is. It is given back by L(leave)."""
        self._under_way += 1
        self._of_peer[peer] += 1

    async def wait(self, peer: str) -> None:
        """Take a place, once there is one; first come, first served among those who may have it."""
        loop = asyncio.get_running_loop()
        waiting = (peer, loop.create_future())
        self._waiting.append(waiting)
        try:
            await waiting[1]
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:
                self.leave(peer)  # it was given one, and does not know
            raise

    def leave(self, peer: str) -> None:
        """Give a place back."""
        self._under_way -= 1
        self._of_peer[peer] -= 1
        if not self._of_peer[peer]:
            del self._of_peer[peer]
        # Who has as many as he may have is passed over, so that he holds up nobody.
        for waiting in self._waiting:
            if not self.full(waiting[0]):
                self._waiting.remove(waiting)
                self.take(waiting[0])
                waiting[1].set_result(None)
                break
