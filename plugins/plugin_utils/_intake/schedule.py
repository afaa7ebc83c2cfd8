# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who gets what, and when: the turns of hosts. No input and output, and no clock but the one that is given.

A host has one delivery under way. Alerts about it that come meanwhile wait, so that a storm is a few playbook runs.
Hosts that answer share runs. One that did not answer its last delivery is *sick*: it gets deliveries of its own, after
pauses that grow, and all such hosts together never take the room that the others need.

A delivery holds its place until its playbook run has ended, as the rule engine counts runs. That may be long after the
last receipt, and is in the hands of its hosts. So each of them goes on before, but has only so many runs.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
import ipaddress
import itertools
import typing as t
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import READABLE_BYTES

Json = t.Any

NEVER = float("inf")
LEVELS = 5
"""Severities."""
QUIET = 16
"""Alerts leave once no other arrived for this fraction of the window: a lone alert hardly waits, a burst does."""
DELIVERY_BYTES = 262_144
"""Alerts of a delivery at most, as JSON, unless a single one is larger: each of its hosts is sent them."""
_TAKEN_BACK = 1.0
"""Seconds until a delivery is tried again that could not be made."""
_MEMBERS_FOR = 600.0
"""Seconds for which the hosts of a pattern are remembered: an inventory may change."""
_MOST_RUNS = 3
"""Playbook runs of a host at most, with those that go on after its receipt."""
_SHARED_RUNS = 2
"""With so many that go on it gets runs of its own. It is fewer than the most: whoever shared these with a host whose
runs never end goes on, one run at a time."""
_OWN_TURN = 60.0
"""Seconds that what follows the answer of a host has, where more alerts about it wait than it may have runs."""
_LAST_FOR = 600.0
"""Seconds for which a host whose run had to be ended gets runs of its own, and comes after others. The more of them,
the later it comes, so that whoever shared one goes before whoever makes them hang."""
_MAY_BEGIN = 60.0
"""Seconds after a delivery has timed out in which the engine may still begin its run."""
_PID_DIGITS = 10
"""More than a process id has, and fewer than a shortened id of a container."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """How deliveries follow one another. Times are in seconds.

    Attributes:
        window: longest time that an alert waits for company; a sixteenth of it without another one is enough.
        interval: least time between the beginnings of two deliveries to one host.
        most_alerts: in a delivery.
        most_hosts: in a delivery that hosts share.
        most_deliveries: under way at the same time, at least 2.
        timeout: after which a host that said nothing is sick.
        pause: before a host that is sick is asked again, and before an alert is that could not be answered; doubled
            each time.
        longest_pause: what it grows to.
        wind_up: for which a run may go on once its delivery is over, before others may have its place.
    """

    window: float = 0.2
    interval: float = 1.0
    most_alerts: int = 500
    most_hosts: int = 5
    most_deliveries: int = 21
    timeout: float = 120.0
    pause: float = 5.0
    longest_pause: float = 60.0
    wind_up: float = 10.0

    def __post_init__(self) -> None:
        if self.most_deliveries < 2:
            raise ValueError("of less than two deliveries at a time none can be kept for healthy hosts")

    def pause_after(self, attempts: int) -> float:
        """Seconds to wait after so many attempts that failed."""
        return min(self.longest_pause, self.pause * 2.0 ** min(attempts - 1, 30))


@dataclasses.dataclass(slots=True)
class Turn:
    """What one host has still to do about an alert.

    Attributes:
        attempts: deliveries so far.
        delivery: id of the one under way, or empty.
        not_before: when it may be asked again.
        why: what came of the last attempt.
        told: somebody was told already.
    """

    attempts: int = 0
    delivery: str = ""
    not_before: float = 0.0
    why: str = ""
    told: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class Open:
    """An alert that is not answered by all hosts yet.

    Attributes:
        seq: number.
        trace_id: of the alert.
        severity: 0 to 4.
        container: what it is about, among the alerts of a host.
        deadline: until when it is to be answered.
        body_bytes: size without the message as received.
        raw_bytes: size of that.
        received: seconds since the epoch.
        kind: which rule of which source, among the alerts of a host.
        turns: hosts that have not answered.
        lookup: nobody knows of which host it is; those that have a turn are asked.
        patterns: names of turns that may be patterns or groups.
        answers: what is remembered of the others.
        over: it is on its way into the history.
    """

    seq: int
    trace_id: str
    severity: int
    container: str
    deadline: float
    body_bytes: int = 0
    raw_bytes: int = 0
    received: float = 0.0
    kind: str = ""
    turns: dict[str, Turn] = dataclasses.field(default_factory=dict)
    lookup: bool = False
    patterns: frozenset[str] = frozenset()
    answers: dict[str, Json] = dataclasses.field(default_factory=dict)
    over: bool = False


@dataclasses.dataclass(slots=True, eq=False)
class Delivery:
    """Alerts on their way to hosts.

    Attributes:
        id: of the delivery.
        hosts: to which it goes; or one pattern.
        alerts: critical first.
        sick: it goes to a host that is sick.
        pattern: it goes to what may be a pattern, so that other hosts answer it.
        missing: hosts that have not acknowledged it, and the alerts that each of them is to answer.
        due: when it is over; NEVER until the engine has taken it.
    """

    id: str
    hosts: list[str]
    alerts: list[Open]
    sick: bool
    missing: dict[str, dict[int, Open]]
    pattern: bool = False
    due: float = NEVER

    def with_raw(self) -> list[int]:
        """Numbers of the alerts whose message as received fits in as well; none of those that are to be packed."""
        room = READABLE_BYTES - sum(_bytes(alert) for alert in self.alerts)
        fitting = []
        for alert in self.alerts:
            if 0 < alert.raw_bytes <= room:
                room -= alert.raw_bytes
                fitting.append(alert.seq)
        return fitting


@dataclasses.dataclass(slots=True, eq=False)
class _Run:
    """The playbook run of a delivery that is over.

    Attributes:
        hosts: that have to do with its going on.
        over: since when.
        begun: whether it is certain that it had begun.
        lives: whether it goes on, as far as anybody knows.
        ending: it is being ended.
    """

    hosts: list[str]
    over: float
    begun: bool
    lives: bool
    ending: bool = False


_T = t.TypeVar("_T")
_Turns = collections.OrderedDict[t.Any, _T]
_NOTHING: t.Any = {}


class Outcome(t.NamedTuple):
    """What a host's answer to an alert leads to.

    Attributes:
        final: it is not tried again.
        why: a word, where it is tried again.
        record: what is remembered of the answer, where it is final.
    """

    final: bool
    why: str
    record: Json = None


class _Queue:
    """Alerts that wait for a host: by severity, by turns among rules and then containers, first come, first served.

    So a rule that is met a thousand times, about whatever, holds up no other.
    """

    def __init__(self) -> None:
        # By severity: kind -> container -> number -> alert. What comes first is next.
        self._levels: list[_Turns[_Turns[_Turns[Open]]]] = [collections.OrderedDict() for _level in range(LEVELS)]
        self._length = 0
        self._lookups: list[dict[int, Open]] = [{} for _level in range(LEVELS)]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Open]:
        for level in reversed(range(LEVELS)):
            yield from self._waiting(level)

    def _waiting(self, level: int) -> Iterator[Open]:
        for kind in self._levels[level].values():
            for alerts in kind.values():
                yield from alerts.values()

    def highest(self) -> int:
        """The highest severity that waits, -1 for none."""
        return next((level for level in reversed(range(LEVELS)) if self._levels[level]), -1)

    def push(self, alert: Open) -> None:
        kind = self._levels[alert.severity].setdefault(alert.kind, collections.OrderedDict())
        alerts = kind.setdefault(_about(alert), collections.OrderedDict())
        self._length += alert.seq not in alerts
        alerts[alert.seq] = alert
        if alert.lookup:
            self._lookups[alert.severity][alert.seq] = alert

    def peek(self, level: int, suits: Callable[[Open], bool]) -> Open | None:
        """The next alert of a severity that suits."""
        return next(filter(suits, self._waiting(level)), None)

    def a_lookup(self) -> Open | None:
        """The most severe alert whose host nobody knows, if there is any."""
        return next((alert for level in reversed(self._lookups) for alert in level.values()), None)

    def remove(self, alert: Open) -> None:
        """Take an alert out, if it is there, and put those of its rule, and about its container, behind others."""
        level, about = self._levels[alert.severity], _about(alert)
        kind = level.get(alert.kind, _NOTHING)
        alerts = kind.get(about, _NOTHING)
        if alerts.pop(alert.seq, None) is None:
            return
        self._length -= 1
        self._lookups[alert.severity].pop(alert.seq, None)
        _next_turn(kind, about)
        _next_turn(level, alert.kind)


def _next_turn(turns: _Turns[t.Any], name: str) -> None:
    """Whoever had its turn comes last, unless it has nothing more to do."""
    if turns[name]:
        turns.move_to_end(name)
    else:
        del turns[name]


def _about(alert: Open) -> str:
    """Among which alerts one has its turn. Those that name no container share one: what they name is ever new."""
    text = alert.container
    if text.isdecimal() and len(text) <= _PID_DIGITS:
        return ""
    if "." not in text and ":" not in text:  # to parse it, three times for each alert, takes longer than all the rest
        return text
    try:
        ipaddress.ip_address(text.partition(",")[0])
    except ValueError:
        return text
    return ""


class _Lane:
    """A host, or a pattern, and what it has to do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pattern = False  # it may be one: nobody has answered by that name yet
        self.queue = _Queue()
        self.later: list[tuple[float, int, Open]] = []  # a heap of what was put off
        self.delivery = ""
        self.failures = 0  # deliveries in a row that were not answered
        self.not_before = 0.0
        self.oldest = 0.0
        self.newest = 0.0
        self.ended = 0  # of its runs had to be ended
        self.last_until = 0.0  # that counts

    @property
    def sick(self) -> bool:
        return self.failures > 0

    def hangs(self, now: float) -> int:
        """How many of its runs had to be ended of late."""
        return self.ended if self.last_until > now else 0


