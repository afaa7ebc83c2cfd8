# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Early drop: which alerts no policy can want, whatever container they turn out to be about.

It must never drop what a host would have answered. So it asks what the host asks before it looks for a container, and
believes only in a policy set that the host has, as the receipts of the host say.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import pathlib
import time
import typing as t
from collections.abc import Callable, Iterator, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import ALERT_CONTAINER, scope_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.watched import WatchedFile

logger = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at the file."""
_MOST_BYTES = 64 * 1_048_576
"""Larger than any set of 1,000 policies."""
_KEPT = 4
"""How many sets that were in force before are remembered, for hosts that still have one of them."""
_CACHE_SIZE = 1_000
"""Texts of alerts that attackers write are kept in this cache for as long as the source runs: at most 10 MB of them."""


class _Set(t.NamedTuple):
    """A policy set that is or was in force."""

    digest: str
    engine: PolicyEngine
    since: float

    def may_answer(self, alert: Alert) -> bool:
        """Whether any of its policies could answer the alert."""
        return may_answer(self.engine, alert)


@dataclasses.dataclass
class _Confirmation:
    """What a host said last of its policy set, when, and when it was last made to say it."""

    digest: str
    at: float
    asked_at: float


class Wanted:
    """Says whether an alert is worth more than being counted.

    Args:
        path: the policy set as the module C(policy_set) deploys it; None where everything is wanted.
        confirmed_for: how long what is known of a host counts, in seconds: its confirmation of a set or, without
            receipts, that it may still have the set before.
        clock: this moment, in seconds.
        receipts: whether hosts confirm. Without, the set is taken for theirs, beside that which it replaced.
        answer_deadline: how long an alert is tried, in seconds.
    """

    def __init__(
        self,
        path: pathlib.Path | None,
        confirmed_for: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
        receipts: bool = True,
        answer_deadline: float = 0.0,
    ) -> None:
        self._path = path
        self._file = WatchedFile(path, _MOST_BYTES) if path else None
        self._confirmed_for = confirmed_for
        self._clock = clock
        self._receipts = receipts
        self._answer_deadline = answer_deadline
        # Replaced whole, as refresh() may run in another thread. The set in force is the first.
        self._sets: tuple[_Set, ...] = ()
        self._confirmations: dict[str, _Confirmation] = {}
        self._unreadable = ""
        self._unusable = ""
        self._too_late = ""

    @property
    def digest(self) -> str:
        """That of the policy set in force, or empty where there is none."""
        return self._sets[0].digest if self._sets else ""

    def wants(self, alert: Alert, hosts: Sequence[str]) -> bool:
        """Whether any policy that one of the hosts may have could want the alert.

        Args:
            alert: with its inventory host, where that is known.
            hosts: inventory hosts that are asked. A pattern or a group counts as a host of which nothing is known.
        """
        sets = self._sets
        if not sets or sets[0].may_answer(alert):
            return True
        if not self._receipts:
            now = self._clock()
            return any(
                replaced.may_answer(alert)
                for by, replaced in itertools.pairwise(sets)
                if now - by.since <= self._confirmed_for
            )
        return not hosts or any(self._may_be_answered(alert, host, sets) for host in hosts)

    def _may_be_answered(self, alert: Alert, host: str, sets: tuple[_Set, ...]) -> bool:
        """Whether the host could answer an alert that the set in force does not want."""
        confirmation = self._confirmations.get(host)
        now = self._clock()
        if confirmation is None or now - confirmation.at > self._confirmed_for:
            return True
        theirs = next((each for each in sets if each.digest == confirmation.digest), None)
        if theirs is None or theirs.may_answer(alert):
            return True
        # A host that is sent nothing says nothing. Now and then it gets an alert in order to hear of it, in good time:
        # a flood would get through where the confirmation is too old.
        ask = now - confirmation.at > self._confirmed_for / 2 and now - confirmation.asked_at > self._confirmed_for / 20
        if ask:
            confirmation.asked_at = now
        return ask

    def confirmed(self, host: str, digest: str) -> None:
        """A host has said which policy set it has.

        Args:
            host: as it is given to L(wants): an inventory host, or a pattern all of whose hosts have said the same.
            digest: of its policy set; empty where it has none.
        """
        now = self._clock()
        self._confirmations[host] = _Confirmation(digest, now, now)

    def refresh(self) -> None:
        """Read the file again if it was changed. A set that cannot be used is told, and the one in force stays."""
        if self._file is None:
            return
        try:
            content = self._file.changed()
        except OSError as error:
            self._unreadable = self._told(f"policy_set {self._path} cannot be read: {error.strerror}", self._unreadable)
            return
        self._unreadable = ""
        if content is None:
            return
        try:
            policy_set = PolicySet.from_json(content.decode("utf-8"), str(self._path))
        except (GuardError, UnicodeDecodeError) as error:
            self._unusable = self._told(f"policy_set cannot be used: {error}", self._unusable)
        else:
            self._unusable = ""
            self._put_in_force(policy_set)

    async def watch(self) -> t.NoReturn:
        """Refresh for ever, once a second."""
        while True:
            await asyncio.to_thread(self.refresh)
            await asyncio.sleep(POLL)

    def troubles(self) -> list[str]:
        """What is wrong with the policy set, for people."""
        return [trouble for trouble in (self._unreadable, self._unusable, self._too_late) if trouble]

    def _put_in_force(self, policy_set: PolicySet) -> None:
        found = _Set(policy_set.digest, PolicyEngine(policy_set, _CACHE_SIZE), self._clock())
        if found.digest != self.digest:
            others = [each for each in self._sets if each.digest != found.digest]
            self._sets = (found, *others[:_KEPT])
            logger.info("Alerts that no policy of the set %s wants are dropped early", found.digest)
            age = policy_set.limits.max_alert_age
            self._too_late = ""
            if 0 < age <= self._answer_deadline:
                self._too_late = (
                    f"answer_deadline is {self._answer_deadline:g} seconds, and max_alert_age of the policy set {age}: "
                    "a host that is asked again later finds the alert expired. Set answer_deadline to less than "
                    "max_alert_age, or that to more"
                )
                logger.warning("%s", self._too_late)

    def _told(self, trouble: str, told_before: str) -> str:
        """The trouble, which is in the log then."""
        if trouble != told_before:
            meanwhile = f"the set {self.digest} stays in force" if self.digest else "no alert is dropped early"
            logger.error("%s. Meanwhile %s", trouble, meanwhile)
        return trouble


def may_answer(engine: PolicyEngine, alert: Alert) -> bool:
    """Whether any policy could answer the alert, whatever container and host it turns out to be about."""
    on_any_host = not alert.inventory_host  # each host that is asked puts its own name there
    return any(engine.wants(alert, scope, on_any_host) for scope in _scopes(alert))


def _scopes(alert: Alert) -> Iterator[str]:
    """The scopes of the policies that the host may ask."""
    yield scope_of(alert)
    # An address may turn out to be that of one container. And that an alert is about no container of Docker is put on
    # record where a policy would have wanted it.
    if alert.container.addresses or alert.subject is Subject.NOT_DOCKER:
        yield ALERT_CONTAINER
