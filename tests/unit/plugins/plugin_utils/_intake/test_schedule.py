# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import itertools
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.schedule import (
    DELIVERY_BYTES,
    NEVER,
    Delivery,
    Open,
    Outcome,
    Pace,
    Schedule,
    Turn,
)

_numbers = itertools.count(1)
CRITICAL, HIGH, LOW = 4, 3, 1
ANSWERED = Outcome(True, "isolated", {"outcome": "isolated"})
FAILED = Outcome(False, "failed")


def alert(*hosts: str, severity: int = HIGH, container: str = "c", pattern: bool = False, **fields: t.Any) -> Open:
    seq = next(_numbers)
    return Open(
        seq,
        f"trace-{seq}",
        severity,
        container,
        fields.pop("deadline", 600.0),
        turns={host: Turn() for host in hosts},
        lookup=fields.pop("lookup", pattern),
        patterns=frozenset(hosts if pattern else ()),
        **fields,
    )


def answer(
    schedule: Schedule,
    delivery: Delivery,
    host: str,
    now: float,
    outcome: Outcome | None = ANSWERED,
    run_hosts: t.Sequence[str] = (),
    works: bool = True,
) -> list[Open]:
    ids = [each.trace_id for each in delivery.alerts]
    return schedule.acknowledge(delivery.id, host, run_hosts, works, lambda _alert: outcome, ids, now)


def begin(schedule: Schedule, now: float) -> list[Delivery]:
    begun = schedule.plan(now)
    for delivery in begun:
        schedule.emitted(delivery, now)
    return begun


def only(begun: list[Delivery]) -> Delivery:
    (delivery,) = begun
    return delivery


def test_a_lone_alert_waits_for_a_sixteenth_of_the_window() -> None:
    schedule = Schedule(Pace(window=0.2))
    schedule.add(alert("web-1"), 10.0)
    assert begin(schedule, 10.01) == []
    assert schedule.wake_at(10.01) == pytest.approx(10.0125)
    assert only(begin(schedule, 10.013)).hosts == ["web-1"]
    assert schedule.wake_at(10.013) == pytest.approx(10.013 + 120)


def test_a_steady_stream_leaves_at_the_end_of_the_window() -> None:
    schedule = Schedule(Pace(window=0.2))
    for number in range(21):
        schedule.add(alert("web-1"), number / 100)
        assert bool(begin(schedule, number / 100)) == (number == 20)


def test_hosts_with_something_to_do_share_a_delivery() -> None:
    schedule = Schedule(Pace(window=0))
    first, second = alert("web-1"), alert("web-2")
    for each in (first, second):
        schedule.add(each, 0.0)
    delivery = only(begin(schedule, 0.0))
    assert (delivery.hosts, delivery.alerts) == (["web-1", "web-2"], [first, second])
    assert answer(schedule, delivery, "web-1", 1.0) == [first]
    assert answer(schedule, delivery, "web-2", 1.0) == [second]
    assert (len(schedule), schedule.deliveries) == (0, {})


def test_no_more_hosts_share_a_delivery_than_there_are_forks() -> None:
    schedule = Schedule(Pace(window=0, most_hosts=5))
    for number in range(12):
        schedule.add(alert(f"web-{number}"), 0.0)
    assert [len(delivery.hosts) for delivery in begin(schedule, 0.0)] == [5, 5, 2]


def test_alerts_of_a_host_wait_together_while_its_delivery_is_under_way() -> None:
    schedule = Schedule(Pace(window=0))
    schedule.add(alert("web-1"), 0.0)
    delivery = only(begin(schedule, 0.0))
    for number in range(400):
        schedule.add(alert("web-1", container=str(number)), 0.1)
        assert begin(schedule, 0.1) == []
    schedule.add(alert("web-1", severity=CRITICAL), 0.2)
    answer(schedule, delivery, "web-1", 3.0)
    following = only(begin(schedule, 3.0))
    assert len(following.alerts) == 401
    assert following.alerts[0].severity == CRITICAL


def test_a_storm_about_one_container_starves_no_other() -> None:
    schedule = Schedule(Pace(window=0, most_alerts=4))
    for _number in range(100):
        schedule.add(alert("web-1", container="noisy"), 0.0)
    for name in ("b", "c"):
        schedule.add(alert("web-1", container=name), 0.0)
    assert [each.container for each in only(begin(schedule, 0.0)).alerts] == ["noisy", "b", "c", "noisy"]


@pytest.mark.parametrize("storm", ["203.0.113.{}", "10.0.0.1,203.0.113.{}", "2001:db8::{}", "41{}"])
def test_a_storm_about_ever_new_addresses_or_processes_starves_no_container(storm: str) -> None:
    schedule = Schedule(Pace(window=0, most_alerts=3))
    for number in range(100):
        schedule.add(alert("web-1", container=storm.format(number)), 0.0)
    for name in ("6bc1b4be90d6", "410000000000"):
        schedule.add(alert("web-1", container=name), 0.0)
    containers = [each.container for each in only(begin(schedule, 0.0)).alerts]
    assert containers == [storm.format(0), "6bc1b4be90d6", "410000000000"]


