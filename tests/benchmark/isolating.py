# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Isolating in a process that is warm: what recording and verifying cost on top of the calls to the engine."""

from __future__ import annotations

import functools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Callable

import docker

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import Stage, Victim, make_victims

ACTIONS = (Action("pause"), Action("network_disconnect"))
RESTART_POLICY = ("unless-stopped", 0)


def isolate(docker_host: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """Isolating one container against the calls to the engine that it needs; and 100 of them, at a time and in turn."""
    count = 20 if quick else 100
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-") as directory,
        Stage(docker_host) as world,
    ):
        return [
            _one(world, pathlib.Path(directory) / "one", docker_host, 10 if quick else 40),
            _many(world, pathlib.Path(directory) / "many", docker_host, count, 1 if quick else 3, say),
        ]


def _one(world: Stage, state_dir: pathlib.Path, docker_host: str, rounds: int) -> Row:
    (victim,) = make_victims(world, "warm", 1, restart_policy=RESTART_POLICY)
    (network,) = world.keys(victim.id).values()
    api = docker.APIClient(base_url=docker_host, version="auto")
    isolator = Isolator(world.engine, Journal(str(state_dir)))
    policy: t.Any = {"Name": "no", "MaximumRetryCount": 0}

    def guarded() -> None:
        outcome = isolator.isolate(victim.id, ACTIONS)
        if not outcome.ok:
            raise RuntimeError(f"{victim.name} is {outcome.outcome}: {outcome.error}")

    def raw() -> None:
        api.pause(victim.id)
        api.disconnect_container_from_network(victim.id, network["NetworkID"])
        api.update_container(victim.id, restart_policy=policy)
        api.inspect_container(victim.id)
        api.inspect_network(network["NetworkID"])

    def undo() -> None:
        world.engine.connect(network["NetworkID"], victim.id, EndpointSettings())
        world.engine.set_restart_policy(victim.id, *RESTART_POLICY)
        world.engine.unpause(victim.id)

    ours, calls = [], []
    try:
        for number in range(rounds + 1):
            first = _seconds(guarded)
            released = isolator.release(victim.id)
            if not released.ok:
                raise RuntimeError(f"{victim.name} is {released.outcome}: {released.error}")
            second = _seconds(raw)
            undo()
            if number:
                ours.append(first)
                calls.append(second)
    finally:
        api.close()
    return Row(
        "isolate in a warm process, against the raw calls to the engine",
        statistics.median(ours),
        statistics.median(calls),
        at_most=1.5,
        note=f"pause, disconnect, restart policy, verify; medians of {rounds}",
    )


def _many(
    world: Stage, directory: pathlib.Path, docker_host: str, count: int, rounds: int, say: Callable[[str], None]
) -> Row:
    say(f"starting {count} containers")
    victims = make_victims(world, "many", count, restart_policy=RESTART_POLICY)
    directory.mkdir()
    policy_set, state_dir = directory / "policy_set.json", directory / "state"
    policy = {
        "id": "benchmark",
        "target_filter": {"container_names": [f"{world.prefix}*"]},
        "actions": [action.to_dict() for action in ACTIONS],
    }
    policy_set.write_text(PolicySet.of([Policy.from_dict(policy)]).to_json())
    isolator = Isolator(world.engine, Journal(str(state_dir)))

    def run(concurrency: int) -> None:
        arguments = {
            "alerts": [_alert(victim) for victim in victims],
            "policy_set": str(policy_set),
            "state_dir": str(state_dir),
            "docker_host": docker_host,
            "max_concurrent_actions": concurrency,
        }
        command = ["ansible", "localhost", "--inventory", "localhost,", "--connection", "local"]
        command += ["--extra-vars", json.dumps({"ansible_python_interpreter": sys.executable})]
        command += ["--module-name", "ironpost.container_guard.alert_response", "--args", json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        frozen = sum(entry["State"] == "paused" for entry in world.engine.list_containers() if entry["Id"] in ids)
        if done.returncode or frozen < count:
            raise RuntimeError(f"{frozen} of {count} containers are paused:\n{done.stdout}\n{done.stderr}")

    ids = {victim.id for victim in victims}
    times: dict[int, list[float]] = {10: [], 1: []}
    for _ in range(rounds):
        for concurrency, seconds in times.items():
            seconds.append(_seconds(functools.partial(run, concurrency)))
            for victim in victims:
                isolator.release(victim.id)
            say(f"{count} containers, {concurrency} at a time: {shown(seconds[-1])}")
    return Row(
        f"{count} containers in one module run, 10 at a time against one by one",
        statistics.median(times[10]),
        statistics.median(times[1]),
        note=f"pause, disconnect, restart policy, verify, and the start of ansible; medians of {rounds}",
    )


def _alert(victim: Victim) -> dict[str, t.Any]:
    return {"source": "benchmark", "rule": "Benchmark", "severity": "critical", "container": {"id": victim.id}}


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
