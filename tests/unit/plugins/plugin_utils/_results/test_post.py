# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending a receipt."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.post import post
from ansible_collections.ironpost.container_guard.tests.receipts import ReceiptServer

RECEIPT = {"delivery": "d-1", "host": "web-1"}
NO_PAUSE = (0.0, 0.0)


def sent_to(server: ReceiptServer) -> str:
    return post(server.url, server.CAPABILITY, RECEIPT, pauses=NO_PAUSE)


def test_what_is_sent() -> None:
    with ReceiptServer() as server:
        assert sent_to(server) == ""
        assert server.receipts == [RECEIPT]
        assert server.requests == [f"Receipt {server.CAPABILITY}"]


def test_accidents_of_the_source_are_tried_again() -> None:
    with ReceiptServer([500, 503]) as server:
        assert sent_to(server) == ""
        assert (len(server.requests), server.receipts) == (3, [RECEIPT])


def test_but_not_for_ever() -> None:
    with ReceiptServer([500] * 9) as server:
        assert sent_to(server) == "it answered 500"
        assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "why"), [(401, "it answered 401"), (410, "told as unanswered"), (302, "302")])
def test_what_it_does_not_want_is_not_sent_again(status: int, why: str) -> None:
    with ReceiptServer([status]) as server:
        assert why in sent_to(server)
        assert len(server.requests) == 1


def test_a_source_that_is_not_there() -> None:
    with ReceiptServer() as server:
        url = server.url
    assert "ConnectionRefused" in post(url, server.CAPABILITY, RECEIPT, pauses=NO_PAUSE)


def test_a_source_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        why = post(f"http://127.0.0.1:{port}/receipts", "c0" * 32, RECEIPT, timeout=0.05, pauses=NO_PAUSE)
    assert "timed out" in why


def test_proxies_of_the_environment_do_not_learn_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    with ReceiptServer() as proxy, ReceiptServer() as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        assert sent_to(server) == ""
        assert (len(server.requests), proxy.requests) == (1, [])
