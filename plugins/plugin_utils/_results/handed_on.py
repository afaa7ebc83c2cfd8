# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What playbooks hand on: artifacts for AWX and set_stats, and lines for people."""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import AWAITING_APPROVAL

# No name or id of ours is longer.
NAME_LIMIT = 255
Json = t.Mapping[str, t.Any]
NOTHING = {"kind": "", "message": "", "remedy": ""}


def handed_on(result: Json, check_mode: bool) -> dict[str, t.Any]:
    """What came of each container, from the result of isolation or alert_response, also where it failed.

    Args:
        result: as the action plugin returned it, so that all text in it is inert.
        check_mode: whether it was only said what would be done.
    """
    containers = [
        {**entry, "check_mode": check_mode} for entry in (*_of_isolation(result), *_of_alert_response(result))
    ]
    error = result.get("error") or {}
    found: dict[str, t.Any] = {
        "check_mode": check_mode,
        "containers": containers,
        "summary": dict(collections.Counter(entry["outcome"] for entry in containers)),
        "error": {key: error.get(key, "") for key in NOTHING} if error else _said(result),
    }
    if result.get("receipts"):
        found["receipts"] = result["receipts"]
    waiting = [_waiting(response) for response in result.get("responses") or () if _waits(response)]
    if waiting:
        found["awaiting_approval"] = waiting
    not_restored = [lost for one in result.get("results") or () for lost in one.get("not_restored") or ()]
    return {**found, "not_restored": not_restored} if not_restored else found


def told(handed: Json) -> list[str]:
    """The same for people, a line for each container."""
    lines = [
        "{}: {}{}{}".format(
            entry["container"] or entry["container_id"] or "no container",
            entry["outcome"],
            f", policy {entry['policy_id']}" if entry["policy_id"] else "",
            f", trace {entry['trace_id']}" if entry["trace_id"] else "",
        )
        for entry in handed["containers"]
    ]
    lines += [
        "{container}: {action} waits until {until} for the playbook approve".format(**one)
        for one in handed.get("awaiting_approval", ())
    ]
    if handed["error"]["message"]:
        lines.append("failed: {message}".format(**handed["error"]))
    return lines or ["nothing to do"]


def muted(result: Json) -> list[str]:
    """What the result of mute says for people, a line for each mute of the host."""
    if result.get("failed"):
        return ["failed: {message}".format(**_said(result))]
    lines = [
        "{} until {} by {}: {}{}".format(
            " on ".join(filter(None, (_named("policy", mute), _named("container", mute)))) or "the whole host",
            *(mute["until"], mute["actor"] or "somebody", mute["reason"]),
            " (critical alerts, too)" if mute.get("force") else "",
        )
        for mute in result.get("mutes") or ()
    ]
    return lines or ["nothing is muted"]


def _named(kind: str, mute: Json) -> str:
    return f"{kind} {mute[kind]}" if mute[kind] else ""


def _said(result: Json) -> dict[str, str]:
    """The error of a result that has none of ours, as that of ansible-core itself."""
    return {**NOTHING, "kind": "error", "message": str(result.get("msg") or "")} if result.get("failed") else NOTHING


def _of_isolation(result: Json) -> t.Iterator[dict[str, str]]:
    for one in result.get("results") or ():
        yield _entry(
            one["container"], one["outcome"], one.get("policy_id"), one.get("trace_id") or result.get("trace_id")
        )


def _of_alert_response(result: Json) -> t.Iterator[dict[str, str]]:
    for response in result.get("responses") or ():
        decision, event = response["decision"], response.get("event") or {}
        yield _entry(
            event.get("container") or decision.get("container") or {},
            event.get("outcome") or decision["outcome"],
            decision.get("policy_id"),
            decision.get("trace_id"),
        )


def _waits(response: Json) -> bool:
    return (response.get("event") or {}).get("outcome") == AWAITING_APPROVAL


def _waiting(response: Json) -> dict[str, str]:
    """What waits for somebody to decide, and on which container."""
    event = response["event"]
    approval = event.get("approval") or {}
    entry = _entry(event.get("container") or {}, "", approval.get("policy_id"), event.get("trace_id"))
    del entry["outcome"]
    return {**entry, **{key: text.display(approval.get(key), NAME_LIMIT) for key in ("action", "until")}}


def _entry(container: Json, outcome: str, policy_id: str | None, trace_id: str | None) -> dict[str, str]:
    found = {
        "container": container.get("name"),
        "container_id": container.get("id"),
        "outcome": outcome,
        "policy_id": policy_id,
        "trace_id": trace_id,
    }
    return {key: text.display(value, NAME_LIMIT) for key, value in found.items()}
