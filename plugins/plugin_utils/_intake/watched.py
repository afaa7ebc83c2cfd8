# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small files that a running process reads again once somebody has changed them."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import stat
import time

_SETTLED = 2.0
"""Seconds after which a change must show in the times of a file. Some file systems count whole seconds."""


class WatchedFile:
    """A file that is read when it is not what it was.

    Args:
        path: of a regular file.
        most_bytes: what is larger is refused.
    """

    def __init__(self, path: pathlib.Path, most_bytes: int) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._unchanged: tuple[int, ...] | None = None
        self._digest = b""

    def changed(self) -> bytes | None:
        """What is in the file, or None where that is what it held when this was asked last.

        Raises OSError where it cannot be read, is no regular file, or is too large. Never waits for a writer, as
        opening a pipe would.
        """
        descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self._path))
            state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if state == self._unchanged:
                return None
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(self._most_bytes + 1)
        finally:
            os.close(descriptor)
        if len(content) > self._most_bytes:
            raise OSError(errno.EFBIG, f"larger than {self._most_bytes} bytes", str(self._path))
        self._unchanged = state if abs(time.time() - found.st_mtime) > _SETTLED else None
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            return None
        self._digest = digest
        return content
