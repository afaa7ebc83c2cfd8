# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating and releasing while other hands work on the same containers, and their engine dies, in any order.

A failure shows the steps that led to it. GUARD_STATEFUL_EXAMPLES=200 looks longer than a run of the tests has time for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import tempfile
import typing as t

import docker.errors
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import breaches
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    HELD,
    ISOLATED,
    REFUSED,
    RELEASED,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

EXAMPLES = int(os.environ.get("GUARD_STATEFUL_EXAMPLES", "8"))
STEPS = 15

PAUSE, STOP, KILL = Action("pause"), Action("stop", grace=0), Action("kill")
EVERYWHERE, FIRST = Action("network_disconnect"), Action("network_disconnect", networks=("*-n0",))
ACTIONS = (
    *((PAUSE,), (STOP,), (KILL,), (EVERYWHERE,), (FIRST,), (PAUSE, EVERYWHERE), (PAUSE, FIRST)),
    *((STOP, EVERYWHERE), (KILL, EVERYWHERE), (PAUSE, EVERYWHERE, KILL), (PAUSE, KILL)),
)
RESTART_POLICIES = (("no", 0), ("always", 0), ("on-failure", 7))

slots = st.integers(0, 1)
networks = st.integers(0, 2)


class Seen(t.NamedTuple):
    """What an isolation changes, as the engine says it.

    Attributes:
        status: running, paused or down.
        restart_policy: name and maximum retry count.
        networks: what was asked of each, by name.
        live: names of those that it has an interface on, or takes up when it starts.
    """

    status: str
    restart_policy: tuple[str, int]
    networks: dict[str, t.Any]
    live: frozenset[str]


def look(world: HostWorld, container: str) -> Seen:
    """Raises NotFound."""
    found = world.engine.inspect_container(container)
    state, policy = found["State"], found["HostConfig"]["RestartPolicy"]
    endpoints = found["NetworkSettings"]["Networks"]
    return Seen(
        status="paused" if state["Paused"] else "running" if state["Running"] else "down",
        restart_policy=(policy["Name"], policy["MaximumRetryCount"]),
        networks={
            name: (
                {key: value for key, value in (endpoint["IPAMConfig"] or {}).items() if value},
                sorted({*(endpoint["Aliases"] or ())} - {container[:12]}),
            )
            for name, endpoint in endpoints.items()
        },
        live=frozenset(name for name, one in endpoints.items() if one["EndpointID"] or not state["Running"]),
    )


@dataclasses.dataclass
class Slot:
    """A name that is borne by one container after the other.

    Attributes:
        container: id of the one that bears it, or bore it last.
        gone: somebody removed that one.
        since: of the isolation that before is of.
        before: the container before that.
        joined: networks that it was on when it was isolated once more, and that come back with the others.
        disturbed: others touched it since it was last seen to be isolated.
    """

    container: str
    gone: bool = False
    since: str = ""
    before: Seen | None = None
    joined: set[str] = dataclasses.field(default_factory=set)
    disturbed: bool = False


