# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook status tells of a fleet."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.fleet import (
    Json,
    counted,
    mapping,
    mappings,
    not_reached,
    texts,
    words,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import names, table

FAIL_ON = ("breach", "policies", "unreachable")
"""For what the playbook fails where it is asked to."""
COLUMNS = ("host", "container", "since", "holds", "policy", "alert", "why", "until")
ROOT = pathlib.Path(__file__).absolute().parents[3]
_SHORT_DIGEST = len("sha256:") + 12
_GALAXY_VERSION = re.compile(r"^version: *([0-9A-Za-z.+-]+) *$", re.MULTILINE)


def status(hosts: t.Mapping[str, t.Any], fail_on: t.Any = ()) -> dict[str, t.Any]:
    """What is isolated on which host, what does not hold, and who did not answer.

    Args:
        hosts: by host, what isolation_info returned, as its action plugin lets it pass; of those that failed, too.
        fail_on: words of FAIL_ON, for which C(failed) is to name hosts.

    Returns:
        C(hosts): of each host C(isolations), C(wrong) (what does not hold besides), C(mutes), C(policy_set) and
        C(not_reached). C(isolated), C(breaches), C(awaiting_approval): how many. C(policy_sets): the hosts of each
        digest, of the empty one those without.
        C(not_reached): why, by host. C(guard_version): of the collection on the controller, which is what it runs on
        hosts. C(failed): for each word of C(fail_on) with any, its hosts; and always of C(options), the hosts that
        could not be asked as the options have it. C(lines): for people.

    Raises:
        ValueError: a word of fail_on is none.
    """
    asked = words(fail_on, FAIL_ON, "guard_fail_on")
    told = {str(host): _of_host(mapping(found)) for host, found in hosts.items()}
    unreached = {host: one["not_reached"] for host, one in told.items() if one["not_reached"]}
    breached = [
        host for host, one in told.items() if one["wrong"] or any(not it["holds"] for it in _known(one["isolations"]))
    ]
    sets = _policy_sets(told)
    findings = {"breach": breached, "unreachable": list(unreached), "policies": _of_other_sets(sets)}
    # Nobody has to ask for that: whoever asked wrongly is not to believe the answer.
    findings["options"] = [host for host, one in hosts.items() if _wrongly_asked(mapping(one))]
    found: dict[str, t.Any] = {
        "guard_version": guard_version(),
        "isolated": sum(len(one["isolations"]) for one in told.values()),
        "breaches": sum(not it["holds"] for one in told.values() for it in _known(one["isolations"])),
        "awaiting_approval": sum(len(it["awaiting_approval"]) for one in told.values() for it in one["isolations"]),
        "policy_sets": sets,
        "not_reached": unreached,
        "hosts": told,
        "failed": {word: findings[word] for word in (*asked, "options") if findings[word]},
    }
    return {**found, "lines": list(_lines(found))}


def guard_version(root: pathlib.Path = ROOT) -> str:
    """The version of the collection in a directory, or empty: of an installed one by its manifest."""
    try:
        said = json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]["version"]
    except (OSError, ValueError, LookupError, TypeError):
        try:
            match = _GALAXY_VERSION.search((root / "galaxy.yml").read_text(encoding="utf-8"))
        except OSError:
            return ""
        said = match[1] if match else ""
    return text.display(said, 80)


def isolation_rows(told: t.Mapping[str, Json]) -> list[dict[str, t.Any]]:
    """A row of COLUMNS for each isolation."""
    return [
        {
            "host": host,
            "container": it["container"] or it["container_id"][:12],
            "since": it["since"],
            "holds": {True: "yes", False: "NO: " + ", ".join(it["breaches"]), None: "not known"}[it["holds"]],
            "policy": it["policies"] or ("for others" if it["for_others"] else "by hand"),
            "alert": it["trace_id"],
            "why": it["reason"],
            "until": it["expires_at"],
        }
        for host, one in told.items()
        for it in one["isolations"]
    ]


def _of_host(found: Json) -> dict[str, t.Any]:
    unreached = not_reached(found, "isolations")
    error = mapping(found.get("error")).get("message")
    if not unreached and found.get("failed"):
        # The journal was read, and the engine did not answer.
        unreached = text.display(error or found.get("msg") or "it failed")
    log = mapping(found.get("action_log"))
    wrong = texts(found.get("damaged"))
    if log.get("intact") is False:
        wrong.append("the action log was changed: see action_log of isolation_info")
    policy_set = mapping(found.get("policy_set"))
    return {
        "isolations": [_isolation(one, answered=not unreached) for one in mappings(found.get("isolations"))],
        "wrong": wrong,
        "cut_off_by_others": [text.display(one.get("name")) for one in mappings(found.get("cut_off_by_others"))],
        "mutes": [
            {key: text.display(mute.get(key)) for key in ("policy", "container", "until", "actor", "reason")}
            for mute in mappings(found.get("mutes"))
        ],
        "policy_set": {key: text.display(policy_set.get(key)) for key in ("digest", "deployed_at", "problem")},
        "not_reached": unreached,
    }


