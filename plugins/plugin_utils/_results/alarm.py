# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alert of a drill, posted to the event source as a detector posts one."""

from __future__ import annotations

import http.client
import json
import ssl
import typing as t
import urllib.parse

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.direct import connection_to

SOURCE, RULE, SEVERITY = "container-guard", "container-guard drill", "high"
TIMEOUT = 10.0
"""Seconds that the source may take to connect, and to answer."""
_ANSWER_LIMIT = 64 * 1024


class AlarmError(GuardError):
    """The event source did not take the alert."""

    default_kind = "alert_not_taken"


class Address(t.NamedTuple):
    """Where the event source takes alerts, and what shows who sends.

    Attributes:
        url: of the source.
        token: or empty.
        cafile, certfile, keyfile: files, or empty.
    """

    url: str
    token: str = ""
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""


def alert_about(container: t.Mapping[str, t.Any], host: str, moment: str) -> dict[str, t.Any]:
    """The alert about a victim, as the detector C(generic) writes one.

    Args:
        container: id, name and image.
        host: name of the host.
        moment: RFC 3339.
    """
    return {
        "source": SOURCE,
        "rule": RULE,
        "severity": SEVERITY,
        "time": moment,
        "host": host,
        "container": {key: container[key] for key in ("id", "name", "image") if container.get(key)},
        "tags": ["drill"],
        "message": "a drill: nothing has happened",
    }


def raise_alarm(address: Address, alert: t.Mapping[str, t.Any], timeout: float = TIMEOUT) -> str:
    """Post the alert; the trace id with which it was accepted. Raises AlarmError.

    Args:
        address: of the source.
        alert: that the source knows how to read.
        timeout: seconds that the source may take to connect, and to answer.
    """
    try:
        status, answer = _answer(address, json.dumps(alert).encode("ascii"), timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise AlarmError(
            f"the event source does not answer: {type(error).__name__}: {text.display(str(error), 200)}",
            remedy="Check the address, its certificate, and that the rulebook runs",
        ) from error
    if status != 202:
        raise AlarmError(f"the event source answered {status}{_why(answer)}")
    accepted, trace_id = answer.get("alerts"), ""
    if isinstance(accepted, list) and accepted and isinstance(accepted[0], dict):
        trace_id = text.token(accepted[0].get("folded_into") or accepted[0].get("trace_id"))
    if trace_id:
        return trace_id
    if answer.get("dropped"):
        raise AlarmError(
            "the event source dropped the alert: no policy of its policy_set wants it",
            remedy="Add a policy for the drill, deploy it, and let policy_set of the source be the same set",
        )
    raise AlarmError(f"the event source accepted nothing{_why(answer)}")


def _answer(address: Address, body: bytes, timeout: float) -> tuple[int, dict[str, t.Any]]:
    parts = urllib.parse.urlsplit(address.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address must begin with http:// or https://")
    headers = {"Content-Type": "application/json"}
    if address.token:
        headers["Authorization"] = f"Bearer {address.token}"
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=address.cafile or None)
        if address.certfile:
            context.load_cert_chain(address.certfile, address.keyfile or None)
    connection = connection_to(parts, timeout, context)
    try:
        connection.request("POST", parts.path or "/alerts", body, headers)
        answer = connection.getresponse()
        try:
            said = json.loads(answer.read(_ANSWER_LIMIT))
        except ValueError:
            said = {}
        return answer.status, said if isinstance(said, dict) else {}
    finally:
        connection.close()


def _why(answer: t.Mapping[str, t.Any]) -> str:
    """What a refusal says, for people."""
    rejected = answer.get("rejected")
    error = rejected[0] if isinstance(rejected, list) and rejected else answer.get("error")
    message = error.get("message") if isinstance(error, dict) else ""
    return f": {text.display(message, 300)}" if text.display(message) else ""
