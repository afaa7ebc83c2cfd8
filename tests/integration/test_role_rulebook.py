# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role rulebook before it does anything. What it does is tested in tests/extended, on a host with systemd."""

from __future__ import annotations

import pathlib
import re
import subprocess

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

import ansible_collections.ironpost.container_guard as collection
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld

ROLE = pathlib.Path(next(iter(collection.__path__)), "roles/rulebook")
PLAY = {"hosts": "node", "gather_facts": False, "roles": ["ironpost.container_guard.rulebook"]}


@pytest.fixture
def testbed_engine() -> str:
    return "28.5"


@pytest.fixture
def ansible(docker_world: HostWorld, tmp_path: pathlib.Path) -> Ansible:
    found = Ansible(tmp_path, "node")
    found.set_variables("node", {**docker_world.host.operator_inventory, "ansible_connection": "ssh"})
    return found


@pytest.mark.parametrize("options", [["--become"], ["--become", "--check"]], ids=["done", "checked"])
def test_what_the_machine_lacks_is_named_with_its_packages_and_nothing_is_touched(
    ansible: Ansible, docker_world: HostWorld, options: list[str]
) -> None:
    run = ansible.run(PLAY, {"rulebook_guard": {"token": "a-token-of-the-test-suite"}}, *options)
    assert run.status != 0
    said = re.sub(r"\s+", " ", run.output)
    assert "missing: java of version 17 or newer" in said
    assert "Install default-jre-headless openssh-client python3-venv, or let the role do it" in said
    assert "changed=0" in said
    assert docker_world.host.exec("ls", "/opt/container-guard-rulebook")[0] != 0


def test_an_option_that_the_role_sets_is_refused(ansible: Ansible) -> None:
    run = ansible.run(PLAY, {"rulebook_guard": {"spool": "/srv/spool"}}, "--become")
    assert run.status != 0
    assert "rulebook_guard holds spool, which the role sets" in re.sub(r"\s+", " ", run.output)


@pytest.mark.parametrize("name", ["", "container-guard", "container-guard-/../../etc"])
def test_a_name_that_is_or_could_be_of_something_else_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    # With a blank one, all of /etc, /opt and /var/lib would be removed: so this is in check mode only.
    variables = {"rulebook_name": name, "rulebook_state": "absent"}
    run = Ansible(tmp_path, "node").run(PLAY, variables, "--check")
    assert run.status != 0
    assert "Nothing was touched" in re.sub(r"\s+", " ", run.output)
    assert "changed=0" in run.output


def test_the_inventory_is_there_as_it_is_on_the_controller_vaults_and_links_too(
    ansible: Ansible, docker_world: HostWorld, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "password").write_text("a-password-of-the-test-suite")
    vault = VaultLib([("default", VaultSecret(b"a-password-of-the-test-suite"))]).encrypt("secret: hunter2\n").decode()
    inventory, others = tmp_path / "inventory", tmp_path / "others"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "group_vars/all.yml").write_text(vault)
    (inventory / "hosts").write_text("web-1\n")
    (inventory / "cloud").write_text("#!/bin/sh\necho '{}'\n")
    (inventory / "cloud").chmod(0o700)
    (others / "host_vars").mkdir(parents=True)
    (others / "host_vars/web-1.yml").write_text("ansible_host: 10.0.0.1\n")
    (inventory / "host_vars").symlink_to(others / "host_vars")
    (inventory / "hosts.local").symlink_to(inventory / "hosts")
    role = {"name": "ironpost.container_guard.rulebook", "tasks_from": "inventory"}
    play = {"hosts": "node", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": role}]}
    place = "/srv/of-the-rulebook"
    docker_world.host.exec("rm", "-rf", place)
    docker_world.host.exec("mkdir", place)
    variables = {"_rulebook_config": place, "rulebook_name": "root", "rulebook_inventory": str(inventory)}
    first, second = (
        ansible.run(play, variables, "--become", "--vault-password-file", str(tmp_path / "password")) for _ in range(2)
    )
    assert (first.status, second.status) == (0, 0), first.output
    assert "changed=0" in second.output
    _status, found = docker_world.host.exec("cat", f"{place}/inventory/group_vars/all.yml")
    assert found.strip() == vault.strip()
    _status, found = docker_world.host.exec("find", place, "-type", "f")
    names = ["all.yml", "cloud", "hosts", "hosts.local", "web-1.yml"]
    assert sorted(pathlib.Path(path).name for path in found.split()) == names
    # Ansible runs what can be executed, and reads the other files.
    _status, found = docker_world.host.exec("find", place, "-type", "f", "-perm", "/111")
    assert found.split() == [f"{place}/inventory/cloud"]
    _status, found = docker_world.host.exec("find", f"{place}/inventory", "-type", "d", "-perm", "/007")
    assert found.split() == []
    script = {**variables, "rulebook_inventory": str(inventory / "cloud")}
    run = ansible.run(play, script, "--become", "--vault-password-file", str(tmp_path / "password"))
    assert run.status == 0, run.output
    _status, found = docker_world.host.exec("find", place, "-type", "f", "-perm", "/111")
    assert found.split() == [f"{place}/inventory/cloud"]


def test_a_variable_of_the_service_may_hold_anything_but_never_another_variable(tmp_path: pathlib.Path) -> None:
    wanted = {"QUOTED": "a\"b$HOME`id`\\e 'f'", "LINES": "-----BEGIN\nPATH=/tmp\n-----END", "NUMBER": 5, "BLANK": ""}
    template = pathlib.Path(__file__).parents[2] / "roles/rulebook/templates/environment.j2"
    content = f"{{{{ lookup('ansible.builtin.template', '{template}') }}}}"
    copy = {"content": content, "dest": str(tmp_path / "environment"), "mode": "0600"}
    play = {"hosts": "node", "gather_facts": False, "tasks": [{"ansible.builtin.copy": copy}]}
    run = Ansible(tmp_path, "node").run(play, {"rulebook_environment": wanted})
    assert run.status == 0, run.output
    # Between double quotes systemd reads such a file as a shell does.
    printed = " ".join(f'"${name}"' for name in ["PATH", *wanted])
    script = f'. "$1"; printf "%s\\0" {printed}'
    command = ["/bin/sh", "-c", script, "sh", str(tmp_path / "environment")]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8", env={"PATH": "untouched"})
    assert done.stdout.split("\0")[:-1] == ["untouched", *map(str, wanted.values())]


@pytest.mark.parametrize(
    ("guard", "more"),
    [({"token": "x"}, []), ({"kafka": None}, []), ({"kafka": {"topics": ["alerts"]}}, ["aiokafka", "cramjam"])],
    ids=["none", "null", "topics"],
)
def test_topics_need_more_packages(tmp_path: pathlib.Path, guard: dict[str, object], more: list[str]) -> None:
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ROLE / "defaults/main.yml"), str(ROLE / "vars/main.yml")],
        "tasks": [{"ansible.builtin.set_stats": {"data": {"packages": "{{ _rulebook_requirements }}"}}}],
    }
    run = Ansible(tmp_path).run(play, {"rulebook_guard": guard})
    assert run.status == 0, run.output
    names = [package.partition(">")[0] for package in run.stats["packages"]]
    assert names[names.index("PyYAML") + 1 :] == more
