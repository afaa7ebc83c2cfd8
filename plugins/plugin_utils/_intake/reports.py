# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What host services report, as C(POST /events) takes it: one JSON object.

    {"host": "web-1", "spool": "6f1c...", "reports": [{"sequence": 7, "kind": "action", ...}], "heartbeat": {...}}

C(host) is the inventory name of the host, C(spool) the id of the file where it keeps reports until they are taken, and
C(sequence) counts the reports of that file: a host and a spool have each number once, so that a report that is sent
again counts once. Numbers grow, and may leave some out: what a host had no room for. C(heartbeat), which has no number,
is how the service is at that moment. Both may be left out.

A report becomes one event for the rule engine, and what it is called there says what it is about:

- C({action: ActionEvent, host, id, meta}), as it is in the action log. Where it isolated a container for an alert,
  C(isolated) of the event has C(container_id), C(name), C(image), C(image_id) and C(trace_id), all of them checked.
- C({unanswered: [...], host, id, meta}) has the shape of what the source tells itself, see docs/respond.md.
- C({breach: {container_id, name, kinds, done, time}, host, id, meta}).

C(id) is the same when the event is given to the engine again. C(meta) names no hosts, as what a rule does about such an
event is done on the controller, or on other hosts. Whoever took over a host chooses all that it reports: texts are
bounded, printable and no templates, identifiers are checked, and C(host) is the one that the sender speaks for.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t
from collections.abc import Callable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import RefusedError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import inert

ACTION, UNANSWERED, BREACH = "action", "unanswered", "breach"
MOST_REPORTS = 500
"""In one request."""
MOST_BYTES = 131_072
"""Of one report, as JSON: an event has to stay far below what the rule engine takes without standing still."""
DEGRADED = "degraded"
"""The state of a service that says of itself that not all is well."""
INTERVALS = (1.0, 3600.0)
"""Seconds between two heartbeats, at least and at most."""
_LONG = ("before", "after", "steps", "warnings", "reasons")
"""What of an ActionEvent is left out where it is too large. The action log of the host has all of it."""
_CUT = "it was too large to be reported whole: see the action log of the host"
_MOST_TROUBLES = 50
_MOST_TOLD = 500
_LARGEST = 2**63 - 1
_IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")
_KEY = re.compile(r"[^A-Za-z0-9_-]|\A\Z")
_LONGEST_KEY = 128
_FULL_ID = 64

Json = dict[str, t.Any]


class Report(t.NamedTuple):
    """One report.

    Attributes:
        sequence: its number.
        event: what it says to the rule engine, without C(id) and C(meta); empty where nothing in it can be used.
        kind: one of those above, or C(rejected).
        reason: why it was rejected.
    """

    sequence: int
    event: Json
    kind: str
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Heartbeat:
    """How a service is.

    Attributes:
        interval: seconds until the next one is to be expected.
        state: C(ready), C(degraded) or another word of the service.
        troubles: why it is degraded, for people.
        version: of the collection.
        policy_set_digest: of the policies in force; empty where there are none.
        isolated: how many containers it holds.
        waiting, dropped: reports that wait on the host, and those that it had no room for.
        accounts: how many alerts it has received, and what became of them.
    """

    interval: float
    state: str
    troubles: tuple[str, ...] = ()
    version: str = ""
    policy_set_digest: str = ""
    isolated: int = 0
    waiting: int = 0
    dropped: int = 0
    accounts: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Told:
    """What one request says.

    Attributes:
        host: inventory name, by its shape alone.
        spool: id of the file of reports.
        reports: by growing numbers.
        heartbeat: None where there is none.
    """

    host: str
    spool: str
    reports: tuple[Report, ...]
    heartbeat: Heartbeat | None


def fitting(report: Json) -> Json:
    """A report or an event, without the longest parts of its action where it is too large."""
    if ACTION not in report or len(json.dumps(report)) <= MOST_BYTES:
        return report
    action = {name: value for name, value in report[ACTION].items() if name not in _LONG}
    return {**report, ACTION: {**action, "warnings": [_CUT]}}


def read_reports(body: bytes) -> Told:
    """What a body says. Raises RefusedError where it is none of a service, and then nothing of it counts.

    A report whose content cannot be used has the kind C(rejected), so that it does not keep back those behind it.
    """
    try:
        given = json.loads(body)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise _refused("the body is no JSON") from None
    if not isinstance(given, dict):
        raise _refused("the body is no JSON object")
    host, spool, reports = text.host_name(given.get("host")), text.token(given.get("spool")), given.get("reports", [])
    if not host:
        raise _refused("host is not the inventory name of a host")
    if not spool:
        raise _refused("spool is not the id of a file of reports")
    if not isinstance(reports, list) or len(reports) > MOST_REPORTS:
        raise _refused(f"reports is no list of at most {MOST_REPORTS} reports")
    read, last = [], 0
    for place, report in enumerate(reports):
        sequence = report.get("sequence") if isinstance(report, dict) else None
        if not _is_number(sequence) or sequence <= last:
            raise _refused(f"report {place} has no sequence that is larger than that of the report before it")
        last = sequence
        read.append(_report(sequence, report, host))
    heartbeat = given.get("heartbeat")
    return Told(host, spool, tuple(read), _heartbeat(heartbeat) if heartbeat is not None else None)


