# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP on the parser and the connections of aiohttp.

Without its application: routes, middlewares and the like took half of the time of an alert that no policy wants.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import logging
import time
import typing as t
from collections.abc import Awaitable, Callable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import Connection, Connections
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.senders import certificate_names
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls

_RequestHandler: t.Any
_StreamResponse: t.Any
try:
    from aiohttp import HttpVersion10, HttpVersion11, StreamReader, web
except ImportError:
    # It comes with ansible-rulebook, which is what loads this. The sanity tests of Ansible import it without.
    web = None  # type: ignore[assignment]  # nothing here runs without it
    _RequestHandler = _StreamResponse = object
else:
    _RequestHandler, _StreamResponse = web.RequestHandler, web.StreamResponse

logger = logging.getLogger(__name__)
# To aiohttp each malformed request is an error worth a traceback, with the offending bytes in it: a stranger could fill
# the log. Errors of our own code do not get that far.
_protocol_logger = logger.getChild("protocol")
_protocol_logger.setLevel(logging.CRITICAL)

IDLE_TIMEOUT = 60.0
"""How long a connection may stay without the head of its next request, in seconds."""
RETRY_AFTER = "5"
"""What senders are told that may try again, in seconds."""
_LINGER = 2.0
"""How long the rest of a body is read that was refused, in seconds, so that its sender reads the answer."""
_MAX_HEADERS, _MAX_FIELD = 64, 8190
"""Most headers of a request, and the largest of them in bytes."""


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


class Answer(_StreamResponse):  # type: ignore[misc]  # what aiohttp offers to write an answer in one's own way
    """A whole answer. Those of aiohttp, which may be anything, took as long as it takes to read an alert.

    Args:
        status: of HTTP.
        body: may be empty.
        content_type: of the body.
        headers: further ones, of ours: no text of a request.
    """

    def __init__(
        self, status: int, body: bytes, content_type: str = "application/json", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status=status)
        self._stays = True
        self._content = body
        self._fields = {"Content-Type": content_type, **(headers or {})}

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open. See aiohttp.web.StreamResponse for this and the following."""
        return self._stays

    def force_close(self) -> None:
        """Close the connection once it is written."""
        self._stays = False

    async def prepare(self, request: web.BaseRequest) -> t.Any:
        """Put its head before it."""
        self._stays = self._stays and request.keep_alive
        head = [
            f"HTTP/1.1 {self.status} {self.reason}",
            "Server: container-guard",
            f"Date: {_date(int(time.time()))}",
            f"Content-Length: {len(self._content)}",
            *(f"{name}: {value}" for name, value in self._fields.items()),
        ]
        if not self._stays:
            head.append("Connection: close")
        elif request.version == HttpVersion10:
            head.append("Connection: keep-alive")
        self._writer = request.writer
        self._whole = "\r\n".join([*head, "", ""]).encode() + (b"" if request.method == "HEAD" else self._content)
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Write it, at once."""
        await self._writer.write_eof(self._whole + data)


@functools.lru_cache(1)
def _date(seconds: int) -> str:
    """A moment, in seconds since the epoch, as HTTP writes it. It takes time, and is the same for a whole second."""
    return email.utils.formatdate(seconds, usegmt=True)


class Peer:
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


