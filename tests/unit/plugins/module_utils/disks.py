# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that run full or read-only, and processes that are killed at any moment."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import types
import typing as t

import pytest

_BLOCK = 4096
_LIBC = ctypes.CDLL(None)
_MS_RDONLY, _MS_REMOUNT = 1, 32
_ENDLESS = 2000


class Disk:
    """A small file system of its own; where none can be mounted, calls that fail as if it were.

    Args:
        path: where it is; made.
        monkeypatch: of the test.
    """

    def __init__(self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        path.mkdir()
        self._mounted = self._mount(0)
        self._code = 0
        if not self._mounted:
            self._inject(monkeypatch)

    def fill(self) -> None:
        """Leave no space."""
        self._code = errno.ENOSPC
        if self._mounted:
            self._until_full(lambda: _grow(self.path / "ballast"))

    def take_inodes(self) -> None:
        """Leave space, and no inodes."""
        self._code = errno.ENOSPC
        numbers = itertools.count()
        if self._mounted:
            self._until_full(lambda: (self.path / f"ballast-{next(numbers)}").touch())

    def freeze(self) -> None:
        """Make it read-only."""
        self._code = errno.EROFS
        if self._mounted:
            assert self._mount(_MS_REMOUNT | _MS_RDONLY)

    def heal(self) -> None:
        """Make it usable again."""
        self._code = 0
        if self._mounted:
            assert self._mount(_MS_REMOUNT)
        for ballast in self.path.glob("ballast*"):
            ballast.unlink()

    def close(self) -> None:
        """Take it away."""
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def _mount(self, flags: int) -> bool:
        """Mount it, without a process for each time; false where that is not allowed."""
        found: int = _LIBC.mount(b"tmpfs", os.fsencode(self.path), b"tmpfs", flags, b"size=512k,nr_inodes=64")
        return found == 0

    def _until_full(self, work: t.Callable[[], object]) -> None:
        try:
            while True:
                work()
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 # it is what ends the loop

    def _inject(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(original: t.Callable[..., t.Any], when: t.Callable[..., bool]) -> t.Callable[..., t.Any]:
            def call(path: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
                if self._code and str(path).startswith(str(self.path)) and when(path, *args):
                    raise OSError(self._code, os.strerror(self._code), path)
                return original(path, *args, **options)

            return call

        read_only = {"unlink", "rename", "ftruncate"}
        for name in ("mkdir", *read_only):
            new = name == "mkdir"
            condition = (lambda path, *_: not os.path.exists(path)) if new else (lambda *_: self._code == errno.EROFS)
            monkeypatch.setattr(os, name, failing(getattr(os, name), condition))
        writing = os.O_WRONLY | os.O_RDWR
        monkeypatch.setattr(os, "open", failing(os.open, lambda _path, flags, *_: bool(flags & writing)))


def _grow(path: pathlib.Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(_BLOCK))


def kill_at_every_call(prepare: t.Callable[[], None], work: t.Callable[[], object]) -> t.Iterator[int]:
    """Prepare, and do the work in a process that is killed before its n-th system call, for each n until it ends.

    Yields n after each kill, and at last after the work that was not killed.
    """
    for number in itertools.count(1):
        assert number < _ENDLESS, "the work does not end"
        prepare()
        child = os.fork()
        if not child:
            _die_at(number)
            try:
                work()
            except BaseException as error:
                sys.setprofile(None)
                os.write(2, f"{error!r}\n".encode())
                os._exit(1)
            os._exit(0)
        _pid, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed"
        yield number
        if not os.WIFSIGNALED(status):
            return


def _die_at(number: int) -> None:
    calls = 0
    # Lines are written in pieces, so that the process also dies within one.
    write = os.write
    os.write = lambda descriptor, content: write(descriptor, bytes(content[:7]))

    def count(_frame: types.FrameType, event: str, called: t.Any) -> None:
        nonlocal calls
        if event == "c_call" and called.__module__ in ("posix", "fcntl") and called.__name__ not in ("fspath", "_exit"):
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
