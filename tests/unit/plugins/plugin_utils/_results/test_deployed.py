# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a deployment of policies."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.deployed import deployed

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
UNREACHABLE = {"unreachable": True, "changed": False, "msg": "Task failed: no route to host"}


def result(digest: str, before: str = "", when: str = "2026-04-05T12:43:03Z") -> dict[str, t.Any]:
    return {"changed": digest != before, "digest": digest, "previous_digest": before, "deployed_at": when}


def test_all_hosts_have_the_same_set() -> None:
    found = deployed({"web-1": result(A), "web-10": result(A, A, "2026-04-01T00:00:00Z")})
    assert found["good"]
    assert found["lines"] == [
        "host    digest        changed  when",
        "web-1   aaaaaaaaaaaa  yes      2026-04-05T12:43:03Z",
        "web-10  aaaaaaaaaaaa  no       2026-04-01T00:00:00Z",
        f"{A} is on web-1, web-10",
    ]
    assert found["digests"] == {"web-1": A, "web-10": A}


def test_in_check_mode_it_was_not_put_in_place() -> None:
    assert deployed({"web-1": result(A, when="")})["lines"][1].endswith("yes      not yet: check mode")


def test_digests_that_differ_are_an_error() -> None:
    found = deployed({"web-1": result(A), "web-2": result(B)})
    assert not found["good"]
    assert found["conclusion"] == "digests differ: aaaaaaaaaaaa on web-1; bbbbbbbbbbbb on web-2"


def test_a_host_that_failed_or_was_not_reached_is_an_error_and_stands_in_the_table() -> None:
    failed = {"failed": True, "msg": "cannot write. Check it", "error": {"message": "cannot write"}, "digest": B}
    found = deployed({"web-1": result(A), "web-2": UNREACHABLE, "web-3": failed, "web-4": {}})
    assert not found["good"]
    assert found["lines"][2:] == [
        "web-2  not reached: no route to host",
        "web-3  failed: cannot write",
        "web-4  was lost before its turn",
        f"failed or not reached: web-2, web-3, web-4. {A} is on web-1",
    ]
    assert found["digests"] == {"web-1": A, "web-2": "", "web-3": "", "web-4": ""}


def test_hosts_whose_turn_comes_later_are_no_error() -> None:
    found = deployed({"web-1": result(A), "web-2": {}}, left=["web-1", "web-2"])
    assert found["good"]
    assert found["lines"][2:] == ["web-2  not touched so far", f"{A} is on web-1. not touched so far: web-2"]


def test_where_no_host_has_a_set_nothing_is_good() -> None:
    assert not deployed({"web-1": UNREACHABLE})["good"]
