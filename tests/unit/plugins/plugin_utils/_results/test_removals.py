# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook remove says."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.removals import removals

DONE = {"changed": True, "removed": ["/etc/container-guard"], "kept": ["/var/lib/x/actions.jsonl"], "left": []}


def test_what_is_gone_and_what_stays() -> None:
    found = removals({"web-1": DONE, "web-2": {"failed": True, "msg": "it is isolated"}})
    assert not found["complete"]
    assert found["hosts"]["web-1"]["kept"] == ["/var/lib/x/actions.jsonl"]
    assert found["lines"] == [
        "the guard is taken off 1 host",
        "host   removed               kept                      left",
        "web-1  /etc/container-guard  /var/lib/x/actions.jsonl  -",
        "web-2: NOT REMOVED: it is isolated",
    ]


def test_check_mode() -> None:
    found = removals({"web-1": DONE}, check_mode=True)
    assert (found["complete"], found["lines"][0]) == (True, "the guard would be taken off 1 host")


def test_hosts_that_answer_nonsense_are_no_end_of_it() -> None:
    assert removals({"web-1": {"removed": 7, "kept": [{}], "left": None}, "web-2": None})["not_removed"].keys() == {
        "web-2"
    }
