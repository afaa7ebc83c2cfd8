# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action log on a real file system."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import START, ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.errors import ActionLogError
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils.disks import Disk, kill_at_every_call


@pytest.fixture
def log(tmp_path: pathlib.Path) -> ActionLog:
    return log_of(tmp_path)


def log_of(directory: pathlib.Path, **options: t.Any) -> ActionLog:
    return ActionLog(StateDir(str(directory / "state"), str(directory / "run")), **options)


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
        "files": 1,
        "oldest": records[0]["time"],
        "follows": START,
        "interrupted": [],
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
from {StateDir.__module__} import StateDir
for number in range(20):
    ActionLog(StateDir(sys.argv[1], sys.argv[1] + "-run")).append([ActionEvent("isolated", trace_id=f"t-{{number}}")])
"""


def test_processes_that_write_at_once_keep_the_chain(log: ActionLog) -> None:
    command = [sys.executable, "-c", _WRITE_20, str(pathlib.Path(log.path).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen(command, env=environment) for _ in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    found = log.verify()
    assert (found["records"], found["intact"]) == (80, True)


def test_the_newest_records(log: ActionLog) -> None:
    assert log.newest(2) == []
    log.append([ActionEvent("isolated", policy_id=f"p-{number}") for number in range(3)])
    log.intend([ActionEvent("isolated", policy_id="p-3")])
    assert [record["policy_id"] for record in log.newest(3)] == ["p-1", "p-2"]


def test_a_directory_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ActionLogError) as raised:
        log_of(tmp_path / "file").append([ActionEvent("isolated")])
    assert "state_dir" in raised.value.remedy


ALERT = ActionEvent("audit", alert_id="a-1", policy_id="shells", source="falco", rule="Terminal shell")


def again(event: ActionEvent, **changes: t.Any) -> ActionEvent:
    """The event of another alert of the same kind."""
    fresh = ActionEvent(event.outcome)
    return dataclasses.replace(event, **{"id": fresh.id, "time": fresh.time, "alert_id": fresh.id, **changes})


def whole(line: str) -> bool:
    """Whether a line is a record."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


