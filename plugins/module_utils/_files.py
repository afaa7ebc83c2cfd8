# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are whole on disk, or as they were before."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time

TEMPORARY = ".new-"
"""How the names of files begin that are not in place yet. Whoever lists a directory passes over them."""
_STALE = 3600


def write_atomically(path: str, content: str | bytes, mode: int) -> None:
    """Put a file in place by rename, synced to disk. Raises OSError; then the file is as before.

    Args:
        path: its directory exists.
        content: text is written as UTF-8.
        mode: permissions of the file.
    """
    directory = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(directory)


def sweep(directory: str) -> None:
    """Remove what writers that were killed left in a directory; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            # Nobody takes an hour to write one file.
            if name.startswith(TEMPORARY) and time.time() - os.lstat(path).st_mtime > _STALE:
                os.unlink(path)


def sync_directory(path: str) -> None:
    """Make renames and removals in a directory survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
