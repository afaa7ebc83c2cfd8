# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook hunt says."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.hunted import hunted, isolated

UNREACHABLE = {"unreachable": True, "msg": "Failed to connect", "changed": False}


def identity(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def result(name: str, outcome: str = "would_isolate", why: str = "") -> dict[str, t.Any]:
    return {
        "container": {"id": identity(name), "name": name},
        "outcome": outcome,
        "matched_by": ["image tag"],
        "image": "shop:4.2",
        "image_id": "sha256:" + "ab" * 32,
        "error": {"message": why} if why else None,
    }


def answer(*results: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"results": list(results), "summary": {}, "changed": False}


HOSTS = {"web-1": answer(result("a"), result("b")), "web-2": answer(result("c")), "web-3": answer()}


def test_nothing_is_isolated_unless_that_is_asked() -> None:
    found = hunted(HOSTS)
    assert (found["isolate"], found["refused"], found["complete"]) == ({}, "", True)
    assert found["lines"][0] == "3 containers on 2 of 3 hosts match, 3 would be isolated; 0 not reached"
    assert found["lines"][1].split() == [
        "host",
        "container",
        "id",
        "image",
        "image",
        "id",
        "matched",
        "by",
        "outcome",
        "why",
    ]
    assert found["lines"][-1] == "nothing was touched. To isolate these 3: -e guard_hunt_isolate=true"


def test_what_is_isolated_is_what_was_counted() -> None:
    found = hunted(HOSTS, "3", isolate=True)
    assert found["isolate"] == {"web-1": [identity("a"), identity("b")], "web-2": [identity("c")]}


def test_more_than_may_be_are_all_left_alone() -> None:
    found = hunted(HOSTS, 2, isolate=True)
    assert found["isolate"] == {}
    assert "3 containers would be isolated, and at most 2 may be" in found["refused"]
    assert found["lines"][-1] == found["refused"]
    assert "-e guard_max=3" in found["refused"]
    assert hunted(HOSTS, 2)["lines"][-1].endswith("-e guard_hunt_isolate=true -e guard_max=3")


def test_what_is_isolated_or_protected_does_not_count() -> None:
    hosts = {"web-1": answer(result("a", "held"), result("b", "refused", "it is protected"), result("c"))}
    found = hunted(hosts, 1, isolate=True)
    assert found["isolate"] == {"web-1": [identity("c")]}
    assert found["complete"]
    assert any("it is protected" in line for line in found["lines"])


@pytest.mark.parametrize("bad", [UNREACHABLE, None, {"failed": True, "msg": "dockerd is down"}])
def test_who_does_not_answer_is_named_and_it_is_not_complete(bad: t.Any) -> None:
    found = hunted({**HOSTS, "web-4": bad})
    assert not found["complete"]
    assert found["not_reached"].keys() == {"web-4"}
    assert any(line.startswith("web-4: NOT REACHED: ") for line in found["lines"])


def test_one_that_cannot_be_looked_at_may_be_meant() -> None:
    assert not hunted({"web-1": answer(result("a", "failed", "no answer"))})["complete"]


@pytest.mark.parametrize("most", [0, -1, "x", "", None, True, 2.5])
def test_a_limit_is_a_number(most: t.Any) -> None:
    with pytest.raises(ValueError, match="guard_max"):
        hunted(HOSTS, most)


def test_the_trace_id_is_one_for_all_hosts() -> None:
    assert hunted(HOSTS, trace_id="INC-7")["trace_id"] == "INC-7"
    assert hunted(HOSTS, trace_id="no id")["trace_id"] not in ("", "no id")


def test_what_came_of_it() -> None:
    hosts = {**HOSTS, "web-3": answer(result("d", "held"))}
    listed = hunted(hosts, isolate=True, trace_id="INC-7")
    done = {"web-1": answer(result("a", "isolated"), result("b", "isolated")), "web-2": answer(result("c", "isolated"))}
    found = isolated(listed, {**done, "web-3": {"skipped": True}})
    assert found["complete"]
    assert {row["container"]: row["outcome"] for row in found["containers"]} == {
        **dict.fromkeys("abc", "isolated"),
        "d": "held",
    }
    assert found["containers"][0]["matched_by"] == ["image tag"]
    assert found["lines"][0] == "4 containers of 4 that match are isolated on 3 hosts"
    assert found["lines"][-1].endswith("-e guard_alert_trace_id=INC-7")


def test_what_is_not_told_is_not_known() -> None:
    listed = hunted(HOSTS, isolate=True)
    found = isolated(listed, {"web-1": answer(result("a", "isolated")), "web-2": UNREACHABLE, "web-3": None})
    assert not found["complete"]
    assert [row["outcome"] for row in found["containers"]] == ["isolated", "unknown", "unknown"]
    assert found["not_reached"] == {"web-2": "Failed to connect"}


def test_what_failed_is_told() -> None:
    listed = hunted({"web-1": answer(result("a"))}, isolate=True)
    found = isolated(listed, {"web-1": answer(result("a", "failed", "it cannot be paused"))})
    assert (found["complete"], found["containers"][0]["why"]) == (False, "it cannot be paused")


def test_hosts_that_answer_nonsense_are_no_end_of_it() -> None:
    odd: t.Any = {"results": [7, {"container": 7, "matched_by": 7, "outcome": {}, "error": 7, "image": []}]}
    assert len(hunted({"web-1": odd})["containers"]) == 1