def _wrongly_asked(found: Json) -> bool:
    return mapping(found.get("error")).get("kind") == "invalid_option"


def _isolation(found: Json, answered: bool) -> dict[str, t.Any]:
    container = mapping(found.get("container"))
    claims = mappings(found.get("claims"))
    cause = next((claim for claim in claims if claim.get("kind") != "sharer"), found)
    return {
        "container": text.display(container.get("name")),
        "container_id": text.display(container.get("id")),
        # Of an engine that does not answer nothing is known.
        "holds": bool(found.get("agree")) if answered else None,
        "breaches": [text.display(breach.get("kind")) for breach in mappings(found.get("breaches"))],
        "policies": [text.display(claim.get("subject")) for claim in claims if claim.get("kind") == "policy"],
        "awaiting_approval": [
            {key: text.display(wish.get(key)) for key in ("action", "policy_id", "until")}
            for wish in mappings(found.get("awaiting_approval"))
        ],
        # Its network is off for the sake of those that use it, and nobody asked for itself.
        "for_others": bool(claims) and all(claim.get("kind") == "sharer" for claim in claims),
        "phase": text.display(found.get("phase")),
        **{key: text.display(cause.get(key) or found.get(key)) for key in ("reason", "actor", "alert_id", "trace_id")},
        **{key: text.display(found.get(key)) for key in ("since", "expires_at")},
    }


def _known(isolations: t.Iterable[Json]) -> list[Json]:
    return [it for it in isolations if it["holds"] is not None]


def _policy_sets(told: t.Mapping[str, Json]) -> dict[str, list[str]]:
    """The hosts of each digest, the most common one first."""
    sets: dict[str, list[str]] = {}
    for host, one in told.items():
        # A host whose engine does not answer tells of its policies all the same.
        if not one["not_reached"] or one["policy_set"]["digest"]:
            sets.setdefault(one["policy_set"]["digest"], []).append(host)
    return dict(sorted(sets.items(), key=lambda item: (-len(item[1]), item[0])))


def _of_other_sets(sets: t.Mapping[str, t.Sequence[str]]) -> list[str]:
    """The hosts that have none, or another one than most."""
    most = next((digest for digest in sets if digest), "")
    return [host for digest, hosts in sets.items() if digest != most or not digest for host in hosts]


def _lines(found: Json) -> t.Iterator[str]:
    told = found["hosts"]
    yield "{}: {} isolated, {}, {} not reached; guard {}".format(
        counted(len(told), "host"),
        counted(found["isolated"], "container"),
        counted(found["breaches"], "breach").replace("breachs", "breaches"),
        len(found["not_reached"]),
        found["guard_version"],
    )
    yield from table(isolation_rows(told), COLUMNS)
    for host, one in told.items():
        for it in one["isolations"]:
            for wish in it["awaiting_approval"]:
                yield (
                    f"{host}: {it['container']} waits until {wish['until']} for approval: {wish['action']}, which "
                    f"the policy {wish['policy_id']} wants. Decide with ironpost.container_guard.approve"
                )
        for mute in one["mutes"]:
            what = " on ".join(filter(None, (mute["policy"], mute["container"]))) or "the whole host"
            yield f"{host}: muted until {mute['until']} by {mute['actor'] or 'somebody'}: {what}: {mute['reason']}"
    sets = found["policy_sets"]
    for digest, hosts in sets.items():
        named = "" if len(sets) == 1 else f": {names(hosts)}"
        yield f"policy set {digest[:_SHORT_DIGEST] or 'none'} on {counted(len(hosts), 'host')}{named}"
    for host, one in told.items():
        if one["policy_set"]["problem"]:
            yield f"{host}: {one['policy_set']['problem']}"
        yield from (f"{host}: {wrong}" for wrong in one["wrong"])
        if one["cut_off_by_others"]:
            yield f"{host}: paused or without network, and not by the guard: {names(one['cut_off_by_others'])}"
    for host, why in found["not_reached"].items():
        yield f"{host}: NOT REACHED: {why}"
    for word, hosts in found["failed"].items():
        why = "the options are wrong for" if word == "options" else f"as was asked: {word} on"
        yield f"this fails, {why} {names(hosts)}"
