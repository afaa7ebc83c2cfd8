# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What came of an attempt to isolate or release a container."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import is_green

T = t.TypeVar("T")
DONE, PLANNED, SKIPPED, FAILED_STEP, UNANSWERED = "done", "planned", "skipped", "failed", "unknown"


@dataclasses.dataclass(frozen=True)
class StepResult:
    """One step, as it went.

    Attributes:
        action: what was done.
        detail: on what.
        status: C(done), C(planned) (check mode), C(failed), C(skipped), or C(unknown) where the engine did not answer.
        duration: milliseconds.
        message: what the engine said, where it was not done.
    """

    action: str
    detail: str
    status: str
    duration: float = 0.0
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The truth about one container, as read back from the engine.

    Attributes:
        outcome: one of _outcomes. C(isolated), C(held) and C(released) were verified. C(failed): it is not so.
            C(unknown): answers of the engine exclude each other, or it no longer answers. C(refused): nothing was
            touched. C(would_isolate), C(would_release): of check mode.
        changed: something was changed on the container or in the journal (in check mode: would be).
        container_id, container_name: of the container.
        steps: what was done, in order.
        before, after: what people compare; after is empty where it could not be read back.
        error: kind, message and remedy, where the outcome is not what was asked for.
        warnings: what the reader should know although it worked.
        not_restored: what the engine chose anew on release: what, before, after.
        conflicts: what somebody else changed meanwhile, and a release left as it is: what, before, found.
        sessions_may_resume: open TCP sessions of before may go on, with what was queued in them.
        unsupported: actions of steps that this engine can never do, where the outcome is not what was asked for.
        claims: who wants it held now: kind, subject, what, since and expires_at of each.
        orchestrator: the labels by which compose or swarm know the container; they may start or replace it.
        expires_at: when the isolation is to end, or empty.
        started_at, acted_at, verified_at: RFC 3339; acted_at is when the last step returned, or empty.
    """

    outcome: str
    changed: bool
    container_id: str
    container_name: str
    before: t.Mapping[str, t.Any]
    after: t.Mapping[str, t.Any]
    steps: tuple[StepResult, ...] = ()
    error: t.Mapping[str, t.Any] | None = None
    warnings: tuple[str, ...] = ()
    not_restored: tuple[t.Mapping[str, str], ...] = ()
    conflicts: tuple[t.Mapping[str, str], ...] = ()
    sessions_may_resume: bool = False
    unsupported: tuple[str, ...] = ()
    claims: tuple[t.Mapping[str, t.Any], ...] = ()
    orchestrator: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    expires_at: str = ""
    started_at: str = ""
    acted_at: str = ""
    verified_at: str = ""

    @property
    def ok(self) -> bool:
        """Whether what was asked for is so, or would be."""
        return self.error is None and is_green(self.outcome)

    def to_dict(self) -> dict[str, t.Any]:
        """The outcome as modules return it. It is inert: whoever makes networks and containers chooses their names."""
        return inert(self._content())

    def _content(self) -> dict[str, t.Any]:
        return {
            "outcome": self.outcome,
            "changed": self.changed,
            "container": {"id": self.container_id, "name": self.container_name},
            "before": dict(self.before),
            "after": dict(self.after),
            "steps": [dataclasses.asdict(step) for step in self.steps],
            "error": dict(self.error) if self.error else None,
            "warnings": list(self.warnings),
            "not_restored": [dict(difference) for difference in self.not_restored],
            "conflicts": [dict(conflict) for conflict in self.conflicts],
            "sessions_may_resume": self.sessions_may_resume,
            "unsupported": list(self.unsupported),
            "claims": [dict(claim) for claim in self.claims],
            "orchestrator": dict(self.orchestrator),
            "expires_at": self.expires_at,
            "started_at": self.started_at,
            "acted_at": self.acted_at,
            "verified_at": self.verified_at,
        }


def inert(value: T) -> T:
    """The same with every text in it inert, keys too."""
    found: t.Any = value
    if isinstance(value, str):
        found = text.inert(value)
    elif isinstance(value, dict):
        found = {inert(key): inert(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        found = [inert(item) for item in value]
    return t.cast(T, found)
