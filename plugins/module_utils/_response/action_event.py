# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ActionEvent: one attempt to act, and its true outcome."""

from __future__ import annotations

import dataclasses
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import in_check_mode


def approval_of(claim: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """What the claim waits for somebody to approve of, or waited for, as records show it; None where it is nothing.

    Args:
        claim: as outcomes show it.
    """
    return {**claim["approval"], "policy_id": claim["policy_id"]} if claim["approval"] else None


def approval_in(claims: t.Iterable[t.Mapping[str, t.Any]], policy_id: str) -> dict[str, t.Any] | None:
    """The same of the claim of a policy.

    Args:
        claims: who wants the container held, as outcomes show it.
        policy_id: of the policy.
    """
    of_policy = (approval_of(claim) for claim in claims if claim["policy_id"] == policy_id)
    return next(filter(None, of_policy), None)


@dataclasses.dataclass(frozen=True)
class ActionEvent:
    """One record of the action log.

    Attributes:
        outcome: what came of it, as docs/outcomes.md names it; in check mode what would come of it (C(would_isolate)).
        trace_id, alert_id: of the alert, or of the person's request.
        policy_id: the policy that asked for it, or empty for a person's request.
        source, rule: the detector and its rule, or empty for a person's request.
        actor: who asked for it, as he says: text for people. Empty where nobody said.
        host: inventory name.
        container: id, name and image, or None.
        actions: what was asked for.
        changed: something was changed.
        steps: what was done.
        before, after: the state of the container, or empty.
        error: kind, message and remedy, or None.
        warnings: what the reader should know although it worked.
        reasons: why, for people.
        timeline: C(accepted), C(decided), C(acted) and C(verified), RFC 3339, as far as they were reached.
        evidence: of a record about evidence: id and directory of the case, SHA-256 of its manifest, and the id of the
            event that it was collected for. Otherwise None.
        approval: of an isolation that waits for somebody to decide, or was decided on: C(action) that is wanted,
            C(policy_id) that wants it, C(until) when it can be approved of, C(decision), C(actor) and C(decided_at);
            the last three are empty until then. Otherwise None.
        repeat_of: id of the event that acted for another alert of the same batch on the same container, or of the one
            that was recorded in full where this one counts what followed it, or empty.
        count: for how many alerts it stands. More than one in the record that follows the first one of many that are
            alike, with the ids of the last of them, and C(first) and C(last) in the timeline.
        intended: id of the line of the action log that was written before acting, or empty.
        id: of this record.
        time: when it was made.
    """

    outcome: str
    trace_id: str = ""
    alert_id: str = ""
    policy_id: str = ""
    source: str = ""
    rule: str = ""
    actor: str = ""
    host: str = ""
    container: t.Mapping[str, t.Any] | None = None
    actions: tuple[t.Mapping[str, t.Any], ...] = ()
    changed: bool = False
    steps: tuple[t.Mapping[str, t.Any], ...] = ()
    before: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    after: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    error: t.Mapping[str, t.Any] | None = None
    warnings: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    timeline: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    evidence: t.Mapping[str, str] | None = None
    approval: t.Mapping[str, t.Any] | None = None
    repeat_of: str = ""
    count: int = 1
    intended: str = ""
    id: str = dataclasses.field(default_factory=lambda: str(uuid.uuid4()))
    time: str = dataclasses.field(default_factory=now)

    def with_outcome(self, outcome: Outcome, check: bool = False) -> ActionEvent:
        """The event, completed with what came of the attempt, or in check mode would come of it."""
        found = outcome.to_dict()
        timeline = {"acted": outcome.acted_at, "verified": outcome.verified_at}
        return dataclasses.replace(
            self,
            outcome=in_check_mode(outcome.outcome) if check else outcome.outcome,
            changed=outcome.changed,
            steps=tuple(found["steps"]),
            before=found["before"],
            after=found["after"],
            error=found["error"],
            warnings=(*self.warnings, *found["warnings"]),
            timeline={**self.timeline, **{name: moment for name, moment in timeline.items() if moment}},
        )

    def with_error(self, error: GuardError) -> ActionEvent:
        """The event of an attempt that ended before anything was touched."""
        return dataclasses.replace(self, outcome="failed", error=error.to_dict())

    def to_dict(self) -> dict[str, t.Any]:
        """The event as modules return it and the action log keeps it."""
        found = dataclasses.asdict(self)
        for name in ("actions", "steps", "warnings", "reasons"):
            found[name] = list(found[name])
        return found
