# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A storm of alerts on one host: what it costs, and whom it harms."""

from __future__ import annotations

import contextlib
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import (
    CRITICAL,
    ERROR,
    NOTICE,
    Json,
    elements,
    falco,
    post,
    request,
)
from ansible_collections.ironpost.container_guard.tests.benchmark.deciding import SEED
from ansible_collections.ironpost.container_guard.tests.benchmark.load import NUMBER, Senders
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.sides import HOST, Guard, local
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import (
    PAUSE,
    Stage,
    Victim,
    Watch,
    make_victims,
)

ALERTS, CONTAINERS, RULES = 10_000, 100, 5
SENDERS = 4
"""Connections of a storm."""
PAUSE_BETWEEN = 0.05
"""Between two alerts of the other sender, in seconds."""
AFTERWARDS = 30.0
"""How long the other sender goes on after the noise, in seconds."""
SETTLE = 10.0
"""Longest time, in seconds, between the answer to an alert and what the engine tells of it."""


def storm(docker_host: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """10,000 alerts for 100 containers, half of them wanted, and a critical one behind them."""
    alerts, containers, rounds = (1000, 20, 3) if quick else (ALERTS, CONTAINERS, 5)
    with _guard(docker_host) as (world, watch, guard), Senders() as senders:
        victims = make_victims(world, "storm", containers)
        *others, behind = make_victims(world, "alone", rounds + 2)
        post(guard.port, falco(others[0].id, others[0].name))  # compiles, fills caches
        guard.rest()

        times, costs = [], []
        for victim in others[1:]:
            guard.be_idle()
            cpu = guard.cpu_seconds()
            times.append(_until_paused(guard, watch, victim))
            guard.be_idle()
            costs.append(guard.cpu_seconds() - cpu)
            say(f"one alert: paused after {shown(times[-1])}, {costs[-1]:.2f} CPU seconds")

        cpu = guard.cpu_seconds()
        load = senders.begin(guard.port, _storm(victims, alerts), SENDERS, count=alerts).result()
        waited = _until_paused(guard, watch, behind)
        say(f"{alerts} alerts in {shown(load.seconds)}, the critical one behind them paused after {shown(waited)}")
        guard.wait_for(lambda: elements(guard.port)["waiting"] == 0, "answer to all alerts")
        guard.be_idle()
        cost = guard.cpu_seconds() - cpu
        watch.wait([(PAUSE, victim.id) for victim in victims], SETTLE)
    what = f"storm of {alerts:,} alerts, {containers} containers, one host, half wanted"
    return [
        Row(
            f"{what}: CPU seconds, against one alert",
            cost,
            statistics.median(costs),
            # What is once for each storm counts for more in a small one.
            at_most=15.0,
            note=f"of ansible-rulebook and its playbooks; one alert: {_range(costs)} of {len(costs)}",
        ),
        Row(
            f"{what}: critical alert behind it to paused, against alone",
            waited,
            statistics.median(times),
            at_most=2.0,
            note=f"sent as the last of the storm is answered; alone {_range(times)} of {len(times)}",
        ),
    ]


def noise(docker_host: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """10,000 alerts of 12 KB about one container, and somebody else who posts."""
    alerts = 1000 if quick else ALERTS
    with _guard(docker_host) as (world, _watch, guard), Senders() as senders:
        noisy, quiet = make_victims(world, "noise", 2)
        post(guard.port, falco(noisy.id, noisy.name))
        guard.rest()
        idle = []
        for number in range(5 if quick else 15):
            guard.be_idle()
            idle.append(_post(guard, quiet, f"idle {number}"))
        # Each with another rule, so that none is the repeat of another: a repeat is less work.
        rule = f"Noise {NUMBER.decode()}"
        noise = request(falco(noisy.id, noisy.name, priority=ERROR, rule=rule, command="x" * 4000))
        load = senders.begin(guard.port, [noise], SENDERS, count=alerts)
        waits: list[float] = []
        while not load.done():
            waits.append(_post(guard, quiet, f"meanwhile {len(waits)}"))
            time.sleep(PAUSE_BETWEEN)
        say(f"{alerts} alerts of {len(noise)} bytes in {shown(load.result().seconds)}")
        # All of it is taken, and most of it is yet to be answered.
        deadline = time.monotonic() + AFTERWARDS
        while elements(guard.port)["waiting"] and time.monotonic() < deadline:
            waits.append(_post(guard, quiet, f"afterwards {len(waits)}"))
            time.sleep(PAUSE_BETWEEN)
    return [
        Row(
            f"slowest POST of a sender, beside {alerts:,} alerts of 12 KB about one container, against an idle guard",
            max(waits),
            statistics.median(idle),
            at_most=50.0,
            note=f"slowest of {len(waits)}, median {shown(statistics.median(waits))}; idle: median of {len(idle)}, "
            f"{_range(idle)}; each over a connection of its own",
        )
    ]


@contextlib.contextmanager
def _guard(docker_host: str) -> Iterator[tuple[Stage, Watch, Guard]]:
    """A guard at its defaults, that pauses from high on."""
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-", ignore_cleanup_errors=True) as directory,
        Stage(docker_host) as world,
        Watch(docker_host) as watch,
        Guard(pathlib.Path(directory) / "guard", {HOST: local(docker_host)}) as guard,
    ):
        guard.deploy(world.prefix, "pause", threshold="high")
        yield world, watch, guard


def _storm(victims: Sequence[Victim], count: int) -> list[bytes]:
    """That many requests in any order: some rules that policies want and as many that none wants, again and again."""
    kinds = [
        request(falco(victim.id, victim.name, priority=priority, rule=f"Rule {number} of {priority}"))
        for victim in victims
        for priority in (ERROR, NOTICE)
        for number in range(RULES)
    ]
    requests = (kinds * (count // len(kinds) + 1))[:count]
    random.Random(SEED).shuffle(requests)  # noqa: S311 - the same order in every run, no secret
    return requests


def _until_paused(guard: Guard, watch: Watch, victim: Victim) -> float:
    """Seconds from a critical alert about a container until it is paused."""
    alert: Json = falco(victim.id, victim.name, priority=CRITICAL)
    started = time.monotonic()
    post(guard.port, alert)
    return watch.wait([(PAUSE, victim.id)], 120) - started


def _post(guard: Guard, victim: Victim, rule: str) -> float:
    """Seconds of posting an alert that no policy wants."""
    alert = falco(victim.id, victim.name, priority=NOTICE, rule=rule)
    started = time.monotonic()
    post(guard.port, alert)
    return time.monotonic() - started


def _range(values: Sequence[float]) -> str:
    return f"{shown(min(values))} to {shown(max(values))}"
