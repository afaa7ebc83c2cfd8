# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What loggers put before a message: syslog, journalctl, docker, compose and CRI."""

from __future__ import annotations

import re
import typing as t

DETECTORS = ("falco", "tetragon", "suricata", "wazuh", "crowdsec", "sysdig")
"""Programs of a shared log whose messages are searched, whatever else they hold."""
_MOST = 3
"""Most prefixes before each other, as of compose, of the engine and of syslog."""

_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?"
_TRADITIONAL = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?"
_FULL = rf"[A-Z][a-z]{{2}} {_ISO}(?: [A-Z]{{3,5}})?"  # journalctl -o short-full
_CLOCK = r"\[ {0,12}\d{1,12}\.\d{1,9}\]|\d{1,12}\.\d{1,9}"  # journalctl -o short-monotonic, -o short-unix
_PRIORITY = r"(?:<\d{1,3}>)?"
_SYSLOG = re.compile(
    rf"{_PRIORITY}(?:{_ISO}|{_TRADITIONAL}|{_FULL}|{_CLOCK}) [^\s\"]{{1,255}} "
    r"([^\s:\[\]\"]{1,128})(?:\[[^\]\s]{0,64}\])?: ?"
)
_DATA = r'(?:-|(?:\[[^\]"]*(?:"[^"\\]*(?:\\.[^"\\]*)*"[^\]"]*)*\])+)'
_SYSLOG_5424 = re.compile(
    rf"{_PRIORITY}1 (?:{_ISO}|-) \S{{1,255}} (\S{{1,48}}) \S{{1,128}} \S{{1,32}} {_DATA}(?: \ufeff?|$)"
)
_CEE = re.compile(r"@cee: ?")
_CRI = re.compile(rf"{_ISO} (stdout|stderr) ([PF])(?::\S{{0,64}})?(?: |$)")
_COLOUR = r"(?:\x1b\[[\d;]{0,16}m)?"
_COMPOSE = re.compile(rf"{_COLOUR}[\w.@/-]{{1,200}} {{0,64}}\|{_COLOUR} ")
_TIME = re.compile(rf"{_ISO} ")


class Prefixed(t.NamedTuple):
    """A line without its prefix.

    Attributes:
        text: the message.
        shared: whether other programs write to the log, too, so that a message that only holds an object is none of a
            detector: anybody can make sshd log the name of a user.
        stream: for one of CRI, where it was printed; else empty.
        partial: whether the next line of the stream goes on with it.
    """

    text: str
    shared: bool = False
    stream: str = ""
    partial: bool = False


def is_shared(program: str) -> bool:
    """Whether the messages of a program must be objects from their beginning."""
    return not program.lower().startswith(DETECTORS)


def without_prefix(text: str) -> Prefixed:
    """What a line says, without what a logger put before it."""
    shared, stream, partial = False, "", False
    for _prefix in range(_MOST):
        if text[:1] in ("{", ""):
            break
        match = _CRI.match(text)
        if match:
            stream, partial = match[1], match[2] == "P"
            text = text[match.end() :]
            break
        match = _SYSLOG_5424.match(text) or _SYSLOG.match(text)
        if match:
            shared = shared or is_shared(match[1])
            text = text[match.end() :]
            cee = _CEE.match(text)
            text = text[cee.end() :] if cee else text
            continue
        match = _COMPOSE.match(text) or _TIME.match(text)
        if match is None:
            break
        text = text[match.end() :]
    return Prefixed(text, shared, stream, partial)
