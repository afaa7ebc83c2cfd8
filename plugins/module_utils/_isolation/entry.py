# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An entry of the journal: one isolation, with all that is needed to end it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import (
    PERSON,
    POLICY,
    SHARER,
    UNSTATED,
    Cause,
    Claim,
    Claims,
    expiry_of,
    own,
    sum_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import NOTHING, Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import Details

FORMAT = 2
ISOLATING, ISOLATED, RELEASING = "isolating", "isolated", "releasing"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One isolation.

    Attributes:
        snapshot: the container before the guard touched it. Never overwritten while the isolation lasts.
        claims: who wants it held. Without any, it is being released.
        held: all that was held up since the last verification: what claims no longer want of it is to be undone.
        phase: C(isolating), C(isolated) once that was verified, C(releasing) while it holds less than before.
        since: when it began, RFC 3339.
        started_at: of the process that was isolated, as the engine writes it, from when that was verified. Empty
            where it had none.
        owes_start: the guard ended its processes for another reason than a goal, or accepted their end, and starts it
            once nobody wants it held.
        end_first: when the process began, as the engine writes it, that has to end before anything comes back: a
            release was asked to restart the container. Empty where none has to.
        owner_started_at: when the process of the container began whose network it uses, as the engine writes it; empty
            where it has its own.
        ended_at: when its processes ended while it was isolated, as the engine writes it, from when that was verified.
        networks: definitions of the networks that it left, by name, as C(GET /networks/{id}) gave them: from when that
            was verified.
        details: what was set on its interfaces before it first left a network; None where that is not known.
    """

    snapshot: ContainerState
    claims: Claims
    held: Goal = NOTHING
    phase: str = ISOLATING
    since: str = ""
    started_at: str = ""
    owes_start: bool = False
    end_first: str = ""
    owner_started_at: str = ""
    ended_at: str = ""
    networks: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    details: Details | None = None

    @property
    def hold(self) -> Goal:
        """What its claims want held up together."""
        return sum_of(self.claims)

    @property
    def runs(self) -> bool:
        """Whether a release left nobody who holds the container itself: it runs again, also while its network is off.

        Isolating starts nothing, whoever holds it.
        """
        return self.phase == RELEASING and not self.own_claims

    @property
    def own_claims(self) -> Claims:
        """Those that want the container itself held, and not only its network for the sake of another one."""
        return own(self.claims)

    @property
    def sharers(self) -> tuple[str, ...]:
        """Ids of isolated containers that use its network, for the sake of which it is off."""
        return tuple(claim.subject for claim in self.claims if claim.kind == SHARER)

    @property
    def cause(self) -> Cause:
        """Why, by the first who asked."""
        return next((claim.cause for claim in (*self.own_claims, *self.claims)), UNSTATED)

    @property
    def expires_at(self) -> str:
        """When the last of its own claims ends, RFC 3339, or empty."""
        return expiry_of(self.claims)

    def expired(self, moment: datetime.datetime) -> bool:
        """Whether any of its claims was to end by then."""
        return any(claim.expired(moment) for claim in self.claims)

    def to_json(self) -> str:
        """The content of the file."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """What to_json wrote, now or in format 1.

        Raises:
            JournalError: C(journal_newer) where a newer version of the collection wrote it.
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        content = json.loads(text)
        version = content["format"]
        if version == 1:
            return _from_format_1(content)
        if isinstance(version, int) and version > FORMAT:
            raise JournalError(
                f"it has format {version}, and this version of the collection reads {FORMAT}",
                kind="journal_newer",
                remedy="Nothing was changed. Use the version of the collection that isolated the container, or a newer "
                "one",
            )
        if version != FORMAT:
            raise ValueError(f"format {version!r}")
        return cls(
            snapshot=ContainerState.from_dict(content["snapshot"]),
            claims=tuple(Claim.from_dict(claim) for claim in content["claims"]),
            held=Goal.from_dict(content["held"]),
            phase=content["phase"],
            since=content["since"],
            started_at=content["started_at"],
            owes_start=content["owes_start"],
            end_first=content["end_first"],
            owner_started_at=content["owner_started_at"],
            ended_at=content["ended_at"],
            networks=content["networks"],
            details=_details(content["details"]),
        )


def _details(content: t.Mapping[str, t.Any] | None) -> Details | None:
    if content is None:
        return None
    # The first pause does not wait for what reads the kernel.
    from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.network_details import Details

    return Details.from_dict(content)


def shown_claims(entry: Entry) -> list[dict[str, t.Any]]:
    """Its claims as modules return them."""
    return [
        {
            "kind": claim.kind,
            "subject": claim.subject,
            "actions": list(claim.goal.actions()),
            **dataclasses.asdict(claim.cause),
            "since": claim.since,
            "expires_at": claim.expires_at,
            "approval": dataclasses.asdict(claim.approval) if claim.approval else None,
        }
        for claim in entry.claims
    ]


def _from_format_1(content: dict[str, t.Any]) -> Entry:
    """The entry in what version 0.0 wrote: one goal for all, whoever wanted which part of it."""
    goal = Goal.from_dict(content["goal"])
    cause = Cause(**content["cause"])
    claims = []
    if content["own"]:
        claims.append(
            Claim(
                kind=POLICY if cause.policy_id else PERSON,
                subject=cause.policy_id,
                goal=goal,
                cause=cause,
                since=content["since"],
                release_after=content["release_after"],
                expires_at=content["expires_at"],
            )
        )
    cut = Goal(networks=goal.networks)
    claims += [Claim(SHARER, cut, sharer, cause, content["since"]) for sharer in content["for_sharers"]]
    return Entry(
        snapshot=ContainerState.from_dict(content["snapshot"]),
        # A release that had begun took them all: it was refused where sharers were left.
        claims=() if content["phase"] == RELEASING else tuple(claims),
        held=goal,
        phase=content["phase"],
        since=content["since"],
        started_at=content["started_at"],
        owes_start=content["restart"] or content["ended"],
    )
