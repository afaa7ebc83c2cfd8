# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP side of the alert intake."""

from __future__ import annotations

import asyncio
import collections
import hmac
import ipaddress
import logging
import math
import ssl
import typing as t
from collections.abc import Awaitable, Callable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import alerts_from_bytes
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.batcher import (
    Batcher,
    Event,
    NotTakenError,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle

try:
    from aiohttp import HttpVersion11, web
except ImportError:
    # It comes with ansible-rulebook, which is what loads this. The sanity tests of Ansible import it without.
    web = None  # type: ignore[assignment]  # nothing here runs without it

logger = logging.getLogger(__name__)
# To aiohttp each malformed request is an error worth a traceback, with the offending bytes in it: a stranger could fill
# the log. Errors of our own code do not get that far.
_protocol_logger = logger.getChild("protocol")
_protocol_logger.setLevel(logging.CRITICAL)

_IDLE_TIMEOUT = 60.0
"""How long, in seconds, a connection may stay without a complete request head. The default of aiohttp is an hour."""
_SHUTDOWN_TIMEOUT = 1.0
"""How long, in seconds, a shutdown may wait: once for the engine to take what is held, once for open requests."""

_Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class EventQueue(t.Protocol):
    """What the rulebook engine hands to an event source."""

    async def put(self, event: Event, /) -> None:
        """Hand over one event; waits while the engine is busy."""


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


async def serve(queue: EventQueue, options: Options) -> t.NoReturn:
    """Take alerts over HTTP and put them into the queue as events, until cancelled.

    Raises ValueError for certificate files that cannot be used, OSError where the address cannot be listened on, and
    whatever the queue raises: the source then ends, rather than to answer 202 to alerts that go nowhere.
    """
    batcher = Batcher(options, queue.put)
    tls = tls_context(options)
    runner = web.AppRunner(
        Intake(options, batcher).app(),
        access_log=None,  # it would show the secret part of the path
        logger=_protocol_logger,
        keepalive_timeout=_IDLE_TIMEOUT,
        shutdown_timeout=_SHUTDOWN_TIMEOUT,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port, ssl_context=tls)
        await site.start()
        _log_start(options, runner.addresses)
        try:
            await batcher.run()
        except asyncio.CancelledError:
            batcher.close()
            await site.stop()
            await _flush(batcher)
            raise
    finally:
        await runner.cleanup()


async def _flush(batcher: Batcher) -> None:
    try:
        async with asyncio.timeout(_SHUTDOWN_TIMEOUT):
            await batcher.flush()
    except TimeoutError:
        logger.error("Lost %d alerts: the rule engine did not take them before the shutdown", batcher.waiting)


def _log_start(options: Options, addresses: list[t.Any]) -> None:
    scheme = "https" if options.certfile else "http"
    checks = {"client certificate": options.cafile, "token": options.token, "path token": options.path_token}
    logger.info(
        "Taking alerts at %s (checked: %s)",
        ", ".join(f"{scheme}://{address[0]}:{address[1]}/alerts" for address in addresses),
        ", ".join(name for name, value in checks.items() if value),
    )
    if not options.certfile and not all(ipaddress.ip_address(address[0]).is_loopback for address in addresses):
        logger.warning("Alerts and tokens cross the network in clear text: set certfile, or listen on 127.0.0.1")


def tls_context(options: Options) -> ssl.SSLContext | None:
    """The TLS context for these options, None for plain HTTP. Raises ValueError for files that cannot be used."""
    if not options.certfile:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.certfile, options.keyfile, password="")  # a prompt would hang the engine
    except (OSError, ValueError) as error:
        raise ValueError(
            f"certfile {options.certfile!r} and keyfile {options.keyfile!r} cannot be used ({error}). Set them to PEM "
            "files that belong together, readable by the rulebook engine, the key without a password"
        ) from None
    if options.cafile:
        try:
            context.load_verify_locations(options.cafile)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"cafile {options.cafile!r} cannot be used ({error}). Set it to a PEM file of certificate authorities"
            ) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class Intake:
    """The web application: checks the sender, reads the alerts, offers them to the batcher."""

    def __init__(self, options: Options, batcher: Batcher) -> None:
        self._options = options
        self._batcher = batcher
        self._rejected: collections.Counter[str] = collections.Counter()
        self._throttle = Throttle(logger)

    def app(self) -> web.Application:
        """The application with its routes."""

        @web.middleware
        async def refuse(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._refuse(request, handler)

        app = web.Application(client_max_size=self._options.body_limit, middlewares=[refuse])
        for path in ("/alerts", "/alerts/{path_token}"):
            app.router.add_post(path, self._post_alerts, expect_handler=self._continue)
        app.router.add_get("/healthz", self._healthz)
        return app

    async def _post_alerts(self, request: web.Request) -> web.Response:
        if not self._authorised(request):
            raise RefusedError(
                401,
                "the token is missing or wrong",
                kind="unauthorized",
                remedy="Send 'Authorization: Bearer TOKEN', or post to /alerts/PATH_TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
        alerts = alerts_from_bytes(await self._read(request))
        if len(alerts) > self._options.queue_max:
            raise RefusedError(
                413,
                f"the request holds {len(alerts)} alerts, of at most {self._options.queue_max}",
                kind="too_many_alerts",
                remedy="Send fewer alerts in a request",
            )
        return _accepted(self._batcher.offer(alerts))

    async def _continue(self, request: web.Request) -> None:
        # Senders of large bodies ask first (Expect: 100-continue). A stranger hears nothing, and then 401.
        if request.version >= HttpVersion11 and self._authorised(request):
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # Else aiohttp takes the answer for begun, and could not report an error any more.
            request.writer.output_size = 0

    def _authorised(self, request: web.Request) -> bool:
        token, path_token = self._options.token, self._options.path_token
        if not (token or path_token):
            return True  # options demand cafile then: without a certificate there would be no connection
        scheme, _space, bearer = request.headers.get("Authorization", "").partition(" ")
        by_header = _equal(bearer.strip(), token) and scheme.lower() == "bearer"
        by_path = _equal(request.match_info.get("path_token", ""), path_token)
        return by_header or by_path

    async def _read(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._options.read_timeout):
                # Stops at client_max_size bytes after decompression, whatever Content-Length says.
                return await request.read()
        except TimeoutError:
            raise RefusedError(
                408,
                f"the body did not arrive within {self._options.read_timeout:g} seconds",
                kind="slow_body",
                remedy="Send again",
            ) from None
        except web.HTTPRequestEntityTooLarge:
            raise RefusedError(
                413,
                f"the body is larger than {self._options.body_limit} bytes",
                kind="too_large",
                remedy="Send fewer alerts in a request, or raise body_limit",
            ) from None
        except (web.RequestPayloadError, ConnectionError):
            raise RefusedError(
                400,
                "the body is cut off or not encoded as Content-Encoding or Transfer-Encoding says",
                kind="unreadable_body",
            ) from None

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "ok",
                "accepted": self._batcher.accepted,
                "waiting": self._batcher.waiting,
                "events": self._batcher.emitted,
                "dropped": {"unknown_host": self._batcher.unknown_host},
                "rejected": dict(self._rejected),
            }
        )

    async def _refuse(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (GuardError, web.HTTPError) as error:
            refused = self._refused(error)
        except Exception:
            logger.exception("A request failed")
            refused = RefusedError(500, "internal error", kind="internal_error", remedy="See the log")
        self._rejected[refused.kind] += 1
        self._throttle.warning(
            refused.kind, "Refused a request of %s with %d: %s", request.remote, refused.status, refused
        )
        return web.json_response(
            {"error": {"kind": refused.kind, "message": refused.message, "remedy": refused.remedy}},
            status=refused.status,
            headers=refused.headers,
        )

    def _refused(self, error: GuardError | web.HTTPError) -> RefusedError:
        # Answers hold no text of the request but what AlertError has neutralised.
        if isinstance(error, RefusedError):
            return error
        if isinstance(error, AlertError):
            return RefusedError(400, error.message, kind=error.kind, remedy=error.remedy)
        if isinstance(error, NotTakenError):
            # One batch has left by then, if the engine takes any.
            seconds = max(1, math.ceil(self._options.batch_interval))
            return RefusedError(
                503, error.message, kind=error.kind, remedy=error.remedy, headers={"Retry-After": str(seconds)}
            )
        if isinstance(error, web.HTTPMethodNotAllowed):
            return RefusedError(
                405,
                "the method is not allowed here",
                kind="method_not_allowed",
                headers={"Allow": error.headers["Allow"]},
            )
        if isinstance(error, web.HTTPNotFound):
            return RefusedError(404, "there is nothing here", kind="not_found", remedy="Post alerts to /alerts")
        return RefusedError(400, "the request cannot be answered", kind="bad_request")


def _equal(given: str, secret: str | None) -> bool:
    # Bytes, as compare_digest refuses text beyond ASCII; what is not set is compared too, and equals nothing.
    same = hmac.compare_digest(given.encode("utf-8", "surrogatepass"), (secret or "").encode("utf-8"))
    return same and secret is not None


def _accepted(alerts: list[Alert]) -> web.Response:
    return web.json_response(
        {
            "accepted": len(alerts),
            "alerts": [{"id": alert.id, "trace_id": alert.trace_id} for alert in alerts],
        },
        status=202,
    )
