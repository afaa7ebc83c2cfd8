# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host without Docker: the fake engine, and a journal in a temporary directory."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Journal:
    return Journal(str(tmp_path / "state"), lock_timeout=0.1)


@pytest.fixture
def isolator(engine: FakeEngine, journal: Journal) -> Isolator:
    retry = Retry(max_attempts=2, sleep=lambda _seconds: None)
    return Isolator(engine, journal, truth=FakeTruth(engine), retry=retry, settle_timeout=0.2, busy_timeout=0.1)