class Hands(RuleBasedStateMachine):
    """The guard, other hands, and accidents of the engine."""

    def __init__(self, world: HostWorld, network_ids: t.Sequence[str], directory: pathlib.Path) -> None:
        super().__init__()
        self.world = world
        self.network_ids = network_ids
        self.journal = Journal(tempfile.mkdtemp(dir=directory), lock_timeout=5)
        self.guard = Isolator(world.engine, self.journal, retry=Retry(max_attempts=2, backoff_base=0.1))
        self.accidents = 0
        self.lost: list[str] = []
        self.slots = [Slot(self._make(0, ("always", 0))), Slot(self._make(1, ("on-failure", 7)))]

    def _make(self, slot: int, restart_policy: tuple[str, int]) -> str:
        first, second, _third = self.network_ids
        # The first address of the network: one that others are given as soon as it is free.
        subnet = self.world.engine.inspect_network(first)["IPAM"]["Config"][0]["Subnet"]
        static = EndpointSettings(ipv4_address=subnet.rpartition(".")[0] + ".2", aliases=("database",))
        wanted = ({first: static, second: PLAIN}, {second: EndpointSettings(aliases=("backend",))})[slot]
        return self.world.make_container(f"c{slot}", wanted, restart_policy=restart_policy)

    def teardown(self) -> None:
        """Release all, and see that the journal is empty, or that it was said why not."""
        try:
            for container in [*self.lost, *(slot.container for slot in self.slots)]:
                try:
                    outcome = self.guard.release(container)
                except NotFound:
                    continue
                left = self.journal.load(container)
                assert (left is None) if outcome.ok else outcome.error, outcome
        finally:
            for slot in self.slots:
                if not slot.gone:
                    self.world.api.remove_container(slot.container, force=True)

    # --- the guard ----------------------------------------------------------------------------------------------------

    @rule(slot=slots, actions=st.sampled_from(ACTIONS))
    def isolate(self, slot: int, actions: tuple[Action, ...]) -> None:
        mine = self.slots[slot]
        if mine.gone:
            self._expect_not_found(lambda: self.guard.isolate(mine.container, actions))
            return
        seen, held = look(self.world, mine.container), self.journal.load(mine.container)
        outcome = self.guard.isolate(mine.container, actions)
        entry = self.journal.load(mine.container)
        if outcome.outcome == REFUSED:
            self._assert_untouched(mine, seen, held, outcome)
            return
        assert outcome.outcome in (ISOLATED, HELD), outcome
        assert entry is not None
        if entry.since != mine.since:
            mine.since, mine.before, mine.joined = entry.since, seen, set()
        mine.joined |= seen.networks.keys()
        mine.disturbed = False
        assert not self._broken(entry), outcome

    @rule(slot=slots, restart=st.booleans())
    def release(self, slot: int, restart: bool) -> None:
        mine = self.slots[slot]
        if mine.gone:
            self._expect_not_found(lambda: self.guard.release(mine.container, restart=restart))
            return
        seen, held = look(self.world, mine.container), self.journal.load(mine.container)
        outcome = self.guard.release(mine.container, restart=restart)
        if held is None or outcome.outcome == REFUSED:
            assert outcome.outcome in (RELEASED, REFUSED), outcome
            self._assert_untouched(mine, seen, held, outcome)
            return
        if outcome.outcome != RELEASED:
            assert outcome.error, outcome
            assert self.journal.load(mine.container), outcome
            assert self._address_is_taken(mine), outcome
            return
        assert self.journal.load(mine.container) is None, outcome
        self._assert_given_back(mine, outcome)

    # --- others -------------------------------------------------------------------------------------------------------

    @rule(slot=slots, doing=st.sampled_from(["pause", "unpause", "start", "kill"]))
    def disturb(self, slot: int, doing: str) -> None:
        self._other_hand(slot, lambda container: getattr(self.world.engine, doing)(container))

    @rule(slot=slots)
    def stop(self, slot: int) -> None:
        self._other_hand(slot, lambda container: self.world.engine.stop(container, 0))

    @rule(slot=slots, network=networks)
    def connect(self, slot: int, network: int) -> None:
        self._other_hand(slot, lambda container: self.world.engine.connect(self.network_ids[network], container, PLAIN))

    @rule(slot=slots, network=networks)
    def disconnect(self, slot: int, network: int) -> None:
        self._other_hand(slot, lambda container: self.world.engine.disconnect(self.network_ids[network], container))

    @rule(slot=slots, policy=st.sampled_from(RESTART_POLICIES))
    def update(self, slot: int, policy: tuple[str, int]) -> None:
        self._other_hand(slot, lambda container: self.world.engine.set_restart_policy(container, *policy))

    @rule(slot=slots)
    def remove(self, slot: int) -> None:
        mine = self.slots[slot]
        with contextlib.suppress(docker.errors.NotFound):
            self.world.api.remove_container(mine.container, force=True)
        mine.gone = mine.disturbed = True

    @precondition(lambda self: any(slot.gone for slot in self.slots))
    @rule(policy=st.sampled_from(RESTART_POLICIES))
    def create(self, policy: tuple[str, int]) -> None:
        number = next(number for number, slot in enumerate(self.slots) if slot.gone)
        try:
            container = self._make(number, policy)
        except EngineError:
            # Its address is taken: it was created, and does not start.
            self.world.api.remove_container(self.world.name(f"c{number}"), force=True)
            return
        self.lost.append(self.slots[number].container)
        self.slots[number] = Slot(container)

    @precondition(lambda self: self.accidents < 2)
    @rule()
    def restart_engine(self) -> None:
        self.world.host.restart_engine()
        self._had_accident()

    @precondition(lambda self: self.accidents < 2)
    @rule()
    def kill_engine(self) -> None:
        self.world.host.kill_engine()
        self.world.host.start_engine()
        self._had_accident()

    def _had_accident(self) -> None:
        self.accidents += 1
        for slot in self.slots:
            slot.disturbed = True

    def _other_hand(self, slot: int, work: t.Callable[[str], None]) -> None:
        with contextlib.suppress(EngineError):  # they take what they get
            work(self.slots[slot].container)
        self.slots[slot].disturbed = True

    # --- what must be so ----------------------------------------------------------------------------------------------

    @invariant()
    def isolations_hold_or_are_said_to_be_breached(self) -> None:
        entries, damaged = self.journal.entries()
        assert not damaged
        resolver = Resolver(self.world.engine)
        for entry in entries:
            inspection = breaches.inspect(self.guard, resolver, entry)
            broken = self._broken(entry)
            assert inspection.breaches or not broken, broken
            mine = next((slot for slot in self.slots if slot.container == entry.snapshot.id), None)
            if mine and not mine.disturbed and entry.phase == ISOLATED:
                assert not inspection.breaches

    def _broken(self, entry: Entry) -> list[str]:
        """What the engine says that an isolation must not be."""
        try:
            seen = look(self.world, entry.snapshot.id)
        except NotFound:
            return ["gone"]
        goal = entry.hold
        cut = [name for name in seen.live if "*" in goal.networks or ("*-n0" in goal.networks and name.endswith("-n0"))]
        found = {
            f"on {cut}": cut,
            "runs": (goal.stop or goal.kill) and seen.status != "down",
            "not paused": goal.pause and seen.status == "running",
            f"restart policy {seen.restart_policy}": seen.restart_policy[0] != "no",
        }
        return [what for what, so in found.items() if so]

    def _assert_untouched(self, mine: Slot, seen: Seen, held: Entry | None, outcome: Outcome) -> None:
        assert look(self.world, mine.container) == seen, outcome
        assert self.journal.load(mine.container) == held, outcome

    def _assert_given_back(self, mine: Slot, outcome: Outcome) -> None:
        before, after = mine.before, look(self.world, mine.container)
        assert before is not None
        told = {difference["what"] for difference in (*outcome.conflicts, *outcome.not_restored)}
        assert after.status == before.status or "state" in told, (outcome, before, after)
        assert after.restart_policy == before.restart_policy or "restart policy" in told, (outcome, before, after)
        for name in before.networks.keys() | after.networks.keys():
            if name in before.networks and name in after.networks:
                same = after.networks[name] == before.networks[name]
                assert same or f"settings on network {name}" in told, (outcome, before, after)
                assert name in after.live, (outcome, before, after)
            elif name in before.networks or name not in mine.joined:
                assert f"network {name}" in told, (outcome, before, after)

    def _address_is_taken(self, mine: Slot) -> bool:
        """Whether another container was given an address that it asked for."""
        assert mine.before is not None
        wanted = {settings["IPv4Address"] for settings, _aliases in mine.before.networks.values() if settings}
        others = [slot.container for slot in self.slots if slot is not mine and not slot.gone]
        found = [self.world.engine.inspect_container(other)["NetworkSettings"]["Networks"] for other in others]
        return any(one["IPAddress"] in wanted for endpoints in found for one in endpoints.values())

    def _expect_not_found(self, work: t.Callable[[], Outcome]) -> None:
        try:
            outcome = work()
        except NotFound:
            return
        raise AssertionError(outcome)


def test_any_order_of_events(faulty_host: Host, docker_world: HostWorld, tmp_path: pathlib.Path) -> None:
    network_ids = [docker_world.make_network(f"n{number}", internal=True) for number in range(3)]
    run_state_machine_as_test(
        lambda: Hands(docker_world, network_ids, tmp_path),  # type: ignore[arg-type]  # it takes any factory
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            # A step takes half a second, so looking for the shortest example would take an hour.
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
            print_blob=True,
        ),
    )
