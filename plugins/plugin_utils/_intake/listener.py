# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP side of the alert intake.

It stands on the parser and the connections of aiohttp, without its application: routes, middlewares and the like took
half of the time that an alert costs which no policy wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import typing as t
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    DETECTORS,
    Reading,
    read_message,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.health import Health
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import (
    Connection,
    Connections,
    Requests,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import (
    CONTENT_TYPE,
    Counters,
    render,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import (
    Sender,
    Senders,
    certificate_names,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls

_RequestHandler: t.Any
try:
    from aiohttp import HttpVersion11, web
except ImportError:
    # It comes with ansible-rulebook, which is what loads this. The sanity tests of Ansible import it without.
    web = None  # type: ignore[assignment]  # nothing here runs without it
    _RequestHandler = object
else:
    _RequestHandler = web.RequestHandler

logger = logging.getLogger(__name__)
# To aiohttp each malformed request is an error worth a traceback, with the offending bytes in it: a stranger could fill
# the log. Errors of our own code do not get that far.
_protocol_logger = logger.getChild("protocol")
_protocol_logger.setLevel(logging.CRITICAL)

IDLE_TIMEOUT = 60.0
"""How long a connection may stay without the head of its next request, in seconds."""
_LINGER = 2.0
"""How long the rest of a body is read that was refused, in seconds, so that its sender reads the answer."""
_MAX_HEADERS, _MAX_FIELD = 64, 8190
"""Most headers of a request, and the largest of them in bytes."""
_ASIDE = 65_536
"""Bodies of more bytes are read in another thread, so that others have their turn meanwhile."""
_RETRY_AFTER = "5"
"""What senders are told that may try again, in seconds."""

ALERTS, HEALTH, METRICS = "/alerts", "/healthz", "/metrics"
_POST, _GET = ("POST", "PUT"), ("GET", "HEAD")


class RefusedError(GuardError):
    """A request was refused, for a reason that is not in its alerts.

    Attributes:
        status: HTTP status of the answer.
        headers: further headers of the answer.
    """

    def __init__(
        self, status: int, message: str, *, kind: str, remedy: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, kind=kind, remedy=remedy)
        self.status = status
        self.headers = dict(headers or {})


class Listener:
    """Answers requests.

    Attributes:
        closing: set once nothing is taken any more.
    """

    def __init__(
        self,
        options: Options,
        admission: Admission,
        health: Health,
        connections: Connections,
        counters: Counters,
        tls: Tls | None,
    ) -> None:
        self.closing = False
        self._options = options
        self._admission = admission
        self._health = health
        self._connections = connections
        self._counters = counters
        self._tls = tls
        self._senders = Senders(options)
        self._requests = Requests(options.max_requests, options.max_requests_per_address)
        self._throttle = Throttle(logger)
        self._server = web.Server(self._handle)
        proofs = ["send 'Authorization: Bearer TOKEN'", "post to /alerts/PATH_TOKEN"]
        self._remedy = ", or ".join([*proofs, "show a client certificate"] if options.cafile else proofs).capitalize()

    def protocol(self, connection: Connection) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _Protocol(
            self._server,
            known=_Known(connection, self._tls.generation if self._tls else 0),
            lost=self._connections.forget,
            malformed=self._malformed,
            loop=asyncio.get_running_loop(),
            access_log=None,  # it would show the secret part of the path
            logger=_protocol_logger,
            keepalive_timeout=IDLE_TIMEOUT,
            lingering_time=_LINGER,
            max_headers=_MAX_HEADERS,
            max_field_size=_MAX_FIELD,
        )

    async def close(self, timeout: float) -> None:
        """Answer what is under way, for so many seconds at most, and close all connections."""
        self.closing = True
        await self._server.shutdown(timeout)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        known: _Known = request.protocol.known  # type: ignore[attr-defined]  # of _Protocol
        known.connection.spoke = True
        try:
            response = await self._answer(request, known)
        except GuardError as error:
            response = self._refusal(request, _refused(error))
        except Exception:
            logger.exception("A request failed")
            response = self._refusal(request, RefusedError(500, "internal error", kind="internal_error", remedy="See the log"))
        self._counters.add("requests_total", status=str(response.status))
        if self._tls is not None and known.generation != self._tls.generation:
            response.force_close()  # certificates have changed, so it must prove itself again
        return response

    async def _answer(self, request: web.BaseRequest, known: _Known) -> web.Response:
        path = request.raw_path.partition("?")[0]
        if path in (HEALTH, METRICS):
            _allow(request, _GET)
            return self._show(path)
        detector, path_token = self._parts(path)
        _allow(request, _POST)
        sender = self._senders.identify(
            request.headers.get("Authorization", ""), path_token, known.names(request)
        )
        if sender is None:
            raise RefusedError(
                401,
                "the token is missing or wrong",
                kind="unauthorized",
                remedy=self._remedy,
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self.closing:
            raise RefusedError(503, "the intake is shutting down", kind="shutting_down", remedy="Send again")
        known.connection.known = True
        # Memory is bounded by the number of places, as a request has one until its alerts are on disk.
        async with self._place(known.connection.peer):
            reading = await self._read(request, sender, detector)
            admitted = await self._admission.admit(reading, sender)
        if not admitted.anything:
            first = admitted.rejected[0]
            place = f"element {first.index}: " if len(admitted.rejected) > 1 else ""
            raise AlertError(place + first.reason, kind=first.kind, remedy=first.remedy)
        return _json(202, admitted.to_dict())

    def _show(self, path: str) -> web.Response:
        if path == METRICS:
            return web.Response(body=render(self._health.families()).encode(), headers={"Content-Type": CONTENT_TYPE})
        status, found = self._health.shown()
        return _json(status, found)

    def _parts(self, path: str) -> tuple[str, str]:
        """Detector and secret in a path C(/alerts[/DETECTOR][/TOKEN]). Raises RefusedError."""
        parts = path.split("/")[1:]
        if parts[0] != ALERTS[1:] or not 1 <= len(parts) <= 3 or not all(parts):
            raise RefusedError(404, "there is nothing here", kind="not_found", remedy="Post alerts to /alerts")
        detector = parts.pop(1) if len(parts) > 1 and parts[1] in DETECTORS else ""
        if len(parts) == 3:
            # Its alerts are read by their shape: an answer that nobody reads would lose them.
            self._throttle.warning(
                "unknown_detector",
                "Alerts are posted to a path with an unknown detector. Known are: %s",
                ", ".join(sorted(DETECTORS)),
            )
        return detector, urllib.parse.unquote(parts[-1], errors="replace") if len(parts) > 1 else ""

    @contextlib.asynccontextmanager
    async def _place(self, peer: str) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._options.read_timeout):
                    await stack.enter_async_context(self._requests.place(peer))
            except TimeoutError:
                raise RefusedError(
                    503,
                    "too many requests are under way",
                    kind="busy",
                    remedy="Send again later",
                    headers={"Retry-After": _RETRY_AFTER},
                ) from None
            yield

    async def _read(self, request: web.BaseRequest, sender: Sender, detector: str) -> Reading:
        """What the body holds. Raises RefusedError and AlertError."""
        # Senders of large bodies ask first. A stranger hears nothing, and then 401.
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # Else aiohttp takes the answer for begun, and could not report an error any more.
            request.writer.output_size = 0
        body = await self._body(request)
        if not sender.signed(request.headers.get(self._options.hmac_header, ""), body):
            raise RefusedError(
                401,
                "the signature of the body is missing or wrong",
                kind="wrong_signature",
                remedy=f"Send '{self._options.hmac_header}: sha256=HEX', the HMAC-SHA256 of the body",
            )
        read = functools.partial(read_message, body, detector, self._options.severities)
        reading = await asyncio.to_thread(read) if len(body) > _ASIDE else read()
        if reading.received > self._options.queue_max:
            raise RefusedError(
                413,
                f"the request holds {reading.received} alerts, of at most {self._options.queue_max}",
                kind="too_many_alerts",
                remedy="Send fewer alerts in a request",
            )
        return reading

    async def _body(self, request: web.BaseRequest) -> bytes:
        limit, body = self._options.body_limit, bytearray()
        try:
            async with asyncio.timeout(self._options.read_timeout):
                # What is counted is what comes out of a compressed body, whatever Content-Length says.
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > limit:
                        raise RefusedError(
                            413,
                            f"the body is larger than {limit} bytes",
                            kind="too_large",
                            remedy="Send fewer alerts in a request, or raise body_limit",
                        )
        except TimeoutError:
            raise RefusedError(
                408,
                f"the body did not arrive within {self._options.read_timeout:g} seconds",
                kind="slow_body",
                remedy="Send again",
            ) from None
        except (web.RequestPayloadError, ConnectionError):
            raise RefusedError(
                400,
                "the body is cut off or not encoded as Content-Encoding or Transfer-Encoding says",
                kind="unreadable_body",
            ) from None
        return bytes(body)

    def _refusal(self, request: web.BaseRequest, refused: RefusedError) -> web.Response:
        self._counters.add("requests_refused_total", kind=refused.kind)
        self._throttle.warning(
            refused.kind, "Refused a request of %s with %d: %s", request.remote, refused.status, refused
        )
        return _json(refused.status, {"error": refused.to_dict()}, refused.headers)

    def _malformed(self, request: web.BaseRequest, reason: str) -> web.Response:
        self._counters.add("malformed_requests_total")
        tls = self._tls is None and "\x16\x03" in reason.encode("utf-8", "backslashreplace").decode("unicode_escape")
        hint = "it seems to speak TLS, and certfile is not set" if tls else "it is no HTTP, or beyond its limits"
        self._throttle.warning("malformed", "Refused a request of %s: %s", request.remote, hint)
        response = _json(400, {"error": RefusedError(400, "this is no HTTP request", kind="bad_request").to_dict()})
        response.force_close()
        return response


class _Known:
    """What is known of a connection.

    Attributes:
        connection: as limits see it.
        generation: of the certificates by which it was let in.
    """

    def __init__(self, connection: Connection, generation: int) -> None:
        self.connection = connection
        self.generation = generation
        self._names: frozenset[str] | None = None

    def names(self, request: web.BaseRequest) -> frozenset[str]:
        """The names in its client certificate."""
        if self._names is None:
            transport = request.transport
            self._names = certificate_names(transport.get_extra_info("peercert") if transport else None)
        return self._names


class _Protocol(_RequestHandler):  # type: ignore[misc]  # what aiohttp offers to be told of the end of a connection
    """The protocol of aiohttp, which tells when the connection is lost and when there is no HTTP on it."""

    def __init__(
        self,
        server: web.Server,
        *,
        known: _Known,
        lost: Callable[[Connection], None],
        malformed: Callable[[web.BaseRequest, str], web.StreamResponse],
        **options: t.Any,
    ) -> None:
        super().__init__(server, **options)
        self.known = known
        self._lost = lost
        self._tell_malformed = malformed

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        self._lost(self.known.connection)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no request, which is all that gets here."""
        del status, message
        return self._tell_malformed(request, str(exc))


def _allow(request: web.BaseRequest, methods: tuple[str, ...]) -> None:
    if request.method not in methods:
        raise RefusedError(
            405,
            "the method is not allowed here",
            kind="method_not_allowed",
            headers={"Allow": ", ".join(methods)},
        )


def _json(status: int, value: object, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=json.dumps(value).encode(), status=status, headers={"Content-Type": "application/json", **(headers or {})}
    )


def _refused(error: GuardError) -> RefusedError:
    # Answers hold no text of the request but what AlertError has neutralised.
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, AlertError):
        return RefusedError(400, error.message, kind=error.kind, remedy=error.remedy)
    return RefusedError(
        503, error.message, kind=error.kind, remedy=error.remedy or "Send again later", headers={"Retry-After": _RETRY_AFTER}
    )
