# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook hunt found over a fleet, and whether that may be isolated."""

from __future__ import annotations

import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import HELD, WOULD_ISOLATE, is_green
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.fleet import (
    Json,
    counted,
    mapping,
    mappings,
    not_reached,
    texts,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import table

COLUMNS = ("host", "container", "id", "image", "image_id", "matched_by", "outcome", "why")
DEFAULT_MAX = 10
_SHORT_ID = 12
_WIDTH = 120


def hunted(
    hosts: t.Mapping[str, t.Any], most: t.Any = DEFAULT_MAX, isolate: bool = False, trace_id: str = ""
) -> dict[str, t.Any]:
    """All containers that match on all hosts, counted before any of them is touched.

    Args:
        hosts: by host, what isolation returned in check mode; of those that failed, too.
        most: how many containers may be isolated in all, 1 or more.
        isolate: whether they are to be.
        trace_id: one for all hosts; made up where it is empty.

    Returns:
        C(containers): of each its host, C(container), C(container_id), C(image), C(image_id), C(matched_by),
        C(outcome) and C(why) it is not to be isolated. C(isolate): the ids to isolate, by host; nothing where that is
        refused. C(trace_id): by which that is to be recorded. C(refused): why, or empty. C(not_reached): why, by host.
        C(complete): whether all hosts told all they have. C(lines): for people.

    Raises:
        ValueError: most is no number, or less than 1.
    """
    limit = _limit(most)
    found = [_row(str(host), one) for host, answer in hosts.items() for one in mappings(mapping(answer).get("results"))]
    unreached = {str(host): why for host, answer in hosts.items() if (why := not_reached(answer, "results"))}
    wanted = [row for row in found if row["outcome"] == WOULD_ISOLATE]
    refused = ""
    if isolate and len(wanted) > limit:
        refused = (
            f"{counted(len(wanted), 'container')} would be isolated, and at most {limit} may be: nothing was touched. "
            f"Look at them, and if all are meant, say so by -e guard_max={len(wanted)}"
        )
    lines = [
        _summary(found, wanted, unreached, len(hosts)),
        *table(_shown(found), COLUMNS, cell_width=_WIDTH),
        *_missed(unreached),
    ]
    if refused:
        lines.append(refused)
    elif wanted and not isolate:
        more = f" -e guard_max={len(wanted)}" if len(wanted) > limit else ""
        lines.append(f"nothing was touched. To isolate these {len(wanted)}: -e guard_hunt_isolate=true{more}")
    return {
        "containers": found,
        "isolate": _by_host(wanted) if isolate and not refused else {},
        "trace_id": text.token(trace_id) or str(uuid.uuid4()),
        "refused": refused,
        "not_reached": unreached,
        # One that cannot be looked at may be meant; one that is protected was told and is as it should be.
        "complete": not unreached and all(row["outcome"] != "failed" for row in found),
        "lines": lines,
    }


def isolated(listed: Json, hosts: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What came of those that were to be isolated.

    Args:
        listed: what hunted() returned.
        hosts: by host, what isolation returned of them; of hosts where there was nothing to do, nothing.

    Returns:
        As hunted(), with the outcomes that they have now; C(complete) also says that all are isolated that were to be.
    """
    asked = listed["isolate"]
    done = {
        (str(host), row["container_id"]): row
        for host, answer in hosts.items()
        for one in mappings(mapping(answer).get("results"))
        for row in [_row(str(host), one)]
    }
    unreached = {
        **listed["not_reached"],
        **{host: why for host in asked if (why := not_reached(hosts.get(host), "results"))},
    }
    found = []
    for row in listed["containers"]:
        now = done.get((row["host"], row["container_id"]))
        if row["container_id"] in asked.get(row["host"], ()):
            row = {**row, **({key: now[key] for key in ("outcome", "why")} if now else {"outcome": "unknown"})}
        found.append(row)
    counts = [row for row in found if row["outcome"] in ("isolated", HELD)]
    on = counted(len({row["host"] for row in counts}), "host")
    lines = [
        f"{counted(len(counts), 'container')} of {len(found)} that match are isolated on {on}",
        *table(_shown(found), COLUMNS, cell_width=_WIDTH),
        *_missed(unreached),
        f"to undo this: release -e guard_target=all -e guard_alert_trace_id={listed['trace_id']}",
    ]
    whole = not unreached and all(is_green(row["outcome"]) for row in found)
    return {**listed, "containers": found, "not_reached": unreached, "complete": whole, "lines": lines}


def _limit(most: t.Any) -> int:
    try:
        limit = int(most)
    except (TypeError, ValueError):
        limit = 0
    if limit < 1 or isinstance(most, (bool, float)):
        raise ValueError(f"guard_max is {text.display(str(most), 80)!r}, and must be a number from 1 on")
    return limit


def _row(host: str, result: Json) -> dict[str, t.Any]:
    container = mapping(result.get("container"))
    return {
        "host": host,
        "container": text.display(container.get("name")),
        "container_id": text.display(container.get("id")),
        "image": text.display(result.get("image")),
        "image_id": text.display(result.get("image_id")),
        "matched_by": texts(result.get("matched_by")),
        "outcome": text.display(result.get("outcome")),
        "why": text.display(mapping(result.get("error")).get("message")),
    }


def _shown(found: t.Sequence[Json]) -> list[dict[str, t.Any]]:
    return [
        {**row, "id": row["container_id"][:_SHORT_ID], "image_id": row["image_id"].rpartition(":")[2][:_SHORT_ID]}
        for row in found
    ]


def _by_host(rows: t.Iterable[Json]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["host"], []).append(row["container_id"])
    return found


def _summary(found: t.Sequence[Json], wanted: t.Sequence[Json], unreached: t.Collection[str], hosts: int) -> str:
    return "{} on {} of {} match, {} would be isolated; {} not reached".format(
        counted(len(found), "container"),
        len({row["host"] for row in found}),
        counted(hosts, "host"),
        len(wanted),
        len(unreached),
    )


def _missed(unreached: t.Mapping[str, str]) -> list[str]:
    return [f"{host}: NOT REACHED: {why}" for host, why in unreached.items()]
