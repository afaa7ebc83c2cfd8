# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state directory on disks that are full, read-only, and healed."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import subprocess
import sys
import threading
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils import _state_dir
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import Busy, StateDir, StateDirError
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils.disks import Disk, kill_at_every_call

ENTRY = "isolations/abc.json"
LOG = "actions.jsonl"


@pytest.fixture
def disk(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Disk]:
    disk = Disk(tmp_path / "disk", monkeypatch)
    yield disk
    disk.close()


@pytest.fixture
def run(tmp_path: pathlib.Path) -> pathlib.Path:
    """What stands for /run."""
    directory = tmp_path / "run"
    directory.mkdir()
    return directory


@pytest.fixture
def files(disk: Disk, run: pathlib.Path) -> t.Callable[[], StateDir]:
    """As each process has one of its own."""
    return lambda: StateDir(str(disk.path / "state"), str(run / "container-guard"))


Files = t.Callable[[], StateDir]
SICK = pytest.mark.parametrize("sicken", [Disk.fill, Disk.take_inodes, Disk.freeze])


def kept(state: StateDir) -> list[str]:
    """What the fallback holds."""
    root = pathlib.Path(state.fallback)
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith("locks") and "/." not in f"/{name}")


def test_what_is_written_is_read(files: Files) -> None:
    assert files().read(ENTRY) is None
    files().write(ENTRY, "né")
    files().write("limits.json", "{}")
    assert files().read(ENTRY) == "né".encode()
    assert (files().names("isolations"), files().names()) == ([ENTRY], ["limits.json"])
    files().remove(ENTRY)
    files().remove(ENTRY)
    assert (files().read(ENTRY), files().names("isolations")) == (None, [])
    assert kept(files()) == []


def test_nobody_else_can_read_it(files: Files, disk: Disk) -> None:
    def use() -> None:
        state = files()
        state.write(ENTRY, "new")
        state.append(LOG, b"line\n")
        with state.lock("abc"):
            for root in (state.path, state.fallback):
                for path in (pathlib.Path(root), *pathlib.Path(root).rglob("*")):
                    assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)

    use()
    disk.fill()
    use()
    assert kept(files()) == [ENTRY]


@SICK
def test_a_disk_that_takes_nothing_keeps_nothing_from_being_remembered(
    files: Files, disk: Disk, sicken: t.Callable[[Disk], None]
) -> None:
    files().write(ENTRY, "old")
    sicken(disk)
    state = files()
    for content in ("new", "newer"):
        state.write(ENTRY, content)
        assert (files().read(ENTRY), files().names("isolations")) == (content.encode(), [ENTRY])
    (warning,) = state.warnings
    assert state.path in warning
    assert "reboot" in warning
    disk.heal()
    healed = files()
    healed.write("limits.json", "{}")
    assert (kept(healed), healed.read(ENTRY)) == ([], b"newer")
    (warning,) = healed.warnings
    assert "1 files" in warning
    assert pathlib.Path(healed.path, ENTRY).read_text() == "newer"


@SICK
def test_it_starts_on_a_disk_that_takes_nothing(files: Files, disk: Disk, sicken: t.Callable[[Disk], None]) -> None:
    sicken(disk)
    files().write(ENTRY, "new")
    with files().lock("abc"), pytest.raises(Busy), files().lock("abc", timeout=0):
        pass
    assert (files().read(ENTRY), files().names("isolations")) == (b"new", [ENTRY])


def test_what_is_removed_from_a_read_only_disk_does_not_come_back(files: Files, disk: Disk) -> None:
    files().write(ENTRY, "old")
    disk.freeze()
    files().remove(ENTRY)
    for _ in range(2):
        assert (files().read(ENTRY), files().names("isolations")) == (None, [])
        disk.heal()
    files().carry_over()
    assert (files().read(ENTRY), kept(files()), pathlib.Path(files().path, ENTRY).exists()) == (None, [], False)


