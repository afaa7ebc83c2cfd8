# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role host_service before it does anything. What it does is tested in tests/extended, on a host with systemd."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible, PlaybookRun
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld

pytestmark = pytest.mark.usefixtures("usual_places")

PLAY = {"hosts": "node", "gather_facts": False, "roles": ["ironpost.container_guard.host_service"]}
CONFIG = {"intake": {"token": "a-token-of-the-test-suite"}}


@pytest.fixture
def testbed_engine() -> str:
    return "28.5"


def ansible(tmp_path: pathlib.Path, world: HostWorld, core: str = "") -> Ansible:
    found = Ansible(tmp_path, "node", core=core)
    found.set_variables("node", {**world.host.operator_inventory, "ansible_connection": "ssh"})
    return found


def said(run: PlaybookRun) -> str:
    return re.sub(r"\s+", " ", run.output)


@pytest.mark.parametrize("options", [["--become"], ["--become", "--check"]], ids=["done", "checked"])
@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({}, "the package aiohttp, which the host service needs, is not installed for /usr/bin/python3"),
        (
            {"host_service_python": "/nowhere/python"},
            "there is no Python at /nowhere/python, and the host service",
        ),
        ({"host_service_state": "running"}, "value of host_service_state must be one of: started, stopped, absent"),
        ({"host_service_mode": "watch"}, "value of host_service_mode must be one of: enforce, audit"),
        ({"host_service_config": {"mode": "/srv/mode"}}, "host_service_config cannot hold mode and socket"),
        ({"host_service_config": {"intake": {"host": "web-1"}}}, "its intake.host is the number of an address"),
        ({"host_service_config": {"intake": {"port": "x"}}}, "its intake.port a number above 0"),
    ],
    ids=["aiohttp", "python", "state", "mode", "set-by-the-role", "host", "port"],
)
def test_what_is_missing_or_wrong_is_said_and_nothing_is_touched(
    docker_world: HostWorld, tmp_path: pathlib.Path, variables: dict[str, t.Any], what: str, options: list[str]
) -> None:
    run = ansible(tmp_path, docker_world).run(PLAY, {"host_service_config": CONFIG, **variables}, *options)
    assert run.status != 0
    assert what in said(run)
    assert "changed=0" in run.output
    assert "a-token-of-the-test-suite" not in run.output
    assert docker_world.host.exec("test", "-e", "/opt/container-guard")[0] == 1


@pytest.mark.parametrize("core", ["2.16", "2.18"])
def test_a_controller_without_the_sdk_says_what_to_install_there(
    docker_world: HostWorld, tmp_path: pathlib.Path, core: str
) -> None:
    run = ansible(tmp_path, docker_world, core).run(PLAY, {"host_service_config": CONFIG}, "--become")
    assert run.status != 0
    assert "the package certifi, which the host service takes with it, is not installed (on the controller" in said(run)
    assert re.search(r"On the controller: \S+/python\S* -m pip install 'docker>=7\.1'", said(run))
    assert "changed=0" in run.output


@pytest.mark.parametrize("options", [["--become"], ["--become", "--check"]], ids=["done", "checked"])
def test_where_it_never_was_there_is_nothing_to_remove(
    docker_world: HostWorld, tmp_path: pathlib.Path, options: list[str]
) -> None:
    run = ansible(tmp_path, docker_world).run(PLAY, {"host_service_state": "absent"}, *options)
    assert run.status == 0, run.output
    assert "changed=0" in run.output
