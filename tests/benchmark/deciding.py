# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding: the mask engine against a loop over the policies that matches with fnmatch."""

from __future__ import annotations

import fnmatch
import gc
import random
import statistics
import time
import typing as t
from collections.abc import Callable, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES, Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row

SEED = 20260405
MANY, SOME_POLICIES, FEW = 1000, 100, 10
CONTAINERS = 1000
RULES = 1000
QUESTIONS = 4000
SOME = 1000

TEAMS = ("shop", "pay", "search", "mail", "ledger", "media", "auth", "edge", "batch", "lab")
PARTS = ("web", "api", "worker", "cache", "db", "proxy", "queue", "cron", "admin", "gate")
IMAGES = ("nginx", "redis", "postgres", "python", "alpine", "httpd", "rabbitmq", "node", "golang", "busybox")
ENVIRONMENTS = ("prod", "stage", "dev")
SOURCES = ("falco", "tetragon", "wazuh", "suricata", "crowdsec")
UNASKED = "Redirect of stdout"
"""What a rule may be about that no policy asks for."""
VERBS = ("Terminal shell", "Write below etc", "Outbound connection", "Packet socket", "Sensitive file read")
TAGS = ("mitre_execution", "mitre_persistence", "mitre_exfiltration", "container", "network", "process")

Question = tuple[Alert, Container]
Decide = Callable[[Alert, Container], Policy | None]


# --- what is asked ----------------------------------------------------------------------------------------------------


def make_policies(draw: random.Random) -> list[Policy]:
    """Policies as a fleet would have: each for some alerts about a part of the containers."""
    policies = []
    for number in range(MANY):
        team, part = draw.choice(TEAMS), draw.choice(PARTS)
        names = draw.choice((f"{team}-{part}-*", f"{team}-*", f"*-{part}-{draw.randrange(100)}", f"{team}-*-1?"))
        rule = draw.choice(VERBS)
        target_filter: dict[str, t.Any] = {"container_names": [names]}
        if draw.random() < 0.5:
            target_filter["image_patterns"] = [f"{draw.choice(IMAGES)}:*"]
        if draw.random() < 0.5:
            target_filter["labels"] = [f"env={draw.choice(ENVIRONMENTS)}", "quarantine"]
        policy = {
            "id": f"policy-{number:04}",
            "priority": draw.randrange(100),
            "severity_threshold": draw.choice(SEVERITIES),
            "sources": draw.sample(SOURCES, 2),
            "rules": [f"{rule} {draw.randrange(10)}*" if draw.random() < 0.5 else f"{rule}*"],
            "target_filter": target_filter,
            "actions": [{"type": "pause"}],
        }
        if draw.random() < 0.3:
            policy["tags"] = ["mitre_*"]
        policies.append(Policy.from_dict(policy))
    return list(PolicySet.of(policies).policies)


def make_containers(draw: random.Random) -> list[Container]:
    """Containers of ten teams."""
    return [
        Container(
            id=f"{draw.getrandbits(256):064x}",
            name=f"{draw.choice(TEAMS)}-{draw.choice(PARTS)}-{number % 100}",
            images=(f"{draw.choice(IMAGES)}:{draw.randrange(1, 9)}.{draw.randrange(10)}",),
            labels={"env": draw.choice(ENVIRONMENTS), "team": draw.choice(TEAMS)},
        )
        for number in range(CONTAINERS)
    ]


def make_alerts(draw: random.Random, count: int) -> list[Alert]:
    """One alert of each of that many rules: source, severity and tags belong to the rule."""
    return [
        Alert(
            id=str(number),
            trace_id=str(number),
            source=draw.choice(SOURCES),
            rule=f"{draw.choice((*VERBS, UNASKED))} {draw.randrange(10)} of {number}",
            severity=draw.choice(list(Severity)),
            received_at="2026-04-05T12:43:02Z",
            container=ContainerRef(id=f"{draw.getrandbits(48):012x}"),
            tags=tuple(draw.sample(TAGS, 2)),
        )
        for number in range(count)
    ]


# --- the reference ----------------------------------------------------------------------------------------------------


def loop_over(policies: Sequence[Policy]) -> Decide:
    """The loop that people write: policies in their order, cheap checks first, out at the first that fails."""
    match = fnmatch.fnmatchcase

    def wanted(label: str, labels: t.Mapping[str, str]) -> bool:
        key, separator, pattern = label.partition("=")
        return key in labels and (not separator or match(labels[key], pattern))

    def decide(alert: Alert, container: Container) -> Policy | None:
        for policy in policies:
            if alert.severity < policy.severity_threshold:
                continue
            if policy.sources and not any(match(alert.source, pattern) for pattern in policy.sources):
                continue
            if policy.rules and not any(match(alert.rule, pattern) for pattern in policy.rules):
                continue
            if policy.tags and not any(match(tag, pattern) for pattern in policy.tags for tag in alert.tags):
                continue
            target = policy.target_filter
            names, images, labels = target.container_names, target.image_patterns, target.labels
            if names and not any(match(container.name, pattern) for pattern in names):
                continue
            if images and not any(match(image, pattern) for pattern in images for image in container.images):
                continue
            if labels and not any(wanted(label, container.labels) for label in labels):
                continue
            return policy
        return None

    return decide


# --- measuring --------------------------------------------------------------------------------------------------------


