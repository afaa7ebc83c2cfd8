# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A flood of alerts that no policy wants, against the built-in webhook with a rule that never matches."""

from __future__ import annotations

import contextlib
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator

from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import (
    CRITICAL,
    NOTICE,
    elements,
    falco,
    post,
    request,
)
from ansible_collections.ironpost.container_guard.tests.benchmark.load import NUMBER, Senders
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row
from ansible_collections.ironpost.container_guard.tests.benchmark.sides import (
    HOST,
    IGNORING,
    Guard,
    Peer,
    local,
)

RULES = 20


def flood(docker_host: str, collections: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Requests a second over 16 connections that stay open, each with a token and one alert about another container."""
    rounds, seconds = (2, 2.0) if quick else (7, 4.0)
    requests = [
        request(falco(NUMBER.decode(), "shop-7", priority=NOTICE, rule=f"Redirect of stdout {number}"))
        for number in range(RULES)
    ]
    ours, theirs, busy = [], [], []
    with _sides(docker_host, collections) as (guard, peer), Senders() as senders:
        for number in range(rounds + 1):
            dropped = elements(guard.port)["dropped"]
            mine = senders.for_seconds(guard.port, requests, seconds)
            # It is what it is for: nothing of it is kept.
            dropped = elements(guard.port)["dropped"] - dropped
            if dropped != mine.answered:
                raise RuntimeError(f"{dropped} of {mine.answered} alerts were dropped early")
            other = senders.for_seconds(peer.port, requests, seconds)
            peer.be_idle()
            say(f"ours {1 / mine.each:,.0f} a second, the peer {1 / other.each:,.0f}")
            if number:  # the first round warms
                ours.append(mine.each)
                theirs.append(other.each)
                busy += [mine.busy, other.busy]
    return [
        Row(
            "an alert that no policy wants, until it is answered, in a flood",
            statistics.median(ours),
            statistics.median(theirs),
            at_least=4,
            note=f"with a Bearer token, {len(requests[0])} bytes, one alert a request; "
            f"the senders took {max(busy):.0%} of a core",
            pairs=tuple(mine / other for mine, other in zip(ours, theirs, strict=True)),
        )
    ]


@contextlib.contextmanager
def _sides(docker_host: str, collections: str) -> Iterator[tuple[Guard, Peer]]:
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-", ignore_cleanup_errors=True) as directory,
        Guard(pathlib.Path(directory) / "guard", {HOST: local(docker_host)}, drop_early=True) as guard,
        Peer(pathlib.Path(directory) / "peer", {HOST: local(docker_host)}, collections, IGNORING) as peer,
    ):
        guard.deploy("shop", "pause")
        # Nothing is dropped by policies before each host has said that it goes by them.
        post(guard.port, falco("0" * 12, "nobody", priority=CRITICAL))
        guard.wait_for(lambda: elements(guard.port)["waiting"] == 0, "answer of the host")
        guard.be_idle()
        yield guard, peer
