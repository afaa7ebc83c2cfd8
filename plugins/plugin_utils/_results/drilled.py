# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook drill found out: whether the chain works on each host, or where it broke and why."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.fleet import (
    Json,
    counted,
    mapping,
    mappings,
    not_reached,
    texts,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import table

COLUMNS = ("host", "posted_to_contained", "verified", "released", "cleaned", "failed_at", "why")
WHY_WIDTH = 120
_NO_POLICIES = ("policy_set_missing", "policy_set_damaged")
_MOST_SKEW = 1000
"""Milliseconds between clocks that are taken for the same: what is known of them is not more exact."""


def drilled(hosts: t.Mapping[str, t.Any], check_mode: bool = False) -> dict[str, t.Any]:
    """What came of the drill.

    Args:
        hosts: by host what its tasks registered: C(victim) of drill; C(seen) of isolation_info once the alert was
            answered, or in vain; C(decision) of decision_info where it was not isolated; C(release) of isolation;
            C(left) of isolation_info after that; C(removed) of drill.
        check_mode: whether it was only said what would be done.

    Returns:
        C(hosts): of each C(posted_to_contained) in milliseconds or None, whether C(verified), C(released), C(cleaned),
        where it C(failed_at), C(why), and the C(trace_id). C(passed): whether all of them did. C(lines): for people.
    """
    if check_mode:
        return {"hosts": {}, "passed": True, "lines": [f"a drill would be held on {counted(len(hosts), 'host')}"]}
    found = {str(host): _of_host(mapping(steps)) for host, steps in hosts.items()}
    passed = [host for host, one in found.items() if not one["failed_at"]]
    times = sorted(one["posted_to_contained"] for one in found.values() if one["posted_to_contained"] is not None)
    took = f"; contained after {times[0]} to {times[-1]} ms" if times else ""
    rows = [{"host": host, **one} for host, one in found.items()]
    return {
        "hosts": found,
        "passed": len(passed) == len(found),
        "lines": [
            f"{counted(len(found), 'host')} drilled, {len(passed)} passed{took}",
            *table(rows, COLUMNS, cell_width=WHY_WIDTH),
        ],
    }


def _of_host(steps: Json) -> dict[str, t.Any]:
    victim, seen, left = (mapping(steps.get(name)) for name in ("victim", "seen", "left"))
    container_id = text.container_id(mapping(victim.get("container")).get("id"))
    record = next((one for one in mappings(seen.get("records")) if one.get("outcome") == "isolated"), {})
    held = [one for one in mappings(seen.get("isolations")) if _is(one, container_id)]
    verified = bool(record) and bool(held) and held[0].get("agree") is True
    gone = not any(_is(one, container_id) for one in mappings(left.get("isolations"))) and not any(
        one.get("id") == container_id for one in mappings(left.get("cut_off_by_others"))
    )
    released = _worked(steps.get("release")) and not not_reached(left, "isolations") and gone
    removed = mapping(steps.get("removed"))
    cleaned = bool(container_id) and _worked(removed) and container_id in texts(removed.get("removed"))
    failed_at, why = _failure(steps, container_id, verified, released, cleaned)
    return {
        "posted_to_contained": _milliseconds(victim, record) if verified else None,
        "verified": verified,
        "released": verified and released,
        "cleaned": cleaned or (not container_id and not not_reached(victim, "container")),
        "failed_at": failed_at,
        "why": text.display(why),
        "trace_id": text.token(victim.get("trace_id")),
        "policy_id": text.display(record.get("policy_id")),
    }


def _failure(steps: Json, container_id: str, verified: bool, released: bool, cleaned: bool) -> tuple[str, str]:
    """The first step that failed, and why; empty where all worked."""
    victim, seen = mapping(steps.get("victim")), mapping(steps.get("seen"))
    if not container_id:
        return "victim", not_reached(victim, "container") or _said(victim) or "no container was made"
    if not victim.get("trace_id"):
        return "alert", _said(victim) or "it was not posted"
    if not verified:
        return _unanswered(seen, mapping(steps.get("decision")))
    if not released:
        return "release", _said(steps.get("release")) or _said(steps.get("left")) or "it is still cut off"
    if not cleaned:
        return "cleanup", _said(steps.get("removed")) or "the container was not removed"
    return "", ""


def _unanswered(seen: Json, decision: Json) -> tuple[str, str]:
    """Where it broke between an alert that was accepted and an isolation that holds, and why."""
    if not_reached(seen, "records"):
        return "answer", not_reached(seen, "records")
    records = mappings(seen.get("records"))
    isolated = next((record for record in records if record.get("outcome") == "isolated"), None)
    if isolated:
        breaches = ", ".join(
            str(one.get("kind"))
            for entry in mappings(seen.get("isolations"))
            for one in mappings(entry.get("breaches"))
        )
        return "isolation", f"it is not so any more: {breaches or 'nothing is isolated'}"
    if records:
        last = records[-1]
        error = mapping(last.get("error"))
        message = error.get("message")
        if error.get("kind") in _NO_POLICIES:
            return "policy", str(message)
        return "isolation", f"{last.get('outcome')}{f': {message}' if message else ''}"
    if mapping(decision.get("error")).get("kind") in _NO_POLICIES:
        return "policy", _said(decision)
    if not_reached(decision, "decisions"):
        return "answer", f"nobody answered, and the policies cannot be asked: {_said(decision) or 'they were not'}"
    decisions = mappings(decision.get("decisions"))
    outcome = str(decisions[0].get("outcome")) if decisions else "no_policy"
    if outcome == "isolate":
        return "answer", (
            "nobody answered, and the policies of this host want it isolated: look at the rulebook, whether it names "
            "this host, and at trace"
        )
    reasons = decisions[0].get("reasons") if decisions else ()
    why = next((str(reason) for reason in reasons or ()), "") if isinstance(reasons, (list, tuple)) else ""
    return "policy", f"{outcome}: {why or 'no policy wants the drill alert'}"


def _milliseconds(victim: Json, record: Json) -> int | None:
    """From the alert that was posted, by the clock of the controller, to the container that was cut off, by the host's.

    Where the clocks differ by more than a second, that is taken out.
    """
    posted = parse_timestamp(victim.get("posted_at"))
    acted = parse_timestamp(mapping(record.get("timeline")).get("acted"))
    ahead = victim.get("clock_ahead")
    if posted is None or acted is None or not isinstance(ahead, int):
        return None
    took = round((acted - posted).total_seconds() * 1000)
    return max(0, took - ahead if abs(ahead) > _MOST_SKEW else took)


def _is(entry: Json, container_id: str) -> bool:
    return bool(container_id) and mapping(entry.get("container")).get("id") == container_id


def _worked(found: t.Any) -> bool:
    found = mapping(found)
    return bool(found) and not any(found.get(word) for word in ("failed", "unreachable", "skipped"))


def _said(found: t.Any) -> str:
    found = mapping(found)
    if not (found.get("failed") or found.get("unreachable")):
        return ""
    return str(mapping(found.get("error")).get("message") or found.get("msg") or "it failed")
