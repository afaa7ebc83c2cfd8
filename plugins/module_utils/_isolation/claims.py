# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims: who wants a container held, how, and until when.

What holds a container is the sum of its claims. Without any it is to be as before. Isolating adds a claim or refreshes
one, a release and an end of time take claims away, and nobody changes what another one asked for.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import (
    format_timestamp,
    parse_timestamp,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import NOTHING, Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action

PERSON, POLICY, SHARER = "person", "policy", "sharer"
APPROVED, REFUSED = "approved", "refused"


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a container is isolated, or released: texts that are inert, or empty.

    Attributes:
        reason: for people.
        trace_id: of the alert, or of the person's request.
        alert_id: of the alert.
        policy_id: the policy that asked for it.
        actor: who it was, as claimed: a user, the rulebook, a timer.
        intended: id of the line of the action log that says that it was about to be done.
    """

    reason: str = ""
    trace_id: str = ""
    alert_id: str = ""
    policy_id: str = ""
    actor: str = ""
    intended: str = ""


UNSTATED = Cause()


@dataclasses.dataclass(frozen=True)
class Approval:
    """An end of the container that is wanted, and waits for a person to decide.

    Attributes:
        action: C(stop) or C(kill).
        until: when the wish for it lapses, RFC 3339. What holds the container meanwhile does not end then.
        grace: of C(stop), seconds.
        trace_id: of the alert that it was wanted for.
        decision: C(approved) or C(refused), or empty.
        actor: who decided, as claimed.
        decided_at: when, RFC 3339, or empty.
    """

    action: str
    until: str
    grace: int = 0
    trace_id: str = ""
    decision: str = ""
    actor: str = ""
    decided_at: str = ""

    @classmethod
    def of(cls, actions: t.Iterable[Action], cause: Cause, moment: datetime.datetime) -> Approval | None:
        """What of the actions waits for approval from that moment on, or None."""
        waiting = next((action for action in actions if action.approval), None)
        if waiting is None:
            return None
        grace = waiting.grace if waiting.type == "stop" else 0
        return cls(waiting.type, _end(moment, waiting.approval_timeout), grace, cause.trace_id)

    @property
    def goal(self) -> Goal:
        """What would be held up."""
        return Goal(stop=self.action == "stop", kill=self.action == "kill", grace=self.grace)

    def lapsed(self, moment: datetime.datetime) -> bool:
        """Whether it can be approved of no longer."""
        until = parse_timestamp(self.until)
        return until is None or until <= moment

    def is_open(self, moment: datetime.datetime) -> bool:
        """Whether it waits."""
        return not self.decision and not self.lapsed(moment)

    def decided(self, decision: str, actor: str, moment: datetime.datetime) -> Approval:
        """The same, once somebody decided."""
        return dataclasses.replace(self, decision=decision, actor=actor, decided_at=format_timestamp(moment))


@dataclasses.dataclass(frozen=True)
class Claim:
    """Somebody who wants a container held.

    Attributes:
        kind: C(person), C(policy), or C(sharer): an isolated container that uses its network.
        subject: id of the policy or of the sharer; empty for a person.
        goal: what it wants held up.
        cause: why, by the first request of this kind and subject.
        since: when that was, RFC 3339.
        release_after: seconds after which it was asked to end; 0 for never.
        expires_at: when it ends, RFC 3339, or empty.
        approval: what it wants beyond the goal, and waits for somebody to decide on, or that was decided on. None for
            most.
    """

    kind: str
    goal: Goal
    subject: str = ""
    cause: Cause = UNSTATED
    since: str = ""
    release_after: int = 0
    expires_at: str = ""
    approval: Approval | None = None

    @classmethod
    def of(
        cls,
        goal: Goal,
        cause: Cause,
        moment: datetime.datetime,
        release_after: int = 0,
        approval: Approval | None = None,
    ) -> Claim:
        """The claim of the policy that the cause names, or of a person."""
        return cls(
            kind=POLICY if cause.policy_id else PERSON,
            subject=cause.policy_id,
            goal=goal,
            cause=cause,
            since=format_timestamp(moment),
            release_after=release_after,
            expires_at=_end(moment, release_after),
            approval=approval,
        )

    @property
    def key(self) -> tuple[str, str]:
        """Who claims. There is one claim of each."""
        return self.kind, self.subject

    def expired(self, moment: datetime.datetime) -> bool:
        """Whether it was to end by then."""
        expiry = parse_timestamp(self.expires_at)
        return expiry is not None and expiry <= moment

    def refreshed(self, newer: Claim, moment: datetime.datetime) -> Claim:
        """This claim once it was asked for again. Raises Refused where both goals exclude each other.

        Of several ends the last one holds, and never is later than any. What was asked for already does not count
        again, so that a second run changes nothing; a claim that was over begins anew. What a person has decided stays
        decided while the claim lasts; what nobody decided on in time is wanted anew.
        """
        goal = self.goal.joined(newer.goal)
        if self.expired(moment):
            return dataclasses.replace(
                newer, goal=goal, cause=self.cause, since=self.since, approval=self._approval_with(newer, moment)
            )
        joined = dataclasses.replace(self, goal=goal, approval=self._approval_with(newer, moment))
        if not self.expires_at or (newer.release_after and newer.release_after <= self.release_after):
            return joined
        ends = max(self.expires_at, newer.expires_at) if newer.release_after else ""
        return dataclasses.replace(joined, release_after=newer.release_after, expires_at=ends)

    def _approval_with(self, newer: Claim, moment: datetime.datetime) -> Approval | None:
        mine = self.approval
        if newer.approval is None or (mine and (mine.decision or mine.is_open(moment))):
            return mine
        return newer.approval

    def covers(self, newer: Claim, moment: datetime.datetime) -> bool:
        """Whether it holds up all that a newer request of the same one asks for, and as long."""
        try:
            return self.key == newer.key and self.refreshed(newer, moment) == self
        except Refused:
            return False

    def renewed(self, moment: datetime.datetime) -> Claim:
        """The same on another container: the time after which it ends counts anew.

        Who approved of the end of a container knew that one. What he approved of waits again.
        """
        goal, approval = self.goal, self.approval
        if approval and approval.decision == APPROVED:
            goal = goal.without([approval.action])
            approval = dataclasses.replace(approval, decision="", actor="", decided_at="")
        ends = _end(moment, self.release_after)
        return dataclasses.replace(self, goal=goal, approval=approval, since=format_timestamp(moment), expires_at=ends)

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Claim:
        """What dataclasses.asdict made of a claim. Raises KeyError or TypeError where it is something else."""
        approval = Approval(**value["approval"]) if value.get("approval") else None
        goal, cause = Goal.from_dict(value["goal"]), Cause(**value["cause"])
        return cls(**{**value, "goal": goal, "cause": cause, "approval": approval})


Claims = t.Tuple[Claim, ...]


def every_claim(_claim: Claim) -> bool:
    """The filter of claims that means all of them."""
    return True


def sum_of(claims: t.Iterable[Claim]) -> Goal:
    """What all of them hold up together."""
    return functools.reduce(Goal.with_all_of, (claim.goal for claim in claims), NOTHING)


def with_claim(claims: Claims, claim: Claim, moment: datetime.datetime) -> Claims:
    """The claims with one more, or with one refreshed. Raises Refused where it excludes what others hold up."""
    sum_of(other for other in claims if other.key != claim.key).joined(claim.goal)
    if all(other.key != claim.key for other in claims):
        return (*claims, claim)
    return tuple(other.refreshed(claim, moment) if other.key == claim.key else other for other in claims)


def own(claims: Claims) -> Claims:
    """Those that want the container itself held, and not only its network for the sake of another one."""
    return tuple(claim for claim in claims if claim.kind != SHARER)


def expiry_of(claims: Claims) -> str:
    """When the last of its own claims ends, or empty where one does not."""
    ends = [claim.expires_at for claim in own(claims)]
    return max(ends) if ends and all(ends) else ""


def _end(moment: datetime.datetime, release_after: int) -> str:
    return format_timestamp(moment + datetime.timedelta(seconds=release_after)) if release_after else ""
