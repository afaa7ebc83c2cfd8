# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sending a receipt to the event source."""

from __future__ import annotations

import http.client
import json
import time
import typing as t
import urllib.parse

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.direct import connection_to

TIMEOUT = 2.0
"""Seconds that the source may take to connect, and to answer."""
PAUSES = (0.2, 1.0, 2.0)
"""Seconds before each further attempt: long enough for a source that is started again."""
_ANSWER_LIMIT = 4096
_LATE = 410


def post(
    url: str,
    capability: str,
    receipt: t.Mapping[str, t.Any],
    timeout: float = TIMEOUT,
    pauses: t.Sequence[float] = PAUSES,
) -> str:
    """Send a receipt, and again where the source is not there or has an accident; empty, or why it was not taken.

    Args:
        url: where it goes.
        capability: what allows to acknowledge.
        receipt: as JSON it is the body.
        timeout: seconds that the source may take to connect, and to answer.
        pauses: seconds before each further attempt.
    """
    body = json.dumps(receipt).encode("ascii")
    why = ""
    for pause in (0.0, *pauses):
        time.sleep(pause)
        try:
            status = _status(url, capability, body, timeout)
        except (OSError, http.client.HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
            continue
        if status < 300:
            return ""
        why = f"it answered {status}"
        if status == _LATE:
            return f"{why}: the delivery has ended, so the alerts were told as unanswered"
        if status < 500:
            return why
    return text.display(why)


def _status(url: str, capability: str, body: bytes, timeout: float) -> int:
    parts = urllib.parse.urlsplit(url)
    connection = connection_to(parts, timeout)
    headers = {"Authorization": f"Receipt {capability}", "Content-Type": "application/json"}
    try:
        connection.request("POST", parts.path or "/", body, headers)
        answer = connection.getresponse()
        answer.read(_ANSWER_LIMIT)
        return answer.status
    finally:
        connection.close()
