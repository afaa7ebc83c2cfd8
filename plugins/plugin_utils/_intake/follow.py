# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Following a log as it grows: across rotation, truncation, and restarts of whoever follows."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pathlib
import stat
import threading
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.rotated import (
    PRINT,
    Content,
    Part,
    Position,
    digest,
    unread_parts,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records import compression
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.lines import MAX_LINE
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Mark, Reader, Record

logger = logging.getLogger(__name__)

_NOTHING_READ = Mark()
_COARSE = 2_000_000_000
"""How coarse the times of a file may be, in nanoseconds."""
_MOST_STEPS = 64
"""Most chunks without a record that are read at a call."""
CHUNK = 256 * 1024
"""Most bytes that are read at a time, and so about the size of a batch."""


class Batch(t.NamedTuple):
    """What was read at a time.

    Attributes:
        records: messages, and lines that are none.
        position: behind them. Whoever stores both together loses nothing and takes nothing twice.
    """

    records: tuple[Record, ...]
    position: Position


async def follow(
    path: pathlib.Path,
    position: Position | None = None,
    *,
    interval: float = 0.25,
    from_start: bool = False,
    told: t.Callable[[str], None] = lambda _trouble: None,
) -> t.AsyncIterator[Batch]:
    """Read a log, and go on as it grows, for ever.

    It need not exist yet. Rotation is followed whether the file is renamed or copied and truncated; of parts that came
    and went meanwhile, what is beside the file is read, compressed or not. What was in a log that was truncated without
    a copy is lost.

    Args:
        path: a regular file, which is not compressed.
        position: of the last batch that was stored; None to begin anew. Then the first batch is an empty one, whose
            position is to be stored, too.
        interval: how often to look whether it has grown, in seconds.
        from_start: whether to begin anew with what the file holds by then, and not at its end.
        told: is called with what keeps the file from being read, such as that it does not exist, for people, each time
            that changes; empty once it can be read. It is logged as well. Called from another thread.
    """
    follower = Follower(path, position, from_start=from_start, told=told)
    try:
        while True:
            batch = await asyncio.to_thread(follower.poll)
            if batch:
                yield batch
            if not follower.has_more:
                await asyncio.sleep(interval)
    finally:
        follower.close()


class _Tracked:
    """A file, as far as it was read.

    Args:
        status: of the file.
        mark: where reading begins.
        head: the first bytes before the mark, at most PRINT.
        tail: the last bytes before the mark, at most PRINT.
    """

    def __init__(self, status: os.stat_result, mark: Mark | None = None, head: bytes = b"", tail: bytes = b"") -> None:
        self.reader = Reader(mark)
        self.seen = mark.position if mark else 0
        self.head, self.tail = head, tail
        self.status = status

    def take(self, chunk: bytes) -> tuple[Record, ...]:
        """The records that end in the chunk, which was read next."""
        self.seen += len(chunk)
        self.head += chunk[: PRINT - len(self.head)]
        self.tail = (self.tail + chunk[-PRINT:])[-PRINT:]
        return tuple(self.reader.feed(chunk))

    def finish(self) -> tuple[Record, ...]:
        """The records that the end of the file ends."""
        return tuple(self.reader.close())

    @property
    def position(self) -> Position:
        """How far it was read."""
        status, heads = self.status, (digest(self.head), digest(self.tail))
        return Position(status.st_dev, status.st_ino, status.st_mtime_ns, self.seen, *heads, self.reader.mark)


class Follower:
    """Follows a log, one chunk at each call. Its methods block, and may be called from any thread.

    Args: see L(follow).

    Attributes:
        has_more: whether the next call will find something without delay, as far as that is known.
    """

    def __init__(
        self,
        path: pathlib.Path,
        position: Position | None = None,
        *,
        from_start: bool = False,
        told: t.Callable[[str], None] = lambda _trouble: None,
    ) -> None:
        self._path = path
        self._position = position
        self._from_start = from_start
        self._told = told
        self._trouble = ""
        self._lock = threading.Lock()
        # The log itself, once it is open.
        self._descriptor = -1
        # What is read at the moment: the first of the parts that were rotated away, or else the log.
        self._file: _Tracked | None = None
        self._parts: list[Content] = []
        self._part: pathlib.Path | None = None  # that the position was in last
        self._given_up: set[tuple[int, int, int]] = set()
        self._nothing: tuple[t.Any, ...] = ()  # as it was when there was nothing to read
        self._is_drained = False  # nothing was written to the log behind the position when it was left
        self._was_quiet = False
        self._again = False
        self.has_more = False

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._close()

    def poll(self) -> Batch | None:
        """What can be read by now, up to a chunk; None where that completes no record."""
        with self._lock:
            try:
                for _step in range(_MOST_STEPS):
                    self._again = self.has_more = False
                    batch = self._step()
                    if batch or not self._again:
                        return batch
            except OSError as error:
                self._tell(f"it cannot be read: {error.strerror or error}")
            return None

    def _step(self) -> Batch | None:
        if self._parts:
            return self._read_part(self._parts[0])
        if self._file and self._descriptor >= 0:
            return self._read(self._file)
        return self._begin()

    def _close(self) -> None:
        for part in self._parts:
            part.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._parts = -1, []

    def _tell(self, trouble: str) -> None:
        trouble = text.display(trouble)
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                logger.warning("Followed file %s: %s", self._path, self._trouble)
            else:
                logger.info("Followed file %s: it is read", self._path)
            self._told(self._trouble)

    def _batch(self, file: _Tracked, records: tuple[Record, ...]) -> Batch | None:
        position = file.position
        if position.mark != _NOTHING_READ:
            self._position = position
        return Batch(records, position) if records else None

    def _begin(self) -> Batch | None:
        """Open the log, and find out what of it is to be read first. Raises OSError."""
        before, self._file = self._file, None
        status = self._open()
        self._tell("" if status else "it does not exist")
        position = self._position
        if position is None:
            return self._begin_anew(status)
        if status and position.seen and self._is_at(position, status):
            self._file = self._tracked(status, position.mark)
            self._again = True
            return None
        state = self._state(status)
        if state and state == self._nothing:
            self._close()
            return None
        # Read before parts are looked for: what is truncated from now on is in one of them later, and known again.
        chunk = os.pread(self._descriptor, CHUNK, 0) if status else b""
        found, self._parts = unread_parts(self._path, position, status, self._give_up)
        self._part = found.path if found else None
        if not self._is_log(status):
            self._close()
            self._again = True  # it has become a part itself
            return None
        if self._parts:
            if status:
                os.close(self._descriptor)
                self._descriptor = -1
            self._again = True
            return None
        if before and not found:
            # What was read is nowhere any more, and so is what was written behind it.
            self._tell_lost(position)
            self._again = self.has_more = True
            return self._batch(before, before.finish())
        if not found and status:
            self._tell_lost(position)
        if status and chunk:
            self._file = _Tracked(status)
            return self._take(self._file, chunk)
        self._close()
        self._nothing = state
        return None

    def _is_log(self, status: os.stat_result | None) -> bool:
        """Whether the log is still the file of that status; None for no file. Raises OSError."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return status is None
        return status is not None and os.path.samestat(now, status)

    def _state(self, status: os.stat_result | None) -> tuple[t.Any, ...]:
        """What changes when there may be something to read; empty where a change might not be seen. Raises OSError."""
        around = [status] if status else []
        around.append(self._path.parent.stat())
        if self._part and self._part.exists():
            around.append(self._part.stat())  # to which the writer may still write
        changed = max(each.st_mtime_ns for each in around)
        settled = abs(time.time_ns() - changed) > _COARSE
        return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in around) if settled else ()

    def _tell_lost(self, position: Position) -> None:
        if position.seen and not self._is_drained:
            self._is_drained = True
            logger.warning(
                "Followed file %s: it was truncated or replaced, and what was written before that and not read is lost",
                self._path,
            )

    def _give_up(self, part: Part, why: str) -> bool:
        """Whether a part was given up before; it is from now on where C(why) says so."""
        identity = part.status.st_dev, part.status.st_ino, part.status.st_mtime_ns
        before = identity in self._given_up
        if why and not before:
            self._given_up.add(identity)
            logger.warning("Followed file %s: its part %s cannot be read: %s", self._path, part.path.name, why)
        return before

    def _begin_anew(self, status: os.stat_result | None) -> Batch:
        if status is None:
            self._position = Position(changed=time.time_ns() - _COARSE)
        else:
            start = 0 if self._from_start else self._last_line(status)
            file = self._tracked(status, Mark(start))
            self._position = file.position
            if start:
                self._file = file
            else:
                self._close()
        return Batch((), self._position)

    def _read_part(self, part: Content) -> Batch | None:
        """Go on with a part that was rotated away. Raises OSError."""
        status = part.part.status
        file = self._file = self._file or _Tracked(status, part.mark, part.head, part.tail)
        self._again = self.has_more = True
        try:
            chunk = part.chunk()
        except (*compression.UNREADABLE, compression.CompressionError) as error:
            self._give_up(part.part, str(error) or "it is damaged")
            chunk = b""
        if chunk:
            return self._batch(file, file.take(chunk))
        if file.reader.mark.position < file.seen and abs(time.time_ns() - part.changed) <= _COARSE:
            # It is being copied, or its writer has not noticed that it was rotated away.
            self._close()
            self._file, self._again, self.has_more = None, False, False
            return None
        part.close()
        del self._parts[0]
        self._file = None
        return self._batch(file, file.finish())

    def _read(self, file: _Tracked) -> Batch | None:
        """Go on with the log. Raises OSError."""
        status = os.fstat(self._descriptor)
        if status.st_size == file.seen and status.st_mtime_ns == file.status.st_mtime_ns:
            return self._look_for_another(file)
        chunk = os.pread(self._descriptor, CHUNK, file.seen)
        # Looked at behind it: a log that was truncated and has grown again looks like one that has grown.
        if not self._begins_with(file):
            self._close()
            self._position, self._again, self._is_drained = file.position, True, False
            return None
        file.status = status
        return self._take(file, chunk) if chunk else self._look_for_another(file)

    def _take(self, file: _Tracked, chunk: bytes) -> Batch | None:
        """Take what was read of the log."""
        if not file.seen and (compressed := compression.compression_of(chunk)):
            self._close()
            self._file = None
            self._tell(f"it is compressed ({compressed}), and only what grows line by line can be followed")
            return None
        self._tell("")
        self._was_quiet, self._nothing = False, ()
        self.has_more = self._again = len(chunk) == CHUNK
        batch = self._batch(file, file.take(chunk))
        if not self.has_more and file.reader.mark == _NOTHING_READ:
            # The beginning of a line tells no file from another. It is read again, once there is more.
            self._close()
            self._file = None
        return batch

    def _look_for_another(self, file: _Tracked) -> Batch | None:
        """Leave the log at its end where another took its place. Raises OSError."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            status = None
        if status and not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        self._tell("")
        if status and os.path.samestat(status, file.status):
            self._was_quiet = False
            return None
        # The writer is still at the old one until there is something in another. Nothing says that it wrote nothing to
        # the old one since it was looked at, so that is looked at once more.
        if not self._is_other_written(file, status) or not self._was_quiet:
            self._was_quiet = True
            return None
        self._was_quiet = False
        self._close()
        self._file = None
        self._again = self.has_more = self._is_drained = True
        return self._batch(file, file.finish())

    def _is_other_written(self, file: _Tracked, log: os.stat_result | None) -> bool:
        """Whether something was written to the log that took the place of the one that is read. Raises OSError."""
        if log and log.st_size:
            return True
        state = self._state(log)
        if state and state == self._nothing:
            return False
        self._nothing = state
        # Perhaps that was rotated away, too.
        _found, parts = unread_parts(self._path, file.position, log, self._give_up)
        for part in parts:
            part.close()
        return any(not os.path.samestat(part.part.status, file.status) for part in parts)

    def _open(self) -> os.stat_result | None:
        """Open the log; None where there is none. Raises OSError."""
        self._close()
        try:
            # Opening a pipe would wait for its writer.
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self._close()
            raise OSError(errno.EINVAL, "it is no regular file")
        return status

    def _is_at(self, position: Position, status: os.stat_result) -> bool:
        """Whether the log begins with what was read up to the position."""
        if not position.seen:
            return (status.st_dev, status.st_ino) == (position.device, position.inode)
        head, tail = self._around(position.seen)
        return status.st_size >= position.seen and (digest(head), digest(tail)) == (position.head, position.tail)

    def _begins_with(self, file: _Tracked) -> bool:
        """Whether the log still begins with what was read."""
        return self._around(file.seen) == (file.head, file.tail)

    def _tracked(self, status: os.stat_result, mark: Mark) -> _Tracked:
        return _Tracked(status, mark, *self._around(mark.position))

    def _around(self, position: int) -> tuple[bytes, bytes]:
        """The first bytes of the log, and those before a position in it."""
        size = min(position, PRINT)
        return os.pread(self._descriptor, size, 0), os.pread(self._descriptor, size, position - size)

    def _last_line(self, status: os.stat_result) -> int:
        """Where the last line begins that has no end yet."""
        end, size = status.st_size, status.st_size
        while end > max(0, size - MAX_LINE):
            begin = max(0, end - CHUNK)
            newline = os.pread(self._descriptor, end - begin, begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
        return 0 if not end else size
