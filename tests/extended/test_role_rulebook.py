# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role rulebook makes a host with systemd a control node, whose one Docker host is itself, reached by ssh.

The tests share what the first of them installs, and come one after another.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import ssl
import subprocess
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.extended.roles import PATIENCE, Applied, RoleHost, built
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.senders import (
    TOKEN,
    Senders,
    elements,
    falco,
    post,
)
from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.systemd_host import SystemdHost
from ansible_collections.ironpost.container_guard.tests.testbed.wheels import wheels

ROLE = "ironpost.container_guard.rulebook"
NAME = "container-guard-rulebook"
PORT = 5000
GUARD = {"host": "0.0.0.0", "token": TOKEN, "hosts": ["node"], "answer_timeout": 300, "answer_deadline": 900}  # noqa: S104 - of a container
POLICY = """
id: quarantine-shells
severity_threshold: high
rules: ["Terminal shell*"]
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}, {type: network_disconnect}]
"""
WARM, USUAL = "playbooks are run by a warm process", "ansible-playbook starts as usual"


class ControlNode(RoleHost):
    """A host as the role makes it a control node.

    Attributes:
        fleet: directory of the inventory that the role is given.
    """

    def __init__(self, machine: SystemdHost, directory: pathlib.Path) -> None:
        super().__init__(machine, directory, ROLE, NAME)
        self.variables = {
            "rulebook_install_packages": True,  # they are there, as nothing can be reached
            "rulebook_pip_args": ["--no-index", "--find-links=/srv/wheels"],
            "rulebook_collection": str(built(directory)),
            "rulebook_guard": GUARD,
            "rulebook_inventory": "fleet",
            "rulebook_ssh_key": machine.ssh_key.read_text(),
            "rulebook_ssh_known_hosts": f"127.0.0.1 {machine.host_key}",
            "rulebook_health_timeout": PATIENCE,
            "rulebook_warm": True,
        }
        self.fleet = directory / "fleet"
        (self.fleet / "host_vars").mkdir(parents=True)
        variables = {
            "ansible_user": "operator",
            "ansible_become": True,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {"node": {"ansible_host": "127.0.0.1"}, "gone": {"ansible_host": "127.0.0.1", "ansible_port": 9}}
        self.fleet.joinpath("hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {**variables}}}))

    def left(self) -> list[str]:
        """Files of the service, and its user."""
        places = ["/etc", "/opt", "/var/lib", "/run", "/tmp", "/var/tmp"]
        found = self.ask("find", *places, "-xdev", "-name", f"*{NAME}*").splitlines()
        return found + re.findall(f"^{NAME}:.*", self.ask("cat", "/etc/passwd", "/etc/group"), re.MULTILINE)


@pytest.fixture(scope="module")
def systemd_host() -> t.Iterator[SystemdHost]:
    """A host with systemd for these tests alone."""
    host = fleet.systemd_host(PORT)
    try:
        host.start()
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="module")
def bare(systemd_host: SystemdHost, tmp_path_factory: pytest.TempPathFactory) -> ControlNode:
    """The machine before the role was there."""
    systemd_host.put(wheels(), "/srv/wheels")
    return ControlNode(systemd_host, tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module")
def world(systemd_host: SystemdHost) -> t.Iterator[DockerWorld]:
    with DockerWorld(systemd_host.docker_host) as found:
        yield found


@dataclasses.dataclass(frozen=True)
class FirstRun:
    """What the first run of the role did, and what was said of it before, in check mode."""

    node: ControlNode
    said: Applied
    left_after_check: list[str]
    done: Applied


@pytest.fixture(scope="module")
def first_run(bare: ControlNode) -> FirstRun:
    said = bare.apply("--check", "--diff")
    left = bare.left()
    done = bare.apply("--diff")
    assert done.status == 0, done.output
    bare.deploy(POLICY)
    return FirstRun(bare, said, left, done)


@pytest.fixture(scope="module")
def node(first_run: FirstRun) -> ControlNode:
    return first_run.node


def test_check_mode_touches_nothing_on_a_bare_machine(first_run: FirstRun) -> None:
    assert first_run.said.status == 0, first_run.said.output
    assert first_run.said.changed > 0
    assert first_run.left_after_check == []


def test_no_secret_is_shown(first_run: FirstRun) -> None:
    for run in (first_run.said, first_run.done):
        assert TOKEN not in run.output
        assert "PRIVATE KEY" not in run.output
    assert TOKEN not in first_run.node.log


def test_it_says_where_alerts_are_taken(first_run: FirstRun) -> None:
    assert (
        f"Alerts are taken at http://127.0.0.1:{PORT}/alerts, about 2 hosts of the inventory" in first_run.done.output
    )


def test_the_second_run_changes_nothing(node: ControlNode) -> None:
    before = node.pid
    again = node.apply()
    assert (again.status, again.changed) == (0, 0), again.output
    assert node.pid == before
    said = node.apply("--check", "--diff")
    assert (said.status, said.changed) == (0, 0), said.output


def test_the_unit_is_valid_and_contained(node: ControlNode) -> None:
    assert node.ask("systemd-analyze", "verify", f"{NAME}.service") == ""
    exposure = re.search(r"exposure level for .*: ([0-9.]+)", node.ask("systemd-analyze", "security", NAME))
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


def test_the_service_can_change_nothing_of_its_own(node: ControlNode) -> None:
    as_service = ("runuser", f"--user={NAME}", "--")
    writable = node.ask(*as_service, "find", f"/etc/{NAME}", f"/opt/{NAME}/", "-not", "-type", "l", "-writable")
    assert writable == ""
    assert (
        node.ask("stat", "--format=%U %a", f"/etc/{NAME}/variables.yml", f"/etc/{NAME}/ssh_key") == "root 640\nroot 640"
    )


def test_an_alert_to_the_service_isolates_the_container_that_it_names(node: ControlNode, world: DockerWorld) -> None:
    network = world.make_network("net")
    target, bystander = (world.make_container(name, {network: PLAIN}) for name in ("target", "bystander"))
    node.until(lambda: WARM in node.log, "warm process")
    status, answer = post(node.port, falco(target, "node"))
    assert status == 202, answer
    node.until(lambda: elements(node.port)["answered"] == 1, "answer")
    assert (world.state(target), world.keys(target)) == ("paused", {})
    assert world.state(bystander) == "running"
    # By the warm process, which has all that it needs in this unit.
    assert USUAL not in node.log
    # The connection to the host is kept, below the directory that the unit makes.
    assert "ssh" in node.ask("sh", "-c", f"ls /run/{NAME}")


def test_the_warm_process_is_there_only_where_it_is_wanted(node: ControlNode) -> None:
    assert node.apply(rulebook_warm=False).status == 0
    assert node.machine.exec("pgrep", "--full", "_warm/server.py")[0] == 1
    assert node.apply().status == 0
    node.until(lambda: node.machine.exec("pgrep", "--full", "_warm/server.py")[0] == 0, "warm process")


def test_a_misspelt_option_reaches_no_service(node: ControlNode) -> None:
    before = (node.pid, node.ask("sha256sum", f"/etc/{NAME}/variables.yml"))
    for wrong, said in (
        ({"tokne": TOKEN}, "unknown option of guard 'tokne'. Did you mean token?"),
        ({**GUARD, "hosts": ["nod"]}, "hosts: not in the inventory: nod"),
    ):
        refused = node.apply(rulebook_guard=wrong)
        assert refused.status != 0
        assert said in re.sub(r"\s+", " ", refused.output)
        assert TOKEN not in refused.output
    assert (node.pid, node.ask("sha256sum", f"/etc/{NAME}/variables.yml")) == before
    assert node.well


def test_what_was_taken_out_of_the_inventory_is_gone_without_a_restart(node: ControlNode) -> None:
    before = node.pid
    variables = node.fleet / "host_vars/gone.yml"
    variables.write_text("guard_mode: audit\n")
    assert node.apply().status == 0
    assert "host_vars/gone.yml" in node.ask("find", f"/etc/{NAME}/inventory")
    variables.unlink()
    assert node.apply().status == 0
    assert "host_vars/gone.yml" not in node.ask("find", f"/etc/{NAME}/inventory")
    assert node.pid == before


def test_a_restart_under_load_loses_nothing(node: ControlNode, world: DockerWorld) -> None:
    before = node.pid
    targets = [world.make_container(f"load-{number}") for number in range(4)]
    rules = [f"Terminal shell {number}" for number in range(10)]
    with Senders(node.port) as senders:
        senders.send((target, "node", falco(target, "node", rule)) for rule in rules for target in targets)
        node.until(lambda: senders.accepted, "accepted alert")
        changed = node.apply(rulebook_guard={**GUARD, "batch_max": 400})
        assert changed.status == 0, changed.output
        node.until(lambda: senders.done, "end of the load")
    assert node.pid != before
    assert senders.refused == []
    node.until(lambda: elements(node.port)["waiting"] == 0, "answer to all of them")
    assert elements(node.port)["unanswered"] == 0
    assert {world.state(target) for target in targets} == {"paused"}


def test_a_service_that_was_killed_comes_back_and_answers(node: ControlNode, world: DockerWorld) -> None:
    target = world.make_container("killed")
    before, answered, warm = node.pid, elements(node.port)["answered"], node.log.count(WARM)
    node.ask("kill", "-KILL", str(before))
    node.until(lambda: node.pid not in (0, before) and node.well, "restart")
    assert post(node.port, falco(target, "node"))[0] == 202
    node.until(lambda: elements(node.port)["answered"] == answered + 1, "answer")
    assert world.state(target) == "paused"
    # Of the warm process before nothing is left.
    node.until(lambda: node.log.count(WARM) > warm, "another warm process")
    node.until(lambda: len(node.ask("pgrep", "--full", "_warm/server.py").split()) == 1, "end of the run")
    # Copies of the inventory are where nobody else can read them.
    left = node.ask("find", "/tmp", "-name", "hosts.yml", "-not", "-path", "/tmp/systemd-private-*")
    assert left == ""


def test_a_new_certificate_needs_no_restart(node: ControlNode, tmp_path: pathlib.Path) -> None:
    served, pids = [], []
    for name in ("old", "new"):
        certificate, key = _certificate(tmp_path / name)
        applied = node.apply(rulebook_tls_certificate=certificate, rulebook_tls_key=key)
        assert applied.status == 0, applied.output
        assert "https://127.0.0.1:5000/alerts" in applied.output
        node.until(lambda: ssl.get_server_certificate(("127.0.0.1", node.port)) not in served, "new certificate")
        served.append(ssl.get_server_certificate(("127.0.0.1", node.port)))
        pids.append(node.pid)
        assert served[-1].strip() == certificate.strip()
    assert pids[0] == pids[1]


def _certificate(path: pathlib.Path) -> tuple[str, str]:
    """A certificate of its own authority, and its key."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=guard", "-days", "90", "-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return path.with_suffix(".crt").read_text(), path.with_suffix(".key").read_text()


def test_it_is_removed_only_when_nobody_waits_for_an_answer(node: ControlNode) -> None:
    assert node.apply(rulebook_guard={**GUARD, "hosts": ["node", "gone"]}).status == 0
    assert post(node.port, falco("0123456789ab", "gone"))[0] == 202
    for options in (["--check"], []):
        refused = node.apply(*options, rulebook_state="absent")
        assert refused.status != 0
        assert "1 alerts wait for an answer" in refused.output
    node.until(lambda: node.well, "service that goes on")
    assert elements(node.port)["waiting"] == 1
    removed = node.apply(rulebook_state="absent", rulebook_force=True)
    assert removed.status == 0, removed.output
    assert node.left() == []
    again = node.apply(rulebook_state="absent")
    assert (again.status, again.changed) == (0, 0), again.output
