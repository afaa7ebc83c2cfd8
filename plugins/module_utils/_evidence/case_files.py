# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directory of a case, and its files while they are written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.errors import EvidenceError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import (
    MANIFEST,
    SUMS,
    Manifest,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import sync_directory, write_atomically

RESERVE = 256 * 1024 * 1024
"""Bytes that a collection leaves free on the file system: evidence must not stop the host."""
_END_OF_TAR = bytes(1024)


def evidence_dir(state_dir: str) -> str:
    """Where the cases of a host are."""
    return os.path.join(state_dir, "evidence")


def new_case_id(container_id: str) -> str:
    """An id that sorts by time, names the container and is used by nobody else."""
    now = utc_now()
    return f"{now:%Y%m%dT%H%M%SZ}-{container_id[:12]}-{secrets.token_hex(3)}"


def make_case(state_dir: str, manifest: Manifest) -> str:
    """Make the directory of a new case, with its manifest, on a file system that has room. Raises EvidenceError."""
    parent = evidence_dir(state_dir)
    path = os.path.join(parent, manifest.case_id)
    try:
        for private in (state_dir, parent):  # one by one: makedirs gives its mode to the last one only
            os.makedirs(private, mode=0o700, exist_ok=True)
        free = _free(os.statvfs(parent))
        if free < RESERVE:
            raise EvidenceError(
                f"{parent} has {free} bytes free, and a collection leaves {RESERVE} alone",
                kind="no_space",
                remedy="Nothing was collected. Make room, or use a state_dir on another file system",
            )
        os.mkdir(path, mode=0o700)
        store(path, manifest)
        sync_directory(parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # where the manifest could not be written, the directory is empty
            os.rmdir(path)
        raise EvidenceError(
            f"cannot make {path}: {error.strerror}",
            remedy="Nothing was collected. Check state_dir, its owner and free space",
        ) from error
    return path


def store(directory: str, manifest: Manifest) -> None:
    """Write the manifest so that it is on disk whole, or as it was before. Raises OSError."""
    write_atomically(os.path.join(directory, MANIFEST), manifest.to_json(), 0o600)


def store_sums(directory: str, manifest: Manifest) -> None:
    """Write the hashes of all files. Raises OSError."""
    write_atomically(os.path.join(directory, SUMS), manifest.sums(), 0o600)


def _free(found: os.statvfs_result) -> int:
    return found.f_bavail * found.f_frsize


class EvidenceFile:
    """A new file that is counted and hashed while it is written. Use it as a context manager. All of it raises OSError.

    Attributes:
        size: bytes on disk so far.
    """

    def __init__(self, directory: str, name: str) -> None:
        self._path = os.path.join(directory, name)
        # Whoever could put a link there must not make the guard write elsewhere.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._hash = hashlib.sha256()
        self._tail = b""
        self.size = 0

    def __enter__(self) -> EvidenceFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, piece: bytes) -> None:
        """Append. Where that fails in the middle, size and hash are those of what was written."""
        rest = memoryview(piece)
        while rest:
            written = os.write(self._descriptor, rest)
            self._hash.update(rest[:written])
            self._tail = (self._tail + bytes(rest[:written][-len(_END_OF_TAR) :]))[-len(_END_OF_TAR) :]
            self.size += written
            rest = rest[written:]

    @property
    def sha256(self) -> str:
        """Hash of what was written so far."""
        return self._hash.hexdigest()

    @property
    def ends_as_tar(self) -> bool:
        """Whether the last bytes are those that end a tar archive."""
        return self._tail == _END_OF_TAR

    def free(self) -> int:
        """Bytes that its file system can still take."""
        return _free(os.fstatvfs(self._descriptor))

    def keep(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._descriptor)

    def discard(self) -> None:
        """Remove the file."""
        os.unlink(self._path)
