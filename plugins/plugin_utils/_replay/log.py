# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of recorded alerts."""

from __future__ import annotations

import contextlib
import os
import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records import compression
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.errors import ReplayError


class AlertLog:
    """A file of recorded alerts, compressed or not. To be closed.

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
                    remedy="Name a file on the controller that holds alerts, such as the log of a detector",
                ) from error
            self._open = stack.pop_all()

    def __enter__(self) -> AlertLog:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open.close()

    @property
    def share(self) -> float | None:
        """How much of the file was read, 0 to 1; None where its size says nothing, as that of a pipe."""
        return min(self._file.tell() / self._size, 1.0) if self._size else None

    def chunks(self) -> t.Iterator[bytes]:
        """Its content, decompressed. Raises ReplayError."""
        try:
            yield from compression.chunks(self._file)
        except compression.CompressionError as error:
            raise ReplayError(
                f"the recorded alerts {self._path} cannot be read: {error}", remedy="Decompress the file by hand"
            ) from error
        except compression.UNREADABLE as error:
            raise ReplayError(
                f"the recorded alerts {self._path} cannot be read to the end: {error}",
                remedy="Copy the file again; one that is still being compressed has no end yet",
            ) from error
