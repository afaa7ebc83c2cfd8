# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Record
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.replay import Replay
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.table import table


def test_what_was_not_read_stands_in_the_table() -> None:
    replay = Replay(PolicySet.of([]))
    for record in (Record(3, None, "it is text"), Record(4, b"{}"), Record(5, None, "it is text")):
        replay.take_record(record)
    replay.note_lines(5)
    lines = table(replay.report())
    assert lines[lines.index("skipped because  lines  first line") + 1] == "it is text           2           3"
    refused = next(number for number, line in enumerate(lines) if line.startswith("refused because"))
    assert lines[refused + 1].split()[-2:] == ["1", "4"]
    assert lines[-1].startswith("note: no alert was found in 5 lines: it is text (2, first line 3); ")
