# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the commands of the host print: short lines for a terminal of 80 columns, in which nothing is a control."""

from __future__ import annotations

import textwrap
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import PERSON
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import ISOLATE
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.fleet import counted
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.status import status
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import aligned, names, table
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.explaining import Explanation

COLUMNS = 80
COLUMNS_OF_STATUS = ("container", "holds", "since", "until", "held_by")
_CELL = 20
_WHY = 24
_SHORT_ID = 12
_LONG_REASON = 400

Json = Mapping[str, t.Any]


# --- status -----------------------------------------------------------------------------------------------------------


def status_lines(host: str, found: Json) -> list[str]:
    """How things stand.

    Args:
        host: inventory name of this host; may be empty.
        found: what standing.report found, with C(engine), C(mode) and C(service).
    """
    told = status({host: {**found, "failed": bool(found.get("error"))}})["hosts"][host]
    lines = [line for part in (_summary(host, found, told), _isolated(found, told), _beside(told)) for line in part]
    return [text.inert(line) for line in lines]


def _summary(host: str, found: Json, told: Json) -> Iterator[str]:
    isolations = told["isolations"]
    broken = sum(one["holds"] is False for one in isolations)
    hold = f", {broken} of them NOT ANY MORE" if broken else ", and that holds" if isolations else ""
    unknown = ", and whether that holds is not known" if isolations and told["not_reached"] else ""
    yield f"{f'{host}: ' if host else ''}{counted(len(isolations), 'container')} isolated{unknown or hold}"
    if told["not_reached"]:
        yield from _wrapped(f"engine: DOES NOT ANSWER: {told['not_reached']}")
        yield "    What is told below is what the journal knows."
    else:
        yield f"engine: {found['engine'] or 'of a version that it does not tell'}"
    yield from _service(found["service"])
    yield from _policies(found, told["policy_set"])


def _service(service: Json) -> Iterator[str]:
    if not service["running"]:
        yield from _wrapped(f"service: NONE RUNS: {service['problem']}")
    elif service["problem"]:
        yield from _wrapped(f"service: NOT KNOWN: {service['problem']}")
    else:
        yield f"service: {'FAILING' if service['troubles'] else 'ok'}"
    for trouble in service["troubles"]:
        yield from _wrapped(f"trouble: {trouble}", "    ")
    for warning in service["warnings"]:
        yield from _wrapped(f"warning: {warning}", "    ")


def _policies(found: Json, policy_set: Json) -> Iterator[str]:
    if policy_set["digest"]:
        yield f"policies: {policy_set['digest'][: len('sha256:') + _SHORT_ID]}, mode {found['mode']}"
    elif policy_set["problem"]:
        yield from _wrapped(f"policies: UNUSABLE: {policy_set['problem']}")
    else:
        yield "policies: none are deployed"


def _isolated(found: Json, told: Json) -> Iterator[str]:
    if not told["isolations"]:
        return
    yield ""
    rows = [
        {
            "container": one["container"] or one["container_id"][:_SHORT_ID],
            "holds": {True: "yes", False: "NO", None: "not known"}[one["holds"]],
            "since": _minute(one["since"]),
            "until": _minute(one["expires_at"]),
            "held_by": one["policies"] or ("for others" if one["for_others"] else "by hand"),
        }
        for one in told["isolations"]
    ]
    yield from table(rows, COLUMNS_OF_STATUS, _CELL)
    for one, shown in zip(found["isolations"], told["isolations"], strict=True):
        yield ""
        yield from isolation_lines(one, engine_answers=shown["holds"] is not None)


def isolation_lines(one: Json, engine_answers: bool = True) -> Iterator[str]:
    """All that an operator has to know of one isolation, as isolation_info returns it."""
    yield f"{text.display(one['container']['name'])} ({text.display(one['container']['id'])[:_SHORT_ID]})"
    for breach in one["breaches"] if engine_answers else ():
        yield from _wrapped(f"NO: {text.display(breach['kind'])}: {text.display(breach['message'])}", "  ")
    for claim in one["claims"]:
        yield from _claim(claim)
    for wish in one["awaiting_approval"]:
        yield from _wrapped(
            "WAITS until {} for approval: {}, which the policy {} wants. Decide with the playbook "
            "ironpost.container_guard.approve".format(
                *(text.display(wish[key]) for key in ("until", "action", "policy_id"))
            ),
            "  ",
        )


def _claim(claim: Json) -> Iterator[str]:
    said = {key: text.display(claim[key]) for key in ("subject", "reason", "actor", "trace_id", "since", "expires_at")}
    who = {"policy": f"policy {said['subject']}", "sharer": f"for container {said['subject'][:_SHORT_ID]}"}
    what = ", ".join(text.display(action) for action in claim["actions"])
    yield from _wrapped(
        f"{who.get(claim['kind'], 'by hand')}: {what}" + (f": {said['reason']}" if said["reason"] else ""), "  "
    )
    since = f"since {_second(said['since'])}" + (f", until {_second(said['expires_at'])}" if said["expires_at"] else "")
    yield from _wrapped(since + (f", by {said['actor']}" if said["actor"] else ""), "    ")
    if said["trace_id"]:
        yield f"    trace {said['trace_id']}"


def _beside(told: Json) -> Iterator[str]:
    found: list[str] = []
    for mute in told["mutes"]:
        what = " on ".join(filter(None, (mute["policy"], mute["container"]))) or "the whole host"
        found.append(f"muted until {mute['until']} by {mute['actor'] or 'somebody'}: {what}: {mute['reason']}")
    found += [f"WRONG: {wrong}" for wrong in told["wrong"]]
    if told["cut_off_by_others"]:
        found.append(
            f"paused or without network, and not by the guard: {names(list(dict.fromkeys(told['cut_off_by_others'])))}"
        )
    if found:
        yield ""
    for line in found:
        yield from _wrapped(line)


