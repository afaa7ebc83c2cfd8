# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a replay as lines of text, for people."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import aligned

_COLUMNS = {
    "id": "policy",
    "mode": "mode",
    "alerts": "alerts",
    "containers": "containers",
    "isolations": "would isolate",
    "repeats": "repeats",
    "cooldown": "cooldown",
    "limit": "limit",
    "protected": "protected",
    "audit": "audit",
    "undecidable": "undecidable",
    "no_container": "no container",
    "unresolved": "unresolved",
}
_WIDTH = 60
_MOST_ROWS = 20
"""The report has more; people read the first."""


def table(report: t.Mapping[str, t.Any]) -> list[str]:
    """The report as lines: totals, a table of the policies, and the alerts that no policy wants."""
    totals, span = report["totals"], report["span"]
    lines = [
        "{lines} lines: {alerts} alerts, {skipped} skipped, {refused} refused".format(**totals)
        + (", {passed_over} need no answer".format(**totals) if totals["passed_over"] else ""),
        f"from {span['first']} to {span['last']}" if span["first"] else "no alert says its time",
        "{answered} alerts came to a policy, {unwanted} to none; {without_container} name no container".format(
            **totals
        ),
    ]
    busy = [policy for policy in report["policies"] if policy["alerts"]]
    if busy:
        rows = [[str(_shown(policy)[key]) for key in _COLUMNS] for policy in busy]
        lines += ["", *aligned([list(_COLUMNS.values()), *rows], "ll" + "r" * (len(_COLUMNS) - 2))]
    silent = [policy["id"] for policy in report["policies"] if not policy["alerts"]]
    if silent:
        more = f" and {len(silent) - _MOST_ROWS} more" if len(silent) > _MOST_ROWS else ""
        lines += ["", "no alert for: {}{}".format(", ".join(silent[:_MOST_ROWS]), more)]
    if report["unwanted"]:
        rows = [
            [text.display(rule["rule"], _WIDTH), rule["severity"], str(rule["alerts"]), "; ".join(rule["nearest"][:1])]
            for rule in report["unwanted"][:_MOST_ROWS]
        ]
        lines += ["", *aligned([["wanted by no policy", "severity", "alerts", "nearest miss"], *rows], "llrl")]
    for what in ("skipped", "refused"):
        rows = [[entry["reason"], str(entry["lines"]), str(entry["line"])] for entry in report[what][:_MOST_ROWS]]
        if rows:
            lines += ["", *aligned([[f"{what} because", "lines", "first line"], *rows], "lrr")]
    notes = [f"note: {note}" for note in report["notes"]]
    return [*lines, "", *notes] if notes else lines


def _shown(policy: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The policy as its row shows it: an end that waits for approval stands beside the mode, as it isolates before."""
    approval = f", {policy['approval']} on approval" if policy["approval"] else ""
    return {**policy, "mode": f"{policy['mode']}{approval}"}
