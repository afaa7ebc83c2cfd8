# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports: what an outcome says beside what was reached. Pure functions of what was read."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import advice
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import ISOLATED as VERIFIED
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry, shown_claims
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.giving_back import Preflight
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want, comes_back_by_itself
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import Proof
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import (
    Verification,
    not_restored,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import BUSY, ISOLATED, RELEASED

# What is needed to make a network anew.
_DEFINITION = (
    *("Name", "Id", "Scope", "Driver", "EnableIPv4", "EnableIPv6"),
    *("IPAM", "Internal", "Attachable", "Options", "Labels"),
)
_REMEDIES = {
    ISOLATED: "Do not count on it being cut off. Run again; if that does not help, stop it or cut the host off",
    RELEASED: "The journal has kept the snapshot. Mend what is named, then release it again. What a failed connect "
    "leaves behind goes away only when the container is stopped",
}


def not_reached(name: str, reached: str, verification: Verification, answers: list[str], busy: str = "") -> GuardError:
    """What is missing, and what the engine answered to the steps, or which other run was in the way of one."""
    troubles = [*verification.contradictions, *map(str, verification.unmet)]
    if busy and not verification.contradictions:
        return GuardError(
            "container {} is not {}: {}: {}".format(name, reached, "; ".join(troubles), busy),
            kind=BUSY,
            remedy="Run again, or look for a process that hangs on a Docker engine",
            details={"answers": answers},
        )
    return GuardError(
        "container {} is not {}: {}".format(name, reached, "; ".join(troubles)),
        kind="contradiction" if verification.contradictions else f"not_{reached}",
        remedy=_REMEDIES[reached],
        details={"answers": answers},
    )


def not_in_journal(state: ContainerState) -> Refused | None:
    """Why a container that the journal does not know is not called released, or None."""
    if not (state.paused or (state.running and state.own_network and not state.live_endpoints)):
        return None
    return Refused(
        "container {} is {}, but the journal does not know of it".format(
            state.name, "paused" if state.paused else "on no network"
        ),
        kind="not_in_journal",
        remedy="Check state_dir. If somebody else cut it off, give it back by hand",
    )


def confirmed(entry: Entry, state: ContainerState, proof: Proof) -> Entry:
    """The entry once it was verified that the container is held."""
    hold, snapshot = entry.hold, entry.snapshot
    ended = snapshot.running and not state.running and not hold.ends
    owes_start = (
        entry.owes_start
        or (entry.held.ends and not hold.ends)
        or (ended and comes_back_by_itself(snapshot.restart_policy, state))
    )
    return dataclasses.replace(
        entry,
        phase=VERIFIED,
        started_at=state.started_at,
        held=hold,
        owes_start=owes_start and not (entry.runs and state.running),
        ended_at=state.finished_at if ended else "",
        networks={**entry.networks, **_definitions(entry, proof)},
    )


def with_claims(outcome: Outcome, entry: Entry) -> Outcome:
    """The outcome, with who wants the container held."""
    return dataclasses.replace(outcome, claims=tuple(shown_claims(entry)), expires_at=entry.expires_at)


def with_warnings(outcome: Outcome, *warnings: str) -> Outcome:
    """The outcome, with more that people should know."""
    return dataclasses.replace(outcome, warnings=(*outcome.warnings, *warnings))


def with_end(outcome: Outcome, state: ContainerState) -> Outcome:
    """The outcome, where somebody else, or a reboot, ended its processes while it was isolated."""
    return with_warnings(dataclasses.replace(outcome, changed=True), advice.of_an_end(state))


def with_ports_left(outcome: Outcome, before: ContainerState, want: Want) -> Outcome:
    """The outcome, with a warning where the container stays reachable by a published port."""
    return with_warnings(outcome, *advice.of_what_is_left(before, outcome.after.get("networks", ()), want.hold))


def given_back(
    outcome: Outcome,
    before: ContainerState,
    after: ContainerState | None,
    preflight: Preflight,
    stays_off: str = "",
    lost: t.Sequence[t.Mapping[str, str]] = (),
) -> Outcome:
    """The outcome of giving a container back, with what is not as it was.

    Args:
        outcome: what was reached, or is predicted.
        before: the container when the release began.
        after: as it was read back; None where it could not be, or is predicted.
        preflight: what was known beforehand.
        stays_off: for whom its network stays off, or empty.
        lost: what was set on its interfaces and no longer is.
    """
    want, snapshot = preflight.want, preflight.want.snapshot
    if after is None:
        new_process = bool(want.end_first) or want.must_start(before) or before.started_at != snapshot.started_at
        runs = before.running or new_process
    else:
        new_process = after.started_at != snapshot.started_at or not after.running
        runs = after.running
    differences: list[t.Mapping[str, str]] = [*preflight.recreated]
    if new_process and runs and snapshot.running and not snapshot.restarting:
        # What they held in memory, in tmpfs and in /dev/shm is gone for good.
        differences.append({"what": "processes", "before": "running", "after": "started anew"})
    if after and outcome.verified_at:
        differences += [*not_restored(after, want), *lost]
    # Its sockets outlive pause and disconnect, and peers retransmit into the reconnected interface (measured).
    resume = snapshot.running and not (snapshot.paused or snapshot.restarting or new_process or stays_off)
    checked = outcome.ok and before.health_checked and runs
    return dataclasses.replace(
        outcome,
        not_restored=tuple(differences),
        conflicts=preflight.conflicts,
        sessions_may_resume=resume,
        warnings=(
            *((stays_off,) if stays_off else ()),
            *outcome.warnings,
            *advice.of_releasing(differences, preflight.conflicts, resume and outcome.ok, checked),
            *advice.of_service_task(before, want),
        ),
    )


def _definitions(entry: Entry, proof: Proof) -> dict[str, t.Mapping[str, t.Any]]:
    found: dict[str, t.Mapping[str, t.Any]] = {}
    for endpoint in entry.snapshot.endpoints:
        network = proof.networks.get(endpoint.reference)
        if network and entry.hold.cuts(endpoint):
            found[endpoint.network] = {name: network[name] for name in _DEFINITION if name in network}
    return found
