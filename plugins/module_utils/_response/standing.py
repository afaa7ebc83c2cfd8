# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How things stand on a host: what is isolated, whether that holds, and what else an operator has to know."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import name_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.breaches import Inspection, inspect
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import shown_claims
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import inert
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import NO_NETWORK
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import Finding
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import approval_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import deployed
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mutes
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir


def report(engine: Engine, files: StateDir, docker_host: str, policy_set: str, trace_id: str = "") -> dict[str, t.Any]:
    """What is isolated on this host, as the module C(isolation_info) returns it.

    Where the engine does not answer, what the journal knows is told with C(failed), C(msg) and C(error).

    Args:
        engine: of the host.
        files: its state directory; where its C(warnings) are told, they are those of before, too.
        docker_host: URL by which the engine is reached.
        policy_set: where the policy set is deployed.
        trace_id: whose records are to be told; empty for none.

    Raises:
        JournalError, ActionLogError: they cannot be read as a whole.
    """
    journal, log = Journal(files), ActionLog(files)
    # First, so that what is on record is in the journal that is read after it, also where it is isolated meanwhile.
    records = [inert(record) for record in log.of_trace(trace_id)] if trace_id else []
    entries, damaged = journal.entries()
    isolator = Isolator(engine, journal, HostTruth(docker_host))
    resolver = Resolver(engine)
    trouble: dict[str, t.Any] = {}
    try:
        containers = engine.list_containers()
        inspections = [inspect(isolator, resolver, entry) for entry in entries]
    except EngineError as error:
        # What the journal says is told all the same; each look would take as long as the engine may.
        containers, unreadable = [], (Finding("unreadable", error.message),)
        inspections = [Inspection(entry, None, unreadable) for entry in entries]
        trouble = {"failed": True, "msg": str(error), "error": error.to_dict()}
    isolations = [shown(inspection) for inspection in inspections]
    recorded = {entry.snapshot.id for entry in entries}
    return {
        "changed": False,
        "isolations": isolations,
        "damaged": [error.message for error in damaged],
        "agree": not trouble and not damaged and all(isolation["agree"] for isolation in isolations),
        "cut_off_by_others": [
            {"id": summary["Id"], "name": name_of(summary), "how": how}
            for summary in containers
            for how in _cut_off(summary)
            if summary["Id"] not in recorded
        ],
        "mutes": [dataclasses.asdict(mute) for mute in Mutes(files).holding(utc_now())],
        "action_log": log.verify(),
        "policy_set": _policy_set(policy_set),
        "records": records,
        "warnings": files.warnings,
        **trouble,
    }


def _policy_set(path: str) -> dict[str, str]:
    """What is deployed, as far as it can be read."""
    deployment, problem = deployed(path)
    return {
        "path": path,
        "digest": deployment.policy_set.digest if deployment else "",
        "deployed_at": deployment.deployed_at if deployment else "",
        "problem": problem,
    }


def _cut_off(summary: dict[str, t.Any]) -> list[str]:
    """In which ways a container looks isolated to the engine."""
    mode = (summary.get("HostConfig") or {}).get("NetworkMode") or "default"
    # Host and sidecar containers have no networks of their own, and are not cut off for that.
    shares = mode in ("host", NO_NETWORK) or mode.startswith("container:")
    ways = {
        "paused": summary.get("State") == "paused",
        "no network": summary.get("State") in ("running", "paused")
        and not shares
        and (summary.get("NetworkSettings") or {}).get("Networks") == {},
    }
    return [way for way, is_so in ways.items() if is_so]


def shown(inspection: Inspection) -> dict[str, t.Any]:
    """One isolation, and what does not agree with it."""
    entry, state = inspection.entry, inspection.state
    claims, moment = shown_claims(entry), utc_now()
    return inert(
        {
            "container": {"id": entry.snapshot.id, "name": entry.snapshot.name},
            "since": entry.since,
            "expires_at": entry.expires_at,
            "phase": entry.phase,
            "actions": list(entry.hold.actions()),
            "claims": claims,
            "awaiting_approval": [
                approval_of(claim)
                for claim, given in zip(claims, entry.claims)
                if given.approval and given.approval.is_open(moment)
            ],
            "for_sharers": list(entry.sharers),
            **dataclasses.asdict(entry.cause),
            "before": entry.snapshot.summary(),
            "now": state.summary() if state else None,
            "agree": not inspection.breaches,
            "breaches": [breach._asdict() for breach in inspection.breaches],
        }
    )
