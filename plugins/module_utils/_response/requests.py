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
import functools
import typing as t
import uuid

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now, parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import ResolutionError, Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.batch import in_two_passes
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.changes import (
    Changed,
    Decide,
    Found,
    Hold,
    Sterner,
    Take,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import (
    APPROVED,
    UNSTATED,
    Cause,
    Claim,
    every_claim,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError, Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.walk import Walk
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    HELD,
    REFUSED,
    RELEASED,
    WOULD_RELEASE,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import compiled
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import INTENDED
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.images import Images
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.neighbours import neighbour_warnings
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection

DEFAULT_ACTIONS = ({"type": "pause"}, {"type": "network_disconnect"})
"""What isolates where nobody says how."""
T = t.TypeVar("T")
_MATCHED_BY = {"container_names": "name", "image_patterns": "image pattern", "labels": "label"}


class Target(t.NamedTuple):
    """A container that is meant, or why none is.

    Attributes:
        name: of the container, or as it was asked for.
        container: the container; None where it is not there.
        entry: its isolation, where it was looked for in the journal.
        error: why it is not there, or why its isolation cannot be read.
        succeeded: it is gone, and a container that is meant has its name now.
        matched_by: of one that a filter matches, what of it does: C(name), C(label), C(image pattern), or what Images
            says.
    """

    name: str
    container: Container | None = None
    entry: Entry | None = None
    error: GuardError | None = None
    succeeded: bool = False
    matched_by: tuple[str, ...] = ()


class Result(t.NamedTuple):
    """What came of a target: an outcome, or the error of an attempt that ended before anything was touched.

    C(intended) is the id of the line of the action log that was written before acting, or empty.
    """

    target: Target
    outcome: Outcome | None = None
    error: GuardError | None = None
    intended: str = ""

    @property
    def ok(self) -> bool:
        """Whether what was asked for is so."""
        return self.outcome is not None and self.outcome.error is None and self.outcome.ok


def event_of(
    result: Result,
    actions: tuple[dict[str, t.Any], ...],
    cause: Cause,
    reasons: tuple[str, ...] = (),
    approval: t.Mapping[str, t.Any] | None = None,
    host: str = "",
) -> ActionEvent:
    """The record of what came of a target.

    Args:
        result: what came of it.
        actions: what was asked for.
        cause: why.
        reasons: further ones, inert.
        approval: what of it was decided on, or None.
        host: inventory name of this host, where it is known.
    """
    target = result.target
    known_id = target.entry.snapshot.id if target.entry else ""
    shown = target.container.to_dict() if target.container else {"id": known_id, "name": target.name, "image": ""}
    event = ActionEvent(
        outcome="failed",
        trace_id=cause.trace_id,
        policy_id=cause.policy_id,
        actor=cause.actor,
        host=host,
        intended=result.intended,
        container={name: text.display(value) for name, value in shown.items()},
        actions=actions,
        reasons=tuple(filter(None, [text.display(cause.reason), *reasons])),
        approval=approval,
    )
    if result.outcome:
        return event.with_outcome(result.outcome)
    return event.with_error(t.cast(GuardError, result.error))


class Selection:
    """Finds the containers that are meant on one host. Reads all of the journal once, and only where that is needed.

    Args:
        resolver: knows the containers.
        journal: knows the isolations.
    """

    def __init__(self, resolver: Resolver, journal: Journal) -> None:
        self._resolver = resolver
        self._journal = journal

    def named(self, references: t.Iterable[str], releasing: bool = False) -> list[Target]:
        """The containers of these ids or names, each once; what the journal says where the engine does not answer.

        Args:
            references: ids or names.
            releasing: also the isolations of containers that are gone and whose name one of them has now, and, as an
                error, what is wrong with an isolation that cannot be read.

        Raises:
            JournalError: the journal as a whole cannot be read.
        """
        found: dict[str, Target] = {}
        for reference in references:
            for target in self._named(reference, releasing):
                known = target.container.id if target.container else target.entry.snapshot.id if target.entry else ""
                key = known or f"? {reference}"
                if key not in found or target.succeeded:
                    found[key] = target
        return list(found.values())

    def matching(self, wanted: TargetFilter, exclude: TargetFilter, images: Images | None = None) -> list[Target]:
        """The containers that a filter matches, and that are of the images, by name. Raises EngineError."""
        unreadable: dict[str, EngineError] = {}
        found = [
            Target(container.name, container, matched_by=matched_by)
            for container in self._resolver.all(unreadable)
            for matched_by in [_matched_by(container, wanted, exclude, images)]
            if matched_by
        ]
        # One that hangs may be meant, unless its name says that it is not, and keeps the others from nothing.
        found += [
            Target(name, error=error)
            for name, error in unreadable.items()
            if (not wanted.container_names or _named_by(wanted, name)) and not _named_by(exclude, name)
        ]
        return sorted(found, key=lambda target: target.name)

    def to_release(self, targets: t.Iterable[Target]) -> list[Target]:
        """The targets with their isolations, or with what is wrong with those that cannot be read.

        The isolations of containers that are gone and whose names they have now are among them. Raises JournalError.
        """
        found: list[Target] = []
        for target in targets:
            container = target.container
            found += [self._with_entry(container), *self._predecessors(container)] if container else [target]
        return found

    def recorded(self, which: t.Callable[[Claim], bool] = every_claim) -> list[Target]:
        """The containers that somebody holds whose claim is meant, or that nobody holds any more. Raises JournalError.

        Those whose network alone is off, for the sake of another container, are not among them.
        """
        return self._in_journal(lambda entry: _is_meant(entry, which))

    def to_repair(self) -> list[Target]:
        """All containers that the journal knows of. Raises JournalError."""
        return self._in_journal(lambda _entry: True)

    @functools.cached_property
    def _journalled(self) -> tuple[list[Entry], list[JournalError]]:
        return self._journal.entries()

    def _in_journal(self, meant: t.Callable[[Entry], bool]) -> list[Target]:
        entries, damaged = self._journalled
        found = [Target("?", error=error) for error in damaged]
        return [*found, *(self._of(entry) for entry in entries if meant(entry))]

    def _named(self, reference: str, releasing: bool) -> list[Target]:
        unknown = text.display(reference, 80)
        try:
            container = self._resolver.by_reference(reference)
        except ResolutionError as error:
            entries = self._recorded_as(reference) if error.kind == "not_found" else []
            return [self._of(entry) for entry in entries] or [Target(unknown, error=error)]
        except EngineError as error:
            found = [Target(entry.snapshot.name, entry=entry, error=error) for entry in self._recorded_as(reference)]
            return found or [Target(unknown, error=error)]
        target = self._with_entry(container)
        if releasing:
            return [target, *self._predecessors(container)]
        # Isolating meets a damaged entry again, and pauses the container all the same.
        return [target._replace(error=None)]

    def _with_entry(self, container: Container) -> Target:
        try:
            return Target(container.name, container, self._journal.load(container.id))
        except JournalError as error:
            return Target(container.name, container, error=error)

    def _recorded_as(self, reference: str) -> list[Entry]:
        """The isolations of containers with that id or name, by the journal alone. Raises JournalError."""
        container_id = text.container_id(reference)
        return [
            entry
            for entry in self._journalled[0]
            if reference.lstrip("/") == entry.snapshot.name
            or (container_id and entry.snapshot.id.startswith(container_id))
        ]

    def _predecessors(self, container: Container) -> list[Target]:
        """The isolations of containers that are gone, and whose name the container has now. Raises JournalError."""
        named = [self._of(entry) for entry in self._journalled[0] if entry.snapshot.name == container.name]
        # One that the engine does not tell of is not known to be gone.
        return [target._replace(succeeded=True) for target in named if _is_gone(target)]

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
        intents: where it is declared what is about to be done; None to leave that.
    """

    def __init__(
        self,
        isolator: Isolator,
        journal: Journal,
        resolver: Resolver,
        protection: Protection,
        concurrency: int,
        check: bool = False,
        intents: Intents | None = None,
    ) -> None:
        self._intents = intents
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
        """Isolate them, all paused before the first one leaves its networks. One that is protected is refused."""
        self._isolator.claim(actions)  # says so where they exclude each other

        def walk(target: Target, cause: Cause) -> Walk | Result:
            claim = self._isolator.claim(actions, cause, release_after)
            container = t.cast(Container, target.container)
            why = "" if force else self._protection.reason(container, actions)
            if why:
                return Result(target, _refused(container, why))
            return self._isolator.walk(container.id, Hold((claim,), force), self._check, patient=False)

        asked = tuple(action.to_dict() for action in actions)
        return [self._with_peers(result, asked) for result in self._in_two_passes(targets, walk, cause, asked)]

    def decide(
        self,
        targets: t.Sequence[Target],
        decision: str,
        cause: Cause,
        force: bool = False,
        which: t.Callable[[Claim], bool] = every_claim,
    ) -> list[Result]:
        """Approve of what waits for that on them, or refuse it. What is protected by now is not ended."""

        def walk(target: Target, cause: Cause) -> Walk | Result:
            container = t.cast(Container, target.container)
            ends = [Action("kill")] if decision == APPROVED and not force else []
            why = self._protection.reason(container, ends) if ends else ""
            if why:
                return Result(target, _refused(container, why))
            change = Decide(decision=decision, which=which, cause=cause, force=force)
            return self._isolator.walk(container.id, change, self._check, patient=False)

        return self._in_two_passes(targets, walk, cause)

    def escalate(self, targets: t.Sequence[Target], action: Action, cause: Cause) -> list[Result]:
        """Hold them by one action more, for those who hold them already. One that is released meanwhile is refused."""
        goal = Goal.of([action])

        def walk(target: Target, _cause: Cause) -> Walk | Result:
            container = t.cast(Container, target.container)
            return self._isolator.walk(container.id, Sterner(goal=goal), self._check, patient=False)

        return self._in_two_passes(targets, walk, cause, (action.to_dict(),))

    def repair(self, targets: t.Sequence[Target], force: bool = False, cause: Cause = UNSTATED) -> list[Result]:
        """Do again what the journal says of them and somebody undid, also to containers that took their names."""

        def walk(target: Target, _cause: Cause) -> Walk | Result:
            entry = t.cast(Entry, target.entry)
            if self._journal.load(entry.snapshot.id) is None:
                raise _released_meanwhile(target.name)
            if target.container:
                # One that is isolated already was asked for, protected or not.
                return self._isolator.walk(target.container.id, Hold((), force), self._check, patient=False)
            if not entry.own_claims:
                return Result(target, self._forgotten(entry, "it left its network for the sake of others, and is gone"))
            container = self._successor(entry, target)
            goal = entry.hold
            cut = [Action("network_disconnect", goal.networks)] if goal.networks else []
            why = "" if force else self._protection.reason(container, cut)
            if why:
                return Result(target, _refused(container, why))
            claims = tuple(claim.renewed(self._isolator.now()) for claim in entry.own_claims)
            change = _Inherited(claims, force, still=lambda: self._journal.load(entry.snapshot.id) is not None)
            return self._isolator.walk(container.id, change, self._check, patient=False)

        return [self._after_repair(result) for result in self._in_two_passes(targets, walk, cause, also_gone=True)]

    def release(
        self,
        targets: t.Sequence[Target],
        restart: bool = False,
        force: bool = False,
        which: t.Callable[[Claim], bool] = every_claim,
        cause: Cause = UNSTATED,
        recreate_networks: bool = False,
        remembered: bool = True,
    ) -> list[Result]:
        """Release them.

        The isolation of one that is gone is forgotten where that is forced, or where another container has its name and
        is asked for by it, unless somebody whose claim is not meant wants it held.
        """
        events = {id(target): self._event(target, cause) for target in targets}

        def work(target: Target) -> Result:
            if target.container is None:
                return Result(target, self._release_gone(target, force, which))
            event = events[id(target)]
            change = Take(
                which,
                restart,
                dataclasses.replace(cause, intended=event.intended),
                force=force,
                recreate_networks=recreate_networks,
                remembered=remembered,
            )
            walk = self._isolator.walk(target.container.id, change, self._check).begin()
            self._declare([(walk, event)])
            return self._result(target, walk.finish(), None, event)

        def wave(target: Target) -> int:
            if target.container is None:
                return 0  # a repair that has just isolated the successor of one that is gone is undone by the next wave
            # The network of its owner comes back with a container that uses it; the owner by itself would be refused.
            return 1 if _owner_of(target) else 2

        waves = [[target for target in targets if wave(target) == number] for number in range(3)]
        done = {id(result.target): result for these in waves for result in self._each(these, work)}
        # What kept one of a pod may have been another one of it, which was released after it.
        pods = [] if self._check else _of_pods(targets)
        for these in waves[1:]:
            again = [target for target in these if target in pods and _was_kept(done[id(target)])]
            done.update(
                {id(result.target): _continued(done[id(result.target)], result) for result in self._each(again, work)}
            )
        return [done[id(target)] for target in targets]

    def _in_two_passes(
        self,
        targets: t.Sequence[Target],
        walk: t.Callable[[Target, Cause], Walk | Result],
        cause: Cause,
        asked: tuple[dict[str, t.Any], ...] = (),
        also_gone: bool = False,
    ) -> list[Result]:
        events = [self._event(target, cause, asked) for target in targets]
        causes = iter([dataclasses.replace(cause, intended=event.intended) for event in events])

        def prepared(target: Target) -> Walk | Result:
            own = next(causes)
            if target.error and not (also_gone and _is_gone(target)):
                return Result(target, error=target.error)
            return walk(target, own)

        found = [self._guarded(target, prepared) for target in targets]
        begun = [(one, event) for one, event in zip(found, events) if isinstance(one, Walk)]
        walked = iter(in_two_passes([one for one, _event in begun], self._concurrency, lambda: self._declare(begun)))
        return [
            self._result(target, *next(walked), event) if isinstance(one, Walk) else one
            for target, one, event in zip(targets, found, events)
        ]

    def _event(self, target: Target, cause: Cause, asked: tuple[dict[str, t.Any], ...] = ()) -> ActionEvent:
        """What is declared of an attempt."""
        shown = target.container.to_dict() if target.container else {"id": "", "name": target.name, "image": ""}
        return ActionEvent(
            INTENDED,
            trace_id=cause.trace_id,
            actor=cause.actor,
            container={name: text.display(value) for name, value in shown.items()},
            actions=asked,
            intended=str(uuid.uuid4()) if self._intents else "",
        )

    def _declare(self, attempts: t.Sequence[tuple[Walk, ActionEvent]]) -> None:
        if self._intents:
            self._intents.declare(attempts)

    def _result(self, target: Target, outcome: Outcome | None, error: GuardError | None, event: ActionEvent) -> Result:
        declared = self._intents.declared if self._intents else ()
        # One that had to wait for another run may have acted all the same.
        acted = event.intended in declared or bool(outcome and outcome.changed)
        return Result(target, outcome, error, event.intended if acted else "")

    def _each(self, targets: t.Sequence[Target], work: t.Callable[[Target], Result]) -> list[Result]:
        def one(target: Target) -> Result:
            if target.error and not _is_gone(target):
                return Result(target, error=target.error)
            return work(target)

        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(lambda target: self._guarded(target, one), targets))

    def _guarded(self, target: Target, work: t.Callable[[Target], T]) -> T | Result:
        try:
            return work(target)
        except GuardError as error:
            return Result(target, error=error)
        except Exception as error:  # a defect of the guard must not lose the results of the other containers
            return Result(target, error=GuardError(f"internal error: {error!r}", kind="internal_error"))

    def _after_repair(self, result: Result) -> Result:
        target, outcome, entry = result.target, result.outcome, result.target.entry
        if target.container or entry is None or outcome is None or not outcome.ok or not entry.own_claims:
            return result
        warning = f"it took the name of container {entry.snapshot.id[:12]}, which was isolated and is gone"
        try:
            self._isolator.forget(entry, self._check)
        except GuardError as error:
            return result._replace(outcome=dataclasses.replace(outcome, error=error.to_dict()))
        return result._replace(outcome=dataclasses.replace(outcome, warnings=(warning, *outcome.warnings)))

    def _successor(self, entry: Entry, target: Target) -> Container:
        try:
            return self._resolver.by_name(entry.snapshot.name)
        except ResolutionError as error:
            raise target.error or error from error

    def _release_gone(self, target: Target, force: bool, which: t.Callable[[Claim], bool]) -> Outcome:
        entry = target.entry
        # What nobody holds any more was about to be given back, and there is nothing left to give back.
        if entry is None or not (force or target.succeeded or not entry.claims):
            raise target.error or NotFound(f"container {target.name} no longer exists")
        others = [claim for claim in entry.own_claims if not which(claim)]
        if others:
            # They hold nothing now, but are for a container that takes its name: repair isolates that for them.
            partly = len(others) < len(entry.own_claims)
            raise Refused(
                "container {} ({}) is gone, and its isolation is not forgotten: {} it".format(
                    target.name,
                    entry.snapshot.id[:12],
                    "others hold" if partly else "nobody whose isolation is to end holds",
                ),
                kind="still_held" if partly else "not_claimed",
                remedy="Nothing was changed. isolation_info says who holds it",
            )
        return self._forgotten(
            entry,
            f"container {entry.snapshot.id[:12]} of that name was isolated and is gone; its isolation is forgotten"
            if target.succeeded
            else "it was removed while it was isolated; the isolation is forgotten",
        )

    def _forgotten(self, entry: Entry, warning: str) -> Outcome:
        self._isolator.forget(entry, self._check)
        snapshot, moment = entry.snapshot, now()
        return Outcome(
            outcome=WOULD_RELEASE if self._check else RELEASED,
            changed=True,
            container_id=snapshot.id,
            container_name=snapshot.name,
            before={},
            after={},
            warnings=(warning,),
            started_at=moment,
            verified_at=moment,
        )

    def _with_peers(self, result: Result, actions: t.Sequence[t.Mapping[str, t.Any]]) -> Result:
        outcome, container = result.outcome, result.target.container
        if outcome is None or container is None or not outcome.ok:
            return result
        warnings = neighbour_warnings(self._resolver, container.id, actions)
        return result._replace(outcome=dataclasses.replace(outcome, warnings=(*outcome.warnings, *warnings)))


@dataclasses.dataclass(frozen=True)
class _Inherited(Hold):
    """Put the claims on a container that is gone on the one that took its name.

    A release by that name forgets the isolation of the one that is gone, and then takes what claims there are on its
    successor. Under the lock of the successor, it comes either before or after this as a whole.

    Attributes:
        still: whether the isolation of the one that is gone is on record.
    """

    still: t.Callable[[], bool] = lambda: True

    def apply(self, entry: Entry | None, found: Found) -> Changed:
        """As Hold. Raises Refused also where it was released meanwhile."""
        if not self.still():
            raise _released_meanwhile(found.state.name)
        return super().apply(entry, found)


def _released_meanwhile(name: str) -> Refused:
    return Refused(f"container {name} was released meanwhile", remedy="Nothing was touched")


def claimed(targets: t.Iterable[Target], which: t.Callable[[Claim], bool]) -> list[Target]:
    """Those that somebody holds whose claim is meant, or nobody any more, and those of which that is not known."""
    return [
        target
        for target in targets
        if (
            _is_meant(target.entry, which)
            if target.entry
            else target.error is not None and target.error.kind != "not_found"
        )
    ]


def _of_pods(targets: t.Sequence[Target]) -> list[Target]:
    """Those that use the network of another one of them, or whose network another one of them uses."""
    there = [(target, target.container.id, _owner_of(target)) for target in targets if target.container]
    ids, owners = {own for _target, own, _owner in there}, {owner for _target, _own, owner in there}
    return [target for target, own, owner in there if own in owners or owner in ids]


def _owner_of(target: Target) -> str:
    """Id of the container whose network it uses, as far as it is isolated, or empty."""
    return target.entry.snapshot.network_owner if target.entry else ""


def _was_kept(result: Result) -> bool:
    """Whether something else than a failure kept it from being released."""
    outcome = result.outcome
    return outcome is not None and outcome.error is not None and outcome.outcome in (REFUSED, HELD)


def _continued(first: Result, second: Result) -> Result:
    """What came of a release that was tried once more, after others of its pod were released."""
    begun, ended = t.cast(Outcome, first.outcome), second.outcome
    if ended is None or not (ended.ok or ended.changed):
        return first
    if not begun.changed:
        return second
    outcome = dataclasses.replace(
        begun,
        outcome=ended.outcome,
        after=ended.after,
        steps=(*begun.steps, *ended.steps),
        error=ended.error,
        claims=ended.claims,
        expires_at=ended.expires_at,
        verified_at=ended.verified_at,
    )
    return first._replace(outcome=outcome)


def _is_meant(entry: Entry, which: t.Callable[[Claim], bool]) -> bool:
    # What nobody holds is left of a release that was interrupted, and whoever releases anything is to end it.
    return not entry.claims or any(map(which, entry.own_claims))


def _is_gone(target: Target) -> bool:
    return target.error is not None and target.error.kind == "container_gone"


def claim_filter(
    policy: str = "", trace: str = "", since: datetime.datetime | None = None
) -> t.Callable[[Claim], bool]:
    """Whether a claim is of that policy, of the alert or request with that trace id, and not older than a moment.

    What is empty or None is not asked for.
    """
    if not (policy or trace or since):
        return every_claim

    def meant(claim: Claim) -> bool:
        began = parse_timestamp(claim.since)
        return (
            (not policy or claim.cause.policy_id == policy)
            and (not trace or claim.cause.trace_id == trace)
            and (since is None or (began is not None and began >= since))
        )

    return meant


def expired_at(moment: datetime.datetime) -> t.Callable[[Claim], bool]:
    """Whether a claim was to end by then."""
    return lambda claim: claim.expired(moment)


def _matched_by(
    container: Container, wanted: TargetFilter, exclude: TargetFilter, images: Images | None
) -> tuple[str, ...]:
    """By what a container is meant; nothing where it is not."""
    conditions = wanted.conditions(container)
    if not all(condition.met for condition in conditions) or any(
        condition.met for condition in exclude.conditions(container)
    ):
        return ()
    found = tuple(_MATCHED_BY[condition.field] for condition in conditions)
    if images is None:
        return found
    how = images.matched(container)
    if (images.wanted and not how) or images.excluded(container):
        return ()
    return (*found, how) if how else found


def _named_by(names: TargetFilter, name: str) -> bool:
    return any(compiled(glob).matches(name) for glob in names.container_names)


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
