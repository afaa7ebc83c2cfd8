# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rotated logs: which files beside a log are earlier parts of it, and in which order they were written."""

from __future__ import annotations

import errno
import hashlib
import os
import pathlib
import re
import stat
import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records import compression
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.lines import ENCODINGS
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Mark

PRINT = 1024
"""How many bytes at the beginning of a file, and before the end of what was read, tell it from others."""
_COMPRESSED = re.compile(r"\.(?:gz|bz2|xz|zst)\Z")
_ATTEMPTS = 5
_LARGEST_INDEX = 99_999
"""What is larger behind the name of a log is a date."""


class Position(t.NamedTuple):
    """How far a log was read. What was read tells the file, whatever it is called by now.

    Attributes:
        device, inode: the file; 0 where there was none.
        changed: when it was changed last, in nanoseconds since the epoch.
        seen: number of bytes that were read, a line without an end included.
        head: SHA-256 of the first PRINT of them.
        tail: SHA-256 of the last PRINT of them.
        mark: where a reader goes on.
    """

    device: int = 0
    inode: int = 0
    changed: int = 0
    seen: int = 0
    head: str = ""
    tail: str = ""
    mark: Mark = Mark()

    def to_dict(self) -> dict[str, t.Any]:
        """The position as JSON-serialisable data, which from_dict reads back."""
        return {**self._asdict(), "mark": self.mark._asdict()}

    @classmethod
    def from_dict(cls, value: object) -> Position:
        """The position that to_dict wrote. Raises ValueError."""
        try:
            given = dict(t.cast("t.Mapping[str, t.Any]", value))
            position = cls(**{**given, "mark": Mark(**given["mark"])})
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError("it is no position in a log") from error
        numbers = (*position[:4], position.mark.position, position.mark.line, position.mark.passed)
        right = all(isinstance(number, int) and number >= 0 for number in numbers)
        right = right and isinstance(position.head, str) and isinstance(position.tail, str)
        if not right or position.mark.encoding not in ENCODINGS or position.mark.position > position.seen:
            raise ValueError("it is no position in a log")
        return position


class Part(t.NamedTuple):
    """A file that is an earlier part of a log.

    Attributes:
        path: of the file.
        status: of the file.
        order: the larger, the later it was written; of parts with the same way to be named.
    """

    path: pathlib.Path
    status: os.stat_result
    order: tuple[str, float]


def digest(content: bytes) -> str:
    """The SHA-256, as a Position holds it."""
    return hashlib.sha256(content).hexdigest()


def earlier_parts(path: pathlib.Path) -> list[Part]:
    """The rotated parts of a log, oldest first: LOG.1, LOG-20260405, NAME-2026-04-05T12-43-02.log, compressed or not.

    Raises OSError.
    """
    name, stem, suffix = (re.escape(part) for part in (path.name, path.stem, path.suffix))
    # A number in the middle may be that of a thread, as in eve.9.json of Suricata; a date is none.
    pattern = re.compile(
        rf"(?:{name}[.-](\d[\dT._-]{{0,40}}?)|{stem}-(\d{{4}}[\dT._-]{{4,40}}?){suffix})(?:\.(?:gz|bz2|xz|zst))?"
    )
    parts, names = [], set()
    with os.scandir(path.parent) as entries:
        for entry in entries:
            names.add(entry.name)
            match = pattern.fullmatch(entry.name)
            if match is None or entry.name == path.name:
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:  # rotated away meanwhile
                continue
            if stat.S_ISREG(status.st_mode):
                parts.append(Part(path.parent / entry.name, status, _order(match[1] or match[2])))
    # One that is being compressed is there twice, and the second time not whole.
    whole = [part for part in parts if not (_COMPRESSED.search(part.path.name) and part.path.stem in names)]
    return sorted(whole, key=lambda part: part.order)


def _order(written: str) -> tuple[str, float]:
    if written.isdecimal() and int(written) <= _LARGEST_INDEX:
        return "index", -int(written)
    return "date", float(re.sub(r"\D", "", written)[:30].ljust(30, "0"))


