# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receipts: the word of a host that it has answered the alerts of an event, and how.

The event source names in each event the delivery that it is: where receipts go, and the capability to acknowledge for
its hosts until its deadline. Both stay on the controller. Without a receipt an alert is delivered again.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
import urllib.parse

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    FAILED,
    OUTCOMES,
    REFUSED,
    UNKNOWN,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import controller

ANSWERED, FAILED_RUN, UNREACHABLE, NO_SUCH_HOST, CRASHED = (
    "answered",
    "failed",
    "unreachable",
    "unknown_host",
    "crashed",
)
"""States of a receipt: what became of the task on its host. Only C(answered) is the word of a host that works."""
_WHO_SAY = 10
"""Hosts that say which others there are: more than one, as each may be unreachable."""
_NO_ENGINE = ("engine_timeout", "engine_unreachable")

Json = t.Mapping[str, t.Any]


class DeliveryError(GuardError):
    """An event that says how to acknowledge it, and not in a way that can be used."""


@dataclasses.dataclass(frozen=True)
class Delivery:
    """What an event says of how it is acknowledged.

    Attributes:
        id: of the delivery.
        hosts: inventory hosts or patterns that are to answer.
        pattern: whether they may be patterns.
        deadline: until when a receipt counts, RFC 3339.
        trace_ids: of the alerts of the event.
        receipt_url: where receipts go, C(http) or C(https); empty where they are handed on, for the source to read
            them from the artifacts of the job.
        capability: what allows to acknowledge. It is shown to nobody.
    """

    id: str
    hosts: tuple[str, ...]
    pattern: bool
    deadline: str
    trace_ids: tuple[str, ...]
    receipt_url: str
    capability: str = dataclasses.field(repr=False)

    @classmethod
    def of(cls, variables: Json) -> Delivery | None:
        """That of the event in these variables, or None where it has none. Raises DeliveryError."""
        event = _mapping(_mapping(variables.get("ansible_eda")).get("event"))
        said = event.get("delivery")
        if said is None:
            return None
        values, hosts = _mapping(said), _mapping(said).get("hosts")
        try:
            alerts = controller.event_alerts(variables) or []
        except GuardError as error:
            raise DeliveryError(str(error), kind="bad_delivery") from error
        trace_ids = (text.token(_mapping(alert).get("trace_id")) for alert in alerts)
        said_url = values.get("receipt_url")
        url = urllib.parse.urlsplit(str(said_url or ""))
        usable = {
            "id": bool(text.token(values.get("id"))),
            "hosts": isinstance(hosts, (list, tuple)) and all(isinstance(host, str) for host in hosts),
            "pattern": isinstance(values.get("pattern"), bool),
            "deadline": parse_timestamp(values.get("deadline")) is not None,
            "receipt_url": said_url is None or (url.scheme in ("http", "https") and bool(url.hostname)),
            "capability": bool(text.sha256_hex(values.get("capability"))),
        }
        bad = [name for name, sound in usable.items() if not sound]
        if bad:
            raise DeliveryError(f"ansible_eda.event.delivery cannot be used: {', '.join(bad)}", kind="bad_delivery")
        return cls(
            str(values["id"]),
            tuple(map(str, t.cast("t.Sequence[str]", hosts))),
            bool(values["pattern"]),
            str(values["deadline"]),
            tuple(filter(None, trace_ids)),
            url.geturl(),
            str(values["capability"]),
        )

    def receipt(
        self, host: str, run_hosts: t.Sequence[str], state: str, entries: t.Sequence[Json], found: Json
    ) -> dict[str, t.Any]:
        """The receipt of a host.

        Args:
            host: its inventory name.
            run_hosts: all hosts of the play.
            state: one of the states above.
            entries: what became of each alert, see entries().
            found: the result of the task: C(policy_set_digest) and C(msg) of it are told, where they are there.
        """
        return {
            "delivery": self.id,
            "hosts": list(self.hosts),
            "pattern": self.pattern,
            "deadline": self.deadline,
            "trace_ids": list(self.trace_ids),
            "host": host,
            "run_hosts": list(run_hosts),
            "state": state,
            "policy_set_digest": found.get("policy_set_digest") or "",
            "message": text.display(found.get("msg")),
            "alerts": list(entries),
        }

    def handed_on(self, receipt: Json) -> dict[str, t.Any]:
        """What of a receipt is handed on, to be read by the source from the artifacts of a job that it knows.

        All hosts of a run are said only where it was sent to a pattern, and by the first of them: others have no word.
        """
        host, run_hosts = receipt["host"], receipt["run_hosts"]
        told = {key: receipt[key] for key in ("host", "state", "policy_set_digest", "message", "alerts")}
        return {**told, "run_hosts": run_hosts} if self.pattern and host in run_hosts[:_WHO_SAY] else told


