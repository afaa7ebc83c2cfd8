# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role host_service on a Docker host with systemd: the service answers there, and no alert is lost by any change.

The tests share what the first of them installs, and come one after another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import threading
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.extended.roles import Applied, Json, RoleHost, built
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.senders import TOKEN, elements, falco, post
from ansible_collections.ironpost.container_guard.tests.testbed import fleet
from ansible_collections.ironpost.container_guard.tests.testbed.systemd_host import SystemdHost

ROLE = "ironpost.container_guard.host_service"
UNIT = "container-guard.service"
SOCKET = "container-guard.socket"
PORT = 5001
ARCHIVES = "/opt/container-guard/service"
CONFIG = "/etc/container-guard/service.json"
PLACES = (ARCHIVES, CONFIG, "/etc/container-guard/mode", "/var/lib/container-guard/spool", "/run/container-guard.sock")
INTAKE = {"host": "0.0.0.0", "token": TOKEN, "path_token": f"{TOKEN}-of-the-path"}  # noqa: S104 - of a container
POLICY = """
id: quarantine-shells
severity_threshold: high
rules: ["Terminal shell*"]
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}, {type: network_disconnect}]
"""
WATCHDOG = 30
PROBE = """
import json, sys, time
sys.path.insert(0, "/opt/container-guard/service/current")
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
pid, container = int(sys.argv[1]), sys.argv[2]
truth = HostTruth("unix:///run/docker.sock")
found = (truth.links(pid, container), truth.details(pid, container, ()), truth.frozen(pid, container))
found += (truth.unfrozen(pid, container, time.monotonic()), truth.listeners())
print(json.dumps([repr(one) for one in found]))
"""


class GuardedHost(RoleHost):
    """A host as the role makes it one that answers by itself."""

    def __init__(self, machine: SystemdHost, directory: pathlib.Path) -> None:
        super().__init__(machine, directory, ROLE, UNIT)
        self.variables = {
            "host_service_install_packages": True,  # they are there, as nothing can be reached
            "host_service_config": {"intake": INTAKE},
        }

    def left(self) -> list[str]:
        """Files of the service."""
        units = "/etc/systemd/system"
        found = self.ask("find", units, "-name", "container-guard.s*").splitlines()
        return found + [place for place in PLACES if self.machine.exec("test", "-e", place)[0] == 0]

    def archives(self) -> set[str]:
        """The names of those that are kept."""
        return set(self.ask("find", ARCHIVES, "-mindepth", "1", "-type", "d", "-prune", "-printf", "%f\n").split())

    def link(self, name: str) -> str:
        """The archive that a name leads to."""
        return pathlib.Path(self.ask("readlink", f"{ARCHIVES}/{name}")).name

    def last(self, container: str) -> tuple[str, str]:
        """Outcome and actor of what the action log says last about a container; empty where there is nothing."""
        lines = self.ask("cat", "/var/lib/container-guard/actions.jsonl").splitlines()
        found = [one for one in map(json.loads, lines) if one["container"]["id"] == container]
        return (found[-1]["outcome"], found[-1]["actor"]) if found else ("", "")

    @contextlib.contextmanager
    def silent_engine(self) -> t.Iterator[None]:
        """Its engine says nothing meanwhile."""
        self.ask("systemctl", "kill", "--signal=STOP", "docker.service")
        try:
            yield
        finally:
            self.ask("systemctl", "kill", "--signal=CONT", "docker.service")


class Load:
    """Senders that connect for each alert and send it once, as most do. A context manager.

    Attributes:
        accepted: how many were answered 202.
        refused: what else came of one.
    """

    def __init__(self, port: int, container: str) -> None:
        self.accepted = 0
        self.refused: list[str] = []
        self._port = port
        self._container = container
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                status, answer = post(self._port, falco(self._container, "node", f"Terminal shell {sender} {number}"))
                said = "" if status == 202 else f"{status}: {answer}"
            except Exception as error:
                said = repr(error)
            with self._lock:
                if said:
                    self.refused.append(said)
                else:
                    self.accepted += 1


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
def world(systemd_host: SystemdHost) -> t.Iterator[DockerWorld]:
    with DockerWorld(systemd_host.docker_host) as found:
        yield found


@dataclasses.dataclass(frozen=True)
class FirstRun:
    """What the first run of the role did, and what was said of it before, in check mode."""

    node: GuardedHost
    said: Applied
    left_after_check: list[str]
    without_policies: Applied
    done: Applied


