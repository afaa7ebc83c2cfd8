# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From bytes to lines of UTF-8, whatever the encoding, and whatever holes there are in the file."""

from __future__ import annotations

import re
import typing as t

MAX_LINE = 10 * 1024 * 1024
"""Longest line that is read, in bytes."""
UTF_8, UTF_16_LE, UTF_16_BE = ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")
_BOMS = {b"\xff\xfe": UTF_16_LE, b"\xfe\xff": UTF_16_BE}
_HOLE = 4
"""This many NUL bytes are no character of UTF-16 but a hole; and this many bytes tell the encoding."""
_HEAD = _HOLE + 2
_AHEAD = 16
_ASCII = re.compile(rb"[\x20-\x7e]{%d}" % _AHEAD)
"""How a line of UTF-8 begins, and no text of UTF-16 goes on."""


class Line(t.NamedTuple):
    """One line.

    Attributes:
        start: where it begins, in bytes.
        content: UTF-8 without NUL bytes and the end of the line; None where it is longer than MAX_LINE.
    """

    start: int
    content: bytes | None


class Lines:
    """Splits what it is fed into lines.

    PowerShell writes UTF-16, and appends it to files of UTF-8. What truncates a log under a writer that does not append
    (C(copytruncate) of logrotate) leaves a hole of NUL bytes as large as the log was.

    Args:
        position: where in the file the first byte is.
        encoding: one of ENCODINGS, that of the line before.

    Attributes:
        position: where the line begins that has no end yet.
        encoding: of the last line that was read.
    """

    def __init__(self, position: int = 0, encoding: str = UTF_8) -> None:
        self.position = position
        self.encoding = encoding
        self._undecided = b""
        self._begin()

    def _begin(self) -> None:
        self._parts: list[bytes] = []
        self._kept = 0
        self._size = 0
        self._head = b""  # the first bytes behind a hole, whose size is even in a file of UTF-16
        self._has_nul = False
        self._in_hole = False

    def feed(self, chunk: bytes) -> t.Iterator[Line]:
        """The lines that end in the chunk, which is smaller than MAX_LINE. To be read to the end."""
        if self._is_any(chunk):
            yield from self._feed_any(chunk)
            return
        pieces = chunk.split(b"\n")
        rest = pieces.pop()
        if pieces:
            self._add(pieces[0])
            yield self._end(UTF_8, 1)
            for piece in pieces[1:]:
                line = Line(self.position, piece)
                self.position += len(piece) + 1
                yield line
        self._add(rest)

    def _is_any(self, chunk: bytes) -> bool:
        """Whether there may be more in the chunk than lines of UTF-8."""
        if self.encoding != UTF_8 or self._has_nul or b"\0" in chunk:
            return True
        return self._head[:1] in (b"\xff", b"\xfe") or any(bom in chunk for bom in _BOMS)

    def close(self) -> t.Iterator[Line]:
        """The line that has no end, if there is one."""
        self._add(self._undecided)
        self._undecided = b""
        if self._size:
            yield self._end(self._encoding(), 0)

    def _feed_any(self, chunk: bytes) -> t.Iterator[Line]:
        chunk, self._undecided = self._undecided + chunk, b""
        begin = 0
        while (newline := chunk.find(b"\n", begin)) >= 0:
            self._add(chunk[begin:newline])
            begin = newline + 1
            encoding = self._encoding()
            if self._ends(encoding, chunk[newline - 1 : newline], chunk[begin : begin + 1]):
                width = 2 if encoding == UTF_16_LE else 1
                yield self._end(encoding, width)
                begin = newline + width
            elif begin + _AHEAD > len(chunk):
                self._undecided = chunk[newline:]
                return
            elif _ASCII.match(chunk, begin):
                # Whoever writes a few bytes that look like UTF-16 must not hide all lines of UTF-8 that follow.
                line = self._end(encoding, 0)
                self.position += 1
                yield line
            else:
                self._add(b"\n")
        self._add(chunk[begin:])

    def _ends(self, encoding: str, before: bytes, after: bytes) -> bool:
        """Whether the byte 0A ends the line: in UTF-16 it can be half of another character."""
        if encoding == UTF_16_LE:
            return self._size % 2 == 0 and after == b"\0"
        return encoding == UTF_8 or (self._size % 2 == 1 and (before or self._parts[-1][-1:]) == b"\0")

    def _add(self, piece: bytes) -> None:
        if not piece:
            return
        self._size += len(piece)
        if b"\0" in piece:
            self._has_nul = True
            if len(piece) > _HOLE and not piece.strip(b"\0"):
                # A hole can be larger than memory. Pairs are left out, so that UTF-16 stays in step.
                piece = piece[: _HOLE + len(piece) % 2]
        if len(self._head) < _HEAD:
            head = self._head + piece
            zeros = _zeros(head)
            self._in_hole = self._in_hole or zeros >= _HOLE
            self._head = head[zeros - zeros % 2 if self._in_hole else 0 :][:_HEAD]
        self._kept += len(piece)
        if self._kept <= MAX_LINE:
            self._parts.append(piece)
        else:
            self._parts = [piece[-1:]]

    def _end(self, encoding: str, width: int) -> Line:
        content: bytes | None = None
        if self._kept <= MAX_LINE:
            content = b"".join(self._parts)
            if encoding != UTF_8:
                if encoding == UTF_16_BE and width:
                    content = content[:-1]  # the first half of the line end
                content = content.decode(encoding, "replace").replace("\0", "").encode("utf-8")
            elif self._has_nul:
                content = content.replace(b"\0", b"")
        line = Line(self.position, content)
        self.position += self._size + width
        self.encoding = encoding
        self._begin()
        return line

    def _encoding(self) -> str:
        """That of the line under way, by how it begins; a line that does not tell is as the one before."""
        head = self._head
        if head[:2] in _BOMS:
            head = head[2:]
        if len(head) < _HOLE:
            return self.encoding
        nuls = [byte == 0 for byte in head[:_HOLE]]
        if nuls == [False, True, False, True]:
            return UTF_16_LE
        if nuls == [True, False, True, False]:
            return UTF_16_BE
        return UTF_8 if all(0x20 <= byte < 0x7F for byte in head[:_HOLE]) else self.encoding


def _zeros(content: bytes) -> int:
    """How many NUL bytes it begins with."""
    return len(content) - len(content.lstrip(b"\0"))
