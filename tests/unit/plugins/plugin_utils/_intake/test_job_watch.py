# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receipts out of the jobs of a controller: found, taken once, and asked for only where there is something to find."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import typing as t
from collections.abc import AsyncIterator, Mapping

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import job_watch
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.controller_api import ControllerError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.job_watch import JobWatch
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.packed import alerts_of
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import Engine, Event, engine, lookup, offer

ANY = "by anybody"


@dataclasses.dataclass
class Awx:
    """Stands in for a controller: its jobs, by id, and what it was asked.

    Attributes:
        jobs: as they are shown.
        hidden: ids of jobs that are not to be seen yet.
        asked: path and query of each request.
        error: that is raised instead of an answer.
    """

    jobs: dict[int, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    hidden: set[int] = dataclasses.field(default_factory=set)
    asked: list[tuple[str, dict[str, t.Any]]] = dataclasses.field(default_factory=list)
    error: ControllerError | None = None
    closed: bool = False

    def launch(self, event: t.Any, status: str = "running", artifacts: t.Any = None) -> int:
        number = len(self.jobs) + 1
        variables = json.dumps({"ansible_eda": {"event": event}})
        self.jobs[number] = {"id": number, "status": status, "extra_vars": variables, "artifacts": artifacts or {}}
        return number

    def end(self, number: int, status: str = "successful", **hosts: str) -> None:
        """End a job, with an outcome of each host, whose names have dashes."""
        event = json.loads(self.jobs[number]["extra_vars"])["ansible_eda"]["event"]
        handed = {name.replace("_", "-"): said(event, name.replace("_", "-"), what) for name, what in hosts.items()}
        self.jobs[number].update(status=status, artifacts={"guard_responses": handed} if handed else {})

    async def get(self, path: str, query: Mapping[str, str | int]) -> Mapping[str, t.Any]:
        self.asked.append((path, dict(query)))
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        if path != "jobs/":
            return self.jobs[int(path.split("/")[1])]
        found = [job for number, job in self.jobs.items() if number not in self.hidden]
        found = [job for job in found if job["id"] > int(query.get("id__gt", 0))]
        for key, name in (("id", "id__in"), ("status", "status__in")):
            if name in query:
                found = [job for job in found if str(job[key]) in str(query[name]).split(",")]
        found.sort(key=lambda job: job["id"], reverse=query.get("order_by") == "-id")
        size, page = int(query["page_size"]), int(query.get("page", 1))
        assert page == 1 or found[(page - 1) * size :], "AWX has no such page"
        shown = [{**job, "artifacts": ...} for job in found[(page - 1) * size : page * size]]
        return {"next": "more" if len(found) > page * size else None, "results": shown}

    async def close(self) -> None:
        self.closed = True


def said(event: Event, host: str, outcome: str) -> dict[str, t.Any]:
    """What the playbook hands on of a host: C(failed) is no outcome."""
    answers = [{"trace_id": alert["trace_id"], "outcome": outcome} for alert in alerts_of(event) or ()]
    state = "failed" if outcome == "failed" else "answered"
    shown = {"host": host, "state": state, "message": "", "alerts": [] if state == "failed" else answers}
    if event["delivery"]["pattern"]:
        shown["run_hosts"] = ["web-1", "web-2", "web-3"]
    return {"containers": [], "receipts": [shown]}


@dataclasses.dataclass
class Watched:
    """Deliveries whose runs are jobs of a controller."""

    awx: Awx
    running: Engine
    watch: JobWatch

    async def launched(self, number: int) -> list[Event]:
        """The events of the first jobs, each of which is launched as it comes."""
        await self.running.until(lambda: len(self.running.events) >= number)
        for event in self.running.events[len(self.awx.jobs) :]:
            self.awx.launch(event)
        return self.running.events

    async def looked(self, number: int = 2) -> None:
        """Until it has asked so often once more."""
        before = len(self.awx.asked)
        await self.running.until(lambda: len(self.awx.asked) >= before + number)

    @property
    def accounts(self) -> dict[str, int]:
        return {name: number for name, number in self.running.spool.accounts.items() if number}


@contextlib.asynccontextmanager
async def watched(directory: pathlib.Path, *inventory: str, **settings: t.Any) -> AsyncIterator[Watched]:
    """The fake engine sends no receipts: all of them are in artifacts."""
    awx, behaviour = Awx(), dict.fromkeys(["web-1", "web-2", "web-3", "all"], "hang")
    settings = {"answer_timeout": 30.0, "sees_runs": False, **settings}
    async with engine(directory, behaviour, inventory=inventory or ("web-1",), **settings) as running:
        watch = JobWatch(awx, running.deliveries, running.spool.key, interval=0.01)
        task = asyncio.create_task(watch.run())
        try:
            yield Watched(awx, running, watch)
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert awx.closed


async def test_an_alert_is_answered_by_artifacts(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path) as here:
        await here.running.spool.store([offer("shell")])
        await here.launched(1)
        await here.looked()
        assert here.accounts == {"received": 1, "waiting": 1}
        here.awx.end(1, web_1="isolated")
        await here.running.settled()
        assert here.accounts == {"received": 1, "answered": 1}
        assert here.watch.troubles() == []
        (event,) = here.running.events
        known = await here.running.spool.trace(event["alerts"][0]["trace_id"])
        assert known is not None
        assert known["outcome"] == "isolated"


async def test_nothing_is_asked_where_nothing_is_under_way(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path) as here:
        await asyncio.sleep(0.1)
        assert here.awx.asked == []
        await here.running.spool.store([offer("shell")])
        await here.launched(1)
        here.awx.end(1, web_1="no_policy")
        await here.running.settled()
        asked = len(here.awx.asked)
        await asyncio.sleep(0.1)
        assert len(here.awx.asked) == asked


async def test_a_job_is_found_among_thousands_that_others_ran_meanwhile(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path) as here:
        await here.running.spool.store([offer("shell")])
        await here.launched(1)
        here.awx.end(1, web_1="no_policy")
        await here.running.settled()
        # A look without anything under way, after which it looks no more.
        await asyncio.sleep(0.05)
        for number in range(2, 3_002):
            here.awx.jobs[number] = {"id": number, "status": "successful", "extra_vars": "{}", "artifacts": {}}
        await here.running.spool.store([offer("another")])
        await here.running.until(lambda: len(here.running.events) == 2)
        number = here.awx.launch(here.running.events[1])
        asked = len(here.awx.asked)
        here.awx.end(number, web_1="no_policy")
        await here.running.settled()
        assert len(here.awx.asked) - asked < 10


async def test_a_job_is_looked_for_until_it_is_found_and_then_for_its_end(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path) as here:
        await here.running.spool.store([offer("shell")])
        await here.launched(1)
        await here.looked(3)
        await here.looked(3)
        queries = [query for _path, query in here.awx.asked[-3:]]
        assert queries == [{"page_size": 50, "id__in": "1", "status__in": "successful,failed,error,canceled"}] * 3
        here.awx.end(1, web_1="no_policy")
        await here.running.settled()
        assert [path for path, _query in here.awx.asked].count("jobs/1/") == 1


@pytest.mark.parametrize("status", ["failed", "error", "canceled", "successful"])
async def test_a_host_that_has_no_part_in_a_job_is_asked_again_at_once(tmp_path: pathlib.Path, status: str) -> None:
    async with watched(tmp_path, "web-1", "web-2") as here:
        await here.running.spool.store([offer("a", "web-1"), offer("a", "web-2")])
        await here.launched(1)
        here.awx.end(1, status, web_1="isolated")
        _first, second = await here.launched(2)
        assert second["meta"]["hosts"] == ["web-2"]
        assert here.running.deliveries.figures()["sick_hosts"] == 1
        assert here.running.deliveries.figures()["delivery_timeouts_total"] == 0
        here.awx.end(2, web_2="isolated")
        await here.running.settled()
        assert here.accounts == {"received": 2, "answered": 2}


async def test_jobs_that_fail_are_known_to_and_others_may_have_answered(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path, retry_pause=0.001) as here:
        await here.running.spool.store([offer("shell")])
        for number in range(1, 7):  # more than silence takes
            await here.launched(number)
            here.awx.end(number, "failed")
        await here.launched(7)
        assert here.running.deliveries.health() == []
        for number in range(7, 12):
            await here.launched(number)
            here.awx.end(number, "successful")
        await here.running.until(lambda: bool(here.running.deliveries.health()))
        await here.running.settled()
        assert here.accounts == {"received": 1, "unanswered": 1}
        assert here.running.unanswered[0]["why"] == "job 11 ended successful, and nothing of this host"


async def test_why_a_host_failed_is_told(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path, answer_deadline=0.5, retry_pause=30.0) as here:
        await here.running.spool.store([offer("shell")])
        await here.launched(1)
        here.awx.end(1, "failed")
        handed = {"containers": [], "error": {"kind": "error", "message": "timed out"}}
        here.awx.jobs[1]["artifacts"] = {"guard_responses": {"web-1": handed}}
        await here.running.until(lambda: bool(here.running.unanswered))
        assert here.running.unanswered[0]["why"] == "failed: timed out"


async def test_the_hosts_of_a_pattern(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path, "web-1", "web-2", "web-3") as here:
        await here.running.spool.store([lookup("a")])
        await here.launched(1)
        here.awx.end(1, "failed", web_1="gone", web_2="isolated")
        _first, second = await here.launched(2)
        assert (second["meta"]["hosts"], second["delivery"]["pattern"]) == (["web-3"], False)
        here.awx.end(2, web_3="gone")
        await here.running.settled()
        assert here.accounts == {"received": 1, "answered": 1}


async def test_a_pattern_of_which_nobody_says_a_word_is_asked_again(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path, "web-1") as here:
        await here.running.spool.store([lookup("a")])
        await here.launched(1)
        here.awx.end(1, "error")
        _first, second = await here.launched(2)
        assert (second["meta"]["hosts"], second["delivery"]["pattern"]) == (["all"], True)


async def test_what_others_launch_counts_for_nothing(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(tmp_path) as here:
        await here.running.spool.store([offer("shell")])
        (event,) = await here.launched(1)
        lies = {"guard_responses": {"web-1": said(event, "web-1", "no_policy")}}
        forged = {**event, "delivery": {**event["delivery"], "capability": "ab" * 32}}
        here.awx.launch(forged, "successful", lies)
        here.awx.launch({"unanswered": []}, "successful", lies)
        here.awx.jobs[4] = {"id": 4, "status": "successful", "extra_vars": "{", "artifacts": lies}
        await here.looked(6)
        assert here.accounts == {"received": 1, "waiting": 1}
        assert {path for path, _query in here.awx.asked} == {"jobs/"}
        # Who has the event may answer it, but for its hosts only.
        here.awx.jobs[1]["artifacts"] = {"guard_responses": {"web-9": said(event, "web-9", "isolated")}}
        here.awx.jobs[1]["status"] = "failed"
        await here.running.until(lambda: len(here.running.events) == 2)
        assert here.accounts == {"received": 1, "waiting": 1}


async def test_a_job_that_is_to_be_seen_later_than_newer_ones(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path) as here:
        here.awx.hidden.add(3)
        for _number in range(2):
            here.awx.launch({}, "successful")
        await here.running.spool.store([offer("shell")])
        await here.launched(1)  # is there already
        (event,) = here.running.events
        assert here.awx.launch(event) == 3
        here.awx.launch({}, "successful")
        await here.looked(4)
        here.awx.hidden.clear()
        here.awx.end(3, web_1="isolated")
        await here.running.settled()


async def test_a_job_among_very_many(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path) as here:
        for _number in range(300):
            here.awx.launch({}, "successful")
        await here.running.spool.store([offer("shell")])
        await here.looked(2)
        for _number in range(120):
            here.awx.launch({}, "successful")
        (event,) = here.running.events
        number = here.awx.launch(event)
        here.awx.end(number, web_1="isolated")
        await here.running.settled()
        assert here.accounts == {"received": 1, "answered": 1}


async def test_a_slice_is_not_the_whole(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path, "web-1", "web-2") as here:
        await here.running.spool.store([offer("a", "web-1"), offer("a", "web-2")])
        (event,) = await here.launched(1)
        here.awx.launch(event)
        await here.looked(4)
        here.awx.end(1, web_1="isolated")
        await here.running.until(lambda: here.running.spool.accounts["waiting"] == 1)
        here.awx.end(2, web_2="isolated")
        await here.running.settled()
        assert len(here.running.events) == 1


async def test_a_job_that_ends_late_counts(tmp_path: pathlib.Path) -> None:
    async with watched(tmp_path, answer_timeout=0.2, retry_pause=30.0, answer_deadline=60.0) as here:
        await here.running.spool.store([offer("shell")])
        await here.launched(1)
        await here.running.until(lambda: here.running.deliveries.figures()["delivery_timeouts_total"] == 1)
        here.awx.end(1, web_1="isolated")
        await here.running.settled()
        assert here.accounts == {"received": 1, "answered": 1}


async def test_a_controller_that_cannot_be_asked(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watched(tmp_path) as here:
        here.awx.error = ControllerError("the controller answered 401", remedy="Give it another", details={"why": ANY})
        await here.running.spool.store([offer("shell")])
        await here.launched(1)
        await here.running.until(lambda: bool(here.watch.troubles()))
        assert here.watch.troubles() == ["receipts cannot be read: the controller answered 401. Give it another"]
        await here.looked(2)
        logged = [record for record in caplog.records if record.name == job_watch.__name__]
        assert [record.getMessage() for record in logged] == [f"{here.watch.troubles()[0]} ({ANY})"]
        here.awx.error = None
        here.awx.end(1, web_1="isolated")
        await here.running.settled()
        await here.running.until(lambda: here.watch.troubles() == [])


async def test_a_controller_that_lists_nonsense(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(tmp_path) as here:

        async def get(_path: str, _query: Mapping[str, str | int]) -> Mapping[str, t.Any]:
            return {"results": {"id": 1}}

        monkeypatch.setattr(here.awx, "get", get)
        await here.running.spool.store([offer("shell")])
        await here.running.until(lambda: bool(here.watch.troubles()))
        assert here.watch.troubles() == ["receipts cannot be read: what answers lists no jobs"]


async def test_jobs_that_nobody_shows_are_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_watch, "_LOST", 0.1)
    async with watched(tmp_path) as here:
        await here.running.spool.store([offer("shell")])
        await here.running.until(lambda: bool(here.watch.troubles()))
        assert "shows no job of a delivery" in here.watch.troubles()[0]
        await here.launched(1)
        await here.running.until(lambda: here.watch.troubles() == [])
