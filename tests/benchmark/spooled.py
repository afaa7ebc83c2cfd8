# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking alerts that policies want: what the spool costs, and whether memory grows."""

from __future__ import annotations

import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import NOTICE, elements, falco, request
from ansible_collections.ironpost.container_guard.tests.benchmark.load import NUMBER, Senders
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.source import Source

HOST = "web-1"
MOST_GROWTH = 20e6
"""Bytes."""
IN_A_REQUEST = 50
SETTLE = 600.0


def spooled(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Requests a second with the spool and receipts, against the source without: alerts wait in memory."""
    rounds, seconds = (2, 2.0) if quick else (7, 4.0)
    requests = [request(falco(NUMBER.decode(), "shop-7", host=HOST))]
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-") as directory,
        Source(pathlib.Path(directory) / "with", True, hosts=[HOST], spool_max_alerts=1_000_000) as keeping,
        Source(pathlib.Path(directory) / "without", False, hosts=[HOST]) as forgetful,
        Senders() as senders,
    ):
        ours, without = [], []
        for number in range(rounds + 1):
            mine = senders.for_seconds(keeping.port, requests, seconds)
            other = senders.for_seconds(forgetful.port, requests, seconds)
            say(f"with the spool {1 / mine.each:,.0f} a second, without {1 / other.each:,.0f}")
            if number:  # the first round warms
                ours.append(mine.each)
                without.append(other.each)
    return [
        Row(
            "a wanted alert until it is answered 202, many senders, with the spool against without",
            statistics.median(ours),
            statistics.median(without),
            at_most=2.0,
            note="16 connections, one alert a request, none a repeat; with: fsync before 202, deliveries, receipts; "
            "without: the same source hands its alerts on from memory, as it did before it had a spool",
            pairs=tuple(mine / other for mine, other in zip(ours, without, strict=True)),
        )
    ]


def memory(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Resident memory of the source, after a first part of a million alerts and after all."""
    alerts = 40_000 if quick else 1_000_000
    part = alerts // 10
    # Attackers choose names: each alert has a container and a rule of its own, but for those that are repeats.
    new = [
        falco(NUMBER.decode(), f"shop-{number}", host=HOST, rule=f"{NUMBER.decode()} {number}") for number in range(5)
    ]
    repeats = [falco(f"{number:012x}", "shop", host=HOST) for number in range(20)]
    others = [{**falco(NUMBER.decode(), priority=NOTICE, host=f"host-{NUMBER.decode()}")} for _ in range(5)]
    messages = [*new, *repeats, *others]
    kinds = [request((messages * 2)[start : start + IN_A_REQUEST]) for start in range(5)]
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-") as directory,
        Source(
            pathlib.Path(directory) / "source",
            True,
            hosts=[HOST],
            lookup_hosts=[],
            batch_interval=0,
            history_max_bytes=20_000_000,
        ) as source,
        Senders() as senders,
    ):
        sizes = []
        for number in range(10):
            load = senders.begin(source.port, kinds, 4, count=part // IN_A_REQUEST).result()
            deadline = time.monotonic() + SETTLE
            while elements(source.port)["waiting"]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"alerts wait for {SETTLE:.0f} seconds")
                time.sleep(0.1)
            sizes.append(source.memory)
            rate = load.answered / load.seconds
            say(f"{part * (number + 1):,} alerts, {shown(sizes[-1], 'B')}, {rate:,.0f} requests a second")
        accounts = elements(source.port)
    said = ", ".join(f"{name} {count:,}" for name, count in accounts.items() if count)
    return [
        Row(
            f"growth of memory over {alerts:,} alerts, after a tenth of them, against what it may grow",
            float(max(sizes[1:]) - sizes[0]),
            MOST_GROWTH,
            at_most=1.0,
            note=f"resident set of the source, {shown(sizes[0], 'B')} then; {said}",
            unit="B",
        )
    ]