def test_a_storm_of_one_rule_about_ever_new_containers_starves_no_other_rule() -> None:
    schedule = Schedule(Pace(window=0, most_alerts=4))
    for number in range(100):
        schedule.add(alert("web-1", container=f"{number:012x}", kind="falco/noisy"), 0.0)
    for container in ("a", "b"):
        schedule.add(alert("web-1", container=container, kind="falco/shell"), 0.0)
    delivery = only(begin(schedule, 0.0))
    assert [each.container for each in delivery.alerts] == [f"{0:012x}", "a", f"{1:012x}", "b"]
    answer(schedule, delivery, "web-1", 1.0)
    assert [each.kind for each in only(begin(schedule, 1.0)).alerts] == ["falco/noisy"] * 4


def test_a_storm_on_one_host_starves_no_other_host() -> None:
    schedule = Schedule(Pace(window=0, most_alerts=4))
    for _number in range(100):
        schedule.add(alert("web-1", severity=CRITICAL), 0.0)
    schedule.add(alert("web-2", severity=CRITICAL), 0.0)
    delivery = begin(schedule, 0.0)[0]
    assert collections.Counter(host for each in delivery.alerts for host in each.turns) == {"web-1": 3, "web-2": 1}


def test_a_delivery_stays_below_its_size_and_takes_raw_where_it_fits() -> None:
    schedule = Schedule(Pace(window=0))
    big = [alert("web-1", container=str(number), body_bytes=10_000, raw_bytes=2_000) for number in range(27)]
    for each in big:
        schedule.add(each, 0.0)
    delivery = only(begin(schedule, 0.0))
    assert delivery.alerts == big[:26]
    assert delivery.with_raw() == []
    answer(schedule, delivery, "web-1", 1.0)
    rest = only(begin(schedule, 1.0))
    assert rest.alerts == big[26:]
    assert rest.with_raw() == [big[26].seq]
    answer(schedule, rest, "web-1", 2.0)
    for number in range(2):
        schedule.add(alert("web-1", container=str(number), body_bytes=10_000, raw_bytes=4_000), 2.0)
    assert len(only(begin(schedule, 2.0)).with_raw()) == 1


def test_what_an_event_has_no_room_for_waits_as_before() -> None:
    schedule = Schedule(Pace(window=0))
    alerts = [alert("web-1", "web-2", lookup=True, container=str(number)) for number in range(5)]
    for each in alerts:
        schedule.add(each, 0.0)
    delivery = only(begin(schedule, 0.0))
    schedule.leave_out(delivery, 2, 0.0)
    assert delivery.alerts == alerts[:2]
    assert {host: list(missing.values()) for host, missing in delivery.missing.items()} == {
        "web-1": alerts[:2],
        "web-2": alerts[:2],
    }
    assert begin(schedule, 1.0) == []
    for host in ("web-1", "web-2"):
        answer(schedule, delivery, host, 1.0)
    again = only(begin(schedule, 1.0))
    assert again.alerts == alerts[2:]
    assert {turn.attempts for each in again.alerts for turn in each.turns.values()} == {1}


def test_a_host_of_which_all_was_left_out_does_not_wait_for_others() -> None:
    schedule = Schedule(Pace(window=0))
    noise = [alert("web-1", severity=CRITICAL) for _number in range(10)]
    for each in (*noise, alert("web-2", severity=LOW)):
        schedule.add(each, 0.0)
    delivery = only(begin(schedule, 0.0))
    assert sorted(delivery.hosts) == ["web-1", "web-2"]
    schedule.leave_out(delivery, 5, 0.0)
    assert (delivery.hosts, list(delivery.missing)) == (["web-1"], ["web-1"])
    assert only(begin(schedule, 0.0)).hosts == ["web-2"]
    schedule.leave_out(delivery, 5, 0.0)
    answer(schedule, delivery, "web-1", 0.0)
    assert delivery.id not in schedule.deliveries


def test_an_alert_that_is_too_large_by_itself_goes_alone() -> None:
    schedule = Schedule(Pace(window=0))
    schedule.add(alert("web-1", body_bytes=300_000), 0.0)
    assert len(only(begin(schedule, 0.0)).alerts) == 1


def test_a_host_that_says_nothing_is_asked_again_after_pauses_that_grow() -> None:
    schedule = Schedule(Pace(window=0, timeout=10, pause=5, longest_pause=15))
    schedule.add(alert("web-1", deadline=1000), 0.0)
    begun, now = [], 0.0
    while now < 100:
        begun += [(now, delivery.sick) for delivery in begin(schedule, now)]
        now = schedule.wake_at(now)
    assert begun == [(0.0, False), (15.0, True), (35.0, True), (60.0, True), (85.0, True)]