class TestBounds:
    """However many alerts there are, the log stays small, and its chain whole."""

    @pytest.fixture(autouse=True)
    def _on(self, tmp_path: pathlib.Path) -> None:
        self.directory, self.now = tmp_path, 1_000_000.0

    def log(self, **options: t.Any) -> ActionLog:
        """As each run has one of its own."""
        return log_of(self.directory, clock=lambda: self.now, **options)

    def records(self) -> list[dict[str, t.Any]]:
        return [json.loads(line) for line in lines(self.log())]

    def files(self) -> list[pathlib.Path]:
        return sorted((self.directory / "state").glob("actions.jsonl*"))

    def test_10_000_equal_alerts_cost_a_few_kilobytes(self) -> None:
        for _ in range(20):
            self.log().append([again(ALERT) for _ in range(500)])
        self.now += 3601
        self.log().append([again(ALERT)])
        first, counted, next_first = self.records()
        assert (first["count"], first["repeat_of"]) == (1, "")
        assert (counted["outcome"], counted["count"], counted["repeat_of"]) == ("audit", 9_999, first["id"])
        assert counted["timeline"]["first"] <= counted["timeline"]["last"] == counted["time"]
        assert next_first["repeat_of"] == ""
        assert sum(path.stat().st_size for path in (self.directory / "state").rglob("*")) < 8_000
        assert self.log().verify()["intact"] is True

    @pytest.mark.parametrize(
        "changes",
        [
            {"outcome": "protected"},
            {"policy_id": "other"},
            {"container": {"id": "c" * 64, "name": "web", "image": "x"}},
            {"source": "tetragon"},
            {"rule": "Other"},
            {"error": {"kind": "refused", "message": "", "remedy": ""}},
            {"changed": True},
            {"alert_id": ""},
        ],
    )
    def test_what_is_not_alike_is_recorded_in_full(self, changes: dict[str, t.Any]) -> None:
        self.log().append([ALERT, again(ALERT, **changes), again(ALERT)])
        assert [record["repeat_of"] for record in self.records()] == ["", ""]

    def test_the_cooldown_of_a_policy_is_the_time_within_which_repeats_are_one_record(self) -> None:
        periods = {"shells": 60}
        self.log().append([ALERT, again(ALERT)], periods)
        self.now += 59
        self.log().append([again(ALERT)], periods)
        assert len(self.records()) == 1
        self.now += 1
        self.log().append([ActionEvent("released")], periods)
        assert [record["count"] for record in self.records()] == [1, 2, 1]

    def test_a_clock_that_was_set_back_does_not_count_for_ever(self) -> None:
        self.log().append([ALERT, again(ALERT)])
        self.now -= 100_000
        self.log().append([again(ALERT)])
        assert [record["count"] for record in self.records()] == [1, 1, 1]

    @pytest.mark.parametrize("damage", [b"{", b"[]", b'{"x": {}}', b'{"x": {"until": "1"}}', b"\xff"])
    def test_a_count_that_is_damaged_loses_no_record(self, damage: bytes) -> None:
        self.log().append([ALERT])
        (self.directory / "state" / "actions.repeats.json").write_bytes(damage)
        self.log().append([again(ALERT)])
        assert [record["count"] for record in self.records()] == [1, 1]

    def test_the_decisions_that_are_counted_are_bounded(self) -> None:
        for number in range(3):
            self.log().append([again(ALERT, rule=f"rule {number} {index}") for index in range(500)])
        assert len(json.loads((self.directory / "state" / "actions.repeats.json").read_text())) == 1000

    def test_it_is_rotated_and_the_chain_goes_on_over_files(self) -> None:
        for number in range(40):
            self.log(max_bytes=3_000, max_files=4).append([ActionEvent("isolated", trace_id=f"t-{number}")])
            found = self.log(max_files=4).verify()
            assert (found["intact"], found["first_break"]) == (True, None)
        assert [path.name for path in self.files()] == ["actions.jsonl", *(f"actions.jsonl.{n}" for n in (1, 2, 3))]
        assert max(path.stat().st_size for path in self.files()) < 5_000
        assert found["files"] == 4
        assert found["follows"] != START
        oldest = json.loads(self.files()[-1].read_text().splitlines()[0])
        assert (found["oldest"], found["follows"]) == (oldest["time"], oldest["previous"])

    def test_what_was_counted_is_recorded_at_a_rotation(self) -> None:
        self.log(max_bytes=100).append([ALERT, again(ALERT), again(ALERT)])
        self.log(max_bytes=100).append([ActionEvent("released")])
        assert [record["count"] for record in self.records()] == [2, 1]
        assert self.log().verify()["intact"] is True

    @pytest.mark.parametrize("lost", ["actions.jsonl.2", "actions.jsonl.1", "actions.jsonl.3"])
    def test_a_file_that_is_missing_shows(self, lost: str) -> None:
        for number in range(15):
            self.log(max_bytes=2_000).append([ActionEvent("isolated", trace_id=f"t-{number}")])
        assert len(self.files()) == 4
        (self.directory / "state" / lost).unlink()
        assert self.log().verify()["intact"] is False

    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Disk]:
        disk = Disk(self.directory / "disk", monkeypatch)
        self.directory = disk.path
        yield disk
        disk.close()

    def test_the_chain_goes_on_in_memory_and_is_carried_over(self, disk: Disk) -> None:
        def files() -> StateDir:
            return StateDir(str(disk.path / "state"), str(disk.path.parent / "run"))

        ActionLog(files()).append([ActionEvent("isolated", trace_id="t-1")])
        disk.freeze()
        sick = files()
        ActionLog(sick).append([ActionEvent("isolated", trace_id="t-2")])
        ActionLog(sick).append([ActionEvent("isolated", trace_id="t-3")])
        assert "cannot be written" in sick.warnings[0]
        assert (ActionLog(files()).verify()["records"], ActionLog(files()).verify()["intact"]) == (3, True)
        disk.heal()
        healed = files()
        ActionLog(healed).append([ActionEvent("isolated", trace_id="t-4")])
        assert "carried over" in healed.warnings[0]
        found = ActionLog(files()).verify()
        assert (found["records"], found["intact"], len(lines(ActionLog(files())))) == (4, True, 4)

    def test_a_kill_at_any_moment_leaves_a_whole_chain(self, disk: Disk) -> None:
        def work() -> None:
            self.log(max_bytes=1_500).append([again(ALERT), ActionEvent("isolated")])

        def prepare() -> None:
            shutil.rmtree(self.directory / "state", ignore_errors=True)
            self.log().append([ActionEvent("released", trace_id=f"t-{number}") for number in range(3)])

        for _ in kill_at_every_call(prepare, work):
            self.log(max_bytes=1_500).append([ActionEvent("released")])
            found = self.log().verify()
            torn = [line for path in self.files() for line in path.read_text().splitlines() if not whole(line)]
            assert found["intact"] is (not torn), "apart from the line in which it died"


