# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The limit of isolations: what the guard remembers of what it did, so that it does not do too much by itself.

Containers that were isolated count. Who is about to isolate one reserves a place, and takes it or gives it back, so
that runs at the same time do not exceed the limit together. Memory that is damaged, or that cannot be written, keeps
nothing from being isolated: it is begun anew, and that is told.
"""

from __future__ import annotations

import contextlib
import json
import time
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import LIMIT
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir, StateDirError

MAX_REMEMBERED = 10_000
"""Most isolations, and most reservations, that are remembered."""
RESERVED_FOR = 600
"""Seconds for which a run that was killed keeps a place from others at most."""
NAME = "limits.json"
_LOCK = "limits"
_LOCK_TIMEOUT = 10
_DAMAGED = "limits.damaged-"
_DAMAGED_KEPT = 3


class Admission(t.NamedTuple):
    """Leave to act, or the reason why not.

    Attributes:
        outcome: C(isolate) or C(limit).
        reason: why not; empty for C(isolate).
    """

    outcome: str
    reason: str = ""


ADMITTED = Admission("isolate")


class _Memory(t.NamedTuple):
    """What is remembered: isolations as [time, container id], reservations as [time, run, container id]."""

    isolations: list[tuple[float, str]]
    reserved: list[tuple[float, str, str]]


class Limiter:
    """Grants and remembers isolations of one host, for one run.

    Args:
        files: where it remembers; whose C(warnings) say what did not work.
        limits: of the policy set.
        clock: seconds since the epoch.
    """

    def __init__(self, files: StateDir, limits: Limits, clock: t.Callable[[], float] = time.time) -> None:
        self._files = files
        self._limits = limits
        self._clock = clock
        self._run = uuid.uuid4().hex[:12]

    def admit(self, container_ids: t.Sequence[str], check: bool = False) -> list[Admission]:
        """Leave to isolate each container with that full id, in order. What is granted has a place until it is settled.

        Args:
            container_ids: of those that are to be isolated, and are not held already.
            check: reserve nothing.
        """
        if not container_ids or not self._limits.max_isolations:
            return [ADMITTED] * len(container_ids)
        with self._memory(check) as memory:
            return [self._admit_one(memory, container_id) for container_id in container_ids]

    def settle(self, isolated: t.Collection[str], check: bool = False) -> None:
        """Count those that were isolated, and give back all else that was granted to this run."""
        if check or not self._limits.max_isolations:
            return
        with self._memory(check) as memory:
            now = self._clock()
            memory.isolations.extend((now, container_id) for container_id in isolated)
            memory.reserved[:] = [entry for entry in memory.reserved if entry[1] != self._run]

    def _admit_one(self, memory: _Memory, container_id: str) -> Admission:
        now, limits = self._clock(), self._limits
        # What a clock that was set back puts into the future counts as now.
        isolated = {other for at, other in memory.isolations if abs(now - at) < limits.window} - {container_id}
        begun = {other for at, _run, other in memory.reserved if abs(now - at) < RESERVED_FOR}
        begun -= {*isolated, container_id}
        if len(isolated) + len(begun) >= limits.max_isolations:
            also = f", {len(begun)} more are being isolated" if begun else ""
            return Admission(
                LIMIT,
                f"{len(isolated)} containers were isolated on this host within {limits.window} seconds{also}, "
                f"of at most {limits.max_isolations}",
            )
        memory.reserved.append((now, self._run, container_id))
        return ADMITTED

    @contextlib.contextmanager
    def _memory(self, check: bool) -> t.Iterator[_Memory]:
        """What is remembered, to be changed; never an error."""
        with contextlib.ExitStack() as held:
            if not check:
                try:
                    held.enter_context(self._files.lock(_LOCK, _LOCK_TIMEOUT))
                except StateDirError as error:
                    self._warn(error)
            memory = self._load(check)
            yield memory
            if not check:
                try:
                    self._files.write(NAME, json.dumps(self._bounded(memory)))
                except StateDirError as error:
                    self._warn(error)

    def _load(self, check: bool) -> _Memory:
        try:
            content = self._files.read(NAME)
        except StateDirError as error:
            self._warn(error)
            return _Memory([], [])
        if content is None:
            return _Memory([], [])
        try:
            return _parsed(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = "" if check else self._set_aside(content)
            self._files.warnings.append(f"{NAME} is damaged ({error!r}): the limit counts anew{aside}")
            return _Memory([], [])

    def _set_aside(self, content: bytes) -> str:
        name = f"{_DAMAGED}{int(self._clock()):012d}"
        try:
            if content:
                self._files.write(name, content)
            older = [other for other in self._files.names() if other.startswith(_DAMAGED)]
            for other in older[:-_DAMAGED_KEPT]:
                self._files.remove(other)
        except StateDirError as error:
            return f". {error}"
        return f", and it is kept as {name}" if content else ""

    def _warn(self, error: StateDirError) -> None:
        warning = f"the limit counts what this run isolates only: {error}"
        if warning not in self._files.warnings:
            self._files.warnings.append(warning)

    def _bounded(self, memory: _Memory) -> dict[str, t.Any]:
        now = self._clock()
        isolations = [entry for entry in memory.isolations if entry[0] > now - 86_400]
        reserved = [entry for entry in memory.reserved if abs(now - entry[0]) < RESERVED_FOR]
        return {"isolations": isolations[-MAX_REMEMBERED:], "reserved": reserved[-MAX_REMEMBERED:]}


def _parsed(content: bytes) -> _Memory:
    memory = json.loads(content)
    return _Memory(
        # Earlier versions wrote the policy before the id.
        isolations=[(float(at), str(key).rpartition(" ")[2]) for at, key in memory["isolations"]],
        reserved=[(float(at), str(run), str(key)) for at, run, key in memory.get("reserved", ())],
    )
