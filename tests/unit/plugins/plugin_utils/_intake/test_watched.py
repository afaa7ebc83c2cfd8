# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib
import types

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.watched import WatchedFile

LONG_AGO = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    return path


@pytest.mark.parametrize("settled", [False, True])
def test_it_is_read_once_and_again_where_it_was_changed(path: pathlib.Path, settled: bool) -> None:
    file = WatchedFile(path, 100)
    if settled:
        os.utime(path, LONG_AGO)
    assert [file.changed(), file.changed()] == [b"first", None]
    path.write_bytes(b"second")
    assert [file.changed(), file.changed()] == [b"second", None]
    replacement = path.with_name("new")
    replacement.write_bytes(b"third!")
    replacement.rename(path)
    assert [file.changed(), file.changed()] == [b"third!", None]


def test_a_change_that_does_not_show_in_its_times_is_seen(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def of_a_file_system_without_a_clock(descriptor: int) -> types.SimpleNamespace:
        found = real(descriptor)
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return types.SimpleNamespace(**{**fields, "st_mtime_ns": 0, "st_ctime_ns": 0})

    monkeypatch.setattr(os, "fstat", of_a_file_system_without_a_clock)
    file = WatchedFile(path, 100)
    assert file.changed() == b"first"
    path.write_bytes(b"other")
    assert file.changed() == b"other"


def test_what_is_written_anew_and_the_same_is_no_change(path: pathlib.Path) -> None:
    file = WatchedFile(path, 100)
    assert file.changed() == b"first"
    path.write_bytes(b"first")
    assert file.changed() is None


def test_what_is_too_large_is_refused_each_time(path: pathlib.Path) -> None:
    file = WatchedFile(path, 4)
    for _again in range(2):
        with pytest.raises(OSError, match="larger than 4 bytes"):
            file.changed()
    path.write_bytes(b"tiny")
    assert file.changed() == b"tiny"


def test_what_comes_late_or_goes_is_told(path: pathlib.Path) -> None:
    path.unlink()
    file = WatchedFile(path, 100)
    with pytest.raises(FileNotFoundError):
        file.changed()
    path.write_bytes(b"late")
    assert file.changed() == b"late"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.changed()


def test_a_pipe_and_an_endless_device_are_refused_at_once(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", pathlib.Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            WatchedFile(path, 100).changed()
