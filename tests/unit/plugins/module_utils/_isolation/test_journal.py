# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal on a real file system."""

from __future__ import annotations

import json
import os
import pathlib
import stat

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import (
    EndpointSettings,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause, Claim
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import JournalError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

SINCE = "2026-04-05T12:43:02.928967Z"
GOAL = Goal(pause=True, networks=("*",))


def entry_of(snapshot: ContainerState) -> Entry:
    claim = Claim("person", GOAL, cause=Cause(reason="shell", trace_id="t-1", actor="alice"), since=SINCE)
    sharer = Claim("sharer", Goal(networks=("*",)), "b" * 64, expires_at=SINCE, release_after=60)
    return Entry(snapshot, (claim, sharer), held=GOAL, phase="isolating", since=SINCE, networks={"front": {"Id": "1"}})


@pytest.fixture
def snapshot(engine: FakeEngine) -> ContainerState:
    engine.add_network("front", "10.1.0.0/24")
    container = engine.add_container(
        "web",
        networks={"front": EndpointSettings(ipv4_address="10.1.0.9", aliases=("shop",), links=("db:database",))},
        published={"80/tcp": 8080},
    )
    return ContainerState.from_inspect(engine.inspect_container(container))


def test_an_entry_is_read_back_as_it_was_written(journal: Journal, snapshot: ContainerState) -> None:
    written = entry_of(snapshot)
    journal.store(written)
    assert journal.load(snapshot.id) == written
    assert journal.entries() == ([written], [])
    assert written.snapshot.endpoints[0].settings.aliases == ("shop",)


def test_nobody_else_can_read_it(journal: Journal, snapshot: ContainerState, tmp_path: pathlib.Path) -> None:
    journal.store(entry_of(snapshot))
    with journal.lock(snapshot.id):
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").rglob("*")}
    modes[tmp_path / "state"] = stat.S_IMODE((tmp_path / "state").stat().st_mode)
    assert {modes[path] for path in modes if path.is_dir()} == {0o700}
    assert {modes[path] for path in modes if path.is_file()} == {0o600}


def test_no_half_written_file_is_left(journal: Journal, snapshot: ContainerState, tmp_path: pathlib.Path) -> None:
    journal.store(entry_of(snapshot))
    assert os.listdir(tmp_path / "state" / "isolations") == [f"{snapshot.id}.json"]


def test_removed_is_gone(journal: Journal, snapshot: ContainerState) -> None:
    journal.store(entry_of(snapshot))
    journal.remove(snapshot.id)
    assert journal.load(snapshot.id) is None
    assert journal.entries() == ([], [])


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"null", b'{"format": 1}', b'{"format": 2}', b"\x00", b"\xff"],
)
def test_a_damaged_entry_is_an_error_that_names_the_file(
    journal: Journal, snapshot: ContainerState, tmp_path: pathlib.Path, content: bytes
) -> None:
    journal.store(entry_of(snapshot))
    path = tmp_path / "state" / "isolations" / f"{snapshot.id}.json"
    path.write_bytes(content)
    with pytest.raises(JournalError) as raised:
        journal.load(snapshot.id)
    assert raised.value.kind == "journal_damaged"
    assert str(path) in raised.value.message
    assert [str(path) in error.message for error in journal.entries()[1]] == [True]


def test_every_key_that_is_missing_is_damage(
    journal: Journal, snapshot: ContainerState, tmp_path: pathlib.Path
) -> None:
    journal.store(entry_of(snapshot))
    path = tmp_path / "state" / "isolations" / f"{snapshot.id}.json"
    whole = json.loads(path.read_text())
    for key in whole:
        path.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(JournalError):
            journal.load(snapshot.id)


def test_one_lock_a_container(journal: Journal) -> None:
    with journal.lock("a" * 64):
        with journal.lock("b" * 64):
            pass
        with pytest.raises(JournalError) as raised, journal.lock("a" * 64):
            pytest.fail("the lock was given twice")
    assert raised.value.kind == "busy"
    with journal.lock("a" * 64):
        pass