def test_only_hosts_that_are_missing_are_asked_again() -> None:
    schedule = Schedule(Pace(window=0, timeout=10, pause=5))
    both = alert("web-1", "web-2")
    schedule.add(both, 0.0)
    delivery = only(begin(schedule, 0.0))
    assert answer(schedule, delivery, "web-1", 1.0) == [both]
    assert list(both.turns) == ["web-2"]
    assert begin(schedule, 10.0) == []
    again = only(begin(schedule, 15.0))
    assert (again.hosts, again.alerts, both.turns["web-2"].attempts) == (["web-2"], [both], 2)


def test_a_late_receipt_of_an_earlier_delivery_counts() -> None:
    schedule = Schedule(Pace(window=0, timeout=10, pause=5))
    late = alert("web-1")
    schedule.add(late, 0.0)
    first = only(begin(schedule, 0.0))
    begin(schedule, 10.0)
    second = only(begin(schedule, 15.0))
    assert answer(schedule, first, "web-1", 16.0) == [late]
    assert len(schedule) == 0
    schedule.add(alert("web-1"), 16.5)
    assert begin(schedule, 17.0) == [], "the second run may still be at it"
    assert answer(schedule, second, "web-1", 18.0) == []
    assert only(begin(schedule, 18.0)).sick is False


def test_a_late_receipt_that_is_no_answer_changes_nothing() -> None:
    schedule = Schedule(Pace(window=0, timeout=10, pause=5))
    late = alert("web-1")
    schedule.add(late, 0.0)
    first = only(begin(schedule, 0.0))
    begin(schedule, 10.0)
    second = only(begin(schedule, 15.0))
    assert answer(schedule, first, "web-1", 16.0, FAILED) == []
    assert late.turns["web-1"].delivery == second.id


def test_a_receipt_of_before_a_restart_counts() -> None:
    schedule = Schedule(Pace(window=0))
    waiting = alert("web-1")
    schedule.add(waiting, 0.0)
    old = Delivery("old", ["web-1"], [waiting], False, {})
    assert answer(schedule, old, "web-1", 0.0) == [waiting]
    assert begin(schedule, 1.0) == []


def test_a_receipt_counts_once() -> None:
    schedule = Schedule(Pace(window=0))
    schedule.add(alert("web-1"), 0.0)
    delivery = only(begin(schedule, 0.0))
    assert len(answer(schedule, delivery, "web-1", 1.0)) == 1
    assert answer(schedule, delivery, "web-1", 1.0) == []


def test_a_receipt_says_nothing_for_another_host() -> None:
    schedule = Schedule(Pace(window=0))
    schedule.add(alert("web-1"), 0.0)
    delivery = only(begin(schedule, 0.0))
    assert answer(schedule, delivery, "web-2", 1.0, run_hosts=["web-2"]) == []
    assert len(schedule) == 1


def test_what_could_not_be_done_is_tried_again_and_holds_up_nothing_else() -> None:
    schedule = Schedule(Pace(window=0, interval=0, pause=5))
    failing = alert("web-1")
    schedule.add(failing, 0.0)
    for attempt, moment in enumerate((0.0, 5.0, 15.0, 35.0), 1):
        assert begin(schedule, moment - 0.1) == []
        delivery = only(begin(schedule, moment))
        assert (delivery.sick, failing.turns["web-1"].attempts) == (False, attempt)
        answer(schedule, delivery, "web-1", moment, FAILED)
    assert failing.turns["web-1"].why == "failed"
    other = alert("web-1")
    schedule.add(other, 36.0)
    assert only(begin(schedule, 36.0)).alerts == [other]


def test_a_host_that_cannot_be_reached_pauses_as_a_whole() -> None:
    schedule = Schedule(Pace(window=0, interval=0, pause=5))
    schedule.add(alert("web-1"), 0.0)
    answer(schedule, only(begin(schedule, 0.0)), "web-1", 1.0, Outcome(False, "unreachable"), works=False)
    assert schedule.sick_hosts() == ["web-1"]
    schedule.add(alert("web-1"), 2.0)
    assert begin(schedule, 5.9) == []
    again = only(begin(schedule, 6.0))
    assert (again.sick, len(again.alerts)) == (True, 2)
    answer(schedule, again, "web-1", 7.0)
    assert schedule.sick_hosts() == []


def test_sick_hosts_share_at_most_half_of_the_room_and_leave_some() -> None:
    pace = Pace(window=0, interval=0, most_hosts=1, most_deliveries=6, timeout=10, pause=5, longest_pause=5)
    schedule = Schedule(pace)
    for number in range(6):
        schedule.add(alert(f"sick-{number}", deadline=1000), 0.0)
    assert len(begin(schedule, 0.0)) == 6
    begin(schedule, 10.0)
    assert [delivery.sick for delivery in begin(schedule, 15.0)] == [True] * 3
    for number in range(2):
        schedule.add(alert(f"well-{number}", deadline=1000), 16.0)
        assert only(begin(schedule, 16.0)).hosts == [f"well-{number}"]


