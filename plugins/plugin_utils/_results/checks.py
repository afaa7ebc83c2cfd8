# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what a host returned is what its module returns, as far as playbooks rely on it."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError

Json = t.Mapping[str, t.Any]
DECISIONS = {*OUTCOMES, "isolate"}
WORDS = frozenset(OUTCOMES)
"""All outcomes."""


def dicts(values: t.Any, what: str) -> list[dict[str, t.Any]]:
    """A list of mappings, or none at all. Raises AnswerError."""
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise AnswerError(f"{what} are no list of mappings")
    return values


def outcome(value: t.Any, known: t.Container[str] = WORDS) -> str:
    """A word of the table of outcomes. Raises AnswerError."""
    if not isinstance(value, str) or value not in known:
        raise AnswerError("an outcome that does not exist")
    return value


def counts(value: t.Any, known: t.Container[str] = WORDS) -> None:
    """How often each outcome is there. Raises AnswerError."""
    if not isinstance(value, dict):
        raise AnswerError("a summary that counts nothing")
    for word, number in value.items():
        outcome(word, known)
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise AnswerError("a summary with a count that is no number")


def container(value: t.Any) -> None:
    """Id and name of a container. Raises AnswerError."""
    if not isinstance(value, dict):
        raise AnswerError("a container that is no mapping")
    for key in ("id", "name"):
        if not isinstance(value.get(key, ""), str):
            raise AnswerError(f"the {key} of a container is no text")
    if value.get("id") and not text.container_id(value["id"]):
        raise AnswerError("the id of a container is none")


def identifier(value: t.Any, what: str) -> None:
    """An id of ours, or nothing. Raises AnswerError."""
    if value and not text.token(value):
        raise AnswerError(f"{what} is no identifier")


def isolation(found: Json) -> None:
    """What the module isolation returns. Raises AnswerError."""
    for result in dicts(found.get("results"), "results"):
        outcome(result.get("outcome"))
        container(result.get("container"))
        identifier(result.get("event_id"), "event_id")
        dicts(result.get("not_restored"), "not_restored")
    if found.get("summary") is not None:
        counts(found["summary"])
    if found.get("outcome") is not None:
        outcome(found["outcome"])
        container(found.get("container"))
    identifier(found.get("trace_id"), "trace_id")


def isolation_info(found: Json) -> None:
    """What the module isolation_info returns. Raises AnswerError."""
    for entry in dicts(found.get("isolations"), "isolations"):
        container(entry.get("container"))
        if not isinstance(entry.get("agree"), bool):
            raise AnswerError("agree is no bool")
        for breach in dicts(entry.get("breaches"), "breaches"):
            if not isinstance(breach.get("kind"), str):
                raise AnswerError("a breach without a kind")
    mutes(found)
    if not all(isinstance(message, str) for message in found.get("damaged") or ()):
        raise AnswerError("damaged holds what is no text")
    for record in dicts(found.get("records"), "records"):
        outcome(record.get("outcome"))
        container(record.get("container") or {})
    policy_set = found.get("policy_set") or {}
    if not all(isinstance(value, str) for value in policy_set.values()):
        raise AnswerError("policy_set holds what is no text")
    digests(policy_set)


def mutes(found: Json) -> None:
    """What the module mute returns. Raises AnswerError."""
    for mute in dicts(found.get("mutes"), "mutes"):
        if not all(isinstance(mute.get(key), str) for key in ("policy", "container", "reason", "actor", "until")):
            raise AnswerError("a mute that does not say what is muted, until when or why")


def alert_response(found: Json) -> None:
    """What the module alert_response returns. Raises AnswerError."""
    for response in dicts(found.get("responses"), "responses"):
        decision, event = response.get("decision"), response.get("event")
        if not isinstance(decision, dict) or not isinstance(event, (dict, type(None))):
            raise AnswerError("a response without a decision")
        outcome(decision.get("outcome"), DECISIONS)
        if event:
            outcome(event.get("outcome"))
        for record in filter(None, (decision, event)):
            if record.get("container") is not None:
                container(record["container"])
            for key in ("alert_id", "policy_id", "trace_id"):
                if not isinstance(record.get(key, ""), str):
                    raise AnswerError(f"{key} is no text")
        if event and not isinstance(event.get("approval"), (dict, type(None))):
            raise AnswerError("an approval that is no mapping")
    for key in ("rejected", "outcomes", "evidence_wanted"):
        dicts(found.get(key), key)
    summary = found.get("summary")
    if summary is not None:
        counts(summary.get("decisions"), DECISIONS)
        counts(summary.get("outcomes"))


def rejected(found: Json, places: t.Sequence[int]) -> None:
    """Let what the module takes for no alerts be told by its place in the whole list. Raises AnswerError.

    Args:
        found: what it returns.
        places: of the alerts that it was given, in that list.
    """
    for rejection in dicts(found.get("rejected"), "rejected"):
        index = rejection.get("index")
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(places):
            raise AnswerError("the index of no alert")
        rejection["index"] = places[index]


def evidence(found: Json) -> None:
    """What the module evidence returns. Raises AnswerError."""
    identifier(found.get("case_id"), "case_id")
    if found.get("manifest_sha256") and not text.sha256_hex(found["manifest_sha256"]):
        raise AnswerError("manifest_sha256 is no SHA-256")
    if found.get("container"):
        container(found["container"])
    identifier(found.get("trace_id"), "trace_id")


def evidence_collected(found: Json) -> None:
    """What the module evidence returns of what policies wanted. Raises AnswerError."""
    for event in dicts(found.get("collected"), "collected"):
        outcome(event.get("outcome"))


def digests(found: Json) -> None:
    """What the modules about policy sets return. Raises AnswerError."""
    for key in ("digest", "previous_digest", "policy_set_digest", "previous"):
        value = found.get(key)
        if value and not text.sha256_hex(value.removeprefix("sha256:")):
            raise AnswerError(f"{key} is no digest")