class Schedule:
    """All alerts that wait or are under way, by host.

    Args:
        pace: of deliveries.
        new_id: makes ids of deliveries.

    Attributes:
        deliveries: under way, by id.
        timeouts: deliveries so far that were not acknowledged by all their hosts.
    """

    def __init__(self, pace: Pace, new_id: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        self._pace = pace
        self._new_id = new_id
        self._lanes: dict[str, _Lane] = {}
        self._busy: dict[str, _Lane] = {}  # lanes with something to do, by name
        self._alerts: collections.OrderedDict[str, Open] = collections.OrderedDict()  # by deadline
        self._last_deadline = 0.0
        self._members: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._hosts: set[str] = set()  # names by which a host has answered, so that they are no patterns
        self._runs: dict[str, _Run] = {}  # by delivery
        self._going_on: collections.Counter[str] = collections.Counter()  # runs that live, by host
        self._looked = False  # somebody sees which runs live
        self.deliveries: dict[str, Delivery] = {}
        self.timeouts = 0

    def __len__(self) -> int:
        return len(self._alerts)

    def sick_hosts(self) -> list[str]:
        """Hosts that did not answer their last delivery."""
        return sorted(lane.name for lane in self._lanes.values() if lane.sick)

    def oldest(self) -> float:
        """The nearest deadline of an alert, or NEVER."""
        return next(iter(self._alerts.values())).deadline if self._alerts else NEVER

    def find(self, trace_id: str) -> Open | None:
        """The alert, if it is open."""
        return self._alerts.get(trace_id)

    def add(self, alert: Open, now: float) -> None:
        """An alert waits from now on, for all hosts that have a turn, and no shorter than those before it."""
        alert.deadline = self._last_deadline = max(alert.deadline, self._last_deadline)
        self._alerts[alert.trace_id] = alert
        for name in list(alert.turns):
            expires, members = self._members.get(name, (0.0, ()))
            if name in alert.patterns and now < expires:
                self._replace(alert, name, members)
        self._hosts.update(name for name in alert.turns if name not in alert.patterns)
        for name in alert.turns:
            self._wait(alert, name, now)

    def plan(self, now: float) -> list[Delivery]:
        """The deliveries that are to begin now. They are under way from then on."""
        self._time_out(now)
        self._promote(now)
        begun: list[Delivery] = []
        while True:
            more = self._begin_some(now)
            if not more:
                return begun
            begun += more

    def _begin_some(self, now: float) -> list[Delivery]:
        ready = [lane for lane in self._busy.values() if self._is_ready(lane, now)]
        ready.sort(key=lambda lane: (lane.hangs(now), -lane.queue.highest(), lane.oldest))
        together = [lane for lane in ready if not self._alone(lane, now)]
        begun = []
        if together and self._gathered(together) <= now:
            room, _sick_room = self._room()
            shared = itertools.islice(self._shared(together), room)
            begun += [self._begin(lanes, now) for lanes in shared]
        for lane in ready:
            room, sick_room = self._room()
            if self._alone(lane, now) and (sick_room if lane.sick else room):
                begun.append(self._begin([lane], now))
        return begun

    def wake_at(self, now: float) -> float:
        """When L(plan) or L(expire) has something to do, unless something happens before."""
        moments = [self.oldest(), *(delivery.due for delivery in self.deliveries.values())]
        room, sick_room = self._room()
        together = []
        for lane in self._busy.values():
            if lane.later:
                moments.append(lane.later[0][0])
            if not self._could_begin(lane) or not (sick_room if lane.sick else room):
                continue  # what it waits for is something that happens
            if lane.not_before > now:
                moments.append(lane.not_before)
            elif self._alone(lane, now):
                moments.append(now)
            else:
                together.append(lane)
        if together:
            moments.append(self._gathered(together))
        return min(moments)

    def emitted(self, delivery: Delivery, now: float) -> None:
        """The engine has taken a delivery."""
        delivery.due = now + self._pace.timeout

    def leave_out(self, delivery: Delivery, number: int, now: float) -> None:
        """An event had room for so many alerts of a delivery: the others wait as before.

        A host that is asked nothing any more takes no part: what it has to do is not to wait for what others do.
        """
        over, delivery.alerts = delivery.alerts[number:], delivery.alerts[:number]
        for alert in over:
            for host, missing in delivery.missing.items():
                if missing.pop(alert.seq, None):
                    turn = alert.turns[host]
                    turn.attempts, turn.delivery = turn.attempts - 1, ""
                    self._wait(alert, host, now)
        for host in [host for host, missing in delivery.missing.items() if not missing]:
            del delivery.missing[host]
            delivery.hosts.remove(host)
            self._free(host, delivery)
            self._lane(host).not_before = now

    def take_back(self, delivery: Delivery, now: float) -> None:
        """A delivery could not be made: its alerts wait as before, and a little longer."""
        for host, alerts in delivery.missing.items():
            self._lane(host).not_before = now + _TAKEN_BACK
            for alert in alerts.values():
                alert.turns[host].attempts -= 1
        self._finish(delivery, now, lambda turn: turn.why)

    def run_ended(self, delivery_id: str, why: str, now: float) -> bool:
        """The run of a delivery has ended: the hosts that did not acknowledge it are sick, and are asked again.

        Args:
            delivery_id: of a delivery that may be over.
            why: nothing came of them.
            now: the time.

        Returns:
            Whether some had not.
        """
        delivery = self.deliveries.get(delivery_id)
        if delivery is None:
            return False
        for host in delivery.missing:
            self._fail(self._lane(host), now)
        self._finish(delivery, now, lambda _turn: why)
        return True

    def hand_over(self, delivery: Delivery) -> list[tuple[Open, str, Turn]]:
        """Nobody will acknowledge a delivery: it is over. Returns its alerts and hosts, which have no turn any more."""
        self.deliveries.pop(delivery.id, None)
        for host in delivery.missing:
            self._free(host, delivery)
            self._lane(host).failures = 0
        missing, delivery.missing = delivery.missing, {}
        return [self._give_up(alert, host) for host, alerts in missing.items() for alert in alerts.values()]

    def give_up_tried(self) -> list[tuple[Open, str, Turn]]:
        """Nobody acknowledges anything: what was delivered is not delivered again. Returns it, by alert and host."""
        return self._give_up_all(self._alerts.values(), lambda turn: bool(turn.attempts))

    def give_up_below(self, severity: int) -> list[tuple[Open, str, Turn]]:
        """What is less severe and not under way is not delivered any more. Returns it, by alert and host."""
        # It is asked over and over while the others go on, and there may be very many of these.
        return self._give_up_all([alert for alert in self._alerts.values() if alert.severity < severity])

    def _give_up_all(
        self, alerts: Iterable[Open], which: Callable[[Turn], bool] = lambda _turn: True
    ) -> list[tuple[Open, str, Turn]]:
        return [
            self._give_up(alert, host)
            for alert in list(alerts)
            for host, turn in list(alert.turns.items())
            if not turn.delivery and which(turn)
        ]

    def _give_up(self, alert: Open, host: str) -> tuple[Open, str, Turn]:
        self._leave(alert, host)
        turn = alert.turns.pop(host)
        self._ended([alert])
        return alert, host, turn

    def acknowledge(
        self,
        delivery_id: str,
        host: str,
        run_hosts: Sequence[str],
        works: bool,
        judge: Callable[[Open], Outcome | None],
        trace_ids: Iterable[str],
        now: float,
    ) -> list[Open]:
        """A host has said what it did. Returns the alerts that got a final answer.

        Args:
            delivery_id: of a delivery that may be over, or be one of before a restart.
            host: whose word it is.
            run_hosts: of the play: what a pattern stands for.
            works: whether the host could do its task.
            judge: what the host's answer to an alert leads to, None where it said nothing of it.
            trace_ids: of the alerts that it said something of.
            now: the time.
        """
        delivery = self.deliveries.get(delivery_id)
        self._hosts.add(host)
        lane = self._lane(host)
        lane.pattern = False
        answered = []
        if delivery and host not in delivery.missing:
            answered += self._expand(delivery, run_hosts, now)
        current = delivery.missing.pop(host, None) if delivery else None
        if works and lane.sick:
            lane.failures, lane.not_before = 0, now
        mentioned = [alert for alert in map(self._alerts.get, trace_ids) if alert and host in alert.turns]
        for alert in {**{alert.seq: alert for alert in mentioned}, **(current or {})}.values():
            turn = alert.turns.get(host)
            if turn is None:
                continue
            outcome = judge(alert)
            if outcome and outcome.final:
                self._settle(alert, host, outcome.record)
                answered.append(alert)
            elif current is not None and alert.seq in current:
                self._again(alert, host, turn, outcome.why if outcome else "no_answer", works, now)
        if delivery and current is not None:
            if not works:
                self._fail(lane, now)
            self._free(host, delivery)
            if not delivery.missing:
                del self.deliveries[delivery.id]
                self._goes_on(delivery, delivery.hosts, True, now)
        self._ended(answered)
        return answered

    def expire(self, now: float) -> list[Open]:
        """The alerts that were not answered in time. They are gone from here, with the turns that are missing."""
        over = []
        while self.oldest() <= now:
            _trace_id, alert = self._alerts.popitem(last=False)
            for host in alert.turns:
                self._leave(alert, host)
            over.append(alert)
        return over

    # Runs

    def known_runs(self) -> list[str]:
        """The deliveries whose runs may live."""
        return [*self.deliveries, *self._runs]

    def look(self, living: Collection[str], asked: float) -> bool:
        """Somebody saw which runs live. Where nobody does, none holds a place once its delivery is over.

        Args:
            living: their deliveries.
            asked: when it was asked for: what is over since then is not known to have ended.

        Returns:
            Whether there is more room now.
        """
        self._looked = True
        more = False
        for delivery, run in list(self._runs.items()):
            lives = delivery in living
            run.begun = run.begun or lives
            lived, run.lives = run.lives, lives or run.over > asked
            more = more or lived > run.lives
            if not run.lives and (run.begun or run.over + _MAY_BEGIN < asked):
                del self._runs[delivery]
        self._count_runs()
        return more

    def in_the_way(self, now: float) -> str:
        """A delivery that is over, and whose run is to be ended, as it keeps others waiting. Empty for none.

        Where a host has as many runs as it may have, that is one of them, after a minute; where there is no room for
        others, one of the host that has most of them. Of several it is the oldest.
        """
        going_on = {delivery: run for delivery, run in self._runs.items() if run.lives}
        waiting = [lane for lane in self._busy.values() if lane.queue and not lane.delivery and lane.not_before <= now]

        def order(delivery: str) -> tuple[int, float]:
            # Of hosts that share a run, the one that has the fewest says how many there are.
            run = going_on[delivery]
            return -min(self._going_on[host] for host in run.hosts), run.over

        for lane in waiting:
            own = [delivery for delivery, run in going_on.items() if lane.name in run.hosts]
            if len(own) >= _MOST_RUNS and not any(going_on[delivery].ending for delivery in own):
                worst = min(own, key=order)
                if going_on[worst].over + _OWN_TURN <= now:
                    return self._end(worst, now)
        free, sick = self._places()
        for_room = [lane for lane in waiting if self._could_begin(lane) and (sick > 0 if lane.sick else free <= 0)]
        candidates = [delivery for delivery, run in going_on.items() if not run.ending]
        if free <= 1 and candidates and len(for_room) > len(going_on) - len(candidates):
            worst = min(candidates, key=order)
            if going_on[worst].over + self._pace.wind_up <= now:
                return self._end(worst, now)
        return ""

    def _end(self, delivery: str, now: float) -> str:
        run = self._runs[delivery]
        run.ending = True
        for host in run.hosts:
            # Else it would take the place that becomes free, if its alerts are more severe than those of others.
            lane = self._lane(host)
            lane.ended, lane.last_until = lane.hangs(now) + 1, now + _LAST_FOR
        return delivery

    def _goes_on(self, delivery: Delivery, hosts: list[str], begun: bool, now: float) -> None:
        """A delivery is over; its run has not ended yet."""
        if self._looked:
            self._runs[delivery.id] = _Run(hosts, now, begun, True)
            self._count_runs()

    def _count_runs(self) -> None:
        self._going_on = collections.Counter(host for run in self._runs.values() if run.lives for host in run.hosts)

    # Lanes

    def _lane(self, name: str) -> _Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = _Lane(name)
        return lane

    def _wait(self, alert: Open, name: str, now: float) -> None:
        lane = self._lane(name)
        lane.pattern = name in alert.patterns and name not in self._hosts
        if not lane.queue:
            lane.oldest = now
        lane.newest = now
        lane.queue.push(alert)
        self._busy[name] = lane

    def _leave(self, alert: Open, name: str) -> None:
        """An alert needs nothing of a host any more, wherever it was on the way there."""
        lane = self._lanes.get(name)
        if lane:
            lane.queue.remove(alert)
        turn = alert.turns[name]
        delivery = self.deliveries.get(turn.delivery)
        if delivery and name in delivery.missing:
            delivery.missing[name].pop(alert.seq, None)

    def _settle(self, alert: Open, host: str, record: Json) -> None:
        self._leave(alert, host)
        alert.answers[host] = record
        del alert.turns[host]

    def _ended(self, alerts: Iterable[Open]) -> None:
        for alert in alerts:
            if not alert.turns:
                self._alerts.pop(alert.trace_id, None)

    def _again(self, alert: Open, host: str, turn: Turn, why: str, works: bool, now: float) -> None:
        turn.delivery, turn.why = "", why
        if not works:
            self._wait(alert, host, now)  # the host pauses, with all that it has to do
            return
        turn.not_before = now + self._pace.pause_after(turn.attempts)
        lane = self._lane(host)
        heapq.heappush(lane.later, (turn.not_before, alert.seq, alert))
        self._busy[host] = lane

    def _fail(self, lane: _Lane, now: float) -> None:
        lane.failures += 1
        lane.not_before = now + self._pace.pause_after(lane.failures)

    def _free(self, host: str, delivery: Delivery) -> None:
        lane = self._lane(host)
        if lane.delivery == delivery.id:
            lane.delivery = ""

    # Time

    def _time_out(self, now: float) -> None:
        for delivery in [delivery for delivery in self.deliveries.values() if delivery.due <= now]:
            for host in delivery.missing:
                self._fail(self._lane(host), now)
            self.timeouts += 1
            self._goes_on(delivery, list(delivery.missing), len(delivery.missing) < len(delivery.hosts), now)
            self._finish(delivery, now, lambda _turn: "no_receipt")

    def _finish(self, delivery: Delivery, now: float, why: Callable[[Turn], str]) -> None:
        self.deliveries.pop(delivery.id, None)
        for host, alerts in delivery.missing.items():
            self._free(host, delivery)
            for alert in alerts.values():
                turn = alert.turns[host]
                self._again(alert, host, turn, why(turn), False, now)
        delivery.missing = {}

    def _promote(self, now: float) -> None:
        for name, lane in list(self._busy.items()):
            while lane.later and lane.later[0][0] <= now:
                _moment, _seq, alert = heapq.heappop(lane.later)
                turn = alert.turns.get(name)
                if turn and not turn.delivery and self._alerts.get(alert.trace_id) is alert:
                    self._wait(alert, name, now)
            if not lane.queue and not lane.later:
                del self._busy[name]

    # Deliveries

    def _is_ready(self, lane: _Lane, now: float) -> bool:
        return self._could_begin(lane) and lane.not_before <= now

    def _could_begin(self, lane: _Lane) -> bool:
        """Whether nothing is in the way of a lane but time and room."""
        return bool(lane.queue) and not lane.delivery and self._going_on[lane.name] < _MOST_RUNS

    def _alone(self, lane: _Lane, now: float) -> bool:
        """Whether a lane shares no run."""
        return lane.sick or lane.pattern or lane.hangs(now) > 0 or self._going_on[lane.name] >= _SHARED_RUNS

    def _gathered(self, lanes: Iterable[_Lane]) -> float:
        """When lanes that share deliveries have waited long enough for company."""
        lanes = list(lanes)
        if sum(len(lane.queue) for lane in lanes) >= self._pace.most_alerts:
            return 0.0
        window = self._pace.window
        return min(min(lane.oldest for lane in lanes) + window, max(lane.newest for lane in lanes) + window / QUIET)

    def _room(self) -> tuple[int, int]:
        """How many deliveries may begin, and how many of those to hosts that are sick."""
        free, sick = self._places()
        return max(0, free), max(0, min(sick, free - 1))

    def _places(self) -> tuple[int, int]:
        """How many places are free, and how many deliveries to hosts that are sick there may still be."""
        held = len(self.deliveries) + sum(run.lives for run in self._runs.values())
        sick = sum(delivery.sick for delivery in self.deliveries.values())
        return self._pace.most_deliveries - held, self._pace.most_deliveries // 2 - sick

    def _shared(self, lanes: Sequence[_Lane]) -> Iterator[Sequence[_Lane]]:
        """Lanes that share a delivery. What is asked of some hosts, as nobody knows of which it is, no other sees."""
        left = {lane.name: lane for lane in lanes}
        for lane in lanes:
            alert = lane.queue.a_lookup()
            if lane.name in left and alert:
                asked = [left[name] for name in alert.turns if name in left][: self._pace.most_hosts]
                for other in asked:
                    del left[other.name]
                yield asked
        rest = list(left.values())
        for start in range(0, len(rest), self._pace.most_hosts):
            yield rest[start : start + self._pace.most_hosts]

    def _begin(self, lanes: Sequence[_Lane], now: float) -> Delivery:
        sick, pattern = any(lane.sick for lane in lanes), any(lane.pattern for lane in lanes)
        delivery = Delivery(self._new_id(), [], [], sick, {}, pattern)
        room = DELIVERY_BYTES
        for alert in self._chosen(lanes):
            if delivery.alerts and (_bytes(alert) > room or len(delivery.alerts) >= self._pace.most_alerts):
                break
            room -= _bytes(alert)
            delivery.alerts.append(alert)
            for lane in lanes:
                turn = alert.turns.get(lane.name)
                if turn and not turn.delivery:
                    lane.queue.remove(alert)
                    turn.delivery = delivery.id
                    turn.attempts += 1
                    delivery.missing.setdefault(lane.name, {})[alert.seq] = alert
        for lane in lanes:
            if lane.name in delivery.missing:
                delivery.hosts.append(lane.name)
                lane.delivery = delivery.id
                lane.not_before = now + self._pace.interval
        self.deliveries[delivery.id] = delivery
        return delivery

    def _chosen(self, lanes: Sequence[_Lane]) -> Iterator[Open]:
        """The alerts of lanes, critical first, by turns among hosts. Each must be removed before the next one."""

        def suits(alert: Open) -> bool:
            return not alert.lookup or all(lane.name in alert.turns for lane in lanes)

        for level in reversed(range(LEVELS)):
            waiting = list(lanes)
            while waiting:
                for lane in list(waiting):
                    alert = lane.queue.peek(level, suits)
                    if alert is None:
                        waiting.remove(lane)
                    else:
                        yield alert

    # Patterns

    def _expand(self, delivery: Delivery, run_hosts: Sequence[str], now: float) -> list[Open]:
        """What was sent to a pattern was sent to these hosts. Returns the alerts that all of them have answered."""
        over = []
        self._hosts.update(run_hosts)
        for pattern in [name for name in delivery.missing if self._lane(name).pattern and run_hosts]:
            self._members[pattern] = (now + _MEMBERS_FOR, tuple(run_hosts))
            delivery.hosts = list(run_hosts)
            lane = self._lane(pattern)
            lane.failures = 0
            self._free(pattern, delivery)
            for alert in delivery.missing.pop(pattern).values():
                self._replace(alert, pattern, run_hosts, delivery)
                over += [alert] if not alert.turns else []
            for alert in list(lane.queue):
                lane.queue.remove(alert)
                for name in self._replace(alert, pattern, run_hosts):
                    self._wait(alert, name, now)
                over += [alert] if not alert.turns else []
            for host in delivery.missing:
                member = self._lane(host)
                member.delivery = member.delivery or delivery.id
        return over

    def _replace(self, alert: Open, pattern: str, hosts: Iterable[str], delivery: Delivery | None = None) -> list[str]:
        """Give the turn of a pattern to hosts. Returns those that had none yet."""
        turn = alert.turns.pop(pattern)
        new = [host for host in hosts if host not in alert.turns and host not in alert.answers]
        for host in new:
            alert.turns[host] = dataclasses.replace(turn)
            if delivery:
                delivery.missing.setdefault(host, {})[alert.seq] = alert
        return new


def _bytes(alert: Open) -> int:
    return alert.body_bytes + len(', "raw": ""')
