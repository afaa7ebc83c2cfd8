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

PERSON, POLICY, SHARER = "person", "policy", "sharer"


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
    """

    kind: str
    goal: Goal
    subject: str = ""
    cause: Cause = UNSTATED
    since: str = ""
    release_after: int = 0
    expires_at: str = ""

    @classmethod
    def of(cls, goal: Goal, cause: Cause, moment: datetime.datetime, release_after: int = 0) -> Claim:
        """The claim of the policy that the cause names, or of a person."""
        return cls(
            kind=POLICY if cause.policy_id else PERSON,
            subject=cause.policy_id,
            goal=goal,
            cause=cause,
            since=format_timestamp(moment),
            release_after=release_after,
            expires_at=_end(moment, release_after),
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
        again, so that a second run changes nothing; a claim that was over begins anew.
        """
        goal = self.goal.joined(newer.goal)
        if self.expired(moment):
            return dataclasses.replace(newer, goal=goal, cause=self.cause, since=self.since)
        if not self.expires_at or (newer.release_after and newer.release_after <= self.release_after):
            return dataclasses.replace(self, goal=goal)
        ends = max(self.expires_at, newer.expires_at) if newer.release_after else ""
        return dataclasses.replace(self, goal=goal, release_after=newer.release_after, expires_at=ends)

    def covers(self, newer: Claim, moment: datetime.datetime) -> bool:
        """Whether it holds up all that a newer request of the same one asks for, and as long."""
        try:
            return self.key == newer.key and self.refreshed(newer, moment) == self
        except Refused:
            return False

    def renewed(self, moment: datetime.datetime) -> Claim:
        """The same on another container: the time after which it ends counts anew."""
        return dataclasses.replace(self, since=format_timestamp(moment), expires_at=_end(moment, self.release_after))

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Claim:
        """What dataclasses.asdict made of a claim. Raises KeyError or TypeError where it is something else."""
        return cls(**{**value, "goal": Goal.from_dict(value["goal"]), "cause": Cause(**value["cause"])})


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
