# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import pathlib
import tracemalloc

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.errors import ReplayError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.log import MAX_LINE, AlertLog


def lines_of(path: pathlib.Path) -> list[bytes | None]:
    with AlertLog(path) as log:
        lines = list(log.lines())
        assert log.share in (1.0, None)
        return lines


def test_lines_have_no_ends(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "alerts.log"
    path.write_bytes(b"one\r\n\ntwo\x00\xff\nwithout an end")
    assert lines_of(path) == [b"one", b"", b"two\x00\xff", b"without an end"]


def test_an_empty_file_has_no_lines(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "alerts.log"
    path.touch()
    assert lines_of(path) == []


def test_a_compressed_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "alerts.log.GZ"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert lines_of(path) == [b"one", b"two"]


def test_a_line_that_is_too_long_is_not_held(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "alerts.log.gz"
    longest = b"x" * (MAX_LINE - 1) + b"\n"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(longest)
        for _part in range(20):
            file.write(b"y" * MAX_LINE)
        file.write(b"\nlast\n")
    tracemalloc.start()
    with AlertLog(path) as log:
        lengths = [None if line is None else len(line) for line in log.lines()]
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert lengths == [MAX_LINE - 1, None, 4]
    assert peak < 5 * MAX_LINE, "the file holds a line of 200 MB beside one of 10 MB"


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ReplayError, match="cannot be read: No such file") as caught:
        AlertLog(tmp_path / "nowhere")
    assert caught.value.kind == "alerts_missing"


def test_a_directory(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ReplayError, match="Is a directory") as caught:
        AlertLog(tmp_path)
    assert caught.value.kind == "alerts_unreadable"


@pytest.mark.parametrize(
    "content", [b"no gzip at all", gzip.compress(b"one\n" * 1000)[:-9], b"\x1f\x8b\x08\x00" + b"\xff" * 99]
)
def test_a_damaged_file_is_an_error(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "alerts.gz"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match="to the end") as caught:
        lines_of(path)
    assert caught.value.kind == "alerts_unreadable"
