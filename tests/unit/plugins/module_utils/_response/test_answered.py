# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts that are delivered again."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._response import answered
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answered import (
    REMEMBERED_FOR,
    Answer,
    Answered,
    key_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils.disks import Disk, kill_at_every_call


class Runs:
    """Runs of the guard on one host, each with an object of its own."""

    def __init__(self, state: pathlib.Path, run: pathlib.Path) -> None:
        self.state, self.run, self.now = state, run, 1_000_000.0

    def files(self) -> StateDir:
        return StateDir(str(self.state), str(self.run))

    def answered(self, files: StateDir | None = None) -> Answered:
        return Answered(files or self.files(), lambda: self.now)

    def recalled(self, *alert_ids: str) -> list[str]:
        return sorted(self.answered().recall(alert_ids))


@pytest.fixture
def runs(tmp_path: pathlib.Path) -> Runs:
    return Runs(tmp_path / "state", tmp_path / "run")


FIRST = Answer("a-1", "isolated", "c" * 64, "shells", "record-1")


def test_a_repeat_returns_the_first_outcome(runs: Runs) -> None:
    runs.answered().remember(
        [FIRST, Answer("a-1", "protected", "d" * 64, "shells", "record-2"), Answer("a-2", "audit")]
    )
    runs.answered().remember([Answer("a-3", "held")])
    assert runs.answered().recall(["a-1", "a-3", "a-4"]) == {
        "a-1": [FIRST, Answer("a-1", "protected", "d" * 64, "shells", "record-2")],
        "a-3": [Answer("a-3", "held")],
    }


@pytest.mark.parametrize("outcome", ["failed", "unknown", "busy", "limit", "refused", "expired"])
def test_what_is_no_answer_is_not_remembered(runs: Runs, outcome: str) -> None:
    runs.answered().remember([Answer("a-1", outcome)])
    assert runs.recalled("a-1") == []
    assert not runs.state.exists()


def test_it_is_remembered_for_a_day_at_least_and_two_at_most(runs: Runs) -> None:
    runs.answered().remember([FIRST])
    runs.now += REMEMBERED_FOR
    runs.answered().remember([Answer("a-2", "audit")])
    assert runs.recalled("a-1", "a-2") == ["a-1", "a-2"]
    runs.now += REMEMBERED_FOR
    runs.answered().remember([Answer("a-3", "audit")])
    assert runs.recalled("a-1", "a-2", "a-3") == ["a-1", "a-2", "a-3"]
    runs.now += 1
    assert runs.recalled("a-1", "a-2", "a-3") == ["a-2", "a-3"]


def test_the_number_is_bounded_and_the_newest_stay(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "MAX_REMEMBERED", 20)
    ids = [f"a-{number}" for number in range(100)]
    for alert_id in ids:
        runs.answered().remember([Answer(alert_id, "audit")])
    kept = runs.recalled(*ids)
    assert 10 <= len(kept) <= 20
    assert set(kept) == set(ids[-len(kept) :])


@pytest.mark.parametrize("alert_id", ['a"b', "é", 'x"]\n["a-1"', "a,b", "\u2028"])
def test_an_id_that_somebody_made_up_means_itself_only(runs: Runs, alert_id: str) -> None:
    runs.answered().remember([Answer(alert_id, "audit")])
    assert runs.recalled("a-1", "a", alert_id) == [alert_id]


@pytest.mark.parametrize("damage", [b'["a-1",1', b'["a-1"]\n', b'["a-1",1,"x","","",""]\n', b"{}\n", b"\xff\n"])
def test_damage_loses_no_other_answer(runs: Runs, damage: bytes) -> None:
    runs.state.mkdir()
    (runs.state / "answered.jsonl").write_bytes(damage)
    runs.answered().remember([Answer("a-2", "audit")])
    assert runs.recalled("a-1", "a-2") == ["a-2"]


def test_what_cannot_be_remembered_is_told_and_no_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    files = StateDir(str(tmp_path / "file" / "state"), str(tmp_path / "file" / "run"))
    Answered(files).remember([FIRST])
    assert Answered(files).recall(["a-1"]) == {}
    assert any("may be answered again" in warning for warning in files.warnings)


def test_it_is_remembered_while_the_disk_is_full(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "disk", monkeypatch)
    try:
        runs = Runs(disk.path / "state", tmp_path / "run")
        disk.fill()
        runs.answered().remember([FIRST])
        assert runs.recalled("a-1") == ["a-1"]
        disk.heal()
        runs.answered().remember([Answer("a-2", "audit")])
        assert runs.recalled("a-1", "a-2") == ["a-1", "a-2"]
        assert not (tmp_path / "run" / "answered.jsonl").exists()
    finally:
        disk.close()


def test_a_run_that_is_killed_loses_nothing_that_was_remembered(runs: Runs) -> None:
    number = 0

    def prepare() -> None:
        nonlocal number
        number += 1
        runs.answered().remember([Answer(f"a-{number}", "audit")])

    work: t.Callable[[], None] = lambda: runs.answered().remember([Answer(f"b-{number}", "audit")])  # noqa: E731 # one line
    for _ in kill_at_every_call(prepare, work):
        assert f"a-{number}" in runs.recalled(f"a-{number}", f"b-{number}")
    assert runs.recalled(f"b-{number}") == [f"b-{number}"]


class CountedFiles(StateDir):
    """State that knows how often it was read, and added to with a flush to the disk."""

    def __init__(self, runs: Runs) -> None:
        super().__init__(str(runs.state), str(runs.run))
        self.calls: list[str] = []

    def read(self, name: str, last: int = 0) -> bytes | None:
        self.calls.append(f"read {name}")
        return super().read(name, last)

    def append(self, name: str, lines: bytes) -> None:
        self.calls.append(f"append {name}")
        super().append(name, lines)


def test_a_batch_of_500_costs_as_many_reads_and_flushes_as_one_alert(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.answered().remember([Answer(f"old-{number}", "audit") for number in range(9_000)])
    parsed: list[bytes] = []
    parse = answered._loaded
    monkeypatch.setattr(answered, "_loaded", lambda line: parsed.append(line) or parse(line))

    def calls_of(batch: list[str]) -> list[str]:
        files = CountedFiles(runs)
        answers = runs.answered(files)
        assert answers.recall(batch) == {}
        answers.remember([Answer(alert_id, "isolated") for alert_id in batch])
        return files.calls

    assert calls_of(["a-1"]) == calls_of([f"b-{number}" for number in range(500)])
    assert len(parsed) == 2, "only the first line of the file is looked at, for its age"


SAID: dict[str, t.Any] = {"id": "a-1", "source": "falco", "rule": "r", "severity": "high", "host": "web-1"}


@pytest.mark.parametrize(
    "change",
    [
        *({"source": "wazuh"}, {"rule": "s"}, {"host": "web-2"}, {"message": "m"}, {"time": "2026-04-05T12:00:00Z"}),
        *({"container": {"pid": 7}}, {"container": {"addresses": ["10.9.0.4"], "subject": "nothing"}}),
        *({"container": {"id": "0" * 12}}, {"container": {"name": "web"}}, {"received_at": "2026-04-05T13:00:00Z"}),
    ],
    ids=str,
)
def test_only_what_is_delivered_again_is_the_same(change: dict[str, t.Any]) -> None:
    said = {**SAID, "received_at": "2026-04-05T12:00:00Z"}
    first = key_of(Alert.from_dict(said))
    assert key_of(Alert.from_dict({**said, "trace_id": "another"})) == first
    assert key_of(Alert.from_dict({**said, **change})) != first
