# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holding: what is isolated stays so. Who undoes it is noticed by the event stream, and at a look now and then.

Whether something was undone is never concluded from an event. It says where to look, and what is found there counts.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import logging
import queue
import threading
import time
import typing as t
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp, utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.breaches import inspect
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import POLICY, Cause, Claim
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import ISOLATED, Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import inert
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import Finding
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import FAILED
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy import breach
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.breach import OnBreach
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answerer import Policies
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import (
    Requests,
    Result,
    Selection,
    Target,
    claimed,
    event_of,
    expired_at,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

logger = logging.getLogger(__name__)

LOOK = 30.0
"""Seconds between two looks at all that is isolated: there are changes of which the engine tells nobody."""
_SETTLED = 1.0
"""Seconds between two looks at what is to end, at least."""
_LONGEST_PAUSE = 3600.0
"""Seconds between two attempts to release what is over, at most."""
REPAIRED, ESCALATED, REPORTED, NOT_MENDED = "repaired", "escalated", "reported", "failed"
"""What becomes of a breach."""
_MENDED = (REPAIRED, ESCALATED)
_STOP, _ALL = "stop", "all"
_UNDOING: Mapping[str, frozenset[str]] = {
    "container": frozenset(("unpause", "start", "restart", "die", "destroy", "create", "rename", "update")),
    "network": frozenset(("connect",)),
}
"""Events after which a container may not be isolated any more, or another has its name."""


class Breach(t.NamedTuple):
    """What was found undone, and what became of it.

    Attributes:
        container_id: full id.
        name: of the container.
        kinds: of what was undone.
        done: C(repaired), C(escalated), C(reported), or C(failed).
    """

    container_id: str
    name: str
    kinds: tuple[str, ...]
    done: str


class _Again(t.NamedTuple):
    """When a release that failed is tried again, after which pause in seconds, and why it failed."""

    at: float = 0.0
    pause: float = 0.0
    said: str = ""


@dataclasses.dataclass(frozen=True)
class Ground:
    """What holding stands on.

    Attributes:
        host: inventory name of this host.
        docker_host: URL of the engine.
        actor: who holds, for the records.
        concurrency: containers that are worked on at a time.
        engine: of this host.
        inventory: what is known of its containers.
        files: the state directory.
        isolator: isolates.
        policies: those in force, or None.
        clock: this moment.
    """

    host: str
    docker_host: str
    actor: str
    concurrency: int
    engine: Engine
    inventory: Inventory
    files: StateDir
    isolator: Isolator
    policies: Callable[[], Policies | None]
    clock: Callable[[], datetime.datetime] = utc_now


class Holder:
    """Holds what the journal says is isolated, in a thread of its own, and ends what was to end by now.

    Args:
        ground: what it stands on.
        recorded: called with what was put on record.
        breached: called with a breach, once until it is another.
        monotonic: seconds that only grow.
    """

    def __init__(
        self,
        ground: Ground,
        recorded: Callable[[Sequence[ActionEvent]], object] = lambda _events: None,
        breached: Callable[[Breach], object] = lambda _breach: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ground = ground
        self._journal = Journal(ground.files)
        self._log = ActionLog(ground.files)
        self._recorded = recorded
        self._breached = breached
        self._monotonic = monotonic
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._queued: set[str] = set()
        self._lock = threading.Lock()
        self._repairs: dict[str, collections.deque[float]] = {}
        self._given_up: dict[str, tuple[str, ...]] = {}
        self._gone: set[str] = set()
        self._again: dict[str, _Again] = {}
        self._damaged: list[str] = []
        self._trouble = ""
        self._thread = threading.Thread(target=self._run, name="container-guard-holder", daemon=True)
        self.breaches: collections.Counter[tuple[str, str]] = collections.Counter()
        """How often something was undone, by what was, and what became of it."""

    def __enter__(self) -> Holder:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._queue.put(_STOP)
        self._thread.join(30)

    def note(self, event: Mapping[str, t.Any]) -> None:
        """Take an event of the engine, in the thread of the watcher: quick, and what is found is seen to elsewhere."""
        if event.get("Action") not in _UNDOING.get(str(event.get("Type")), ()):
            return
        actor = event.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        container_id = attributes.get("container") if event["Type"] == "network" else actor.get("ID")
        self._ask(str(container_id or ""))
        if event["Action"] in ("create", "rename", "start"):
            self._ask(f"/{attributes.get('name', '')}")

    def look(self) -> None:
        """Have all that is isolated looked at, as after a gap in the events, or a restart of the engine."""
        self._ask(_ALL)

    def number(self) -> int:
        """How many containers the journal says are isolated; 0 where it cannot be read, which is a trouble."""
        try:
            entries, _damaged = self._journal.entries()
        except GuardError:
            return 0
        return sum(entry.phase == ISOLATED for entry in entries)

    def troubles(self) -> list[str]:
        """What keeps containers from being held, a sentence each."""
        given_up = [f"container {name}: {why}" for name, why in list(self._given_up.values())]
        return [*([self._trouble] if self._trouble else []), *self._damaged, *given_up]

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _ask(self, what: str) -> None:
        with self._lock:
            if what in self._queued:
                return
            self._queued.add(what)
        self._queue.put(what)

    def _run(self) -> None:
        due = self._monotonic() + LOOK
        while True:
            try:
                what = self._queue.get(timeout=max(0.0, due - self._monotonic()))
            except queue.Empty:
                what = _ALL
            if what == _STOP:
                return
            with self._lock:
                self._queued.discard(what)
            if what == _ALL:
                due = self._monotonic() + LOOK
            try:
                due = min(due, self._monotonic() + self._see_to(what))
                self._trouble = ""
            except Exception as error:  # whatever it is, what is isolated must go on being held
                self._trouble = f"what is isolated cannot be looked at: {error}"
                if not isinstance(error, GuardError):
                    logger.exception("What is isolated cannot be looked at")

    def _see_to(self, what: str) -> float:
        """Look at one container, at those that had a name, or at all; seconds until all are to be looked at."""
        if what == _ALL:
            entries, damaged = self._journal.entries()
            self._damaged = [str(error) for error in damaged]
            self._forget_all_but(entries)
        elif what.startswith("/"):
            entries = [entry for entry in self._journal.entries()[0] if f"/{entry.snapshot.name}" == what]
        else:
            found = self._journal.load(what)
            entries = [found] if found else []
        until = self._end_what_is_over(entries)
        self.hold(entry for entry in entries if entry.phase == ISOLATED or what == _ALL)
        return until

    def _forget_all_but(self, entries: Sequence[Entry]) -> None:
        """Remember nothing of what is not isolated any more."""
        ids, names = {entry.snapshot.id for entry in entries}, {entry.snapshot.name for entry in entries}
        self._gone &= ids
        for one in [one for one in self._given_up if one not in ids]:
            del self._given_up[one]
        for one in [one for one in self._again if one not in ids]:
            del self._again[one]
        for name in [name for name in self._repairs if name not in names]:
            del self._repairs[name]

    # --- holding ------------------------------------------------------------------------------------------------------

    def hold(self, entries: Iterable[Entry]) -> list[Breach]:
        """See whether these isolations hold, and mend what was undone."""
        resolver = Resolver(self._ground.engine, self._ground.inventory)
        return [breach for entry in entries for breach in self._hold(entry, resolver)]

    def _hold(self, entry: Entry, resolver: Resolver) -> list[Breach]:
        found = inspect(self._ground.isolator, resolver, entry).breaches
        if not found:
            self._given_up.pop(entry.snapshot.id, None)
            return []
        kinds = tuple(dict.fromkeys(finding.kind for finding in found))
        if self._is_at_work(entry):
            return []
        if "unreadable" in kinds:  # nobody knows that it was undone, and nothing can be done about it
            self._give_up(entry, f"whether it is isolated is not known: {found[0].message}")
            return []
        if "removed" in kinds:
            return self._tell_removed(entry)
        before = self._given_up.get(entry.snapshot.id)
        done = self._mend(entry, found, resolver)
        for kind in kinds:
            self.breaches[kind, done] += 1
        breached = Breach(entry.snapshot.id, entry.snapshot.name, kinds, done)
        if done in _MENDED or self._given_up.get(entry.snapshot.id) != before:
            self._breached(breached)
        return [breached]

    def _tell_removed(self, entry: Entry) -> list[Breach]:
        """Tell once that an isolated container is gone: there is nothing to be held, until another has its name."""
        if entry.snapshot.id in self._gone:
            return []
        self._gone.add(entry.snapshot.id)
        self._given_up.pop(entry.snapshot.id, None)
        self.breaches["removed", REPORTED] += 1
        logger.warning(
            "Container %s was removed while it was isolated. Who takes its name is isolated", entry.snapshot.name
        )
        breached = Breach(entry.snapshot.id, entry.snapshot.name, ("removed",), REPORTED)
        self._breached(breached)
        return [breached]

    def _is_at_work(self, entry: Entry) -> bool:
        """Whether somebody works on it, or has done so since it was read: then that counts, and he verifies it."""
        try:
            with self._journal.lock(entry.snapshot.id, timeout=0):
                return self._journal.load(entry.snapshot.id) != entry
        except GuardError as error:
            return error.kind == "busy"

    def _mend(self, entry: Entry, found: Sequence[Finding], resolver: Resolver) -> str:
        """Do what the policy wants; what became of it."""
        name, policy = entry.snapshot.name, self._on_breach(entry)
        why = "breach: {}".format("; ".join(map(str, found)))
        # What nobody holds any more was about to be given back: that is brought to its end, however often.
        often = bool(entry.own_claims) and policy.action == breach.REPAIR and self._too_often(name, policy)
        if often:
            why += f" (repaired {policy.max_repairs} times within {policy.window} s before)"
        sterner = policy.then if often or (policy.action == breach.ESCALATE and entry.own_claims) else ""
        if policy.action == breach.REPORT or sterner == breach.REPORT:
            self._report(entry, why)
            return REPORTED
        said = self._escalate(entry, sterner, why, resolver) if sterner else ""
        if sterner and not said:
            self._given_up.pop(entry.snapshot.id, None)
            logger.warning("Container %s was set free: %s, so that it is held by %s", name, why, sterner)
            return ESCALATED
        # Also where it cannot be ended it is not left free.
        failed = self._repair(entry, why, resolver)
        if failed:
            self._give_up(entry, f"it does not stay isolated: {failed}")
            return NOT_MENDED
        self._count_repair(name)
        logger.warning("Container %s was set free (%s), and is held again", name, why)
        if said:
            self._give_up(entry, f"it is held again, but not by {sterner}: {said}")
        else:
            self._given_up.pop(entry.snapshot.id, None)
        return REPAIRED

    def _repair(self, entry: Entry, why: str, resolver: Resolver) -> str:
        """Isolate it again, or who took its name; why that is not so, or empty."""
        cause, intents = self._cause(why, entry), Intents(self._log, self._ground.files.warnings)
        results = self._requests(resolver, intents).repair([self._target(entry, resolver)], cause=cause)
        return self._outcome_of(entry, results, intents, cause, ())

    def _escalate(self, entry: Entry, action: str, why: str, resolver: Resolver) -> str:
        """Hold it by one action more, and who took its name by all; why that is not so, or empty."""
        container_id = entry.snapshot.id
        if self._target(entry, resolver).container is None:
            said = self._repair(entry, why, resolver)
            heirs = [one for one in self._journal.entries()[0] if one.snapshot.name == entry.snapshot.name]
            if said or not heirs:
                return said or "nobody has its name"
            entry, container_id = heirs[-1], heirs[-1].snapshot.id
            resolver = Resolver(self._ground.engine, self._ground.inventory)
        target = self._target(entry, resolver)
        if target.container is None or target.container.id != container_id:
            return "it is gone"
        cause, intents = self._cause(why, entry), Intents(self._log, self._ground.files.warnings)
        asked = Action(action)
        results = self._requests(resolver, intents).escalate([target], asked, cause)
        return self._outcome_of(entry, results, intents, cause, (asked.to_dict(),))

    def _outcome_of(
        self,
        entry: Entry,
        results: Sequence[Result],
        intents: Intents,
        cause: Cause,
        actions: tuple[dict[str, t.Any], ...],
    ) -> str:
        """Put on record what came of it, unless it is the same failure as before; why it failed, or empty."""
        failed = [result for result in results if not result.ok]
        said = "; ".join(_said(result) for result in failed)
        if not failed or said not in self._given_up.get(entry.snapshot.id, ("", ""))[1]:
            self._record(results, intents, cause, actions)
        return said

    def _report(self, entry: Entry, why: str) -> None:
        """Tell of it once, until it is something else."""
        if self._given_up.get(entry.snapshot.id, ("", ""))[1] == why:
            return
        self._give_up(entry, why)
        cause = self._cause(why, entry)
        error = GuardError(why, kind="breach", remedy="The playbook repair isolates it again")
        event = ActionEvent(
            FAILED,
            trace_id=cause.trace_id,
            policy_id=cause.policy_id,
            actor=cause.actor,
            host=self._ground.host,
            container={"id": entry.snapshot.id, "name": entry.snapshot.name, "image": ""},
        ).with_error(error)
        self._append([event])

    def _give_up(self, entry: Entry, why: str) -> None:
        if self._given_up.get(entry.snapshot.id) != (entry.snapshot.name, why):
            logger.error("Container %s: %s", entry.snapshot.name, why)
        self._given_up[entry.snapshot.id] = (entry.snapshot.name, why)

    def _too_often(self, name: str, policy: OnBreach) -> bool:
        """Whether containers of that name were repaired as often as they may be: a healer makes new ones."""
        now, repairs = self._monotonic(), self._repairs.get(name, ())
        return sum(now - moment <= policy.window for moment in repairs) >= policy.max_repairs

    def _count_repair(self, name: str) -> None:
        self._repairs.setdefault(name, collections.deque(maxlen=1_000)).append(self._monotonic())

    def _on_breach(self, entry: Entry) -> OnBreach:
        """What is to be done, by those who hold it: the sternest of them counts."""
        policies = self._ground.policies()
        of_policies = policies.on_breach if policies else {}
        wanted = [
            of_policies.get(claim.subject, breach.DEFAULT) if claim.kind == POLICY else breach.OF_A_PERSON
            for claim in entry.own_claims
        ]
        actions, ends = (breach.REPORT, breach.REPAIR, breach.ESCALATE), (breach.REPORT, breach.CUT, breach.KILL)
        return max(
            wanted, key=lambda one: (actions.index(one.action), ends.index(one.then)), default=breach.OF_A_PERSON
        )

    # --- ending -------------------------------------------------------------------------------------------------------

    def _end_what_is_over(self, entries: Sequence[Entry]) -> float:
        """End what was to end by now; seconds until the next end, or the next attempt at one that failed."""
        moment, now = self._ground.clock(), self._monotonic()
        over = expired_at(moment)
        due = {entry.snapshot.id for entry in entries if any(over(claim) for claim in entry.own_claims)}
        ends = [parse_timestamp(claim.expires_at) for entry in entries for claim in entry.own_claims]
        left = [(end - moment).total_seconds() for end in ends if end and end > moment]
        left += [self._again[one].at - now for one in due if one in self._again and self._again[one].at > now]
        due = {one for one in due if one not in self._again or self._again[one].at <= now}
        if due:
            left += self._release(due, over)
        return max(min(left, default=LOOK), _SETTLED)

    def _release(self, due: set[str], over: Callable[[Claim], bool]) -> list[float]:
        """Release what is over; of those that could not be, the seconds until that is tried again."""
        resolver = Resolver(self._ground.engine, self._ground.inventory)
        targets = [
            target
            for target in claimed(Selection(resolver, self._journal).recorded(over), over)
            if target.entry and target.entry.snapshot.id in due
        ]
        cause, intents = self._cause("its time is over"), Intents(self._log, self._ground.files.warnings)
        requests = self._requests(resolver, intents)
        gone = [target for target in targets if target.container is None]
        there = [target for target in targets if target.container]
        # What ends by its time does not say that alerts of before were wrong. What is gone is forgotten.
        results = requests.release(there, which=over, cause=cause, remembered=False)
        results += requests.release(gone, force=True, which=over, cause=cause, remembered=False)
        told, left = [], []
        for result in results:
            container_id = t.cast(Entry, result.target.entry).snapshot.id
            before = self._again.pop(container_id, _Again())
            if result.ok:
                told.append(result)
                continue
            pause = min(max(2 * before.pause, LOOK), _LONGEST_PAUSE)
            said = _said(result)
            self._again[container_id] = _Again(self._monotonic() + pause, pause, said)
            left.append(pause)
            if said != before.said:
                told.append(result)
                logger.error("Container %s, whose time is over, is not released: %s", result.target.name, said)
        self._record(told, intents, cause, ())
        return left

    # --- what both need -----------------------------------------------------------------------------------------------

    def _requests(self, resolver: Resolver, intents: Intents) -> Requests:
        ground, policies = self._ground, self._ground.policies()
        protection = Protection(resolver, policies.engine if policies else None, ground.docker_host)
        return Requests(ground.isolator, self._journal, resolver, protection, ground.concurrency, intents=intents)

    def _cause(self, why: str, entry: Entry | None = None) -> Cause:
        return Cause(
            reason=inert(why),
            trace_id=str(uuid.uuid4()),
            actor=self._ground.actor,
            policy_id=_policy_of(entry) if entry else "",
        )

    def _target(self, entry: Entry, resolver: Resolver) -> Target:
        """The container of an isolation, as the module finds it."""
        targets = Selection(resolver, self._journal).to_repair()
        return next(
            (one for one in targets if one.entry and one.entry.snapshot.id == entry.snapshot.id),
            Target(entry.snapshot.name, entry=entry),
        )

    def _record(
        self, results: Sequence[Result], intents: Intents, cause: Cause, actions: tuple[dict[str, t.Any], ...]
    ) -> None:
        events = [event_of(result, actions, cause, host=self._ground.host) for result in results]
        self._append([*intents.ends, *(event for event in events if event.changed or event.error)])

    def _append(self, events: Sequence[ActionEvent]) -> None:
        try:
            self._log.append(events)
        except GuardError as error:
            logger.error("What was done is not on record: %s", error)
        self._recorded(events)


def _policy_of(entry: Entry) -> str:
    """The policy that began the isolation, or empty where a person did."""
    return next((claim.subject for claim in entry.claims if claim.kind == POLICY), "")


def _said(result: Result) -> str:
    """Why it is not so."""
    if result.outcome is None:
        return str(result.error)
    return str((result.outcome.error or {}).get("message", result.outcome.outcome))