class Http:
    """Answers the requests on connections."""

    def __init__(
        self,
        name: str,
        answer: Callable[[web.BaseRequest, Peer], Awaitable[Answer]],
        connections: Connections,
        counters: Counters,
        tls: Tls | None = None,
    ) -> None:
        """Make one that has no connections yet.

        Args:
            name: in the metrics.
            answer: answers a request, or raises GuardError.
            connections: that forget what is lost.
            counters: of requests.
            tls: of the connections, if any.
        """
        self._name = name
        self._answer = answer
        self._connections = connections
        self._counters = counters
        self._tls = tls
        self._throttle = Throttle(logger)
        self._server = web.Server(self._handle)
        self.closing = False
        """Whether each answer is the last one on its connection."""

    def protocol(self, connection: Connection) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _Protocol(
            self._server,
            peer=Peer(connection, self._tls.generation if self._tls else 0),
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
        await self._server.shutdown(timeout)

    async def _handle(self, request: web.BaseRequest) -> Answer:
        peer: Peer = request.protocol.peer  # type: ignore[attr-defined]  # of _Protocol
        peer.connection.spoke = True
        try:
            response = await self._answer(request, peer)
        except GuardError as error:
            response = self._refusal(request, _refused(error))
        except Exception:
            logger.exception("A request failed")
            response = self._refusal(
                request, RefusedError(500, "internal error", kind="internal_error", remedy="See the log")
            )
        self._counters.add("requests_total", listener=self._name, status=str(response.status))
        # Where certificates have changed, it must prove itself again.
        if self.closing or (self._tls is not None and peer.generation != self._tls.generation):
            response.force_close()
        return response

    def _refusal(self, request: web.BaseRequest, refused: RefusedError) -> Answer:
        self._counters.add("requests_refused_total", listener=self._name, kind=refused.kind)
        self._throttle.warning(
            refused.kind, "Refused a request of %s with %d: %s", request.remote, refused.status, refused
        )
        return json_answer(refused.status, {"error": refused.to_dict()}, refused.headers)

    def _malformed(self, request: web.BaseRequest, reason: str) -> Answer:
        self._counters.add("malformed_requests_total")
        # Older versions of aiohttp show the bytes, and a record of TLS begins with these.
        is_tls = self._tls is None and any(sign in reason for sign in ("HTTPS", r"\x16\x03"))
        hint = "it speaks TLS, and certfile is not set" if is_tls else "it is no HTTP, or beyond its limits"
        self._throttle.warning("malformed", "Refused a request of %s: %s", request.remote, hint)
        response = json_answer(
            400, {"error": RefusedError(400, "this is no HTTP request", kind="bad_request").to_dict()}
        )
        response.force_close()
        return response


class _Protocol(_RequestHandler):  # type: ignore[misc]  # what aiohttp offers to be told of the end of a connection
    """The protocol of aiohttp, which tells when the connection is lost and when there is no HTTP on it."""

    def __init__(
        self,
        server: web.Server,
        *,
        peer: Peer,
        lost: Callable[[Connection], None],
        malformed: Callable[[web.BaseRequest, str], web.StreamResponse],
        **options: t.Any,
    ) -> None:
        super().__init__(server, **options)
        self.peer = peer
        self._lost = lost
        self._tell_malformed = malformed

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        self._lost(self.peer.connection)
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


async def read_body(request: web.BaseRequest, limit: int, timeout: float) -> bytes:
    """The body of a request, whose sender is known. Raises RefusedError.

    Args:
        request: which may wait to be told to go on.
        limit: most bytes, after decompression.
        timeout: how long it may take to arrive, in seconds.
    """
    content = request.content
    try:
        if content.is_eof():  # the common case: it is all there, and a timer would cost more than to read it
            body = content.read_nowait()
        else:
            await _let_go_on(request)
            async with asyncio.timeout(timeout):
                body = await _read_at_most(content, limit)
    except TimeoutError:
        raise RefusedError(
            408,
            f"the body did not arrive within {timeout:g} seconds",
            kind="slow_body",
            remedy="Send again",
        ) from None
    except (web.RequestPayloadError, ConnectionError):
        raise RefusedError(
            400,
            "the body is cut off or not encoded as Content-Encoding or Transfer-Encoding says",
            kind="unreadable_body",
        ) from None
    if len(body) > limit:
        raise RefusedError(
            413,
            f"the body is larger than {limit} bytes",
            kind="too_large",
            remedy="Send fewer alerts in a request, or raise body_limit",
        )
    return body


async def _read_at_most(content: StreamReader, limit: int) -> bytes:
    """A body, and no more than one chunk of what is beyond the limit."""
    body = bytearray()
    # What is counted is what comes out of a compressed body, whatever Content-Length says.
    while len(body) <= limit and (chunk := await content.readany()):
        body += chunk
    return bytes(body)


async def _let_go_on(request: web.BaseRequest) -> None:
    """Tell senders of large bodies, which ask first, to go on. A stranger hears nothing, and then 401."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Else aiohttp takes the answer for begun, and could not report an error any more.
        request.writer.output_size = 0


def allow(request: web.BaseRequest, methods: tuple[str, ...]) -> None:
    """Raises RefusedError where the method is none of these."""
    if request.method not in methods:
        raise RefusedError(
            405,
            "the method is not allowed here",
            kind="method_not_allowed",
            headers={"Allow": ", ".join(methods)},
        )


def json_answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer as JSON."""
    return Answer(status, json.dumps(value).encode(), headers=headers)


def _refused(error: GuardError) -> RefusedError:
    # Answers hold no text of the request but what AlertError has neutralised.
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, AlertError):
        return RefusedError(400, error.message, kind=error.kind, remedy=error.remedy)
    return RefusedError(
        503,
        error.message,
        kind=error.kind,
        remedy=error.remedy or "Send again later",
        headers={"Retry-After": RETRY_AFTER},
    )
