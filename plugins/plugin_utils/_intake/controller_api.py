# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading from the API of AWX, or of an automation controller: that which the rule engine launches jobs in."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import ipaddress
import json
import os
import ssl
import sys
import typing as t
import urllib.parse
from collections.abc import Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options

try:
    import aiohttp
except ImportError:
    # It comes with ansible-rulebook, which is what loads this. The sanity tests of Ansible import it without.
    aiohttp = None  # type: ignore[assignment]  # nothing here runs without it

_ENGINE = "ansible_rulebook.job_template_runner"
"""Module of the rule engine whose object of that name holds its access to the controller."""
_API, _GATEWAY_API = "api/v2/", "v2/"
"""Path of the API, and below an address with a path of its own, as the rule engine takes it."""
_TIMEOUT = 30.0
"""Seconds that an answer may take in all."""
_ANSWER_LIMIT = 33_554_432
"""Largest answer in bytes: a page of jobs, each with an event."""
_REMEDIES = {
    401: "Give the rule engine, or controller_token, a token that holds",
    403: "The token has to be of a user who may see the job template and its jobs",
    404: "Say the address of the controller in controller_url, with the path of its API where that is behind a gateway",
}


class ControllerError(GuardError):
    """The controller cannot be asked, or its answer cannot be used."""

    default_kind = "controller"


@dataclasses.dataclass(frozen=True)
class Access:
    """How the controller is reached.

    Attributes:
        url: of the API, with a slash at its end.
        token: OAuth token, or empty.
        username: where there is no token.
        password: of that user.
        verify: C(yes), C(no), or the path of a file of certificate authorities.
    """

    url: str
    token: str = dataclasses.field(default="", repr=False)
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    verify: str = "yes"

    @property
    def verifies(self) -> bool:
        """Whether the certificate of the controller is verified."""
        return self.verify.lower() not in ("no", "false")

    @property
    def authorization(self) -> str:
        """The header of that name."""
        if self.token:
            return f"Bearer {self.token}"
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")

    def notes(self) -> list[str]:
        """What is not as it should be, for people."""
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme == "https":
            return (
                [] if self.verifies else ["the certificate of the controller is not verified, as the engine was told"]
            )
        if _is_loopback(str(parts.hostname)):
            return []
        return ["the token of the controller crosses the network in clear text: use https in the address of it"]


def access_of(options: Options) -> Access:
    """That in the options, and else that of the rule engine: by its command line, environment, or EDA controller.

    Raises ValueError where there is none that can be used.
    """
    engine = getattr(sys.modules.get(_ENGINE), "job_template_runner", None)

    # The engine makes a slash of an address that it was not given. What is of one place is not mixed with another's.
    given = getattr(engine, "host", "") not in ("", "/")

    def said(name: str, variable: str) -> str:
        return str(getattr(engine, name, "") if given else os.environ.get(f"EDA_CONTROLLER_{variable}", ""))

    url = options.controller_url or said("host", "URL")
    verify = said("verify_ssl", "SSL_VERIFY") or "yes"
    if not url:
        raise ValueError(
            "receipts is artifacts, and there is no controller to read them from. Set controller_url, or give the rule "
            "engine one, as by EDA_CONTROLLER_URL"
        )
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("the address of the controller is none. Set it to one such as https://awx.example.com")
    url = url if url.endswith("/") else f"{url}/"
    url += _GATEWAY_API if parts.path.strip("/") else _API
    if options.controller_token:
        return Access(url, options.controller_token, verify=verify)
    token = said("token", "TOKEN")
    username, password = said("username", "USERNAME"), said("password", "PASSWORD")
    if token:
        return Access(url, token, verify=verify)
    if username and password:
        return Access(url, "", username, password, verify)
    raise ValueError(
        "receipts is artifacts, and there is no token for the controller. Set controller_token, or give the rule "
        "engine one, as by EDA_CONTROLLER_TOKEN"
    )


class ControllerApi:
    """Asks the controller, and no other server: neither redirects nor proxies of the environment are followed.

    Raises OSError where the file of authorities cannot be read.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        # Not True: aiohttp 3.8 takes that for a context that verifies nothing.
        self._tls: ssl.SSLContext | bool = False
        if access.verifies:
            given = access.verify if access.verify.lower() not in ("yes", "true") else None
            self._tls = ssl.create_default_context(cafile=given)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close its connections."""
        if self._session:
            await self._session.close()
            self._session = None

    async def get(self, path: str, query: Mapping[str, str | int]) -> Mapping[str, t.Any]:
        """The object at a path of the API. Raises ControllerError."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                body = await self._body(path, query)
            value = await asyncio.to_thread(json.loads, body)
        except ControllerError:
            raise
        except TimeoutError:
            raise ControllerError(f"the controller did not answer within {_TIMEOUT:g} seconds") from None
        except (aiohttp.ClientError, OSError) as error:
            # What else is said names the address, which is no matter of whoever asks for /healthz.
            why = {"why": text.display(str(error), 200)}
            raise ControllerError(f"the controller cannot be reached: {type(error).__name__}", details=why) from None
        except (ValueError, RecursionError):
            raise _no_api() from None
        if not isinstance(value, dict):
            raise _no_api()
        return value

    async def _body(self, path: str, query: Mapping[str, str | int]) -> bytes:
        access = self._access
        if self._session is None:
            # trust_env is off: no proxy and no .netrc. Cookies are of no use, as each request says who asks.
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(headers={"Authorization": access.authorization}, cookie_jar=jar)
        request = self._session.get(access.url + path, params=query, ssl=self._tls, allow_redirects=False)
        async with request as answer:
            if answer.status != 200:
                raise _refused(answer.status)
            body = bytearray()
            while chunk := await answer.content.readany():
                body += chunk
                if len(body) > _ANSWER_LIMIT:
                    raise ControllerError(f"an answer of the controller is larger than {_ANSWER_LIMIT} bytes")
            return bytes(body)


def _no_api() -> ControllerError:
    return ControllerError("what answers is no API of a controller", remedy=_REMEDIES[404])


def _refused(status: int) -> ControllerError:
    what = "redirects, which is not followed: it" if 300 <= status < 400 else "refuses what it is asked: it"
    return ControllerError(f"the controller {what} answered {status}", remedy=_REMEDIES.get(status, ""))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
