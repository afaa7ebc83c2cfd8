# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.outbox import NAME, Outbox


@pytest.fixture
def box(tmp_path: pathlib.Path) -> t.Iterator[Outbox]:
    with contextlib.closing(Outbox(tmp_path / "spool", most=10, most_bytes=1000)) as made:
        yield made


def reports(*names: object) -> list[dict[str, t.Any]]:
    return [{"kind": "action", "name": name} for name in names]


def names(box: Outbox, most: int = 100, most_bytes: int = 1_000_000) -> list[t.Any]:
    return [report["name"] for report in box.first(most, most_bytes)]


def test_reports_leave_in_order_and_numbers_are_never_used_again(box: Outbox) -> None:
    box.add(reports("a", "b"))
    box.add(reports("c"))
    assert [(one["sequence"], one["name"]) for one in box.first(2, 1000)] == [(1, "a"), (2, "b")]
    box.remove(3)
    assert (box.first(10, 1000), box.number, box.bytes) == ([], 0, 0)
    box.add(reports("d"))
    assert [one["sequence"] for one in box.first(10, 1000)] == [4]


def test_a_batch_is_bounded_in_bytes_and_holds_one_report_at_least(box: Outbox) -> None:
    box.add(reports("a" * 300, "b", "c"))
    assert names(box, most_bytes=100) == ["a" * 300]
    assert names(box, most_bytes=380) == ["a" * 300, "b"]


def test_what_waits_and_the_id_outlive_a_restart(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(Outbox(tmp_path, most=2)) as box:
        box.add(reports("a", "b", "c"))
        known = (box.id, box.number, box.bytes, box.dropped)
    with contextlib.closing(Outbox(tmp_path, most=2)) as box:
        assert (box.id, box.number, box.bytes, box.dropped) == known
        assert names(box) == ["b", "c"]
    with contextlib.closing(Outbox(tmp_path / "other")) as box:
        assert box.id != known[0]


def test_the_oldest_go_where_there_are_too_many(box: Outbox) -> None:
    for number in range(13):
        box.add(reports(number))
    assert (names(box), box.number, box.dropped) == (list(range(3, 13)), 10, 3)
    box.add(reports(*range(13, 40)))  # more than there is room for at all
    assert (names(box), box.number, box.dropped) == (list(range(30, 40)), 10, 30)


def test_the_oldest_go_where_they_are_too_large(box: Outbox) -> None:
    box.add(reports("a" * 400, "b" * 400))
    box.add(reports("c" * 400))
    assert names(box) == ["b" * 400, "c" * 400]
    assert (box.dropped, box.bytes <= 1000) == (1, True)
    box.add(reports("d" * 2000))  # what is too large by itself has no place
    assert (names(box), box.bytes, box.dropped) == ([], 0, 4)


def test_what_nobody_takes_counts_as_dropped(box: Outbox) -> None:
    box.add(reports("a", "b"))
    box.remove(1, dropped=True)
    assert (names(box), box.dropped, box.number) == (["b"], 1, 1)


ADDS_FOR_EVER = """
import pathlib, sys
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.outbox import Outbox
box, number = Outbox(pathlib.Path(sys.argv[1])), 0
while True:
    box.add([{"kind": "action", "name": number}])
    print(number, flush=True)
    number += 1
"""


def test_nothing_that_was_kept_is_lost_by_a_kill(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-c", ADDS_FOR_EVER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout
        kept = [int(process.stdout.readline()) for _ in range(50)][-1]
        process.kill()
    with contextlib.closing(Outbox(tmp_path)) as box:
        found = names(box, 1_000_000)
        assert found == list(range(len(found)))
        assert len(found) > kept
        box.add(reports("next"))
        assert box.first(1_000_000, 10**9)[-1]["sequence"] == len(found) + 1


@pytest.mark.parametrize("content", [b"this is no database at all", b"\0" * 8192])
def test_a_damaged_file_is_put_aside(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with contextlib.closing(Outbox.open(tmp_path)) as box:
        box.add(reports("a"))
        assert names(box) == ["a"]
    assert "are damaged, and put aside" in caplog.text
    assert (tmp_path / f"{NAME}.damaged").read_bytes() == content


def test_a_file_of_another_version_is_put_aside(tmp_path: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / NAME)) as other:
        other.execute("PRAGMA user_version = 7")
    with pytest.raises(sqlite3.DatabaseError, match="no outbox of version 1"):
        Outbox(tmp_path)
    Outbox.open(tmp_path).close()


def test_where_nothing_can_be_kept(tmp_path: pathlib.Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(OSError, match="cannot be kept in"):
        Outbox.open(tmp_path)
