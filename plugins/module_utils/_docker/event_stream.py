# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events in an answer that does not end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EVENTS, Pieces
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
)

LONGEST_EVENT = 1024 * 1024
"""Bytes of a line. An event holds all labels of its container; what is longer is no event."""

Event = t.Dict[str, t.Any]


class DecodedEvents:
    """An EventStream.

    Args:
        answer: the answer, to close it.
        pieces: what it is made of, as it comes: lines of JSON. They raise EngineError.
        docker_host: where it comes from, for errors.
    """

    def __init__(self, answer: t.Any, pieces: Pieces, docker_host: str) -> None:
        self._answer = answer
        self._pieces = pieces
        self._docker_host = docker_host
        self._events = self._decode()
        self._closed = threading.Event()
        self._reading = threading.Lock()
        # A second handle of the connection, because the first belongs to whoever reads.
        self._socket = socket.socket(fileno=os.dup(answer.raw.fileno()))

    def __iter__(self) -> t.Iterator[Event]:
        return self

    def __next__(self) -> Event:
        with self._reading:
            if self._closed.is_set():
                raise StopIteration
            try:
                return next(self._events)
            except EngineError:
                if self._closed.is_set():
                    raise StopIteration from None
                raise

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        with contextlib.suppress(OSError):  # the engine may have closed it before
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._reading:  # which a thread that waits for an event gives up now
            self._pieces.close()
            self._answer.close()
            self._socket.close()

    def _decode(self) -> t.Iterator[Event]:
        rest = b""
        try:
            for piece in self._pieces:
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > LONGEST_EVENT:
                    raise self._garbled("a line without an end")
                for line in lines:
                    event = self._event_in(line) if line.strip() else None
                    if event is not None:
                        yield event
        except EngineTimeout:
            return  # silence
        # Half a line is dropped: who follows events asks for all containers after a break.
        raise EngineUnreachable(
            f"the Docker engine at {self._docker_host} ended the stream of events",
            remedy="Check that dockerd runs; its containers run on meanwhile",
        )

    def _event_in(self, line: bytes) -> Event | None:
        """The event, or None where nobody asked for it: the engine ignores filters that it does not know (measured)."""
        try:
            event = json.loads(line)
            wanted = event["Action"] in EVENTS.get(event["Type"], ())
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise self._garbled(f"no event: {type(error).__name__}") from error
        return event if wanted else None

    def _garbled(self, what: str) -> EngineUnreachable:
        return EngineUnreachable(
            f"what answers at {self._docker_host} does not speak as a Docker engine does ({what})",
            remedy="Check that docker_host names the socket of dockerd",
        )
