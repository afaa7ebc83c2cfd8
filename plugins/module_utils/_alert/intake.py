# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From bytes to Alerts: decode, recognise the detector, normalise."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import falco
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import RAW_LIMIT, Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now

MAX_ALERTS = 1_000
"""Most alerts in one message: reading 20,000 held up all other senders for 0.8 s."""
DETECTORS = (falco,)
"""Modules with recognises(message) and convert(message). What none recognises is read as a generic alert."""


def alert_from_object(message: object) -> Alert:
    """The alert in one decoded message of any known detector. Raises AlertError."""
    if not isinstance(message, dict):
        raise AlertError("the message is not a JSON object", kind="not_an_alert")
    for detector in DETECTORS:
        if detector.recognises(message):
            return Alert.from_dict(detector.convert(message))
    if "rule" not in message and "severity" not in message:
        raise AlertError(
            "the message has the shape of no known detector and is no generic alert either",
            kind="not_an_alert",
            remedy="A generic alert has at least source, rule and severity",
        )
    return Alert.from_dict(message)


def alerts_from_bytes(body: bytes) -> list[Alert]:
    """The alerts in a message as received: one JSON object, or an array of them.

    All or nothing: one bad element refuses the whole message, so that a sender never has to guess what was taken.
    Raises AlertError, and nothing else, whatever the bytes are.
    """
    message = _decode(body)
    if not isinstance(message, list):
        return [_received(message, body)]
    if not message:
        raise AlertError("the array is empty", kind="not_an_alert")
    if len(message) > MAX_ALERTS:
        raise AlertError(
            f"the array has {len(message)} elements, of at most {MAX_ALERTS}", remedy="Send it in several messages"
        )
    alerts = []
    for number, element in enumerate(message):
        try:
            alerts.append(_received(element, json.dumps(element).encode("ascii")))
        except AlertError as error:
            error.message = f"element {number}: {error.message}"
            raise
    return alerts


def _received(message: object, body: bytes) -> Alert:
    return dataclasses.replace(
        alert_from_object(message),
        received_at=now(),
        inventory_host="",  # senders do not choose the host that acts
        raw=base64.b64encode(body).decode("ascii") if len(body) <= RAW_LIMIT else "",
        raw_sha256=hashlib.sha256(body).hexdigest(),
    )


def _decode(body: bytes) -> t.Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_reject_constant)
    except UnicodeDecodeError as error:
        raise AlertError(f"the message is not UTF-8 (at byte {error.start})", kind="not_json") from None
    except RecursionError:
        raise AlertError("the message is nested too deeply", kind="not_json") from None
    except json.JSONDecodeError as error:
        raise AlertError(
            f"the message is not JSON ({error.msg}, line {error.lineno} column {error.colno})",
            kind="not_json",
            remedy=falco.remedy_for(body),
        ) from None
    except ValueError as error:  # NaN, Infinity, an integer of more than 4,300 digits
        raise AlertError(f"the message is not JSON ({error})", kind="not_json") from None


def _reject_constant(name: str) -> t.NoReturn:
    raise ValueError(f"{name} is not a JSON number")
