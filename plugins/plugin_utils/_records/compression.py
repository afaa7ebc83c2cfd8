# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decompressing what is told by its first bytes, whatever the file is called: rotated logs lose their suffix."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import typing as t
import zlib

if sys.version_info >= (3, 14):
    from compression import zstd  # novm - of 3.14; another one is tried where it is not there
else:
    try:
        from backports import zstd
    except ImportError:
        zstd = None  # type: ignore[assignment]  # what needs it says so

CHUNK = 64 * 1024
"""Most bytes that are handed out at a time."""
MEMORY = 256 * 1024 * 1024
"""Most memory for decompressing xz, in bytes: C(xz -9) takes 65 MB, and a made-up header can ask for 4 GB."""
MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a compressed file, and how it is compressed."""
_LONGEST = max(map(len, MAGIC))

UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, *((zstd.ZstdError,) if zstd else ()))
"""What the chunks of a damaged file raise."""


class CompressionError(Exception):
    """A file is compressed in a way that this Python cannot read; the text says what to do."""


def compression_of(head: bytes) -> str:
    """How a file that begins with these bytes is compressed; empty where it is not."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")


def chunks(file: io.BufferedReader) -> t.Iterator[bytes]:
    """The content of a file, decompressed, in chunks of at most CHUNK bytes.

    Raises:
        CompressionError: where it is compressed with zstd and nothing here can read that.
        UNREADABLE: where it is damaged or cut off.
    """
    compression = compression_of(file.peek(_LONGEST)[:_LONGEST])
    if not compression:
        return iter(lambda: file.read1(CHUNK), b"")
    if compression == "gzip":
        stream = gzip.GzipFile(fileobj=file)
        return iter(lambda: stream.read1(CHUNK), b"")
    return _members(file, _DECOMPRESSORS[compression])


class _Decompressor(t.Protocol):
    """What the decompressors of the standard library have in common."""

    @property
    def eof(self) -> bool:
        """Whether its end was reached."""

    @property
    def needs_input(self) -> bool:
        """Whether it wants more before it gives more."""

    @property
    def unused_data(self) -> bytes:
        """What stands after the end."""

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        """What comes out of that, at most so much at once."""


def _zstd() -> _Decompressor:
    if zstd is None:
        raise CompressionError("it is compressed with zstd, which this Python reads once backports.zstd is installed")
    return zstd.ZstdDecompressor()


_DECOMPRESSORS: dict[str, t.Callable[[], _Decompressor]] = {
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=MEMORY),
    "zstd": _zstd,
}


def _members(file: io.BufferedReader, make: t.Callable[[], _Decompressor]) -> t.Iterator[bytes]:
    """A file may be several compressed ones behind each other, with zeros between them."""
    data = b""
    while data := data.lstrip(b"\0") or file.read1(CHUNK):
        decompressor = make()
        while not decompressor.eof:
            if decompressor.needs_input and not data:
                data = file.read1(CHUNK)
                if not data:
                    raise EOFError("it ends before its end mark")
            chunk = decompressor.decompress(data, CHUNK)
            data = b""
            if chunk:
                yield chunk
        data = decompressor.unused_data
