# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps an inventory right by the event stream. For processes that live long: modules list once, and need it not.

An event only says where to look; what is there is read from the engine. So an event that comes late, twice, or from
before the list cannot undo what is known, and nothing has to be remembered but which events of a replay were seen.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine, EventStream
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import MAX_DELAY, backoff
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

SHORTEST_DELAY = 0.5
"""Seconds from a break to the next attempt: half of it at least, and twice as long after each failure."""
OVERLAP = 2 * 10**9
"""Nanoseconds before the last event from which on events are asked for again.

Events of one moment are not strictly in order, and the list is behind the last of them.
"""
_REMEMBERED = 1024

Event = t.Dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class WatchState:
    """How a watch goes.

    Attributes:
        connected_since: since when events are followed and the inventory is in step with them; empty while not.
        reconnects: how often the events were followed again after a break.
        renewals: how often they were followed anew without a break.
        last_error: why they were not followed the last time that they were not, or None.
        callback_errors: how often the callback raised.
        last_callback_error: what it raised last, or None.
    """

    connected_since: str = ""
    reconnects: int = 0
    renewals: int = 0
    last_error: GuardError | None = None
    callback_errors: int = 0
    last_callback_error: Exception | None = None


class Watcher:
    """Follows the events of an engine in a thread of its own. Use it as a context manager, or start() and stop() it.

    A silent stream may be that of a host where nothing happens, of an engine that is frozen, or of a network that is
    gone; and there are changes that the engine does not tell (a stopped container is connected, a restarting one is
    killed: measured). So the stream is renewed when it was silent for as long as a list is believed, and when it is as
    old as that: followed anew, and listed. A frozen engine is noticed then, as it does not answer.

    Args:
        inventory: what to keep right.
        engine: its engine.
        on_event: called in the watcher's thread with each event, once the inventory knows of it. Events of the last
            seconds before the start come too, and after a break those that the engine still has. It must be quick, as
            the engine drops events for who does not take them. What it raises is counted.
        shortest_delay: seconds before the first new attempt after a break.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        inventory: Inventory,
        engine: Engine,
        on_event: t.Callable[[Event], object] | None = None,
        shortest_delay: float = SHORTEST_DELAY,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._inventory = inventory
        self._engine = engine
        self._on_event = on_event
        self._shortest_delay = shortest_delay
        self._clock = clock
        self._lock = threading.Lock()
        self._state = WatchState()
        self._stream: EventStream | None = None
        self._stopping = threading.Event()
        self._in_step = threading.Event()
        self._was_in_step = False
        self._latest: int | None = None
        self._seen: collections.OrderedDict[tuple[t.Any, ...], None] = collections.OrderedDict()
        # A daemon, so that a call that a frozen engine does not answer keeps no process from ending.
        self._thread = threading.Thread(target=self._run, name="container-guard-watcher", daemon=True)

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin. It cannot be begun twice."""
        self._thread.start()

    def stop(self, timeout: float = 5) -> bool:
        """End, and say whether the thread has ended within so many seconds; else it does once its call is answered."""
        with self._lock:
            self._stopping.set()
            stream = self._stream
        self._inventory.follow(False)
        if stream:
            stream.close()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def state(self) -> WatchState:
        """How the watch goes."""
        with self._lock:
            return self._state

    def wait_in_step(self, timeout: float | None = None) -> bool:
        """Wait until events are followed and the inventory is right, and say whether that is so."""
        return self._in_step.wait(timeout)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = self._clock()
            try:
                self._watch()
            except Exception as error:  # a defect must not leave an inventory that is believed and no longer kept right
                if not self._stopping.is_set():
                    self._lost(error)
            # A peer that takes every connection and breaks it off must not be asked without a pause.
            failures = 1 if self._clock() - begun > MAX_DELAY else failures + 1
            self._stopping.wait(backoff(self._shortest_delay, failures - 1))
        self._out_of_step()

    def _watch(self) -> None:
        """Follow the events until told to stop. Raises where they cannot be followed."""
        while True:
            # First the stream, then the list: what changes in between is in the stream.
            with contextlib.closing(self._follow()) as stream:
                if self._stopping.is_set():
                    return
                self._inventory.refresh()
                self._got_in_step()
                renewal = self._clock() + self._inventory.ttl
                for event in stream:
                    key = (event.get("timeNano"), event["Type"], event["Action"], *_subjects(event))
                    if key not in self._seen:
                        self._keep_right(event)
                        self._tell(event)
                        self._remember(key)
                    if self._clock() > renewal:
                        break
            if self._stopping.is_set():
                return

    def _follow(self) -> EventStream:
        latest = time.time_ns() if self._latest is None else self._latest
        stream = self._engine.events(latest - OVERLAP, silence=self._inventory.ttl)
        with self._lock:
            self._stream = stream
            if not self._stopping.is_set():
                return stream
        stream.close()  # nobody else would: stop() came before there was one
        return stream

    def _keep_right(self, event: Event) -> None:
        container_id = _subjects(event)[event["Type"] == "network"]
        if event["Type"] == "image" or not container_id:
            self._inventory.refresh()
            return
        self._inventory.changed(container_id)

    def _remember(self, key: tuple[t.Any, ...]) -> None:
        """The event was handled: a replay need not bring it again."""
        self._latest = key[0] or self._latest
        self._seen[key] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:  # whatever it is, the inventory must be kept right
            with self._lock:
                count = self._state.callback_errors + 1
                self._state = dataclasses.replace(self._state, callback_errors=count, last_callback_error=error)

    def _got_in_step(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            state = self._state
            if state.connected_since:
                self._state = dataclasses.replace(state, renewals=state.renewals + 1)
            else:
                self._state = dataclasses.replace(
                    state, connected_since=timestamp.now(), reconnects=state.reconnects + self._was_in_step
                )
                self._was_in_step = True
            self._inventory.follow(True)
            self._in_step.set()

    def _lost(self, error: Exception) -> None:
        self._out_of_step()
        if not isinstance(error, GuardError):
            error = GuardError(f"internal error: {error!r}", kind="internal_error")
        with self._lock:
            self._state = dataclasses.replace(self._state, last_error=error)

    def _out_of_step(self) -> None:
        with self._lock:
            self._inventory.follow(False)
            self._in_step.clear()
            self._state = dataclasses.replace(self._state, connected_since="")


def _subjects(event: Event) -> tuple[str, str]:
    """What the event is about: its id, and that of the container where it is about a network."""
    actor = event.get("Actor") or {}
    return actor.get("ID") or "", (actor.get("Attributes") or {}).get("container") or ""
