# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Made-up messages: what detectors send with something wrong in it, arbitrary JSON, and arbitrary bytes.

An input follows from the seed and its number alone, so that one that fails can be made again.
"""

from __future__ import annotations

import json
import random
import typing as t
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    SAMPLES,
)

_SAMPLES = [json.dumps(message) for messages in SAMPLES.values() for message in messages]
_ENVELOPES = ("payload", "body", "alerts", "all_fields", "_source", "data", "alert", "output_fields", "process_kprobe")
_TEXTS = (
    *(
        "",
        "<NA>",
        "host",
        "null",
        "/",
        "{",
        "{%",
        "{#",
        "{",
        "#jinja2: a:1",
        "{{ lookup('pipe', 'id') }}",
        "\0",
        "\n",
        "\x1b[2J",
    ),
    *(
        "\ud800",
        "\u202e",
        "\U0001f600",
        "a" * 12,
        "f" * 64,
        "0" * 31,
        "web-1",
        "web-1:&all",
        "../../etc",
        "*",
        "!all",
        "-1",
    ),
    *(
        "2026-04-05T12:43:02Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:60+99:99",
        "critical",
        "Warning",
        "resolved",
        "docker://",
    ),
    *("172.18.0.4", "::1", "fe80::1%eth0", "256.1.1.1", "0x7f.1", "/docker/" + "a" * 64, "falco", "NaN", "1e400", "٣"),
)
_PREFIXES = (
    b"Apr  5 12:43:02 web-1 falco[812]: ",
    b"<133>1 2026-04-05T12:43:02.928967Z web-1 Falco 812 - - ",
    b"2026-04-05T12:43:02+0000 web-1 falco[812]: ",
    b"2026-04-05T12:43:02.928967267Z ",
    b"2026-04-05T12:43:02.928967267Z stdout F ",
    b"2026-04-05T12:43:02.928967267Z stdout P ",
    b"falco-1  | ",
    b"\x1b[36mfalco-1  | \x1b[0m",
    b"@cee: ",
    b"12:43:02.928967267: Critical A shell ",
)
_NUMBERS = (0, -1, 1, 15, 255, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400, 0.1, -0.0, 1e308, 5e-324)


class Input:
    """One input.

    Args:
        seed: of the run.
        number: of the input in it.
    """

    def __init__(self, seed: int, number: int) -> None:
        self.random = random.Random(seed << 40 | number)  # noqa: S311 - nothing here is secret

    def body(self) -> bytes:
        """A message as it is received."""
        kind = self.random.random()
        if kind < 0.02:
            return self.random.randbytes(self._size(4_000))
        if kind < 0.12:
            text = "\n".join(json.dumps(self.message()) for _line in range(self._size(8)))
        elif kind < 0.2:
            text = json.dumps([self.message() for _element in range(self._size(8))])
        else:
            text = json.dumps(self.message(), ensure_ascii=self.random.random() < 0.5)
        body = text.encode("utf-8", "surrogatepass")
        return self._spoilt(body) if self.random.random() < 0.25 else body

    def message(self) -> t.Any:
        """What the JSON of a message says."""
        if self.random.random() < 0.1:
            return self._value(4)
        message = json.loads(self.random.choice(_SAMPLES))
        for _change in range(self._size(5)):
            self._change(message)
        if self.random.random() < 0.1:
            return {self.random.choice(_ENVELOPES): message, "meta": {}}
        return message

    def log(self) -> bytes:
        """Lines of a file in which detectors write, with what others write around and between them."""
        lines = []
        for _line in range(1 + self._size(12)):
            line = self.body() if self.random.random() < 0.2 else json.dumps(self.message()).encode()
            for _wrapper in range(self._size(3)):
                line = self._wrapped(line)
            lines.append(self._spoilt(line) if self.random.random() < 0.1 else line)
        log = self.random.choice((b"\n", b"\n", b"\n", b"\r\n", b"", b"\n\n")).join(lines)
        if self.random.random() < 0.1:
            log = log.decode("utf-8", "replace").encode(
                self.random.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"))
            )
        return self._spoilt(log) if self.random.random() < 0.1 else log

    def _wrapped(self, line: bytes) -> bytes:
        """The line as something on its way to the file leaves it."""
        text = line.decode("utf-8", "replace")
        choice = self.random.randrange(len(_PREFIXES) + 6)
        if choice < len(_PREFIXES):
            return _PREFIXES[choice] + line
        message = self.random.choice((text, text + "\n", [ord(character) % 256 for character in text]))
        wrapped: list[t.Any] = [
            {"log": message, "stream": "stdout", "time": "2026-04-05T12:43:02Z"},
            {"MESSAGE": message, "_HOSTNAME": "web-1", "SYSLOG_IDENTIFIER": "falco"},
            {"date": 1775392982.9, "log": message, "@timestamp": "x", "message": message},
            {"specversion": "1.0", "type": "x", "data": message},
            {"stream": {"job": "falco"}, "values": [["1775392982928967123", message]]},
            {"event": message, "time": 1775392982.9, "sourcetype": "falco"},
        ]
        return json.dumps(wrapped[choice - len(_PREFIXES)], indent=self.random.choice((None, None, 1))).encode()

    def event(self) -> t.Any:
        """What a source puts into the queue of the rule engine."""
        choice = self.random.randrange(6)
        if choice == 0:
            return self._value(3)
        if choice == 1:
            return self.body().decode("latin-1") if self.random.random() < 0.5 else self.body()
        message = self.message()
        return [
            message,
            {"payload": message, "meta": self._value(2)},
            {"body": message},
            {"payload": {"body": [message]}},
        ][choice - 2]

    def _size(self, most: int) -> int:
        """Small numbers more often than large ones, from 0."""
        return int(most * self.random.random() ** 3)

    def _change(self, message: t.Any) -> None:
        """Change something somewhere in the message."""
        place, keys = message, self._keys(message)
        while keys and self.random.random() < 0.6:
            inner = place[self.random.choice(keys)]
            if not self._keys(inner):
                break
            place, keys = inner, self._keys(inner)
        if not keys:
            return
        key, change = self.random.choice(keys), self.random.randrange(6)
        if change == 0:
            del place[key]
        elif change == 1:
            place[key] = [place[key]]
        elif change == 2 and isinstance(place, dict):
            place[self._text()] = place.pop(key)
        elif change == 3 and isinstance(place, dict):
            other = json.loads(self.random.choice(_SAMPLES))
            place.update(self.random.sample(sorted(other.items(), key=str), k=1))
        else:
            place[key] = self._value(3)

    @staticmethod
    def _keys(value: t.Any) -> list[t.Any]:
        return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []

    def _text(self) -> str:
        choice = self.random.randrange(8)
        if choice < 5:
            return self.random.choice(_TEXTS)
        if choice < 7:
            return "".join(self.random.choices(_TEXTS, k=self._size(6)))
        return self.random.choice(_TEXTS) * self._size(3_000)

    def _value(self, depth: int) -> t.Any:
        choice = self.random.randrange(9 if depth else 6)
        if choice == 0:
            return self.random.choice((None, True, False))
        if choice == 1:
            return self.random.choice(_NUMBERS)
        if choice < 6:
            return self._text()
        if choice == 6:
            return [self._value(depth - 1) for _element in range(self._size(6))]
        if choice == 7:
            return {self._text(): self._value(depth - 1) for _key in range(self._size(6))}
        deep: t.Any = self._text()
        for _level in range(self._size(400)):
            deep = [deep] if self.random.random() < 0.5 else {"a": deep}
        return deep

    def _spoilt(self, body: bytes) -> bytes:
        """The bytes with something wrong in them that their JSON cannot say."""
        spoil: Callable[[bytes], bytes] = self.random.choice(
            (
                lambda whole: whole[: self._size(len(whole) + 1)],
                lambda whole: whole[self._size(len(whole) + 1) :],
                lambda whole: whole + whole,
                lambda whole: whole + self.random.randbytes(self._size(100)),
                lambda whole: whole.decode("utf-8", "replace").encode("utf-16"),
                lambda whole: b"\xef\xbb\xbf" + whole,
                lambda whole: b"\0" * self._size(5_000) + whole,
                lambda whole: b"Apr  5 12:43:02 web-1 falco[1]: " + whole,
                lambda whole: b"[" * self._size(100_000) + whole,
                lambda whole: whole.replace(b'"', self.random.choice((b"'", b"", b'\\"')), 3),
                lambda whole: whole.replace(b":", self.random.choice((b": NaN,", b":1e999", b":" + b"9" * 5_000)), 1),
                lambda whole: whole.replace(b",", b",,", 1),
                self._flipped,
            )
        )
        return spoil(body)

    def _flipped(self, whole: bytes) -> bytes:
        flipped = bytearray(whole)
        for _flip in range(self._size(20)):
            if flipped:
                flipped[self.random.randrange(len(flipped))] ^= 1 << self.random.randrange(8)
        return bytes(flipped)
