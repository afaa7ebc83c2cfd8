# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook status says."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.status import guard_version, status

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32


def isolation(name: str, *breaches: str, policy: str = "") -> dict[str, t.Any]:
    cause = {"reason": "Terminal shell in container", "trace_id": "t-1", "policy_id": policy, "actor": "rulebook"}
    return {
        "container": {"id": "ab" * 32, "name": name},
        "since": "2026-04-05T12:43:02Z",
        "expires_at": "",
        "phase": "isolated",
        "claims": [{"kind": "policy" if policy else "person", "subject": policy, **cause}],
        **cause,
        "agree": not breaches,
        "breaches": [{"kind": kind, "message": "m"} for kind in breaches],
    }


def host(*isolations: dict[str, t.Any], digest: str = DIGEST, **more: t.Any) -> dict[str, t.Any]:
    return {
        "changed": False,
        "isolations": list(isolations),
        "damaged": [],
        "cut_off_by_others": [],
        "action_log": {"intact": True},
        "policy_set": {"digest": digest, "deployed_at": "2026-04-01T00:00:00Z", "problem": ""},
        **more,
    }


UNREACHABLE = {"unreachable": True, "msg": "Failed to connect", "changed": False}


def test_a_question_with_wrong_options_fails_without_being_asked_to() -> None:
    wrong = {"failed": True, "error": {"kind": "invalid_option", "message": "guard_become has no effect any more"}}
    found = status({"web-1": host(), "web-2": wrong})
    assert found["failed"] == {"options": ["web-2"]}
    assert found["lines"][-2:] == [
        "web-2: NOT REACHED: guard_become has no effect any more",
        "this fails, the options are wrong for web-2",
    ]


def test_a_quiet_fleet_is_two_lines() -> None:
    found = status({"web-1": host(), "web-2": host()}, "breach,unreachable,policies")
    assert found["lines"] == [
        f"2 hosts: 0 containers isolated, 0 breaches, 0 not reached; guard {guard_version()}",
        "policy set sha256:abababababab on 2 hosts",
    ]
    assert found["failed"] == {}


def test_each_isolation_is_a_row() -> None:
    found = status(
        {
            "web-1": host(isolation("shop-7", policy="quarantine")),
            "web-2": host(isolation("shop-8", "unpaused", "reconnected"), digest=OTHER),
            "web-3": UNREACHABLE,
            "web-4": host(digest=""),
            "web-5": host(),
        }
    )
    assert found["lines"][0].startswith("5 hosts: 2 containers isolated, 1 breach, 1 not reached")
    assert [line.split("  ")[0] for line in found["lines"][1:4]] == ["host", "web-1", "web-2"]
    assert "quarantine" in found["lines"][2]
    assert "yes" in found["lines"][2]
    assert "NO: unpaused, reconnected" in found["lines"][3]
    assert "by hand" in found["lines"][3]
    assert found["lines"][4:] == [
        "policy set sha256:abababababab on 2 hosts: web-1, web-5",
        "policy set none on 1 host: web-4",
        "policy set sha256:cdcdcdcdcdcd on 1 host: web-2",
        "web-3: NOT REACHED: Failed to connect",
    ]
    assert found["not_reached"] == {"web-3": "Failed to connect"}


def test_one_that_is_cut_off_for_others_says_so() -> None:
    owner = isolation("owner")
    owner["claims"] = [{"kind": "sharer", "subject": "cd" * 32, "reason": "", "trace_id": ""}]
    assert "for others" in status({"web-1": host(owner)})["lines"][2]


def test_it_fails_for_what_is_asked_only() -> None:
    hosts = {"a": host(isolation("x", "removed")), "b": UNREACHABLE, "c": host(digest=OTHER), "d": host()}
    assert status(hosts)["failed"] == {}
    assert status(hosts, "breach unreachable")["failed"] == {"breach": ["a"], "unreachable": ["b"]}
    assert status(hosts, ["policies"])["failed"] == {"policies": ["c"]}
    assert status(hosts, '["breach"]')["failed"] == {"breach": ["a"]}
    with pytest.raises(ValueError, match="breach, policies, unreachable"):
        status(hosts, "breaches")


@pytest.mark.parametrize("wrong", [{"damaged": ["entry x"]}, {"action_log": {"intact": False}}])
def test_records_that_were_tampered_with_count_as_breach(wrong: dict[str, t.Any]) -> None:
    found = status({"a": host(**wrong)}, "breach")
    assert found["failed"] == {"breach": ["a"]}
    assert any(line.startswith("a: ") for line in found["lines"])


def test_an_engine_that_does_not_answer_is_not_reached_and_what_the_journal_says_is_told() -> None:
    silent = host(isolation("shop-7", "unreadable"), failed=True, msg="m", error={"message": "dockerd is down"})
    found = status({"a": silent}, "breach,unreachable")
    assert found["failed"] == {"unreachable": ["a"]}
    assert found["isolated"] == 1
    assert "not known" in found["lines"][2]
    assert found["lines"][-2:] == [
        "a: NOT REACHED: dockerd is down",
        "this fails, as was asked: unreachable on a",
    ]


def test_what_others_cut_off_is_told() -> None:
    found = status({"a": host(cut_off_by_others=[{"name": "x", "how": "paused", "id": "1"}])}, "breach")
    assert found["lines"][-1] == "a: paused or without network, and not by the guard: x"
    assert found["failed"] == {}


def test_hosts_that_answer_nonsense_are_no_end_of_it() -> None:
    odd: t.Any = {"isolations": [7, {"container": 7, "claims": "x", "breaches": [{"kind": {}}]}], "policy_set": 7}
    found = status({"a": odd, "b": None, "c": []})
    assert found["not_reached"].keys() == {"b", "c"}
    assert len(found["hosts"]["a"]["isolations"]) == 1


def test_the_version_is_that_of_the_installed_collection_or_of_the_checkout(tmp_path: pathlib.Path) -> None:
    assert guard_version(tmp_path) == ""
    (tmp_path / "galaxy.yml").write_text("namespace: ironpost\nversion: 0.2.0\n")
    assert guard_version(tmp_path) == "0.2.0"
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"collection_info": {"version": "0.3.0"}}))
    assert guard_version(tmp_path) == "0.3.0"
    assert guard_version() != ""


def test_what_waits_for_a_person_and_what_is_muted() -> None:
    waiting = {
        **isolation("shop-7", policy="quarantine"),
        "awaiting_approval": [{"action": "kill", "policy_id": "quarantine", "until": "2026-04-06T12:43:02Z"}],
    }
    mute = {
        "policy": "noisy",
        "container": "web-*",
        "until": "2026-04-05T14:00:00Z",
        "actor": "ann",
        "reason": "{{ 1 }}",
    }
    found = status({"web-1": host(waiting, mutes=[mute])})
    assert found["awaiting_approval"] == 1
    assert found["lines"][3:5] == [
        (
            "web-1: shop-7 waits until 2026-04-06T12:43:02Z for approval: kill, which the policy quarantine wants. "
            "Decide with ironpost.container_guard.approve"
        ),
        "web-1: muted until 2026-04-05T14:00:00Z by ann: noisy on web-*: { { 1 }}",
    ]