def decide(quick: bool, say: Callable[[str], None]) -> list[Row]:
    """1,000 policies x 1,000 containers, against the loop and against 10 policies."""
    draw = random.Random(SEED)  # noqa: S311 - the same draw in every run, no secret
    policies, containers = make_policies(draw), make_containers(draw)
    few, some = policies[:: MANY // FEW], policies[:: MANY // SOME_POLICIES]
    engine, engine_of_few, engine_of_some = _engine(policies), _engine(few), _engine(some)
    # What detectors send comes from a few rules; in the worst case each alert is one that was never seen before.
    rules = make_alerts(draw, RULES)
    known = [(draw.choice(rules), draw.choice(containers)) for _ in range(QUESTIONS)]
    new = [(alert, draw.choice(containers)) for alert in make_alerts(draw, QUESTIONS)]
    sample = 200 if quick else 1000  # the loop takes most of a millisecond for each
    note = _agreement(engine, loop_over(policies), known[:sample] + new[:sample])
    say(note)

    comparison = _Comparison(rounds=3 if quick else 7)
    comparison.add("loop, warm", lambda: loop_over(policies), known[:sample])
    comparison.add("ours, warm", lambda: engine.decide, known)
    comparison.add("loop, cold", lambda: loop_over(policies), new[:sample])
    comparison.add("ours, cold", lambda: _engine(policies).decide, new)
    kinds: dict[str, Callable[[Alert, Container], bool]] = {
        # Who misses for another reason does other work: without a policy for the alert, the container is not asked.
        "hits": lambda alert, container: engine_of_few.decide(alert, container) is not None,
        "container missed": lambda alert, container: (
            engine_of_few.wants(alert) and engine.decide(alert, container) is None
        ),
        "alert missed": lambda alert, _container: not engine.wants(alert),
        "as drawn": lambda _alert, _container: True,
    }
    for what, wanted in kinds.items():
        questions = _some(draw, rules, containers, wanted)
        # Asked about once each, for an engine that has seen nothing.
        once = list({question[0].id: question for question in questions}.values())
        comparison.add(f"{MANY}, {what}, warm", lambda: engine.decide, questions)
        comparison.add(f"{FEW}, {what}, warm", lambda: engine_of_few.decide, questions)
        comparison.add(f"{SOME_POLICIES}, {what}, warm", lambda: engine_of_some.decide, questions)
        comparison.add(f"{SOME_POLICIES}, {what}, cold", lambda: _engine(some).decide, once)
        comparison.add(f"{MANY}, {what}, cold", lambda: _engine(policies).decide, once)
        comparison.add(f"{FEW}, {what}, cold", lambda: _engine(few).decide, once)
    median = comparison.run()
    title = f"decide, {MANY:,} policies x {CONTAINERS:,} containers"
    rows = [
        Row(f"{title}, warm", median["ours, warm"], median["loop, warm"], at_least=200, note=note),
        Row(f"{title}, every alert new", median["ours, cold"], median["loop, cold"], at_least=10),
    ]
    for heat in ("warm", "cold"):
        rows += [
            Row(
                f"decide, {count:,} policies against {FEW}, {what}, {heat}",
                median[f"{count}, {what}, {heat}"],
                median[f"{FEW}, {what}, {heat}"],
                # As drawn, fewer of the questions have an answer in the smaller set, which is another amount of work.
                at_most=2.0 if count == MANY and what != "as drawn" else None,
            )
            for what in kinds
            for count in (SOME_POLICIES, MANY)
        ]
    return rows


class _Comparison:
    """Several ways to answer questions, timed in turns."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self._entries: dict[str, tuple[Callable[[], Decide], Sequence[Question]]] = {}

    def add(self, name: str, make: Callable[[], Decide], questions: Sequence[Question]) -> None:
        """Time what C(make) returns, which is called anew in each round, by these questions."""
        self._entries[name] = (make, questions)

    def run(self) -> dict[str, float]:
        """The median of the seconds for each question, by name. The first round does not count: it warms."""
        times: dict[str, list[float]] = {name: [] for name in self._entries}
        for number in range(self._rounds + 1):
            for name, (make, questions) in self._entries.items():
                seconds = _each(make(), questions)
                if number:
                    times[name].append(seconds)
        return {name: statistics.median(seconds) for name, seconds in times.items()}


def _engine(policies: Sequence[Policy]) -> PolicyEngine:
    return PolicyEngine(PolicySet.of(policies))


def _agreement(engine: PolicyEngine, loop: Decide, questions: Sequence[Question]) -> str:
    """How many of the questions have an answer. Raises RuntimeError where the two do not give the same."""
    hits = 0
    for alert, container in questions:
        ours, theirs = engine.decide(alert, container), loop(alert, container)
        if ours is not theirs:
            raise RuntimeError(f"the engine says {ours}, the loop {theirs}, about {alert} and {container}")
        hits += ours is not None
    return f"{hits} of {len(questions):,} questions have an answer, and it is the same on both sides"


def _some(
    draw: random.Random,
    alerts: Sequence[Alert],
    containers: Sequence[Container],
    wanted: Callable[[Alert, Container], bool],
) -> list[Question]:
    found: list[Question] = []
    while len(found) < SOME:
        alert, container = draw.choice(alerts), draw.choice(containers)
        if wanted(alert, container):
            found.append((alert, container))
    return found


def _each(answer: Decide, questions: Sequence[Question]) -> float:
    """Seconds for each question."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for alert, container in questions:
            answer(alert, container)
        return (time.perf_counter() - started) / len(questions)
    finally:
        gc.enable()
