# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of an alert, for people: by the history of the event source, and by the hosts."""

from __future__ import annotations

import typing as t

Json = t.Mapping[str, t.Any]


def traced(history: Json, hosts: t.Mapping[str, Json], trace_id: str) -> list[str]:
    """Lines that say it.

    Args:
        history: the result of alert_info; one that failed, too.
        hosts: of each host that was asked the result of isolation_info; failed, unreachable and skipped ones, too.
        trace_id: of the alert or the request.
    """
    lines = list(_of_history(history))
    for host, found in hosts.items():
        lines += [f"{host}: {line}" for line in _of_host(found, trace_id)]
    return lines or ["nobody knows of it"]


def known(history: Json, hosts: t.Mapping[str, Json], trace_id: str) -> bool:
    """Whether the history or a host knows of it."""
    return bool(history.get("found")) or any(
        found.get("records") or any(_held(found, trace_id)) for found in hosts.values()
    )


def _of_history(history: Json) -> t.Iterator[str]:
    if history.get("error"):
        yield "the history of the event source cannot be read here: {}".format(history["error"]["message"])
    if not history.get("found"):
        return
    alert = history["alert"]
    container = alert.get("container") or {}
    yield "accepted {}: {} alert {} of {}, about {} on {}".format(
        history["received_at"],
        alert.get("severity"),
        alert.get("rule"),
        alert.get("source"),
        container.get("name") or container.get("id") or "no container",
        alert.get("inventory_host") or alert.get("host") or "a host that it does not name",
    )
    for host, answer in history["hosts"].items():
        yield f"{host} was asked: {_answer(answer or {})}"
    repeats = f", with {history['folded']} repeats" if history["folded"] else ""
    if history["state"] == "waiting":
        yield f"it waits for an answer{repeats}"
    else:
        yield f"{history['state']} {history['ended_at']}: {history['outcome']}{repeats}"


def _answer(answer: Json) -> str:
    container = answer.get("container") or {}
    said = {
        "": answer.get("outcome") or "no answer yet",
        "container": container.get("name") or container.get("id"),
        "policy": answer.get("policy_id"),
        "record": answer.get("record_id"),
        "after": answer.get("milliseconds") is not None and f"{answer['milliseconds']} ms",
        "deliveries": answer.get("attempts"),
        "as": answer.get("why"),
    }
    return ", ".join(f"{name} {value}".strip() for name, value in said.items() if value)


def _of_host(found: Json, trace_id: str) -> t.Iterator[str]:
    if found.get("skipped"):
        return
    if found.get("unreachable") or (found.get("failed") and "records" not in found):
        yield "cannot be asked: {}".format(found.get("msg", ""))
    for record in found.get("records") or ():
        container, error = _mapping(record.get("container")), _mapping(record.get("error"))
        yield "{} {} {}{}{}".format(
            record.get("time", ""),
            record["outcome"],
            container.get("name") or container.get("id") or "no container",
            f", policy {record['policy_id']}" if record.get("policy_id") else "",
            f", {error['message']}" if error.get("message") else "",
        )
    for isolation in _held(found, trace_id):
        how = "and it holds" if isolation["agree"] else "and it does not hold: repair it"
        yield "{} is isolated for it since {}, {}".format(
            isolation["container"].get("name") or isolation["container"].get("id"), isolation.get("since"), how
        )


def _held(found: Json, trace_id: str) -> t.Iterator[Json]:
    for isolation in found.get("isolations") or ():
        claims = map(_mapping, isolation.get("claims") or ())
        if trace_id in (isolation.get("trace_id"), *(claim.get("trace_id") for claim in claims)):
            yield isolation


def _mapping(value: t.Any) -> Json:
    return value if isinstance(value, t.Mapping) else {}
