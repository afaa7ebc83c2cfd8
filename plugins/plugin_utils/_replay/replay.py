# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replaying recorded alerts against a policy set: what would have happened."""

from __future__ import annotations

import dataclasses
import datetime
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    Alert,
    ContainerRef,
    Subject,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import read_message
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import AUDIT, Policy, stricter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Reader, Record
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.containers import Containers, Known
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.deciding import PartialJudge
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.log import AlertLog
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.simulation import (
    OUTCOMES,
    Bounds,
    Fleet,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.tally import Tally

_FEW = 3
"""Most reasons in a warning."""
PROGRESS_INTERVAL = 2.0
"""Seconds between two lines of progress."""
Report = dict[str, t.Any]
_TOTALS = (
    "lines",
    "skipped",
    "refused",
    "passed_over",
    "alerts",
    "answered",
    "unwanted",
    "without_container",
    "without_time",
    "out_of_order",
)

_SOME_CONTAINER = ContainerRef(subject=Subject.UNIDENTIFIED)
_NOT_ONE = {
    Subject.NOT_DOCKER: "no_container",
    Subject.UNIDENTIFIED: "unresolved",
    Subject.NOTHING: "undecidable",
}
"""What comes of an alert that names no container and that a policy wants."""


class Replay:
    """One replay: takes the records of a log, and reports.

    Args:
        policy_set: what is asked.
        containers: what is known beyond the alerts.
        host_map: host name that the detector says to the inventory name that policies ask for.
        bounds: how much is remembered.
    """

    def __init__(
        self,
        policy_set: PolicySet,
        containers: Containers | None = None,
        host_map: t.Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self._set = policy_set
        self._containers = containers or Containers()
        self._host_map = host_map or {}
        self._bounds = bounds or Bounds()
        self._judge = PartialJudge(policy_set)
        self._fleet = Fleet(policy_set.limits, self._bounds)
        self._accounts = {
            policy.id: _Account(policy, 1 << index, stricter(policy_set.mode, policy.mode))
            for index, policy in enumerate(policy_set.policies)
        }
        self._totals = dict.fromkeys(_TOTALS, 0)
        self._messages = 0
        self._skipped: Tally[str, int] = Tally(self._bounds.rules)
        self._refused: Tally[str, int] = Tally(self._bounds.rules)
        self._unwanted: Tally[tuple[str, str], tuple[Alert, Known | None]] = Tally(self._bounds.rules)
        self._protection_unchecked = 0
        self._first = self._last = self._before = ""

    def take_record(self, record: Record) -> None:
        """Replay the alerts of one record."""
        if record.body is None:
            self._totals["skipped"] += 1
            self._skipped.add(record.skipped, lambda: record.line)
            return
        self._messages += 1
        try:
            reading = read_message(record.body)
        except AlertError as error:
            self._refuse(error.message, record.line)
            return
        for rejected in reading.rejected:
            self._refuse(rejected.reason, record.line)
        self._totals["passed_over"] += sum(reading.passed_over.values())
        for alert in reading.alerts:
            self.take(alert)

    def _refuse(self, reason: str, line: int) -> None:
        self._totals["refused"] += 1
        # What stands in brackets is where in the line: the same mistake has one reason.
        self._refused.add(reason.partition(" (")[0], lambda: line)

    def note_lines(self, lines: int) -> None:
        """The log has this many lines so far."""
        self._totals["lines"] = lines

    def take(self, alert: Alert) -> None:
        """Replay one alert."""
        totals = self._totals
        totals["alerts"] += 1
        self._note_time(alert)
        host = self._host_map.get(alert.host)
        if host:
            alert = dataclasses.replace(alert, inventory_host=host)
        subject = alert.subject
        if subject is Subject.NOT_DOCKER:
            # Whoever would want it if it were about a container has it on record.
            alert = dataclasses.replace(alert, container=_SOME_CONTAINER)
        known = self._containers.find(alert.container) if alert.container else None
        if known is None:
            totals["without_container"] += 1
        policy_id, certain = self._judge.decide(alert, known)
        if not policy_id:
            totals["unwanted"] += 1
            # The message as received can be large, and is not needed any more.
            self._unwanted.add(
                (alert.rule, str(alert.severity)), lambda: (dataclasses.replace(alert, raw="", message=""), known)
            )
            return
        totals["answered"] += 1
        account = self._accounts[policy_id]
        outcome = self._outcome(alert, known, account, certain) if known else _NOT_ONE[subject]
        account.outcomes[outcome] += 1

    def _outcome(self, alert: Alert, known: Known, account: _Account, certain: bool) -> str:
        container = known.container
        subject = (alert.inventory_host or alert.host, container.id[:12] or container.name)
        state = self._fleet.state(subject)
        if state is None:
            return "not_simulated"
        if not state.policies & account.bit:
            state.policies |= account.bit
            account.containers += 1
            if len(account.sample) < self._bounds.sample:
                account.sample.append(_shown(subject[0], known))
        if not certain:
            return "undecidable"
        protected = self._judge.protected(known)
        if protected:
            return "protected"
        if protected is None:
            self._protection_unchecked += 1
        if account.mode == AUDIT:
            return "audit"
        return self._fleet.isolate(account.policy, subject, state, _seconds(self._before))

    def _note_time(self, alert: Alert) -> None:
        # Text of this form sorts by time. An alert without a time counts at that of the one before.
        if not alert.time:
            self._totals["without_time"] += 1
            return
        if alert.time < self._before:
            self._totals["out_of_order"] += 1
        self._before = alert.time
        self._first = min(self._first or alert.time, alert.time)
        self._last = max(self._last, alert.time)

    def report(self) -> Report:
        """What would have happened, as JSON-serialisable, inert data; documented with the module replay."""
        return {
            "digest": self._set.digest,
            "totals": dict(self._totals),
            "span": {
                "first": self._first,
                "last": self._last,
                "seconds": round(_seconds(self._last) - _seconds(self._first), 3),
            },
            "policies": [account.to_dict() for account in self._accounts.values()],
            "unwanted": [
                {
                    "rule": rule,
                    "severity": severity,
                    "alerts": entry.count,
                    "nearest": [text.display(miss) for miss in self._judge.nearest_misses(*entry.sample)],
                }
                for (rule, severity), entry in self._unwanted.top(self._bounds.shown_rules)
            ],
            "skipped": self._reasons(self._skipped),
            "refused": self._reasons(self._refused),
            "notes": self._notes(),
        }

    def _reasons(self, tally: Tally[str, int]) -> list[dict[str, t.Any]]:
        return [
            {"reason": text.display(reason), "lines": entry.count, "line": entry.sample}
            for reason, entry in tally.top(self._bounds.shown_rules)
        ]

    @property
    def warnings(self) -> list[str]:
        """Why the report may say little, where little was read; fit for people, and inert."""
        totals = self._totals
        if not totals["lines"]:
            return ["the log is empty, so this says nothing about the policies"]
        if not totals["alerts"]:
            what = f"no alert was found in {totals['lines']} lines"
        elif totals["skipped"] > self._messages:
            what = f"{totals['skipped']} lines were skipped, more than the {self._messages} messages that were read"
        else:
            return []
        reasons = (*self._skipped.top(_FEW), *self._refused.top(_FEW))
        why = "; ".join(f"{reason} ({entry.count}, first line {entry.sample})" for reason, entry in reasons)
        if not why and totals["passed_over"]:
            why = f"all {totals['passed_over']} messages need no answer"
        return [text.display(f"{what}: {why or 'all of them are blank'}")]

    def _notes(self) -> list[str]:
        bounds, reached, notes = self._bounds, self._fleet.reached, self.warnings
        undecidable = sum(account.outcomes["undecidable"] for account in self._accounts.values())
        if undecidable:
            what = "a policy asks for what is not known of the container, such as its labels or the tag of its image"
            notes.append(f"{undecidable} alerts are undecidable: {what}")
        if self._protection_unchecked:
            what = "what is not known of the container, such as its labels, could protect it"
            notes.append(f"{self._protection_unchecked} alerts were not checked for all protection: {what}")
        if "containers" in reached:
            notes.append(f"more than {bounds.containers} containers: alerts of the others are counted as not_simulated")
        if "cooldowns" in reached:
            notes.append(f"more than {bounds.cooldowns} cooldowns: the oldest were forgotten")
        if "hosts" in reached:
            notes.append(f"more than {bounds.hosts} hosts: the isolations of those seen first were forgotten")
        for what, tally in (("rules that no policy wants", self._unwanted), ("reasons for refusal", self._refused)):
            if tally.undercount:
                notes.append(f"more than {bounds.rules} {what}: each count may be too low by {tally.undercount}")
        return notes


class _Account:
    """What came of the alerts that came to one policy."""

    def __init__(self, policy: Policy, bit: int, mode: str) -> None:
        self.policy = policy
        self.bit = bit
        self.mode = mode
        self.containers = 0
        self.sample: list[dict[str, str]] = []
        self.outcomes = dict.fromkeys(OUTCOMES, 0)

    def to_dict(self) -> dict[str, t.Any]:
        """The policy in the report."""
        return {
            "id": self.policy.id,
            "mode": self.mode if self.policy.enabled else "disabled",
            "approval": next((action.type for action in self.policy.actions if action.approval), ""),
            "alerts": sum(self.outcomes.values()),
            **self.outcomes,
            "containers": self.containers,
            "sample": self.sample,
        }


def replay_file(log: AlertLog, replay: Replay, progress: t.Callable[[str], None]) -> Report:
    """Replay a whole file.

    Args:
        log: the file, open.
        replay: takes its records.
        progress: is given a line of text every PROGRESS_INTERVAL seconds.

    Raises:
        ReplayError: where the file cannot be read to its end.
    """
    started = shown = time.monotonic()
    reader = Reader()
    for chunk in log.chunks():
        for record in reader.feed(chunk):
            replay.take_record(record)
        now = time.monotonic()
        if now - shown >= PROGRESS_INTERVAL:
            shown = now
            share = "" if log.share is None else f", {log.share:.0%} of the file"
            progress(f"replay: {reader.lines:,} lines, {reader.lines / (now - started):,.0f} a second{share}")
    for record in reader.close():
        replay.take_record(record)
    replay.note_lines(reader.lines)
    return replay.report()


def _seconds(moment: str) -> float:
    parsed = timestamp.parse_timestamp(moment)
    return (parsed - _EPOCH).total_seconds() if parsed else 0.0


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def _shown(host: str, known: Known) -> dict[str, str]:
    container = known.container
    return {
        "host": text.display(host),
        "id": text.display(container.id),
        "name": text.display(container.name),
        "image": text.display(next(iter(container.images), "")),
    }