def test_what_is_isolated_again_after_such_a_removal_is_there(files: Files, disk: Disk) -> None:
    files().write(ENTRY, "old")
    disk.freeze()
    files().remove(ENTRY)
    files().write(ENTRY, "new")
    assert (files().read(ENTRY), files().names("isolations")) == (b"new", [ENTRY])
    disk.heal()
    files().carry_over()
    assert (files().read(ENTRY), kept(files())) == (b"new", [])


def test_on_a_full_disk_what_ends_is_removed(files: Files, disk: Disk) -> None:
    files().write(ENTRY, "old")
    disk.fill()
    files().remove(ENTRY)
    assert (files().read(ENTRY), kept(files())) == (None, [])


def test_a_log_goes_on_in_memory_and_is_joined_again(files: Files, disk: Disk) -> None:
    files().append(LOG, b"1\n2\n")
    disk.freeze()
    files().append(LOG, b"3\n")
    files().append(LOG, b"4\n")
    assert files().read(LOG) == b"1\n2\n3\n4\n"
    assert files().read(LOG, last=2) == b"2\n3\n4\n"
    assert files().size(LOG) == 8
    assert files().rotate(LOG, 3) is False
    disk.heal()
    files().append(LOG, b"5\n")
    assert (files().read(LOG), kept(files())) == (b"1\n2\n3\n4\n5\n", [])


def test_a_log_that_a_full_disk_takes_half_of_is_as_before(files: Files, disk: Disk) -> None:
    files().append(LOG, b"1\n")
    disk.fill()
    lines = b"".join(b"%d\n" % number for number in range(2000))
    files().append(LOG, lines)
    assert files().read(LOG) == b"1\n" + lines
    assert pathlib.Path(files().path, LOG).read_bytes() == b"1\n"


def test_memory_does_not_run_full_too(files: Files, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_state_dir, "MAX_LOG_IN_MEMORY", 100)
    files().append(LOG, b"1\n")
    disk.freeze()
    with pytest.raises(StateDirError, match=r"nor is .* of use: File too large") as raised:
        files().append(LOG, b"123456789\n" * 11)
    files().append(LOG, b"123456789\n" * 10)
    with pytest.raises(StateDirError, match="File too large"):
        files().append(LOG, b"2\n")
    assert raised.value.kind == "state_dir_error"
    assert files().size(LOG) == 102


def test_a_torn_line_is_ended_before_the_next(files: Files) -> None:
    files().append(LOG, b"1\n")
    with pathlib.Path(files().path, LOG).open("ab") as file:
        file.write(b"tor")
    files().append(LOG, b"2\n")
    assert files().read(LOG) == b"1\ntor\n2\n"


def test_logs_are_rotated(files: Files) -> None:
    for number in range(5):
        files().append(LOG, b"%d\n" % number)
        assert files().rotate(LOG, 3) is True
    assert files().names() == [f"{LOG}.{number}" for number in (1, 2, 3)]
    assert [files().read(f"{LOG}.{number}") for number in (1, 2, 3)] == [b"4\n", b"3\n", b"2\n"]


