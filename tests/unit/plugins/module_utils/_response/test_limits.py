# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The limit of isolations, over runs and over damages."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits import RESERVED_FOR, Limiter
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir


class Runs:
    """Runs of the guard on one host."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.state, self.now = directory / "state", 1_000_000.0
        self.files = StateDir(str(self.state), str(directory / "run"))

    def limiter(self, most: int = 2, window: int = 600) -> Limiter:
        return Limiter(self.files, Limits(max_isolations=most, window=window), lambda: self.now)

    def admitted(self, *container_ids: str, limiter: Limiter | None = None) -> list[str]:
        return [admission.outcome for admission in (limiter or self.limiter()).admit(container_ids)]

    def isolated(self, *container_ids: str) -> None:
        limiter = self.limiter()
        limiter.admit(container_ids)
        limiter.settle(container_ids)


@pytest.fixture
def runs(tmp_path: pathlib.Path) -> Runs:
    return Runs(tmp_path)


def test_containers_that_were_isolated_count(runs: Runs) -> None:
    runs.isolated("a", "b")
    (admission,) = runs.limiter().admit(["c"])
    assert admission.outcome == "limit"
    assert admission.reason == "2 containers were isolated on this host within 600 seconds, of at most 2"
    runs.now += 601
    assert runs.admitted("c") == ["isolate"]


def test_refused_failed_and_held_ones_cost_nothing(runs: Runs) -> None:
    for number in range(5):
        limiter = runs.limiter()
        assert runs.admitted(f"refused-{number}", limiter=limiter) == ["isolate"]
        limiter.settle([])
    assert runs.admitted("a", "b") == ["isolate", "isolate"]


def test_the_same_container_counts_once(runs: Runs) -> None:
    for _ in range(3):
        runs.isolated("a")
    assert runs.admitted("a", "b", "c") == ["isolate", "isolate", "limit"]


def test_what_another_run_is_isolating_has_its_place(runs: Runs) -> None:
    first = runs.limiter()
    runs.isolated("a")
    assert runs.admitted("b", limiter=first) == ["isolate"]
    (admission,) = runs.limiter().admit(["c"])
    assert admission.reason == (
        "1 containers were isolated on this host within 600 seconds, 1 more are being isolated, of at most 2"
    )
    assert runs.admitted("b") == ["isolate"], "which two runs isolate is one"
    first.settle([])
    runs.now += RESERVED_FOR
    assert runs.admitted("c") == ["isolate"]


def test_a_run_that_was_killed_keeps_its_places_for_a_bounded_time(runs: Runs) -> None:
    assert runs.admitted("a", "b") == ["isolate", "isolate"]
    assert runs.admitted("c") == ["limit"]
    runs.now += RESERVED_FOR + 1
    assert runs.admitted("c") == ["isolate"]


def test_a_clock_that_was_set_back_does_not_hold_places_for_long(runs: Runs) -> None:
    runs.isolated("a", "b")
    runs.now -= 100_000
    assert runs.admitted("c") == ["isolate"]


def test_check_mode_uses_nothing_up(runs: Runs) -> None:
    for _ in range(3):
        assert [found.outcome for found in runs.limiter().admit(["a", "b", "c"], check=True)][2:] == ["limit"]
        runs.limiter().settle(["a"], check=True)
    assert not runs.state.exists()


def test_without_a_limit_nothing_is_written(runs: Runs) -> None:
    limiter = runs.limiter(most=0)
    assert runs.admitted("a", limiter=limiter) == ["isolate"]
    limiter.settle(["a"])
    assert not runs.state.exists()


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"isolations": [1]}', b"\xff\x00", b"", b'{"isolations": [["x", 1]]}']
)
def test_a_damaged_memory_is_set_aside_told_and_begun_anew(runs: Runs, content: bytes) -> None:
    runs.state.mkdir()
    (runs.state / "limits.json").write_bytes(content)
    assert runs.admitted("a", "b", "c") == ["isolate", "isolate", "limit"]
    assert any("limits.json is damaged" in warning for warning in runs.files.warnings)
    kept = sorted(runs.state.glob("limits.damaged-*"))
    assert [path.read_bytes() for path in kept] == ([content] if content else [])
    assert json.loads((runs.state / "limits.json").read_bytes())["reserved"]


def test_damaged_memories_that_are_kept_are_few(runs: Runs) -> None:
    runs.state.mkdir()
    for number in range(6):
        (runs.state / "limits.json").write_text(f"damage {number}")
        runs.now += 1
        runs.admitted("a")
    assert [path.read_text() for path in sorted(runs.state.glob("limits.damaged-*"))] == [
        "damage 3",
        "damage 4",
        "damage 5",
    ]


def test_a_memory_that_cannot_be_had_keeps_nothing_from_being_isolated(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    files = StateDir(str(tmp_path / "file" / "state"), str(tmp_path / "file" / "run"))
    limiter = Limiter(files, Limits(max_isolations=1, window=600))
    assert [found.outcome for found in limiter.admit(["a", "b"])] == ["isolate", "limit"]
    limiter.settle(["a"])
    assert any("counts what this run isolates only" in warning for warning in files.warnings)


def test_what_earlier_versions_remembered_counts(runs: Runs) -> None:
    runs.state.mkdir()
    old = {"isolations": [[runs.now, "shells a"], [runs.now, "other a"], [runs.now, "shells b"]], "cooldowns": {"x": 1}}
    (runs.state / "limits.json").write_text(json.dumps(old))
    assert runs.admitted("c", "a") == ["limit", "isolate"]


def test_the_memory_is_bounded(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits.MAX_REMEMBERED", 5
    )
    limiter = runs.limiter(most=100)
    ids = [f"c-{number}" for number in range(20)]
    limiter.admit(ids)
    limiter.settle(ids)
    assert [key for _at, key in json.loads((runs.state / "limits.json").read_text())["isolations"]] == ids[-5:]


_ADMIT = f"""
import sys
from {Limiter.__module__} import Limiter
from {Limits.__module__} import Limits
from {StateDir.__module__} import StateDir
limiter = Limiter(StateDir(sys.argv[1], sys.argv[2]), Limits(max_isolations=10, window=600))
ids = [f"{{sys.argv[3]}}-{{number}}" for number in range(8)]
granted = [name for name, found in zip(ids, limiter.admit(ids)) if found.outcome == "isolate"]
limiter.settle(granted)
print(len(granted))
"""


def test_runs_at_the_same_time_do_not_exceed_it_together(runs: Runs) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _ADMIT, runs.files.path, runs.files.fallback]
    started = [
        subprocess.Popen([*command, str(number)], env=environment, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    granted = [int(run.communicate()[0]) for run in started]
    assert sum(granted) == 10
