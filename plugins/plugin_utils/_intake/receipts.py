# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receipts: a host's word that it has answered alerts, and the capability to give it.

Whoever runs the playbook gets the capability with the event. It says nothing but that this intake made a delivery of
that id, of these alerts, to these hosts, good until that moment; so it works after a restart, and gives nothing beyond
them.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    AUDIT,
    AWAITING_APPROVAL,
    COLLECTED,
    CRITICAL_ONLY,
    GONE,
    HELD,
    ISOLATED,
    MUTED,
    NO_CONTAINER,
    NO_POLICY,
    OTHER_HOST,
    OUTCOMES,
    PROTECTED,
    RELEASED,
    SUPERSEDED,
    UNTIL_DEADLINE,
)

SCHEME = "Receipt"
"""Scheme of the header C(Authorization) that carries a capability."""
STATES = ("answered", "failed", "unreachable", "unknown_host", "crashed")
"""What became of the task that answers on a host. Only C(answered) is the word of a host that works."""
MAX_HOSTS = 10_000
MAX_ANSWERS = 10_000
"""Answers in a receipt at most: an alert has one for each container that it is about."""
MAX_MILLISECONDS = 86_400_000


class ReceiptError(GuardError):
    """A receipt does not count.

    Attributes:
        status: of HTTP: 400 not a receipt, 401 no capability, 403 not for this delivery or host, 410 too late.
    """

    def __init__(self, status: int, message: str, *, kind: str, remedy: str = "") -> None:
        super().__init__(message, kind=kind, remedy=remedy)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a host says of one alert and one container.

    Attributes:
        trace_id: of the alert.
        outcome: a word of OUTCOMES.
        container: the container, where there is one.
        policy_id: the policy that answered, or empty; display text.
        record_id: of the record in the action log of the host, or empty.
        milliseconds: from the receipt of the alert to the outcome, where known.
    """

    trace_id: str
    outcome: str
    container: ContainerRef = dataclasses.field(default_factory=ContainerRef)
    policy_id: str = ""
    record_id: str = ""
    milliseconds: int | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """What a capability is for: a delivery.

    Attributes:
        delivery: id.
        hosts: to whom it went: hosts, or patterns.
        pattern: whether they are patterns, so that the hosts of the run answer for them.
        deadline: until when its receipts count; RFC 3339, as in the event.
        trace_ids: of its alerts.
    """

    delivery: str
    hosts: tuple[str, ...]
    pattern: bool
    deadline: str
    trace_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Receipt(Claim):
    """What a host says of a delivery.

    Attributes:
        host: inventory name of the host whose word this is.
        run_hosts: all hosts of the play.
        state: one of STATES.
        policy_set_digest: of the policy set by which it answered, or empty.
        message: display text.
        answers: of alerts.
    """

    host: str
    run_hosts: tuple[str, ...]
    state: str
    policy_set_digest: str
    message: str
    answers: tuple[Answer, ...]


# Of several outcomes that answer, the first says what became of an alert. Those before isolated are there because a
# repeat must not be answered with them.
_TELLING = (
    *(AWAITING_APPROVAL, SUPERSEDED, ISOLATED, HELD, COLLECTED, RELEASED, MUTED),
    *(AUDIT, PROTECTED, NO_POLICY, GONE, NO_CONTAINER, OTHER_HOST),
)


def leading(outcomes: Iterable[str]) -> str:
    """Of several outcomes the one that says what became of an alert: one that does not answer, if there is any."""
    return min(outcomes, key=lambda outcome: _TELLING.index(outcome) if outcome in _TELLING else -1)


def verdict(answers: Sequence[Answer], critical: bool) -> tuple[Answer, bool]:
    """Of what a host said of one alert the answer that counts, and whether the alert is to be tried again.

    Args:
        answers: one for each container, at least one.
        critical: whether the alert is.
    """
    for answer in answers:
        again = OUTCOMES[answer.outcome].again
        if again == UNTIL_DEADLINE or (again == CRITICAL_ONLY and critical):
            return answer, True
    outcome = leading(answer.outcome for answer in answers)
    return next(answer for answer in answers if answer.outcome == outcome), False


def capability(key: bytes, claim: Claim) -> str:
    """The capability to acknowledge a delivery; hexadecimal."""
    said = [claim.delivery, sorted(claim.hosts), claim.pattern, claim.deadline, sorted(claim.trace_ids)]
    return hmac.new(key, json.dumps(said, separators=(",", ":")).encode("ascii"), hashlib.sha256).hexdigest()


def is_capability(key: bytes, claim: Claim, given: str) -> bool:
    """Whether what somebody shows is the capability to acknowledge that delivery."""
    expected = capability(key, claim)
    return hmac.compare_digest(given.strip().encode("utf-8", "surrogatepass"), expected.encode("ascii"))


def read_receipt(key: bytes, authorization: str, body: bytes, now: datetime.datetime) -> Receipt:
    """The receipt in a request, without what it says of alerts of other deliveries. Raises ReceiptError.

    Args:
        key: of the spool.
        authorization: the header of that name.
        body: JSON.
        now: with a zone.
    """
    scheme, _space, given = authorization.partition(" ")
    if scheme.lower() != SCHEME.lower() or not given.strip():
        raise ReceiptError(401, "the capability is missing", kind="unauthorized")
    receipt = _parsed(body)
    if not is_capability(key, receipt, given):
        raise ReceiptError(403, "the capability is not that of this delivery", kind="wrong_capability")
    deadline = timestamp.parse_timestamp(receipt.deadline)
    if deadline is None or now > deadline:
        raise ReceiptError(410, "the delivery is over", kind="too_late")
    if receipt.host not in receipt.hosts and not (receipt.pattern and receipt.host in receipt.run_hosts):
        raise ReceiptError(403, "the delivery did not go to that host", kind="wrong_host")
    trace_ids = frozenset(receipt.trace_ids)
    answers = tuple(answer for answer in receipt.answers if answer.trace_id in trace_ids)
    return dataclasses.replace(receipt, answers=answers)


def _parsed(body: bytes) -> Receipt:
    try:
        value = json.loads(body)
        return _receipt(value)
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error) if isinstance(error, _Malformed) else "it is no JSON of that shape"
        raise ReceiptError(400, f"this is no receipt: {reason}", kind="not_a_receipt") from None


class _Malformed(ValueError):
    """What is wrong with a receipt; without any text of it."""


def _receipt(value: object) -> Receipt:
    if not isinstance(value, dict):
        raise _Malformed("it is not an object")
    answers = [] if value.get("alerts") is None else value["alerts"]
    if not isinstance(answers, list) or len(answers) > MAX_ANSWERS:
        raise _Malformed(f"alerts is not a list of at most {MAX_ANSWERS}")
    host, delivery, deadline = (
        text.host_name(value.get("host")),
        text.token(value.get("delivery")),
        value.get("deadline"),
    )
    if not host or not delivery or not isinstance(deadline, str):
        raise _Malformed("host, delivery or deadline is missing or not usable")
    if not isinstance(value.get("pattern"), bool):
        raise _Malformed("pattern is neither true nor false")
    if value.get("state") not in STATES:
        raise _Malformed("state is not one of {}".format(", ".join(STATES)))
    return Receipt(
        delivery=delivery,
        hosts=_texts(value.get("hosts"), "hosts", MAX_HOSTS),
        pattern=value["pattern"],
        deadline=deadline,
        trace_ids=_texts(value.get("trace_ids"), "trace_ids", MAX_ANSWERS),
        host=host,
        run_hosts=_texts(value.get("run_hosts") or [], "run_hosts", MAX_HOSTS),
        state=value["state"],
        policy_set_digest=text.token(value.get("policy_set_digest")),
        message=text.display(value.get("message")),
        answers=tuple(_answer(answer) for answer in answers),
    )


def _texts(value: object, name: str, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > most or not all(isinstance(each, str) for each in value):
        raise _Malformed(f"{name} is not a list of at most {most} texts")
    return tuple(value)


def _answer(value: object) -> Answer:
    if not isinstance(value, dict):
        raise _Malformed("an alert is not an object")
    trace_id, outcome, container = text.token(value.get("trace_id")), value.get("outcome"), value.get("container") or {}
    if not trace_id or not isinstance(outcome, str) or outcome not in OUTCOMES or not isinstance(container, dict):
        raise _Malformed("an alert has no trace_id, an outcome that is none, or a container that is none")
    took = value.get("milliseconds")
    return Answer(
        trace_id=trace_id,
        outcome=outcome,
        container=ContainerRef(
            id=text.container_id(container.get("id")), name=text.container_name(container.get("name"))
        ),
        policy_id=text.display(value.get("policy_id"), 256),
        record_id=text.token(value.get("record_id")),
        milliseconds=min(max(took, 0), MAX_MILLISECONDS)
        if isinstance(took, int) and not isinstance(took, bool)
        else None,
    )
