# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook trace says."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.traced import known, traced

ANSWERED: dict[str, t.Any] = {
    "found": True,
    "state": "answered",
    "outcome": "isolated",
    "received_at": "2026-04-05T12:43:03Z",
    "ended_at": "2026-04-05T12:43:05Z",
    "folded": 2,
    "hosts": {
        "web-1": {
            "outcome": "isolated",
            "policy_id": "shells",
            "record_id": "r-1",
            "container": {"id": "ab" * 32, "name": "shop-7"},
            "milliseconds": 512,
            "attempts": 1,
            "why": "",
        },
        "web-2": None,
    },
    "alert": {
        "severity": "critical",
        "rule": "Terminal shell",
        "source": "falco",
        "host": "054aab939018",
        "inventory_host": "web-1",
        "container": {"id": "ababababab", "name": ""},
    },
}
NOT_FOUND: dict[str, t.Any] = {"found": False, "hosts": {}, "alert": {}, "folded": 0, "state": ""}
RECORD = {
    "time": "2026-04-05T12:43:04Z",
    "outcome": "isolated",
    "policy_id": "shells",
    "container": {"name": "shop-7"},
    "error": None,
}


def test_by_the_history() -> None:
    assert traced(ANSWERED, {}, "t-1") == [
        "accepted 2026-04-05T12:43:03Z: critical alert Terminal shell of falco, about ababababab on web-1",
        "web-1 was asked: isolated, container shop-7, policy shells, record r-1, after 512 ms, deliveries 1",
        "web-2 was asked: no answer yet",
        "answered 2026-04-05T12:43:05Z: isolated, with 2 repeats",
    ]
    assert traced({**ANSWERED, "state": "waiting", "folded": 0}, {}, "t-1")[-1] == "it waits for an answer"


def test_by_the_hosts() -> None:
    isolations = [
        {"container": {"name": "shop-7"}, "trace_id": "t-1", "since": "S", "agree": True},
        {"container": {"name": "shop-8"}, "trace_id": "t-0", "claims": [{"trace_id": "t-1"}, "x"], "agree": False},
        {"container": {"name": "shop-9"}, "trace_id": "t-0", "claims": [], "agree": True},
    ]
    found = {
        "web-1": {"records": [RECORD], "isolations": isolations},
        "web-2": {"skipped": True},
        "web-3": {"unreachable": True, "msg": "no route"},
        "web-4": {"failed": True, "msg": "no engine", "records": [{**RECORD, "error": {"message": "as it is"}}]},
        "web-5": {"records": [{"outcome": "audit", "error": "none", "container": 3}]},
    }
    assert traced(NOT_FOUND, found, "t-1") == [
        "web-1: 2026-04-05T12:43:04Z isolated shop-7, policy shells",
        "web-1: shop-7 is isolated for it since S, and it holds",
        "web-1: shop-8 is isolated for it since None, and it does not hold: repair it",
        "web-3: cannot be asked: no route",
        "web-4: 2026-04-05T12:43:04Z isolated shop-7, policy shells, as it is",
        "web-5:  audit no container",
    ]


def test_by_nobody() -> None:
    assert traced(NOT_FOUND, {"web-1": {"records": [], "isolations": []}}, "t-1") == ["nobody knows of it"]
    failed = {"error": {"message": "not yours"}}
    assert traced(failed, {}, "t-1") == ["the history of the event source cannot be read here: not yours"]


@pytest.mark.parametrize(
    ("history", "hosts", "is_known"),
    [
        (ANSWERED, {}, True),
        (NOT_FOUND, {"web-1": {"records": [RECORD]}}, True),
        (NOT_FOUND, {"web-1": {"isolations": [{"trace_id": "t-1"}]}}, True),
        (NOT_FOUND, {"web-1": {"records": [], "isolations": [{"trace_id": "t-2"}]}, "web-2": {"failed": True}}, False),
        ({"failed": True}, {}, False),
    ],
)
def test_whether_anybody_knows(history: dict[str, t.Any], hosts: dict[str, t.Any], is_known: bool) -> None:
    assert known(history, hosts, "t-1") is is_known
