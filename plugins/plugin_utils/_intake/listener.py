# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts, and reports of host services, over HTTP: who sends, what it says, and what is answered."""

from __future__ import annotations

import asyncio
import functools
import logging
import typing as t
import urllib.parse

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    DETECTORS,
    Reading,
    read_message,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.health import Health
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import (
    RETRY_AFTER,
    Answer,
    Peer,
    RefusedError,
    allow,
    json_answer,
    read_body,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import Requests
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import CONTENT_TYPE, render
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reporting import Reports
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import Sender, Senders
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle

try:
    from aiohttp import web
except ImportError:
    # It comes with ansible-rulebook, which is what loads this. The sanity tests of Ansible import it without.
    web = None  # type: ignore[assignment]  # nothing here runs without it

logger = logging.getLogger(__name__)

_ASIDE = 65_536
"""Bodies of more bytes are read in another thread, so that others have their turn meanwhile."""

ALERTS, EVENTS, HEALTH, METRICS = "/alerts", "/events", "/healthz", "/metrics"
_POST, _GET = ("POST", "PUT"), ("GET", "HEAD")


class Listener:
    """Answers requests.

    Args:
        options: of the source.
        admission: lets alerts in.
        health: says how the intake is.
        reports: takes reports of host services; None where there is nobody to tell of them.
    """

    def __init__(self, options: Options, admission: Admission, health: Health, reports: Reports | None = None) -> None:
        self._reports = reports
        self._options = options
        self._admission = admission
        self._health = health
        self._senders = Senders(options)
        self._requests = Requests(options.max_requests, options.max_requests_per_address)
        self._throttle = Throttle(logger)
        self._remedy = "Send 'Authorization: Bearer TOKEN', or post to /alerts/PATH_TOKEN"
        if options.cafile:
            self._remedy += ", or show a client certificate"
        if not options.takes_posts:
            self._remedy = (
                "Nobody can post here, as alerts are taken from files or topics alone. Set token in the options"
            )

    async def answer(self, request: web.BaseRequest, peer: Peer) -> Answer:
        """The answer to a request. Raises GuardError."""
        path = request.raw_path.partition("?")[0]
        if path in (HEALTH, METRICS):
            allow(request, _GET)
            return self._show(path)
        root, segments = _segments(path)
        if root == EVENTS and (self._reports is None or len(segments) > 1):
            raise _not_found()
        allow(request, _POST)
        # A token is longer than the name of any detector.
        detector = segments.pop(0) if root == ALERTS and segments and segments[0] in DETECTORS else ""
        path_token = segments[-1] if segments else ""
        sender = self._senders.identify(request.headers.get("Authorization", ""), path_token, peer.names(request))
        if sender is None:
            raise RefusedError(
                401,
                "the token is missing or wrong",
                kind="unauthorized",
                remedy=self._remedy,
                headers={"WWW-Authenticate": "Bearer"},
            )
        peer.connection.known |= not sender.keys
        if len(segments) > 1:
            # Its alerts are read by their shape. Falco reads no answer, so to refuse them would be to lose them.
            self._throttle.warning(
                "unknown_detector",
                "Alerts of sender %s are posted to the path of an unknown detector. Known are: %s",
                sender.name,
                ", ".join(sorted(DETECTORS)),
            )
        # Memory is bounded by the number of places, as a request has one until its alerts are on disk.
        await self._enter(peer.connection.peer)
        try:
            if root == EVENTS and self._reports is not None:
                taken = await self._take_reports(self._reports, request, sender)
                peer.connection.known = True
                return json_answer(202, taken)
            reading = await self._read(request, sender, detector)
            peer.connection.known = True
            admitted = await self._admission.admit(reading, sender)
        finally:
            self._requests.leave(peer.connection.peer)
        if not admitted.anything:
            first = admitted.rejected[0]
            place = f"element {first.index}: " if len(admitted.rejected) > 1 else ""
            raise AlertError(place + first.reason, kind=first.kind, remedy=first.remedy)
        return json_answer(202, admitted.to_dict())

    def _show(self, path: str) -> Answer:
        if path == METRICS:
            return Answer(200, render(self._health.families()).encode(), CONTENT_TYPE)
        status, found = self._health.shown()
        return json_answer(status, found)

    async def _enter(self, peer: str) -> None:
        """Take a place for a request. Raises RefusedError where there is none for long."""
        if not self._requests.full(peer):
            self._requests.take(peer)
            return
        try:
            await asyncio.wait_for(self._requests.wait(peer), self._options.read_timeout)
        except TimeoutError:
            raise RefusedError(
                503,
                "too many requests are under way",
                kind="busy",
                remedy="Send again later",
                headers={"Retry-After": RETRY_AFTER},
            ) from None

    async def _take_reports(self, reports: Reports, request: web.BaseRequest, sender: Sender) -> dict[str, t.Any]:
        """Take reports; the answer to whose they are. Raises GuardError."""
        body = await self._body(request, sender)
        return await reports.take(body, functools.partial(self._admission.speaks_for, sender), sender.name)

    async def _body(self, request: web.BaseRequest, sender: Sender) -> bytes:
        """The body, signed where it has to be. Raises RefusedError."""
        body = await read_body(request, self._options.body_limit, self._options.read_timeout)
        if not sender.signed(request.headers.get(self._options.hmac_header, ""), body):
            raise RefusedError(
                401,
                "the signature of the body is missing or wrong",
                kind="wrong_signature",
                remedy=f"Send '{self._options.hmac_header}: sha256=HEX', the HMAC-SHA256 of the body",
            )
        return body

    async def _read(self, request: web.BaseRequest, sender: Sender, detector: str) -> Reading:
        """What the body holds. Raises RefusedError and AlertError."""
        body = await self._body(request, sender)
        unwanted = self._admission.unwanted(sender)
        read = functools.partial(read_message, body, detector, self._options.severities, unwanted)
        reading = await asyncio.to_thread(read) if len(body) > _ASIDE else read()
        if reading.received > self._options.queue_max:
            raise RefusedError(
                413,
                f"the request holds {reading.received} alerts, of at most {self._options.queue_max}",
                kind="too_many_alerts",
                remedy="Send fewer alerts in a request",
            )
        return reading


def _segments(path: str) -> tuple[str, list[str]]:
    """Root and rest of a path C(/alerts[/DETECTOR][/TOKEN]), or C(/events[/TOKEN]). Raises RefusedError."""
    root, *segments = path.split("/")[1:]
    if f"/{root}" not in (ALERTS, EVENTS) or len(segments) > 2 or not all(segments):
        raise _not_found()
    return f"/{root}", [urllib.parse.unquote(segment, errors="replace") for segment in segments]


def _not_found() -> RefusedError:
    return RefusedError(404, "there is nothing here", kind="not_found", remedy="Post alerts to /alerts")