def concerned(alerts: t.Any, host: str) -> list[str]:
    """The trace ids of those alerts that the host is to answer."""
    named = (text.token(_mapping(alerts[place]).get("trace_id")) for place in controller.concerned(alerts, host))
    return list(dict.fromkeys(filter(None, named)))


def state_of(found: Json) -> str:
    """The state of a receipt about a task that has a result: C(failed) also where the engine of the host is silent."""
    responses = found.get("responses")
    return FAILED_RUN if responses is None or any(map(_without_engine, responses)) else ANSWERED


def entries(alerts: t.Any, host: str, found: Json, now: datetime.datetime) -> list[dict[str, t.Any]]:
    """What became of each alert that the host is to answer, by its word; of others it may say what it likes.

    An alert that reaches several containers has an entry for each outcome, and where that counts in limits, for each
    container that no alert before it has. One that the host said nothing of has none, and neither has one that could
    not be answered without an engine: it is tried again, for the reason that the state and the message of the receipt
    give.

    Args:
        alerts: those of the event. The indexes of what is rejected are of these.
        host: inventory name.
        found: the result of the task, after its checks.
        now: when the result was there, by the clock of the controller.
    """
    told: dict[str, list[dict[str, t.Any]]] = {}
    counted = {""}  # containers
    for entry in (*_of_responses(found, now), *_of_rejected(alerts, found)):
        container = entry["container"] if OUTCOMES[entry["outcome"]].counts else None
        which = container["id"] or container["name"] if container else ""
        others = told.setdefault(entry["trace_id"], [])
        if which not in counted or all(other["outcome"] != entry["outcome"] for other in others):
            others.append(entry)
        counted.add(which)
    return [entry for trace_id in concerned(alerts, host) for entry in told.get(trace_id, ())]


def _without_engine(response: Json) -> bool:
    event = response.get("event") or {}
    return event.get("outcome") in (FAILED, UNKNOWN) and _mapping(event.get("error")).get("kind") in _NO_ENGINE


def _of_responses(found: Json, now: datetime.datetime) -> t.Iterator[dict[str, t.Any]]:
    responses, outcomes = found.get("responses") or (), found.get("outcomes") or ()
    # The ids of records that are on disk; those of an older module, or of a host that makes them up, are not told.
    record_ids = (
        [text.token(outcome.get("record_id")) for outcome in outcomes]
        if len(outcomes) == len(responses)
        else [""] * len(responses)
    )
    for response, record_id in zip(responses, record_ids, strict=True):
        if _without_engine(response):
            continue
        decision, event = response["decision"], response.get("event") or {}
        outcome = event.get("outcome") or decision["outcome"]
        container = event.get("container") or decision.get("container")
        yield _entry(
            text.token(decision.get("trace_id")),
            outcome if outcome in OUTCOMES else UNKNOWN,  # it would isolate, and did not
            container={name: text.display(container.get(name)) for name in ("id", "name")} if container else None,
            policy_id=text.display(decision.get("policy_id")),
            record_id=record_id,
            milliseconds=_milliseconds(_mapping(event.get("timeline")), found, now),
        )


def _of_rejected(alerts: t.Any, found: Json) -> t.Iterator[dict[str, t.Any]]:
    """Those that the host takes for no alerts."""
    for rejection in found.get("rejected") or ():
        index = rejection.get("index")
        if isinstance(index, int) and isinstance(alerts, (list, tuple)) and 0 <= index < len(alerts):
            yield _entry(text.token(_mapping(alerts[index]).get("trace_id")), REFUSED)


def _entry(
    trace_id: str,
    outcome: str,
    container: Json | None = None,
    policy_id: str = "",
    record_id: str = "",
    milliseconds: int | None = None,
) -> dict[str, t.Any]:
    return {
        "trace_id": trace_id,
        "outcome": outcome,
        "container": container,
        "policy_id": policy_id,
        "record_id": record_id,
        "milliseconds": milliseconds,
    }


def _milliseconds(timeline: Json, found: Json, now: datetime.datetime) -> int | None:
    """From when the alert was accepted until it was acted on, by the clock of the controller.

    The clock of a host is not known here, and how long it took to reach it neither. What the host says is how long
    before its answer it acted.
    """
    accepted = parse_timestamp(timeline.get("accepted"))
    acted, answered = parse_timestamp(timeline.get("acted")), parse_timestamp(found.get("answered_at"))
    if accepted is None or acted is None or answered is None:
        return None
    until_now = now - accepted
    took = until_now - max(answered - acted, datetime.timedelta())
    return round(min(max(took, datetime.timedelta()), max(until_now, datetime.timedelta())).total_seconds() * 1000)


def _mapping(value: t.Any) -> Json:
    return value if isinstance(value, t.Mapping) else {}
