# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import random
import string
import typing as t
import uuid
import zlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import (
    PACKED_BYTES,
    READABLE_BYTES,
    PackedError,
    alerts_of,
    written,
)

RAW = base64.b64encode(b"{}").decode()


def alert(message: str = "a shell", **fields: t.Any) -> dict[str, t.Any]:
    given = {"source": "falco", "rule": str(uuid.uuid4()), "severity": "high", "container": {"name": "shop"}}
    return Alert.from_dict({**given, "message": message, "raw": RAW, "raw_sha256": "ab" * 32, **fields}).to_dict()


def test_few_alerts_can_be_read() -> None:
    alerts = [alert() for _number in range(20)]
    assert written(alerts) == ({"alerts": alerts}, 20)


def test_many_are_packed_behind_the_first_and_lose_nothing_but_the_message_as_received() -> None:
    alerts = [alert() for _number in range(300)]
    event, number = written(alerts)
    assert number == 300
    assert event["alerts"] == alerts[:1]
    assert len(event["packed_alerts"]) <= PACKED_BYTES
    assert alerts_of(event) == [alerts[0], *({**each, "raw": "", "raw_sha256": ""} for each in alerts[1:])]


def test_what_cannot_be_compressed_comes_later() -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    alerts = [alert("".join(chance.choices(string.ascii_letters, k=1000))) for _number in range(200)]
    event, number = written(alerts)
    assert 20 < number < 100
    assert PACKED_BYTES * 0.8 < len(event["packed_alerts"]) <= PACKED_BYTES
    found = alerts_of(event)
    assert found is not None
    assert [each["id"] for each in found] == [each["id"] for each in alerts[:number]]


def test_a_single_one_that_is_larger_is_written_as_it_is() -> None:
    large = alert(raw="QUJD" * READABLE_BYTES)
    assert written([large]) == ({"alerts": [large]}, 1)


def test_the_first_one_may_be_alone() -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    huge = {**alert(), "message": "".join(chance.choices(string.ascii_letters, k=100_000))}
    assert written([alert(), huge])[1] == 1
    assert list(written([huge, huge])[0]) == ["alerts"]


@pytest.mark.parametrize("event", [{}, {"alerts": None}, {"alerts": "x"}, {"unanswered": []}])
def test_an_event_about_none(event: dict[str, t.Any]) -> None:
    assert alerts_of(event) is None


@pytest.mark.parametrize(
    "packed",
    [
        "",
        "x",
        7,
        [],
        base64.b64encode(b"[]").decode(),
        base64.b64encode(zlib.compress(b"{}")).decode(),
        base64.b64encode(zlib.compress(json.dumps(["x"]).encode()))[:8].decode(),
        base64.b64encode(zlib.compress(b"[" * 20_000_000)).decode(),
        base64.b64encode(zlib.compress(b" " * 20_000_000 + b"[]")).decode(),
        base64.b64encode(zlib.compress(b"[" + b"[]," * 500_000 + b"[]]")).decode(),
    ],
)
def test_what_the_source_never_packs(packed: t.Any) -> None:
    with pytest.raises(PackedError):
        alerts_of({"alerts": [], "packed_alerts": packed})
