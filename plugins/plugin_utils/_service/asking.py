# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking the service that runs on this host how it is."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import typing as t
import urllib.parse

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.accept import reached
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.listener import HEALTH
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import Config

TIMEOUT = 5.0
"""Seconds that each step of asking may take."""
_MOST_BYTES = 1_048_576


class Health(t.NamedTuple):
    """How the service is. All texts are display texts.

    Attributes:
        running: whether anything is where it is to be asked.
        troubles: what keeps alerts from being answered.
        warnings: what will keep some from being answered.
        problem: why it could not be asked, or empty.
    """

    running: bool
    troubles: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str = ""


def ask(config: Config, timeout: float = TIMEOUT) -> Health:
    """How the service of this host is: by its Unix socket, or over loopback where it has none."""
    where = config.socket or _address(config)
    try:
        status, said = _get(config, timeout)
    except (FileNotFoundError, ConnectionRefusedError):
        return Health(running=False, problem=f"nothing listens at {where}")
    except PermissionError:
        return Health(running=True, problem=f"{where} is not for this user")
    except TimeoutError:
        return Health(running=True, problem=f"{where} does not answer within {timeout:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Health(
            running=True, problem=text.display(f"{where} does not answer as the service does: {error!r}", 200)
        )
    try:
        content = json.loads(said)
        troubles, warnings = (tuple(text.display(one) for one in content[name]) for name in ("troubles", "warnings"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Health(running=True, problem=f"{where} does not answer as the service does (status {status})")
    return Health(running=True, troubles=troubles, warnings=warnings)


def _address(config: Config) -> str:
    """Where this host itself asks."""
    intake = config.intake
    return f"{'https' if intake.certfile else 'http'}://{reached(intake.host)}:{intake.port}{HEALTH}"


def _get(config: Config, timeout: float) -> tuple[int, bytes]:
    """Status and text of /healthz. Raises OSError, HTTPException."""
    url = urllib.parse.urlsplit(_address(config))
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout)
    try:
        connection.sock = _connected(config, url, timeout)
        connection.request("GET", url.path)
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_BYTES)
    finally:
        connection.close()


def _connected(config: Config, url: urllib.parse.SplitResult, timeout: float) -> socket.socket:
    if config.socket:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            plain.settimeout(timeout)
            plain.connect(config.socket)
        except BaseException:
            plain.close()
            raise
    else:
        plain = socket.create_connection((url.hostname or "", url.port), timeout)
    if url.scheme != "https":
        return plain
    # Nothing secret is sent, and who answers on this host is not told apart by a certificate.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=url.hostname)
    except BaseException:
        plain.close()
        raise
