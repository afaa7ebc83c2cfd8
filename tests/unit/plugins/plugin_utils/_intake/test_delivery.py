# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import json
import pathlib
import random
import shutil
import string
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.delivery import (
    Deliveries,
    DeliverySettings,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import (
    Claim,
    ReceiptError,
    capability,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.schedule import Open
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Offer, Spool, trace
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import (
    DEADLINE,
    PLACES,
    Event,
    authorization,
    engine,
    lookup,
    offer,
    receipt,
    running_script,
)


def ended(spool: Spool) -> dict[str, int]:
    """The accounts that hold something."""
    return {name: number for name, number in spool.accounts.items() if number}


async def test_an_alert_is_delivered_and_answered(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with engine(tmp_path, {"web-1": "isolated"}) as running:
        (stored,) = await running.spool.store([offer("shell", raw="QUJD", container={"name": "shop"})])
        await running.settled()
        assert ended(running.spool) == {"received": 1, "answered": 1}
        (event,) = running.events
        (alert,) = event["alerts"]
        assert (alert["rule"], alert["trace_id"], alert["raw"]) == ("shell", stored.trace_id, "QUJD")
        assert event["meta"] == {"hosts": ["web-1"]}
        assert event["delivery"].pop("receipt_url") == "http://127.0.0.1:1/receipts"
        assert set(event["delivery"]) == {"id", "hosts", "pattern", "deadline", "capability"}
        deadline = datetime.datetime.fromisoformat(event["delivery"]["deadline"])
        assert deadline > datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=600)
        assert running.deliveries.health() == []
        known = await running.spool.trace(stored.trace_id)
        assert known is not None
        assert (known["state"], known["outcome"], list(known["hosts"])) == ("answered", "isolated", ["web-1"])
    (line,) = [line for line in caplog.messages if stored.trace_id in line]
    assert line.startswith(f"Alert {stored.trace_id} has ended: answered, isolated, host web-1, container shop, policy")
    assert line.endswith(" ms")
    assert trace(tmp_path, stored.trace_id) == known


async def test_a_storm_about_one_host_is_few_runs(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, answer_timeout=5.0) as running:
        storm = (
            running.spool.store([offer(f"rule {number % 2}", container={"id": f"{number % 100:064x}"})])
            for number in range(10_000)
        )
        await asyncio.gather(*storm)
        await running.settled()
        accounts = running.spool.accounts
        assert accounts["received"] == 10_000 == accounts["answered"] + accounts["folded"]
        assert len(running.events) <= 5


async def test_an_event_is_small_however_large_alerts_are(tmp_path: pathlib.Path) -> None:
    chance = random.Random(1)  # noqa: S311 - no secret
    async with engine(tmp_path, answer_timeout=5.0) as running:
        noise = ["".join(chance.choices(string.ascii_letters, k=1000)) for _number in range(200)]
        await running.spool.store([offer(f"rule {number}", message=text) for number, text in enumerate(noise)])
        await running.settled()
        assert running.delivered() == {f"rule {number}": 1 for number in range(200)}
        assert 2 <= len(running.events) <= 10
        assert ended(running.spool) == {"received": 200, "answered": 200}


@pytest.mark.parametrize(("answered", "asked"), [(["web-1"], [["web-2"]]), (["web-1", "web-2"], [])])
async def test_what_was_answered_before_it_was_sent_is_asked_no_more(
    tmp_path: pathlib.Path, answered: list[str], asked: list[list[str]]
) -> None:
    """A receipt of an earlier delivery may come late, and what it answers may still be told."""
    events: list[Event] = []

    async def put(event: Event) -> None:
        events.append(event)

    spool = await Spool.open(tmp_path)
    try:
        deliveries = Deliveries(spool, DeliverySettings(batch_window=0.0), put, receipt_url="http://127.0.0.1:1/")
        (stored,) = await spool.store([dataclasses.replace(lookup("a", "web-1", "web-2"), expanded=True)])
        spool.watch(deliveries._arrived)
        (delivery,) = deliveries._schedule.plan(deliveries._now())
        claim = Claim("earlier", ("web-1", "web-2"), False, "2999-01-01T00:00:00Z", (stored.trace_id,))
        said = {**vars(claim), "id": claim.delivery, "capability": capability(spool.key, claim)}
        earlier = {"delivery": said, "alerts": [{"trace_id": stored.trace_id}]}
        for host in answered:
            await deliveries.receipt(authorization(earlier), receipt(earlier, host, "awaiting_approval"))
        await deliveries._send(delivery)
        assert [event["meta"]["hosts"] for event in events] == asked
        assert len(deliveries._schedule.deliveries) == len(asked)
    finally:
        await spool.close()


async def test_one_sick_host_harms_itself_alone(tmp_path: pathlib.Path) -> None:
    behaviour = {"web-1": "hang", "web-2": "unreachable"}
    async with engine(tmp_path, behaviour, answer_deadline=60.0, answer_timeout=30.0) as running:
        await running.spool.store([offer("a", "web-1"), offer("a", "web-2"), offer("a", "web-3")])
        for number in range(20):
            await running.spool.store([offer(f"b {number}", "web-3")])
            await running.until(lambda: running.spool.accounts["waiting"] == 2)
        assert running.deliveries.figures()["sick_hosts"] == 1
        assert running.spool.accounts["answered"] == 21


async def test_only_the_host_that_is_missing_is_asked_again(tmp_path: pathlib.Path) -> None:
    behaviour = {"web-2": "hang"}
    async with engine(tmp_path, behaviour, inventory=("web-1", "web-2")) as running:
        await running.spool.store([offer("warm", "web-1")])  # so that receipts are known to come
        await running.settled()
        await running.spool.store([lookup("lost")])
        await running.until(lambda: running.delivered()["lost"] >= 3)
        behaviour["web-2"] = "isolated"
        await running.settled()
        assert [event["meta"]["hosts"] for event in running.events][:3] == [["web-1"], ["all"], ["web-2"]]
        assert {tuple(event["meta"]["hosts"]) for event in running.events[2:]} == {("web-2",)}
        assert ended(running.spool) == {"received": 2, "answered": 2}


async def test_what_is_not_answered_in_time_is_told(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    async with engine(tmp_path, {"web-1": "unreachable"}, answer_deadline=0.6) as running:
        (stored,) = await running.spool.store([offer("shell", severity="critical", container={"name": "shop"})])
        await running.settled()
        (told,) = running.unanswered
        assert told["attempts"] > 1
        del told["attempts"], told["received_at"]
        assert told == {
            "trace_id": stored.trace_id,
            "id": told["id"],
            "host": "web-1",
            "source": "s",
            "rule": "shell",
            "severity": "critical",
            "container": {"id": "", "name": "shop"},
            "why": "unreachable",
        }
        assert ended(running.spool) == {"received": 1, "unanswered": 1}
    assert [record.levelname for record in caplog.records if "is not answered" in record.message] == ["ERROR"]


async def test_unanswered_is_told_while_every_run_hangs(tmp_path: pathlib.Path) -> None:
    hosts = [f"web-{number}" for number in range(8)]
    behaviour = dict.fromkeys(hosts, "hang")
    async with engine(tmp_path, behaviour, answer_deadline=1.0, answer_timeout=100.0, max_deliveries=4) as running:
        await running.spool.store([offer("a", host) for host in hosts])
        await running.settled()
        assert sorted(told["host"] for told in running.unanswered) == hosts
        assert ended(running.spool) == {"received": 8, "unanswered": 8}


async def test_an_outcome_that_does_not_answer_is_told_at_once(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "ambiguous", "web-2": "unknown_host"}) as running:
        await running.spool.store([offer("a", "web-1"), offer("a", "web-2")])
        await running.settled()
        assert sorted((told["host"], told["why"], told["attempts"]) for told in running.unanswered) == [
            ("web-1", "ambiguous", 1),
            ("web-2", "unknown_host", 1),
        ]
        assert ended(running.spool) == {"received": 2, "unanswered": 2}


async def test_an_alert_that_two_hosts_do_not_answer_is_told_twice_and_ends_once(tmp_path: pathlib.Path) -> None:
    hosts = ("web-1", "web-2")
    async with engine(tmp_path, dict.fromkeys(hosts, "ambiguous"), inventory=hosts) as running:
        await running.spool.store([lookup("lost")])
        await running.settled()
        assert sorted(told["host"] for told in running.unanswered) == ["web-1", "web-2"]
        assert ended(running.spool) == {"received": 1, "unanswered": 1}


async def test_what_is_reported_after_a_release_is_answered_though_its_first_was_before(tmp_path: pathlib.Path) -> None:
    behaviour = {"web-1": "failed"}
    async with engine(tmp_path, behaviour) as running:
        (first,) = await running.spool.store([offer()])
        await running.until(lambda: running.delivered()["r"] >= 1)
        (repeat,) = await running.spool.store([offer()])  # after a person released the container
        assert repeat.folded_into == first.trace_id
        behaviour["web-1"] = "superseded"
        await running.until(lambda: running.events[-1]["alerts"][0]["trace_id"] != first.trace_id)
        behaviour["web-1"] = "isolated"
        await running.settled()
        assert running.spool.accounts["answered"] == 2
        assert running.unanswered == []


async def test_a_limit_is_told_at_once_and_a_critical_alert_is_tried_again(tmp_path: pathlib.Path) -> None:
    behaviour = {"web-1": "limit"}
    async with engine(tmp_path, behaviour) as running:
        await running.spool.store([offer("high"), offer("critical", severity="critical")])
        await running.until(lambda: running.delivered()["critical"] >= 3)
        assert sorted(told["rule"] for told in running.unanswered) == ["critical", "high"]
        assert running.delivered()["high"] == 1
        behaviour["web-1"] = "isolated"
        await running.settled()
        assert len(running.unanswered) == 2
        assert ended(running.spool) == {"received": 2, "answered": 1, "unanswered": 1}


async def test_what_was_not_told_before_kill_9_is_told_after_it(tmp_path: pathlib.Path) -> None:
    busy = asyncio.Event()
    events: list[Event] = []

    async def put(event: Event) -> None:
        events.append(event)
        if "unanswered" in event:
            await busy.wait()

    spool = await Spool.open(tmp_path / "spool")
    settings = DeliverySettings(batch_window=0, retry_pause=60)
    deliveries = Deliveries(spool, settings, put)
    task = asyncio.create_task(deliveries.run())
    try:
        (stored,) = await spool.store([offer(severity="critical")])
        while not events:
            await asyncio.sleep(0.01)
        await deliveries.receipt(authorization(events[0]), receipt(events[0], "web-1", "limit"))
        while len(events) < 2:
            await asyncio.sleep(0.01)
        await spool.remember("later", True)
        shutil.copytree(tmp_path / "spool", tmp_path / "killed")
        busy.set()
        while not ((known := await spool.trace(stored.trace_id)) and known["hosts"]["web-1"]["told"]):
            await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.wait([task])
        await spool.close()
    known = trace(tmp_path / "killed", stored.trace_id)
    assert known is not None
    assert known["hosts"]["web-1"] == {"attempts": 1, "why": "limit", "told": False}
    async with engine(tmp_path / "killed", {"web-1": "hang"}, answer_deadline=1.0, answer_timeout=60.0) as running:
        await running.settled()
        assert [told["trace_id"] for told in running.unanswered] == [stored.trace_id]


async def test_what_was_being_told_as_it_was_killed_is_told_again(tmp_path: pathlib.Path) -> None:
    behaviour = {"web-1": "ambiguous", "telling": "hang"}
    async with engine(tmp_path / "spool", behaviour) as running:
        (stored,) = await running.spool.store([offer()])
        await running.until(lambda: bool(running.seen & running.telling) and len(running.unanswered) == 1)
        await running.spool.remember("later", True)
        shutil.copytree(tmp_path / "spool", tmp_path / "killed")
        assert running.spool.accounts["waiting"] == 1
        behaviour["telling"] = ""
        await running.settled()
    for directory, again in (("spool", []), ("killed", [stored.trace_id])):
        async with engine(tmp_path / directory, behaviour) as running:
            await running.settled()
            assert [told["trace_id"] for told in running.unanswered] == again
            assert ended(running.spool) == {"received": 1, "unanswered": 1}


async def test_runs_that_tell_and_do_not_end_take_no_place_of_deliveries(tmp_path: pathlib.Path) -> None:
    behaviour = {"web-1": "ambiguous", "telling": "hang"}
    async with engine(tmp_path, behaviour) as running:

        async def ambiguous(rule: str) -> None:
            await running.spool.store([offer(rule)])
            await running.until(lambda: running.delivered()[rule] == 1 and running.telling <= running.seen)

        for number in range(PLACES + 1):
            await ambiguous(f"rule {number}")
        await running.spool.store([offer("another", "web-2")])
        await running.until(lambda: running.delivered()["another"] == 1)
        assert 0 < len(running.telling) <= 4
        behaviour["telling"] = ""
        await running.settled()
        assert len(running.unanswered) == PLACES + 1


async def test_what_nobody_sees_being_told_was_told_after_a_minute(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "ambiguous"}) as running:
        await running.spool.store([offer()])
        await running.settled()
        endings = running.deliveries._endings
        told: list[Event] = []

        async def put(event: Event) -> None:
            told.append(event)

        alert = Open(7, "t-7", 2, "shop", 0.0, answers={"web-1": {"outcome": "", "answers": False, "told": False}})
        endings.tell(alert, "web-1", "no_receipt", 1)
        await endings.tell_some(put, lambda: 100.0, seen=True)
        assert endings.tellings == [told[0]["id"]]
        assert not await endings.look([], 100.0)
        assert not await endings.look([], 159.0)
        assert await endings.look([], 160.0)
        assert (endings.tellings, alert.answers["web-1"]["told"]) == ([], True)


@pytest.mark.parametrize(("severity", "told"), [("critical", ["gone"]), ("high", [])])
async def test_that_the_container_of_a_critical_alert_is_gone_is_told(
    tmp_path: pathlib.Path, severity: str, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with engine(tmp_path, {"web-1": "gone"}) as running:
        await running.spool.store([offer(severity=severity)])
        await running.settled()
        assert [each["why"] for each in running.unanswered] == told
        assert ended(running.spool) == {"received": 1, "answered": 1}
    assert "is not answered" not in caplog.text


async def test_what_waits_for_approval_is_answered_and_told_at_once(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "awaiting_approval"}) as running:
        await running.spool.store([offer(severity="high")])
        await running.settled()
        assert [each["why"] for each in running.unanswered] == ["awaiting_approval"]
        assert ended(running.spool) == {"received": 1, "answered": 1}


async def test_what_comes_after_an_answer_that_is_still_being_told_is_another_question(tmp_path: pathlib.Path) -> None:
    """Somebody may have released the container that was held for approval."""
    behaviour = {"web-1": "awaiting_approval", "telling": "hang"}
    async with engine(tmp_path / "spool", behaviour) as running:
        await running.spool.store([offer()])
        await running.until(lambda: bool(running.seen & running.telling))
        await running.spool.remember("later", True)
        shutil.copytree(tmp_path / "spool", tmp_path / "killed")
        behaviour["web-1"] = "isolated"
        (stored,) = await running.spool.store([offer()])
        assert not stored.folded_into
        await running.until(lambda: running.delivered() == {"r": 2})
        behaviour["telling"] = ""
        await running.settled()
        assert ended(running.spool) == {"received": 2, "answered": 2}
    async with engine(tmp_path / "killed", behaviour) as running:
        (stored,) = await running.spool.store([offer()])
        assert not stored.folded_into
        await running.settled()


@pytest.mark.parametrize(("other", "told"), [("gone", 1), ("isolated", 0), ("other_host", 1)])
async def test_an_alert_of_an_unknown_host_is_gone_where_no_host_has_its_container(
    tmp_path: pathlib.Path, other: str, told: int
) -> None:
    hosts = ("web-1", "web-2", "web-3")
    behaviour = {"web-1": "gone", "web-2": other, "web-3": "gone"}
    async with engine(tmp_path, behaviour, inventory=hosts) as running:
        lost = lookup()
        critical = dataclasses.replace(lost.alert, severity=Severity.CRITICAL)
        await running.spool.store([dataclasses.replace(lost, alert=critical)])
        await running.settled()
        assert [each["why"] for each in running.unanswered] == ["gone"] * told


async def test_an_outcome_of_check_mode_is_no_answer_and_nobody_is_told(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "would_isolate"}) as running:
        await running.spool.store([offer()])
        await running.settled()
        assert running.unanswered == []
        assert ended(running.spool) == {"received": 1, "unanswered": 1}