class Content:
    """What a part of a log holds, decompressed, in chunks. To be closed.

    Args:
        part: the file. Raises OSError where it cannot be opened, FileNotFoundError where another has its name by now.

    Attributes:
        part: the file.
        mark: where the next chunk begins, before the first is read.
        head: the first bytes before the mark, at most PRINT.
        tail: the last bytes before the mark, at most PRINT.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.mark = Mark()
        self.head = self.tail = b""
        self._held = b""
        self._file = part.path.open("rb")
        self._chunks: t.Iterator[bytes] | None = None
        if not os.path.samestat(os.fstat(self._file.fileno()), part.status):
            self.close()
            raise FileNotFoundError(errno.ENOENT, "it was rotated on meanwhile")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def changed(self) -> int:
        """When the file was changed last, in nanoseconds since the epoch. Raises OSError."""
        return os.fstat(self._file.fileno()).st_mtime_ns

    def chunk(self) -> bytes:
        """The next chunk; empty at the end. Raises what L(compression.chunks) does."""
        if self._held:
            chunk, self._held = self._held, b""
            return chunk
        if self._chunks is None:
            self._chunks = compression.chunks(self._file)
        return next(self._chunks, b"")

    def is_at_end(self) -> bool:
        """Whether there is nothing more to read. Raises what L(compression.chunks) does."""
        self._held = self.chunk()
        return not self._held

    def seek(self, position: Position) -> bool:
        """Go to the mark of a position. False where the file does not begin with what was read up to there.

        Raises what L(compression.chunks) does.
        """
        plain = not compression.compression_of(self._file.peek(PRINT)[:PRINT])
        head = self._read(min(position.seen, PRINT))
        if digest(head) != position.head:
            return False
        # The bytes before the mark, which tell the file later on, and those up to the position, which tell it now.
        begin = max(0, position.mark.position - PRINT)
        if plain:
            self._held = b""
            self._file.seek(begin)
        elif begin <= len(head):
            self._held = head + self._held
            self._skip(begin)
        else:
            self._skip(begin - len(head))
        known = self._read(position.seen - begin)
        if len(known) < position.seen - begin or digest(known[-PRINT:]) != position.tail:
            return False
        before = position.mark.position - begin
        self.mark, self.head, self.tail = position.mark, head[: position.mark.position], known[:before]
        self._held = known[before:] + self._held
        return True

    def _read(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size and (chunk := self.chunk()):
            found += chunk
        self._held = bytes(found[size:])
        return bytes(found[:size])

    def _skip(self, size: int) -> None:
        while size and (skipped := self._read(min(size, compression.CHUNK))):
            size -= len(skipped)


def unread_parts(
    path: pathlib.Path, position: Position, log: os.stat_result | None, give_up: t.Callable[[Part, str], bool]
) -> tuple[Part | None, list[Content]]:
    """What was written to the parts of a log behind a position, oldest first. To be closed.

    Args:
        path: of the log.
        position: how far it was read.
        log: status of the log itself, which may bear the name of a part, and is none.
        give_up: is told of parts that must not be read, and why. Whether a part was given up before, where that is
            empty.

    Returns:
        The part that the position is in, or None, and those in which there is more. The first may be at its mark.

    Raises OSError.
    """
    for _attempt in range(_ATTEMPTS):
        parts = earlier_parts(path)
        opened: list[Content] = []
        try:
            candidates = [part for part in parts if log is None or not os.path.samestat(part.status, log)]
            found = _opened_behind([part for part in candidates if not give_up(part, "")], position, opened, give_up)
            # What is renamed while a directory is read can be missed.
            if [*map(_identity, parts)] == [*map(_identity, earlier_parts(path))]:
                return found
            _close(opened)
        except FileNotFoundError:  # it is rotated on at this moment
            _close(opened)
        except BaseException:
            _close(opened)
            raise
    raise OSError(errno.EAGAIN, f"its parts in {path.parent} were moved each time they were looked at")


def _identity(part: Part) -> tuple[str, int, int]:
    return part.path.name, part.status.st_dev, part.status.st_ino


def _opened_behind(
    parts: list[Part], position: Position, opened: list[Content], give_up: t.Callable[[Part, str], bool]
) -> tuple[Part | None, list[Content]]:
    """See unread_parts. What is opened is in C(opened), too."""

    def opens(part: Part) -> bool:
        try:
            opened.append(Content(part))
        except PermissionError as error:
            give_up(part, error.strerror or str(error))  # it must not keep the log itself from being read
            return False
        return True

    later = [part for part in parts if part.status.st_mtime_ns >= position.changed]
    found = None
    for part in reversed(parts):
        is_it = (part.status.st_dev, part.status.st_ino) == (position.device, position.inode)
        if (position.seen or is_it) and opens(part):
            if _holds(opened[0], position):
                found = part
                later = [each for each in parts if each.order[0] == part.order[0] and each.order > part.order]
                break
            opened.pop().close()
    for part in later:
        opens(part)
    more = [content for content in opened if not _is_at_end(content)]
    _close(content for content in opened if content not in more)
    return found, more


def _holds(content: Content, position: Position) -> bool:
    try:
        return content.seek(position)
    except (*compression.UNREADABLE, compression.CompressionError):
        return False


def _is_at_end(content: Content) -> bool:
    try:
        return content.is_at_end()
    except (*compression.UNREADABLE, compression.CompressionError):
        return bool(content.mark.position)  # up to here it was read; of another one it is told that it cannot be


def _close(contents: t.Iterable[Content]) -> None:
    for content in contents:
        content.close()
