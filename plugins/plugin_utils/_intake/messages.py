# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages of senders in the events of any source."""

from __future__ import annotations

import datetime
import json

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError

_WRAPPERS = ("payload", "body")
"""Where sources put a message: webhook and event streams into C(payload), queues into C(body)."""
_DEEPEST_WRAPPER = 3


def message_of(event: object) -> object:
    """What a sender sent, out of the event of a source: without what the source put around it and beside it."""
    message = event
    for _depth in range(_DEEPEST_WRAPPER):
        if not isinstance(message, dict):
            break
        keys = [key for key in message if key != "meta"]
        if len(keys) != 1 or keys[0] not in _WRAPPERS:
            break
        message = message[keys[0]]
    # Sources put what they know of a sender there; a detector has no such key.
    return {key: message[key] for key in message if key != "meta"} if isinstance(message, dict) else message


def body_of(message: object, most: int) -> bytes:
    """The message as bytes, which are JSON unless the message is bytes or text itself.

    Args:
        message: whatever an event held.
        most: how many bytes it may be.

    Raises:
        AlertError: it is larger, holds itself, or is nothing that JSON can say. C(too_large), C(not_json).
    """
    _measure(message, most)
    if isinstance(message, bytes):
        body = message
    elif isinstance(message, str):
        body = message.encode("utf-8", "surrogatepass")
    else:
        try:
            body = json.dumps(message, default=_text, skipkeys=True).encode("ascii")
        except RecursionError:
            raise AlertError("the message is nested too deeply", kind="not_json") from None
        except ValueError as error:  # an integer of more than 4,300 digits
            raise AlertError(f"the message is not JSON ({text.display(str(error), 200)})", kind="not_json") from None
    if len(body) > most:
        raise _too_large(most)
    return body


def _measure(message: object, most: int) -> None:
    """Raise AlertError for what is larger than so many bytes, before all of it is written as JSON."""
    size, rest = 0, [message]
    while rest:
        item = rest.pop()
        size += 1
        if isinstance(item, (str, bytes, bytearray)):
            size += len(item)
        elif isinstance(item, int):
            size += item.bit_length() // 4
        elif isinstance(item, (dict, list, tuple)):
            # Counted before they are looked at; what holds itself is counted again and again.
            size += len(item)
            if size <= most:
                rest.extend(item)
                rest.extend(item.values() if isinstance(item, dict) else ())
        if size > most:
            raise _too_large(most)


def _too_large(most: int) -> AlertError:
    return AlertError(
        f"the message is larger than {most} bytes, or holds itself", kind="too_large", remedy="Raise body_limit"
    )


def _text(value: object) -> str:
    """What is no JSON, such as the dates of YAML."""
    return value.isoformat() if isinstance(value, datetime.date) else str(value)
