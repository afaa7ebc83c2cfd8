# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action log on a real file system."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import START, ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.errors import ActionLogError


@pytest.fixture
def log(tmp_path: pathlib.Path) -> ActionLog:
    return ActionLog(str(tmp_path / "state"))


def lines(log: ActionLog) -> list[str]:
    return pathlib.Path(log.path).read_text().splitlines()


def test_records_are_chained(log: ActionLog) -> None:
    log.append([ActionEvent("isolated", trace_id="t-1"), ActionEvent("audit", trace_id="t-2")])
    log.append([ActionEvent("released", trace_id="t-3")])
    records = [json.loads(line) for line in lines(log)]
    assert [record["trace_id"] for record in records] == ["t-1", "t-2", "t-3"]
    assert [record["previous"] for record in records] == [START, records[0]["hash"], records[1]["hash"]]
    assert log.verify() == {
        "records": 3,
        "intact": True,
        "first_break": None,
        "last_hash": records[2]["hash"],
    }


def test_nobody_else_can_read_it(log: ActionLog) -> None:
    log.append([ActionEvent("isolated")])
    path = pathlib.Path(log.path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_nothing_to_record_makes_no_file(log: ActionLog) -> None:
    log.append([])
    assert not pathlib.Path(log.path).exists()
    assert log.verify()["intact"] is True


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_changed_record_shows(log: ActionLog, number: int) -> None:
    log.append([ActionEvent("isolated", trace_id=f"t-{index}") for index in range(3)])
    written = lines(log)
    written[number] = written[number].replace('"outcome":"isolated"', '"outcome":"released"')
    pathlib.Path(log.path).write_text("\n".join(written) + "\n")
    assert log.verify()["first_break"] == number + 1


def test_a_removed_record_shows(log: ActionLog) -> None:
    log.append([ActionEvent("isolated") for _ in range(3)])
    written = lines(log)
    pathlib.Path(log.path).write_text("\n".join([written[0], written[2]]) + "\n")
    assert log.verify()["first_break"] == 2


def test_a_power_cut_within_a_line_loses_that_line_only(log: ActionLog) -> None:
    log.append([ActionEvent("isolated", trace_id="t-1")])
    with open(log.path, "a", encoding="ascii") as file:
        file.write('{"outcome":"isol')
    log.append([ActionEvent("released", trace_id="t-2")])
    found = log.verify()
    assert (found["records"], found["intact"], found["first_break"]) == (2, False, 2)
    records = [json.loads(line) for line in lines(log) if line.endswith("}")]
    assert records[1]["previous"] == records[0]["hash"]


_WRITE_20 = f"""
import sys
from {ActionLog.__module__} import ActionLog
from {ActionEvent.__module__} import ActionEvent
for number in range(20):
    ActionLog(sys.argv[1]).append([ActionEvent("isolated", trace_id=f"t-{{number}}")])
"""


def test_processes_that_write_at_once_keep_the_chain(log: ActionLog) -> None:
    command = [sys.executable, "-c", _WRITE_20, str(pathlib.Path(log.path).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    found = log.verify()
    assert (found["records"], found["intact"]) == (80, True)


def test_a_directory_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ActionLogError) as raised:
        ActionLog(str(tmp_path / "file" / "state")).append([ActionEvent("isolated")])
    assert "state_dir" in raised.value.remedy