def test_an_alert_ends_at_its_deadline_wherever_it_is() -> None:
    schedule = Schedule(Pace(window=0, most_alerts=1))
    under_way, waiting, later = alert("web-1", deadline=5), alert("web-1", deadline=6), alert("web-2", deadline=7)
    for each in (under_way, waiting, later):
        schedule.add(each, 0.0)
    begun = [*begin(schedule, 0.0), *begin(schedule, 0.0)]
    answer(schedule, next(each for each in begun if each.alerts == [later]), "web-2", 1.0, FAILED)
    assert [schedule.expire(moment) for moment in (4.9, 5.0, 6.0, 7.0)] == [[], [under_way], [waiting], [later]]
    assert len(schedule) == 0
    assert answer(schedule, begun[0], "web-1", 8.0) == []
    assert schedule.plan(100.0) == []
    assert schedule.deliveries == {}


def test_no_alert_ends_before_those_that_came_before_it() -> None:
    """Their times are of the clock of the wall, which may have been set."""
    schedule = Schedule(Pace())
    first, second = alert("web-1", deadline=10), alert("web-1", deadline=5)
    for each in (first, second):
        schedule.add(each, 0.0)
    assert (schedule.oldest(), schedule.expire(9)) == (10, [])
    assert schedule.expire(10) == [first, second]


def test_a_pattern_becomes_the_hosts_of_its_first_run() -> None:
    schedule = Schedule(Pace(window=0, interval=0, timeout=10, pause=5))
    of_nobody_knows_whom = alert("all", pattern=True)
    schedule.add(of_nobody_knows_whom, 0.0)
    delivery = only(begin(schedule, 0.0))
    assert delivery.hosts == ["all"]
    hosts = ["web-1", "web-2", "web-3"]
    assert answer(schedule, delivery, "web-1", 1.0, run_hosts=hosts) == [of_nobody_knows_whom]
    assert list(of_nobody_knows_whom.turns) == ["web-2", "web-3"]
    answer(schedule, delivery, "web-2", 1.0, run_hosts=hosts)
    known = alert("all", pattern=True)
    schedule.add(known, 2.0)
    assert list(known.turns) == hosts
    healthy = only(begin(schedule, 2.0))
    assert healthy.hosts == ["web-1", "web-2"], "web-3 has not answered yet"
    begin(schedule, 10.0)
    assert only(begin(schedule, 15.0)).hosts == ["web-3"]


def test_what_waits_for_a_pattern_waits_for_its_hosts() -> None:
    schedule = Schedule(Pace(window=0, interval=0))
    schedule.add(alert("all", pattern=True), 0.0)
    delivery = only(begin(schedule, 0.0))
    waiting = alert("all", pattern=True)
    schedule.add(waiting, 0.5)
    answer(schedule, delivery, "web-1", 1.0, run_hosts=["web-1", "web-2"])
    assert list(waiting.turns) == ["web-1", "web-2"]
    assert only(begin(schedule, 1.0)).hosts == ["web-1"]


def test_a_host_that_is_looked_up_by_its_own_name_is_no_pattern() -> None:
    schedule = Schedule(Pace(window=0, interval=0))
    schedule.add(alert("web-9", pattern=True), 0.0)
    assert len(answer(schedule, only(begin(schedule, 0.0)), "web-9", 1.0, run_hosts=["web-9"])) == 1
    schedule.add(alert("web-1"), 2.0)
    schedule.add(alert("web-9", "web-1", pattern=True), 2.0)
    assert sorted(only(begin(schedule, 2.0)).hosts) == ["web-1", "web-9"]


def test_an_alert_of_an_unknown_host_is_seen_by_nobody_else_than_those_who_are_asked() -> None:
    schedule = Schedule(Pace(window=0, interval=0))
    for host in ("web-1", "web-2", "web-3"):
        schedule.add(alert(host, severity=CRITICAL), 0.0)
    delivery = only(begin(schedule, 0.0))
    for host in delivery.hosts:
        answer(schedule, delivery, host, 0.5)
    asked = alert("web-2", "web-3", lookup=True)
    for each in (alert("web-1", severity=CRITICAL), alert("web-2"), asked):
        schedule.add(each, 1.0)
    first, second = begin(schedule, 1.0)
    assert (first.hosts, asked in first.alerts, len(first.alerts)) == (["web-2", "web-3"], True, 2)
    assert second.hosts == ["web-1"]


def test_hosts_that_are_known_to_be_hosts_share_deliveries_from_the_first() -> None:
    schedule = Schedule(Pace(window=0))
    schedule.add(alert("web-1", "web-2", lookup=True), 0.0)
    assert only(begin(schedule, 0.0)).hosts == ["web-1", "web-2"]


