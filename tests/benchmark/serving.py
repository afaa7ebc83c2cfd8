# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service against the calls to the engine that it cannot do without, on a host with many containers.

From accepted to paused is by the clock of the machine, which the engine and the service share: the engine says when it
paused a container, and the record of the service when it accepted the alert.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import itertools
import math
import os
import pathlib
import statistics
import tempfile
import threading
import time
import typing as t
from collections.abc import Callable, Iterator, Sequence

import docker

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import PREFIX
from ansible_collections.ironpost.container_guard.tests.benchmark import crowded
from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import TOKEN, request
from ansible_collections.ironpost.container_guard.tests.benchmark.load import NUMBER, Senders
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, shown
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import PAUSE, Stage, Victim, make_victims
from ansible_collections.ironpost.container_guard.tests.integration.service_process import (
    Json,
    ServiceProcess,
    falco,
    policy_set,
)

UNWANTED = 100
"""Alerts a second that no policy wants, which come meanwhile."""
CROWD = 300
"""Containers on the host."""
MOST_IDLE = 0.005
"""Share of a core that the service may take where nothing happens."""
MOST_MEMORY = 80_000_000
CONTAINERS, ALERTS = 1_000, 1_000_000
"""Of an engine that is made up, and how many alerts come then: nine of ten are wanted by no policy."""
_IDLE_FOR = 30.0
_PATIENCE = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


def serve(docker_host: str, quick: bool, say: Callable[[str], None]) -> list[Row]:
    """What the service takes from an accepted alert to a paused container, and to one that is cut off and verified."""
    rounds, batch, crowd = (5, 20, 20) if quick else (60, 100, CROWD)
    with (
        tempfile.TemporaryDirectory(prefix="container-guard-bench-") as directory,
        Stage(docker_host) as world,
        contextlib.closing(docker.APIClient(base_url=docker_host, version="auto")) as api,
    ):
        say(f"starting {crowd} containers")
        victims = make_victims(world, "served", crowd)
        contest = _Contest(world, api, pathlib.Path(directory), victims)
        pauses = contest.raw_pauses(rounds)
        say(f"a raw pause {shown(statistics.median(pauses))}")
        with contest.service(PAUSE) as service:
            idle = contest.idle(service, 5.0 if quick else _IDLE_FOR)
            with _unwanted(service, UNWANTED):
                one = contest.one_by_one(service, rounds)
            say(f"accepted to paused {shown(statistics.median(one))}, at most {shown(max(one))}")
            all_raw = contest.raw_pause_of_all(batch)
            together = contest.all_at_once(service, batch)
            mended = contest.breaches(service, rounds)
        memory = contest.crowded(10_000 if quick else ALERTS, say)
        calls = contest.raw_isolations(rounds)
        with contest.service(PAUSE, "network_disconnect") as service:
            cut = contest.cut_off(service, rounds)
    raw = statistics.median(pauses)
    percentile = _percentile(one, 0.99)
    return [
        Row(
            f"accepted to paused, {crowd} containers, {UNWANTED} other alerts a second",
            statistics.median(one),
            raw,
            at_most=2.0,
            note=f"medians of {len(one)}; the reference is a raw pause, {shown(min(pauses))} to {shown(max(pauses))}",
        ),
        Row("  the 99th percentile of it", percentile, raw, at_most=5.0),
        Row(
            "accepted to cut off and verified, against the raw calls to the engine",
            statistics.median(cut),
            statistics.median(calls),
            at_most=1.5,
            note=f"pause, disconnect, and what was read back; medians of {len(cut)}",
        ),
        Row(f"{batch} alerts for {batch} containers, to the last paused", together, all_raw, at_most=1.5),
        Row("breach to mended", statistics.median(mended), raw, at_most=10.0, note=f"median of {len(mended)}"),
        Row("of a core, where nothing happens", idle, MOST_IDLE, at_most=1.0, unit="s"),
        Row(
            f"resident set with {CONTAINERS:,} containers, after {10_000 if quick else ALERTS:,} alerts",
            float(memory),
            float(MOST_MEMORY),
            at_most=1.0,
            unit="B",
        ),
    ]


