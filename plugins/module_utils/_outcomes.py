# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Outcomes: every word by which the guard says what became of an alert or of a request, and what follows from it.

The only place where that is written down: results, exit codes, records, the intake and docs/outcomes.md go by it.
"""

from __future__ import annotations

import dataclasses
import typing as t

ISOLATED, HELD, RELEASED = "isolated", "held", "released"
UNKNOWN, FAILED, REFUSED, BUSY = "unknown", "failed", "refused", "busy"
AUDIT, NO_POLICY, PROTECTED, OTHER_HOST, MUTED = "audit", "no_policy", "protected", "other_host", "muted"
OWN_EFFECT = "own_effect"
NO_CONTAINER, GONE, SUPERSEDED, EXPIRED = "no_container", "gone", "superseded", "expired"
AMBIGUOUS, STALE, UNRESOLVED, UNKNOWN_HOST = "ambiguous", "stale", "unresolved", "unknown_host"
LIMIT, TOO_MANY_MATCHES, AWAITING_APPROVAL = "limit", "too_many_matches", "awaiting_approval"
COLLECTED = "collected"
WOULD_ISOLATE, WOULD_RELEASE, WOULD_COLLECT = "would_isolate", "would_release", "would_collect"

NEVER, CRITICAL_ONLY, UNTIL_DEADLINE = "no", "critical only", "until answer_deadline"
NOT_TOLD, AT_ONCE, AS_UNANSWERED = "no", "at once", "as unanswered"
BY_POLICY, FROM_CRITICAL_ON = "as the policy says", "from critical on"


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What follows from an outcome.

    Attributes:
        means: for people, a sentence without a full stop.
        green: a module or a playbook that has no other outcome than such ones succeeds.
        answers: an alert with this outcome is answered; otherwise it is tried again, or told.
        again: whether the intake tries again: C(no), C(critical only) or C(until answer_deadline).
        counts: it takes a place in C(max_isolations_per_window).
        told: who is told beside the record: C(no), C(at once), C(as unanswered), C(as the policy says) or
            C(from critical on).
    """

    means: str
    green: bool
    answers: bool
    again: str = NEVER
    counts: bool = False
    told: str = NOT_TOLD


OUTCOMES: t.Mapping[str, Meaning] = {
    ISOLATED: Meaning("it is cut off, and that was verified", True, True, counts=True, told=BY_POLICY),
    HELD: Meaning("it was cut off before, and verified to hold", True, True),
    RELEASED: Meaning("it is given back, and that was verified", True, True),
    COLLECTED: Meaning("evidence was collected", True, True),
    AUDIT: Meaning("a policy would have acted, and is to watch only", True, True),
    NO_POLICY: Meaning("no policy wants anything done", True, True),
    PROTECTED: Meaning("a policy answers, and the container must not be isolated", True, True),
    OTHER_HOST: Meaning("it is about a container of another host", True, True),
    OWN_EFFECT: Meaning("it tells of what the guard did to a container that is cut off", True, True),
    MUTED: Meaning("somebody muted such alerts for a time", True, True),
    NO_CONTAINER: Meaning("it is about the host, or about a container that Docker does not run", True, True),
    GONE: Meaning("this host has no container with that id, or has it no more", True, True, told=FROM_CRITICAL_ON),
    SUPERSEDED: Meaning("it was received before a person released the container", True, True),
    EXPIRED: Meaning("it is older than the policy set allows", False, False, told=AS_UNANSWERED),
    AMBIGUOUS: Meaning("it does not mean exactly one container", False, False, told=AT_ONCE),
    STALE: Meaning("what it names is another container by now", False, False, told=AT_ONCE),
    UNRESOLVED: Meaning("it means a container, and does not say which", False, False, told=AT_ONCE),
    UNKNOWN_HOST: Meaning(
        "it is about a host that is not in the inventory, or takes no part in the run", False, False, told=AT_ONCE
    ),
    REFUSED: Meaning("it cannot or must not be done, and nothing was touched", False, False, told=AT_ONCE),
    TOO_MANY_MATCHES: Meaning("more containers match than one alert may isolate", False, False, told=AT_ONCE),
    LIMIT: Meaning(
        "the guard holds back, as it isolated too many; the container is still connected",
        False,
        False,
        again=CRITICAL_ONLY,
        told=AT_ONCE,
    ),
    BUSY: Meaning("another run works on it, and it is not cut off yet", False, False, again=UNTIL_DEADLINE),
    FAILED: Meaning("it was tried, and it is not so", False, False, again=UNTIL_DEADLINE, told=AS_UNANSWERED),
    UNKNOWN: Meaning(
        "it was tried, and whether it is so is not known", False, False, again=UNTIL_DEADLINE, told=AS_UNANSWERED
    ),
    AWAITING_APPROVAL: Meaning("it is held reversibly until somebody decides", True, True, counts=True, told=AT_ONCE),
    WOULD_ISOLATE: Meaning("check mode: it would be isolated", True, False),
    WOULD_RELEASE: Meaning("check mode: it would be released", True, False),
    WOULD_COLLECT: Meaning("check mode: evidence would be collected", True, False),
}


_IN_CHECK_MODE = {ISOLATED: WOULD_ISOLATE, RELEASED: WOULD_RELEASE, COLLECTED: WOULD_COLLECT}


def in_check_mode(outcome: str) -> str:
    """What an outcome is called where it is only foreseen: never as if it had come about."""
    return _IN_CHECK_MODE.get(outcome, outcome)


def is_green(outcome: str) -> bool:
    """Whether an outcome is no failure."""
    return OUTCOMES[outcome].green
