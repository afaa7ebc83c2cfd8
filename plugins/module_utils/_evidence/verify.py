# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a case is still as it was collected. Needs its directory only: no engine, and not the host it came from."""

from __future__ import annotations

import hashlib
import os
import stat
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.errors import EvidenceError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import (
    COMPLETE,
    MANIFEST,
    SUMS,
    Item,
    Manifest,
)

_PIECE = 1024 * 1024
_MANIFEST_LIMIT = 4 * 1024 * 1024


class Verification(t.NamedTuple):
    """What was found.

    Attributes:
        manifest: of the case, or None where it cannot be read.
        sha256: hash of the manifest as it is now, or empty.
        problems: what is not as it was collected.
    """

    manifest: Manifest | None
    sha256: str
    problems: list[str]


def verify(directory: str, manifest_sha256: str = "") -> Verification:
    """Compare the files of a case with its manifest, and that with its hash.

    Args:
        directory: of the case.
        manifest_sha256: hash of the manifest that was kept elsewhere. Without it, a change of both a file and the
            manifest is not found.

    Raises:
        EvidenceError: C(case_missing) where there is no such directory.
    """
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise EvidenceError(
            f"cannot read the case {text.display(directory)}: {error.strerror}",
            kind="case_missing",
            remedy="Give the id of a case in state_dir, or the absolute path of its directory",
        ) from error
    try:
        content = _read(directory, MANIFEST, _MANIFEST_LIMIT)
    except (OSError, ValueError) as error:
        return Verification(None, "", [f"{MANIFEST} cannot be read: {_cause(error)}"])
    sha256 = hashlib.sha256(content).hexdigest()
    problems = []
    if manifest_sha256 and sha256 != manifest_sha256:
        problems.append(f"{MANIFEST} is another one: its hash is {sha256}, and was {text.display(manifest_sha256)}")
    try:
        manifest = Manifest.from_json(content.decode("utf-8"))
        problems += _compared(directory, names, manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Verification(None, sha256, [*problems, f"{MANIFEST} is damaged: {text.display(repr(error), 200)}"])
    return Verification(manifest, sha256, problems)


def read_manifest(directory: str) -> Manifest:
    """The manifest of a case. Raises EvidenceError (C(case_missing)) where there is none that can be read."""
    try:
        return Manifest.from_json(_read(directory, MANIFEST, _MANIFEST_LIMIT).decode("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        cause = _cause(error) if isinstance(error, (OSError, ValueError)) else repr(error)
        raise EvidenceError(
            f"the manifest of {text.display(directory)} cannot be read: {text.display(cause, 200)}", kind="case_missing"
        ) from error


def _compared(directory: str, names: list[str], manifest: Manifest) -> list[str]:
    problems = []
    if manifest.status != COMPLETE:
        left = ", ".join(text.display(f"{item} ({item.status})", 80) for item in manifest.items if not item.ended)
        problems.append("the collection was not completed" + (f": {left}" if left else ""))
    listed = [item.file for item in manifest.items if item.file]
    problems += [f"{name} is listed twice" for name in sorted({name for name in listed if listed.count(name) > 1})]
    for item in manifest.items:
        if item.file and item.ended:
            problems += _problems_of(directory, item)
    if manifest.status == COMPLETE:
        try:
            if _read(directory, SUMS, _MANIFEST_LIMIT) != manifest.sums().encode():
                problems.append(f"{SUMS} does not say what {MANIFEST} says")
        except (OSError, ValueError) as error:
            problems.append(f"{SUMS} cannot be read: {_cause(error)}")
    problems += [f"{text.display(name, 80)} is not listed" for name in names if name not in (*listed, MANIFEST, SUMS)]
    return problems


def _problems_of(directory: str, item: Item) -> list[str]:
    try:
        size, sha256 = _hashed(directory, item.file)
    except (OSError, ValueError) as error:
        return [f"{item.file} cannot be read: {_cause(error)}"]
    if size != item.bytes:
        return [f"{item.file} has {size} bytes, and had {item.bytes}"]
    return [] if sha256 == item.sha256 else [f"{item.file} has other content than it had"]


def _open(directory: str, name: str) -> t.BinaryIO:
    """A file of the case. Raises OSError, and ValueError where it is a link, a pipe or something else."""
    # O_NONBLOCK: to open a pipe that nobody writes to would wait for ever.
    descriptor = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def _read(directory: str, name: str, limit: int) -> bytes:
    with _open(directory, name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit} bytes")
    return content


def _hashed(directory: str, name: str) -> tuple[int, str]:
    found, size = hashlib.sha256(), 0
    with _open(directory, name) as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            found.update(piece)
            size += len(piece)
    return size, found.hexdigest()


def _cause(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
