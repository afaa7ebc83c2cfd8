# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading recorded alerts, line by line, however long the file and its lines are."""

from __future__ import annotations

import contextlib
import gzip
import os
import pathlib
import typing as t
import zlib

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.errors import ReplayError

MAX_LINE = 10 * 1024 * 1024
"""Longest line that is read, in bytes, its end included."""
_CHUNK = 64 * 1024


class AlertLog:
    """A file of recorded alerts, one a line; decompressed where its name ends in C(.gz). To be closed.

    Args:
        path: the file.

    Raises:
        ReplayError: C(alerts_missing) where there is no such file, C(alerts_unreadable) where it cannot be opened.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        with contextlib.ExitStack() as stack:
            try:
                self._file = stack.enter_context(path.open("rb"))
                self._size = os.fstat(self._file.fileno()).st_size
            except OSError as error:
                raise ReplayError(
                    f"the recorded alerts {path} cannot be read: {error.strerror}",
                    kind="alerts_missing" if isinstance(error, FileNotFoundError) else None,
                    remedy="Name a file on the controller that holds one alert a line",
                ) from error
            compressed = path.suffix.lower() == ".gz"
            self._stream = gzip.GzipFile(fileobj=self._file) if compressed else self._file
            self._open = stack.pop_all()

    def __enter__(self) -> AlertLog:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    @property
    def share(self) -> float | None:
        """How much of the file was read, 0 to 1; None where its size says nothing, as that of a pipe."""
        return min(self._file.tell() / self._size, 1.0) if self._size else None

    def lines(self) -> t.Iterator[bytes | None]:
        """Each line without its end; None for one that is longer than MAX_LINE. Raises ReplayError."""
        try:
            while line := self._stream.readline(MAX_LINE):
                if len(line) == MAX_LINE and not line.endswith(b"\n"):
                    self._skip_line()
                    yield None
                else:
                    yield line.rstrip(b"\r\n")
        except (OSError, EOFError, zlib.error) as error:
            raise ReplayError(
                f"the recorded alerts {self._path} cannot be read to the end: {error}",
                remedy="Copy the file again; one that is still being compressed has no end yet",
            ) from error

    def _skip_line(self) -> None:
        while (rest := self._stream.readline(_CHUNK)) and not rest.endswith(b"\n"):
            pass
