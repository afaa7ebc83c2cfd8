# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evidence of real containers on real engines, by the collector, the module and the playbook."""

from __future__ import annotations

import json
import pathlib
import subprocess
import tarfile
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection import Case
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Item
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.verify import verify
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import KINDS, VOLATILE, Limits
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import IMAGE, DockerWorld

# What an attacker leaves: files in the image, in memory and in a volume, and lines on both streams.
INTRUSION = """
echo dropped >/root/dropped
echo secret >/memory/secret
echo secret >/dev/shm/secret
echo kept >/data/kept
echo to stdout
echo to stderr >&2
touch /ready
exec sleep 3600
"""


@pytest.fixture
def collector(docker_world: DockerWorld, tmp_path: pathlib.Path) -> Collector:
    return Collector(docker_world.engine, str(tmp_path / "state"), "host-1")


def intruded(world: DockerWorld, state: str = "running", **options: t.Any) -> str:
    """A container in which somebody was."""
    container = world.make_container(
        "target",
        command=("sh", "-c", INTRUSION),
        tmpfs={"/memory": ""},
        binds=[f"{world.name('volume')}:/data"],
        **options,
    )
    world.until(lambda: world.exec(container, "test", "-e", "/ready")[0] == 0, "the intrusion")
    if state == "paused":
        world.engine.pause(container)
    elif state == "exited":
        world.engine.stop(container, 0)
    return container


@pytest.fixture
def volume(docker_world: DockerWorld) -> t.Iterator[None]:
    name = docker_world.name("volume")
    docker_world.api.create_volume(name, labels=docker_world.labels)
    yield
    docker_world.cleanup()  # a volume that is in use cannot be removed
    docker_world.api.remove_volume(name)


def item(case: Case, kind: str) -> Item:
    return next(one for one in case.manifest.items if one.kind == kind)


def text(case: Case, kind: str) -> str:
    return (pathlib.Path(case.directory) / item(case, kind).file).read_text()


def members(path: pathlib.Path) -> dict[str, bytes]:
    """The files in an archive, by name."""
    with tarfile.open(path) as archive:
        contents = {member.name: archive.extractfile(member) for member in archive.getmembers() if member.isfile()}
        return {name: content.read() for name, content in contents.items() if content}


@pytest.mark.fact("C.evidence.3", "C.evidence.5", "C.evidence.7")
@pytest.mark.usefixtures("volume")
@pytest.mark.parametrize("state", ["running", "paused", "exited"])
def test_what_somebody_left(docker_world: DockerWorld, collector: Collector, state: str) -> None:
    container = intruded(docker_world, state)
    case = collector.collect(container, KINDS, ["/root", "/data", "/memory", "/no/such/path"])
    directory = pathlib.Path(case.directory)
    assert verify(case.directory, case.manifest.sha256).problems == []
    assert case.manifest.state == state

    assert json.loads(text(case, "inspect"))["Id"] == container
    paths = {change["Path"] for change in json.loads(text(case, "changes"))}
    assert {"/root/dropped", "/ready"} <= paths
    lines = text(case, "logs").splitlines()
    assert sorted(line.partition(" ")[2] for line in lines) == ["to stderr", "to stdout"]
    assert all(line.startswith("20") for line in lines)

    exported = members(directory / "export.tar")
    assert exported["root/dropped"] == b"dropped\n"
    assert not {"memory/secret", "dev/shm/secret", "data/kept"} & exported.keys()
    assert item(case, "export").reason == "without what is mounted at /data, /memory"
    assert members(directory / "archive-1.tar")["root/dropped"] == b"dropped\n"
    assert members(directory / "archive-2.tar")["data/kept"] == b"kept\n"
    assert "memory/secret" not in members(directory / "archive-3.tar")

    expected = {
        "archive /memory: collected, without what is mounted at /memory",
        "archive /no/such/path: unavailable, the container has no such path",
        "export: collected, without what is mounted at /data, /memory",
    }
    if state == "exited":
        expected |= {f"{kind}: unavailable, the container is exited, so it has no processes" for kind in VOLATILE}
    else:
        found = json.loads(text(case, "top"))
        assert found["Processes"][0][found["Titles"].index("CMD")] == "sleep 3600"
        assert json.loads(text(case, "stats"))["pids_stats"]["current"] == 1
    assert set(case.shortcomings) == expected
    assert docker_world.state(container) == state


@pytest.mark.fact("C.evidence.4")
def test_a_container_that_never_ran(docker_world: DockerWorld, collector: Collector) -> None:
    case = collector.collect(docker_world.make_container("target", state="created"), KINDS)
    assert {one.kind for one in case.manifest.items if one.status != "collected"} == set(VOLATILE)
    assert text(case, "logs") == ""
    assert json.loads(text(case, "changes")) is None


@pytest.mark.fact("C.evidence.8")
def test_logs_of_a_terminal(docker_world: DockerWorld, collector: Collector) -> None:
    """They have no frames, and would lose bytes to the search for some."""
    command = ["sh", "-c", "echo to stdout; echo to stderr >&2; exec sleep 3600"]
    container = docker_world.api.create_container(IMAGE, command, tty=True, labels=docker_world.labels)["Id"]
    docker_world.engine.start(container)
    docker_world.until(lambda: b"stderr" in docker_world.api.logs(container), "the output")
    lines = text(collector.collect(container, ["logs"]), "logs").splitlines()
    assert [line.partition(" ")[2] for line in lines if line] == ["to stdout", "to stderr"]


