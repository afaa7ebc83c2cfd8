# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way to the controller: one HTTP request at a time, to the address of the configuration and no other."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
import ssl
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

try:
    import aiohttp
except ImportError:
    # It comes from the distribution of the host. The sanity tests of Ansible import this without.
    aiohttp = None  # type: ignore[assignment]  # nothing here runs without it

PATH = "/events"
_TIMEOUT = 30.0
"""Seconds that an answer may take in all."""
_SHOWN = 2048
"""Bytes of an answer that are read."""
_MOST_TOKEN = 4096
_REMEDIES = {
    401: "Give the host a token, or a certificate, that a sender of the event source has",
    403: "That sender has to speak for this host: see its hosts in the options of the event source",
    404: "Say the address of the event source in controller.url",
}


class LinkError(GuardError):
    """The controller did not take what was posted.

    Attributes:
        too_large: it was too large for it.
    """

    default_kind = "controller"

    def __init__(self, message: str, *, remedy: str = "", too_large: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.too_large = too_large


@dataclasses.dataclass(frozen=True, kw_only=True)
class Controller:
    """Where reports go.

    Attributes:
        url: of the event source, C(http) or C(https), without C(/events).
        token: that is shown, or empty.
        token_file: file that holds it, read before each request, or empty.
        cafile: PEM file with the authorities of the controller; empty for those of the system.
        certfile: PEM file with the certificate chain of this host, or empty.
        keyfile: PEM file with its key, where C(certfile) does not hold it.
        heartbeat: seconds between two heartbeats, 1 to 3600.
    """

    url: str
    token: str = dataclasses.field(default="", repr=False)
    token_file: str = ""
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""
    heartbeat: float = 30.0


class Link:
    """Posts to the controller. Neither redirects nor proxies of the environment are followed.

    Args:
        controller: where to.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._url = controller.url.rstrip("/") + PATH
        self._session: aiohttp.ClientSession | None = None
        self._stamps: tuple[object, ...] = ()
        self._trouble = ""

    def troubles(self) -> list[str]:
        """Why reports wait. Alerts are answered meanwhile as ever."""
        return [self._trouble] if self._trouble else []

    async def close(self) -> None:
        """Close the connection."""
        if self._session:
            await self._session.close()
            self._session = None

    async def post(self, body: bytes) -> None:
        """Have a body taken. Raises LinkError, also where it is not known whether it was."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                await self._post(body)
            self._trouble = ""
        except TimeoutError:
            await self._fail(LinkError(f"it did not answer within {_TIMEOUT:g} seconds"))
        except LinkError as error:
            await self._fail(error)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            await self._fail(LinkError(f"{type(error).__name__}: {text.display(str(error), 200)}"))

    async def _fail(self, error: LinkError) -> t.NoReturn:
        self._trouble = f"the controller takes no reports: {error}"
        await self.close()  # so that certificates that are new by then are used
        raise error

    async def _post(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        token = await asyncio.to_thread(self._token)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        session = await self._connected()
        async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            if 200 <= answer.status < 300:
                await answer.read()
                return
            said = text.display((await answer.content.read(_SHOWN)).decode("utf-8", "replace"), 200)
            raise LinkError(
                f"it answered {answer.status}: {said}",
                remedy=_REMEDIES.get(answer.status, ""),
                too_large=answer.status == 413,
            )

    async def _connected(self) -> aiohttp.ClientSession:
        stamps = await asyncio.to_thread(self._stamps_now)
        if self._session and stamps != self._stamps:
            await self.close()
        if self._session is None:
            self._stamps = stamps
            context = await asyncio.to_thread(self._context) if self._url.startswith("https:") else None
            # Not True: aiohttp 3.8 takes that for a context that verifies nothing.
            connector = aiohttp.TCPConnector(ssl=context or False, limit=1)
            # trust_env is off: no proxy and no .netrc.
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _context(self) -> ssl.SSLContext:
        controller = self._controller
        context = ssl.create_default_context(cafile=controller.cafile or None)
        if controller.certfile:
            context.load_cert_chain(controller.certfile, controller.keyfile or None)
        return context

    def _stamps_now(self) -> tuple[object, ...]:
        controller = self._controller
        found = [os.stat(path) for path in (controller.cafile, controller.certfile, controller.keyfile) if path]
        return tuple((one.st_ino, one.st_mtime_ns) for one in found)

    def _token(self) -> str:
        controller = self._controller
        if not controller.token_file:
            return controller.token
        with pathlib.Path(controller.token_file).open("rb") as file:
            token = file.read(_MOST_TOKEN).decode("ascii").strip()
        if not token or not token.isprintable() or " " in token:
            raise LinkError(f"{controller.token_file} holds no token", remedy="It has to be one word of visible ASCII")
        return token
