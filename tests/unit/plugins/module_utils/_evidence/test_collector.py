# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evidence of a container of the fake engine, on a real disk."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import tarfile
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    NotFound,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence import case_files, json_text
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection import Case
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.errors import EvidenceError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import (
    Item,
    Manifest,
    Request,
    case_id,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.verify import verify
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import KINDS, VOLATILE
from ansible_collections.ironpost.container_guard.tests.fakes.engine import PIECE, FakeEngine
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._evidence.conftest import Clock

Make = t.Callable[..., Collector]
KIB_64 = 64 * 1024


def item(case: Case, kind: str) -> Item:
    (found,) = (item for item in case.manifest.items if item.kind == kind)
    return found


def content(case: Case, kind: str) -> bytes:
    return (pathlib.Path(case.directory) / item(case, kind).file).read_bytes()


def on_disk(directory: pathlib.Path) -> dict[str, t.Any]:
    found: dict[str, t.Any] = json.loads((directory / "manifest.json").read_text())
    return found


def test_everything_of_a_running_container(container: str, collector: Make, state_dir: pathlib.Path) -> None:
    request = Request(reason="INC-1", trace_id="trace-1", alert_id="alert-1", policy_id="shells")
    case = collector().collect(container, KINDS, ["/etc"], request)
    assert (case.kept, case.problem, case.shortcomings) == (True, "", [])
    kinds = [item.kind for item in case.manifest.items]
    assert kinds == ["inspect", "top", "stats", "changes", "logs", "archive", "export"]
    assert {item.status for item in case.manifest.items} == {"collected"}
    assert json.loads(content(case, "inspect"))["Id"] == container
    assert json.loads(content(case, "top"))["Processes"][0][1] == "sleep 3600"
    assert json.loads(content(case, "changes")) == [
        {"Kind": 1, "Path": "/etc/passwd"},
        {"Kind": 1, "Path": "/root/x"},
    ]
    assert content(case, "changes").startswith(b'[\n {\n  "Kind": 1,\n  "Path"')
    assert content(case, "logs") == b"one\ntwo\nthree\n"
    with tarfile.open(pathlib.Path(case.directory) / "archive-1.tar") as archive:
        assert archive.getnames() == ["etc/passwd"]
    with tarfile.open(pathlib.Path(case.directory) / "export.tar") as archive:
        assert archive.getnames() == ["etc/passwd", "root/x"]

    manifest = case.manifest
    assert case_id(manifest.case_id)
    assert case.directory == str(state_dir / "evidence" / manifest.case_id)
    assert manifest.case_id[17:29] == container[:12]
    assert (manifest.status, manifest.state, manifest.host) == ("complete", "running", "web-1")
    assert (manifest.engine, manifest.api, manifest.request) == ("20.10.24", "1.41", request)
    assert manifest.container == {"id": container, "name": "web", "image": "container-guard/busybox:latest"}
    assert manifest.started <= manifest.items[0].started <= manifest.items[-1].ended <= manifest.ended
    for one in manifest.items:
        data = (pathlib.Path(case.directory) / one.file).read_bytes()
        assert (one.bytes, one.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert verify(case.directory, manifest.sha256) == (manifest, manifest.sha256, [])


def test_nobody_else_can_read_it(container: str, collector: Make, state_dir: pathlib.Path) -> None:
    case = collector().collect(container, KINDS)
    directory = pathlib.Path(case.directory)
    for path in (state_dir, directory.parent, directory):
        assert path.stat().st_mode & 0o7777 == 0o700
    assert {path.stat().st_mode & 0o7777 for path in directory.iterdir()} == {0o600}


def test_each_run_is_a_case_of_its_own(container: str, collector: Make) -> None:
    assert len({collector().collect(container, ["top"]).directory for _number in range(5)}) == 5


@pytest.mark.parametrize("state", ["created", "restarting", "exited"])
def test_without_processes_the_rest_is_collected(engine: FakeEngine, collector: Make, state: str) -> None:
    container = engine.add_container("web", state=state, restart_policy=("always", 0))
    case = collector().collect(container, KINDS)
    assert [one.kind for one in case.manifest.items if one.status == "collected"] == [
        "inspect",
        "changes",
        "logs",
        "export",
    ]
    assert case.shortcomings == [
        f"{kind}: unavailable, the container is {state}, so it has no processes" for kind in ("top", "stats")
    ]
    assert not {"top.json", "stats.json"} & set(os.listdir(case.directory))
    assert verify(case.directory).problems == []


def test_a_paused_container_has_all(engine: FakeEngine, collector: Make) -> None:
    case = collector().collect(engine.add_container("web", state="paused"), KINDS)
    assert (case.manifest.state, case.shortcomings) == ("paused", [])


def test_before_and_after_it_is_stopped(engine: FakeEngine, container: str, collector: Make) -> None:
    """How an isolation collects: what vanishes before it acts, the rest afterwards."""
    collection = collector().begin(container, KINDS)
    collection.take(VOLATILE)
    engine.stop(container, 0)
    case = collection.finish()
    assert case.shortcomings == []
    methods = [method for method, _arguments in engine.calls if method != "inspect_container"]
    assert methods == ["version", "top", "stats", "stop", "changed_files", "logs", "export"]


def test_what_was_asked_for_twice_is_collected_once(container: str, collector: Make) -> None:
    case = collector().collect(container, ["logs", "top", "logs"], ["/etc/", "//etc", "/root/../etc"])
    assert [(one.kind, one.path) for one in case.manifest.items] == [("top", ""), ("logs", ""), ("archive", "/etc")]


def test_archives_are_numbered_and_their_paths_are_no_file_names(container: str, collector: Make) -> None:
    case = collector().collect(container, [], ["/etc", "/no/such/../../{{ path }}", "/root"])
    assert [(one.path, one.status, one.file) for one in case.manifest.items] == [
        ("/etc", "collected", "archive-1.tar"),
        ("/{{ path }}", "unavailable", ""),
        ("/root", "collected", "archive-3.tar"),
    ]
    assert case.shortcomings == ["archive /{ { path }}: unavailable, the container has no such path"]


@pytest.mark.parametrize(
    ("kinds", "paths", "message"),
    [
        ([], [], "nothing to collect"),
        (["memory"], [], "'memory' is not one of inspect, top, stats, changes, logs, export"),
        (["archive"], [], "'archive' is not one of"),
        (["top"], ["etc"], "not an absolute path"),
        (["top"], [""], "not an absolute path"),
        (["top"], ["/a\x00b"], "not an absolute path"),
        (["top"], ["/a\nb"], "not an absolute path"),
        (["top"], ["/" + "a" * 4096], "not an absolute path"),
        (["top"], [f"/{number}" for number in range(101)], "takes up to 100"),
    ],
)
def test_what_cannot_be_collected(
    container: str, collector: Make, state_dir: pathlib.Path, kinds: list[str], paths: list[str], message: str
) -> None:
    with pytest.raises(EvidenceError, match=message) as caught:
        collector().collect(container, kinds, paths)
    assert caught.value.kind == "invalid_evidence"
    assert not state_dir.exists()


@pytest.mark.parametrize("method", ["inspect_container", "version"])
def test_nothing_is_written_where_the_engine_does_not_say_what_it_is(
    engine: FakeEngine, container: str, collector: Make, state_dir: pathlib.Path, method: str
) -> None:
    engine.fail_next(method, EngineTimeout("no answer"))
    with pytest.raises(EngineTimeout):
        collector().collect(container, KINDS)
    assert not state_dir.exists()


def test_another_container_named_like_the_id_is_not_meant(engine: FakeEngine, collector: Make) -> None:
    engine.add_container("f" * 64)
    with pytest.raises(NotFound, match="removed just now"):
        collector().collect("f" * 64, KINDS)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_stream_over_its_bound_is_cut(container: str, collector: Make) -> None:
    case = collector(max_bytes=KIB_64).collect(container, KINDS, ["/root"])
    for kind in ("archive", "export"):
        found = item(case, kind)
        assert (found.status, found.reason) == ("truncated", "cut at 65536 bytes (max_bytes)")
        assert found.bytes == KIB_64
        assert found.sha256 == hashlib.sha256(content(case, kind)).hexdigest()
    assert item(case, "logs").status == "collected"
    assert case.kept
    assert verify(case.directory).problems == []


def test_a_stream_of_exactly_its_bound_is_whole(engine: FakeEngine, container: str, collector: Make) -> None:
    engine.fill(container, log=b"x" * KIB_64)
    assert item(collector(max_bytes=KIB_64).collect(container, ["logs"]), "logs").status == "collected"
    engine.fill(container, log=b"x" * (KIB_64 + 1))
    cut = item(collector(max_bytes=KIB_64).collect(container, ["logs"]), "logs")
    assert (cut.status, cut.bytes) == ("truncated", KIB_64)
    assert "ask for fewer log_lines" in cut.reason


def test_the_last_lines_of_the_log(container: str, collector: Make) -> None:
    assert content(collector(log_lines=2).collect(container, ["logs"]), "logs") == b"two\nthree\n"


def test_an_item_that_takes_too_long_is_cut(container: str, collector: Make, clock: Clock) -> None:
    clock.step = 0.4
    case = collector(item_timeout=5).collect(container, ["changes", "export"])
    found = item(case, "export")
    assert (found.status, found.reason) == ("truncated", "cut after 5 seconds (item_timeout)")
    assert found.bytes % PIECE == 0
    assert 0 < found.bytes < 300_000
    assert item(case, "changes").status == "collected"


def test_a_full_file_system_is_left_alone(
    container: str, collector: Make, state_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_files, "RESERVE", 2**70)
    with pytest.raises(EvidenceError, match=r"state/evidence has \d+ bytes free, and a collection leaves") as caught:
        collector().collect(container, KINDS)
    assert caught.value.kind == "no_space"
    assert os.listdir(state_dir / "evidence") == []


def test_a_file_system_that_fills_up_cuts(container: str, collector: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    left = iter([2**40, 2**40, case_files.RESERVE + 100])
    monkeypatch.setattr(case_files.EvidenceFile, "free", lambda self: next(left))
    found = item(collector().collect(container, ["export"]), "export")
    assert (found.status, found.bytes) == ("truncated", 2 * PIECE + 100)
    assert "of the file system free" in found.reason


def test_json_that_is_too_large_for_memory_is_kept_as_it_is_sent(
    engine: FakeEngine, container: str, collector: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "LIMIT", 3 * PIECE)
    engine.fill(container, files={f"/tmp/{number}": b"" for number in range(5_000)})
    case = collector().collect(container, ["changes"])
    assert b"\n" not in content(case, "changes").rstrip()
    assert len(json.loads(content(case, "changes"))) == 5_000
    cut = collector(max_bytes=KIB_64).collect(container, ["changes"])
    assert (item(cut, "changes").status, len(content(cut, "changes"))) == ("truncated", KIB_64)


@pytest.mark.parametrize("answer", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"<html>"])
def test_what_is_no_json_is_kept_as_it_is_sent(answer: bytes) -> None:
    assert b"".join(json_text.readable(iter([answer]))) == answer


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["top", "stats", "changed_files", "logs", "archive", "export"])
@pytest.mark.parametrize(
    ("error", "status"),
    [(EngineUnreachable("gone"), "failed"), (EngineError("oops", status=500), "failed"), (RuntimeError(), "failed")],
)
def test_one_item_that_fails_does_not_stop_the_others(
    engine: FakeEngine, container: str, collector: Make, kind: str, error: Exception, status: str
) -> None:
    engine.fail_next(kind, error)
    case = collector().collect(container, KINDS, ["/etc"])
    found = [one for one in case.manifest.items if one.status != "collected"]
    assert [(one.kind, one.status, one.file) for one in found] == [
        (kind.replace("changed_files", "changes"), status, "")
    ]
    assert verify(case.directory).problems == []


def test_what_came_before_an_error_is_kept(engine: FakeEngine, container: str, collector: Make) -> None:
    engine.break_off("export", EngineTimeout("cannot export container: no answer", remedy="Look"), 40_000)
    case = collector().collect(container, ["export", "logs"])
    found = item(case, "export")
    assert (found.status, found.bytes, found.file) == ("failed", 40_000, "export.tar")
    assert found.reason == "cannot export container: no answer. Look"
    assert item(case, "logs").status == "collected"
    assert verify(case.directory).problems == []


def test_an_archive_that_ends_too_early_is_found(engine: FakeEngine, container: str, collector: Make) -> None:
    """An engine that fails once it has begun to answer can only end its answer."""

    def pieces(container_id: str) -> t.Generator[bytes, None, None]:
        yield b"x" * 4096

    engine.export = pieces  # type: ignore[assignment,method-assign]  # a fault that the fake does not know
    found = item(collector().collect(container, ["export"]), "export")
    assert (found.status, found.reason) == ("failed", "the engine ended the archive before its end")
    assert found.bytes == 4096


def test_a_container_that_is_removed_meanwhile(engine: FakeEngine, container: str, collector: Make) -> None:
    collection = collector().begin(container, KINDS, ["/etc"])
    engine.remove_container(container)
    case = collection.finish()
    assert item(case, "inspect").status == "collected"
    assert case.shortcomings == [
        f"{what}: unavailable, the container no longer exists"
        for what in ("top", "stats", "changes", "logs", "archive /etc", "export")
    ]


def test_a_container_that_stops_meanwhile(engine: FakeEngine, container: str, collector: Make) -> None:
    engine.before("top", lambda: engine.stop(container, 0))
    found = item(collector().collect(container, ["top"]), "top")
    assert found.status == "unavailable"
    assert "is not running" in found.reason


def test_a_logging_driver_without_logs(engine: FakeEngine, container: str, collector: Make) -> None:
    engine.fill(container, log_driver="none")
    case = collector().collect(container, ["logs", "top"])
    assert case.shortcomings == ["logs: unavailable, its logging driver keeps no logs that the engine can read"]


def test_what_the_engine_leaves_out_in_silence_is_said(engine: FakeEngine, container: str, collector: Make) -> None:
    engine.fill(container, tmpfs=["/run"], mounts={"/data": "volume", "/mem": "tmpfs"}, files={"/data/x": b"x"})
    case = collector().collect(container, ["export", "changes"], ["/data", "/", "/run", "/dev/shm", "/runner"])
    assert [(str(one), one.status, one.reason) for one in case.manifest.items] == [
        ("changes", "collected", ""),
        ("archive /data", "collected", ""),
        ("archive /", "collected", "without what is mounted at /dev/shm, /mem, /run"),
        ("archive /run", "collected", "without what is mounted at /run"),
        ("archive /dev/shm", "unavailable", "the container has no such path"),
        ("archive /runner", "unavailable", "the container has no such path"),
        ("export", "collected", "without what is mounted at /data, /mem, /run"),
    ]


def test_a_disk_that_fails(container: str, collector: Make, state_dir: pathlib.Path) -> None:
    collection = collector().begin(container, ["top", "logs"])
    (directory,) = (state_dir / "evidence").iterdir()
    (directory / "top.json").mkdir()
    case = collection.finish()
    assert case.shortcomings == ["top: failed, it cannot be written: File exists"]
    assert item(case, "logs").status == "collected"


def test_a_manifest_that_cannot_be_written_is_said(container: str, collector: Make, state_dir: pathlib.Path) -> None:
    collection = collector().begin(container, ["top", "logs"])
    (directory,) = (state_dir / "evidence").iterdir()
    (directory / "manifest.json").unlink()
    (directory / "manifest.json").mkdir()
    case = collection.finish()
    assert case.problem == "its manifest cannot be written: Is a directory"
    assert case.manifest.status == "collecting"


def test_a_state_directory_that_cannot_be_made(container: str, collector: Make, tmp_path: pathlib.Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(EvidenceError, match=r"cannot make .*: File exists"):
        collector().collect(container, KINDS)


# --- the manifest while it goes on ------------------------------------------------------------------------------------


def test_an_interrupted_collection_leaves_the_truth(
    engine: FakeEngine, container: str, collector: Make, state_dir: pathlib.Path
) -> None:
    engine.break_off("export", KeyboardInterrupt(), 40_000)
    with pytest.raises(KeyboardInterrupt):
        collector().collect(container, ["inspect", "logs", "export"], ["/etc"])
    (directory,) = (state_dir / "evidence").iterdir()
    found = on_disk(directory)
    assert (found["status"], found["ended"]) == ("collecting", "")
    assert [one["status"] for one in found["items"]] == ["collected", "collected", "collected", "collecting"]
    verification = verify(str(directory))
    assert verification.problems == ["the collection was not completed: export (collecting)"]


def test_the_manifest_is_there_before_the_first_item(container: str, collector: Make, state_dir: pathlib.Path) -> None:
    collector().begin(container, ["top", "logs"])
    (directory,) = (state_dir / "evidence").iterdir()
    assert [one["status"] for one in on_disk(directory)["items"]] == ["pending", "pending"]
    assert verify(str(directory)).problems == ["the collection was not completed: top (pending), logs (pending)"]


def test_progress_is_shown_once_a_second(
    container: str, collector: Make, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    store = case_files.store

    def watched(directory: str, manifest: Manifest) -> None:
        store(directory, manifest)
        one = on_disk(pathlib.Path(directory))["items"][0]
        if one["status"] == "collecting":
            shown.append(one["bytes"])

    monkeypatch.setattr(
        "ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection.store", watched
    )
    clock.step = 0.1
    collector().collect(container, ["export"])
    assert shown[0] == 0
    assert len(shown) > 2
    assert shown == sorted(set(shown))
    pieces = 300_000 / PIECE
    assert len(shown) < pieces / 3


# --- hostile input ----------------------------------------------------------------------------------------------------


def test_what_the_container_says_of_itself_is_inert(engine: FakeEngine, collector: Make) -> None:
    hostile = "{{ lookup('pipe', 'id') }}\x1b[2J\n"
    container = engine.add_container("web", image=hostile, labels={hostile: hostile})
    engine.fill(container, log=hostile.encode(), files={f"/{hostile}": b"x", "/../../../etc/x": b"x"})
    case = collector().collect(container, KINDS, ["/"])
    assert case.manifest.container["image"] == "{ { lookup('pipe', 'id') }}\\x1b[2J\\n"
    assert hostile in json.loads(content(case, "inspect"))["Config"]["Labels"]
    assert content(case, "logs").decode() == hostile
    assert set(os.listdir(case.directory)) == {
        *("inspect.json", "top.json", "stats.json", "changes.json", "logs.txt", "archive-1.tar", "export.tar"),
        *("manifest.json", "SHA256SUMS"),
    }


def test_errors_of_the_engine_are_inert(engine: FakeEngine, container: str, collector: Make) -> None:
    engine.fail_next("logs", EngineError("{{ x }}\n" * 1000))
    (found,) = collector().collect(container, ["logs"]).shortcomings
    assert "{{" not in found
    assert found.isprintable()
    assert len(found) <= 1024


# --- planning ---------------------------------------------------------------------------------------------------------


def test_the_plan_writes_nothing(engine: FakeEngine, collector: Make, state_dir: pathlib.Path) -> None:
    container = engine.add_container("web", state="exited")
    engine.fill(container, mounts={"/data": "volume"})
    plan = collector().plan(container, ["export", "top"], ["/etc"])
    assert [(str(one), one.status, one.reason) for one in plan] == [
        ("top", "unavailable", "the container is exited, so it has no processes"),
        ("archive /etc", "pending", ""),
        ("export", "pending", "without what is mounted at /data"),
    ]
    assert not state_dir.exists()


class TestResume:
    def test_goes_on_with_what_was_begun(self, container: str, collector: Make) -> None:
        begun = collector().begin(container, KINDS)
        begun.take(("inspect", *VOLATILE))
        # As another process, after the container was paused.
        case = collector().resume(begun.case_id).finish()
        assert {item.status for item in case.manifest.items} == {"collected"}
        assert case.manifest.case_id == begun.case_id
        assert verify(case.directory, case.manifest.sha256).problems == []

    def test_of_a_container_that_is_gone_keeps_what_was_taken(
        self, engine: FakeEngine, container: str, collector: Make
    ) -> None:
        begun = collector().begin(container, ("inspect", "top", "logs"))
        begun.take(("inspect", *VOLATILE))
        engine.remove_container(container)
        case = collector().resume(begun.case_id).finish()
        assert [item.status for item in case.manifest.items] == ["collected", "collected", "unavailable"]

    def test_what_was_finished_is_left_alone(self, container: str, collector: Make) -> None:
        case = collector().collect(container, ["inspect"])
        with pytest.raises(EvidenceError, match="finished") as caught:
            collector().resume(case.manifest.case_id)
        assert caught.value.kind == "case_ended"
        assert verify(case.directory, case.manifest.sha256).problems == []

    def test_what_is_no_case(self, collector: Make) -> None:
        with pytest.raises(EvidenceError, match="cannot be read") as caught:
            collector().resume("20261124T223010Z-6bc1b4be90d6-a1b2c3")
        assert caught.value.kind == "case_missing"