@pytest.fixture(scope="module")
def first_run(systemd_host: SystemdHost, tmp_path_factory: pytest.TempPathFactory) -> FirstRun:
    node = GuardedHost(systemd_host, tmp_path_factory.mktemp("node"))
    said = node.apply("--check", "--diff")
    left = node.left()
    early = node.apply(host_service_health_timeout=2)
    node.deploy(POLICY)
    done = node.apply("--diff")
    assert done.status == 0, done.output
    return FirstRun(node, said, left, early, done)


@pytest.fixture(scope="module")
def node(first_run: FirstRun) -> GuardedHost:
    return first_run.node


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory of collections with another version of this one."""
    directory = tmp_path_factory.mktemp("next")
    shutil.unpack_archive(built(directory), directory / "ansible_collections/ironpost/container_guard", filter="data")
    main = directory / "ansible_collections/ironpost/container_guard/plugins/plugin_utils/_service/main.py"
    main.write_text(main.read_text() + "\n# of the next version\n")
    return directory


def test_check_mode_touches_nothing_on_a_bare_host(first_run: FirstRun) -> None:
    assert first_run.said.status == 0, first_run.said.output
    assert first_run.said.changed > 0
    assert "+WatchdogSec=" in first_run.said.output
    assert first_run.left_after_check == []


def test_without_policies_it_says_that_nothing_is_answered(first_run: FirstRun) -> None:
    assert first_run.without_policies.status != 0
    assert "no policy set is deployed" in first_run.without_policies.output


def test_no_secret_is_shown(first_run: FirstRun) -> None:
    for run in (first_run.said, first_run.without_policies, first_run.done):
        assert TOKEN not in run.output
    assert TOKEN not in first_run.node.log


def test_it_says_where_alerts_are_taken(first_run: FirstRun) -> None:
    said = f"Alerts are taken at http://127.0.0.1:{PORT}/alerts and at /run/container-guard.sock"
    assert said in first_run.done.output


def test_the_second_run_changes_nothing(node: GuardedHost) -> None:
    before = node.pid
    for options in ([], ["--check", "--diff"]):
        again = node.apply(*options)
        assert (again.status, again.changed) == (0, 0), again.output
    assert node.pid == before


def test_the_units_are_valid_and_contained(node: GuardedHost) -> None:
    assert node.ask("systemd-analyze", "verify", UNIT, SOCKET) == ""
    exposure = re.search(r"exposure level for .*: ([0-9.]+)", node.ask("systemd-analyze", "security", UNIT))
    assert exposure is not None
    # It is root, who looks into the namespaces of containers: of 2.7, that is 1.6.
    assert float(exposure[1]) <= 2.7


def test_in_the_unit_the_kernel_can_be_asked_for_all_that_the_engine_says(
    node: GuardedHost, world: DockerWorld
) -> None:
    target = world.make_container("probed", {world.make_network("probed"): PLAIN})
    arguments = ["/srv/probe.py", str(world.engine.inspect_container(target)["State"]["Pid"]), target]
    unit = re.sub(
        "^ExecStart=.*", f"ExecStart=/usr/bin/python3 -I {' '.join(arguments)}", node.unit(UNIT), flags=re.MULTILINE
    )
    unit = re.sub("^(Requires|After|Restart|WatchdogSec|KillMode)=.*", "", unit, flags=re.MULTILINE)
    unit = unit.replace("Type=notify", "Type=oneshot").replace("NotifyAccess=main", "")
    for path, text in (("/srv/probe.py", PROBE), ("/run/systemd/system/probe.service", unit)):
        node.ask("sh", "-c", 'printf "%s" "$2" >"$1"', "sh", path, text)
    node.ask("systemctl", "daemon-reload")
    node.ask("systemctl", "start", "probe.service")
    inside = node.ask("journalctl", "--unit=probe.service", "--output=cat", "--no-pager")
    outside = node.ask("/usr/bin/python3", "-I", *arguments)
    assert outside in inside.splitlines()
    assert "None" not in json.loads(outside)
    node.ask("rm", "/run/systemd/system/probe.service")


def test_it_is_of_root_alone_and_nobody_else_gets_what_it_brings(node: GuardedHost) -> None:
    assert node.ask("find", ARCHIVES, "-not", "-user", "root", "-o", "-perm", "/022", "-not", "-type", "l") == ""
    assert node.ask("stat", "--format=%U %a", CONFIG) == "root 600"
    script = "import sys, docker; assert 'ansible' not in sys.modules; print(docker.__file__)"
    assert node.ask("/usr/bin/python3", "-c", script).startswith("/usr/lib/python3/dist-packages/")
    loaded = node.ask("cat", f"/proc/{node.pid}/maps") + node.ask("ls", "-l", f"/proc/{node.pid}/fd")
    assert "ansible/" not in loaded


def test_its_command_is_found_by_name(node: GuardedHost) -> None:
    assert "usage: container-guard" in node.ask("container-guard", "--help")


@pytest.mark.parametrize("way", ["port", "path", "socket"])
def test_an_alert_to_the_service_isolates_the_container_that_it_names(
    node: GuardedHost, world: DockerWorld, way: str
) -> None:
    network = world.make_network(f"net-{way}")
    target, bystander = (world.make_container(f"{name}-{way}", {network: PLAIN}) for name in ("target", "bystander"))
    message = falco(target, "node")
    if way == "socket":
        assert '"accepted": 1' in node.ask("/usr/bin/python3", "-c", _BY_SOCKET, json.dumps(message), TOKEN)
    elif way == "path":
        status, answer = post(node.port, message, f"/alerts/falco/{INTAKE['path_token']}", token="none")
        assert status == 202, answer
    else:
        status, answer = post(node.port, message)
        assert status == 202, answer
    node.until(lambda: world.state(target) == "paused" and world.keys(target) == {}, "isolation")
    assert world.state(bystander) == "running"
    node.until(lambda: node.last(target) == ("isolated", "service"), "record")


_BY_SOCKET = """
import socket, sys
body = sys.argv[1].encode()
with socket.socket(socket.AF_UNIX) as sending:
    sending.connect("/run/container-guard.sock")
    head = f"POST /alerts HTTP/1.1\\r\\nHost: x\\r\\nAuthorization: Bearer {sys.argv[2]}\\r\\nConnection: close\\r\\n"
    sending.sendall(head.encode() + f"Content-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
    while data := sending.recv(65536):
        print(data.decode())
"""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"intake": {**INTAKE, "tokne": TOKEN}}, "unknown setting of intake 'tokne'. Did you mean token?"),
        ({"intake": INTAKE, "retry_max_attempts": 11}, "retry_max_attempts"),
        ({"intake": INTAKE, "socket": "/run/other.sock"}, "host_service_config cannot hold mode and socket"),
        ({"intake": {**INTAKE, "port": 0}}, "intake.port a number above 0"),
        ({"intake": {**INTAKE, "host": "localhost"}}, "intake.host is the number of an address"),
    ],
    ids=["misspelt", "range", "set-by-the-role", "no-port", "a-name"],
)
def test_a_wrong_configuration_reaches_no_service(node: GuardedHost, wrong: Json, said: str) -> None:
    before = (node.pid, node.ask("sha256sum", CONFIG), node.link("current"))
    for options in ([], ["--check"]):
        refused = node.apply(*options, host_service_config=wrong)
        assert refused.status != 0
        assert said in re.sub(r"\s+", " ", refused.output)
        assert TOKEN not in refused.output
    assert (node.pid, node.ask("sha256sum", CONFIG), node.link("current")) == before
    assert node.well


def test_to_watch_only_needs_no_restart(node: GuardedHost, world: DockerWorld) -> None:
    before = node.pid
    assert node.apply(guard_mode="audit").status == 0
    watched = world.make_container("watched")

    def alerted() -> None:
        assert post(node.port, falco(watched, "node", f"Terminal shell {time.monotonic()}"))[0] == 202

    def is_watched() -> bool:
        alerted()
        return node.last(watched)[0] == "audit"

    def is_acted_upon() -> bool:
        alerted()
        return world.state(watched) == "paused"

    node.until(is_watched, "alert that is watched only")
    assert node.apply().status == 0
    node.until(is_acted_upon, "alert that is acted upon")
    assert node.pid == before


def test_an_upgrade_and_the_way_back_refuse_no_sender_and_lose_no_alert(
    node: GuardedHost, world: DockerWorld, next_version: pathlib.Path
) -> None:
    target = world.make_container("load")
    ours = node.link("current")
    pids = [node.pid]
    before = elements(node.port)
    with Load(node.port, target) as load:
        upgraded = node.apply("--diff", collections=next_version)
        assert upgraded.status == 0, upgraded.output
        theirs = node.link("current")
        pids.append(node.pid)
        assert (theirs != ours, node.link("previous"), node.archives()) == (True, ours, {ours, theirs})
        back = node.apply(collections=next_version, host_service_rollback=True)
        assert back.status == 0, back.output
        pids.append(node.pid)
        assert (node.link("current"), node.link("previous"), node.archives()) == (ours, theirs, {ours, theirs})
    assert load.refused == []
    assert len(set(pids)) == 3
    node.until(lambda: elements(node.port)["waiting"] == 0, "answer to all of them")
    after = elements(node.port)
    taken = {name: after[name] - before[name] for name in ("answered", "folded", "unanswered")}
    assert taken["answered"] + taken["folded"] == load.accepted > 0
    assert taken["unanswered"] == 0
    assert world.state(target) == "paused"
    again = node.apply(collections=next_version, host_service_rollback=True)
    assert (again.status, again.changed) == (0, 0), again.output


def test_of_older_archives_one_is_kept(node: GuardedHost, next_version: pathlib.Path) -> None:
    ours, theirs = node.link("current"), node.link("previous")
    main = next_version / "ansible_collections/ironpost/container_guard/plugins/plugin_utils/_service/main.py"
    main.write_text(main.read_text() + "# and of the one after that\n")
    assert node.apply(collections=next_version).status == 0
    newest = node.link("current")
    assert node.archives() == {ours, newest}
    assert newest not in (ours, theirs)
    assert node.apply().status == 0
    assert (node.link("current"), node.archives()) == (ours, {ours, newest})


def test_a_service_that_was_killed_or_hangs_comes_back_and_answers(node: GuardedHost, world: DockerWorld) -> None:
    for name, number in (("killed", "KILL"), ("hung", "STOP")):
        target, before, since = world.make_container(name), node.pid, time.monotonic()
        node.ask("kill", f"-{number}", str(before))
        # Senders need not know: what they say waits in the socket.
        assert post(node.port, falco(target, "node"))[0] == 202
        assert node.pid not in (0, before)
        assert (time.monotonic() - since > WATCHDOG / 2) == (number == "STOP")
        node.until(lambda target=target: world.state(target) == "paused", "isolation")


def test_another_port_opens_other_sockets(node: GuardedHost) -> None:
    moved = node.apply(host_service_config={"intake": {**INTAKE, "host": "127.0.0.1", "port": 5002}})
    assert moved.status == 0, moved.output
    assert "Alerts are taken at http://127.0.0.1:5002/alerts" in moved.output
    assert node.apply().status == 0
    node.until(lambda: node.well, "the port of before")


def test_it_is_removed_only_when_nobody_waits_and_a_stop_keeps_what_was_accepted(
    node: GuardedHost, world: DockerWorld
) -> None:
    target = world.make_container("kept")
    with node.silent_engine():
        assert post(node.port, falco(target, "node"))[0] == 202
        refused = node.apply(host_service_state="absent")
        assert refused.status != 0
        assert "1 alerts wait for an answer" in refused.output
        node.until(lambda: elements(node.port)["waiting"] == 1, "service that goes on")
        stopped = node.apply(host_service_state="stopped")
        assert stopped.status == 0, stopped.output
        # Within a minute, or else it is ended: the engine is silent.
        assert all(node.machine.exec("systemctl", "is-active", unit)[0] != 0 for unit in (UNIT, SOCKET))
        with pytest.raises(OSError, match=r"."):
            post(node.port, falco(target, "node"))
        again = node.apply(host_service_state="stopped")
        assert (again.status, again.changed) == (0, 0), again.output
    assert world.state(target) == "running"
    started = node.apply()
    assert started.status == 0, started.output
    node.until(lambda: world.state(target) == "paused", "isolation")
    node.until(lambda: elements(node.port)["waiting"] == 0, "answer")


def test_all_of_it_is_removed_but_what_modules_need_to_release(node: GuardedHost) -> None:
    removed = node.apply(host_service_state="absent")
    assert removed.status == 0, removed.output
    assert node.left() == []
    assert node.machine.exec("systemctl", "cat", UNIT)[0] != 0
    node.ask("test", "-s", "/etc/container-guard/policy_set.json")
    assert node.ask("ls", "/var/lib/container-guard/isolations") != ""
    for options in ([], ["--check"]):
        again = node.apply(*options, host_service_state="absent")
        assert (again.status, again.changed) == (0, 0), again.output
