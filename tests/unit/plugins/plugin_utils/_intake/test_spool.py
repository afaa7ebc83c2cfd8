# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import pathlib
import random
import shutil
import signal
import sqlite3
import time
import typing as t
from collections.abc import AsyncIterator

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import database
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import spool as spool_module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import (
    Accepted,
    Ended,
    Offer,
    Spool,
    SpoolError,
    SpoolLimits,
    trace,
)
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import (
    DEADLINE,
    alert,
    lookup,
    offer,
    running_script,
)


@contextlib.asynccontextmanager
async def opened(directory: pathlib.Path, **limits: t.Any) -> AsyncIterator[Spool]:
    spool = await Spool.open(directory, SpoolLimits(**limits))
    try:
        yield spool
    finally:
        await spool.close()


def waiting(spool: Spool) -> list[Accepted]:
    """What waits, as deliveries are told."""
    found: list[Accepted] = []
    spool.watch(found.extend)
    return found


async def end(spool: Spool, accepted: Accepted, outcome: str = "no_policy", account: str = "answered") -> None:
    size = accepted.body_bytes + accepted.raw_bytes
    await spool.settle(
        [Ended(accepted.seq, accepted.trace_id, time.time(), account, outcome, {"web-1": {"outcome": outcome}}, size)]
    )


def adds_up(accounts: dict[str, int]) -> bool:
    return accounts["received"] == sum(number for name, number in accounts.items() if name != "received")


async def test_what_was_stored_is_there_after_a_restart(tmp_path: pathlib.Path) -> None:
    stored = offer("shell", raw="QUJD", container={"id": "6bc1b4be90d6"}, severity="critical")
    async with opened(tmp_path) as spool:
        (result,) = await spool.store([stored], {"rejected": 2, "passed_over": 3, "received": 6})
        assert (result.trace_id, result.folded_into) == (stored.alert.trace_id, "")
    async with opened(tmp_path) as spool:
        (found,) = waiting(spool)
        assert (found.trace_id, found.severity, found.container) == (stored.alert.trace_id, 4, "6bc1b4be90d6")
        assert found.hosts == {"web-1": None}
        assert await spool.contents([found.seq], [found.seq]) == {found.seq: stored.alert.to_dict()}
        assert await spool.contents([found.seq], []) == {found.seq: {**stored.alert.to_dict(), "raw": ""}}
        assert spool.accounts == {
            **dict.fromkeys(spool.accounts, 0),
            "received": 6,
            "rejected": 2,
            "passed_over": 3,
            "waiting": 1,
        }


