# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks hand on."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.handed_on import (
    handed_on,
    muted,
    told,
)

CONTAINER = {"id": "6bc1b4be90d6", "name": "shop-7"}
ENTRY = {
    "container": "shop-7",
    "container_id": "6bc1b4be90d6",
    "outcome": "isolated",
    "policy_id": "",
    "trace_id": "trace-1",
    "check_mode": False,
}
NO_ERROR = {"kind": "", "message": "", "remedy": ""}


def test_each_container_with_policy_trace_id_outcome_and_check_mode() -> None:
    lost = {"what": "address", "before": "a", "after": "b"}
    result = {
        "trace_id": "trace-1",
        "results": [
            {"container": CONTAINER, "outcome": "isolated"},
            {"container": CONTAINER, "outcome": "released", "policy_id": "p", "trace_id": "of-its-own"},
            {"container": CONTAINER, "outcome": "released", "not_restored": [lost]},
        ],
    }
    assert handed_on(result, False) == {
        "check_mode": False,
        "containers": [
            ENTRY,
            {**ENTRY, "outcome": "released", "policy_id": "p", "trace_id": "of-its-own"},
            {**ENTRY, "outcome": "released"},
        ],
        "summary": {"isolated": 1, "released": 2},
        "error": NO_ERROR,
        "not_restored": [lost],
    }


def test_check_mode_is_said_for_each() -> None:
    result = {"trace_id": "trace-1", "results": [{"container": CONTAINER, "outcome": "would_isolate"}]}
    found = handed_on(result, True)
    assert found["check_mode"] is True
    assert found["containers"] == [{**ENTRY, "outcome": "would_isolate", "check_mode": True}]
    assert told(found) == ["shop-7: would_isolate, trace trace-1"]


def test_receipts_for_an_event_source_that_reads_them() -> None:
    receipts = [{"host": "web-1", "state": "answered", "alerts": []}]
    assert handed_on({"responses": [], "receipts": receipts}, False)["receipts"] == receipts
    assert "receipts" not in handed_on({"responses": []}, False)


def test_an_alert_by_what_was_done_or_else_by_what_was_decided() -> None:
    decision = {"outcome": "isolate", "policy_id": "p", "trace_id": "trace-1", "container": CONTAINER}
    event = {"outcome": "isolated", "container": CONTAINER}
    nobody = {"outcome": "no_container", "policy_id": "", "trace_id": "trace-2", "container": None}
    result = {"responses": [{"decision": decision, "event": event}, {"decision": nobody, "event": None}]}
    found = handed_on(result, False)
    assert found["containers"] == [
        {**ENTRY, "policy_id": "p"},
        {**ENTRY, "container": "", "container_id": "", "outcome": "no_container", "trace_id": "trace-2"},
    ]
    assert told(found) == ["shop-7: isolated, policy p, trace trace-1", "no container: no_container, trace trace-2"]


def test_a_failure_hands_on_what_is_known() -> None:
    error = {"kind": "engine_unreachable", "message": "no answer", "remedy": "start it", "details": "x"}
    found = handed_on({"failed": True, "msg": "no answer. start it", "error": error}, False)
    assert (found["containers"], found["summary"]) == ([], {})
    assert found["error"] == {"kind": "engine_unreachable", "message": "no answer", "remedy": "start it"}
    assert told(found) == ["failed: no answer"]


def test_a_failure_of_ansible_itself() -> None:
    found = handed_on({"failed": True, "msg": "MODULE FAILURE"}, False)
    assert found["error"] == {"kind": "error", "message": "MODULE FAILURE", "remedy": ""}


def test_nothing_to_do() -> None:
    result: dict[str, t.Any] = {"trace_id": "t", "results": [], "failed": False}
    assert told(handed_on(result, False)) == ["nothing to do"]


def test_a_host_that_says_little_or_much_spoils_nothing() -> None:
    result = {"results": [{"container": {"name": "a" * 10_000}, "outcome": "isolated"}], "responses": []}
    (entry,) = handed_on(result, False)["containers"]
    assert (len(entry["container"]), entry["container_id"], entry["trace_id"]) == (255, "", "")


def test_what_waits_for_approval_is_handed_on_and_told() -> None:
    decision = {"outcome": "isolate", "policy_id": "p", "trace_id": "trace-1", "container": CONTAINER}
    approval = {"action": "kill", "policy_id": "p", "until": "2026-04-06T12:00:00Z", "decision": ""}
    event = {"outcome": "awaiting_approval", "container": CONTAINER, "trace_id": "trace-1", "approval": approval}
    held = {**event, "outcome": "held"}
    responses = [{"decision": decision, "event": each} for each in (event, held)]
    found = handed_on({"responses": responses}, False)
    assert found["awaiting_approval"] == [
        {
            "container": "shop-7",
            "container_id": "6bc1b4be90d6",
            "policy_id": "p",
            "trace_id": "trace-1",
            "action": "kill",
            "until": "2026-04-06T12:00:00Z",
        }
    ]
    assert told(found)[-1] == "shop-7: kill waits until 2026-04-06T12:00:00Z for the playbook approve"


def test_what_is_muted_is_a_line_for_each() -> None:
    one = {"policy": "p", "container": "web-*", "until": "T", "actor": "alice", "reason": "CHG", "force": True}
    host = {**one, "policy": "", "container": "", "actor": "", "force": False}
    assert muted({"mutes": [one, host]}) == [
        "policy p on container web-* until T by alice: CHG (critical alerts, too)",
        "the whole host until T by somebody: CHG",
    ]
    assert muted({"mutes": []}) == ["nothing is muted"]
    assert muted({"failed": True, "msg": "no"}) == ["failed: no"]