async def test_a_host_that_leaves_an_alert_out_is_asked_again(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang"}, answer_timeout=60.0) as running:
        await running.spool.store([offer()])
        await running.until(lambda: len(running.events) == 1)
        event = running.events[0]
        await running.deliveries.receipt(authorization(event), receipt(event, "web-1", alerts=[]))
        await running.until(lambda: len(running.events) == 2)


async def test_of_several_containers_of_an_alert_the_worst_counts(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang"}, answer_timeout=60.0) as running:
        (stored,) = await running.spool.store([offer()])

        async def say(*outcomes: str) -> None:
            event = running.events[-1]
            answers = [{"trace_id": stored.trace_id, "outcome": outcome} for outcome in outcomes]
            await running.deliveries.receipt(authorization(event), receipt(event, "web-1", alerts=answers))

        await running.until(lambda: len(running.events) == 1)
        await say("isolated", "busy")
        await running.until(lambda: len(running.events) == 2)
        await say("isolated", "refused")
        await running.settled()
        assert [told["why"] for told in running.unanswered] == ["refused"]


async def test_a_receipt_counts_for_its_delivery_and_its_host_only(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang", "web-2": "hang"}, answer_timeout=60.0) as running:
        await running.spool.store([offer("a", "web-1")])
        await running.until(lambda: len(running.events) == 1)
        event = running.events[0]
        good = authorization(event)
        wrong_hosts = json.loads(receipt(event, "web-2"))
        wrong_hosts["hosts"] = ["web-2"]
        other = receipt(event, "web-2", run_hosts=["web-2"])
        later = json.loads(receipt(event, "web-1"))
        later["deadline"] = "2999-01-01T00:00:00.000000Z"
        for status, header, body in (
            (401, "", receipt(event, "web-1")),
            (401, "Bearer x", receipt(event, "web-1")),
            (403, "Receipt 00", receipt(event, "web-1")),
            (403, "Receipt \udcff", receipt(event, "web-1")),
            (403, good, json.dumps(wrong_hosts).encode()),
            (403, good, json.dumps(later).encode()),
            (403, good, receipt(event, "web-2")),
            (403, good, other),
            (400, good, b"{}"),
            (400, good, b"[" * 100_000),
            (400, good, receipt(event, "web-1", state="fine")),
            (400, good, receipt(event, "web-1", alerts=[{"trace_id": "t", "outcome": "fine"}])),
            (400, good, receipt(event, "web-1", alerts=[1])),
        ):
            with pytest.raises(ReceiptError) as caught:
                await running.deliveries.receipt(header, body)
            assert (caught.value.status, body[:40]) == (status, body[:40])
        assert running.spool.accounts["waiting"] == 1
        await running.deliveries.receipt(good, receipt(event, "web-1"))
        await running.deliveries.receipt(good, receipt(event, "web-1", "failed"))
        assert ended(running.spool) == {"received": 1, "answered": 1}


async def test_a_receipt_counts_for_the_alerts_of_its_delivery_only(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang", "web-2": "hang"}, answer_timeout=60.0) as running:
        await running.spool.store([offer("small", "web-1")])
        await running.until(lambda: len(running.events) == 1)
        event = running.events[0]
        (later,) = await running.spool.store([offer("critical", "web-1", severity="critical")])
        (other,) = await running.spool.store([offer("critical", "web-2", severity="critical")])
        answers = [{"trace_id": stored.trace_id, "outcome": "isolated"} for stored in (later, other)]
        body = receipt(event, "web-2", alerts=answers, run_hosts=["web-1", "web-2"])
        with pytest.raises(ReceiptError) as caught:
            await running.deliveries.receipt(authorization(event), body)
        assert caught.value.status == 403
        await running.deliveries.receipt(authorization(event), receipt(event, "web-1", alerts=answers))
        assert running.spool.accounts["waiting"] == 3


async def test_a_receipt_after_the_deadline_is_too_late(tmp_path: pathlib.Path) -> None:
    moment = [1_700_000_000.0]
    spool = await Spool.open(tmp_path, clock=lambda: moment[0])
    queue: asyncio.Queue[Event] = asyncio.Queue()
    deliveries = Deliveries(spool, DeliverySettings(answer_deadline=100), queue.put, wall=lambda: moment[0])
    task = asyncio.create_task(deliveries.run())
    await spool.store([offer()])
    event = await asyncio.wait_for(queue.get(), DEADLINE)
    moment[0] += 1000
    with pytest.raises(ReceiptError) as caught:
        await deliveries.receipt(authorization(event), receipt(event, "web-1"))
    assert caught.value.status == 410
    task.cancel()
    await asyncio.wait([task])
    await spool.close()


async def test_the_digest_of_a_host_is_passed_on(tmp_path: pathlib.Path) -> None:
    confirmed: list[tuple[str, str]] = []
    async with engine(tmp_path, {"web-1": "hang"}, confirmed=lambda *args: confirmed.append(args)) as running:
        await running.spool.store([offer()])
        await running.until(lambda: len(running.events) == 1)
        event = running.events[0]
        body = receipt(event, "web-1", policy_set_digest="sha256:abc")
        await running.deliveries.receipt(authorization(event), body)
    assert confirmed == [("web-1", "sha256:abc")]


async def test_after_a_deployment_nothing_is_folded_into_what_was_decided_before(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang"}, answer_timeout=60.0) as running:

        async def answered_by(digest: str, rule: str) -> str:
            (stored,) = await running.spool.store([offer(rule)])
            if not stored.folded_into:
                await running.until(lambda: running.delivered()[rule] > seen[rule])
                seen[rule] += 1
                event = running.events[-1]
                body = receipt(event, "web-1", policy_set_digest=digest)
                await running.deliveries.receipt(authorization(event), body)
            return stored.folded_into

        seen: collections.Counter[str] = collections.Counter()
        assert not await answered_by("sha256:old", "a")
        assert await answered_by("sha256:old", "a")
        assert not await answered_by("sha256:new", "b")
        assert not await answered_by("sha256:new", "a")


async def test_a_restart_delivers_what_was_not_answered_and_takes_receipts_of_before(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang", "web-2": "hang"}, answer_timeout=60.0) as running:
        await running.spool.store([offer("a", "web-1"), offer("b", "web-2")])
        await running.until(lambda: running.delivered().total() == 2)
        before = running.events[0]
    async with engine(tmp_path, {"web-1": "hang", "web-2": "hang"}, answer_timeout=60.0) as running:
        await running.until(lambda: running.delivered().total() == 2)
        await running.deliveries.receipt(authorization(before), receipt(before, "web-1"))
        assert ended(running.spool) == {"received": 2, "answered": 1, "waiting": 1}


async def test_attempts_and_answers_of_hosts_outlive_a_restart(tmp_path: pathlib.Path) -> None:
    hosts = ("web-1", "web-2")
    async with engine(tmp_path, {"web-2": "unreachable"}, inventory=hosts, retry_pause=60.0) as running:
        (stored,) = await running.spool.store([lookup("lost")])
        await running.until(lambda: running.deliveries.figures()["sick_hosts"] == 1)
    known = trace(tmp_path, stored.trace_id)
    assert known is not None
    assert (known["state"], known["hosts"]["web-1"]["outcome"]) == ("waiting", "no_policy")
    assert known["hosts"]["web-2"] == {
        "attempts": 1,
        "why": "unreachable",
        "told": False,
        "lookup": True,
        "pattern": False,
    }
    async with engine(tmp_path, {"web-2": "unreachable"}, answer_deadline=1.0, retry_pause=60.0) as running:
        await running.settled()
        (told,) = running.unanswered
        assert (told["host"], told["attempts"]) == ("web-2", 2)
        assert {tuple(event["meta"]["hosts"]) for event in running.events} == {("web-2",)}


RESPONDING = """
import asyncio, os, pathlib, sys

from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import engine, lookup, offer

async def main():
    hosts = ("web-1", "web-2", "web-3")
    behaviour = {"web-2": "hang", "web-3": "unreachable"}
    async with engine(pathlib.Path(sys.argv[1]), behaviour, inventory=hosts, answer_deadline=60.0) as running:
        for number in range(1_000_000):
            rule = f"{sys.argv[2]} {number // 3}"
            host = hosts[number % 9 % 3]
            for stored in await running.spool.store([offer(rule, host), lookup(rule)], {"rejected": 1}):
                os.write(1, f"{stored.folded_into or stored.trace_id}\\n".encode())
            await asyncio.sleep(0.001)

asyncio.run(main())
"""


async def test_over_kill_9_every_alert_is_answered_or_told(tmp_path: pathlib.Path) -> None:
    chance = random.Random(5)  # noqa: S311 - no secret
    stored: set[str] = set()
    for run in range(5):
        with running_script(RESPONDING, tmp_path, run) as child:
            assert child.stdout
            said = [child.stdout.readline().rstrip("\n") for _line in range(chance.randrange(30, 150))]
            child.kill()
            stored |= {line for line in (*said, *child.stdout.read().splitlines()) if len(line) == 36}
    assert len(stored) > 100
    hosts = ("web-1", "web-2", "web-3")
    async with engine(tmp_path, {"web-3": "unreachable"}, inventory=hosts, answer_deadline=4.0) as running:
        await running.settled()
        accounts = running.spool.accounts
        assert accounts["received"] == sum(number for name, number in accounts.items() if name != "received")
        ends = {trace_id: await running.spool.trace(trace_id) for trace_id in stored}
    told = {each["trace_id"] for each in running.unanswered}
    for trace_id, known in ends.items():
        assert known, "it was accepted"
        assert known["state"] in ("answered", "unanswered")
        if known["state"] == "answered":
            assert all(record["outcome"] == "no_policy" for record in known["hosts"].values())
        else:
            assert trace_id in told
            assert all(record["told"] for record in known["hosts"].values())
    assert {known["state"] for known in ends.values() if known} == {"answered", "unanswered"}


async def test_what_is_too_old_at_the_start_is_told(tmp_path: pathlib.Path) -> None:
    spool = await Spool.open(tmp_path, clock=lambda: 1_700_000_000.0)
    await spool.store([offer()])
    await spool.close()
    async with engine(tmp_path) as running:
        await running.settled()
        assert [told["why"] for told in running.unanswered] == ["not_delivered"]
        assert running.events == []


async def test_without_receipts_an_alert_has_ended_once_it_was_handed_over(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, receipts=False) as running:
        await running.spool.store([offer()])
        await running.settled()
        assert ended(running.spool) == {"received": 1, "handed_over": 1}
        assert "delivery" not in running.events[0]
        assert running.deliveries.health() == []


async def test_where_receipts_stay_out_nothing_is_sent_again_until_one_comes(tmp_path: pathlib.Path) -> None:
    behaviour: dict[str, str] = {f"web-{number}": "hang" for number in range(9)}
    async with engine(tmp_path, behaviour, answer_timeout=0.05, answer_deadline=60.0) as running:
        for outage in ("first", "second"):
            await running.spool.store([offer(outage, f"web-{number}") for number in range(5)])
            await running.settled()
            assert "nobody has acknowledged the last" in running.deliveries.health()[0]
            assert {told["why"] for told in running.unanswered} == {"no_receipt"}
            assert max(told["attempts"] for told in running.unanswered) <= 5
            running.behaviour["web-8"] = "unreachable"
            await running.spool.store([offer(f"after the {outage}", "web-8")])
            await running.until(lambda: running.deliveries.health() == [])
            # Its host said that it could not, so that it is sent again.
            running.behaviour["web-8"] = "no_policy"
            await running.settled()
        assert (running.spool.accounts["handed_over"], running.spool.accounts["answered"]) == (0, 2)


async def test_what_nobody_answered_is_told_at_once_and_then_together(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {f"web-{number}": "unresolved" for number in range(3)}, tell_interval=0.5) as running:
        await running.spool.store([offer("a", "web-0")])
        await running.until(lambda: len(running.unanswered) == 1)
        for number in (1, 2):
            await running.spool.store([offer("b", f"web-{number}")])
            await running.until(lambda expected=number: running.deliveries.figures()["receipts_total"] > expected)
        await running.settled()
        assert len(running.unanswered) == 3
        assert running.deliveries.figures()["unanswered_events_total"] == 2


async def test_a_drain_begins_nothing_and_waits_for_receipts(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang"}, answer_timeout=60.0) as running:
        await running.spool.store([offer("a")])
        await running.until(lambda: len(running.events) == 1)
        draining = asyncio.create_task(running.deliveries.drain(DEADLINE))
        await asyncio.sleep(0)
        await running.spool.store([offer("b", "web-2")])
        event = running.events[0]
        await running.deliveries.receipt(authorization(event), receipt(event, "web-1"))
        await asyncio.wait_for(draining, DEADLINE / 2)
        assert len(running.events) == 1
        assert ended(running.spool) == {"received": 2, "answered": 1, "waiting": 1}


async def test_a_drain_does_not_wait_for_ever(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang"}, answer_timeout=60.0) as running:
        await running.spool.store([offer("a")])
        await running.until(lambda: len(running.events) == 1)
        await asyncio.wait_for(running.deliveries.drain(0.05), DEADLINE)


async def test_a_failure_to_put_ends_the_run_and_keeps_the_alert(tmp_path: pathlib.Path) -> None:
    async def put(event: Event) -> None:
        raise RuntimeError("the engine is gone")

    spool = await Spool.open(tmp_path)
    await spool.store([offer()])
    with pytest.raises(RuntimeError, match="the engine is gone"):
        await asyncio.wait_for(Deliveries(spool, DeliverySettings(), put).run(), DEADLINE)
    assert spool.accounts["waiting"] == 1
    await spool.close()


async def test_an_engine_that_takes_nothing_is_told(tmp_path: pathlib.Path) -> None:
    moment = [0.0]
    queue: asyncio.Queue[Event] = asyncio.Queue(1)
    await queue.put({})
    spool = await Spool.open(tmp_path)
    settings = DeliverySettings(batch_window=0)
    deliveries = Deliveries(spool, settings, queue.put, now=lambda: moment[0])
    task = asyncio.create_task(deliveries.run())
    await spool.store([offer()])
    while not queue._putters:  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
    moment[0] = 61.0
    assert deliveries.health() == ["the rule engine has taken no event for 61 seconds"]
    task.cancel()
    await asyncio.wait([task])
    await spool.close()


async def test_events_share_nothing(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "hang"}) as running:
        await running.spool.store([offer("warm", "web-2")])
        await running.settled()
        await running.spool.store([offer("a")])
        await running.until(lambda: running.delivered()["a"] == 1)
        running.events[-1]["alerts"][0]["container"]["id"] = "x"
        running.events[-1]["meta"]["hosts"].append("x")
        await running.until(lambda: running.delivered()["a"] == 2)
        event: dict[str, t.Any] = running.events[-1]
        assert event["alerts"][0]["container"]["id"] == ""
        assert event["meta"]["hosts"] == event["delivery"]["hosts"] == ["web-1"]


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_hangs_healthy_hosts_are_answered_and_the_rest_is_told(
    tmp_path: pathlib.Path, seed: int
) -> None:
    """Hosts that answer and whose runs then go on for ever, hosts that never answer, and an engine with 25 places."""
    draw = random.Random(seed)  # noqa: S311 - which hosts hang is no secret
    hosts = [f"web-{number}" for number in range(40)]
    behaviour = {host: draw.choice(["lingers"] * 6 + ["silent", "no_policy"]) for host in hosts}
    behaviour |= {"web-0": "no_policy", "web-1": "silent"}
    severities = ["high", "critical"]
    settings = {"answer_deadline": 8.0, "wind_up": 0.05, "max_hosts": draw.choice([1, 5, 50])}
    async with engine(tmp_path, behaviour, **settings) as running:
        for number in range(8):
            for host in draw.sample(hosts, len(hosts)):
                severity = "high" if behaviour[host] == "no_policy" else draw.choice(severities)
                await running.spool.store([offer(f"r{number}", host, severity)])
            await asyncio.sleep(0.05)
        await running.settled()
        silent = {host for host in hosts if behaviour[host] == "silent"}
        assert {told["host"] for told in running.unanswered} == silent
        assert running.spool.accounts["unanswered"] == 8 * len(silent)
        assert running.most <= 21, "four places are left for what is to be told"
        assert running.ended


async def test_the_evidence_of_one_container_does_not_hold_up_another(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "lingers"}) as running:
        for number in range(3):
            await running.spool.store([offer(f"r{number}")])
            await running.settled()
        assert len(running.runs) == 3
        await running.spool.store([offer("r4"), offer("r4", "web-2")])
        await running.until(lambda: running.spool.accounts["waiting"] == 1)
        assert (len(running.runs), running.ended) == (3, []), "nothing is ended where there is room"
        next(iter(running.runs.values())).set()
        await running.settled()


async def test_where_runs_are_elsewhere_they_hold_no_place(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "lingers"}, sees_runs=False) as running:
        for number in range(10):
            await running.spool.store([offer(f"r{number}")])
            await running.settled()
        assert len(running.runs) == 10


# --- the limit over all hosts -----------------------------------------------------------------------------------------

FLEET: dict[str, t.Any] = {"fleet_limit": 2, "fleet_window": 3600}


def about(number: int, host: str = "web-1", severity: str = "high") -> Offer:
    return offer(f"rule {number}", host, severity, container={"id": f"{number:064x}"})


async def test_once_hosts_have_isolated_so_many_the_rest_is_held_back_and_told(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "isolated", "web-2": "awaiting_approval"}, **FLEET) as running:
        assert running.deliveries.figures()["fleet_limit_reached"] == 0
        await running.spool.store([about(1), about(2, "web-2")])
        await running.settled()
        events = len(running.events)
        assert running.deliveries.figures()["fleet_limit_reached"] == 1
        running.unanswered.clear()
        await running.spool.store([about(3), about(4, "web-3")])
        await running.settled()
        assert len(running.events) == events
        assert sorted((told["host"], told["why"]) for told in running.unanswered) == [
            ("web-1", "fleet_limit"),
            ("web-3", "fleet_limit"),
        ]
        await running.spool.store([about(5, severity="critical")])
        await running.settled()
        assert len(running.events) == events + 1
        assert ended(running.spool) == {"received": 5, "answered": 3, "unanswered": 2}


async def test_the_limit_is_remembered_over_a_restart_and_ends_with_its_window(tmp_path: pathlib.Path) -> None:
    async with engine(tmp_path, {"web-1": "isolated"}, **FLEET) as running:
        await running.spool.store([about(1), about(2)])
        await running.settled()
    async with engine(tmp_path, {"web-1": "isolated"}, **FLEET) as running:
        await running.spool.store([about(3)])
        await running.settled()
        assert running.events == []
    async with engine(tmp_path, {"web-1": "isolated"}, **{**FLEET, "fleet_window": 0}) as running:
        await running.spool.store([about(4)])
        await running.settled()
        assert len(running.events) == 1


@pytest.mark.parametrize("outcome", ["held", "no_policy", "muted", "failed", "released"])
async def test_what_isolates_nothing_takes_no_place_in_the_limit(tmp_path: pathlib.Path, outcome: str) -> None:
    async with engine(tmp_path, {"web-1": outcome}, answer_deadline=0.2, **FLEET) as running:
        for number in range(4):
            await running.spool.store([about(number)])
            await running.settled()
        assert "fleet_limit" not in {told["why"] for told in running.unanswered}
        assert len(running.events) >= 4


async def test_each_container_that_one_alert_isolated_takes_a_place_in_the_limit(tmp_path: pathlib.Path) -> None:
    """Also where the alert is not answered by that, as others of its containers are to be tried again."""
    async with engine(tmp_path, {"web-1": "hang"}, answer_timeout=30.0, **FLEET) as running:
        (stored,) = await running.spool.store([offer()])
        await running.until(lambda: len(running.events) == 1)
        answers = [
            {"trace_id": stored.trace_id, "outcome": outcome, "container": {"id": f"{number:064x}"}}
            for number, outcome in enumerate(("isolated", "isolated", "failed"))
        ]
        (event,) = running.events
        await running.deliveries.receipt(authorization(event), receipt(event, "web-1", alerts=answers))
        await running.until(lambda: bool(running.unanswered))
        assert [told["why"] for told in running.unanswered] == ["fleet_limit"]