class TestIntended:
    """An isolation that was cancelled or killed halfway is in the action log."""

    def test_what_has_an_end_was_not_interrupted(self, log: ActionLog) -> None:
        wanted = ActionEvent("isolated", trace_id="t-1", actor="awx: jane", container={"id": "c" * 64, "name": "web"})
        (event,) = log.intend([wanted])
        (line,) = log.verify()["interrupted"]
        assert {"id": event.intended, "trace_id": "t-1", "actor": "awx: jane"}.items() <= line.items()
        assert line["container"]["name"] == "web"
        log.append([event])
        found = log.verify()
        assert (found["interrupted"], found["records"], found["intact"]) == ([], 2, True)

    def test_a_run_that_is_killed_while_it_acts_leaves_the_line(self, log: ActionLog) -> None:
        def work() -> None:
            log_of(pathlib.Path(log.path).parents[1]).intend([ActionEvent("isolated", trace_id="t-2")])
            os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if not child:
            work()
        os.waitpid(child, 0)
        (line,) = log.verify()["interrupted"]
        assert line["trace_id"] == "t-2"
        # The run that finds what it began writes the end.
        log.append([ActionEvent("unknown", trace_id="t-3", intended=line["id"])])
        assert log.verify()["interrupted"] == []

    def test_the_line_is_small(self, log: ActionLog) -> None:
        log.intend([dataclasses.replace(ALERT, container={"id": "c" * 64, "name": "web", "image": "busybox"})])
        assert len(lines(log)[0]) < 700

    def test_where_it_cannot_be_written_the_guard_acts_all_the_same(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "file").write_text("")
        files = StateDir(str(tmp_path / "file" / "state"), str(tmp_path / "file" / "run"))
        (event,) = ActionLog(files).intend([ALERT])
        assert event.intended, "its end names it all the same"
        assert any("not on record" in warning for warning in files.warnings)


def test_the_records_of_one_trace_are_found_over_all_files(tmp_path: pathlib.Path) -> None:
    log = log_of(tmp_path, max_bytes=1)
    (begun,) = log.intend([ActionEvent("isolated", trace_id="t-1")])
    log.append([begun])
    log.append([ActionEvent("isolated", trace_id="t-10"), ActionEvent("audit", rule='"trace_id":"t-1"')])
    log.append([ActionEvent("held", trace_id="t-1")])
    assert [record["outcome"] for record in log.of_trace("t-1")] == ["isolated", "held"]
    assert log.of_trace("t-2") == []


def test_the_records_about_a_container_are_found_by_its_id_or_its_name(log: ActionLog) -> None:
    first, second = ({"id": digit * 64, "name": "web", "image": ""} for digit in "ab")
    (begun,) = log.intend([ActionEvent("isolated", container=first)])
    log.append([begun, ActionEvent("held", container=second), ActionEvent("audit", rule="a" * 64, host="web")])
    assert [record["outcome"] for record in log.of_container("a" * 12)] == ["isolated"]
    assert [record["outcome"] for record in log.of_container(name="web")] == ["isolated", "held"]
    assert log.of_container(name="eb") == []
