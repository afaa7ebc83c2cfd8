# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a case lasts: what is deleted with a job of AWX, and how a case is put on a server."""

from __future__ import annotations

import http.client
import os
import pathlib
import typing as t
import urllib.parse

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.direct import connection_to

_RUNNER = pathlib.Path("/runner")
"""The private data directory in the container of an execution environment."""
_ARTIFACTS = "AWX_ISOLATED_DATA_DIR"
"""Set by ansible-runner, and so by AWX and ansible-rulebook, to artifacts/JOB in the private data directory."""
_TIMEOUT = 60.0
"""Seconds that a server may be silent."""
_SHOWN = 200


def deleted_with(directory: pathlib.Path, environment: t.Mapping[str, str]) -> pathlib.Path | None:
    """The private data directory that a directory is deleted with once the job has ended, or None.

    Args:
        directory: an absolute path, which need not exist. What is mounted on the way lasts.
        environment: of this process.
    """
    artifacts = pathlib.Path(environment.get(_ARTIFACTS, ""))
    private = artifacts.parents[1] if len(artifacts.parents) > 1 and artifacts.is_absolute() else _RUNNER
    place, private = (pathlib.Path(os.path.realpath(path)) for path in (directory, private))
    if private not in (place, *place.parents) or not private.is_dir():
        return None
    on_the_way = [path for path in (place, *place.parents) if private in path.parents]
    return None if any(os.path.ismount(path) for path in on_the_way) else private


def put(case: pathlib.Path, url: str, token: str = "") -> str:
    """Put each file of a case at URL/CASE/FILE by HTTP, the manifest last; the URL of the case.

    Its certificate is verified by the authorities of this machine, or those in C(SSL_CERT_FILE).

    Args:
        case: its directory, of plain files.
        url: begins with http:// or https://.
        token: sent as C(Authorization: Bearer TOKEN), if any.

    Raises:
        GuardError: C(invalid_option), or C(not_sent) where the server does not take a file. The case stays.
    """
    parts = _parts(url)
    base = f"{parts.path.rstrip('/')}/{urllib.parse.quote(case.name)}"
    connection = connection_to(parts, _TIMEOUT)
    files = sorted(case.iterdir(), key=lambda path: (path.name == "manifest.json", path.name))
    try:
        for path in files:
            _put(connection, path, f"{base}/{urllib.parse.quote(path.name)}", token)
    except (OSError, http.client.HTTPException) as error:
        raise _not_sent(case, f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    return f"{parts.scheme}://{parts.netloc}{base}"


def _parts(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    # A password in it would be in every message.
    if not usable or parts.username or parts.password or parts.query or parts.fragment or not url.isprintable():
        raise GuardError(
            f"{text.display(url.rpartition('@')[2], _SHOWN)!r} is not where evidence can be put",
            kind="invalid_option",
            remedy="Give https://HOST/PATH, and what authorises as token; the playbook also takes scp://HOST/PATH",
        )
    return parts


def _put(connection: http.client.HTTPConnection, path: pathlib.Path, target: str, token: str) -> None:
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with path.open("rb") as content:
        connection.request("PUT", target, content, headers)
    answer = connection.getresponse()
    answer.read()
    if not 200 <= answer.status < 300:
        raise _not_sent(path.parent, f"the server answered {answer.status} to {path.name}")


def _not_sent(case: pathlib.Path, why: str) -> GuardError:
    return GuardError(
        f"the case {case.name} was not put on the server: {text.display(why, _SHOWN)}",
        kind="not_sent",
        remedy=f"It is in {case} here, and on its host",
    )
