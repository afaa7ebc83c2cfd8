# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import RAW_LIMIT
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import alerts_from_bytes

GENERIC = {"source": "sensor", "rule": "Shell spawned", "severity": "high"}


def test_the_message_travels_as_it_was_received() -> None:
    body = b' {"source": "s", "rule": "r", "severity": "low", "message": "{{ x }}\\ud83d\\ude00"}\n'
    (alert,) = alerts_from_bytes(body)
    assert base64.b64decode(alert.raw) == body
    assert alert.raw_sha256 == hashlib.sha256(body).hexdigest()


def test_of_a_large_message_only_the_hash_travels() -> None:
    body = json.dumps({**GENERIC, "message": "x" * RAW_LIMIT}).encode()
    (alert,) = alerts_from_bytes(body)
    assert alert.raw == ""
    assert alert.raw_sha256 == hashlib.sha256(body).hexdigest()


def test_senders_choose_neither_host_nor_time_of_receipt() -> None:
    body = json.dumps({**GENERIC, "inventory_host": "all", "received_at": "2001-01-01T00:00:00Z", "raw": "e30="})
    (alert,) = alerts_from_bytes(body.encode())
    assert alert.inventory_host == ""
    assert not alert.received_at.startswith("2001")
    assert base64.b64decode(alert.raw) == body.encode()


def test_an_array_is_one_alert_an_element() -> None:
    falco = {"priority": "Error", "rule": "r"}
    first, second = alerts_from_bytes(json.dumps([GENERIC, falco]).encode())
    assert (first.source, second.source) == ("sensor", "falco")
    assert json.loads(base64.b64decode(second.raw)) == falco


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"", "not_json", "line 1 column 1"),
        (b"\xff", "not_json", "not UTF-8"),
        (b'{"a":NaN}', "not_json", "NaN is not a JSON number"),
        (b"1" * 5000, "not_json", "4300 digits"),
        (b"[" * 100_000, "not_json", "nested too deeply"),
        (b"1", "not_an_alert", "not a JSON object"),
        (b"null", "not_an_alert", "not a JSON object"),
        (b"[]", "not_an_alert", "array is empty"),
        (b"{}", "not_an_alert", "no known detector"),
        (b'{"source":"s","rule":"r"}', "invalid_alert", "severity is not one of"),
        (json.dumps([GENERIC, {**GENERIC, "rule": 1}]).encode(), "invalid_alert", "element 1: rule is not usable text"),
        (json.dumps([GENERIC, [GENERIC]]).encode(), "not_an_alert", "element 1: the message is not a JSON object"),
    ],
)
def test_refused(body: bytes, kind: str, message: str) -> None:
    with pytest.raises(AlertError, match=message) as caught:
        alerts_from_bytes(body)
    assert caught.value.kind == kind
