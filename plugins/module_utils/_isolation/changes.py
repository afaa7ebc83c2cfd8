# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a walk does to the claims on a container: adds some, takes some away, or changes none. Pure functions."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import (
    APPROVED,
    SHARER,
    UNSTATED,
    Approval,
    Cause,
    Claim,
    Claims,
    every_claim,
    sum_of,
    with_claim,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import (
    ISOLATED,
    ISOLATING,
    RELEASING,
    Entry,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import NOTHING, Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import applicable
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState


class Found(t.NamedTuple):
    """What is there before claims change.

    Attributes:
        state: of the container.
        owner: of its network, where it uses that of another container which still exists.
        moment: now.
    """

    state: ContainerState
    owner: ContainerState | None
    moment: datetime.datetime


class Changed(t.NamedTuple):
    """An entry with other claims, and what people should know of the change."""

    entry: Entry
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Hold:
    """Add or refresh claims; without any, hold up those that are there.

    Attributes:
        claims: to add.
        force: end the container also where the engine deletes it then.
        without: actions of those claims that this engine can never do, and that are given up.
        received_at: when the alert was received for which it is done, RFC 3339; empty where a person asks.
    """

    claims: Claims
    force: bool = False
    without: tuple[str, ...] = ()
    received_at: str = ""

    def apply(self, entry: Entry | None, found: Found) -> Changed:
        """The entry with the claims. Raises Refused where they cannot work on this container."""
        claims, warnings = self._changed(entry, found)
        if entry is None:
            # A key without an interface is no attachment (measured), and nothing to give back.
            snapshot = dataclasses.replace(found.state, endpoints=found.state.live_endpoints)
            owner_started_at = found.owner.started_at if found.owner else ""
            entry = Entry(snapshot, claims, since=format_timestamp(found.moment), owner_started_at=owner_started_at)
        # Whoever holds it again does not want it ended for the sake of a release that was interrupted.
        changed = dataclasses.replace(entry, claims=claims, end_first="" if claims else entry.end_first)
        changed = dataclasses.replace(changed, held=changed.held.with_all_of(changed.hold))
        changed = with_endpoints(changed, found.state)
        same_process = not entry.started_at or entry.started_at == found.state.started_at
        if changed != entry or entry.phase != ISOLATED or not same_process:
            phase = ISOLATING if claims else RELEASING
            changed = dataclasses.replace(changed, phase=phase)
        return Changed(changed, tuple(dict.fromkeys(warnings)))

    def _changed(self, entry: Entry | None, found: Found) -> tuple[Claims, list[str]]:
        """The claims that there are to be, and what people should know of them. Raises Refused."""
        claims = self._without_what_cannot_be_done(entry.claims) if entry else ()
        warnings: list[str] = []
        for claim in self.claims:
            with_claim(claims, claim, found.moment)  # says so where they exclude each other
            goal, reasons = applicable(found.state, claim.goal, self.force, found.owner)
            warnings += [f"not applied: {reason}" for reason in reasons]
            claims = with_claim(claims, dataclasses.replace(claim, goal=goal), found.moment)
        return claims, warnings

    def _without_what_cannot_be_done(self, claims: Claims) -> Claims:
        mine = {claim.key for claim in self.claims} if self.without else set()
        return tuple(
            dataclasses.replace(claim, goal=claim.goal.without(self.without)) if claim.key in mine else claim
            for claim in claims
        )


@dataclasses.dataclass(frozen=True)
class Decide(Hold):
    """Decide what claims want and wait for: what is approved of is held up from now on, what is refused is not.

    Attributes:
        decision: C(approved) or C(refused).
        which: whether a claim is meant.
        cause: who decides, and why.
    """

    claims: Claims = ()
    decision: str = APPROVED
    which: t.Callable[[Claim], bool] = every_claim
    cause: Cause = UNSTATED

    def _changed(self, entry: Entry | None, found: Found) -> tuple[Claims, list[str]]:
        claims = entry.claims if entry else ()
        meant = [claim for claim in claims if claim.approval and self.which(claim)]
        if not meant:
            raise Refused(
                f"nothing waits for approval on container {found.state.name}",
                kind="nothing_awaited",
                remedy="Nothing was touched. isolation_info says what waits",
            )
        for claim in meant:
            decided = self._decided(claim, t.cast(Approval, claim.approval), found)
            others = [other for other in claims if other.key != claim.key]
            sum_of(others).joined(decided.goal)  # says so where they exclude each other
            claims = tuple(decided if other.key == claim.key else other for other in claims)
        return claims, []

    def _decided(self, claim: Claim, approval: Approval, found: Found) -> Claim:
        """The claim once that is decided; the same where it was decided so before. Raises Refused."""
        name, moment = found.state.name, found.moment
        if approval.decision == self.decision:
            return claim
        if approval.decision == APPROVED:
            raise Refused(
                f"{approval.action} of container {name} was approved at {approval.decided_at} by "
                f"{approval.actor or 'somebody'}",
                kind="approved_before",
                remedy="Nothing was touched. A release starts the container again",
            )
        decided = dataclasses.replace(claim, approval=approval.decided(self.decision, self.cause.actor, moment))
        if self.decision != APPROVED:
            return decided
        if approval.lapsed(moment):
            raise Refused(
                f"{approval.action} of container {name} could be approved until {approval.until}",
                kind="approval_lapsed",
                remedy=f"Nothing was touched, and it stays held. To end it, isolate it by hand with {approval.action}",
            )
        _goal, reasons = applicable(found.state, approval.goal, force=True)
        if found.state.auto_remove and not self.force:
            reasons = ["the engine would delete it at once (auto-remove), and the evidence with it"]
        if reasons:
            raise Refused(
                f"{approval.action} of container {name} cannot be done: {'; '.join(reasons)}",
                remedy="Nothing was touched, and it stays held. Use force to lose it, or release it",
            )
        return dataclasses.replace(decided, goal=claim.goal.joined(approval.goal))


@dataclasses.dataclass(frozen=True)
class Sterner(Hold):
    """Add to what all hold up who hold it already, and nothing where nobody does any more. When they end stays theirs.

    Attributes:
        claims: none, as nobody else is to hold it.
        goal: what is added.
    """

    claims: Claims = ()
    goal: Goal = NOTHING

    def _changed(self, entry: Entry | None, found: Found) -> tuple[Claims, list[str]]:
        if entry is None or not entry.own_claims:
            raise Refused(f"container {found.state.name} was released meanwhile", remedy="Nothing was touched")
        goal, reasons = applicable(found.state, self.goal, self.force, found.owner)
        claims = tuple(
            claim if claim.kind == SHARER else dataclasses.replace(claim, goal=claim.goal.joined(goal))
            for claim in entry.claims
        )
        return claims, [f"not applied: {reason}" for reason in reasons]


@dataclasses.dataclass(frozen=True)
class Take:
    """Take claims away. What the others hold up stays.

    Attributes:
        which: whether a claim is meant; those of sharers are not asked about.
        restart: end the processes before anything comes back, and start the container anew.
        cause: who asked for it, and why.
        sharer: the container that uses its network and needs it off no longer, or empty.
        force: give back also what cannot be given back in full.
        recreate_networks: make networks anew that are gone.
        remembered: leave a tombstone, so that no earlier alert isolates it again: a person wants it released.
    """

    which: t.Callable[[Claim], bool] = every_claim
    restart: bool = False
    cause: Cause = UNSTATED
    sharer: str = ""
    force: bool = False
    recreate_networks: bool = False
    remembered: bool = False

    def takes(self, claim: Claim) -> bool:
        """Whether the claim is taken away."""
        if claim.kind == SHARER:
            return bool(self.sharer) and claim.subject == self.sharer
        return not self.sharer and self.which(claim)

    def apply(self, entry: Entry, found: Found, named: t.Callable[[Claim], str]) -> Changed:
        """The entry without the claims.

        Args:
            entry: with the claims.
            found: what is there.
            named: what people call those who claim.

        Raises:
            Refused: nothing would be taken, or the container cannot be restarted.
        """
        left = tuple(claim for claim in entry.claims if not self.takes(claim))
        if self.restart and found.state.auto_remove:
            raise Refused(
                f"container {found.state.name} cannot be restarted: the engine would delete it (auto-remove)",
                remedy="Nothing was touched. Release it without restart",
            )
        if entry.claims and left == entry.claims:
            if entry.own_claims or self.sharer:
                raise Refused(
                    f"nobody whose isolation is to end holds container {entry.snapshot.name}",
                    kind="not_claimed",
                    remedy="Nothing was touched. isolation_info says who holds it",
                )
            names = [named(claim) for claim in entry.claims]
            raise Refused(
                "container {} cannot be released: {} {} its network and {} isolated".format(
                    entry.snapshot.name, ", ".join(names), *(("uses", "is") if len(names) == 1 else ("use", "are"))
                ),
                remedy="Nothing was touched. Release {} first".format(", ".join(names)),
            )
        restart = self.restart and entry.snapshot.running and not left
        not_done = ("not restarted, as others hold it",) if self.restart and left else ()
        changed = dataclasses.replace(
            entry,
            claims=left,
            phase=RELEASING,
            owes_start=entry.owes_start or restart,
            # On record, so that whoever goes on after a crash does not let the old processes run on.
            end_first=found.state.started_at if restart and found.state.running else entry.end_first,
        )
        return Changed(changed, not_done)


Change = t.Union[Hold, Take]


def with_endpoints(entry: Entry, state: ContainerState) -> Entry:
    """The entry, with the networks in its snapshot that the container joined since and is about to leave."""
    known = {endpoint.network for endpoint in entry.snapshot.endpoints}
    hold = entry.hold
    joined = tuple(
        endpoint for endpoint in state.live_endpoints if endpoint.network not in known and hold.cuts(endpoint)
    )
    if not joined:
        return entry
    snapshot = dataclasses.replace(entry.snapshot, endpoints=(*entry.snapshot.endpoints, *joined))
    return dataclasses.replace(entry, snapshot=snapshot)