def test_a_host_that_takes_no_part_in_a_run_is_no_pattern() -> None:
    schedule = Schedule(Pace(window=0, interval=0))
    schedule.add(alert("web-1"), 0.0)
    gone = alert("typo")
    schedule.add(gone, 0.0)
    delivery = only(begin(schedule, 0.0))
    answer(schedule, delivery, "web-1", 1.0, run_hosts=["web-1"])
    answer(schedule, delivery, "web-1", 1.0, run_hosts=["web-1"])
    assert list(gone.turns) == ["typo"]


def test_a_delivery_that_could_not_be_made_is_no_attempt() -> None:
    schedule = Schedule(Pace(window=0, interval=0))
    waiting = alert("web-1")
    schedule.add(waiting, 0.0)
    schedule.take_back(only(schedule.plan(0.0)), 0.0)
    assert (waiting.turns["web-1"].attempts, schedule.sick_hosts(), schedule.plan(0.5)) == (0, [], [])
    assert len(schedule.plan(1.0)) == 1


def test_without_receipts_a_delivery_is_over_when_it_was_handed_over() -> None:
    schedule = Schedule(Pace(window=0, interval=1))
    first = alert("web-1")
    schedule.add(first, 0.0)
    assert [(each, host) for each, host, _turn in schedule.hand_over(only(schedule.plan(0.0)))] == [(first, "web-1")]
    assert (len(schedule), schedule.deliveries) == (0, {})
    schedule.add(alert("web-1"), 0.1)
    assert schedule.plan(0.9) == []
    assert len(schedule.plan(1.0)) == 1


def test_what_was_tried_is_given_up_where_nobody_acknowledges_anything() -> None:
    schedule = Schedule(Pace(window=0, timeout=10, pause=5))
    tried, fresh = alert("web-1"), alert("web-2")
    schedule.add(tried, 0.0)
    begin(schedule, 0.0)
    begin(schedule, 10.0)
    schedule.add(fresh, 11.0)
    assert [each for each, _host, _turn in schedule.give_up_tried()] == [tried]
    assert only(begin(schedule, 100.0)).alerts == [fresh]


def through(schedule: Schedule, now: float, *hosts: str) -> Delivery:
    """A delivery of its own for these hosts, which has begun and is answered at once."""
    for host in hosts:
        schedule.add(alert(host), now)
    delivery = only(begin(schedule, now))
    assert delivery.hosts == list(hosts)
    for host in hosts:
        answer(schedule, delivery, host, now)
    assert schedule.deliveries == {}
    return delivery


def test_a_delivery_keeps_its_place_until_its_run_has_ended() -> None:
    schedule = Schedule(Pace(window=0, most_deliveries=2))
    schedule.look([], 0.0)
    first = through(schedule, 0.0, "web-1")
    second = through(schedule, 0.0, "web-2")
    schedule.add(alert("web-3"), 1.0)
    assert begin(schedule, 1.0) == [], "nobody has looked whether they have ended"
    assert schedule.look([first.id, second.id], 1.5) is False
    assert begin(schedule, 2.0) == []
    assert schedule.wake_at(2.0) == 600.0, "it waits for the end of a run"
    assert schedule.look([second.id], 2.5) is True
    assert only(begin(schedule, 2.5)).hosts == ["web-3"]


def test_what_ended_after_it_was_asked_which_runs_live_is_not_known_to_have_ended() -> None:
    schedule = Schedule(Pace(window=0, most_deliveries=2))
    schedule.look([], 0.0)
    for host in ("web-1", "web-2"):
        through(schedule, 1.0, host)
    schedule.look([], 0.9)
    schedule.add(alert("web-3"), 1.0)
    assert begin(schedule, 1.0) == []
    schedule.look([], 1.1)
    assert len(begin(schedule, 1.1)) == 1


def test_a_host_whose_runs_go_on_is_answered_meanwhile_but_not_for_ever() -> None:
    schedule = Schedule(Pace(window=0, interval=0))
    schedule.look([], 0.0)
    runs = [through(schedule, 0.0, "web-1", "web-2").id for _number in range(2)]
    for host in ("web-1", "web-2"):
        schedule.add(alert(host), 1.0)
    alone = begin(schedule, 1.0)
    assert [delivery.hosts for delivery in alone] == [["web-1"], ["web-2"]], "one of them makes runs that never end"
    for delivery in alone:
        answer(schedule, delivery, delivery.hosts[0], 2.0)
        schedule.add(alert(delivery.hosts[0]), 2.0)
    schedule.look([*runs, alone[0].id], 3.0)
    assert only(begin(schedule, 3.0)).hosts == ["web-2"]
    assert schedule.in_the_way(61.9) == "", "there is room"
    assert schedule.in_the_way(62.0) == alone[0].id, "none that is shared"
    schedule.look([alone[0].id], 4.0)
    assert only(begin(schedule, 4.0)).hosts == ["web-1"]


