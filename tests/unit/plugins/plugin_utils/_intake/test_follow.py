# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import bz2
import gzip
import itertools
import json
import logging
import os
import pathlib
import random
import shutil
import tempfile
import typing as t

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import follow as follow_module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import rotated
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.follow import Batch, Follower, follow
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.rotated import Position

QUIET_POLLS = 4
"""So many polls that find nothing, and there is nothing: rotation takes two looks."""


def line(number: int | str) -> str:
    return json.dumps({"rule": "Shell", "priority": "Notice", "number": number}) + "\n"


def numbers(batches: t.Iterable[Batch]) -> list[t.Any]:
    return [json.loads(record.body)["number"] for batch in batches for record in batch.records if record.body]


def drain(follower: Follower) -> list[Batch]:
    """All batches until nothing comes any more."""
    batches, quiet = [], 0
    while quiet < QUIET_POLLS:
        batch = follower.poll()
        quiet = 0 if batch else quiet + 1
        batches += [batch] if batch else []
    return batches


class Log:
    """A log, and the one who follows it and stores positions as the spool does."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.taken: list[t.Any] = []
        self.troubles: list[str] = []
        self.stored: object = None
        self.follower = Follower(path, told=self.troubles.append)

    def append(self, *values: int | str, to: pathlib.Path | None = None) -> None:
        with (to or self.path).open("a") as file:
            file.write("".join(map(line, values)))

    def store(self, batches: t.Iterable[Batch]) -> None:
        for batch in batches:
            self.taken += numbers([batch])
            self.stored = json.loads(json.dumps(batch.position.to_dict()))

    def read(self) -> list[t.Any]:
        before = len(self.taken)
        self.store(drain(self.follower))
        return self.taken[before:]

    def restart(self) -> None:
        self.follower.close()
        position = Position.from_dict(self.stored) if self.stored else None
        self.follower = Follower(self.path, position, told=self.troubles.append)


@pytest.fixture
def log(tmp_path: pathlib.Path) -> t.Iterator[Log]:
    log = Log(tmp_path / "falco.log")
    yield log
    log.follower.close()


@pytest.fixture
def begun(log: Log) -> Log:
    """A log of three lines that were read."""
    log.path.touch()
    log.read()
    log.append(1, 2, 3)
    assert log.read() == [1, 2, 3]
    return log


@pytest.fixture(params=[False, True], ids=["at once", "after a restart"])
def later(request: pytest.FixtureRequest) -> t.Callable[[Log], list[t.Any]]:
    """Reads what was not read, and may be another process than before."""

    def read(log: Log) -> list[t.Any]:
        if request.param:
            log.restart()
        return log.read()

    return read


Later = t.Callable[[Log], list[t.Any]]


def test_a_log_that_was_there_is_read_from_its_end(log: Log) -> None:
    log.append("old")
    with log.path.open("a") as file:
        file.write(line("half")[:20])
    assert log.read() == []
    with log.path.open("a") as file:
        file.write(line("half")[20:])
    assert log.read() == ["half"]


def test_a_log_that_was_there_is_read_from_its_beginning_where_that_is_asked_for(log: Log) -> None:
    log.append(1)
    follower = Follower(log.path, from_start=True)
    assert numbers(drain(follower)) == [1]
    follower.close()


def test_the_first_batch_says_where_it_began(log: Log) -> None:
    log.append("old")
    batch = log.follower.poll()
    assert batch is not None
    assert batch.records == ()
    log.store([batch])
    log.append("new")
    log.restart()
    assert log.read() == ["new"]


def test_a_log_that_is_not_there_yet_is_read_from_its_beginning(log: Log, later: Later) -> None:
    assert log.read() == []
    log.append(1)
    assert later(log) == [1]
    log.append(2)
    assert later(log) == [2]


def test_that_there_is_no_log_is_told(log: Log) -> None:
    assert log.read() == []
    assert log.troubles == ["it does not exist"]
    log.path.touch()
    assert log.read() == []
    assert log.troubles == ["it does not exist", ""]


def test_growth(begun: Log, later: Later) -> None:
    begun.append(4)
    assert later(begun) == [4]
    assert later(begun) == []


def test_a_half_written_line(begun: Log, later: Later) -> None:
    text = line(4)
    with begun.path.open("a") as file:
        for part in (text[:9], text[9:30], text[30:]):
            assert later(begun) == []
            file.write(part)
            file.flush()
    assert later(begun) == [4]


def test_rotation(begun: Log, later: Later) -> None:
    begun.append(4)
    rotated = begun.path.rename(f"{begun.path}.1")
    begun.append(5, to=rotated)  # the writer has not noticed
    assert later(begun) == [4, 5]
    begun.append(6, to=rotated)
    begun.path.touch()
    assert later(begun) == [6]
    begun.append(7, to=rotated)
    begun.append(8)
    assert later(begun) == [7, 8]
    begun.append(9)
    assert later(begun) == [9]


def test_rotation_of_a_log_without_a_last_line_end(begun: Log, later: Later) -> None:
    with begun.path.open("a") as file:
        file.write(line(4).rstrip())
    os.utime(begun.path.rename(f"{begun.path}.1"), (0, 0))  # nobody writes to it any more
    begun.append(5)
    assert later(begun) == [4, 5]


def test_a_part_that_is_being_copied_is_waited_for(begun: Log) -> None:
    begun.append(4)
    begun.path.rename(f"{begun.path}.2")
    whole = line(5) + line(6)
    pathlib.Path(f"{begun.path}.1").write_text(whole[:-20])
    begun.append(7)
    begun.restart()
    assert begun.read() == [4, 5]
    begun.restart()
    assert begun.read() == []
    pathlib.Path(f"{begun.path}.1").write_text(whole)
    assert begun.read() == [6, 7]


def test_a_log_that_is_deleted_under_its_writer(begun: Log) -> None:
    with begun.path.open("a") as writer:
        begun.path.unlink()
        assert begun.read() == []
        begun.path.touch()
        assert begun.read() == []
        writer.write(line(4))
        writer.flush()
        assert begun.read() == [4]
    begun.append(5)
    assert begun.read() == [5]


def test_a_part_that_is_missed_as_it_is_renamed(begun: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    begun.append(4)
    begun.path.rename(f"{begun.path}.2")
    begun.append(5, to=pathlib.Path(f"{begun.path}.1"))
    begun.append(6)
    real, looks = rotated.earlier_parts, itertools.count()
    monkeypatch.setattr(rotated, "earlier_parts", lambda path: real(path)[: -1 if next(looks) == 0 else None])
    assert begun.read() == [4, 5, 6]


def test_copytruncate_of_a_log_of_less_than_a_line(log: Log, later: Later) -> None:
    log.read()
    log.path.write_text(line(4)[:9])
    assert later(log) == []
    log.path.write_text(line(4))
    shutil.copy(log.path, f"{log.path}.1")
    log.path.write_text(line(5))
    assert later(log) == [4, 5]


SCHEMES = {
    "index": lambda path, number, count: path.with_name(f"{path.name}.{count - number}"),
    "date": lambda path, number, count: path.with_name(f"{path.name}-202604{number + 1:02}"),
    "lumberjack": lambda path, number, count: path.with_name(f"{path.stem}-2026-04-05T12-43-{number:02}.123.log"),
}


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("compress", [None, gzip.compress, bz2.compress], ids=["plain", "gzip", "bzip2"])
@pytest.mark.parametrize("count", [1, 3, 12])
def test_parts_that_came_and_went_meanwhile(
    begun: Log, later: Later, scheme: t.Any, compress: t.Any, count: int
) -> None:
    old = begun.path.with_name(f"{begun.path.name}.99")
    begun.append("old", to=old)
    os.utime(old, (0, 0))
    for number in range(count):
        begun.append(10 + number)
        part = begun.path.rename(scheme(begun.path, number, count))
        if compress:
            packed = part.with_name(part.name + (".gz" if compress is gzip.compress else ".bz2"))
            packed.write_bytes(compress(part.read_bytes()))
            shutil.copystat(part, packed)
            part.unlink()
    begun.append(99)
    assert later(begun) == [*range(10, 10 + count), 99]


def test_a_part_that_is_being_compressed_is_not_read_twice(begun: Log, later: Later) -> None:
    begun.append(4)
    part = begun.path.rename(f"{begun.path}.1")
    pathlib.Path(f"{part}.gz").write_bytes(gzip.compress(part.read_bytes())[:-9])
    begun.append(5)
    assert later(begun) == [4, 5]


def test_copytruncate(begun: Log, later: Later) -> None:
    begun.append(4)
    shutil.copy(begun.path, f"{begun.path}.1")
    os.truncate(begun.path, 0)
    assert later(begun) == [4]
    begun.append(5)
    assert later(begun) == [5]


def test_copytruncate_of_a_log_that_grew_beyond_what_was_read(begun: Log, later: Later) -> None:
    begun.append(4)
    shutil.copy(begun.path, f"{begun.path}.1")
    os.truncate(begun.path, 0)
    begun.append(*range(10, 40))
    assert later(begun) == [4, *range(10, 40)]


def test_copytruncate_in_the_middle_of_a_line(begun: Log, later: Later) -> None:
    with begun.path.open("a") as file:
        file.write(line(4)[:20])
    assert later(begun) == []
    with begun.path.open("a") as file:
        file.write(line(4)[20:])
    shutil.copy(begun.path, f"{begun.path}.1")
    os.truncate(begun.path, 0)
    begun.append(5)
    assert later(begun) == [4, 5]


def test_copytruncate_twice_under_a_writer_that_does_not_append(log: Log, later: Later) -> None:
    log.path.touch()
    log.read()
    with log.path.open("w") as writer:
        for number in range(1, 4):
            writer.write(line(number) * 50)
            writer.flush()
            assert later(log) == [number] * 50
            for part in (2, 1):
                if (path := pathlib.Path(f"{log.path}.{part}")).exists():
                    path.rename(f"{log.path}.{part + 1}")
            shutil.copy(log.path, f"{log.path}.1")
            os.truncate(log.path, 0)
        writer.write(line(4))
        writer.flush()
        assert log.path.read_bytes()[:1000] == b"\0" * 1000
        assert later(log) == [4]


def test_truncation_without_a_copy_loses_only_what_was_not_read(
    begun: Log, later: Later, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(begun.path, 0)
    begun.append(*range(10, 30))
    assert later(begun) == [*range(10, 30)]
    assert "truncated or replaced" in caplog.text


def test_a_log_that_is_deleted_and_made_again(begun: Log, later: Later) -> None:
    begun.path.unlink()
    assert later(begun) == []
    begun.append(4)
    assert later(begun) == [4]


def test_a_log_that_is_replaced_by_a_copy_of_itself_goes_on(begun: Log, later: Later) -> None:
    copy = begun.path.with_name("copy")
    shutil.copy(begun.path, copy)
    begun.append(4, to=copy)
    copy.rename(begun.path)
    assert later(begun) == [4]


def test_the_directory_is_replaced(begun: Log, tmp_path: pathlib.Path) -> None:
    begun.append(4)
    inner = tmp_path / "inner"
    log = Log(inner / "falco.log")
    inner.mkdir()
    log.append("old")
    log.read()
    log.append(1)
    inner.rename(tmp_path / "away")
    assert log.read() == [1]
    inner.mkdir()
    assert log.read() == []
    log.append(2)
    assert log.read() == [2]
    shutil.rmtree(inner)
    log.restart()
    assert log.read() == []
    assert log.troubles[-1] == "it cannot be read: No such file or directory"
    inner.mkdir()
    log.append(3)
    assert log.read() == [3]
    assert log.troubles[-1] == ""
    log.follower.close()


def test_a_link_that_is_turned(tmp_path: pathlib.Path, later: Later) -> None:
    log = Log(tmp_path / "link")
    (tmp_path / "one").touch()
    log.path.symlink_to("one")
    log.read()
    log.append(1)
    assert later(log) == [1]
    log.path.unlink()
    log.append(2, to=tmp_path / "two")
    log.path.symlink_to("two")
    assert later(log) == [2]
    log.follower.close()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_told_and_waited_for(log: Log, make: t.Callable[[pathlib.Path], None]) -> None:
    make(log.path)
    assert log.read() == []
    assert log.troubles == ["it cannot be read: it is no regular file"]
    if log.path.is_dir():
        log.path.rmdir()
    else:
        log.path.unlink()
    assert log.read() == []
    log.append(1)
    assert log.read() == [1]


def test_permission_that_is_lost(begun: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    begun.append(4)
    begun.path.rename(f"{begun.path}.1")
    begun.append(5)
    real = os.open

    def refuse(path: t.Any, *args: t.Any, **keys: t.Any) -> int:
        if path == begun.path:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **keys)

    monkeypatch.setattr(follow_module.os, "open", refuse)  # tests may run as root, whom nothing is denied
    assert begun.read() == [4]
    assert begun.troubles == ["it cannot be read: Permission denied"]
    monkeypatch.undo()
    begun.append(6)
    assert begun.read() == [5, 6]
    assert begun.troubles[-1] == ""


def test_a_compressed_file_is_told(log: Log) -> None:
    log.read()
    log.path.write_bytes(gzip.compress(b"x"))
    assert log.read() == []
    assert "compressed (gzip)" in log.troubles[-1]


def test_a_damaged_part_is_told_and_passed_over(begun: Log, later: Later, caplog: pytest.LogCaptureFixture) -> None:
    begun.append(4)
    begun.path.rename(f"{begun.path}.2")
    pathlib.Path(f"{begun.path}.1.gz").write_bytes(gzip.compress(line(5).encode())[:-4])
    begun.append(6)
    assert later(begun) == [4, 5, 6]
    assert "falco.log.1.gz cannot be read" in caplog.text


def test_a_part_that_must_not_be_read_does_not_keep_the_log_from_being_read(
    begun: Log, later: Later, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun.append(4)
    begun.path.rename(f"{begun.path}.2")
    begun.append(5, to=pathlib.Path(f"{begun.path}.1"))
    begun.append(6)
    real = pathlib.Path.open

    def refuse(path: pathlib.Path, *args: t.Any, **keys: t.Any) -> t.Any:
        if path.name == "falco.log.1":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **keys)

    monkeypatch.setattr(pathlib.Path, "open", refuse)  # tests may run as root, whom nothing is denied
    assert later(begun) == [4, 6]
    assert caplog.text.count("falco.log.1 cannot be read: Permission denied") == 1


def test_the_log_of_another_thread_is_no_part(tmp_path: pathlib.Path) -> None:
    log = Log(tmp_path / "eve.json")
    log.read()
    log.append(1, to=tmp_path / "eve.9.json")
    log.append(2)
    assert log.read() == [2]
    log.follower.close()


def test_what_is_not_read_is_counted_with_its_line(begun: Log) -> None:
    with begun.path.open("a") as file:
        file.write("text\n\n" + line(4))
    records = [record for batch in drain(begun.follower) for record in batch.records]
    assert [(record.line, bool(record.body)) for record in records] == [(4, False), (6, True)]


def test_messages_in_pieces_are_not_lost_by_a_restart(begun: Log, later: Later) -> None:
    pretty = json.dumps({"number": 4}, indent=1)
    with begun.path.open("a") as file:
        for text in pretty.splitlines():
            assert later(begun) == []
            file.write(f"{text}\n")
            file.flush()
    assert later(begun) == [4]
    stamp = "2026-04-05T12:43:02.9Z {} {} {}\n"
    whole = line(5).rstrip()
    with begun.path.open("a") as file:
        file.write(stamp.format("stdout", "P", whole[:20]) + stamp.format("stderr", "F", line(6).rstrip()))
    assert later(begun) == [6]
    with begun.path.open("a") as file:
        file.write(stamp.format("stdout", "F", whole[20:]))
    assert later(begun) == [5]


@pytest.mark.parametrize(
    "value",
    [None, {}, [], "x", {**Position().to_dict(), "seen": -1}, {**Position().to_dict(), "mark": {}, "more": 1},
     {**Position().to_dict(), "inode": "1"}, {**Position().to_dict(), "head": None},
     {**Position().to_dict(), "mark": {"position": 1}}, {**Position().to_dict(), "mark": {"encoding": "rot13"}}],
)  # fmt: skip
def test_what_is_no_position_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no position"):
        Position.from_dict(value)


async def test_follow_waits_for_what_comes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "falco.log"
    batches = follow(path, interval=0.01)
    first = await anext(batches)
    assert first.records == ()
    got: list[t.Any] = []
    for step in range(3):
        with path.open("a") as file:
            file.write(line(step))
        got += numbers([await anext(batches)])
        path.rename(f"{path}.{9 - step}")
    assert got == [0, 1, 2]
    await batches.aclose()  # type: ignore[attr-defined]


async def test_follow_ends_when_it_is_cancelled_and_leaves_nothing_open(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "falco.log"
    path.touch()
    began = asyncio.Event()

    async def run() -> None:
        async for _batch in follow(path, interval=0.01):
            began.set()

    task = asyncio.create_task(run())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held = [
        os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{number}")
    ]
    assert str(path) not in held


@pytest.mark.parametrize("seed", range(3))
async def test_a_log_that_lives_while_it_is_followed(tmp_path: pathlib.Path, seed: int) -> None:
    path = tmp_path / "falco.log"
    chance = random.Random(seed)  # noqa: S311 - the same life each time
    count = 3000

    def live() -> None:
        for number in range(count):
            with path.open("a") as file:
                file.write(line(number))
            what = chance.random()
            if what < 0.01:
                for index in range(60, 0, -1):
                    if (part := pathlib.Path(f"{path}.{index}")).exists():
                        part.rename(f"{path}.{index + 1}")
                if what < 0.005:
                    path.rename(f"{path}.1")
                else:
                    shutil.copy(path, f"{path}.1")
                    os.truncate(path, 0)

    taken: list[t.Any] = []
    batches = follow(path, interval=0.001)
    await anext(batches)
    async with asyncio.timeout(60):
        writing = asyncio.create_task(asyncio.to_thread(live))
        while len(taken) < count:
            taken += numbers([await anext(batches)])
        await writing
    await batches.aclose()  # type: ignore[attr-defined]
    assert taken == list(range(count))


class Life(RuleBasedStateMachine):
    """What may become of a log, in any order; whatever it is, each line is taken once, in order."""

    chunk = follow_module.CHUNK

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(follow_module, "CHUNK", self.chunk)
        self.directory = pathlib.Path(tempfile.mkdtemp())
        self.log = Log(self.directory / "falco.log")
        self.written: list[int] = []
        self.count = itertools.count()
        self.half = ""
        self.writer: pathlib.Path | None = None

    @initialize(there=st.booleans())
    def begin(self, there: bool) -> None:
        if there:
            self.log.append("old")
        batch = self.log.follower.poll()
        assert batch
        self.log.store([batch])

    def write(self, content: str) -> None:
        with self.log.path.open("a") as file:
            file.write(content)

    def whole(self) -> None:
        """Write what is left of a half-written line."""
        if self.half:
            self.write(self.half)
            self.half = ""

    @rule(lines=st.integers(1, 60))
    def append(self, lines: int) -> None:
        self.whole()
        for _line in range(lines):
            number = next(self.count)
            self.written.append(number)
            self.write(line(number))

    @rule(size=st.integers(1, 40))
    def append_half(self, size: int) -> None:
        self.whole()
        number = next(self.count)
        self.written.append(number)
        self.write(line(number)[:size])
        self.half = line(number)[size:]

    def shift(self) -> None:
        for index in range(30, 0, -1):
            for suffix in ("", ".gz"):
                part = pathlib.Path(f"{self.log.path}.{index}{suffix}")
                if part.exists():
                    part.rename(f"{self.log.path}.{index + 1}{suffix}")

    @precondition(lambda self: self.log.path.exists())
    @rule(late=st.booleans(), create=st.booleans())
    def rotate(self, late: bool, create: bool) -> None:
        self.whole()
        self.shift()
        part = self.log.path.rename(f"{self.log.path}.1")
        if late:
            number = next(self.count)
            self.written.append(number)
            self.log.append(number, to=part)
        if create:
            self.log.path.touch()

    @precondition(lambda self: self.log.path.exists())
    @rule()
    def copytruncate(self) -> None:
        self.whole()
        self.shift()
        shutil.copy(self.log.path, f"{self.log.path}.1")
        os.truncate(self.log.path, 0)

    @rule(index=st.integers(1, 5))
    def compress(self, index: int) -> None:
        part = pathlib.Path(f"{self.log.path}.{index}")
        if part.exists():
            packed = pathlib.Path(f"{part}.gz")
            packed.write_bytes(gzip.compress(part.read_bytes()))
            shutil.copystat(part, packed)
            part.unlink()

    @rule(polls=st.integers(1, 4))
    def poll(self, polls: int) -> None:
        self.log.store(batch for _poll in range(polls) if (batch := self.log.follower.poll()))

    @rule()
    def crash(self) -> None:
        """What was read last is not stored, and so it comes again."""
        self.log.follower.poll()
        self.log.restart()

    @rule()
    def restart(self) -> None:
        self.log.restart()

    @invariant()
    def taken_in_order(self) -> None:
        assert self.log.taken == self.written[: len(self.log.taken)]

    def teardown(self) -> None:
        self.whole()
        self.log.read()
        self.log.follower.close()
        self.patch.undo()
        shutil.rmtree(self.directory)
        assert self.log.taken == self.written


class LifeInSmallChunks(Life):
    """The same, with lines longer than what is read at a time."""

    chunk = 40


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
test_life = Life.TestCase
LifeInSmallChunks.TestCase.settings = Life.TestCase.settings
test_life_in_small_chunks = LifeInSmallChunks.TestCase


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
