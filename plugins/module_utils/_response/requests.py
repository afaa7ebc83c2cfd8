# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests of people and playbooks: isolating and releasing containers that are named, matched or in the journal.

Several containers are worked on at the same time, and what happens to one does not keep the others from being tried.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import ResolutionError, Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError, Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Cause, Entry, Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import (
    REFUSED,
    RELEASED,
    Outcome,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import compiled
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import peer_warnings


class Target(t.NamedTuple):
    """A container that is meant, or why none is.

    Attributes:
        name: of the container, or as it was asked for.
        container: the container; None where it is not there.
        entry: its isolation, where it was looked for in the journal.
        error: why it is not there.
    """

    name: str
    container: Container | None = None
    entry: Entry | None = None
    error: GuardError | None = None


class Result(t.NamedTuple):
    """What came of a target: an outcome, or the error of an attempt that ended before anything was touched."""

    target: Target
    outcome: Outcome | None = None
    error: GuardError | None = None

    @property
    def ok(self) -> bool:
        """Whether what was asked for is so."""
        return self.outcome is not None and self.outcome.error is None and self.outcome.ok


class Selection:
    """Finds the containers that are meant on one host.

    Args:
        resolver: knows the containers.
        journal: knows the isolations.
    """

    def __init__(self, resolver: Resolver, journal: Journal) -> None:
        self._resolver = resolver
        self._journal = journal

    def named(self, references: t.Iterable[str]) -> list[Target]:
        """The containers of these ids or names, each once. Raises EngineError, JournalError."""
        found: dict[str, Target] = {}
        for reference in references:
            target = self._named(reference)
            known = target.container.id if target.container else target.entry.snapshot.id if target.entry else ""
            found.setdefault(known or f"? {reference}", target)
        return list(found.values())

    def matching(self, wanted: TargetFilter, exclude: TargetFilter) -> list[Target]:
        """The containers that a filter matches, by name. Raises EngineError."""
        unreadable: dict[str, EngineError] = {}
        found = [
            Target(container.name, container)
            for container in self._resolver.all(unreadable)
            if _matches(container, wanted, exclude)
        ]
        # One that hangs may be meant, unless its name says that it is not, and keeps the others from nothing.
        found += [
            Target(name, error=error)
            for name, error in unreadable.items()
            if not wanted.container_names or any(compiled(glob).matches(name) for glob in wanted.container_names)
        ]
        return sorted(found, key=lambda target: target.name)

    def recorded(self) -> list[Target]:
        """The containers that the journal has an isolation of for their own sake. Raises EngineError, JournalError."""
        entries, damaged = self._journal.entries()
        found = [Target("?", error=error) for error in damaged]
        return [*found, *(self._of(entry) for entry in entries if entry.own)]

    def _named(self, reference: str) -> Target:
        try:
            container = self._resolver.by_reference(reference)
        except ResolutionError as error:
            for entry in self._journal.entries()[0] if error.kind == "not_found" else ():
                container_id = text.container_id(reference)
                if reference.lstrip("/") == entry.snapshot.name or (
                    container_id and entry.snapshot.id.startswith(container_id)
                ):
                    return self._of(entry)
            return Target(text.display(reference, 80), error=error)
        try:
            return Target(container.name, container, self._journal.load(container.id))
        except JournalError:
            # Whoever works on this container meets it again, and the others are not kept from theirs.
            return Target(container.name, container)

    def _of(self, entry: Entry) -> Target:
        snapshot = entry.snapshot
        try:
            return Target(snapshot.name, self._resolver.by_id(snapshot.id), entry)
        except ResolutionError as error:
            if error.kind != "not_found":
                return Target(snapshot.name, entry=entry, error=error)
        except EngineError as error:
            return Target(snapshot.name, entry=entry, error=error)
        gone = ResolutionError(
            f"container {snapshot.name} ({snapshot.id[:12]}), isolated since {entry.since}, was removed meanwhile",
            kind="container_gone",
            remedy="There is nothing left to give back. Release it with force to forget the isolation",
        )
        return Target(snapshot.name, entry=entry, error=gone)


class Requests:
    """Carries requests out on one host.

    Args:
        isolator: isolates and releases.
        journal: of the host.
        resolver: knows the containers.
        protection: says what must not be isolated.
        concurrency: how many containers are worked on at a time, 1 to 100.
        check: only say what would be done.
    """

    def __init__(
        self,
        isolator: Isolator,
        journal: Journal,
        resolver: Resolver,
        protection: Protection,
        concurrency: int,
        check: bool = False,
    ) -> None:
        self._isolator = isolator
        self._journal = journal
        self._resolver = resolver
        self._protection = protection
        self._concurrency = concurrency
        self._check = check

    def isolate(
        self,
        targets: t.Sequence[Target],
        actions: t.Sequence[Action],
        cause: Cause,
        force: bool = False,
        release_after: int = 0,
    ) -> list[Result]:
        """Isolate them. One that is protected is refused, unless forced."""

        def work(target: Target) -> Outcome:
            container = t.cast(Container, target.container)
            why = "" if force else self._protection.reason(container, actions)
            if why:
                return _refused(container, why)
            outcome = self._isolator.isolate(
                container.id, actions, cause, self._check, force=force, release_after=release_after
            )
            return self._with_peers(outcome, container, [action.to_dict() for action in actions])

        return self._each(targets, work)

    def repair(self, targets: t.Sequence[Target], force: bool = False) -> list[Result]:
        """Do again what the journal says of them and somebody undid, also to containers that took their names."""

        def work(target: Target) -> Outcome:
            entry = t.cast(Entry, target.entry)
            if self._journal.load(entry.snapshot.id) is None:
                raise Refused(f"container {target.name} was released meanwhile", remedy="Nothing was touched")
            container = target.container or self._successor(entry, target)
            cut = [Action("network_disconnect", entry.goal.networks)] if entry.goal.networks else []
            # One that is isolated already was asked for, protected or not.
            why = "" if force or target.container else self._protection.reason(container, cut)
            if why:
                return _refused(container, why)
            outcome = self._isolator.hold(
                container.id,
                entry.goal,
                entry.cause,
                self._check,
                force=force,
                # What is mended ends when it was to end.
                release_after=None if target.container else entry.release_after,
            )
            if target.container is None and outcome.ok:
                warning = f"it took the name of container {entry.snapshot.id[:12]}, which was isolated and is gone"
                outcome = dataclasses.replace(outcome, warnings=(warning, *outcome.warnings))
                self._forget(entry)
            return outcome

        return self._each(targets, work, also_gone=True)

    def release(self, targets: t.Sequence[Target], restart: bool = False, force: bool = False) -> list[Result]:
        """Release them. The isolation of one that is gone is forgotten only where that is forced."""

        def work(target: Target) -> Outcome:
            if target.container is None:
                return self._release_gone(target, force)
            return self._isolator.release(target.container.id, self._check, restart)

        # The network of its owner comes back with a container that uses it; the owner by itself would be refused.
        users = [target for target in targets if target.entry and target.entry.snapshot.network_owner]
        others = [target for target in targets if target not in users]
        done = {
            id(result.target): result for wave in (users, others) for result in self._each(wave, work, also_gone=True)
        }
        return [done[id(target)] for target in targets]

    def _each(
        self, targets: t.Sequence[Target], work: t.Callable[[Target], Outcome], also_gone: bool = False
    ) -> list[Result]:
        def one(target: Target) -> Result:
            gone = target.error is not None and target.error.kind == "container_gone"
            if target.error and not (also_gone and gone):
                return Result(target, error=target.error)
            try:
                return Result(target, work(target))
            except GuardError as error:
                return Result(target, error=error)
            except Exception as error:  # a defect of the guard must not lose the results of the other containers
                return Result(target, error=GuardError(f"internal error: {error!r}", kind="internal_error"))

        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(one, targets))

    def _successor(self, entry: Entry, target: Target) -> Container:
        try:
            return self._resolver.by_name(entry.snapshot.name)
        except ResolutionError as error:
            raise target.error or error from error

    def _release_gone(self, target: Target, force: bool) -> Outcome:
        if not force or target.entry is None:
            raise target.error or NotFound(f"container {target.name} no longer exists")
        self._forget(target.entry)
        snapshot, moment = target.entry.snapshot, now()
        return Outcome(
            outcome=RELEASED,
            changed=True,
            container_id=snapshot.id,
            container_name=snapshot.name,
            before={},
            after={},
            warnings=("it was removed while it was isolated; the isolation is forgotten",),
            started_at=moment,
            verified_at=moment,
        )

    def _forget(self, entry: Entry) -> None:
        if not self._check:
            self._isolator.forget(entry)

    def _with_peers(
        self, outcome: Outcome, container: Container, actions: t.Sequence[t.Mapping[str, t.Any]]
    ) -> Outcome:
        if not outcome.ok:
            return outcome
        try:
            warnings = peer_warnings([peer.name for peer in self._resolver.network_peers(container.id)], actions)
        except GuardError as error:  # what was done is done, and must be told
            warnings = [f"which containers share its network is not known: {error.message}"]
        return dataclasses.replace(outcome, warnings=(*outcome.warnings, *warnings))


def only_expired(targets: t.Iterable[Target]) -> list[Target]:
    """Those whose isolation was to end by now, and those of which that is not known."""
    moment = datetime.datetime.now(datetime.timezone.utc)
    return [
        target
        for target in targets
        if (target.entry.expired(moment) if target.entry else isinstance(target.error, JournalError))
    ]


def _matches(container: Container, wanted: TargetFilter, exclude: TargetFilter) -> bool:
    return all(condition.met for condition in wanted.conditions(container)) and not any(
        condition.met for condition in exclude.conditions(container)
    )


def _refused(container: Container, why: str) -> Outcome:
    refusal = Refused(
        f"container {container.name} is not isolated: {why}",
        kind="protected",
        remedy="Nothing was touched. Use force if you are sure",
    )
    return Outcome(
        outcome=REFUSED,
        changed=False,
        container_id=container.id,
        container_name=container.name,
        before={},
        after={},
        error=refusal.to_dict(),
        started_at=now(),
    )