def test_of_a_run_that_was_not_answered_those_have_to_do_with_it_who_did_not() -> None:
    schedule = Schedule(Pace(window=0, interval=0, timeout=10, pause=5))
    schedule.look([], 0.0)
    runs = []
    for number in range(2):
        for host in ("web-1", f"hangs-{number}"):
            schedule.add(alert(host), number)
        delivery = only(begin(schedule, number))
        answer(schedule, delivery, "web-1", number)
        runs.append(delivery.id)
    begin(schedule, 12.0)
    schedule.look(runs, 12.0)
    for host in ("web-1", "web-2"):
        schedule.add(alert(host), 13.0)
    assert only(begin(schedule, 13.0)).hosts == ["web-1", "web-2"]


def test_a_run_that_begins_when_its_delivery_has_timed_out_holds_a_place() -> None:
    schedule = Schedule(Pace(window=0, most_deliveries=2, timeout=10, pause=100, longest_pause=100))
    schedule.look([], 0.0)
    schedule.add(alert("web-1"), 0.0)
    late = only(begin(schedule, 0.0))
    assert begin(schedule, 10.0) == []
    schedule.look([], 11.0)
    schedule.look([late.id], 12.0)
    schedule.add(alert("web-2"), 13.0)
    schedule.add(alert("web-3", pattern=True), 13.0)
    assert only(begin(schedule, 13.0)).hosts == ["web-2"]
    schedule.look([], 14.0)
    assert only(begin(schedule, 14.0)).hosts == ["web-3"]
    assert late.id not in schedule.known_runs()


def test_of_a_run_that_never_begins_nothing_is_left() -> None:
    schedule = Schedule(Pace(window=0, timeout=10))
    schedule.look([], 0.0)
    schedule.add(alert("web-1", deadline=20), 0.0)
    delivery = only(begin(schedule, 0.0))
    begin(schedule, 10.0)
    schedule.expire(20.0)
    for asked in (11.0, 69.0, 71.0):
        assert (asked, schedule.known_runs()) == (asked, [delivery.id])
        schedule.look([], asked)
    assert schedule.known_runs() == []


def test_a_host_with_the_most_runs_gives_up_the_oldest_for_what_waits() -> None:
    schedule = Schedule(Pace(window=0, interval=0))
    schedule.look([], 0.0)
    runs = [through(schedule, number, "web-1").id for number in (0, 1, 2)]
    schedule.look(runs, 3.0)
    assert schedule.in_the_way(100.0) == "", "nothing waits"
    schedule.add(alert("web-1"), 4.0)
    assert begin(schedule, 4.0) == []
    assert [schedule.in_the_way(moment) for moment in (59.9, 60.0, 62.0)] == ["", runs[0], ""]
    schedule.look(runs[1:], 63.0)
    assert only(begin(schedule, 63.0)).hosts == ["web-1"]


def test_runs_that_go_on_make_room_for_those_who_wait() -> None:
    schedule = Schedule(Pace(window=0, interval=0, most_deliveries=4, wind_up=10))
    schedule.look([], 0.0)
    honest = through(schedule, 0.0, "honest")
    evil = [through(schedule, number, "evil") for number in range(1, 4)]
    runs = [honest.id, *(delivery.id for delivery in evil)]
    schedule.look(runs, 5.0)
    assert schedule.in_the_way(30.0) == "", "nobody waits"
    schedule.add(alert("evil"), 6.0)
    assert schedule.in_the_way(30.0) == "", "it has three, and each of them a minute"
    schedule.add(alert("web-1"), 6.0)
    assert begin(schedule, 6.0) == []
    assert schedule.in_the_way(10.9) == "", "they may be about to end"
    assert schedule.in_the_way(11.0) == evil[0].id, "the oldest of the host that has most of them"
    assert schedule.in_the_way(11.0) == "", "it is on its way"
    schedule.look(runs, 11.5)
    assert schedule.in_the_way(12.0) == ""
    assert schedule.look([honest.id, evil[1].id, evil[2].id], 12.5) is True
    assert only(begin(schedule, 12.5)).hosts == ["web-1"], "before the host that has others"