class _Contest:
    """The service on a stage, and the raw calls beside it."""

    def __init__(self, world: Stage, api: docker.APIClient, directory: pathlib.Path, victims: Sequence[Victim]) -> None:
        self._world = world
        self._api = api
        self._directory = directory
        self._victims = victims
        self._rules = itertools.count()
        self._places = itertools.count()

    @contextlib.contextmanager
    def service(self, *actions: str) -> Iterator[ServiceProcess]:
        """A service that does these, and knows all containers."""
        policies = policy_set(
            {
                "id": "benchmark",
                "severity_threshold": "critical",
                "target_filter": {"container_names": [f"{self._world.prefix}*"]},
                "actions": [{"type": action} for action in actions],
            }
        )
        place = self._directory / f"service-{next(self._places)}"
        with ServiceProcess(place, self._world.docker_host, policies) as service:
            service.until(lambda: "READY=1" in service.status, "it works")
            service.until(lambda: _metric(service, "containers_known") >= len(self._victims), "it knows all containers")
            yield service

    def raw_pauses(self, rounds: int) -> list[float]:
        """How long the engine takes to pause a container."""
        found = []
        for victim in itertools.islice(itertools.cycle(self._victims), rounds):
            found.append(_seconds(lambda: self._api.pause(victim.id)))  # noqa: B023 - it is called at once
            self._api.unpause(victim.id)
        return found

    def raw_isolations(self, rounds: int) -> list[float]:
        """How long pause, disconnect and reading back take."""
        found = []
        for victim in self._victims[:rounds]:
            (network,) = self._world.keys(victim.id).values()

            def calls(container: str = victim.id, network_id: str = network["NetworkID"]) -> None:
                self._api.pause(container)
                self._api.disconnect_container_from_network(container, network_id)
                self._api.inspect_container(container)
                self._api.inspect_network(network_id)

            found.append(_seconds(calls))
            self._api.connect_container_to_network(victim.id, network["NetworkID"])
            self._api.unpause(victim.id)
        return found

    def raw_pause_of_all(self, count: int) -> float:
        """How long as many raw pauses take, one after the other."""
        ids = [victim.id for victim in self._victims[:count]]

        def pause_all() -> None:
            for container in ids:
                self._api.pause(container)

        took = _seconds(pause_all)
        for container in ids:
            self._api.unpause(container)
        return took

    def one_by_one(self, service: ServiceProcess, rounds: int) -> list[float]:
        """Seconds from accepted to paused, one alert at a time."""
        return [self._answer(service, [victim])[0] for victim in self._victims[:rounds]]

    def all_at_once(self, service: ServiceProcess, count: int) -> float:
        """Seconds from the first accepted alert to the last container paused."""
        return self._answer(service, self._victims[:count])[0]

    def cut_off(self, service: ServiceProcess, rounds: int) -> list[float]:
        """Seconds from accepted to verified, one alert at a time."""
        found = []
        for victim in self._victims[:rounds]:
            _paused, records = self._answer(service, [victim])
            timeline = records[0]["timeline"]
            found.append(_moment(timeline["verified"]) - _moment(timeline["accepted"]))
        return found

    def breaches(self, service: ServiceProcess, rounds: int) -> list[float]:
        """Seconds from the end of an unpause to the next pause."""
        found = []
        for victim in self._victims[:rounds]:
            self._answer(service, [victim], release=False)
            since = time.time()
            self._api.unpause(victim.id)
            freed = time.time()
            known = len(service.records("isolated"))
            service.until(lambda: len(service.records("isolated")) > known, "it is held again")  # noqa: B023 - as above
            found.append(max(self._paused_at(victim.id, since) - freed, 0.0))
            self._release([victim], service)
        return found

    def crowded(self, alerts: int, say: Callable[[str], None]) -> int:
        """The resident set, in bytes, with an engine of many containers, and after many alerts."""
        env = {crowded.NUMBER: str(CONTAINERS), crowded.LIKE: self._victims[0].id}
        policies = policy_set({"id": "p", "severity_threshold": "critical", "actions": [{"type": "pause"}]})
        with (
            ServiceProcess(
                self._directory / "crowd",
                self._world.docker_host,
                policies,
                env,
                crowded.__name__,
                intake={"token": TOKEN, "history_max_bytes": 20_000_000},
            ) as service,
            Senders() as senders,
        ):
            service.until(lambda: _metric(service, "containers_known") == CONTAINERS, "it knows all containers")
            before = _memory(service)
            unwanted = [falco(NUMBER.decode(), rule=f"noise {number}", priority="Notice") for number in range(9)]
            # Of containers that are gone: what is isolated would be as many files.
            messages = [*unwanted, falco(f"{NUMBER.decode()}ffff", rule="shell")]
            requests = [request(messages * 10)]
            load = senders.begin(service.port, requests, 4, count=alerts // 100).result()
            service.until(lambda: service.elements()["waiting"] == 0, "nothing waits")
            say(f"{shown(before, 'B')} with all containers; {load.answered} requests of 100 alerts since")
            return max(before, _memory(service))

    def idle(self, service: ServiceProcess, seconds: float) -> float:
        """Share of a core that it takes where nothing happens."""
        before, began = _cpu(service), time.monotonic()
        time.sleep(seconds)
        return (_cpu(service) - before) / (time.monotonic() - began)

    def _answer(
        self, service: ServiceProcess, victims: Sequence[Victim], release: bool = True
    ) -> tuple[float, list[Json]]:
        rule, since = f"shell {next(self._rules)}", time.time()
        before = len(service.records("isolated"))
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda victim: service.post(falco(victim.id, rule=rule)), victims))
        service.until(lambda: len(service.records("isolated")) >= before + len(victims), "all are isolated")
        records = service.records("isolated")[before:]
        accepted = min(_moment(record["timeline"]["accepted"]) for record in records)
        paused = max(self._paused_at(victim.id, since) for victim in victims)
        if release:
            self._release(victims, service)
        return paused - accepted, records

    def _release(self, victims: Sequence[Victim], service: ServiceProcess) -> None:
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
        from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal

        isolator = Isolator(self._world.engine, Journal(str(service.directory / "state")))
        for victim in victims:
            released = isolator.release(victim.id)
            if not released.ok:
                raise RuntimeError(f"{victim.name} is {released.outcome}: {released.error}")

    def _paused_at(self, container: str, since: float) -> float:
        """When the engine said last that it paused a container, in seconds since the epoch."""
        filters = {"container": container, "event": PAUSE}
        events = self._api.events(since=int(since), until=int(time.time()) + 1, decode=True, filters=filters)
        with contextlib.closing(events):
            return float(max(event["timeNano"] for event in events) / 1e9)


@contextlib.contextmanager
def _unwanted(service: ServiceProcess, each_second: int) -> Iterator[None]:
    """Alerts that no policy wants, meanwhile."""
    stop = threading.Event()

    def send() -> None:
        numbers = itertools.count()
        began = time.monotonic()
        while not stop.is_set():
            number = next(numbers)
            service.post(falco(f"{number:064x}", rule=f"noise {number}", priority="Notice"))
            stop.wait(max(0.0, began + number / each_second - time.monotonic()))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_PATIENCE)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _moment(text: str) -> float:
    moment = parse_timestamp(text)
    return t.cast(datetime.datetime, moment).timestamp()


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _cpu(service: ServiceProcess) -> float:
    fields = pathlib.Path(f"/proc/{service.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / _TICKS


def _metric(service: ServiceProcess, name: str) -> float:
    _status, text = service.get("/metrics")
    (line,) = [line for line in text.splitlines() if line.startswith(f"{PREFIX}{name} ")]
    return float(line.split()[1])


def _memory(service: ServiceProcess) -> int:
    status = pathlib.Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
