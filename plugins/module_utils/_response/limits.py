# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cooldown and limits: what the guard remembers of what it did, so that it does not do too much by itself.

Kept on disk, as modules live for one batch of alerts only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._files import write_atomically
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.errors import LimitsError

MAX_REMEMBERED = 10_000
"""Most cooldowns, and most isolations of a window, that are remembered."""


class Admission(t.NamedTuple):
    """Leave to act, or the reason why not.

    Attributes:
        outcome: C(isolate), C(cooldown) or C(limit).
        reason: why not; empty for C(isolate).
    """

    outcome: str
    reason: str = ""


class Limiter:
    """Grants and remembers isolations of one host.

    Args:
        state_dir: where it remembers, in C(limits.json).
        limits: of the policy set.
        clock: seconds since the epoch.
    """

    def __init__(self, state_dir: str, limits: Limits, clock: t.Callable[[], float] = time.time) -> None:
        self._directory = state_dir
        self._path = os.path.join(state_dir, "limits.json")
        self._limits = limits
        self._clock = clock

    def admit(self, wishes: t.Sequence[tuple[Policy, str]], check: bool = False) -> list[Admission]:
        """Leave for each policy to act on the container with that full id, in order. Raises LimitsError.

        What is granted counts at once, so that runs at the same time do not exceed a limit together.
        """
        if not wishes or not (self._limits.max_isolations or any(policy.cooldown for policy, _id in wishes)):
            return [Admission("isolate")] * len(wishes)
        with self._memory(check) as memory:
            return [self._admit_one(memory, policy, container_id) for policy, container_id in wishes]

    def give_back(self, unused: t.Sequence[tuple[Policy, str]], check: bool = False) -> None:
        """Forget grants that led to nothing: it was isolated already, or could not be. Raises LimitsError."""
        if not unused or check or not os.path.exists(self._path):
            return
        with self._memory(check) as memory:
            for policy, container_id in unused:
                key = _key(policy, container_id)
                # The newest is the grant; an older one led to the isolation that holds.
                grants = [index for index, entry in enumerate(memory["isolations"]) if entry[1] == key]
                if grants:
                    del memory["isolations"][grants[-1]]
                memory["cooldowns"].pop(key, None)

    def _admit_one(self, memory: dict[str, t.Any], policy: Policy, container_id: str) -> Admission:
        now, key, limits = self._clock(), _key(policy, container_id), self._limits
        until = memory["cooldowns"].get(key, 0)
        # A clock that was set back must not silence a policy for longer than its cooldown.
        if now < until <= now + policy.cooldown:
            return Admission("cooldown", f"policy {policy.id} acted on it less than {policy.cooldown} seconds ago")
        if limits.max_isolations:
            # Containers count, not attempts; what a clock that was set back puts into the future counts as now.
            recent = {key.rpartition(" ")[2] for at, key in memory["isolations"] if abs(now - at) < limits.window}
            others = len(recent - {container_id})
            if others >= limits.max_isolations:
                return Admission(
                    "limit",
                    f"{others} containers were isolated on this host within {limits.window} seconds, "
                    f"of at most {limits.max_isolations}",
                )
            memory["isolations"] = [*memory["isolations"], [now, key]][-MAX_REMEMBERED:]
        if policy.cooldown:
            memory["cooldowns"][key] = now + policy.cooldown
        return Admission("isolate")

    @contextlib.contextmanager
    def _memory(self, check: bool) -> t.Iterator[dict[str, t.Any]]:
        try:
            if check:
                yield self._load()
                return
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                memory = self._load()
                yield memory
                write_atomically(self._path, json.dumps(self._bounded(memory)), 0o600)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise LimitsError(
                f"cannot use {self._path}: {error.strerror}",
                remedy="Nothing was changed. Check state_dir, its owner and free space",
            ) from error

    def _load(self) -> dict[str, t.Any]:
        try:
            with open(self._path, encoding="utf-8") as file:
                memory = json.load(file)
            return {
                "isolations": [[float(at), str(key)] for at, key in memory["isolations"]],
                "cooldowns": {str(key): float(until) for key, until in memory["cooldowns"].items()},
            }
        except FileNotFoundError:
            return {"isolations": [], "cooldowns": {}}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LimitsError(
                f"{self._path} is damaged ({error!r})",
                remedy="Nothing was changed. Delete it to forget what was done before",
            ) from error

    def _bounded(self, memory: dict[str, t.Any]) -> dict[str, t.Any]:
        now = self._clock()
        cooldowns = sorted((until, key) for key, until in memory["cooldowns"].items() if until > now)
        return {
            "isolations": [entry for entry in memory["isolations"] if entry[0] > now - 86_400],
            "cooldowns": {key: until for until, key in cooldowns[-MAX_REMEMBERED:]},
        }


def _key(policy: Policy, container_id: str) -> str:
    return f"{policy.id} {container_id}"