def test_what_is_too_large_is_not_read(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    files().write(ENTRY, "12345")
    monkeypatch.setattr(_state_dir, "MAX_FILE", 4)
    with pytest.raises(StateDirError, match=r"cannot read .*too large"):
        files().read(ENTRY)


@pytest.mark.parametrize("name", ["../x", "a/../x", "/etc/passwd", "", ".new-x", "a/b/c", "a\n", "x" * 300])
def test_a_name_that_is_a_path_is_refused(files: Files, name: str) -> None:
    for use in (files().read, files().remove, lambda name: files().write(name, "x")):
        with pytest.raises(StateDirError, match="cannot be the name of a file"):
            use(name)


def test_a_mistake_is_no_lack_of_space(tmp_path: pathlib.Path, run: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    state = StateDir(str(tmp_path / "file" / "state"), str(run / "guard"))
    with pytest.raises(StateDirError, match="Not a directory") as raised:
        state.write(ENTRY, "new")
    assert "state_dir" in raised.value.remedy
    assert kept(state) == []


def test_without_a_place_for_the_fallback_the_error_names_both(disk: Disk, tmp_path: pathlib.Path) -> None:
    state = StateDir(str(disk.path / "state"), str(tmp_path / "none" / "guard"))
    state.write(ENTRY, "old")
    disk.freeze()
    with pytest.raises(StateDirError, match=r"Read-only file system; nor is .*none/guard.* of use: No such file"):
        state.write(ENTRY, "new")
    disk.heal()
    with state.lock("abc"), pytest.raises(Busy), StateDir(state.path, state.fallback).lock("abc", timeout=0):
        pass


def _link(path: pathlib.Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to(path.parent / "elsewhere")


def _writable(path: pathlib.Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def _foreign(path: pathlib.Path) -> None:
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345)


@pytest.mark.parametrize("make", [_link, _writable, *([_foreign] if os.geteuid() == 0 else [])])
def test_a_fallback_that_somebody_else_may_have_made_is_not_used(
    disk: Disk, run: pathlib.Path, make: t.Callable[[pathlib.Path], None]
) -> None:
    make(run / "guard")
    planted = pathlib.Path(StateDir(str(disk.path / "state"), str(run / "guard")).fallback, ENTRY)
    planted.parent.mkdir(parents=True)
    planted.write_text("planted")
    state = StateDir(str(disk.path / "state"), str(run / "guard"))
    state.write(ENTRY, "old")
    assert (state.read(ENTRY), state.names("isolations")) == (b"old", [ENTRY])
    assert any("is not used" in warning for warning in state.warnings) == (os.geteuid() == 0)
    disk.freeze()
    with pytest.raises(StateDirError, match="Read-only file system; nor is"):
        state.write(ENTRY, "new")
    with pytest.raises(StateDirError, match=r"Read-only|guard"), state.lock("abc"):
        pass
    assert planted.read_text() == "planted"


def test_two_state_directories_never_mix(disk: Disk, run: pathlib.Path) -> None:
    fallback = str(run / "guard")
    one, other = StateDir(str(disk.path / "one"), fallback), StateDir(str(disk.path / "other"), fallback)
    default = StateDir(fallback=fallback)
    assert default.fallback == fallback
    disk.fill()
    one.write(ENTRY, "one")
    assert (one.read(ENTRY), other.read(ENTRY)) == (b"one", None)
    with one.lock("abc"), other.lock("abc", timeout=0):
        pass
    disk.heal()
    other.carry_over()
    assert kept(one) == [ENTRY]


def test_the_same_directory_spelled_differently_is_the_same(disk: Disk, run: pathlib.Path) -> None:
    (disk.path / "link").symlink_to(disk.path / "state")
    spellings = (disk.path / "state", f"{disk.path}/./state/", disk.path / "link")
    assert len({StateDir(str(path), str(run / "guard")).fallback for path in spellings}) == 1


def test_leftovers_of_killed_writers_are_swept(files: Files) -> None:
    files().write(ENTRY, "old")
    directory = pathlib.Path(files().path, "isolations")
    for name, age in ((".new-stale", 4000), (".new-fresh", 10)):
        (directory / name).write_text("x")
        os.utime(directory / name, (time.time() - age,) * 2)
    assert files().names("isolations") == [ENTRY]
    files().write(ENTRY, "new")
    assert sorted(path.name for path in directory.iterdir()) == [".new-fresh", "abc.json"]


class TestLock:
    """Whoever works on one thing, works on it alone."""

    def test_another_holder_is_busy_at_once_or_after_a_time(self, files: Files) -> None:
        with files().lock("abc"):
            for timeout in (0, 0.05):
                with pytest.raises(Busy) as raised, files().lock("abc", timeout=timeout):
                    pass
                assert raised.value.kind == "busy"
            with files().lock("other", timeout=0):
                pass
        with files().lock("abc", timeout=0):
            pass

    def test_no_file_is_left(self, files: Files) -> None:
        with files().lock("abc"):
            pass
        roots = (pathlib.Path(files().path), pathlib.Path(files().fallback))
        assert [path for root in roots for path in root.rglob("*") if path.is_file()] == []

    @pytest.mark.parametrize("sicken", [Disk.fill, Disk.take_inodes])
    def test_a_disk_that_runs_full_between_two_processes(
        self, files: Files, disk: Disk, sicken: t.Callable[[Disk], None]
    ) -> None:
        with files().lock("abc"):
            sicken(disk)
            with pytest.raises(Busy), files().lock("abc", timeout=0):
                pass
            disk.heal()
            with pytest.raises(Busy), files().lock("abc", timeout=0):
                pass

    @SICK
    def test_a_disk_that_is_healed_between_two_processes(
        self, files: Files, disk: Disk, sicken: t.Callable[[Disk], None]
    ) -> None:
        sicken(disk)
        with files().lock("abc"):
            disk.heal()
            with pytest.raises(Busy), files().lock("abc", timeout=0):
                pass

    def test_a_run_directory_that_is_not_shared(self, disk: Disk, run: pathlib.Path) -> None:
        here, there = (StateDir(str(disk.path / "state"), str(run / name)) for name in ("here", "there"))
        with here.lock("abc"), pytest.raises(Busy), there.lock("abc", timeout=0):
            pass

    def test_threads_take_turns(self, files: Files) -> None:
        inside: list[int] = []
        most: list[int] = []
        state = files()

        def work() -> None:
            for _ in range(10):
                with state.lock("abc"):
                    inside.append(1)
                    most.append(len(inside))
                    os.sched_yield()
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (max(most), len(most)) == (1, 40)


_COUNT = f"""
import os
import sys
from {StateDir.__module__} import StateDir
for number in range(25):
    state = StateDir(sys.argv[1], sys.argv[2])
    with state.lock("number"):
        state.write("number.json", str(int(state.read("number.json") or b"0") + 1))
    with state.lock("log"):
        state.append("log.jsonl", b"%d %d\\n" % (os.getpid(), number))
"""


def test_processes_at_once_lose_nothing_while_the_disk_runs_full_and_is_healed(
    files: Files, disk: Disk, run: pathlib.Path
) -> None:
    state = files()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _COUNT, state.path, str(run / "container-guard")]
    writers = [subprocess.Popen(command, env=environment) for _ in range(3)]
    while any(writer.poll() is None for writer in writers):
        disk.fill()
        disk.heal()
    assert [writer.wait() for writer in writers] == [0] * 3
    state.carry_over()
    assert (state.read("number.json"), kept(state)) == (b"75", [])
    lines = (state.read("log.jsonl") or b"").splitlines()
    assert (len(lines), len(set(lines))) == (75, 75)


class TestKilled:
    """A process that is killed before any of its system calls leaves what was or what is to be."""

    @pytest.fixture(autouse=True)
    def _kept(self, files: Files, disk: Disk) -> None:
        self.files, self.disk = files, disk

    def start(self, content: str = "old", also_held: str = "") -> None:
        """An entry on the disk and, where given, a newer one in the fallback."""
        self.disk.heal()
        for directory in (self.files().path, self.files().fallback):
            shutil.rmtree(directory, ignore_errors=True)
        self.files().write(ENTRY, content)
        if also_held:
            self.disk.freeze()
            self.files().write(ENTRY, also_held)
            self.disk.heal()

    def settled(self) -> bytes | None:
        """What is read at last; at once and once it was carried over that is the same."""
        at_once = self.files().read(ENTRY)
        self.disk.heal()
        self.files().carry_over()
        state = self.files()
        assert (state.read(ENTRY), kept(state)) == (at_once, [])
        assert state.names("isolations") == ([ENTRY] if at_once else [])
        return at_once

    def test_while_it_writes(self) -> None:
        found = [self.settled() for _ in kill_at_every_call(self.start, lambda: self.files().write(ENTRY, "new"))]
        assert (found[0], found[-1], set(found)) == (b"old", b"new", {b"old", b"new"})

    @SICK
    def test_while_it_writes_to_a_disk_that_takes_nothing(self, sicken: t.Callable[[Disk], None]) -> None:
        def prepare() -> None:
            self.start()
            sicken(self.disk)

        found = [self.settled() for _ in kill_at_every_call(prepare, lambda: self.files().write(ENTRY, "new"))]
        assert (found[0], found[-1], set(found)) == (b"old", b"new", {b"old", b"new"})

    def test_while_it_writes_what_the_fallback_holds_to_a_healed_disk(self) -> None:
        def prepare() -> None:
            self.start("older", "old")

        found = [self.settled() for _ in kill_at_every_call(prepare, lambda: self.files().write(ENTRY, "new"))]
        assert (found[0], found[-1], set(found)) == (b"old", b"new", {b"old", b"new"})

    def test_while_it_removes_what_it_cannot_remove(self) -> None:
        def prepare() -> None:
            self.start()
            self.disk.freeze()

        found = [self.settled() for _ in kill_at_every_call(prepare, lambda: self.files().remove(ENTRY))]
        assert (found[0], found[-1], set(found)) == (b"old", None, {b"old", None})

    def test_while_it_carries_over(self) -> None:
        def prepare() -> None:
            self.start("older", "old")

        found = {self.settled() for _ in kill_at_every_call(prepare, lambda: self.files().carry_over())}
        assert found == {b"old"}

    def test_while_it_carries_a_removal_over(self) -> None:
        def prepare() -> None:
            self.start()
            self.disk.freeze()
            self.files().remove(ENTRY)
            self.disk.heal()

        found = {self.settled() for _ in kill_at_every_call(prepare, lambda: self.files().carry_over())}
        assert found == {None}

    def test_while_it_appends_to_a_disk_that_takes_nothing(self) -> None:
        def prepare() -> None:
            self.start()
            self.files().append(LOG, b"first line\n")
            self.disk.freeze()

        ends = set()
        for _ in kill_at_every_call(prepare, lambda: self.files().append(LOG, b"second line\nthird line\n")):
            found = self.files().read(LOG)
            assert b"first line\nsecond line\nthird line\n".startswith(found or b"")
            self.settled()
            assert self.files().read(LOG) == found
            ends.add(found)
        assert {b"first line\n", b"first line\nsecond line\nthird line\n"} <= ends

    def test_while_it_carries_a_log_over(self) -> None:
        def prepare() -> None:
            self.start()
            self.files().append(LOG, b"first line\n")
            self.disk.freeze()
            self.files().append(LOG, b"second line\nthird line\n")
            self.disk.heal()

        for _ in kill_at_every_call(prepare, lambda: self.files().carry_over()):
            assert self.files().read(LOG) == b"first line\nsecond line\nthird line\n"
            self.settled()
            assert self.files().read(LOG) == b"first line\nsecond line\nthird line\n"

    def test_while_it_rotates(self) -> None:
        def prepare() -> None:
            self.start()
            for number in range(3):
                self.files().append(LOG, b"line %d\n" % number)
                if number < 2:
                    self.files().rotate(LOG, 3)

        names = (f"{LOG}.3", f"{LOG}.2", f"{LOG}.1", LOG)
        for _ in kill_at_every_call(prepare, lambda: self.files().rotate(LOG, 3)):
            found = b"".join(self.files().read(name) or b"" for name in names)
            assert found == b"line 0\nline 1\nline 2\n"
            assert self.files().rotate(LOG, 3) is True, "the next rotation goes on from there"

    def test_while_it_holds_a_lock(self) -> None:
        def work() -> None:
            with self.files().lock("abc", timeout=0):
                pass

        for _ in kill_at_every_call(self.start, work):
            with self.files().lock("abc", timeout=0):
                pass
