# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the guard keeps what it must remember on a host: on disk, and in memory while the disk takes nothing.

Containment comes before book-keeping: with a disk that is full, read-only or broken a container is isolated all the
same, and can be released again. What cannot be written to the state directory is kept in the fallback, a tmpfs, under
the same names and in the same format, and is carried over by the first run that can.

What makes that right at every moment:

- What the fallback holds of a name is newer than what the state directory holds. An empty file there says that the name
  was removed, as nothing that the guard writes is empty. The end of a log there follows the log in the state directory;
  logs are never removed, but rotated.
- A name that the fallback holds nothing of is changed in the state directory only. Whoever works on a name that it does
  hold something of has the fallback for himself meanwhile, and carries that over before anything else.
- Each step leaves either what was or what is to be, and carrying over twice is carrying over once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import (
    sweep,
    sync_directory,
    write_atomically,
)

DEFAULT_STATE_DIR = "/var/lib/container-guard"
FALLBACK_DIR = "/run/container-guard"
MAX_FILE = 64 << 20
"""Bytes of the largest file that is read."""
MAX_LOG_IN_MEMORY = 8 << 20
"""Bytes of one log that the fallback keeps at most: memory is not to run full, too."""
# The disk takes nothing, whatever the guard does. Anything else is a mistake that somebody has to mend.
_LACK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EUCLEAN,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
}
_LOCKS = "locks"
_CARRYING = ".carrying"
_OTHERS = "other-"
_CARRYING_TIMEOUT = 30
_LOCK_POLL = 0.01
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class StateDirError(GuardError):
    """The state directory cannot be used, nor what stands in for it."""

    default_kind = "state_dir_error"


class Busy(StateDirError):
    """Another process, or another thread, has the lock."""

    default_kind = "busy"


