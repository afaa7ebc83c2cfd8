# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.offsets import Offsets, Partition

A, B = Partition("alerts", 0), Partition("alerts", 1)


def test_nothing_beyond_an_unfinished_record_is_committed() -> None:
    offsets = Offsets()
    offsets.assigned(A, None)
    offsets.take(A, 5, ["one", "two"])
    offsets.take(A, 6)
    offsets.take(A, 9, ["three"])
    assert offsets.to_commit() == {A: 5}
    offsets.ended(["three", "one"], {})
    assert offsets.to_commit() == {A: 5}
    assert offsets.unfinished(A) == 1
    offsets.ended(["two"], {})
    assert offsets.to_commit() == {A: 10}
    offsets.committed({A: 10})
    assert offsets.to_commit() == {}
    assert offsets.unfinished(A) == 0


def test_what_an_alert_waits_for_in_another_partition_holds_both_back() -> None:
    offsets = Offsets()
    offsets.assigned(A, 0)
    offsets.assigned(B, 0)
    offsets.take(A, 0, ["one"])
    offsets.take(B, 0)
    offsets.take(B, 1, ["one"])
    offsets.take(B, 2, ["one"])
    assert offsets.to_commit() == {B: 1}
    offsets.ended(["one"], {"one": "its repeat"})
    assert offsets.to_commit() == {B: 1}
    offsets.ended(["its repeat"], {})
    assert offsets.to_commit() == {A: 1, B: 3}


def test_nothing_is_committed_of_what_is_not_ours() -> None:
    offsets = Offsets()
    offsets.take(A, 0)
    assert offsets.to_commit() == {}
    offsets.assigned(A, 0)
    assert offsets.to_commit() == {A: 1}
    offsets.revoked([A])
    assert offsets.to_commit() == {}


def test_a_partition_that_comes_back_is_not_committed_back() -> None:
    offsets = Offsets()
    offsets.assigned(A, 0)
    offsets.take(A, 0, ["one"])
    offsets.take(A, 1, ["two"])
    offsets.revoked([A])
    offsets.assigned(A, 7)
    assert offsets.to_commit() == {}
    offsets.take(A, 7, ["one"])  # folded into what waits here
    offsets.take(A, 8)
    offsets.ended(["two"], {})
    assert offsets.to_commit() == {}
    offsets.ended(["one"], {})
    assert offsets.to_commit() == {A: 9}


def test_what_waited_before_a_restart_holds_everything_back() -> None:
    offsets = Offsets(["old", "older"])
    offsets.assigned(A, 3)
    offsets.take(A, 3)
    offsets.ended(["old"], {"older": "its repeat"})
    assert offsets.to_commit() == {}
    offsets.ended(["its repeat"], {})
    assert offsets.to_commit() == {A: 4}


def test_a_log_that_began_anew_waits_for_what_was_of_the_old_one() -> None:
    offsets = Offsets()
    offsets.assigned(A, 50)
    offsets.take(A, 51, ["one"])
    offsets.take(A, 60, ["two"])
    offsets.began_anew(A, 0)
    offsets.take(A, 0)
    offsets.ended(["one"], {})
    assert offsets.to_commit() == {A: 0}
    offsets.ended(["two"], {})
    assert offsets.to_commit() == {A: 1}


def test_a_log_that_began_anew_behind_what_is_committed_is_not_committed_back() -> None:
    offsets = Offsets()
    offsets.take(A, 51, ["one"])
    offsets.assigned(A, 40)
    offsets.began_anew(A, 40)
    assert offsets.to_commit() == {}
    offsets.take(A, 40)
    offsets.take(A, 41)
    assert offsets.to_commit() == {}
    offsets.ended(["one"], {})
    assert offsets.to_commit() == {A: 42}


class Group(RuleBasedStateMachine):
    """A member of a group beside others, and a plain account of which records need which alerts."""

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count()
        self.offsets = Offsets()
        self.open: set[str] = set()
        self.held: set[str] = set()
        self.needs: dict[Partition, dict[int, set[str]]] = {A: {}, B: {}}
        self.ours: set[Partition] = set()
        self.group: dict[Partition, int | None] = {A: None, B: None}
        self.read_from = {A: 0, B: 0}

    @initialize(count=st.integers(0, 2))
    def of_before_a_restart(self, count: int) -> None:
        self.held = {f"held {number}" for number in range(count)}
        self.open |= self.held
        self.offsets = Offsets(self.held)

    @rule(partition=st.sampled_from([A, B]))
    def assigned(self, partition: Partition) -> None:
        self.offsets.assigned(partition, self.group[partition])
        self.ours.add(partition)
        self.read_from[partition] = self.group[partition] or 0

    @rule(partition=st.sampled_from([A, B]))
    def revoked(self, partition: Partition) -> None:
        self.offsets.revoked([partition])
        self.ours.discard(partition)

    @rule(partition=st.sampled_from([A, B]), records=st.integers(1, 5))
    def others_commit(self, partition: Partition, records: int) -> None:
        if partition not in self.ours:
            self.group[partition] = (self.group[partition] or 0) + records

    @rule(
        partition=st.sampled_from([A, B]),
        gap=st.integers(0, 2),
        new=st.integers(0, 2),
        folded=st.integers(0, 2),
        data=st.data(),
    )
    def take(self, partition: Partition, gap: int, new: int, folded: int, data: st.DataObject) -> None:
        if partition not in self.ours:
            return
        offset = self.read_from[partition] + gap
        self.read_from[partition] = offset + 1
        if offset in self.needs[partition]:
            self.offsets.take(partition, offset)  # it is in the spool
            return
        if any(offset < taken for taken in self.needs[partition]):
            return  # a gap of before stays one
        fresh = {f"alert {next(self.names)}" for _number in range(new)}
        into = set(data.draw(st.permutations(sorted(self.open)))[:folded])
        self.open |= fresh
        self.needs[partition][offset] = fresh | into
        self.offsets.take(partition, offset, fresh | into)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), again=st.booleans())
    def end(self, data: st.DataObject, again: bool) -> None:
        ended = data.draw(st.sampled_from(sorted(self.open)))
        self.open.discard(ended)
        instead = f"alert {next(self.names)}"
        self.offsets.ended([ended], {ended: instead} if again else {})
        if again:
            self.open.add(instead)
            for needs in (*self.needs[A].values(), *self.needs[B].values(), self.held):
                if ended in needs:
                    needs.discard(ended)
                    needs.add(instead)

    @rule()
    def commit(self) -> None:
        done = self.offsets.to_commit()
        self.offsets.committed(done)
        self.group.update(done)

    @invariant()
    def never_beyond_what_is_unfinished(self) -> None:
        for partition, offset in self.offsets.to_commit().items():
            assert partition in self.ours
            assert offset > (-1 if self.group[partition] is None else self.group[partition])
            began = self.group[partition] or 0
            unfinished = [
                taken for taken, needs in self.needs[partition].items() if needs & self.open and taken >= began
            ]
            assert offset <= min(unfinished, default=offset)
            assert not self.held & self.open

    def teardown(self) -> None:
        """Once all has ended, all of what was taken is committed."""
        self.offsets.ended(sorted(self.open), {})
        self.commit()
        for partition in self.ours:
            if self.needs[partition]:
                assert (self.group[partition] or 0) >= max(self.needs[partition]) + 1


TestGroup = Group.TestCase
