# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A storm of alerts to the first pause: alerts of different rules, of which nothing is remembered, and equal ones."""

from __future__ import annotations

import dataclasses
import random
import statistics
import time
from collections.abc import Callable, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.tests.benchmark.deciding import MANY, SEED, make_alerts, make_policies
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import Stage, make_victims

ALERTS = 500
HIT = "Victim found"


def judge(docker_host: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """500 alerts against 1,000 policies, of which the last one isolates: until the engine has paused its container."""
    draw = random.Random(SEED)  # noqa: S311 - the same draw in every run, no secret
    pause = Policy.from_dict({"id": "pause", "rules": [HIT], "actions": [{"type": "pause"}]})
    policy_set = PolicySet.of([pause, *make_policies(draw)[1:]])
    with Stage(docker_host) as world:
        (victim,) = make_victims(world, "judge", 1)
        reference = ContainerRef(id=victim.id[:12])
        engine = PolicyEngine(policy_set)
        # Alerts that a policy wants, about a container that it does not reach: they take the whole way, to the reasons.
        misses = [
            dataclasses.replace(alert, container=reference)
            for alert in make_alerts(draw, 20 * ALERTS)
            if engine.wants(alert)
        ][: ALERTS - 1]
        if len(misses) < ALERTS - 1:
            raise RuntimeError(f"only {len(misses)} of the alerts are wanted")
        hit = dataclasses.replace(misses[0], rule=HIT)
        storms = {"different": [*misses, hit], "equal": [*[misses[0]] * (ALERTS - 1), hit]}
        ratios: list[float] = []
        times: dict[str, list[float]] = {name: [] for name in storms}
        for number in range((10 if quick else 40) + 1):
            for name, alerts in storms.items():
                seconds, paused, reasons = _until_paused(world, policy_set, alerts)
                if paused != victim.id:
                    raise RuntimeError(f"{name}: {paused or 'nothing'} is paused")
                if number:  # the first round warms
                    times[name].append(seconds)
                    say(f"{name}: paused after {shown(seconds)}, reasons of all after another {shown(reasons)}")
            if number:
                ratios.append(times["different"][-1] / times["equal"][-1])
    different, equal = (statistics.median(times[name]) for name in ("different", "equal"))
    note = f"median of {len(ratios)} pairwise ratios {statistics.median(ratios):.2f}"
    measure = f"first pause, {ALERTS} alerts of different rules and {MANY:,} policies, against {ALERTS} equal ones"
    return [Row(measure, different, equal, at_most=1.2, note=note)]


def _until_paused(world: Stage, policy_set: PolicySet, alerts: Sequence[Alert]) -> tuple[float, str, float]:
    """Seconds from alerts and policies to the pause, what was paused, and the seconds of explaining afterwards."""
    started = time.perf_counter()
    # As a run of the module does: nothing is remembered from the one before.
    deciding = Judge(PolicyEngine(policy_set), Resolver(world.engine))
    verdicts = [verdict for alert in alerts for verdict in deciding.decide(alert)]
    isolating = {
        (verdict.decision.container or {})["id"]: verdict
        for verdict in verdicts
        if verdict.decision.outcome == "isolate"
    }
    for container_id in isolating:
        world.engine.pause(container_id)
    paused = time.perf_counter()
    for verdict in verdicts:
        verdict.decision.to_dict()
    explained = time.perf_counter()
    for container_id in isolating:
        world.engine.unpause(container_id)
    return paused - started, ",".join(isolating), explained - paused
