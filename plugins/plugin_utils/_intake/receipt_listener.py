# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receipts over HTTP: a listener of its own on the loopback interface, which takes nothing else."""

from __future__ import annotations

import logging
import socket
import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import accept
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import (
    Answer,
    Peer,
    RefusedError,
    allow,
    json_answer,
    read_body,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import ReceiptError

try:
    from aiohttp import web
except ImportError:
    # It comes with ansible-rulebook, which is what loads this. The sanity tests of Ansible import it without.
    web = None  # type: ignore[assignment]  # nothing here runs without it

logger = logging.getLogger(__name__)

PATH = "/receipts"
LOOPBACK = "127.0.0.1"
_BODY_LIMIT = 8_388_608
"""Largest receipt, in bytes: 10,000 answers."""
_READ_TIMEOUT = 30.0
"""How long a receipt may take to arrive, in seconds."""


class TakesReceipts(t.Protocol):
    """What is needed of the deliveries."""

    async def receipt(self, authorization: str, body: bytes) -> None:
        """Take a receipt. Raises ReceiptError."""


class Receipts:
    """Answers requests with receipts."""

    def __init__(self, deliveries: TakesReceipts) -> None:
        self._deliveries = deliveries

    async def answer(self, request: web.BaseRequest, peer: Peer) -> Answer:
        """The answer to a request. Raises GuardError."""
        if request.raw_path != PATH:
            raise RefusedError(404, "there is nothing here", kind="not_found", remedy=f"Post receipts to {PATH}")
        allow(request, ("POST",))
        authorization = request.headers.get("Authorization", "")
        if not authorization:
            raise RefusedError(401, "the capability is missing", kind="unauthorized")
        try:
            await self._deliveries.receipt(authorization, await read_body(request, _BODY_LIMIT, _READ_TIMEOUT))
        except ReceiptError as error:
            raise RefusedError(error.status, error.message, kind=error.kind, remedy=error.remedy) from None
        peer.connection.known = True
        return json_answer(200, {"taken": True})


def listen(wanted: int, last: int) -> socket.socket:
    """A socket that listens for receipts.

    Args:
        wanted: port, 0 for any.
        last: port of last time, 0 where there was none. It is taken again where that is possible, so that receipts of
            runs which began before a restart arrive.

    Raises:
        OSError: the wanted port cannot be listened on.
    """
    if last and not wanted:
        try:
            return accept.listen(LOOPBACK, last)[0]
        except OSError as error:
            logger.warning("Receipts of runs that began before a restart will not arrive: %s", error)
    return accept.listen(LOOPBACK, wanted)[0]
