# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.messages import body_of, message_of

FALCO = {"priority": "Critical", "rule": "Shell"}
SURICATA = {"event_type": "alert", "alert": {"severity": 1}}


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"payload": FALCO, "meta": {"headers": {}}}, FALCO),  # eda.builtin.webhook
        ({"payload": {"body": [FALCO]}, "meta": {"endpoint": "x"}}, [FALCO]),  # an array to an event stream
        ({"payload": {"body": "text"}, "meta": {}}, "text"),
        ({"body": FALCO, "meta": {}}, FALCO),  # ansible.eda.kafka, ansible.eda.aws_sqs_queue
        ({"body": "text"}, "text"),
        ({**FALCO, "meta": {"hosts": ["all"]}}, FALCO),  # eda.builtin.pg_listener
        (FALCO, FALCO),
        (SURICATA, SURICATA),
        ({**FALCO, "payload": {}}, {**FALCO, "payload": {}}),
        ({"payload": {"payload": {"payload": {"payload": FALCO}}}}, {"payload": FALCO}),
        ({"meta": {}}, {}),
        ({}, {}),
        ([FALCO], [FALCO]),
        (None, None),
    ],
)
def test_the_message_in_an_event(event: object, message: object) -> None:
    assert message_of(event) == message


def test_the_event_stays_as_it_is() -> None:
    event = {"payload": {"meta": 1, "rule": "Shell"}, "meta": {"headers": {}}}
    assert message_of(event) == {"rule": "Shell"}
    assert event == {"payload": {"meta": 1, "rule": "Shell"}, "meta": {"headers": {}}}


@pytest.mark.parametrize(
    ("message", "body"),
    [
        (FALCO, json.dumps(FALCO).encode()),
        ('{"a": 1}', b'{"a": 1}'),
        ("\udcff", b"\xed\xb3\xbf"),
        (b"\xff", b"\xff"),
        ({1: {None: True}, (1, 2): "left out"}, b'{"1": {"null": true}}'),
        ([datetime.date(2026, 4, 5)], b'["2026-04-05"]'),
        ([datetime.datetime(2026, 4, 5, 12, tzinfo=datetime.UTC)], b'["2026-04-05T12:00:00+00:00"]'),
        ([{1}], b'["{1}"]'),
    ],
)
def test_a_message_as_bytes(message: object, body: bytes) -> None:
    assert body_of(message, 1_000) == body


def cyclic() -> t.Any:
    message: dict[str, t.Any] = {}
    message["self"] = [message]
    return message


def deep(levels: int) -> t.Any:
    message: list[t.Any] = []
    for _level in range(levels):
        message = [message]
    return message


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("x" * 1_001, "too_large"),
        (b"x" * 1_001, "too_large"),
        ("\u20ac" * 400, "too_large"),
        (["x" * 500, "x" * 500], "too_large"),
        (["\u20ac"] * 150, "too_large"),
        ({"x" * 1_001: 1}, "too_large"),
        ([1 << 10_000], "too_large"),
        (cyclic(), "too_large"),
        (deep(100_000), "too_large"),
    ],
)
def test_what_is_too_large_is_refused(message: object, kind: str) -> None:
    with pytest.raises(AlertError, match="larger than 1000 bytes, or holds itself") as caught:
        body_of(message, 1_000)
    assert caught.value.kind == kind


@pytest.mark.parametrize("message", [deep(100_000), [1 << 15_000]])
def test_what_json_cannot_say_is_refused(message: object) -> None:
    with pytest.raises(AlertError) as caught:
        body_of(message, 1_000_000)
    assert caught.value.kind == "not_json"


def test_what_is_far_too_large_is_refused_at_once() -> None:
    twice: t.Any = ["x" * 100_000]
    for _time in range(60):  # of 2^60 elements, in no memory
        twice = [twice, twice]
    began = time.process_time()
    for message in (twice, [0] * 10_000_000, [1 << 14_000] * 200_000, {"key": "x" * 100_000_000}):
        with pytest.raises(AlertError):
            body_of(message, 1_048_576)
    assert time.process_time() - began < 5
