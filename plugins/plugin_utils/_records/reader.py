# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the log of a detector as it is in life: from its bytes to the messages in it."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors.falco import remedy_for
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.lines import (
    MAX_LINE,
    UTF_8,
    Line,
    Lines,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.objects import (
    SEPARATORS,
    BrokenError,
    Unfinished,
    decode,
    last_inside,
    scan,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.prefixes import without_prefix
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.wrappers import (
    KEYS,
    Wrapped,
    is_message,
    unwrapped,
)

TEXT = "it is text and holds no JSON"
SHARED = "it is text of another program that holds JSON"
TEXT_OF_FALCO = "it is an alert of Falco as text: set json_output to true in falco.yaml"
BROKEN = "its JSON is cut off or broken"
TOO_LONG = f"it is longer than {MAX_LINE // 1024 // 1024} MB"
TOO_DEEP = "its JSON is nested too deeply"
LEFT_OUT = "its wrapper holds no message: journalctl leaves out long ones without --all"
"""Why a line is skipped: few fixed texts, fit to be counted by."""

MAX_OPEN = 4 * MAX_LINE
"""For how many bytes of the log a message may be in pieces."""
_MAX_STREAMS = 64
_MAX_WRAPPERS = 4
"""Most wrappers around each other."""
_BRACE = ord("{")
_HEAD = 100
"""Characters that tell an alert of Falco as text."""
_SPACE = " \t\r\n\x0b\x0c\x1e\ufeff"
_BLANK = b" \t\r\n\x0b\x0c\x1e\xef\xbb\xbf"
"""White space, the record separator of RFC 7464 and the parts of a byte order mark; none of them begins a message."""


class Record(t.NamedTuple):
    """One message of a log, or a line that is none.

    Attributes:
        line: number of the line on which it begins, from 1.
        body: the message, one JSON value; None where the line is skipped.
        skipped: why it is, one of the texts above; empty where it is not.
    """

    line: int
    body: bytes | None
    skipped: str = ""


class Mark(t.NamedTuple):
    """Where a reader can go on that has forgotten all.

    Attributes:
        position: in the log, in bytes; the beginning of a line.
        line: number of lines before it.
        encoding: of the line before it.
        passed: number of records behind it that were read already. It is not 0 where a message in pieces was not
            complete, while others were.
    """

    position: int = 0
    line: int = 0
    encoding: str = UTF_8
    passed: int = 0


class _Origin(t.NamedTuple):
    """Where a text comes from: the number of its line, and whether other programs write there, too."""

    line: int
    shared: bool = False


class _Pieces:
    """The pieces of one message so far."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, _Origin]] = []
        self.size = 0

    def add(self, text: str, origin: _Origin) -> None:
        """Keep a piece. Once they are too long, only the last is kept."""
        self.size += len(text)
        if self.size > MAX_LINE:
            self.pieces.clear()
        self.pieces.append((text, origin))

    def joined(self, between: str = "") -> str:
        """The message so far."""
        return between.join(text for text, _origin in self.pieces)


class Reader:
    """Takes a log in chunks of bytes, and finds the messages in it.

    It takes time in proportion to the log, and memory in proportion to its longest message, whatever the log holds.

    Args:
        mark: where the first chunk begins.

    Attributes:
        lines: number of lines that were read.
    """

    def __init__(self, mark: Mark | None = None) -> None:
        mark = mark or Mark()
        self.lines = mark.line
        self._split = Lines(mark.position, mark.encoding)
        self._start = mark.position  # of the line that is read
        self._streams: dict[str, _Pieces] = {}
        self._unfinished: Unfinished | None = None
        self._unfinished_lines = _Pieces()
        # Where no message was in pieces, and the number of records since then.
        self._idle = mark._replace(passed=0)
        self._records = 0
        self._passed = mark.passed

    @property
    def mark(self) -> Mark:
        """Where to go on, once all records of what was fed are taken."""
        if self._busy or self._split.position == self._idle.position:
            return self._idle._replace(passed=max(self._records, self._passed))
        return Mark(self._split.position, self.lines, self._split.encoding)

    def feed(self, chunk: bytes) -> t.Iterator[Record]:
        """The records that end in a chunk, which has at most a few megabytes. To be read to the end."""
        for line in self._split.feed(chunk):
            plain = None if self._busy or self._passed else _plain(line.content)
            if plain is None:
                yield from self._new(self._of_line(line))
            else:  # nearly all lines; nothing else is any different by it
                self.lines += 1
                yield Record(self.lines, plain)

    def close(self) -> t.Iterator[Record]:
        """The records that end with the log."""
        for line in self._split.close():
            yield from self._new(self._of_line(line))
        yield from self._new(self._give_up())

    def _new(self, records: t.Iterator[Record]) -> t.Iterator[Record]:
        """The records that were not taken before."""
        for record in records:
            self._records += 1
            if self._records > self._passed:
                yield record

    @property
    def _busy(self) -> bool:
        return self._unfinished is not None or bool(self._streams)

    def _note_idle(self) -> None:
        if not self._busy and self._start != self._idle.position:
            self._idle = Mark(self._start, self.lines - 1, self._split.encoding)
            self._records = self._passed = 0

    def _of_line(self, line: Line) -> t.Iterator[Record]:
        self._start, content = line
        if self._busy and self._start - self._idle.position > MAX_OPEN:
            yield from self._give_up()
        self.lines += 1
        self._note_idle()
        origin = _Origin(self.lines)
        if content is None:
            yield from self._break_off()
            yield Record(self.lines, None, TOO_LONG)
            return
        content = content.lstrip(_BLANK)
        if content:
            # Bytes that are no UTF-8 come out as none again: whoever reads the message says what is wrong with it.
            whole = self._whole(content.rstrip(b"\r").decode("utf-8", "surrogateescape"), origin)
            if whole:
                yield from self._of_message(*whole)

    def _whole(self, text: str, origin: _Origin) -> tuple[str, _Origin] | None:
        """The message of a line, without its prefix; None where it goes on."""
        prefixed = without_prefix(text)
        if prefixed.shared:
            origin = _Origin(origin.line, True)
        if not prefixed.stream:
            return prefixed.text, origin
        return self._joined(f"cri {prefixed.stream}", prefixed.text, prefixed.partial, origin)

    def _joined(self, stream: str, text: str, partial: bool, origin: _Origin) -> tuple[str, _Origin] | None:
        """The message that a piece completes, and where it began; None where it goes on."""
        pieces = self._streams.get(stream)
        if pieces is None:
            if not partial or len(self._streams) >= _MAX_STREAMS:
                return text, origin
            pieces = self._streams[stream] = _Pieces()
        pieces.add(text, origin)
        if partial:
            return None
        del self._streams[stream]
        return pieces.joined(), pieces.pieces[0][1]

    def _of_message(self, text: str, origin: _Origin) -> t.Iterator[Record]:
        """The records in a message, which may be a part of one that goes on over lines."""
        text = text.strip(_SPACE)
        if self._unfinished is not None:
            lines = self._unfinished_lines
            try:
                if _is_message(text):  # whoever writes the beginning of an object must not hold back what follows
                    raise BrokenError
                end = self._unfinished.feed(text)
            except BrokenError:
                yield from self._break_off()
                self._note_idle()
            else:
                lines.add(text[:end] if end >= 0 else text, origin)
                if end < 0:
                    if lines.size > MAX_LINE - len(text):
                        yield from self._break_off()
                    return
                self._unfinished = None
                yield from self._read(lines.joined("\n"), lines.pieces[0][1])
                text = text[end:].strip(SEPARATORS)
        yield from self._read(text, origin, goes_on=True)

    def _break_off(self) -> t.Iterator[Record]:
        """The records in the lines of a message that turned out to be none, each by itself."""
        if self._unfinished is not None:
            self._unfinished = None
            for text, origin in self._unfinished_lines.pieces:
                yield from self._read(text, origin)

    def _give_up(self) -> t.Iterator[Record]:
        """The records in the pieces of messages that nothing completes."""
        yield from self._break_off()
        streams, self._streams = self._streams, {}
        for pieces in streams.values():
            yield from self._read(pieces.joined().strip(_SPACE), pieces.pieces[0][1])

    def _read(self, text: str, origin: _Origin, depth: int = 0, goes_on: bool = False) -> t.Iterator[Record]:
        try:
            yield from self._scanned(text, origin, depth, goes_on)
        except RecursionError:
            yield Record(origin.line, None, TOO_DEEP)

    def _scanned(self, text: str, origin: _Origin, depth: int, goes_on: bool) -> t.Iterator[Record]:
        """The records in a text.

        Args:
            text: without white space at its ends.
            origin: where it comes from.
            depth: number of wrappers around it.
            goes_on: whether an object at its end may go on.
        """
        if not text.strip(SEPARATORS):
            return
        if text[0] not in "{[" and remedy_for(text[:_HEAD].encode("utf-8", "replace")):
            # It quotes command lines, which attackers write: an object in it is theirs.
            yield Record(origin.line, None, TEXT_OF_FALCO)
            return
        found, broken, open_at = scan(text, anywhere=not origin.shared)
        for value, start, end in found:
            yield from self._of_value(value, text[start:end], origin, depth)
        if open_at >= 0:
            if goes_on and not text[found[-1].end if found else 0 : open_at].strip(SEPARATORS):
                yield from self._begin(text[open_at:], origin)
                return
            inside = last_inside(text[open_at:])
            if inside:
                yield from self._of_value(inside.value, None, origin, depth)
                return
        if not found:
            shared = origin.shared and '{"' in text
            yield Record(origin.line, None, SHARED if shared else BROKEN if broken else TEXT)

    def _begin(self, text: str, origin: _Origin) -> t.Iterator[Record]:
        """Keep the beginning of a message that goes on."""
        unfinished = Unfinished()
        try:
            unfinished.feed(text)
        except BrokenError:  # for it, and not for the decoder: too deep, too long a number
            yield Record(origin.line, None, BROKEN)
            return
        self._unfinished, self._unfinished_lines = unfinished, _Pieces()
        self._unfinished_lines.add(text, origin)

    def _of_value(self, value: t.Any, text: str | None, origin: _Origin, depth: int) -> t.Iterator[Record]:
        """The records in a JSON value.

        Args:
            value: the value; None where it could not be decoded.
            text: as it stands in the log; None where it does not stand there by itself.
            origin: where it comes from.
            depth: number of wrappers around it.
        """
        inside = depth < _MAX_WRAPPERS
        if inside and value and isinstance(value, list):
            for element in value:
                yield from self._of_value(element, None, origin, depth + 1)
            return
        wrapped = unwrapped(value) if inside and isinstance(value, dict) else None
        if wrapped is None:
            text = json.dumps(value) if text is None else text
            yield Record(origin.line, text.encode("utf-8", "surrogatepass"))
            return
        if wrapped.shared:
            origin = _Origin(origin.line, True)
        for content in wrapped.contents:
            if isinstance(content, str):
                yield from self._of_wrapped(content, wrapped, origin, depth + 1)
            elif isinstance(content, (dict, list)):
                yield from self._of_value(content, None, origin, depth + 1)
            else:
                yield Record(origin.line, None, LEFT_OUT)

    def _of_wrapped(self, text: str, wrapped: Wrapped, origin: _Origin, depth: int) -> t.Iterator[Record]:
        if wrapped.stream:
            joined = self._joined(wrapped.stream, text, wrapped.partial, origin)
            if joined is None:
                return
            text, origin = joined
        whole = self._whole(text.strip(_SPACE), origin)
        if whole:
            yield from self._read(whole[0].strip(_SPACE), whole[1], depth)


def _is_message(text: str) -> bool:
    if text[:1] != "{" or text[-1:] != "}":
        return False
    try:
        value, end = decode(text)
    except (ValueError, RecursionError):
        return False
    return end == len(text) and is_message(value)


def _plain(content: bytes | None) -> bytes | None:
    """The message that a line is by itself; None for any other line."""
    if not content or content[0] != _BRACE:
        return None
    try:
        text = content.decode("utf-8")
        value, end = decode(text)
    except (ValueError, RecursionError):
        return None
    if not KEYS.isdisjoint(value):
        return None
    if end == len(text):
        return content
    return content.rstrip(_BLANK) if text[end:].isspace() else None