# --- isolating and releasing ------------------------------------------------------------------------------------------


def result_lines(found: Json) -> list[str]:
    """What was done, or would be."""
    return [line for one in found["results"] if not one["error"] for line in _result(one)]


def undoing_lines(found: Json) -> list[str]:
    """How to undo it. Who asks again for what holds already has the trace id of the first time, which may mean more."""
    by_trace: dict[str, list[str]] = {}
    for one in found["results"]:
        for claim in one["claims"] if one["changed"] and not one["error"] else ():
            if claim["kind"] == PERSON:
                by_trace.setdefault(text.token(claim["trace_id"]), []).append(text.display(one["container"]["name"]))
    return [
        " ".join(
            ("to undo it: container-guard release", *(() if trace == found["trace_id"] else named), "--trace", trace)
        )
        for trace, named in by_trace.items()
        if trace
    ]


def trouble_lines(found: Json) -> list[str]:
    """What was not done, each with what to do about it."""
    errors = [one["error"] for one in found["results"]]
    lines = [
        f"{one['container'].get('name') or '?'}: {one['outcome']}: {_error(one['error'])}"
        for one in found["results"]
        if one["error"]
    ]
    # What was done is done, and its record could not be written.
    return [*lines, *([_error(found["error"])] if found.get("error") and found["error"] not in errors else [])]


def _result(one: Json) -> Iterator[str]:
    same = {"released": ": it was not isolated", "held": ": it was isolated before"}
    said = "" if one["changed"] else same.get(one["outcome"], "")
    until = f", until {_second(one['expires_at'])}" if one.get("expires_at") else ""
    yield text.display(f"{one['container']['name']}: {one['outcome']}{said}{until}")
    for step in one["steps"] if one["outcome"].startswith("would_") else ():
        yield from _wrapped(text.display(f"{step['action']} {step['detail']}".rstrip()), "  ")


def _error(error: Json) -> str:
    remedy = f". {error['remedy']}" if error.get("remedy") else ""
    return text.display(f"{error['message']}{remedy}")


# --- explaining -------------------------------------------------------------------------------------------------------


def explained_lines(told: Sequence[Json], records: Sequence[Json]) -> list[str]:
    """What holds containers, and what is on record about them."""
    lines: list[str] = []
    for one in told:
        container, isolation = one["container"], one["isolation"]
        if not container["id"]:
            lines += _wrapped(f"{container['name']}: neither the engine nor the journal tells of it")
            continue
        image = f", image {container['image']}" if container["image"] else ""
        known = f"{container['name']} ({container['id'][:_SHORT_ID]}){image}"
        lines += _wrapped(f"{known}: {'isolated' if isolation else 'not isolated'}")
        if one["protected"]:
            lines += _wrapped(f"an isolation would be refused: {text.display(one['protected'])}", "  ")
        lines += list(isolation_lines(isolation))[1:] if isolation else []
    rows = [_record(record) for record in records]
    shown = ["", "on record:", *table(rows, ("time", "outcome", "by", "why"))] if rows else []
    return [text.inert(line) for line in [*lines, *shown]]


def _record(record: Json) -> Json:
    error, reasons = record.get("error") or {}, record.get("reasons") or [""]
    return {
        "time": str(record.get("time"))[:19].replace("T", " "),
        "outcome": record.get("outcome"),
        "by": text.display(record.get("policy_id") or record.get("actor"), _CELL),
        "why": text.display(error.get("message") or record.get("rule") or reasons[0], _WHY),
    }


def explanation_lines(name: str, one: Explanation) -> list[str]:
    """Who would answer an alert about the container of that name, and why the others do not."""
    alert, decision = one.alert, one.verdict.decision
    lines = _wrapped(f"{alert.source} alert {alert.rule!r}, {alert.severity}, about {name}:")
    if decision.outcome == ISOLATE:
        what = ", ".join(action.type for action in decision.actions)
        lines += _wrapped(f"policy {decision.policy_id} isolates it: {what}", "  ")
    else:
        of = f" (policy {decision.policy_id})" if decision.policy_id else ""
        lines += _wrapped(f"nothing is done, {decision.outcome}{of}: {OUTCOMES[decision.outcome].means}", "  ")
    for reason in one.reasons:
        lines += _wrapped(text.display(reason, _LONG_REASON), "  ")
    rows = [["policy", "answers", "why"]]
    widest = max([len(text.display(reading.policy_id, 24)) for reading in one.readings], default=0)
    room = COLUMNS - max(widest, len("policy")) - len("answers") - 4
    for reading in one.readings:
        why = [line for reason in reading.why for line in textwrap.wrap(text.display(reason, _LONG_REASON), room)]
        rows.append([text.display(reading.policy_id, 24), "YES" if reading.answers else "no", *why[:1]])
        rows += [["", "", line] for line in why[1:]]
    return [text.inert(line) for line in [*lines, *(aligned(rows, "lll") if one.readings else [])]]


# --- what all need ----------------------------------------------------------------------------------------------------


def _second(moment: str) -> str:
    """A moment of RFC 3339 in UTC, without fractions of a second."""
    return text.display(f"{moment[:19]}Z" if moment.endswith("Z") else moment)


def _minute(moment: str) -> str:
    """A moment of RFC 3339, as short as it tells the time."""
    return moment[:16].replace("T", " ")


def _wrapped(line: str, indent: str = "") -> list[str]:
    """The line in 80 columns. What has no space in it stays whole, so that it can be copied."""
    return textwrap.wrap(
        line,
        COLUMNS,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    ) or [indent]
