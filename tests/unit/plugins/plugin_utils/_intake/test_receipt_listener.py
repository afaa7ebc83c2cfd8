# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import socket
import typing as t

import aiohttp
import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import accept
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipt_listener import listen
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import ReceiptError

Start = t.Any
CAPABILITY = {"Authorization": "Receipt 00ff"}


async def post(intake: t.Any, path: str = "/receipts", body: t.Any = b"{}", **options: t.Any) -> tuple[int, t.Any]:
    url = f"http://127.0.0.1:{intake.receipt_port}{path}"
    async with aiohttp.request("POST", url, data=body, **options) as answer:
        return answer.status, await answer.json()


async def test_a_receipt(start: Start) -> None:
    async with start() as intake:
        assert await post(intake, headers=CAPABILITY) == (200, {"taken": True})
        assert intake.deliveries.receipts == [("Receipt 00ff", b"{}")]


@pytest.mark.parametrize("path", ["/alerts", "/healthz", "/metrics", "/receipts/", "/"])
async def test_nothing_else_is_there(start: Start, path: str) -> None:
    async with start() as intake:
        status, answer = await post(intake, path, headers=CAPABILITY)
        assert (status, answer["error"]["kind"]) == (404, "not_found")
    assert intake.deliveries.receipts == []


async def test_without_a_capability_no_body_is_read(start: Start) -> None:
    async with start() as intake:
        assert (await post(intake, body=io.BytesIO(b"x" * 20_000_000)))[0] == 401
        status, answer = await post(intake, body=io.BytesIO(b"x" * 9_000_000), headers=CAPABILITY)
        assert (status, answer["error"]["kind"]) == (413, "too_large")


@pytest.mark.parametrize("status", [400, 401, 403, 410])
async def test_why_a_receipt_does_not_count(start: Start, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start() as intake:

        async def receipt(_authorization: str, _body: bytes) -> None:
            raise ReceiptError(status, "no", kind="some_kind")

        monkeypatch.setattr(intake.deliveries, "receipt", receipt)
        found, answer = await post(intake, headers=CAPABILITY)
        assert (found, answer["error"]["kind"]) == (status, "some_kind")
        metrics = await intake.metrics()
    assert metrics['requests_refused_total{listener="receipts",kind="some_kind"}'] == 1


def port_of(listening: socket.socket) -> int:
    with listening:
        assert listening.getsockname()[0] == "127.0.0.1"
        return int(listening.getsockname()[1])


def test_the_port_of_last_time_where_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    last = port_of(listen(0, 0))
    assert port_of(listen(0, last)) == last
    with accept.listen("127.0.0.1", last)[0]:
        assert port_of(listen(0, last)) != last
        assert "Receipts of runs that began before a restart will not arrive" in caplog.text
        with pytest.raises(OSError, match="address already in use"):
            listen(last, 0)