class StateDir:
    """The files of the guard on this host.

    Names are C(file) or C(directory/file), of letters, digits and C(. _ -); directories are made with mode 0700, files
    with 0600. Files whose name ends in C(.jsonl) are logs, which grow by whole lines, each unlike the others, and are
    never written otherwise nor removed; other files are replaced as a whole.
    Whoever reads a file in order to change it, and whoever appends or rotates, holds a lock of his choice meanwhile.
    One object may be used by several threads.

    Args:
        path: the state directory.
        fallback: where files are kept that it does not take; a directory below it where path is not the default one,
            so that two state directories never mix.

    Attributes:
        path: of the state directory.
        fallback: directory that stands in for it.
        warnings: what the user of a module has to be told; it grows.
    """

    def __init__(self, path: str = DEFAULT_STATE_DIR, fallback: str = "") -> None:
        self.path = path
        self.warnings: list[str] = []
        root, real = fallback or FALLBACK_DIR, os.path.realpath(path)
        own = [] if real == os.path.realpath(DEFAULT_STATE_DIR) else [_OTHERS + _digest(real)]
        self.fallback = os.path.join(root, *own)
        self._disk = _Place([path])
        self._memory = _Place([root, self.fallback] if own else [root])
        self._prepared: set[str] = set()

    def read(self, name: str, last: int = 0) -> bytes | None:
        """What was written, or None. Raises StateDirError, also where that is more than MAX_FILE bytes.

        Args:
            name: of the file.
            last: of a log, how many bytes before its end are enough; 0 for all of it.
        """
        _check(name)
        try:
            if not self._held_in_memory(name):
                return self._disk.read(name, last)
            if not _is_log(name):
                # Whoever carries it over meanwhile has written it to the disk before it is gone here.
                found = self._memory.read(name)
                return self._disk.read(name) if found is None else found or None
            with self._alone():
                newer = self._memory.read(name) or b""
                older = self._disk.read(name, last) or b""
                return older + newer[_overlap(older, newer) :]
        except OSError as error:
            raise self._failed("read", name, error) from error

    def lines(self, name: str) -> t.Iterator[bytes]:
        """The lines of a log, one after the other: it may be large, and need not be in memory as a whole.

        Raises StateDirError. Whoever reads holds the lock of whoever writes meanwhile.
        """
        _check(name)
        if self._held_in_memory(name):
            yield from (self.read(name) or b"").splitlines()
            return
        try:
            yield from self._disk.lines(name)
        except OSError as error:
            raise self._failed("read", name, error) from error

    def write(self, name: str, content: str | bytes) -> None:
        """Replace a file, so that it is on disk whole, or as it was before. Raises StateDirError.

        Args:
            name: of the file.
            content: not empty; text is written as UTF-8.
        """
        _check(name, log=False)
        if not content:
            raise ValueError(f"{name} would be empty")
        self._change("write", name, lambda place: place.write(name, content))

    def append(self, name: str, lines: bytes) -> None:
        """Add whole lines to a log; a line that a killed process left torn is ended first. Raises StateDirError."""
        _check(name, log=True)

        def add(place: _Place) -> None:
            if place is self._memory and place.size(name) + len(lines) > MAX_LOG_IN_MEMORY:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            place.append(name, lines)

        self._change("append to", name, add)

    def remove(self, name: str) -> None:
        """Remove a file; none is fine. Raises StateDirError."""
        _check(name, log=False)

        def forget(place: _Place) -> None:
            if place is self._memory:
                place.write(name, b"")
            else:
                place.remove(name)

        self._change("remove", name, forget)

    def names(self, directory: str = "") -> list[str]:
        """The files of a directory, C(directory/file), sorted. Raises StateDirError."""
        if directory:
            _check(directory)
        try:
            # In this order: what is carried over meanwhile is found on the disk.
            newer = {name: self._memory.size(name) for name in self._memory.names(directory)} if self._trusted() else {}
            older = self._disk.names(directory)
        except OSError as error:
            raise self._failed("list", directory, error) from error
        return sorted({*older, *newer} - {name for name, size in newer.items() if not size and not _is_log(name)})

    def size(self, name: str) -> int:
        """Bytes of a file, about; 0 where there is none. Raises StateDirError."""
        _check(name)
        try:
            return self._disk.size(name) + (self._memory.size(name) if self._held_in_memory(name) else 0)
        except OSError as error:
            raise self._failed("read", name, error) from error

    def rotate(self, name: str, keep: int) -> bool:
        """Make a log C(name.1), C(name.1) C(name.2) and so on; what was C(name.keep) is forgotten.

        A kill in between leaves a gap, which the next rotation fills. Raises StateDirError.

        Returns:
            False where the disk does not take it: the log then goes on as it is.
        """
        _check(name, log=True)
        self._prepare(name)
        try:
            if self._held_in_memory(name):
                with self._alone():
                    if self._carry(name):
                        return False
            return self._attempt(lambda disk: disk.rotate(name, keep)) is None
        except OSError as error:
            raise self._failed("rotate", name, error) from error

    def standing_in(self) -> list[str]:
        """The files that the fallback holds, as the state directory did not take them. Raises StateDirError."""
        try:
            return self._memory.all_names() if self._trusted() else []
        except OSError as error:
            raise self._failed("list", "", error) from error

    def carry_over(self) -> None:
        """Move what the fallback holds to the state directory, as far as that takes it. Raises StateDirError.

        The first change that is made through this object does the same.
        """
        try:
            names = self.standing_in()
            if not names:
                return
            with self._alone():
                carried = [name for name in names if not self._carry(name)]
        except OSError as error:
            raise self._failed("carry over to", "", error) from error
        if carried:
            self._warn(
                f"state_dir {self.path} can be written again: what was kept in {self.fallback} meanwhile was carried "
                f"over ({len(carried)} files)"
            )

    @contextlib.contextmanager
    def lock(self, name: str, timeout: float = 60) -> t.Iterator[None]:
        """Hold the lock of that name against other processes, and other threads.

        A lock is taken in the fallback and then in the state directory, wherever it can be, and in one of them at
        least. Two processes exclude each other as long as there is one place that both can use: where the disk fills up
        between them that is the fallback, where the fallback is not shared or cannot be made the disk.

        Args:
            name: a container id, for example.
            timeout: seconds to wait for somebody else; 0 for none.

        Raises:
            Busy: somebody else has it.
            StateDirError: it can be taken nowhere.
        """
        _check(name)
        deadline = time.monotonic() + timeout
        with contextlib.ExitStack() as held:
            problem: OSError | None = None
            taken = 0
            for place in (self._memory, self._disk):
                try:
                    self._make(place, _LOCKS)
                    held.enter_context(_locked(place.path_of(f"{_LOCKS}/{name}"), deadline))
                    taken += 1
                except _Held as error:
                    raise Busy(
                        f"another process works on {name[:12]}"
                        + (f", and has for {timeout:g} seconds" if timeout else ""),
                        remedy="Nothing was changed. Try again, or look for a process that hangs on a Docker engine",
                    ) from error
                except OSError as error:
                    problem = error
            if problem and not taken:
                raise self._failed("lock", f"{_LOCKS}/{name}", problem) from problem
            yield

    def _change(self, doing: str, name: str, change: t.Callable[[_Place], None]) -> None:
        self._prepare(name)
        problem: OSError | None = None
        try:
            if not self._held_in_memory(name):
                problem = self._attempt(change)
                if not problem:
                    return
            with self._alone():
                # Once what is held is carried over, the disk has the newest, and may be given what is newer still.
                problem = self._carry(name) or self._attempt(change)
                if problem:
                    change(self._memory)
                    self._warn_of(problem)
        except OSError as error:
            raise self._failed(doing, name, problem or error, error if problem else None) from error

    def _attempt(self, change: t.Callable[[_Place], None]) -> OSError | None:
        """Change the disk. Returns what it lacks for that; raises OSError where it is something else."""
        try:
            change(self._disk)
        except OSError as error:
            if error.errno not in _LACK:
                raise
            return error
        return None

    def _carry(self, name: str) -> OSError | None:
        """Carry over what the fallback holds of a name. Returns what the disk lacks for that; raises OSError."""
        newer = self._memory.read(name)
        if newer is None:
            return None
        content = newer

        def change(disk: _Place) -> None:
            if _is_log(name):
                disk.complete(name, content)
            elif not content:
                disk.remove(name)
            else:
                disk.write(name, content)

        problem = self._attempt(change)
        if not problem:
            self._memory.remove(name)
        return problem

    def _prepare(self, name: str) -> None:
        """Once for each directory, before the first change: what earlier runs left behind is put in its place."""
        if not self._prepared:
            self._prepared.add("")
            self._sweep("")
            try:
                self.carry_over()
            except StateDirError as error:  # of other files: no reason not to write this one
                self._warn(str(error))
        directory = os.path.dirname(name)
        if directory not in self._prepared:
            self._prepared.add(directory)
            self._sweep(directory)

    def _sweep(self, directory: str) -> None:
        for place in (self._disk, self._memory) if self._trusted() else (self._disk,):
            sweep(os.path.join(place.path, directory))

    @contextlib.contextmanager
    def _alone(self) -> t.Iterator[None]:
        """Have the fallback for oneself. Raises OSError, Busy."""
        self._make(self._memory)
        try:
            with _locked(self._memory.path_of(_CARRYING), time.monotonic() + _CARRYING_TIMEOUT):
                yield
        except _Held as error:
            raise Busy(
                f"another process has used {self.fallback} for {_CARRYING_TIMEOUT} seconds",
                remedy="Look for a process that hangs on a disk",
            ) from error

    def _make(self, place: _Place, directory: str = "") -> None:
        if place is self._memory:
            for private in place.directories:  # nothing above them is made: where there is no /run, there is no tmpfs
                with contextlib.suppress(FileExistsError):
                    os.mkdir(private, 0o700)
                distrust = _distrust([private])
                if distrust:
                    raise OSError(errno.EPERM, distrust)
        place.make(directory)

    def _held_in_memory(self, name: str) -> bool:
        return self._trusted() and self._memory.has(name)

    def _trusted(self) -> bool:
        """Whether there is a fallback that is ours."""
        try:
            distrust = _distrust(self._memory.directories)
        except OSError:
            return False
        if distrust and os.geteuid() == 0:  # for anybody else it is natural that the one of root is not theirs
            self._warn(f"{self.fallback} is not used: {distrust}")
        return not distrust

    def _warn_of(self, problem: OSError) -> None:
        self._warn(
            f"state_dir {self.path} cannot be written ({problem.strerror}): until it can, what the guard must remember "
            f"is kept in {self.fallback}, in memory. A reboot before that loses it"
        )

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _failed(self, doing: str, name: str, error: OSError, also: OSError | None = None) -> StateDirError:
        instead = f"; nor is {self.fallback} of use: {also.strerror}" if also else ""
        return StateDirError(
            f"cannot {doing} {os.path.join(self.path, name)}: {error.strerror}{instead}",
            remedy="Check state_dir, its owner and free space",
        )


