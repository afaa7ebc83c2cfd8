# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that lie on the host already, run over ssh by an ordinary user who has sudo."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import CORES
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.remote import Json, Remote

pytestmark = pytest.mark.usefixtures("usual_places")

ARCHIVES = "/opt/container-guard"
LEFT_ON_HOST = (ARCHIVES, "/var/lib/container-guard", "/dev/shm/was-run")
INSTALL: tuple[str, Json] = ("module_archive", {})


@pytest.fixture
def testbed_engine() -> str:
    return "28.5"


@pytest.fixture
def docker_world(docker_world: HostWorld) -> t.Iterator[HostWorld]:
    docker_world.host.exec("rm", "-rf", *LEFT_ON_HOST)
    yield docker_world
    docker_world.host.exec("rm", "-rf", *LEFT_ON_HOST)


def remote(tmp_path: pathlib.Path, world: HostWorld, core: str = "", **variables: t.Any) -> Remote:
    inventory = {**world.host.operator_inventory, "ansible_pipelining": True, "guard_archive": True, **variables}
    return Remote(tmp_path, inventory, "--become", core=core)


def mark(world: HostWorld, path: str, module: str) -> None:
    """Let the command of a module leave a mark when it is run."""
    command = f"{path}/bin/{module}"
    status, output = world.host.exec("sed", "-i", "2i open('/dev/shm/was-run', 'a').close()", command)
    assert status == 0, output


def was_run(world: HostWorld) -> bool:
    return bool(world.host.exec("test", "-e", "/dev/shm/was-run")[0] == 0)


@pytest.mark.parametrize("core", CORES)
def test_a_module_is_run_from_the_archive_and_answers_the_same(
    docker_world: HostWorld, tmp_path: pathlib.Path, core: str
) -> None:
    target = docker_world.make_container("target")
    host = remote(tmp_path, docker_world, core)
    missing, first, second = host.modules(("isolation_info", {}), INSTALL, INSTALL)
    assert (missing["failed"], first["changed"], second["changed"]) == (False, True, False)
    assert first["path"] == second["path"] == f"{ARCHIVES}/{first['digest']}"
    mark(docker_world, first["path"], "isolation")
    isolated, refused, unknown = host.modules(
        ("isolation", {"container": target, "reason": "größe {{ 1 }}"}),
        ("isolation", {"container": "nobody"}),
        ("isolation", {"container": target, "colour": "red"}),
    )
    assert was_run(docker_world)
    assert docker_world.state(target) == "paused"
    assert isolated["summary"] == {"isolated": 1}
    assert refused["failed"] is True
    assert refused["error"]["kind"]
    assert "colour" in unknown["msg"]
    sent = remote(tmp_path, docker_world, core, guard_archive=False)
    (found,) = sent.modules(("isolation", {"container": target}))
    assert found["summary"] == {"held": 1}
    assert set(found) - {"warnings"} == set(isolated) - {"warnings"}


def test_an_archive_that_was_changed_is_replaced_and_one_of_another_version_is_not_used(
    docker_world: HostWorld, tmp_path: pathlib.Path
) -> None:
    host = remote(tmp_path, docker_world)
    (first,) = host.modules(INSTALL)
    mark(docker_world, first["path"], "isolation_info")
    (repaired, info) = host.modules(INSTALL, ("isolation_info", {}))
    assert repaired["changed"] is True
    assert not was_run(docker_world)
    assert info["failed"] is False
    # As after an upgrade of the controller.
    mark(docker_world, first["path"], "isolation_info")
    docker_world.host.exec("mv", first["path"], f"{ARCHIVES}/{'0' * 64}")
    (sent,) = host.modules(("isolation_info", {}))
    assert not was_run(docker_world)
    assert set(sent) == set(info)
    (gone, again) = host.modules(*[("module_archive", {"state": "absent"})] * 2)
    assert (gone["changed"], again["changed"]) == (True, False)
    assert docker_world.host.exec("test", "-e", ARCHIVES)[0] == 1


@pytest.mark.parametrize(("module", "options"), [("module_archive", {"state": "absent"}), ("removal", {})])
def test_what_removes_the_archive_is_not_run_from_it(
    docker_world: HostWorld, tmp_path: pathlib.Path, module: str, options: Json
) -> None:
    host = remote(tmp_path, docker_world)
    (first,) = host.modules(INSTALL)
    mark(docker_world, first["path"], module)
    (gone,) = host.modules((module, options))
    assert (gone["failed"], gone["changed"]) == (False, True), gone
    assert not was_run(docker_world)
    assert docker_world.host.exec("test", "-e", ARCHIVES)[0] == 1


def test_a_directory_that_others_may_write_is_not_used(docker_world: HostWorld, tmp_path: pathlib.Path) -> None:
    host = remote(tmp_path, docker_world)
    (first,) = host.modules(INSTALL)
    mark(docker_world, first["path"], "isolation_info")
    docker_world.host.exec("chown", "operator", ARCHIVES)
    (found, info) = host.modules(INSTALL, ("isolation_info", {}))
    assert found["failed"] is True
    assert found["error"]["kind"] == "unsafe_directory"
    assert info["failed"] is False
    assert not was_run(docker_world)


def test_without_pipelining_modules_are_sent(docker_world: HostWorld, tmp_path: pathlib.Path) -> None:
    (first,) = remote(tmp_path, docker_world).modules(INSTALL)
    mark(docker_world, first["path"], "isolation_info")
    (found,) = remote(tmp_path, docker_world, ansible_pipelining=False).modules(("isolation_info", {}))
    assert found["failed"] is False
    assert not was_run(docker_world)
