# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One alert about a container of a host that is reached over ssh, and what each step gains that makes it faster.

On both sides an ordinary user logs in, over a connection that is kept, with pipelining, and becomes root by sudo.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import Json, falco, post
from ansible_collections.ironpost.container_guard.tests.benchmark.hosts import Place
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.sides import PEER, Guard, Peer, Side
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import PAUSE, Victim, make_victims
from ansible_collections.ironpost.container_guard.tests.integration.remote import Remote
from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import RECIPES

WARM = "playbooks are run by a warm process"
USUAL = "ansible-playbook starts as usual"
SENT, KEPT = "sent", "kept"
"""Names of the host, with modules that are sent for each alert and with such as are kept on it."""
_PATIENCE = 120.0


def one_alert(docker_host: str, collections: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """One alert to paused."""
    rounds = 3 if quick else 15
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-", ignore_cleanup_errors=True) as directory,
        _place() as place,
    ):
        base = pathlib.Path(directory)
        connection = {**place.host.operator_inventory, "ansible_become": True, "ansible_pipelining": True}
        ours: dict[str, Json] = {
            SENT: {**place.variables, **connection},
            KEPT: {**place.variables, **connection, "guard_archive": True},
        }
        with (
            _archive(base, connection),
            Guard(base / "guard", ours) as guard,
            Guard(base / "warm", ours, warm=True) as warm,
            Peer(base / "peer", {SENT: connection}, collections, playbook=PEER / "playbook_of_hosts") as peer,
        ):
            ways: dict[str, tuple[Side, str]] = {
                "the peer": (peer, SENT),
                "ours": (guard, SENT),
                "with the archive": (guard, KEPT),
                "with a warm process": (warm, SENT),
                "with both": (warm, KEPT),
            }
            warm.wait_for(lambda: WARM in warm.log, "warm process")
            victims = make_victims(place.world, "ssh", len(ways) * (rounds + 1))
            for side in (guard, warm):
                place.deploy(side.deploy(place.world.prefix, "pause"))
            times: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(rounds + 1):
                names = list(ways)
                # Each goes first as often as the others.
                order = names[number % len(names) :] + names[: number % len(names)]
                seconds = {name: _paused(place, *ways[name], victims.pop()) for name in order}
                if number == 0:
                    continue  # compiles, fills caches, opens the connection
                say(f"round {number} of {rounds}: " + ", ".join(f"{name} {shown(seconds[name])}" for name in names))
                for name in names:
                    times[name].append(seconds[name])
            if USUAL in warm.log:
                raise RuntimeError("some were not run by the warm process")
    return _rows(times)


def _rows(times: dict[str, list[float]]) -> list[Row]:
    theirs = times.pop("the peer")
    note = f"medians of {len(theirs)}, load {os.getloadavg()[0]:.1f}; the peer {_range(theirs)}"
    return [
        Row(
            f"one alert to paused over ssh, {name}",
            statistics.median(ours),
            statistics.median(theirs),
            at_most=0.6 if name == "with both" else None,
            note=f"{note}, ours {_range(ours)}",
            pairs=tuple(mine / other for mine, other in zip(ours, theirs, strict=True)),
        )
        for name, ours in times.items()
    ]


def _range(seconds: list[float]) -> str:
    return f"{shown(min(seconds))} to {shown(max(seconds))}"


def _paused(place: Place, side: Side, host: str, victim: Victim) -> float:
    """Seconds from when the alert was posted until its container was paused."""
    side.be_idle()
    started = time.monotonic()
    post(side.port, falco(victim.id, victim.name, host=host))
    return place.watch.wait([(PAUSE, victim.id)], _PATIENCE) - started


@contextlib.contextmanager
def _place() -> Iterator[Place]:
    (host,) = fleet.up(RECIPES[-1:])
    with contextlib.closing(host), Place(SENT, host) as place:
        yield place


@contextlib.contextmanager
def _archive(directory: pathlib.Path, connection: Json) -> Iterator[None]:
    """Modules on the host."""
    host = Remote(directory, connection, "--become")
    (installed,) = host.modules(("module_archive", {}))
    if installed["failed"]:
        raise RuntimeError(f"no archive: {installed['msg']}")
    try:
        yield
    finally:
        host.modules(("module_archive", {"state": "absent"}))