async def test_files_are_for_their_owner_alone(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "deep" / "spool"
    async with opened(directory) as spool:
        await spool.store([offer()])
        assert directory.stat().st_mode & 0o777 == 0o700
        files = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
        assert files == dict.fromkeys(["key", "lock", "spool.db", "spool.db-wal", "spool.db-shm"], 0o600)
    directory.chmod(0o755)
    async with opened(directory):
        assert directory.stat().st_mode & 0o777 == 0o700


async def test_two_rulebooks_never_share_a_spool(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(SpoolError, match="another process has the spool") as caught:
            await Spool.open(tmp_path)
        assert caught.value.kind == "spool_in_use"
    async with opened(tmp_path):
        pass


async def test_a_secret_is_made_once(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        first = spool.key
        assert len(first) >= 32
    async with opened(tmp_path) as spool:
        assert spool.key == first


async def test_what_is_stored_is_synced(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        found = spool._writer._database
        assert found is not None
        assert (found._value("PRAGMA journal_mode"), found._value("PRAGMA synchronous")) == ("wal", 2)


async def test_requests_that_come_together_are_one_transaction(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        commits = 0
        in_use = spool._writer._database
        assert in_use is not None
        transaction = in_use.transaction

        def counted() -> t.Any:
            nonlocal commits
            commits += 1
            return transaction()

        in_use.transaction = counted  # type: ignore[method-assign]
        await asyncio.gather(*(spool.store([offer(str(number))]) for number in range(1000)))
        assert commits == 1
        assert len(waiting(spool)) == 1000


async def test_what_was_asked_for_just_before_the_end_is_written(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        storing = asyncio.create_task(spool.store([offer()]))
        await asyncio.sleep(0)
    assert len(await storing) == 1
    async with opened(tmp_path) as spool:
        assert len(waiting(spool)) == 1


async def test_repeats_fold(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        first, second = await spool.store([offer("a"), offer("a")])
        assert (first.folded_into, second.folded_into) == ("", first.trace_id)
        (third,) = await spool.store([offer("a")])
        assert third.folded_into == first.trace_id
        (accepted,) = waiting(spool)
        await end(spool, accepted, "no_policy")
        (fourth,) = await spool.store([offer("a")])
        assert fourth.folded_into == first.trace_id
        assert spool.accounts["folded"] == 3
    async with opened(tmp_path) as spool:
        (fifth,) = await spool.store([offer("a")])
        assert fifth.folded_into == first.trace_id
        spool.forget_decided()
        (sixth,) = await spool.store([offer("a")])
        assert sixth.folded_into == ""
        known = await spool.trace(first.trace_id)
        assert known is not None
        assert known["folded"] == 2
        assert adds_up(spool.accounts)


SAID_BY_TIME = ["superseded", "expired", "stale", "unresolved", "own_effect"]


async def repeated(spool: Spool, found: list[Accepted]) -> list[Offer]:
    """One alert that waits, and two repeats of it that were folded into it."""
    times = [f"2026-04-05T12:00:0{number}.000000Z" for number in range(3)]
    offers = [offer("a", message=moment, time=moment, received_at=moment, raw="QUJD") for moment in times]
    for each in offers:
        await spool.store([each])
    assert [each.trace_id for each in found] == [offers[0].alert.trace_id]
    return offers


async def test_who_watches_ends_is_told_of_them_and_of_what_waits_in_their_place(tmp_path: pathlib.Path) -> None:
    ends: list[tuple[list[str], dict[str, str]]] = []
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        await repeated(spool, found)
        (first,) = found
        assert spool.waiting() == [first.trace_id]
        spool.watch_ends(lambda ended, again: ends.append((list(ended), dict(again))))
        await end(spool, first, "superseded")
        (_first, again) = found
        assert ends == [([first.trace_id], {first.trace_id: again.trace_id})]
        assert [spool.waits(one.trace_id) for one in found] == [False, True]
        await end(spool, again)
        assert ends[1:] == [([again.trace_id], {})]
        assert spool.waiting() == []


@pytest.mark.parametrize("outcome", SAID_BY_TIME)
async def test_a_repeat_comes_again_where_the_first_was_too_early(
    tmp_path: pathlib.Path, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        offers = await repeated(spool, found)
        await end(spool, found[0], outcome)
        first, again = found
        assert again.received > first.received
        assert again.hosts == {"web-1": None}
        contents = (await spool.contents([again.seq], [again.seq]))[again.seq]
        last = offers[-1].alert
        assert contents == {
            **offers[0].alert.to_dict(),
            "trace_id": again.trace_id,
            "time": last.time,
            "received_at": last.received_at,
        }
        assert again.trace_id not in {each.alert.trace_id for each in offers}
        assert spool.figures()["waiting_alerts"] == 1
        hosts = spool_module._HOST_COST * len('{"web-1": null}')
        assert spool.figures()["waiting_bytes"] == again.body_bytes + again.raw_bytes + hosts
        assert spool.accounts["waiting"] == 1
        assert adds_up(spool.accounts)
        (third,) = await spool.store([offer("a")])
        assert third.folded_into == again.trace_id
        assert f"Alert {first.trace_id} was repeated" in caplog.text
        await end(spool, again)
        assert len(found) == 2, "and so it goes on only as long as it is repeated and too early"


async def test_a_repeat_comes_again_also_after_kill_9(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path / "spool") as spool:
        await repeated(spool, waiting(spool))
        shutil.copytree(tmp_path / "spool", tmp_path / "killed")
    async with opened(tmp_path / "killed") as spool:
        found = waiting(spool)
        await end(spool, found[0], "superseded")
        assert len(found) == 2
    async with opened(tmp_path / "killed") as spool:
        (again,) = waiting(spool)
        assert again == found[1]
        (folded,) = await spool.store([offer("a")])
        assert folded.folded_into == again.trace_id


@pytest.mark.parametrize("outcome", ["isolated", "no_policy", "ambiguous", ""])
async def test_no_repeat_comes_again_where_its_time_changes_nothing(tmp_path: pathlib.Path, outcome: str) -> None:
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        await repeated(spool, found)
        await end(spool, found[0], outcome)
        await spool.remember("later", True)
        assert len(found) == 1
        with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
            assert connection.execute("SELECT count(*) FROM repeats").fetchone() == (0,)


async def test_what_was_never_repeated_does_not_come_again(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        await spool.store([offer("a")])
        await end(spool, found[0], "superseded")
        (later,) = await spool.store([offer("a")])
        assert (later.folded_into, len(found)) == ("", 2)


async def test_a_repeat_does_not_come_again_beside_a_later_one(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        await repeated(spool, found)
        ending = asyncio.ensure_future(end(spool, found[0], "superseded"))
        await asyncio.sleep(0)
        await asyncio.gather(ending, spool.store([offer("a")]))
        await spool.remember("later", True)
        assert len(found) == 2
        assert adds_up(spool.accounts)


async def test_what_could_not_be_stored_was_not_folded_either(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        await spool.store([offer("a")])
        (tmp_path / "spool.db").rename(tmp_path / "taken away")
        refused = await asyncio.gather(*(spool.store([offer("a")]) for _number in range(3)), return_exceptions=True)
        assert {type(each) for each in refused} == {SpoolError}
        (tmp_path / "taken away").rename(tmp_path / "spool.db")
        await spool.store([offer("a")])
        await end(spool, found[0])
        known = await spool.trace(found[0].trace_id)
        assert known is not None
        assert known["folded"] == 1


async def test_a_repeat_comes_again_once_the_disk_can_be_written(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        await repeated(spool, found)
        (tmp_path / "spool.db").rename(tmp_path / "taken away")
        await end(spool, found[0], "superseded")
        assert len(found) == 1
        (tmp_path / "taken away").rename(tmp_path / "spool.db")
        await spool.remember("later", True)
        assert len(found) == 2
        assert (spool.accounts["waiting"], spool.figures()["waiting_alerts"]) == (1, 1)


@pytest.mark.parametrize("restart", [False, True])
async def test_an_isolation_answers_what_happened_before_it_and_nothing_later(
    tmp_path: pathlib.Path, restart: bool
) -> None:
    """A person may have released the container since, which nobody here sees."""

    async def folds(spool: Spool, **fields: str) -> bool:
        (stored,) = await spool.store([offer("a", **fields)])
        return bool(stored.folded_into)

    for moment, folded in (("02.0", True), ("02.8", True), ("02.9", False), ("", False)):
        directory = tmp_path / f"{moment}-{restart}"
        async with opened(directory, fold_isolated=600.0) as spool:
            found = waiting(spool)
            await spool.store([offer("a", time="2026-04-05T12:00:02.000000Z")])
            hosts = {"web-1": {"outcome": "isolated", "milliseconds": 800}, "web-2": {"outcome": "no_container"}}
            await spool.settle(
                [
                    Ended(
                        found[0].seq, found[0].trace_id, time.time(), "answered", "isolated", hosts, found[0].body_bytes
                    )
                ]
            )
            fields = {"time": f"2026-04-05T12:00:{moment}00000Z"} if moment else {}
            if not restart:
                assert await folds(spool, **fields) == folded
        if restart:
            async with opened(directory, fold_isolated=600.0) as spool:
                found = waiting(spool)
                assert await folds(spool, **fields) == folded


async def test_when_it_was_isolated_is_not_taken_from_an_alert_of_the_same_trace(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path, fold_isolated=600.0) as spool:
        found = waiting(spool)
        for rule, second, outcome in (("a", 2, "isolated"), ("b", 8, "no_policy")):
            await spool.store([offer(rule, trace_id="t-1", time=f"2026-04-05T12:00:{second:02}.000000Z")])
            hosts = {"web-1": {"outcome": outcome, "milliseconds": 800}}
            await spool.settle([Ended(found[-1].seq, "t-1", time.time(), "answered", outcome, hosts)])
        (stored,) = await spool.store([offer("a", time="2026-04-05T12:00:05.000000Z")])
        assert not stored.folded_into


async def test_a_history_that_is_damaged_keeps_no_alert_out(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path, fold_isolated=600.0) as spool:
        found = waiting(spool)
        await spool.store([offer("a")])
        await end(spool, found[0], "isolated")
        with contextlib.closing(sqlite3.connect(tmp_path / "spool.db", isolation_level=None)) as database:
            database.execute("UPDATE history SET hosts = '[]'")
        stored = await spool.store([offer("b"), offer("a")])
        assert [each.folded_into for each in stored] == ["", ""]
        assert len(found) == 3


async def test_an_alert_of_the_future_answers_no_more_for_it(tmp_path: pathlib.Path) -> None:
    """Whoever may send an alert with any time must not silence those that a detector sends later."""
    async with opened(tmp_path, fold_isolated=600.0) as spool:
        found = waiting(spool)
        await spool.store([offer("a", time="2999-01-01T00:00:00.000000Z")])
        hosts = {"web-1": {"outcome": "isolated", "milliseconds": 800}}
        await spool.settle([Ended(found[0].seq, found[0].trace_id, time.time(), "answered", "isolated", hosts)])
        later = datetime.datetime.fromtimestamp(time.time() + 1, datetime.UTC)
        (stored,) = await spool.store([offer("a", time=later.isoformat())])
        assert not stored.folded_into


async def test_nothing_folds_into_what_goes_to_other_hosts(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        offers = [lookup("a", "dev-1", "dev-2"), lookup("a", "prod-1", "prod-2"), lookup("a", "prod-2", "prod-1")]
        dev, prod, again = await spool.store(offers)
        assert [dev.folded_into, prod.folded_into, again.folded_into] == ["", "", prod.trace_id]
        assert [list(accepted.hosts) for accepted in waiting(spool)] == [["dev-1", "dev-2"], ["prod-1", "prod-2"]]


async def test_nothing_folds_into_what_was_not_answered(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.store([offer("a")])
        (accepted,) = waiting(spool)
        await end(spool, accepted, "failed", "unanswered")
        (again,) = await spool.store([offer("a")])
        assert again.folded_into == ""


async def test_two_alerts_that_wait_have_two_trace_ids(tmp_path: pathlib.Path) -> None:
    """The sender of a generic alert may choose one, and receipts go by it."""
    async with opened(tmp_path) as spool:
        (first,) = await spool.store([offer("a", trace_id="chosen")])
        (second,) = await spool.store([offer("b", trace_id="chosen")])
        third, fourth = await spool.store([offer("c", trace_id="chosen-too"), offer("d", trace_id="chosen-too")])
        assert (first.trace_id, third.trace_id) == ("chosen", "chosen-too")
        assert len({second.trace_id, fourth.trace_id, "chosen", "chosen-too"}) == 4
        found = waiting(spool)
        contents = await spool.contents([each.seq for each in found], [])
        assert {each.trace_id: contents[each.seq]["trace_id"] for each in found} == {
            stored.trace_id: stored.trace_id for stored in (first, second, third, fourth)
        }
        await end(spool, found[0])
        (reused,) = await spool.store([offer("e", trace_id="chosen")])
        assert reused.trace_id == "chosen"


async def test_a_full_spool_takes_nothing_of_an_offer(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path, max_alerts=2) as spool:
        await spool.store([offer("a")])
        with pytest.raises(SpoolError, match="1 alerts wait, of at most 2,") as caught:
            await spool.store([offer("b"), offer("c")], {"rejected": 1})
        assert caught.value.kind == "spool_full"
        await spool.store([offer("d")])
        full = "the spool is full: 2 alerts wait, of at most 2, 0 of them for high and critical alerts"
        assert spool.troubles() == [full]
        assert spool.accounts["received"] == 2
        await end(spool, waiting(spool)[0])
        await spool.store([offer("e")])
    async with opened(tmp_path / "other", max_bytes=3000) as spool:
        with pytest.raises(SpoolError, match="0 bytes wait, of at most 3000,"):
            await spool.store([offer(f"f {number}") for number in range(10)])
        found = waiting(spool)
        for number in range(10):
            await spool.store([offer(f"g {number}", raw="QUJD" * 500)])
            await end(spool, found[-1])


async def test_messages_as_received_are_left_out_before_alerts_are_refused(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path, max_bytes=200_000) as spool:
        found = waiting(spool)
        with contextlib.suppress(SpoolError):
            while True:
                await spool.store([offer(f"r {len(found)}", severity="info", raw="QUJD" * 2500)])
        assert len(found) > 100
        with_raw = [each.raw_bytes for each in found if each.raw_bytes]
        assert 0 < sum(with_raw) <= 80_000
        last = await spool.contents([found[-1].seq], [found[-1].seq])
        assert (last[found[-1].seq]["raw"], len(with_raw)) == ("", 7)
        hosts = spool_module._HOST_COST * len('{"web-1": null}') * len(found)
        assert spool.figures()["waiting_bytes"] == hosts + sum(each.body_bytes + each.raw_bytes for each in found)


async def test_one_sender_leaves_room_for_the_others_also_after_a_restart(tmp_path: pathlib.Path) -> None:
    def by(sender: str, number: int, severity: str = "info") -> Offer:
        return dataclasses.replace(offer(f"{sender} {number}", severity=severity), sender=sender)

    limits = {"max_alerts": 100, "senders": 2}
    async with opened(tmp_path, **limits) as spool:
        await spool.store([by("evil", number) for number in range(40)])
    async with opened(tmp_path, **limits) as spool:
        with pytest.raises(SpoolError, match="sender evil has its share of the spool: 40 alerts wait") as caught:
            await spool.store([by("evil", 40)])
        assert caught.value.kind == "spool_full"
        assert spool.troubles()[0].startswith("sender evil has its share")
        await spool.store([by("good", number) for number in range(40)])
        with pytest.raises(SpoolError, match="the spool is full: 80 alerts wait"):
            await spool.store([by("third", 0)])
        await spool.store([by("good", number, "critical") for number in range(10)])
        found = waiting(spool)
        await end(spool, found[0])
        await spool.store([by("evil", 41)])


async def test_folded_alerts_take_no_room(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path, max_alerts=2) as spool:
        for _number in range(10):
            await spool.store([offer("a")])
        assert spool.figures()["waiting_alerts"] == 1


async def test_a_position_is_stored_with_its_alerts(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        assert spool.position("falco.log") is None
        await spool.store([offer()], {"rejected": 1}, ("falco.log", {"offset": 5}))
        await spool.store([], {"dropped": 1}, ("eve.json", {"offset": 7}))
        await spool.remember("receipt_port", 4711)
    async with opened(tmp_path) as spool:
        assert [spool.position(name) for name in ("falco.log", "eve.json")] == [{"offset": 5}, {"offset": 7}]
        assert spool.position("receipt_port") == 4711


async def test_counts_alone_wait_for_nothing_and_are_kept(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        for _number in range(100):
            assert await spool.store([], {"dropped": 1}) == []
        assert spool.accounts["dropped"] == spool.accounts["received"] == 100
    async with opened(tmp_path) as spool:
        assert spool.accounts["dropped"] == 100


@pytest.mark.parametrize("counts", [{"received": 5}, {"droped": 1}, {"dropped": -1}, {"folded": 1}])
async def test_counts_must_add_up(tmp_path: pathlib.Path, counts: dict[str, int]) -> None:
    async with opened(tmp_path) as spool:
        with pytest.raises(ValueError, match="do not add up"):
            await spool.store([offer()], counts)
        assert spool.accounts["received"] == 0


async def test_an_alert_concerns_a_host(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        with pytest.raises(ValueError, match="concerns no host"):
            await spool.store([Offer(alert(), ())])


async def test_what_is_known_of_hosts_is_kept(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        asked = lookup("a", "all", "web-9")
        await spool.store([asked, dataclasses.replace(lookup("b", "web-9"), expanded=True)])
        accepted, expanded = waiting(spool)
        assert accepted.hosts == {name: {"lookup": True, "pattern": True} for name in ("all", "web-9")}
        assert expanded.hosts == {"web-9": {"lookup": True, "pattern": False}}
        spool.note({accepted.seq: {"web-1": {"outcome": "gone"}, "web-2": {"attempts": 1}}})
    async with opened(tmp_path) as spool:
        accepted, _expanded = waiting(spool)
        assert accepted.hosts == {"web-1": {"outcome": "gone"}, "web-2": {"attempts": 1}}


async def test_the_history_is_bounded(tmp_path: pathlib.Path) -> None:
    moment = [1_700_000_000.0]
    limits = SpoolLimits(history_days=1, history_max_bytes=20_000, raw_hours=1)
    spool = await Spool.open(tmp_path, limits, clock=lambda: moment[0])
    writer, found = spool._writer, waiting(spool)

    async def store(rule: str) -> str:
        (stored,) = await spool.store([offer(rule, raw="QUJD" * 500)])
        await spool.settle([Ended(found[-1].seq, stored.trace_id, moment[0], "answered", "held", {}, 0)])
        return stored.trace_id

    async def tidy() -> None:
        await spool._ask(spool_module.writer.Read(lambda _database: writer._tidy()))

    old = await store("old")
    moment[0] += 3601
    await tidy()
    assert writer.history[1] < 1000, "without raw"
    assert await spool.trace(old)
    moment[0] += 86_400
    await tidy()
    assert await spool.trace(old) is None
    many = [await store(f"r {number}") for number in range(20)]
    await tidy()
    assert 10_000 < writer.history[1] <= 20_000
    assert [bool(await spool.trace(each)) for each in (many[0], many[-1])] == [False, True]
    await spool.close()


async def test_a_history_of_a_storm_is_bounded_at_once(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path, history_max_bytes=100_000) as spool:
        found = waiting(spool)
        for number in range(20):
            await spool.store([offer(f"r {number} {part}", raw="QUJD" * 100) for part in range(20)])
            batch, found[:] = list(found), []
            for each in batch:
                await end(spool, each)
        await spool.remember("last", True)
        assert spool.figures()["history_bytes"] <= 110_000


async def test_a_trace_of_another_process(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        (stored,) = await spool.store([offer()])
        for _again in range(2):
            known = trace(tmp_path, stored.trace_id)
            assert known is not None
            assert (known["state"], known["alert"]["trace_id"]) == ("waiting", stored.trace_id)
        assert trace(tmp_path, "other") is None
        await end(spool, waiting(spool)[0])
    known = trace(tmp_path, stored.trace_id)
    assert known is not None
    assert (known["state"], known["outcome"]) == ("answered", "no_policy")
    with pytest.raises(SpoolError, match="cannot be read"):
        trace(tmp_path / "missing", "t")


async def test_a_closed_spool_takes_nothing(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        pass
    for offers in ([offer()], []):
        with pytest.raises(SpoolError) as caught:
            await spool.store(offers)
        assert caught.value.kind == "shutting_down"
    await spool.close()


async def test_an_alert_is_stored_also_where_its_sender_has_gone(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        task = asyncio.create_task(spool.store([offer()]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await spool.store([offer("b")])
        assert len(waiting(spool)) == spool.accounts["waiting"] == 2


@pytest.mark.parametrize("name", ["spool.db", "spool.db-wal", "key", "lock"])
async def test_a_directory_that_cannot_be_used(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(SpoolError) as caught:
        await Spool.open(tmp_path)
    assert caught.value.kind == "spool_unusable"
    (tmp_path / name).rmdir()
    async with opened(tmp_path):
        pass


async def test_a_damaged_spool_is_told_and_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "spool.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(SpoolError, match="file is not a database") as caught:
        await Spool.open(tmp_path)
    assert caught.value.kind == "spool_unusable"
    assert (tmp_path / "spool.db").read_bytes().startswith(b"this is no database")


async def test_a_spool_of_a_later_version_is_left_alone(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolError, match="not a spool of version 1"):
        await Spool.open(tmp_path)


async def test_a_damage_while_it_runs_refuses_alerts_until_it_is_mended(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.store([offer("a")])
        (tmp_path / "spool.db").rename(tmp_path / "taken away")
        (tmp_path / "spool.db").mkdir()
        for _again in range(2):
            with pytest.raises(SpoolError) as caught:
                await spool.store([offer("b")])
            assert caught.value.kind == "spool_unusable"
        assert len(spool.troubles()) == 1
        assert adds_up(spool.accounts)
        (tmp_path / "spool.db").rmdir()
        (tmp_path / "taken away").rename(tmp_path / "spool.db")
        async with asyncio.timeout(DEADLINE):
            while spool.troubles():  # nobody need send anything: who goes by /healthz does not
                await asyncio.sleep(0.05)
        (stored,) = await spool.store([offer("b")])
        assert stored.folded_into == "", "what was refused takes no repeats"
        assert spool.troubles() == []
        assert spool.accounts["waiting"] == 2


async def test_a_commit_that_fails_and_comes_about_is_undone(tmp_path: pathlib.Path) -> None:
    """As it may where the disk takes the data and not the sync."""
    async with opened(tmp_path) as spool:
        await spool.store([offer("a")])
        in_use = spool._writer._database
        assert in_use is not None
        transaction = in_use.transaction

        @contextlib.contextmanager
        def committed_and_failed() -> t.Iterator[None]:
            with transaction():
                yield
            raise sqlite3.OperationalError("disk I/O error")

        in_use.transaction = committed_and_failed  # type: ignore[method-assign]
        with pytest.raises(SpoolError, match="disk I/O error"):
            await spool.store([offer("b")], {"rejected": 5})
        (stored,) = await spool.store([offer("c")])
        assert stored.folded_into == ""
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        contents = await spool.contents([each.seq for each in found], [])
        assert sorted(each["rule"] for each in contents.values()) == ["a", "c"]
        assert (spool.accounts["received"], spool.accounts["rejected"]) == (2, 0)


async def test_a_repeat_comes_again_once_where_a_commit_fails_and_comes_about(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        found = waiting(spool)
        await repeated(spool, found)
        in_use = spool._writer._database
        assert in_use is not None
        transaction = in_use.transaction

        @contextlib.contextmanager
        def committed_and_failed() -> t.Iterator[None]:
            with transaction():
                yield
            raise sqlite3.OperationalError("disk I/O error")

        in_use.transaction = committed_and_failed  # type: ignore[method-assign]
        await end(spool, found[0], "superseded")
        await spool.remember("later", True)
        first, again = found
        assert first.trace_id != again.trace_id
        (folded,) = await spool.store([offer("a")])
        assert folded.folded_into == again.trace_id
        assert adds_up(spool.accounts)
    async with opened(tmp_path) as spool:
        assert waiting(spool) == [again]
        assert spool.accounts["waiting"] == 1


@pytest.mark.parametrize("where", ["insert", "transaction"])
async def test_an_error_of_the_spool_itself_is_heard_of(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async with opened(tmp_path) as spool:
        with monkeypatch.context() as broken:
            broken.setattr(database.Database, where, None)
            with pytest.raises(SpoolError, match="not callable"):
                await asyncio.wait_for(spool.store([offer("a")]), 10)
        (stored,) = await spool.store([offer("a")])
        assert stored.folded_into == "", "what was refused takes no repeats"
        with monkeypatch.context() as broken:
            broken.setattr(spool._writer, "_write", None)
            with pytest.raises(SpoolError, match="not callable"):
                await asyncio.wait_for(spool.store([offer("b")]), 10)


FULL_DISK = """
import asyncio, pathlib, resource, signal, sys

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Ended, Spool, SpoolError
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import DEADLINE, offer

async def main():
    directory = pathlib.Path(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    spool = await Spool.open(directory)
    found = []
    spool.watch(found.extend)
    for rule in ("first", "second"):
        await spool.store([offer(rule, message="m" * 1000)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    for _again in range(5):
        try:
            await spool.store([offer("refused")])
            raise AssertionError("it was stored")
        except SpoolError as error:
            assert error.kind == "spool_unusable", error
    assert spool.troubles(), "it is told"
    assert spool.accounts["waiting"] == len(found) == 2
    # What happens meanwhile is not lost.
    await spool.settle([Ended(found[0].seq, found[0].trace_id, 1.0, "answered", "isolated", {}, 0)])
    spool.note({found[1].seq: {"web-1": {"attempts": 7}}})
    await spool.store([], {"dropped": 3})
    assert (await spool.contents([found[1].seq], []))[found[1].seq]["message"] == "m" * 1000, "it can be read"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while spool.accounts["answered"] == 0:
        await asyncio.sleep(0.05)  # it heals by itself
    assert spool.troubles() == []
    await spool.store([offer("last")])
    await spool.close()
    spool = await Spool.open(directory)
    found = []
    spool.watch(found.extend)
    assert len(found) == 2
    assert found[0].hosts == {"web-1": {"attempts": 7}}
    accounts = {name: number for name, number in spool.accounts.items() if number}
    assert accounts == {"received": 6, "answered": 1, "dropped": 3, "waiting": 2}, accounts
    await spool.close()
    print("healed")

asyncio.run(main())
"""


def test_a_disk_that_is_full_for_a_while(tmp_path: pathlib.Path) -> None:
    with running_script(FULL_DISK, tmp_path) as child:
        output, errors = child.communicate(timeout=60)
    assert output == "healed\n", errors
    assert "cannot be used" in errors
    assert errors.count("cannot be used") == 1, "told once"


STORING = """
import asyncio, os, pathlib, sys, time

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Ended, Spool
from ansible_collections.ironpost.container_guard.tests.fakes.rule_engine import DEADLINE, offer

async def main():
    directory, run = pathlib.Path(sys.argv[1]), sys.argv[2]
    spool = await Spool.open(directory)
    found = []
    spool.watch(found.extend)

    async def store(sender):
        for number in range(1_000_000):
            rule = f"{run} {sender} {number // 2}"
            (stored,) = await spool.store([offer(rule, raw="QUJD" * 100)], {"rejected": 1, "dropped": number % 3})
            os.write(1, f"stored {stored.trace_id} {stored.folded_into}\\n".encode())

    async def settle():
        while True:
            batch, found[:] = found[:20], found[20:]
            now = time.time()
            await spool.settle([Ended(each.seq, each.trace_id, now, "answered", "held", {}, 0) for each in batch])
            os.write(1, "".join(f"ended {each.trace_id}\\n" for each in batch).encode())

    await asyncio.gather(settle(), *(store(sender) for sender in range(8)))

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_answered(tmp_path: pathlib.Path) -> None:
    chance = random.Random(9)  # noqa: S311 - no secret
    stored: dict[str, str] = {}
    ended: set[str] = set()
    for run in range(6):
        with running_script(STORING, tmp_path, run) as child:
            assert child.stdout
            child.stdout.readline()  # it is at it
            time.sleep(chance.uniform(0, 0.3))
            child.send_signal(signal.SIGKILL)
            lines = child.stdout.read().splitlines()
        for line in lines:
            what, *ids = line.split(" ")
            if what == "stored" and len(ids) == 2:
                stored[ids[0]] = ids[1]
            elif what == "ended":
                ended.add(ids[0])
    assert len(stored) > 100
    assert len(ended) > 20
    async with opened(tmp_path) as spool:
        there = {each.trace_id for each in waiting(spool)}
        for trace_id, folded_into in stored.items():
            known = await spool.trace(folded_into or trace_id)
            assert known, "it was answered, so it is there"
            assert (known["state"] == "waiting") == ((folded_into or trace_id) in there)
        for trace_id in ended - {""}:
            assert trace_id not in there
        accounts = spool.accounts
        assert adds_up(accounts)
        assert accounts["waiting"] == len(there)
        assert accounts["answered"] >= len(ended)
        assert accounts["folded"] >= sum(1 for folded_into in stored.values() if folded_into)
        with contextlib.closing(sqlite3.connect(tmp_path / "spool.db")) as connection:
            (numbers,) = connection.execute("SELECT count(*) FROM history").fetchone()
            assert numbers == accounts["answered"], "each ended once"


async def test_an_alert_with_all_there_is(tmp_path: pathlib.Path) -> None:
    hostile = alert("\ud800{{ x }}\x00'\"; DROP TABLE alerts", message="\U0001f600" * 1000, tags=["t"] * 64)
    async with opened(tmp_path) as spool:
        await spool.store([Offer(hostile, ("web-1",))])
        (accepted,) = waiting(spool)
        (found,) = (await spool.contents([accepted.seq], [])).values()
        assert found == hostile.to_dict()
        assert len(json.dumps(found)) <= accepted.body_bytes + 1000


async def test_rules_are_told_apart_also_after_a_restart(tmp_path: pathlib.Path) -> None:
    async with opened(tmp_path) as spool:
        await spool.store([offer("shell"), offer("x" * 100), offer("shell", container={"id": "ab" * 32})])
        before = [each.kind for each in waiting(spool)]
    async with opened(tmp_path) as spool:
        assert [each.kind for each in waiting(spool)] == before
    assert before == ["s/shell", "s/" + "x" * 32, "s/shell"]
