# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which playbook runs go on, with processes that look as those of ansible-runner do."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.runs import Runs

OURS, OTHER = "6be25b6e-17fd-4451-85af-23e21084a064", "00000000-17fd-4451-85af-23e21084a064"
SLEEPS = "import time; print(flush=True); time.sleep(600)"
IGNORES = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(worker.pid, flush=True)
time.sleep(600)
"""


class Playbook:
    """A run about a delivery. Its process is reaped as it ends."""

    def __init__(self, directory: pathlib.Path, delivery: str, code: str = SLEEPS) -> None:
        (directory / "env").mkdir(parents=True)
        variables = directory / "env/extravars"
        event = {"alerts": [{"message": "id: " + "x" * 1000}], "delivery": {"id": delivery, "hosts": ["web-1"]}}
        variables.write_text(yaml.dump({"ansible_eda": {"event": event}}))
        command = [sys.executable, "-c", code, "--limit", "web-1,web-2", "-e", f"@{variables}", "respond"]
        self.process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.said = self.process.stdout.readline().strip()

    def __enter__(self) -> Playbook:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def until_ended(self, runs: Runs) -> int:
        """How it ended, while somebody looks."""
        deadline = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            runs.look([OURS])
            time.sleep(0.02)
        return self.process.returncode


class Clock:
    """Goes on as it is told."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


def test_a_run_is_recognised_until_it_has_ended(tmp_path: pathlib.Path) -> None:
    runs = Runs(timeout=900)
    assert runs.look([OURS, OTHER]) == set()
    with Playbook(tmp_path, OURS) as playbook:
        assert runs.look([OTHER, OURS]) == {OURS}
        assert runs.look([OURS]) == {OURS}
        playbook.process.kill()
        playbook.process.wait()
        assert runs.look([OURS]) == set()


def test_it_is_recognised_as_its_program_has_begun(tmp_path: pathlib.Path) -> None:
    """The process is there before."""
    code = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", *sys.argv[2:]])
"""
    (tmp_path / "env").mkdir()
    (tmp_path / "env/extravars").write_text(OURS)
    # What is to be its command line is not yet there as a whole.
    arguments = [str(tmp_path / "go"), "--limit", "web-1", "-e"]
    code = code.replace("*sys.argv[2:]", f"*sys.argv[2:], '@{tmp_path}/env/extravars'")
    runs = Runs(timeout=900)
    with subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True) as process:
        assert not runs.look([OURS]) - {""}
        (tmp_path / "go").touch()
        deadline = time.monotonic() + 10
        while runs.look([OURS]) != {OURS}:
            assert time.monotonic() < deadline
        process.kill()


def test_only_the_run_that_is_meant_is_ended(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs(timeout=900)
    with Playbook(tmp_path / "a", OURS) as ours, Playbook(tmp_path / "b", OTHER) as other:
        assert runs.look([OURS, OTHER]) == {OURS, OTHER}
        runs.end(OURS, "others wait for its place")
        runs.end(OURS, "others wait for its place")
        assert ours.until_ended(runs) == -signal.SIGTERM
        assert other.process.poll() is None
    (line,) = caplog.messages
    assert line == "Ending a playbook run after 0 seconds, of web-1,web-2: others wait for its place"


def test_a_run_that_lives_too_long_is_ended_whatever_it_is_about(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    runs = Runs(timeout=900, now=clock)
    with Playbook(tmp_path, "of nobody") as playbook:
        runs.look([])
        clock.time = 899.0
        runs.look([])
        assert (playbook.process.poll(), caplog.messages) == (None, [])
        clock.time = 901.0
        assert playbook.until_ended(runs) == -signal.SIGTERM
    assert "it lives longer than 900 seconds" in caplog.text


def test_what_outlives_a_run_that_was_ended_is_killed(tmp_path: pathlib.Path) -> None:
    clock = Clock()
    runs = Runs(timeout=900, now=clock)
    with Playbook(tmp_path, OURS, IGNORES.replace("SIG_IGN", "SIG_DFL")) as playbook:
        worker = int(playbook.said)
        runs.look([OURS])
        runs.end(OURS, "others wait for its place")
        assert playbook.until_ended(runs) == -signal.SIGTERM
        runs.look([OURS])
        assert _lives(worker)
        clock.time = 5.1
        runs.look([OURS])
        _until_gone(worker)


def test_one_that_does_not_end_is_killed_with_what_it_has_started(tmp_path: pathlib.Path) -> None:
    clock = Clock()
    runs = Runs(timeout=900, now=clock)
    with Playbook(tmp_path, OURS, IGNORES) as playbook:
        worker = int(playbook.said)
        runs.look([OURS])
        runs.end(OURS, "others wait for its place")
        clock.time = 4.9
        assert runs.look([OURS]) == {OURS}
        assert playbook.process.poll() is None
        clock.time = 5.1
        assert playbook.until_ended(runs) == -signal.SIGKILL
        _until_gone(worker)


def _until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while _lives(pid):
        assert time.monotonic() < deadline


def _lives(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_files_that_are_gone_or_strange_are_passed_over(tmp_path: pathlib.Path) -> None:
    runs = Runs(timeout=900)
    with Playbook(tmp_path, OURS):
        os.unlink(tmp_path / "env/extravars")
        assert runs.look([OURS]) == {""}
        (tmp_path / "env/extravars").write_bytes(b"\xff\0" + OURS.encode())
        assert runs.look([OURS]) == {OURS}
