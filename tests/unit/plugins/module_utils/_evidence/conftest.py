# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host without Docker: the fake engine, and cases in a temporary directory."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import Limits
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def container(engine: FakeEngine) -> str:
    """A container that runs, with two files and a log."""
    container_id = engine.add_container("web")
    engine.fill(container_id, files={"/etc/passwd": b"root", "/root/x": b"x" * 300_000}, log=b"one\ntwo\nthree\n")
    return container_id


@pytest.fixture
def state_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "state"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def collector(engine: FakeEngine, state_dir: pathlib.Path, clock: Clock) -> t.Callable[..., Collector]:
    """A collector with some limits."""

    def make(**limits: int) -> Collector:
        return Collector(engine, str(state_dir), "web-1", Limits(**limits), clock)

    return make
