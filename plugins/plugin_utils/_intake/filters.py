# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the event filters do with the events of any source.

A filter that raises ends its source, and one that waits holds up the rule engine. So there is always a list of events,
and the work is bounded by the size of a message.
"""

from __future__ import annotations

import collections
import logging
import os
import pathlib
import time
import typing as t
from collections.abc import Callable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import read_message
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.events import AlertEvent, events_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filter_options import FilterOptions
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filter_settings import Settings
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.messages import body_of, message_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.repeats import Repeats
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import POLL, Wanted

logger = logging.getLogger(__name__)

_TOLD_EVERY = 60.0
"""Seconds between two lines of the log about what was dropped."""

Clock = Callable[[], float]
Result = dict[str, t.Any] | list[dict[str, t.Any]]


class Dropped:
    """What is dropped: counted, and told now and then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._throttle = Throttle(logger)
        self._counts: collections.Counter[str] = collections.Counter()
        self._tell_at = 0.0

    def add(self, what: str, number: int = 1) -> None:
        """Count so many alerts. C(what) must be one of few: it is kept."""
        if not self._counts:
            self._tell_at = self._clock() + _TOLD_EVERY
        self._counts[what] += number

    def warn(self, kind: str, message: str, *args: object) -> None:
        """Say it of the first, and of each kind once a minute."""
        self._throttle.warning(kind, message, *args)

    def tell(self) -> None:
        """Write the numbers into the log where a minute has passed."""
        if self._counts and self._clock() >= self._tell_at:
            logger.info("Dropped: %s", ", ".join(f"{n} {what}" for what, n in sorted(self._counts.items()) if n))
            self._counts.clear()


class Step(t.Protocol):
    """The work of one filter."""

    def configure(self, options: FilterOptions) -> None:
        """Work by these options from now on."""

    def refresh(self) -> None:
        """Look at what options point to; called once a second while there are events."""

    def events(self, event: object) -> list[AlertEvent]:
        """What is made of an event."""


class Normalize:
    """Makes alerts of messages, and puts them on their hosts."""

    def __init__(self, dropped: Dropped) -> None:
        self._dropped = dropped
        self._options = FilterOptions()

    def configure(self, options: FilterOptions) -> None:
        """Work by these options from now on."""
        self._options = options

    def refresh(self) -> None:
        """Options point to nothing."""

    def events(self, event: object) -> list[AlertEvent]:
        """The events of the alerts in a message; those of a filter before stay as they are."""
        if isinstance(event, AlertEvent):
            return [event]
        options = self._options
        try:
            body = body_of(message_of(event), options.body_limit)
            reading = read_message(body, options.detector, options.severities)
        except AlertError as error:
            self._reject(error.kind, str(error))
            return []
        for rejected in reading.rejected:
            said = f"{rejected.reason}. {rejected.remedy}" if rejected.remedy else rejected.reason
            self._reject(rejected.kind, f"element {rejected.index}: {said}")
        for why, number in reading.passed_over.items():
            self._dropped.add(f"that need no answer ({why})", number)
        placed = [options.names.place(alert) for alert in reading.alerts]
        asked = [each for each in placed if each.targets]
        if len(asked) < len(placed):
            self._dropped.add("of unknown hosts", len(placed) - len(asked))
            self._dropped.warn(
                "unknown_host",
                "Dropped an alert of host %r, which is neither in hosts nor in host_map, as lookup_hosts is empty",
                next(each.alert.host for each in placed if not each.targets),
            )
        return events_of(asked)

    def _reject(self, kind: str, why: str) -> None:
        self._dropped.add(f"that are no alerts ({kind})")
        self._dropped.warn(kind, "Dropped what is no alert: %s", why)


class Decide:
    """Drops alerts that no policy wants, and repeats. What is no event of alerts yet is made one."""

    def __init__(self, dropped: Dropped, clock: Clock) -> None:
        self._dropped = dropped
        self._clock = clock
        self._normalize = Normalize(dropped)
        self._wanted = Wanted(None)
        self._wanted_by: tuple[str, float] = ("", 0.0)
        self._repeats = Repeats(0.0, clock)

    def configure(self, options: FilterOptions) -> None:
        """Work by these options from now on. What is known of policy sets stays where it is about the same file."""
        self._normalize.configure(options)
        self._repeats.window = options.fold_window
        by = (options.policy_set, options.policy_set_confirmed_for)
        if by != self._wanted_by:
            path = pathlib.Path(options.policy_set) if options.policy_set else None
            self._wanted = Wanted(path, options.policy_set_confirmed_for, self._clock, receipts=False)
            self._wanted_by = by

    def refresh(self) -> None:
        """Read the policy set again, if it was changed."""
        before = self._wanted.digest
        self._wanted.refresh()
        if self._wanted.digest != before:
            self._repeats.forget()  # what nothing answered may be wanted now

    def events(self, event: object) -> list[AlertEvent]:
        """The events without what is not worth an answer."""
        return [kept for each in self._normalize.events(event) for kept in self._kept(each)]

    def _kept(self, event: AlertEvent) -> list[AlertEvent]:
        wanted = [each for each in event.placed if self._wanted.wants(each.alert, each.targets)]
        kept = [each for each in wanted if not self._repeats.is_repeat(each.alert)]
        if len(kept) == len(event.placed):
            return [event]
        self._dropped.add("that no policy wants", len(event.placed) - len(wanted))
        self._dropped.add("repeats", len(wanted) - len(kept))
        return events_of(kept)


class Filter:
    """A step as the rule engine calls it. It never raises.

    Args:
        step: the work.
        dropped: what the step drops.
        environment: of the process.
        clock: this moment, in seconds.
    """

    def __init__(self, step: Step, dropped: Dropped, environment: Mapping[str, str], clock: Clock) -> None:
        self._step = step
        self._dropped = dropped
        self._environment = environment
        self._clock = clock
        self._throttle = Throttle(logger)
        self._settings: Settings | None = None
        self._look_at = 0.0

    def __call__(self, event: object, config: object = None, **others: object) -> Result:
        """What the engine gets instead of the event: one event, or a list of several or none.

        Args:
            event: of the source, or of the filter before this one.
            config: absolute path of the file of options; None for the environment.
            others: arguments that do not exist.
        """
        try:
            self._look(config, others)
            found = self._step.events(event)
            self._dropped.tell()
        except Exception:
            # One message must not end the source for all others.
            self._throttle.error("failed", "A filter failed, and an event is dropped", exc_info=True)
            return []
        return found[0] if len(found) == 1 else list[dict[str, t.Any]](found)

    def _look(self, config: object, others: Mapping[str, object]) -> None:
        """Read what was changed, where that is due."""
        now = self._clock()
        if self._settings is None:
            for name in others:
                logger.error("A filter has the argument %r. It knows config alone", name)
            self._settings = Settings(config, self._environment)
            self._step.configure(self._settings.options)
        elif now < self._look_at:
            return
        elif self._settings.refresh():
            self._step.configure(self._settings.options)
        self._look_at = now + POLL
        self._step.refresh()


def normalize(environment: Mapping[str, str] | None = None, clock: Clock = time.monotonic) -> Filter:
    """The filter C(normalize) of one source."""
    dropped = Dropped(clock)
    return Filter(Normalize(dropped), dropped, os.environ if environment is None else environment, clock)


def decide(environment: Mapping[str, str] | None = None, clock: Clock = time.monotonic) -> Filter:
    """The filter C(decide) of one source."""
    dropped = Dropped(clock)
    return Filter(Decide(dropped, clock), dropped, os.environ if environment is None else environment, clock)
