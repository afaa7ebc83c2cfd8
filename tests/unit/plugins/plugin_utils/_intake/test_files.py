# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import files as module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.files import reading_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import SpoolError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import Record

Start = t.Any
FALCO = {
    "hostname": "web-1",
    "priority": "Critical",
    "rule": "Drop and execute",
    "source": "syscall",
    "output_fields": {},
}


def line(rule: str) -> str:
    return json.dumps({**FALCO, "rule": rule}) + "\n"


async def until(condition: t.Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def write(path: pathlib.Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def test_a_file_is_followed_and_its_position_stored_with_the_alerts(start: Start, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "falco.json"
    path.write_text(line("before"))
    name = f"file {path}"
    async with start(hosts=["web-1"], files=[str(path)]) as intake:
        await until(lambda: name in intake.spool.positions)  # what was there before is not read
        write(path, line("one") + "Falco initialized\n" + line("two"))
        await until(lambda: len(intake.alerts) == 2)
        assert [alert.rule for alert in intake.alerts] == ["one", "two"]
        assert intake.spool.offers[0].targets == ("web-1",)
        path.rename(tmp_path / "falco.json.1")
        path.write_text(line("three"))
        await until(lambda: len(intake.alerts) == 3)
        metrics = await intake.metrics()
        seen = intake.spool.positions[name]["seen"]
    assert seen == len(line("three"))
    assert metrics['elements_of_sender_total{sender="file"}'] == 3
    assert metrics['lines_skipped_total{reason="it is text and holds no JSON"}'] == 1


async def test_a_host_and_a_detector_may_be_given(start: Start, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "falco.json"
    path.touch()
    file = {"path": str(path), "detector": "falco", "host": "web-9"}
    async with start(files=[file]) as intake:
        await until(lambda: intake.spool.positions)
        write(path, line("one") + '{"source": "s", "rule": "r", "severity": "low"}\n')
        await until(lambda: intake.alerts)
        await until(lambda: intake.spool.counts["rejected"])
    (offer,) = intake.spool.offers
    assert offer.targets == ("web-9",)


async def test_where_the_spool_takes_nothing_a_file_waits(
    start: Start, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.02)
    path = tmp_path / "falco.json"
    path.touch()
    async with start(files=[str(path)]) as intake:
        await until(lambda: intake.spool.positions)
        intake.spool.failure = SpoolError("the spool is full", kind="spool_full")
        write(path, line("one"))
        async with asyncio.timeout(30):
            while (await intake.health())[1]["warnings"] != [f"file {path}: the spool is full"]:
                await asyncio.sleep(0.02)
        intake.spool.failure = None
        await until(lambda: intake.alerts)
        assert (await intake.health())[1]["warnings"] == []


def test_elements_are_numbered_through() -> None:
    bodies = [json.dumps(FALCO), "[1, 2]", "nonsense", json.dumps([FALCO, 3])]
    records = [Record(number, body.encode(), "") for number, body in enumerate(bodies)]
    records.insert(1, Record(9, None, "it is text and holds no JSON"))
    reading = reading_of(records, "", {})
    assert reading.places == (0, 4)
    assert [one.index for one in reading.rejected] == [1, 2, 3, 5]
    assert reading.received == 6
