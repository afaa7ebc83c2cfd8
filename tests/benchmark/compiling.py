# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compiling policy sets, and globs that other matchers choke on."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import Glob
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.benchmark.deciding import MANY, SEED, make_policies
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row

BUDGET = 1.0
"""Seconds in which a set of 1,000 policies must be read and compiled: each module run does it once."""
SHORT, LONG = 10_000, 40_000
# Four times the text may take four times the time, and some noise; backtracking would take a power of it.
LINEAR = 6.0
# Its beginning and its end fit the text, so that only the middle tells that it does not match.
WORST = ("*a" * 50 + "*c*b", "*a?a" * 25 + "*c?c*b")


def compiling(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Reading a deployed set of 1,000 policies, and the growth of worst-case globs with the text."""
    rounds = 3 if quick else 9
    deployed = PolicySet.of(make_policies(random.Random(SEED))).to_json()  # noqa: S311 - the same draw in every run
    say(f"a set of {MANY:,} policies is {len(deployed) // 1024:,} KiB")
    rows = [
        Row(
            f"read and compile a deployed set of {MANY:,} policies, against a second",
            _median(rounds, lambda: PolicyEngine(PolicySet.from_json(deployed, "the set"))),
            BUDGET,
            at_most=1.0,
        )
    ]
    for pattern in WORST:
        glob, short, long = Glob(pattern), "a" * SHORT + "b", "a" * LONG + "b"
        rows.append(
            Row(
                f"glob {pattern[:8]}...*b on {LONG:,} characters against {SHORT:,}",
                _median(rounds, lambda glob=glob, text=long: glob.matches(text)),  # type: ignore[misc]  # bound now
                _median(rounds, lambda glob=glob, text=short: glob.matches(text)),  # type: ignore[misc]  # bound now
                at_most=LINEAR,
            )
        )
    return rows


def _median(rounds: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
