# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of a deployment of policies: which host has which set since when."""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import aligned, names

Json = dict[str, t.Any]
_HEADER = ("host", "digest", "changed", "when")
_DIGITS = 12
_REMARK = 160


def deployed(hosts: t.Mapping[str, Json], left: t.Container[str] = ()) -> Json:
    """What a deployment came to, as lines for people and as data.

    Args:
        hosts: of each host the result of policy_set; failed and unreachable ones, too. Empty where it was not run.
        left: hosts that have their turn later, where they have no result yet.

    Returns:
        C(lines), a C(conclusion), whether all is C(good) so far, and C(digests): of each host the digest of its set,
        empty where that is not known.
    """
    rows, lost, waiting = [list(_HEADER)], [], []
    having: dict[str, list[str]] = collections.defaultdict(list)
    for host, result in hosts.items():
        digest = "" if result.get("failed") or result.get("unreachable") else str(result.get("digest") or "")
        if digest:
            having[digest].append(host)
            changed = "yes" if digest != result["previous_digest"] else "no"
            rows.append([host, _short(digest), changed, result["deployed_at"] or "not yet: check mode"])
        elif not result and host in left:
            waiting.append(host)
            rows.append([host, "not touched so far"])
        else:
            lost.append(host)
            rows.append([host, text.display(_why(result), _REMARK)])
    conclusion = _conclusion(having, lost, waiting)
    return {
        "lines": [*aligned(rows, "llll"), conclusion],
        "conclusion": conclusion,
        "good": not lost and len(having) == 1,
        "digests": {host: next((digest for digest, of in having.items() if host in of), "") for host in hosts},
    }


def _conclusion(having: t.Mapping[str, t.Sequence[str]], lost: t.Sequence[str], waiting: t.Sequence[str]) -> str:
    parts = []
    if lost:
        parts.append(f"failed or not reached: {names(lost)}")
    if len(having) > 1:
        parts.append(
            "digests differ: " + "; ".join(f"{_short(digest)} on {names(of)}" for digest, of in having.items())
        )
    else:
        parts += [f"{digest} is on {names(of)}" for digest, of in having.items()]
    if waiting:
        parts.append(f"not touched so far: {names(waiting)}")
    return ". ".join(parts)


def _short(digest: str) -> str:
    return digest.rpartition(":")[2][:_DIGITS]


def _why(result: Json) -> str:
    if not result:
        return "was lost before its turn"
    error = result.get("error") or {}
    message = str(error.get("message") or result.get("msg") or "failed").removeprefix("Task failed: ")
    return f"not reached: {message}" if result.get("unreachable") else f"failed: {message}"