@settings(max_examples=25, deadline=None)
@given(
    evil=st.integers(1, 25),
    silent=st.integers(0, 5),
    healthy=st.integers(1, 10),
    most=st.integers(2, 21),
    most_hosts=st.sampled_from([1, 5, 50]),
    worst=st.booleans(),
    dying=st.sampled_from([0.5, 6.0]),
)
def test_whatever_hangs_healthy_hosts_are_answered(
    evil: int, silent: int, healthy: int, most: int, most_hosts: int, worst: bool, dying: float
) -> None:
    """Hosts that answer and whose runs never end, hosts that never answer, and healthy ones with evidence."""
    pace = Pace(most_deliveries=most, most_hosts=most_hosts, timeout=20)
    schedule = Schedule(pace)
    runs: dict[str, float] = {}  # when they end
    hosts: dict[str, list[str]] = {}
    since: dict[str, float] = {}
    slowest, now = 0.0, 0.0
    while now < 240:
        for number in range(evil):
            schedule.add(alert(f"evil-{number}", severity=CRITICAL if worst else HIGH, deadline=now + 600), now)
        for number in range(silent):
            if now % 8 == 0:
                schedule.add(alert(f"silent-{number}", deadline=now + 600), now)
        for name in (f"web-{number}" for number in range(healthy)):
            if name not in since and now % 4 == 0:
                since[name] = now
                schedule.add(alert(name, deadline=now + 600), now)
        for _half in range(2):
            begun = begin(schedule, now)
            for delivery in begun:
                names = delivery.hosts
                hangs = any(not name.startswith("web") for name in names)
                runs[delivery.id], hosts[delivery.id] = NEVER if hangs else now + 1.5, names
            assert len(runs) <= most, "the engine has room for what is to be told"
            for delivery in begun:
                for name in delivery.hosts:
                    if not name.startswith("silent"):
                        answer(schedule, delivery, name, now)
                        slowest = max(slowest, now - since.pop(name, now))
            now += 0.5
            for ended in [delivery for delivery, end in runs.items() if end <= now]:
                del runs[ended]
            schedule.look(runs.keys(), now)
            of_its_own = collections.Counter(name for each in runs for name in hosts[each] if len(hosts[each]) == 1)
            assert max(of_its_own.values(), default=0) <= 3
            in_the_way = schedule.in_the_way(now)
            if in_the_way:
                runs[in_the_way] = min(runs[in_the_way], now + dying)
    slowest = max([slowest, *(now - moment for moment in since.values())])
    assert slowest < 30 + (evil + silent) * (pace.timeout + pace.wind_up + dying) / most


def test_of_one_delivery_at_a_time_none_could_be_kept_for_healthy_hosts() -> None:
    with pytest.raises(ValueError, match="less than two"):
        Pace(most_deliveries=1)


