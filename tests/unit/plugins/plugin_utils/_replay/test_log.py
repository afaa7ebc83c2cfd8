# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records import compression
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.errors import ReplayError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.log import AlertLog


def content_of(path: pathlib.Path) -> bytes:
    with AlertLog(path) as log:
        content = b"".join(log.chunks())
        assert log.share in (1.0, None)
        return content


def test_a_file_as_it_is(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "alerts.gz"  # what it is called says nothing
    path.write_bytes(b"one\r\n\ntwo\x00\xff\nwithout an end")
    assert content_of(path) == path.read_bytes()


def test_a_compressed_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "alerts.log.1"
    path.write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert content_of(path) == b"one\ntwo\n"


def test_a_missing_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ReplayError, match="cannot be read: No such file") as caught:
        AlertLog(tmp_path / "nowhere")
    assert caught.value.kind == "alerts_missing"


def test_a_directory(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ReplayError, match="Is a directory") as caught:
        AlertLog(tmp_path)
    assert caught.value.kind == "alerts_unreadable"


@pytest.mark.parametrize(
    "content", [gzip.compress(b"one\n" * 1000)[:-9], b"\x1f\x8b\x08\x00" + b"\xff" * 99], ids=["cut off", "garbage"]
)
def test_a_damaged_file_is_an_error(tmp_path: pathlib.Path, content: bytes) -> None:
    path = tmp_path / "alerts.log"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match="to the end") as caught:
        content_of(path)
    assert caught.value.kind == "alerts_unreadable"


def test_a_way_of_compression_that_this_python_cannot_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alerts.log"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    monkeypatch.setattr(compression, "zstd", None)
    with pytest.raises(ReplayError, match=r"backports\.zstd") as caught:
        content_of(path)
    assert caught.value.kind == "alerts_unreadable"
