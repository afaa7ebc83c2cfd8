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
import types
import typing as t
from collections.abc import Callable

import docker

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import alert_response
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import (
    DISCONNECT,
    PAUSE,
    Stage,
    Watch,
    make_victims,
)

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
            *_many(world, pathlib.Path(directory) / "many", docker_host, count, 1 if quick else 3, say),
            _two_passes(world, pathlib.Path(directory) / "passes", docker_host, count, say),
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
) -> list[Row]:
    say(f"starting {count} containers")
    victims = make_victims(world, "many", count, restart_policy=RESTART_POLICY)
    directory.mkdir()
    state_dir = directory / "state"
    isolator = Isolator(world.engine, Journal(str(state_dir)))
    ids = [victim.id for victim in victims]
    options: dict[str, t.Any] = {"state_dir": str(state_dir), "docker_host": docker_host}
    ways: dict[str, dict[str, t.Any]] = {
        "10 at a time": {
            "ironpost.container_guard.isolation": {**options, "containers": ids, "max_concurrent_actions": 10}
        },
        "one at a time": {
            "ironpost.container_guard.isolation": {**options, "containers": ids, "max_concurrent_actions": 1}
        },
        "a module run for each": {
            "ironpost.container_guard.isolation": {**options, "container": "{{ item }}"},
            "loop": ids,
        },
    }

    def run(playbook: pathlib.Path) -> None:
        command = ["ansible-playbook", "--inventory", "localhost,", "--connection", "local", str(playbook)]
        command += ["--extra-vars", json.dumps({"ansible_python_interpreter": sys.executable})]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        frozen = sum(entry["State"] == "paused" for entry in world.engine.list_containers() if entry["Id"] in ids)
        if done.returncode or frozen < count:
            raise RuntimeError(f"{frozen} of {count} containers are paused:\n{done.stdout}\n{done.stderr}")

    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, task in ways.items():
            playbook = directory / "playbook.yml"
            play = {
                "hosts": "localhost",
                "gather_facts": False,
                "tasks": [task],
            }
            playbook.write_text(json.dumps([play]))
            times[way].append(_seconds(functools.partial(run, playbook)))
            for victim in victims:
                isolator.release(victim.id)
            say(f"{count} containers, {way}: {shown(times[way][-1])}")
    batch, one_by_one, each = (statistics.median(seconds) for seconds in times.values())
    note = f"pause, disconnect, restart policy, verify, and the start of ansible; medians of {rounds}"
    return [
        Row(
            f"{count} containers in one module run, against a module run for each", batch, each, at_most=0.5, note=note
        ),
        Row(
            f"{count} containers in one module run, 10 at a time against one at a time",
            batch,
            one_by_one,
            note="bounded by the engine, which takes most of a disconnect for itself: on 20.10 containers leave one "
            "network one after the other, as it leaks endpoints otherwise",
        ),
    ]


def _two_passes(world: Stage, directory: pathlib.Path, docker_host: str, count: int, say: Callable[[str], None]) -> Row:
    """All are paused long before the last one is off its network. Both moments are those of the engine's events."""
    say(f"starting {count} containers on two networks")
    victims = make_victims(world, "passes", count, most_networks=2)
    directory.mkdir()
    policy_set = directory / "policy_set.json"
    actions = [{"type": "pause"}, {"type": "network_disconnect"}]
    policy = {"id": "all", "target_filter": {"container_names": [f"{world.prefix}*"]}, "actions": actions}
    policy_set.write_text(PolicySet.of([Policy.from_dict(policy)]).to_json())
    alerts = [
        {"source": "benchmark", "rule": "shell", "severity": "critical", "container": {"id": victim.id}}
        for victim in victims
    ]
    params = {
        **{name: option.get("default") for name, option in alert_response.argument_spec().items()},
        "alerts": alerts,
        "docker_host": docker_host,
        "host": "localhost",
        "state_dir": str(directory / "state"),
        "policy_set": str(policy_set),
    }
    module: t.Any = types.SimpleNamespace(params=params, check_mode=False, _diff=False)
    with Watch(docker_host) as watch:
        started = time.monotonic()
        result = alert_response.respond(module)
        paused, cut_off = (
            watch.wait([(happening, victim.id) for victim in victims], 30) - started
            for happening in (PAUSE, DISCONNECT)
        )
    if result["summary"]["outcomes"] != {"isolated": count}:
        raise RuntimeError(f"not all are isolated: {result['summary']}, {result.get('msg')}")
    return Row(
        f"{count} containers on two networks in one module run, the last paused against the last cut off",
        paused,
        cut_off,
        at_most=0.25,
        note="from when the module begins in a process that is warm, a little before its first call of the engine",
    )


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
