# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What log shippers and brokers put around a message."""

from __future__ import annotations

import base64
import binascii
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors import generic
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import DETECTORS
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.prefixes import is_shared

KEYS = frozenset(("MESSAGE", "_source", "data", "data_base64", "event", "line", "log", "message", "streams"))
"""What has none of these keys is no wrapper."""
_PROGRAM = ("appname", "program", "programname")
"""Where shippers that read syslog say whose message it is."""
_JSON_FILE = frozenset(("attrs", "log", "stream", "time"))
_HEC = frozenset(("event", "fields", "host", "index", "source", "sourcetype", "time"))
_SPLIT_AT = 16 * 1024
"""The engine splits what containers print into pieces of this many bytes."""
Object = t.Mapping[str, t.Any]


class Wrapped(t.NamedTuple):
    """What a wrapper holds.

    Attributes:
        contents: texts as a line of a log, and objects.
        shared: whether other programs write to the log, too; see Prefixed.
        stream: where a text was printed that may be in pieces; else empty.
        partial: whether the next text of the stream goes on with it.
    """

    contents: list[t.Any]
    shared: bool = False
    stream: str = ""
    partial: bool = False


def unwrapped(message: Object) -> Wrapped | None:
    """What an object holds that is a wrapper, or None for any other."""
    if message.keys().isdisjoint(KEYS) or _is_alert(message):
        return None
    for wrapper in _WRAPPERS:
        found = wrapper(message)
        if found is not None:
            return found
    return None


def is_message(value: t.Any) -> bool:
    """Whether a JSON value is a message by itself, and no part of another."""
    return isinstance(value, dict) and (
        any(detector.recognises(value) for detector in DETECTORS.values()) or unwrapped(value) is not None
    )


def _is_alert(message: Object) -> bool:
    """Whether it is for a parser, whatever it says beside."""
    return "rule" in message or any(
        detector.recognises(t.cast("dict[str, t.Any]", message))
        for name, detector in DETECTORS.items()
        if name != generic.NAME  # which takes all that has a severity, as messages of syslog have
    )


def _journald(message: Object) -> Wrapped | None:
    if "MESSAGE" not in message:
        return None
    content = _text(message["MESSAGE"])
    program = message.get("SYSLOG_IDENTIFIER") or message.get("_COMM")
    stream = message.get("CONTAINER_ID")
    return Wrapped(
        [content],
        # The driver of Docker writes for containers, each of which has its own words.
        shared=not stream and is_shared(program if isinstance(program, str) else ""),
        stream=f"journald {stream}" if isinstance(stream, str) and stream else "",
        partial=message.get("CONTAINER_PARTIAL_MESSAGE") == "true",
    )


def _json_file(message: Object) -> Wrapped | None:
    """The log of a container as the engine writes it."""
    log, stream = message.get("log"), message.get("stream")
    if not isinstance(log, str) or not isinstance(stream, str) or not message.keys() <= _JSON_FILE:
        return None
    partial = not log.endswith("\n") and len(log.encode("utf-8", "surrogatepass")) >= _SPLIT_AT
    return Wrapped([log], stream=f"docker {stream[:64]}", partial=partial)


def _fluent_bit(message: Object) -> Wrapped | None:
    log = message.get("log")
    return Wrapped([log]) if isinstance(log, str) else None


def _cloud_event(message: Object) -> Wrapped | None:
    if "specversion" not in message:
        return None
    encoded = message.get("data_base64")
    if isinstance(encoded, str):
        try:
            return Wrapped([base64.b64decode(encoded, validate=True).decode("utf-8")])
        except (binascii.Error, ValueError):
            return Wrapped([None])
    return Wrapped([message["data"]]) if "data" in message else None


def _loki(message: Object) -> Wrapped | None:
    streams, line = message.get("streams"), message.get("line")
    data = message.get("data")
    if isinstance(data, dict) and data.get("resultType") == "streams":  # the answer to a query
        streams = data.get("result")
    if isinstance(streams, list):
        return Wrapped([content for stream in streams for content in _values(stream)])
    return Wrapped([line]) if isinstance(line, str) and "timestamp" in message else None


def _values(stream: t.Any) -> t.Iterator[t.Any]:
    values = stream.get("values") if isinstance(stream, dict) else None
    for value in values if isinstance(values, list) else ():
        yield value[1] if isinstance(value, list) and len(value) > 1 else None


def _splunk(message: Object) -> Wrapped | None:
    return Wrapped([message["event"]]) if "event" in message and message.keys() <= _HEC else None


def _shipper(message: Object) -> Wrapped | None:
    """Vector, Filebeat and others."""
    content = message.get("message")
    if not isinstance(content, (str, dict)) or (
        "severity" in message and isinstance(content, str) and "{" not in content
    ):
        return None
    program = next((message[key] for key in _PROGRAM if isinstance(message.get(key), str)), "")
    return Wrapped([content], shared=bool(program) and is_shared(program))


def _elastic(message: Object) -> Wrapped | None:
    source = message.get("_source")
    return Wrapped([source]) if isinstance(source, dict) else None


_WRAPPERS = (_journald, _json_file, _cloud_event, _loki, _splunk, _shipper, _fluent_bit, _elastic)


def _text(content: t.Any) -> t.Any:
    """The text of an array of bytes, as journald writes what is not printable; anything else as it is."""
    if isinstance(content, list):
        try:
            return bytes(content).decode("utf-8", "replace")
        except (TypeError, ValueError):
            return None
    return content
