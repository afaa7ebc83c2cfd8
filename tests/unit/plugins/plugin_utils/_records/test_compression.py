# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pathlib
import tracemalloc
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records import compression

if compression.zstd is None:  # this Python is older than 3.14, and the requirements of the tests are not installed
    raise ImportError("backports.zstd")

COMPRESS: dict[str, t.Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": compression.zstd.compress,
}
CONTENT = b"".join(b"line %d\n" % number for number in range(50_000))


def content_of(path: pathlib.Path) -> bytes:
    with path.open("rb") as file:
        return b"".join(compression.chunks(file))


@pytest.mark.parametrize("name", COMPRESS)
def test_compressed_files(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / "log.1"
    path.write_bytes(COMPRESS[name](CONTENT))
    assert content_of(path) == CONTENT
    # Files behind each other, as logrotate and people make them.
    path.write_bytes(COMPRESS[name](CONTENT) + COMPRESS[name](b"last\n"))
    assert content_of(path) == CONTENT + b"last\n"


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("cut", [5, 30])
def test_what_is_cut_off_is_an_error(tmp_path: pathlib.Path, name: str, cut: int) -> None:
    path = tmp_path / "log.1"
    path.write_bytes(COMPRESS[name](CONTENT)[:-cut])
    with pytest.raises(compression.UNREADABLE):
        content_of(path)


@pytest.mark.parametrize("name", COMPRESS)
def test_what_is_damaged_is_an_error(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / "log.1"
    whole = COMPRESS[name](CONTENT)
    path.write_bytes(whole[: len(whole) // 2] + b"damage" + whole[len(whole) // 2 :])
    with pytest.raises(compression.UNREADABLE):
        content_of(path)


@pytest.mark.parametrize("name", COMPRESS)
def test_much_in_little_is_handed_out_in_small_chunks(tmp_path: pathlib.Path, name: str) -> None:
    path = tmp_path / "log.1"
    size = 30_000_000
    path.write_bytes(COMPRESS[name](bytes(size)))
    tracemalloc.start()
    with path.open("rb") as file:
        assert sum(map(len, compression.chunks(file))) == size
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000  # xz keeps the last 8 MB


def test_xz_that_asks_for_much_memory_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29, "preset": 0}]))
    with pytest.raises(lzma.LZMAError, match=r"[Mm]emory"):
        content_of(path)


@pytest.mark.parametrize("content", [b"", b"x", b"\x1f", b"BZ", b'{"a": 1}\n'])
def test_what_is_not_compressed(content: bytes) -> None:
    assert b"".join(compression.chunks(io.BufferedReader(io.BytesIO(content)))) == content  # type: ignore[arg-type]
