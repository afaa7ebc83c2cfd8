# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook drill says."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.drilled import drilled

ID = "ab" * 32
CONTAINER = {"id": ID, "name": "container-guard-drill-1", "image": "busybox:1"}
VICTIM = {
    "changed": True,
    "container": CONTAINER,
    "trace_id": "t-1",
    "posted_at": "2026-04-05T12:43:02.100Z",
    "clock_ahead": -40,
}
RECORD = {
    "outcome": "isolated",
    "policy_id": "container-guard-drill",
    "timeline": {"acted": "2026-04-05T12:43:02.912Z"},
}
SEEN = {
    "records": [RECORD],
    "isolations": [{"container": CONTAINER, "agree": True, "breaches": []}],
    "cut_off_by_others": [],
}
LEFT: dict[str, t.Any] = {"records": [], "isolations": [], "cut_off_by_others": []}
GOOD: dict[str, t.Any] = {
    "victim": VICTIM,
    "seen": SEEN,
    "decision": {"skipped": True, "changed": False},
    "release": {"changed": True, "results": []},
    "left": LEFT,
    "removed": {"changed": True, "removed": [ID]},
}
SKIPPED = {"skipped": True, "changed": False}
UNANSWERED = {
    **GOOD,
    "seen": {"records": [], "isolations": [], "failed": True, "attempts": 20},
    "release": SKIPPED,
    "left": SKIPPED,
}
UNREACHABLE = {"unreachable": True, "msg": "Failed to connect", "changed": False}


def failed(message: str, kind: str = "x", **more: t.Any) -> dict[str, t.Any]:
    return {"failed": True, "msg": message, "error": {"message": message, "kind": kind}, "changed": False, **more}


def test_all_went_well() -> None:
    found = drilled({"web-1": GOOD, "web-2": GOOD})
    assert found["passed"]
    assert found["lines"] == [
        "2 hosts drilled, 2 passed; contained after 812 to 812 ms",
        "host   posted to contained  verified  released  cleaned  failed at  why",
        "web-1                  812  yes       yes       yes      -          -",
        "web-2                  812  yes       yes       yes      -          -",
    ]
    assert found["hosts"]["web-1"]["policy_id"] == "container-guard-drill"


def test_a_clock_that_is_wrong_is_taken_into_account() -> None:
    ahead = {**GOOD, "victim": {**VICTIM, "posted_at": "2026-04-05T12:42:02.100Z", "clock_ahead": 59_500}}
    assert drilled({"web-1": ahead})["hosts"]["web-1"]["posted_to_contained"] == 1312


@pytest.mark.parametrize(
    ("steps", "failed_at", "why"),
    [
        ({"victim": UNREACHABLE}, "victim", "Failed to connect"),
        ({}, "victim", "it was not asked"),
        ({"victim": failed("no image can be run")}, "victim", "no image can be run"),
        (
            {**GOOD, "victim": {**failed("it answered 401"), "container": CONTAINER}, "seen": SKIPPED},
            "alert",
            "it answered 401",
        ),
        ({**UNANSWERED, "seen": UNREACHABLE}, "answer", "Failed to connect"),
        (
            {**UNANSWERED, "decision": {"decisions": [{"outcome": "no_policy", "reasons": ["a: rules do not match"]}]}},
            "policy",
            "no_policy: a: rules do not match",
        ),
        ({**UNANSWERED, "decision": {"decisions": []}}, "policy", "no policy wants the drill alert"),
        (
            {**UNANSWERED, "decision": failed("no policy set is deployed", "policy_set_missing")},
            "policy",
            "no policy set is deployed",
        ),
        (
            {**GOOD, "seen": {"records": [{"outcome": "failed", **failed("no policy set", "policy_set_missing")}]}},
            "policy",
            "no policy set",
        ),
        ({**UNANSWERED, "decision": failed("dockerd is down")}, "answer", "cannot be asked: dockerd is down"),
        ({**UNANSWERED, "decision": {"decisions": [{"outcome": "isolate"}]}}, "answer", "look at the rulebook"),
        (
            {
                **GOOD,
                "seen": {
                    **SEEN,
                    "isolations": [],
                    "records": [{"outcome": "failed", "error": {"message": "no freezer"}}],
                },
            },
            "isolation",
            "failed: no freezer",
        ),
        (
            {
                **GOOD,
                "seen": {
                    **SEEN,
                    "isolations": [{"container": CONTAINER, "agree": False, "breaches": [{"kind": "unpaused"}]}],
                },
            },
            "isolation",
            "not so any more: unpaused",
        ),
        ({**GOOD, "release": failed("an address is taken")}, "release", "an address is taken"),
        ({**GOOD, "left": {**LEFT, "cut_off_by_others": [{"id": ID}]}}, "release", "still cut off"),
        ({**GOOD, "left": {**LEFT, "isolations": SEEN["isolations"]}}, "release", "still cut off"),
        ({**GOOD, "removed": failed("it hangs")}, "cleanup", "it hangs"),
        ({**GOOD, "removed": {"removed": [], "changed": False}}, "cleanup", "was not removed"),
    ],
)
def test_it_is_said_where_it_broke_and_why(steps: dict[str, t.Any], failed_at: str, why: str) -> None:
    found = drilled({"web-1": GOOD, "web-2": steps})
    one = found["hosts"]["web-2"]
    assert (found["passed"], one["failed_at"]) == (False, failed_at)
    assert why in one["why"]
    assert found["lines"][0].startswith("2 hosts drilled, 1 passed; ")
    assert found["lines"][-1].startswith("web-2")


def test_check_mode_holds_none() -> None:
    assert drilled({"web-1": {}}, check_mode=True) == {
        "hosts": {},
        "passed": True,
        "lines": ["a drill would be held on 1 host"],
    }


def test_hosts_that_answer_nonsense_are_no_end_of_it() -> None:
    odd = {"victim": {"container": 7}, "seen": {"records": [7], "isolations": 7}, "removed": {"removed": 7}, "left": 7}
    found = drilled({"a": odd, "b": {**odd, "victim": {**VICTIM, "posted_at": 7, "clock_ahead": "x"}}, "c": None})
    assert not found["passed"]
    nested = {**GOOD, "seen": {**SEEN, "records": [{**RECORD, "timeline": 7}]}}
    assert drilled({"a": nested})["hosts"]["a"]["posted_to_contained"] is None
