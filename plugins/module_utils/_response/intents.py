# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Intents: what is about to be done is on record before it is done, and what was cut short gets its end on record."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import UNSTATED, Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.walk import Walk
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import UNKNOWN
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.errors import ActionLogError


class Intents:
    """The attempts of one run.

    Args:
        log: the action log of the host.
        warnings: takes what did not work.

    Attributes:
        declared: ids of those that are on record, as far as the log could be written.
        ends: of earlier runs that were cut short; to be recorded.
    """

    def __init__(self, log: ActionLog, warnings: list[str]) -> None:
        self._log = log
        self._warnings = warnings
        self.declared: set[str] = set()
        self.ends: list[ActionEvent] = []

    def declare(self, attempts: t.Iterable[tuple[Walk, ActionEvent]]) -> None:
        """Put on record what has begun to act, each attempt once.

        A pause does not wait for that: a run that is killed before is found by what the journal says.

        Args:
            attempts: begun, and what is to become their records, with C(intended).
        """
        begun = [(walk, event) for walk, event in attempts if event.intended not in self.declared]
        found = {walk.interrupted.snapshot.id: walk.interrupted for walk, _event in begun if walk.interrupted}
        if found:
            self.ends.extend(self._ends_of(found, begun[0][1]))
        acting = [event for walk, event in begun if walk.acts]
        self._log.intend(acting)
        self.declared.update(event.intended for event in acting)

    def _ends_of(self, found: t.Mapping[str, Entry], own: ActionEvent) -> list[ActionEvent]:
        """The records of attempts on these containers of which no end is on record."""
        causes: dict[str, tuple[Entry | None, Cause]] = {
            claim.cause.intended: (entry, claim.cause)
            for entry in found.values()
            for claim in entry.claims
            if claim.cause.intended
        }
        try:
            unfinished = self._log.unfinished(found, set(causes))
        except ActionLogError as error:
            self._warnings.append(f"whether earlier runs were cut short is not known: {error.message}")
            return []
        nobody: tuple[Entry | None, Cause] = (None, UNSTATED)
        return [
            _end(record, *causes.get(record["id"], nobody), own.host)
            for record in unfinished
            if record["id"] not in self.declared
        ]


def _end(record: t.Mapping[str, t.Any], entry: Entry | None, cause: Cause, host: str) -> ActionEvent:
    error = GuardError(
        "no end of this attempt was on record when another run found the container: it was cut short, or "
        "its run goes on with other containers",
        kind="interrupted",
        remedy="See the records of the container that follow",
    )
    container = {"id": entry.snapshot.id, "name": entry.snapshot.name, "image": ""} if entry else None
    said: dict[str, t.Any] = {
        "trace_id": cause.trace_id,
        "alert_id": cause.alert_id,
        "policy_id": cause.policy_id,
        "actor": cause.actor,
        "host": host,
        "container": container,
        "actions": (),
        **{name: value for name, value in record.items() if name in _OF_THE_LINE},
    }
    return ActionEvent(UNKNOWN, intended=record["id"], error=error.to_dict(), **said)


_OF_THE_LINE = ("trace_id", "alert_id", "policy_id", "actor", "host", "container", "actions")
