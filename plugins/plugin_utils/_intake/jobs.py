# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receipts in what a controller says of its jobs: of which delivery a job is, and what its hosts have answered.

A job is of a delivery where its extra variables hold the event with the capability of that, as the rule engine gave
them. Its artifacts hold what the playbook respond handed on. Both go through the same checks as a receipt over HTTP.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t
from collections.abc import Iterator, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import alerts_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import (
    MAX_HOSTS,
    Claim,
    is_capability,
)

ENDED = ("successful", "failed", "error", "canceled")
"""States of a job that has ended."""
_HANDED_ON = "guard_responses"
"""Name of what the playbook hands on, by host."""
_OF_A_HOST = ("state", "policy_set_digest", "message", "alerts")
_UNKNOWN_HOST = "unknown_host"
_EDA = "ansible_eda"

Json = t.Any


@dataclasses.dataclass(frozen=True)
class Job:
    """A job that was launched for a delivery of this intake.

    Attributes:
        id: in the controller.
        claim: the delivery.
        capability: which the event held.
    """

    id: int
    claim: Claim
    capability: str = dataclasses.field(repr=False)


def job_id(value: Json) -> int:
    """The id of a job as the controller lists it, 0 for what is none."""
    number = _mapping(value).get("id")
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else 0


def job_of(key: bytes, value: Json) -> Job | None:
    """The job as the controller lists it, where it is of a delivery of this intake.

    Args:
        key: of the spool.
        value: as JSON; its C(extra_vars) is a text that is JSON.
    """
    try:
        variables = _mapping(value).get("extra_vars")
        event = _mapping(_mapping(json.loads(variables) if isinstance(variables, str) else variables).get(_EDA))
        event = _mapping(event.get("event"))
        said = _mapping(event.get("delivery"))
        hosts, pattern, deadline = said.get("hosts"), said.get("pattern"), said.get("deadline")
        number, delivery = job_id(value), text.token(said.get("id"))
        if not number or not delivery or not isinstance(pattern, bool) or not isinstance(deadline, str):
            return None
        if not isinstance(hosts, list) or len(hosts) > MAX_HOSTS or not all(isinstance(host, str) for host in hosts):
            return None
        trace_ids = filter(None, (text.token(_mapping(alert).get("trace_id")) for alert in alerts_of(event) or ()))
        claim = Claim(delivery, tuple(hosts), pattern, deadline, tuple(trace_ids))
        given = said.get("capability")
        return Job(number, claim, given) if isinstance(given, str) and is_capability(key, claim, given) else None
    except (ValueError, RecursionError, GuardError):
        return None


def receipts_in(job: Job, artifacts: Json) -> list[bytes]:
    """The receipts in the artifacts of a job, as they would come over HTTP, and no more than one for each host.

    A host that handed something on, and no receipt, is said to have failed. Of one that is not in them there is none.
    """
    handed = _mapping(_mapping(artifacts).get(_HANDED_ON))
    own: dict[str, Mapping[str, Json]] = {}
    absent: dict[str, Mapping[str, Json]] = {}
    run_hosts: dict[str, None] = {}
    for host, said in handed.items():
        for receipt in _receipts(said):
            name = receipt.get("host")
            # A host speaks for itself. That others are none is said by the controller, in the name of the first.
            if name == host:
                own.setdefault(host, receipt)
                run_hosts = run_hosts or dict.fromkeys(_names(receipt.get("run_hosts")))
            elif isinstance(name, str) and receipt.get("state") == _UNKNOWN_HOST:
                absent.setdefault(name, receipt)
    named = dict.fromkeys(job.claim.hosts)
    concerned = run_hosts if job.claim.pattern else named
    for host, said in handed.items():
        if host in concerned and host not in own:
            own[host] = {"state": "failed", "message": _why(said)}
    found = []
    for host, receipt in {**absent, **own}.items():
        if host not in (concerned if host in own else named):
            continue
        body = {**_claimed(job.claim), "host": host, "run_hosts": list(run_hosts)}
        body.update((key, receipt[key]) for key in _OF_A_HOST if key in receipt)
        try:
            found.append(json.dumps(body).encode("ascii"))
        except RecursionError:
            continue
    return found


def _receipts(said: Json) -> Iterator[Mapping[str, Json]]:
    receipts = _mapping(said).get("receipts")
    return (_mapping(receipt) for receipt in receipts) if isinstance(receipts, list) else iter(())


def _names(value: Json) -> list[str]:
    names = value[:MAX_HOSTS] if isinstance(value, list) else []
    return [name for name in names if isinstance(name, str)]


def _why(said: Json) -> str:
    message = _mapping(_mapping(said).get("error")).get("message")
    return message if isinstance(message, str) and message else "its job handed on no receipt"


def _claimed(claim: Claim) -> dict[str, Json]:
    return {
        "delivery": claim.delivery,
        "hosts": list(claim.hosts),
        "pattern": claim.pattern,
        "deadline": claim.deadline,
        "trace_ids": list(claim.trace_ids),
    }


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
