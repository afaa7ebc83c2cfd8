# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the alert to the isolated container, through the real rule engine, against the peer."""

from __future__ import annotations

import contextlib
import pathlib
import statistics
import tempfile
import typing as t
from collections.abc import Callable, Iterator

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.sides import HOST, Burst, Guard, Peer, Side, local
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import (
    DISCONNECT,
    PAUSE,
    Stage,
    Victim,
    Watch,
    make_victims,
    unpause,
)

SETTLE = 5.0
"""Longest time, in seconds, between the end of the playbooks and what the engine tells of them."""
PAUSE_ONLY = ("pause",)
FULL = ("pause", "network_disconnect")


class Contest:
    """Both sides, ready to take alerts, and a watch on the engine."""

    def __init__(self, world: Stage, watch: Watch, guard: Guard, peer: Peer) -> None:
        self.world = world
        self.guard = guard
        self.peer = peer
        self._watch = watch

    @classmethod
    @contextlib.contextmanager
    def open(cls, docker_host: str, collections: str) -> Iterator[Contest]:
        """Start both rule engines, and answer an alert with each, so that both are warm."""
        with (
            tempfile.TemporaryDirectory(prefix="container-guard-bench-", ignore_cleanup_errors=True) as directory,
            Stage(docker_host) as world,
            Watch(docker_host) as watch,
            Guard(pathlib.Path(directory) / "guard", {HOST: local(docker_host)}) as guard,
            Peer(
                pathlib.Path(directory) / "peer",
                {HOST: local(docker_host)},
                collections,
                env={"DOCKER_HOST": docker_host},
            ) as peer,
        ):
            yield cls(world, watch, guard, peer)

    def by_guard(self, victims: list[Victim], actions: tuple[str, ...]) -> tuple[float, Burst]:
        """Seconds from the first alert until the last container was isolated, and how the senders fared."""
        self.guard.deploy(self.world.prefix, *actions)
        happenings = {PAUSE, DISCONNECT} if "network_disconnect" in actions else {PAUSE}
        seconds, burst = self._answer(self.guard, victims, happenings)
        isolator = Isolator(self.world.engine, Journal(str(self.guard.state_dir)))
        for victim in victims:
            released = isolator.release(victim.id)
            if not released.ok:
                raise RuntimeError(f"{victim.name} is {released.outcome}: {released.error}")
        return seconds, burst

    def by_peer(self, victims: list[Victim]) -> tuple[float, Burst]:
        """The same for the peer."""
        seconds, burst = self._answer(self.peer, victims, {PAUSE})
        unpause(self.world, victims)
        return seconds, burst

    def _answer(self, side: Side, victims: list[Victim], happenings: set[str]) -> tuple[float, Burst]:
        self._watch.forget()
        burst = side.send(victims)
        expected = [(happening, victim.id) for happening in happenings for victim in victims]
        side.rest()
        return self._watch.wait(expected, SETTLE) - burst.started, burst


def one_alert(contest: Contest, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """One alert to isolated."""
    victims = make_victims(contest.world, "one", 1)
    rounds = 3 if quick else 15
    ways = {
        "ours": lambda: contest.by_guard(victims, PAUSE_ONLY)[0],
        "the peer": lambda: contest.by_peer(victims)[0],
        "ours in full": lambda: contest.by_guard(victims, FULL)[0],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        names = list(ways)
        # Each goes first as often as the others: what the last one left to do must not slow down the same one always.
        order = names[number % len(names) :] + names[: number % len(names)]
        seconds = {name: ways[name]() for name in order}
        if number == 0:
            continue  # compiles, fills caches
        say(f"round {number} of {rounds}: " + ", ".join(f"{name} {shown(seconds[name])}" for name in names))
        for name in names:
            times[name].append(seconds[name])
    ours, theirs, full = times.values()
    median = statistics.median
    return [
        Row(
            "one alert to isolated (pause)",
            median(ours),
            median(theirs),
            at_most=1.0,
            note=f"the ratio is the median of {len(ours)} pairs, with its 95 % interval; {_spread(ours, theirs)}",
            pairs=tuple(mine / other for mine, other in zip(ours, theirs, strict=True)),
        ),
        Row("one alert to isolated (pause, network_disconnect), peer pauses only", median(full), median(theirs)),
    ]


def burst(contest: Contest, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """100 alerts in one burst."""
    count, rounds = (20, 1) if quick else (100, 3)
    say(f"starting {count} containers")
    victims = make_victims(contest.world, "burst", count)
    contest.by_guard(victims[:1], PAUSE_ONLY)
    contest.by_peer(victims[:1])
    ours = []
    for _ in range(rounds):
        ours.append(contest.by_guard(victims, PAUSE_ONLY))
        say(f"{count} alerts, ours: {shown(ours[-1][0])}")
    full, full_burst = contest.by_guard(victims, FULL)
    say(f"{count} alerts, ours, in full: {shown(full)}")
    theirs, their_burst = contest.by_peer(victims)
    say(f"{count} alerts, the peer: {shown(theirs)}")
    our_waits = [wait for _, fared in ours for wait in fared.waits]
    median = statistics.median
    what = f"{count} alerts, {count} containers, one host"
    return [
        Row(
            f"{what}, to the last paused",
            median(seconds for seconds, _ in ours),
            theirs,
            # The ratio grows with the number of alerts.
            at_least=None if quick else 20,
            note=f"ours {_range([seconds for seconds, _ in ours])}, the peer one round",
        ),
        Row(f"{what}, pause and network_disconnect, peer pauses only", full, theirs),
        Row("  senders wait for their answer, median", median(our_waits), median(their_burst.waits)),
        Row("  senders wait for their answer, longest", max(our_waits), max(their_burst.waits)),
        Row("  senders wait for their answer, longest, in full", max(full_burst.waits)),
    ]


def _spread(ours: t.Sequence[float], theirs: t.Sequence[float]) -> str:
    return f"medians of {len(ours)}; ours {_range(ours)}, the peer {_range(theirs)}"


def _range(seconds: t.Sequence[float]) -> str:
    return f"{shown(min(seconds))} to {shown(max(seconds))}"