class _Held(Exception):
    """Somebody else has had the lock until the deadline."""


class _Place:
    """A directory of files. Everything raises OSError.

    Args:
        directories: from the outermost to the one that holds the files.
    """

    def __init__(self, directories: t.Sequence[str]) -> None:
        self.directories = directories
        self.path = directories[-1]

    def path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def make(self, directory: str = "") -> None:
        # One by one: makedirs gives its mode to the last one only.
        for private in (*self.directories, os.path.join(self.path, directory)):
            os.makedirs(private, mode=0o700, exist_ok=True)

    def has(self, name: str) -> bool:
        return os.path.lexists(self.path_of(name))

    def size(self, name: str) -> int:
        try:
            return os.lstat(self.path_of(name)).st_size
        except FileNotFoundError:
            return 0

    def names(self, directory: str = "") -> list[str]:
        try:
            found = os.listdir(os.path.join(self.path, directory))
        except FileNotFoundError:
            return []
        names = [os.path.join(directory, name) for name in found if _PART.fullmatch(name)]
        return [name for name in names if stat.S_ISREG(self._mode(name))]

    def all_names(self) -> list[str]:
        """The files here and one level below, apart from locks and what belongs to other state directories."""
        below = [
            name
            for name in os.listdir(self.path)
            if _PART.fullmatch(name)
            and name != _LOCKS
            and not name.startswith(_OTHERS)
            and stat.S_ISDIR(self._mode(name))
        ]
        return [name for directory in ("", *sorted(below)) for name in sorted(self.names(directory))]

    def lines(self, name: str) -> t.Iterator[bytes]:
        with contextlib.suppress(FileNotFoundError), open(self.path_of(name), "rb") as file:
            for line in file:
                yield line.rstrip(b"\r\n")

    def read(self, name: str, last: int = 0) -> bytes | None:
        try:
            with open(self.path_of(name), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size > MAX_FILE and not last:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
                file.seek(max(0, size - last) if last else 0)
                return file.read(MAX_FILE)
        except FileNotFoundError:
            return None

    def write(self, name: str, content: str | bytes) -> None:
        self.make(os.path.dirname(name))
        write_atomically(self.path_of(name), content, 0o600)

    def append(self, name: str, lines: bytes) -> None:
        """Add lines, whole or not at all."""
        with self._appending(name) as (descriptor, size):
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            _write(descriptor, b"\n" + lines if torn else lines)

    def complete(self, name: str, lines: bytes) -> None:
        """Add those of the lines that are not there yet, as an attempt to do so may have been cut short."""
        done = _overlap(self.read(name, len(lines)) or b"", lines)
        if done == len(lines):
            return
        if not done:
            self.append(name, lines)
            return
        with self._appending(name) as (descriptor, _size):
            _write(descriptor, lines[done:])

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path_of(name))
            sync_directory(os.path.dirname(self.path_of(name)))

    def rotate(self, name: str, keep: int) -> None:
        free = next((number for number in range(1, keep) if not self.has(f"{name}.{number}")), keep)
        for number in range(free, 0, -1):
            older = self.path_of(f"{name}.{number}")
            newer = self.path_of(f"{name}.{number - 1}" if number > 1 else name)
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, older)
        sync_directory(self.path)

    @contextlib.contextmanager
    def _appending(self, name: str) -> t.Iterator[tuple[int, int]]:
        self.make(os.path.dirname(name))
        path = self.path_of(name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            try:
                yield descriptor, size
                os.fsync(descriptor)
                if not size:
                    sync_directory(os.path.dirname(path))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def _mode(self, name: str) -> int:
        try:
            return os.lstat(self.path_of(name)).st_mode
        except FileNotFoundError:
            return 0


@contextlib.contextmanager
def _locked(path: str, deadline: float) -> t.Iterator[None]:
    """Hold the lock of a file, which is there as long as somebody holds it or waits. Raises OSError, _Held."""
    descriptor = _lock(path, deadline)
    try:
        yield
    finally:
        # Before it is given back: whoever waits for it sees that this is no longer the file of that name.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _lock(path: str, deadline: float) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise _Held(path)
                time.sleep(_LOCK_POLL)
            with contextlib.suppress(FileNotFoundError):
                if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _overlap(older: bytes, newer: bytes) -> int:
    """How much of the beginning of newer is the end of older: whole lines, and a torn one."""
    first = newer[: newer.find(b"\n") + 1] or newer
    position = older.find(first) if first else -1
    while position >= 0:
        if newer.startswith(older[position:]):
            return len(older) - position
        position = older.find(first, position + 1)
    torn = older[older.rfind(b"\n") + 1 :]
    return len(torn) if torn and newer.startswith(torn) else 0


def _distrust(directories: t.Iterable[str]) -> str:
    """Why somebody else may have made what is in directories, or empty. Raises OSError where there is none."""
    for directory in directories:
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode):
            return f"{directory} is no directory"
        if found.st_uid != os.geteuid():
            return f"{directory} belongs to another user"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{directory} can be written by others"
    return ""


def _is_log(name: str) -> bool:
    return name.endswith(".jsonl")


def _check(name: str, log: bool | None = None) -> None:
    parts = name.split("/")
    if len(parts) > 2 or not all(_PART.fullmatch(part) for part in parts) or log not in (None, _is_log(name)):
        raise StateDirError(f"{name!r} cannot be the name of a file", remedy="Nothing was changed")


def _digest(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
