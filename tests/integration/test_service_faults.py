# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service where things go wrong: a disk that is full, a clock that is set, a playbook at the same time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.service_process import ServiceProcess, falco

HOUR = 3600
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def small_disk(path: pathlib.Path) -> t.Iterator[None]:
    """A disk of a few megabytes at a path, as long as the context lasts."""
    path.mkdir(exist_ok=True)
    mounted = _LIBC.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"size=4m")
    assert mounted == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert _LIBC.umount2(os.fsencode(path), 2) == 0, os.strerror(ctypes.get_errno())


def fill(path: pathlib.Path) -> pathlib.Path:
    """Fill the disk that a path is on; what does it."""
    ballast = path / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def is_paused(world: DockerWorld, container: str) -> bool:
    return bool(world.engine.inspect_container(container)["State"]["Paused"])


def test_a_state_directory_that_is_full_keeps_nothing_from_being_isolated(
    tmp_path: pathlib.Path, docker_world: DockerWorld
) -> None:
    target = docker_world.make_container("target")
    state = tmp_path / "state"
    with small_disk(state):
        service = ServiceProcess(tmp_path / "service", docker_world.docker_host, state_dir=str(state / "guard"))
        with service:
            ballast = fill(state)
            service.post(falco(target))
            service.until(lambda: service.elements()["answered"] == 1, "the alert is answered")
            assert is_paused(docker_world, target)
            service.until(lambda: "are kept in" in service.get("/healthz")[1], "health says where it is kept")
            docker_world.engine.unpause(target)
            service.until(lambda: is_paused(docker_world, target), "it is held all the same")
            ballast.unlink()
            service.until(lambda: service.get("/healthz")[0] == 200, "all is well once there is room")
        assert (state / f"guard/isolations/{target}.json").exists()


def test_a_spool_that_is_full_refuses_and_takes_again(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    target = docker_world.make_container("target")
    spool = tmp_path / "spool"
    with small_disk(spool):
        intake = {"spool": str(spool / "guard")}
        with ServiceProcess(tmp_path / "service", docker_world.docker_host, intake=intake) as service:
            ballast = fill(spool)
            answer = {}

            def refused() -> bool:
                nonlocal answer
                with contextlib.suppress(AssertionError):  # what there was room for was accepted
                    answer = service.post(falco("f" * 64, rule=os.urandom(2000).hex()), status=503)
                return bool(answer)

            service.until(refused, "an alert is refused")
            assert answer["error"]["remedy"]
            service.until(lambda: service.get("/healthz")[0] == 503, "health says so")
            ballast.unlink()
            service.until(lambda: service.get("/healthz")[0] == 200, "all is well once there is room")
            service.post(falco(target))
            service.until(lambda: service.records("isolated"), "the container is isolated")


@pytest.mark.parametrize("hours", [1, -1], ids=["forth", "back"])
def test_a_clock_that_is_set_keeps_no_alert_from_being_answered(
    tmp_path: pathlib.Path, docker_world: DockerWorld, hours: int
) -> None:
    first, second = docker_world.make_container("first"), docker_world.make_container("second")
    library = subprocess.run(
        ["find", "/usr/lib", "-name", "libfaketimeMT.so.1"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    clock = tmp_path / "clock"
    clock.write_text("+0s\n")
    env = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
    }
    with ServiceProcess(tmp_path / "service", docker_world.docker_host, env=env) as service:
        service.post(falco(first))
        service.until(lambda: len(service.records("isolated")) == 1, "the first is isolated")
        clock.write_text(f"{hours * HOUR:+d}s\n")
        # The detector has the same clock.
        seen_at = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime(time.time() + hours * HOUR))
        service.post(falco(second, time=seen_at))
        service.until(lambda: len(service.records("isolated")) == 2, "the second is isolated")
        docker_world.engine.unpause(first)
        service.until(lambda: len(service.records("isolated")) == 3, "the first is held")
        service.until(lambda: service.elements()["answered"] == 2, "both alerts are answered")
        assert is_paused(docker_world, first)
        assert is_paused(docker_world, second)
        assert service.get("/healthz")[0] == 200, service.get("/healthz")


def test_playbooks_and_the_service_work_on_one_container_in_turns(
    tmp_path: pathlib.Path, docker_world: DockerWorld
) -> None:
    network = docker_world.make_network("net")
    target = docker_world.make_container("target", {network: EndpointSettings(aliases=("db",))})
    before = docker_world.engine.inspect_container(target)["NetworkSettings"]["Networks"]
    state = tmp_path / "service/state"
    (tmp_path / "ansible").mkdir()
    ansible = Ansible(tmp_path / "ansible")
    options = {"state_dir": str(state), "docker_host": docker_world.docker_host, "container": target}
    with ServiceProcess(tmp_path / "service", docker_world.docker_host) as service:
        for number in range(3):
            service.post(falco(target, rule=f"shell {number}"))
            service.until(lambda: len(service.records("isolated")) == number + 1, "it is isolated")  # noqa: B023 - at once
            held = ansible.module("isolation", **options)
            assert (held["outcome"], held["changed"]) == ("held", True), held  # the claim of a person is added
            released = ansible.module("isolation", **options, state="released")
            assert released["outcome"] == "released", released
            assert not is_paused(docker_world, target)
            found = docker_world.engine.inspect_container(target)["NetworkSettings"]["Networks"]
            assert found.keys() == before.keys()
        info = ansible.module("isolation_info", state_dir=str(state), docker_host=docker_world.docker_host)
        assert info["isolations"] == []
        assert info["action_log"]["intact"], info["action_log"]


def test_what_it_was_told_to_end_by_is_let_end(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    """SIGTERM while an answer is under way: what was accepted is answered, now or after the next start."""
    targets = [docker_world.make_container(f"target-{number}") for number in range(5)]
    service = ServiceProcess(tmp_path / "service", docker_world.docker_host)
    with service:
        for target in targets:
            service.post(falco(target))
        assert service.stop(signal.SIGTERM) == 0
    with service:
        service.until(lambda: service.elements()["answered"] == len(targets), "all are answered")
    assert all(is_paused(docker_world, target) for target in targets)
