# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is sent to hosts to run a module, kept from one run of ansible-playbook to the next.

ansible-core parses every file that a module imports, to know what to send: about 200 ms for alert_response (measured),
while the container still talks. It keeps the result in a directory of the run. Each alert is a run of its own, so the
result is put there from the last one, as long as no file has changed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pathlib
import shutil
import stat
import typing as t
import uuid

COLLECTION = pathlib.Path(__file__).absolute().parents[3]
_UNFINISHED = (".lock", "-part")


class Payload:
    """The payload of one module, as a context in which the module is run. Never raises: at worst it is built anew.

    Args:
        module: its name, without the collection.
        kept: directory of the user where payloads are kept, for nobody else; made where it does not exist.
        built: directory in which ansible-core looks for what it has built in this run.
        others: directories of files that may be part of it, beside those of the collection.
        version: of what builds payloads.
    """

    def __init__(
        self, module: str, kept: pathlib.Path, built: pathlib.Path, others: t.Sequence[pathlib.Path], version: str
    ) -> None:
        self._prefix = f"ansible_collections.ironpost.container_guard.plugins.modules.{module}-"
        self._kept, self._built = kept, built
        self._sources = functools.partial(_digest, module, others, version)
        self._builds = False
        with contextlib.suppress(OSError):
            self._digest = self._sources()

    def __enter__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            for name in _names(self._kept, f"{self._digest}-{self._prefix}") if _private(self._kept) else ():
                built = self._built / name.partition("-")[2]
                if not built.exists():
                    self._built.mkdir(parents=True, exist_ok=True)
                    _copy(self._kept / name, built)
        with contextlib.suppress(OSError):
            self._builds = not _names(self._built, self._prefix)

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(OSError, AttributeError):
            # Only what was built here, of files that have not changed since: an earlier task may have built another.
            if not self._builds or self._sources() != self._digest:
                return
            self._kept.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in _names(self._built, self._prefix) if _private(self._kept) else ():
                kept = self._kept / f"{self._digest}-{name}"
                if not kept.exists():
                    for old in _names(self._kept, "", f"-{name}"):
                        (self._kept / old).unlink()
                    _copy(self._built / name, kept)


def _digest(module: str, others: t.Iterable[pathlib.Path], version: str) -> str:
    """What changes with every file that may be part of the payload. Raises OSError."""
    found = hashlib.sha256(version.encode())
    plugins = COLLECTION / "plugins"
    for directory in (plugins / "module_utils", *others):
        for path, _directories, names in os.walk(directory):
            for name in names:
                if name.endswith(".py"):
                    found.update(_state(os.path.join(path, name)))
    found.update(_state(str(plugins / "modules" / f"{module}.py")))
    return found.hexdigest()


def _names(directory: pathlib.Path, start: str, end: str = "") -> list[str]:
    """The files in it whose names begin and end so. Raises OSError."""
    names = os.listdir(directory) if directory.exists() else []
    return [name for name in names if name.startswith(start) and name.endswith(end) and not name.endswith(_UNFINISHED)]


def _state(path: str) -> bytes:
    status = os.stat(path)
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{status.st_ino}\n".encode()


def _private(directory: pathlib.Path) -> bool:
    """Whether nobody else could have written what is in it: it becomes code on hosts. Raises OSError."""
    status = os.lstat(directory)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copy it, whole or not at all. Raises OSError."""
    part = target.with_name(f"{uuid.uuid4().hex}-part")
    try:
        shutil.copyfile(source, part)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