@pytest.mark.fact("C.evidence.6")
def test_a_logging_driver_without_logs(docker_world: DockerWorld, collector: Collector) -> None:
    silent = docker_world.make_container("silent", log_config={"type": "none"})
    case = collector.collect(silent, ["logs", "inspect"])
    assert case.shortcomings == ["logs: unavailable, its logging driver keeps no logs that the engine can read"]


def test_large_evidence_is_cut(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    container = docker_world.make_container("target")
    limits = Limits(max_bytes=64 * 1024)
    case = Collector(docker_world.engine, str(tmp_path), "host-1", limits).collect(container, ["export", "top"])
    assert (item(case, "export").status, item(case, "export").bytes) == ("truncated", 64 * 1024)
    # The connection that was left in the middle is not used again.
    assert docker_world.state(container) == "running"
    assert item(case, "top").status == "collected"
    assert verify(case.directory).problems == []


def test_before_and_after_it_is_stopped(docker_world: DockerWorld, collector: Collector) -> None:
    container = docker_world.make_container("target")
    collection = collector.begin(container, KINDS)
    collection.take(VOLATILE)
    docker_world.engine.stop(container, 0)
    case = collection.finish()
    assert {one.status for one in case.manifest.items} == {"collected"}


# --- by Ansible -------------------------------------------------------------------------------------------------------


def test_the_module(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    container = docker_world.make_container("target", state="exited")
    options = {"docker_host": docker_world.docker_host, "state_dir": str(ansible.state_dir)}
    wanted = {
        "container": docker_world.name("target"),
        "collect": ["top", "logs", "export"],
        "paths": ["/etc"],
        "trace_id": "trace-1",
        "reason": "INC-1 {{ 7 * 7 }}",
    }
    planned = ansible.module("evidence", check=True, **wanted, **options)
    assert not ansible.state_dir.exists()
    assert [one["status"] for one in planned["evidence"]] == ["unavailable", "pending", "pending", "pending"]

    found = ansible.module("evidence", **wanted, **options)
    assert (found["changed"], found["error"], found["trace_id"]) == (True, None, "trace-1")
    assert found["container"]["id"] == container
    assert [one["status"] for one in found["evidence"]][:2] == ["unavailable", "collected"]
    assert "top: unavailable, the container is exited, so it has no processes" in found["warnings"]
    directory = pathlib.Path(found["directory"])
    assert directory == ansible.state_dir / "evidence" / found["case_id"]
    assert json.loads((directory / "manifest.json").read_text())["request"]["trace_id"] == "trace-1"

    # Without an engine: the case may have been copied to where there is none.
    nowhere = {"docker_host": "unix:///nowhere", "state_dir": str(ansible.state_dir), "state": "verified"}
    sha256 = found["manifest_sha256"]
    verified = ansible.module("evidence", case=found["case_id"], manifest_sha256=sha256, **nowhere)
    assert (verified["changed"], verified["problems"]) == (False, [])
    assert verified["evidence"] == found["evidence"]
    (directory / "logs.txt").write_text("forged")
    changed = ansible.module("evidence", case=str(directory), **nowhere)
    assert (changed["failed"], changed["error"]["kind"]) == (True, "case_changed")
    assert changed["problems"] == ["logs.txt has 6 bytes, and had 0"]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"container": "no-such-container"}, "not_found", "no container on this host"),
        ({"container": "x", "max_bytes": 1}, "invalid_option", "max_bytes is 1, but must be from 65536"),
        ({"container": "x", "log_lines": 0}, "invalid_option", "log_lines is 0"),
        ({"container": "x", "item_timeout": 90_000}, "invalid_option", "item_timeout is 90000"),
        ({"state": "verified", "case": "../x"}, "invalid_option", "case is '../x'"),
        ({"state": "verified", "case": "/no/such/case"}, "case_missing", "cannot read the case /no/such/case"),
    ],
)
def test_the_module_says_what_it_cannot_do(
    docker_world: DockerWorld, tmp_path: pathlib.Path, options: dict[str, t.Any], kind: str, message: str
) -> None:
    ansible = Ansible(tmp_path)
    found = ansible.module(
        "evidence", **options, docker_host=docker_world.docker_host, state_dir=str(ansible.state_dir)
    )
    assert (found["failed"], found["error"]["kind"]) == (True, kind)
    assert message in found["msg"]
    assert not ansible.state_dir.exists()


def test_the_playbook_brings_cases_to_the_controller(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path, "docker-1", "docker-2")
    docker_world.make_container("target")
    variables = {
        "guard_target": "docker-1:docker-2",
        "guard_container": docker_world.name("target"),
        "guard_evidence": ["inspect", "top", "export"],
        "guard_evidence_dest": str(tmp_path / "dest"),
        "guard_docker_host": docker_world.docker_host,
    }
    run = ansible.playbook("collect_evidence", variables)
    assert run.status == 0, run.output
    for host in ("docker-1", "docker-2"):
        found = run.stats["guard_evidence"][host]
        directory = tmp_path / "dest" / host / found["case_id"]
        assert directory == pathlib.Path(found["directory"])
        assert list(directory.parent.iterdir()) == [directory]
        verification = verify(str(directory), found["manifest_sha256"])
        assert (verification.problems, verification.manifest and verification.manifest.host) == ([], host)
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=directory, check=True)
        assert "bin/busybox" in members(directory / "export.tar")
    assert len(list((ansible.state_dir / "evidence").iterdir())) == 2

    checked = ansible.playbook("collect_evidence", {**variables, "guard_evidence_dest": str(tmp_path / "x")}, "--check")
    assert checked.status == 0, checked.output
    assert not (tmp_path / "x").exists()