def _report(sequence: int, report: Json, host: str) -> Report:
    kind = report.get("kind")
    try:
        if not isinstance(kind, str) or kind not in _READERS:
            raise _UnusableError("its kind is not known here")
        event = fitting({**_READERS[kind](_with_plain_keys(inert(report)), host), "host": host})
        if len(json.dumps(event)) > MOST_BYTES:
            raise _UnusableError(f"it is larger than {MOST_BYTES} bytes")
        return Report(sequence, event, kind)
    except AnswerError:
        why = "it holds what no report does"
    except (_UnusableError, RecursionError) as error:
        why = str(error) or "it is nested too deeply"
    return Report(sequence, {}, "rejected", why)


def _action(report: Json, host: str) -> Json:
    action = _object(report, "action")
    meaning = OUTCOMES.get(str(action.get("outcome")))
    if meaning is None:
        raise _UnusableError("the outcome of its action is none")
    container = _container(action.get("container"))
    action = {**action, "host": host, "container": container}
    for name in ("id", "trace_id", "alert_id", "policy_id", "repeat_of", "intended"):
        action[name] = text.token(action.get(name))
    event = {"action": action}
    # What is held again after a breach, and what was done once for many alerts, has been told before.
    first = meaning.counts and action.get("changed") is True and action["alert_id"] and not action["repeat_of"]
    if first and container and len(container["id"]) == _FULL_ID:
        event["isolated"] = {
            "container_id": container["id"],
            "name": container["name"],
            "image": container["image"],
            "image_id": _matching(_IMAGE_ID, report.get("image_id")),
            "trace_id": action["trace_id"],
        }
    return event


def _unanswered(report: Json, host: str) -> Json:
    alerts = report.get("unanswered")
    if not isinstance(alerts, list) or not 0 < len(alerts) <= _MOST_TOLD:
        raise _UnusableError(f"it is no list of at most {_MOST_TOLD} alerts")
    return {"unanswered": [_alert(alert, host) for alert in alerts]}


def _alert(alert: object, host: str) -> Json:
    if not isinstance(alert, dict):
        raise _UnusableError("one of its alerts is no object")
    container = _container(alert.get("container"))
    attempts = alert.get("attempts")
    return {
        "trace_id": text.token(alert.get("trace_id")),
        "id": text.display(alert.get("id")),
        "host": host,
        **{name: text.display(alert.get(name)) for name in ("source", "rule", "severity")},
        "container": {"id": container["id"], "name": container["name"]} if container else {"id": "", "name": ""},
        "why": text.display(alert.get("why")),
        "attempts": attempts if _is_number(attempts) else 0,
        "received_at": _moment(alert.get("received_at")),
    }


def _breach(report: Json, _host: str) -> Json:
    found = _object(report, "breach")
    kinds = found.get("kinds")
    return {
        "breach": {
            "container_id": text.container_id(found.get("container_id")),
            "name": text.container_name(found.get("name")),
            "kinds": [text.token(kind) for kind in kinds[:_MOST_TROUBLES]] if isinstance(kinds, list) else [],
            "done": text.token(found.get("done")),
            "time": _moment(found.get("time")),
        }
    }


_READERS: Mapping[str, Callable[[Json, str], Json]] = {ACTION: _action, UNANSWERED: _unanswered, BREACH: _breach}


def _heartbeat(given: object) -> Heartbeat:
    if not isinstance(given, dict):
        raise _refused("heartbeat is no object")
    interval, troubles, accounts = given.get("interval"), given.get("troubles"), given.get("accounts")
    if isinstance(interval, bool) or not isinstance(interval, (int, float)):
        raise _refused("heartbeat says no interval")
    if not INTERVALS[0] <= interval <= INTERVALS[1]:  # NaN compares false
        raise _refused(f"the interval of heartbeat is not from {INTERVALS[0]:g} to {INTERVALS[1]:g} seconds")
    state = text.token(given.get("state"))
    if not state:
        raise _refused("heartbeat says no state")
    return Heartbeat(
        interval=float(interval),
        state=state,
        troubles=tuple(map(text.display, troubles[:_MOST_TROUBLES])) if isinstance(troubles, list) else (),
        version=text.display(given.get("version"), 80),
        policy_set_digest=text.token(given.get("policy_set_digest")),
        **{name: _count(given.get(name)) for name in ("isolated", "waiting", "dropped")},
        accounts={
            name: _count(number)
            for name, number in (list(accounts.items())[:_MOST_TROUBLES] if isinstance(accounts, dict) else ())
            if text.token(name)
        },
    )


def _container(given: object) -> dict[str, str] | None:
    if not isinstance(given, dict):
        return None
    return {
        "id": text.container_id(given.get("id")),
        "name": text.container_name(given.get("name")),
        "image": text.display(given.get("image")),
    }


def _with_plain_keys(value: t.Any) -> t.Any:
    """The same with keys of letters, digits, C(_) and C(-) alone.

    Drools takes a key for a path: with one that holds a full stop ansible-rulebook 1.3 takes no event any more.
    """
    if isinstance(value, dict):
        return {_KEY.sub("_", key)[:_LONGEST_KEY]: _with_plain_keys(item) for key, item in value.items()}
    return list(map(_with_plain_keys, value)) if isinstance(value, list) else value


def _object(report: Json, name: str) -> Json:
    found = report.get(name)
    if not isinstance(found, dict):
        raise _UnusableError(f"it has no {name}")
    return found


def _is_number(value: object) -> t.TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST


def _count(value: object) -> int:
    return value if _is_number(value) else 0


def _moment(value: object) -> str:
    return str(value) if parse_timestamp(value) is not None else ""


def _matching(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _refused(what: str) -> RefusedError:
    return RefusedError(400, what, kind="no_report", remedy="Reports are for host services of this release to send")


class _UnusableError(Exception):
    """The content of a report cannot be used."""