class Hosts(RuleBasedStateMachine):
    """Hosts that answer, fail, hang and come back, and alerts of all kinds about them."""

    @initialize(
        most=st.integers(2, 6),
        hosts=st.integers(1, 6),
        most_hosts=st.integers(1, 3),
        patterns=st.booleans(),
        room=st.integers(1, 3),
    )
    def start(self, most: int, hosts: int, most_hosts: int, patterns: bool, room: int) -> None:
        self.patterns = patterns
        self.room = room  # of an event, in alerts
        self.pace = Pace(
            most_deliveries=most, most_hosts=most_hosts, timeout=20, pause=3, longest_pause=20, most_alerts=3
        )
        ids = itertools.count()
        self.schedule = Schedule(self.pace, lambda: f"{next(ids):06}")
        self.now = 0.0
        self.hosts = [f"web-{number}" for number in range(hosts)]
        self.running: dict[str, Delivery] = {}
        self.runs: dict[str, list[str]] = {}  # that go on
        self.schedule.look([], self.now)
        self.silent: set[tuple[str, str]] = set()  # delivery and host
        self.received: dict[int, Open] = {}
        self.asked: dict[int, set[str]] = {}
        self.ended: dict[int, str] = {}

    @rule(data=st.data(), severity=st.integers(0, 4), container=st.sampled_from("abc"), size=st.integers(1, 200_000))
    def alert(self, data: st.DataObject, severity: int, container: str, size: int) -> None:
        hosts = data.draw(st.lists(st.sampled_from(self.hosts), min_size=1, max_size=2, unique=True))
        fields = {"severity": severity, "container": container, "body_bytes": size, "deadline": self.now + 100}
        if self.patterns and data.draw(st.booleans()):
            hosts = self.hosts
            new = alert("all", pattern=True, **fields)
        else:
            new = alert(*hosts, lookup=len(hosts) > 1, **fields)
        self.received[new.seq], self.asked[new.seq] = new, set(hosts)
        self.schedule.add(new, self.now)

    @rule(seconds=st.sampled_from([0.03, 0.2, 1.0, 5.0, 25.0]))
    def time_goes_on(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.turn()
            wake = self.schedule.wake_at(self.now)
            assert wake > self.now, "it would turn for ever"
            self.now = min(until, wake)
        self.turn()

    def turn(self) -> None:
        for late in self.schedule.expire(self.now):
            assert self.now >= late.deadline
            assert late.turns
            self.end(late, "unanswered")
        while self.begin():
            pass  # what was left out may begin at once
        under_way = [d for d in self.schedule.deliveries.values() if d.missing]
        hosts = [host for d in under_way for host in d.missing]
        if not self.patterns:  # of which nobody knows whom they concern before their first run
            assert len(hosts) == len(set(hosts)), "one delivery under way for each host"
        assert len({d.id for d in under_way} | set(self.runs)) <= self.pace.most_deliveries, "each run has a place"
        of_its_own = collections.Counter(hosts[0] for hosts in self.runs.values() if len(hosts) == 1)
        assert max(of_its_own.values(), default=0) <= 3 or self.patterns
        at_the_sick = sum(d.sick for d in under_way)
        assert at_the_sick <= self.pace.most_deliveries // 2
        assert at_the_sick < self.pace.most_deliveries

    def begin(self) -> list[Delivery]:
        before = {lane.name: list(lane.queue) for lane in self.schedule._lanes.values()}
        sick = set(self.schedule.sick_hosts())
        begun = self.schedule.plan(self.now)
        for delivery in begun:
            sick |= set(self.schedule.sick_hosts())  # some timed out just now
            assert len(delivery.alerts) <= self.pace.most_alerts
            assert sum(each.body_bytes for each in delivery.alerts) <= DELIVERY_BYTES or len(delivery.alerts) == 1
            assert len(delivery.hosts) <= self.pace.most_hosts
            assert len(delivery.hosts) == 1 or not sick & set(delivery.hosts), "a sick host has deliveries of its own"
            levels = [each.severity for each in delivery.alerts]
            assert levels == sorted(levels, reverse=True), "critical first"
            if len(delivery.hosts) == 1:
                waiting = before.get(delivery.hosts[0], ())
                left = [each.severity for each in waiting if each not in delivery.alerts and not each.lookup]
                assert levels[-1] >= max(left, default=0)
            for each in delivery.alerts:
                assert set(each.turns) & set(delivery.hosts)
                assert not each.lookup or set(delivery.hosts) <= set(each.turns), "nobody else is asked"
            self.schedule.leave_out(delivery, self.room, self.now)
            assert 0 < len(delivery.alerts) <= self.room
            assert delivery.hosts
            assert set(delivery.hosts) == set(delivery.missing)
            assert all(delivery.missing.values()), "who is asked nothing takes no part"
            self.schedule.emitted(delivery, self.now)
            self.running[delivery.id] = delivery
            self.runs[delivery.id] = list(delivery.hosts)
        return begun

    @rule(severity=st.integers(1, 4))
    def what_matters_less_is_held_back(self, severity: int) -> None:
        held_back = self.schedule.give_up_below(severity)
        for each, host, _turn in held_back:
            assert each.severity < severity
            each.answers[host] = {"outcome": "limit"}
        for each in {each.seq: each for each, _host, _turn in held_back if not each.turns}.values():
            self.end(each, "held back")

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from([ANSWERED, ANSWERED, FAILED, None]), works=st.booleans())
    def receipt(self, data: st.DataObject, outcome: Outcome | None, works: bool) -> None:
        """Of any delivery that ever was, also again, also late, also of before a restart."""
        delivery = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        run_hosts = self.hosts if delivery.hosts == ["all"] else delivery.hosts
        host = data.draw(st.sampled_from(run_hosts))
        for each in answer(self.schedule, delivery, host, self.now, outcome, run_hosts, works):
            assert outcome is ANSWERED
            assert host in each.answers
            if not each.turns:
                self.end(each, "answered")

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def a_run_ends(self, data: st.DataObject) -> None:
        del self.runs[data.draw(st.sampled_from(sorted(self.runs)))]

    @rule()
    def look(self) -> None:
        assert set(self.runs) <= set(self.schedule.known_runs())
        self.schedule.look(self.runs, self.now)
        in_the_way = self.schedule.in_the_way(self.now)
        assert not in_the_way or self.runs.pop(in_the_way)

    @rule(data=st.data())
    def everything_is_answered(self, data: st.DataObject) -> None:
        for delivery in list(self.schedule.deliveries.values()):
            run_hosts = self.hosts if delivery.hosts == ["all"] else delivery.hosts
            for host in run_hosts:
                for each in answer(self.schedule, delivery, host, self.now, ANSWERED, run_hosts):
                    if not each.turns:
                        self.end(each, "answered")

    def end(self, ended: Open, how: str) -> None:
        assert ended.seq not in self.ended, "an alert ends once"
        self.ended[ended.seq] = how
        if how == "answered":
            assert set(ended.answers) == self.asked[ended.seq]

    @invariant()
    def accounts_add_up(self) -> None:
        if not hasattr(self, "schedule"):
            return
        assert len(self.received) == len(self.ended) + len(self.schedule)
        for each in self.received.values():
            if each.seq not in self.ended:
                assert set(each.turns) | set(each.answers) in ({"all"}, self.asked[each.seq])
                assert set(each.turns)

    def teardown(self) -> None:
        if not hasattr(self, "schedule"):
            return
        self.time_goes_on(130.0)
        assert len(self.schedule) == 0, "every alert has ended by its deadline"
        assert set(self.ended) == set(self.received)
        self.time_goes_on(60.0)
        self.schedule.look([], self.now)
        assert (self.schedule.deliveries, self.schedule.known_runs()) == ({}, [])
        assert self.schedule.wake_at(self.now) == NEVER


TestHosts = Hosts.TestCase
TestHosts.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
