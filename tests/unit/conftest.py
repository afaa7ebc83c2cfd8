# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unit tests leave nothing on the machine."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils import _state_dir


@pytest.fixture(autouse=True)
def run_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """What stands for /run."""
    directory = tmp_path_factory.getbasetemp() / "run"
    directory.mkdir(mode=0o700, exist_ok=True)
    monkeypatch.setattr(_state_dir, "FALLBACK_DIR", str(directory / "container-guard"))
    return directory
