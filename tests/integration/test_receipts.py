# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receipts of the playbook respond: sent by each host as it ends, and by nobody else."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import socketserver
import threading
import time
import typing as t
import weakref

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DEFAULT_DOCKER_HOST
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import (
    CORES,
    PREFIX,
    Ansible,
    PlaybookRun,
)
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.receipts import ReceiptServer

Json = dict[str, t.Any]
POLICY = """
id: quarantine-shells
rules: ["Terminal shell*"]
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}, {type: network_disconnect}]
"""


def alert(host: str, trace_id: str, container: str = "", **values: t.Any) -> Json:
    """As the event source emits it."""
    return {
        "id": f"alert-{trace_id}",
        "trace_id": trace_id,
        "source": "falco",
        "rule": "Terminal shell in container",
        "severity": "critical",
        "time": "",
        "received_at": now(),
        "host": host,
        "inventory_host": host,
        "container": {"id": container[:12], "name": "", "image": "", "subject": "container"} if container else None,
        "tags": [],
        "message": "",
        "raw": "",
        "raw_sha256": "",
        **values,
    }


def event(server: ReceiptServer, *alerts: Json, hosts: t.Sequence[str] = ()) -> Json:
    """The extra variables of a run that a rulebook starts."""
    named = sorted({one["inventory_host"] for one in alerts}.union(hosts) - {""})
    return {"ansible_eda": {"event": {"alerts": alerts, "meta": {}, "delivery": server.delivery(*named)}}}


def outcomes(receipt: Json) -> dict[str, str]:
    return {entry["trace_id"]: entry["outcome"] for entry in receipt["alerts"]}


class SlowExport(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The Docker Engine of this machine at C(docker_host), where an export takes until it is let go.

    Attributes:
        asked: an export was asked for.
        go: lets exports end.
    """

    daemon_threads = True

    def __init__(self, directory: pathlib.Path) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        super().__init__(str(directory / "docker.sock"), _Forwarded)
        self.docker_host = f"unix://{self.server_address}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.shutdown()
        super().__exit__()


class _Forwarded(socketserver.BaseRequestHandler):
    server: SlowExport

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(DEFAULT_DOCKER_HOST.removeprefix("unix://"))
            answers = threading.Thread(target=self._copy, args=[engine, self.request])
            answers.start()
            self._copy(self.request, engine)
            answers.join()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if sink is not self.request and b"/export HTTP" in piece:
                    self.server.asked.set()
                    self.server.go.wait()
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)


class Hung:
    """The interpreter of a host that takes what it is sent, and does not answer until it is let go.

    Attributes:
        interpreter: path of the program.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        gate = directory / "gate"
        os.mkfifo(gate)
        # For both ways, so that neither this nor the program waits for the other one to open it.
        self._gate = os.open(gate, os.O_RDWR)
        weakref.finalize(self, os.close, self._gate)
        self.sent = directory / "sent"
        self.interpreter = directory / "hung"
        self.interpreter.write_text(f"#!/bin/sh\ncp $1 {self.sent}\nread line < {gate}\nexit 1\n")
        self.interpreter.chmod(0o755)

    def let_go(self) -> None:
        """Let one module fail. What was given up on the controller goes on on its host until then."""
        os.write(self._gate, b"\n")


class Background:
    """A playbook run that goes on while the test looks."""

    def __init__(self, ansible: Ansible, variables: Json, *options: str) -> None:
        self._found: list[PlaybookRun] = []
        self._thread = threading.Thread(
            target=lambda: self._found.append(ansible.playbook("respond", variables, *options))
        )
        self._thread.start()

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> PlaybookRun:
        """Wait for it."""
        self._thread.join()
        return self._found[0]


@pytest.fixture
def server() -> t.Iterator[ReceiptServer]:
    with ReceiptServer() as server:
        yield server


def deployed(ansible: Ansible, directory: pathlib.Path, *policies: str) -> Ansible:
    source = directory / "policies"
    source.mkdir()
    for number, policy in enumerate(policies or [POLICY]):
        (source / f"{number}.yml").write_text(policy)
    done = ansible.module("policy_set", src=str(source), path=str(ansible.policy_set))
    assert done["changed"] is True, done
    return ansible


@pytest.fixture
def ansible(tmp_path: pathlib.Path) -> Ansible:
    return deployed(Ansible(tmp_path), tmp_path)


def test_each_host_is_told_of_as_it_ends(
    docker_world: DockerWorld, tmp_path: pathlib.Path, server: ReceiptServer
) -> None:
    ansible = deployed(Ansible(tmp_path, "healthy", "hung", "away", "localhost"), tmp_path)
    hung = Hung(tmp_path)
    ansible.set_variables("hung", {"ansible_python_interpreter": str(hung.interpreter)})
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    ansible.set_variables("away", away)
    target = docker_world.make_container("target")
    alerts = [alert("healthy", "t-1", target), alert("hung", "t-2", target), alert("away", "t-3", target)]
    variables = {**event(server, *alerts), "guard_target": "healthy:hung:away"}
    run = Background(ansible, variables, "-vvv")

    healthy, unreachable = server.of("healthy"), server.of("away")
    assert run.goes_on, "and the third hangs"
    assert "hung" not in {receipt["host"] for receipt in server.receipts}
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is True
    hung.let_go()
    failed = server.of("hung")
    output = run.end().output

    (entry,) = healthy["alerts"]
    assert (healthy["state"], entry["outcome"], entry["policy_id"]) == ("answered", "isolated", "quarantine-shells")
    assert (entry["trace_id"], entry["container"]["id"]) == ("t-1", target)
    assert isinstance(entry["milliseconds"], int)
    assert entry["record_id"]
    assert healthy["policy_set_digest"].startswith("sha256:")
    assert (unreachable["state"], outcomes(unreachable)) == ("unreachable", {})
    assert (failed["state"], outcomes(failed)) == ("failed", {})
    delivery = server.delivery("away", "healthy", "hung")
    for receipt in (healthy, unreachable, failed):
        assert (receipt["hosts"], receipt["deadline"]) == (delivery["hosts"], delivery["deadline"])
        assert set(receipt["run_hosts"]) == {"healthy", "hung", "away"}
    assert len(server.receipts) == 3
    assert set(server.requests) == {f"Receipt {server.CAPABILITY}"}
    # What allows to acknowledge is shown to nobody, and reaches no host.
    assert "'healthy'" in output or "[healthy]" in output
    assert server.CAPABILITY not in output
    assert server.CAPABILITY not in hung.sent.read_text()
    assert "receipt_url" not in hung.sent.read_text()


@pytest.mark.parametrize("core", CORES)
def test_on_every_core(docker_world: DockerWorld, tmp_path: pathlib.Path, server: ReceiptServer, core: str) -> None:
    deployed(Ansible(tmp_path), tmp_path)
    ansible = Ansible(tmp_path, core=core)
    target = docker_world.make_container("target")
    alerts = [alert("localhost", "t-1", target), alert("web-9", "t-2", target)]
    run = ansible.playbook("respond", event(server, *alerts), "-vvv")
    assert outcomes(server.of("localhost")) == {"t-1": "isolated"}
    absent = server.of("web-9")
    assert (absent["state"], outcomes(absent)) == ("unknown_host", {})
    assert "not in the inventory" in absent["message"]
    assert server.CAPABILITY not in run.output


@pytest.mark.parametrize("core", CORES)
def test_they_are_handed_on_where_the_event_says_no_address(
    docker_world: DockerWorld, tmp_path: pathlib.Path, server: ReceiptServer, core: str
) -> None:
    hosts = ("healthy", "away", "broken")
    deployed(Ansible(tmp_path, *hosts, "localhost"), tmp_path)
    ansible = Ansible(tmp_path, *hosts, "localhost", core=core)
    ansible.set_variables("away", {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1})
    ansible.set_variables("broken", {"ansible_python_interpreter": "/nowhere/python"})
    target = docker_world.make_container("target")
    named = [alert(host, f"t-{number}", target) for number, host in enumerate((*hosts, "web-9"))]
    variables = event(server, *named)
    variables["ansible_eda"]["event"]["delivery"]["pattern"] = True
    del variables["ansible_eda"]["event"]["delivery"]["receipt_url"]
    run = ansible.playbook("respond", {**variables, "guard_target": ":".join(hosts)}, "-vvv")

    assert server.requests == []
    assert server.CAPABILITY not in run.output
    handed = run.stats["guard_responses"]
    assert set(handed) == {"healthy", "broken"}, "who is unreachable hands nothing on"
    absent, healthy = sorted(handed["healthy"]["receipts"], key=lambda receipt: receipt["host"], reverse=True)
    assert (absent["host"], absent["state"], absent["alerts"]) == ("web-9", "unknown_host", [])
    assert "not in the inventory" in absent["message"]
    (entry,) = healthy["alerts"]
    assert (healthy["state"], healthy["host"], entry["outcome"]) == ("answered", "healthy", "isolated")
    assert (entry["trace_id"], entry["container"]["id"]) == ("t-0", target)
    assert healthy["policy_set_digest"].startswith("sha256:")
    assert isinstance(entry["milliseconds"], int)
    assert set(healthy["run_hosts"]) == set(hosts)
    (broken,) = handed["broken"]["receipts"]
    assert (broken["host"], broken["state"], broken["alerts"]) == ("broken", "failed", [])
    assert broken["message"]


def test_a_task_that_is_cut_off_is_told_of(tmp_path: pathlib.Path, server: ReceiptServer) -> None:
    hung = Hung(tmp_path)
    ansible = Ansible(tmp_path, ansible_python_interpreter=str(hung.interpreter))
    options = {"alerts": "{{ ansible_eda.event.alerts }}"}
    task = {PREFIX + "alert_response": options, "timeout": 2}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [task]}
    run = ansible.run(t.cast(Json, play), event(server, alert("localhost", "t-1")))
    hung.let_go()
    assert run.status != 0
    receipt = server.of("localhost")
    assert (receipt["state"], outcomes(receipt)) == ("crashed", {})


@pytest.mark.parametrize("core", CORES)
def test_a_host_that_hangs_is_given_up(tmp_path: pathlib.Path, server: ReceiptServer, core: str) -> None:
    deployed(Ansible(tmp_path, "hung", "healthy"), tmp_path)
    ansible = Ansible(tmp_path, "hung", "healthy", core=core)
    hung = Hung(tmp_path)
    ansible.set_variables("hung", {"ansible_python_interpreter": str(hung.interpreter), "guard_task_timeout": 3})
    run = ansible.playbook("respond", event(server, alert("hung", "t-1"), alert("healthy", "t-2")))
    hung.let_go()
    assert run.status != 0
    assert (server.of("hung")["state"], outcomes(server.of("hung"))) == ("crashed", {})
    assert outcomes(server.of("healthy")) == {"t-2": "no_policy"}


@pytest.mark.parametrize(
    "answer",
    [
        {"responses": [{"decision": {"outcome": "{{ x }}"}}]},
        {"responses": [], "rejected": ["x"]},
        {"responses": [], "rejected": [{"index": 1}]},
        {"responses": [], "rejected": [{}]},
        {"responses": [], "outcomes": ["x"]},
        {"responses": "x"},
    ],
)
def test_nonsense_of_a_host_is_told_of(tmp_path: pathlib.Path, server: ReceiptServer, answer: Json) -> None:
    (tmp_path / "answer").write_text(json.dumps({"changed": False, "summary": {}, **answer}))
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    interpreter.chmod(0o755)
    ansible = Ansible(tmp_path, ansible_python_interpreter=str(interpreter))
    ansible.playbook("respond", event(server, alert("localhost", "t-1")))
    receipt = server.of("localhost")
    assert (receipt["state"], outcomes(receipt)) == ("failed", {})
    assert "never returns" in receipt["message"]


def test_an_option_that_cannot_be_used_is_told_of(ansible: Ansible, server: ReceiptServer) -> None:
    variables = event(server, alert("localhost", "t-1"))
    assert ansible.playbook("respond", {**variables, "guard_action_timeout": 1000}).status != 0
    receipt = server.of("localhost")
    assert (receipt["state"], outcomes(receipt)) == ("failed", {})
    assert "action_timeout is 1000" in receipt["message"]


def test_hosts_that_take_no_part_are_told_of_by_the_first_one(tmp_path: pathlib.Path, server: ReceiptServer) -> None:
    ansible = deployed(Ansible(tmp_path, "web-1", "web-2", "web-3", "localhost"), tmp_path)
    alerts = [alert("web-1", "t-1"), alert("web-2", "t-2"), alert("web-3", "t-3"), alert("weeb-4", "t-4")]
    ansible.playbook("respond", event(server, *alerts, hosts=["all"]), "--limit", "web-1,web-2,weeb-4")
    states = {receipt["host"]: (receipt["state"], outcomes(receipt)) for receipt in server.receipts}
    assert states == {
        "web-1": ("answered", {"t-1": "no_policy"}),
        "web-2": ("answered", {"t-2": "no_policy"}),
        "web-3": ("unknown_host", {}),
        "weeb-4": ("unknown_host", {}),
    }
    assert len(server.receipts) == 4


def test_what_a_host_refuses_is_told_by_its_place_in_the_event(tmp_path: pathlib.Path, server: ReceiptServer) -> None:
    ansible = deployed(Ansible(tmp_path, "web-1", "web-2", "localhost"), tmp_path)
    alerts = [alert("web-1", "t-1"), alert("web-2", "t-2"), alert("web-2", "t-3", source="{")]
    run = ansible.playbook("respond", event(server, *alerts), "--limit", "web-1,web-2")
    assert run.status != 0
    assert outcomes(server.of("web-1")) == {"t-1": "no_policy"}
    assert outcomes(server.of("web-2")) == {"t-2": "no_policy", "t-3": "refused"}
    assert "an alert is refused: source" in " ".join(run.output.split())


def test_check_mode_acknowledges_nothing(docker_world: DockerWorld, ansible: Ansible, server: ReceiptServer) -> None:
    target = docker_world.make_container("target")
    run = ansible.playbook("respond", event(server, alert("localhost", "t-1", target)), "--check")
    assert "would_isolate" in run.output
    assert server.requests == []


def test_nothing_is_sent_where_the_event_says_no_delivery(ansible: Ansible, server: ReceiptServer) -> None:
    variables = event(server, alert("localhost", "t-1"))
    del variables["ansible_eda"]["event"]["delivery"]
    ansible.playbook("respond", variables)
    assert server.requests == []


def test_what_cannot_be_delivered_is_a_warning(docker_world: DockerWorld, ansible: Ansible) -> None:
    with ReceiptServer() as gone:
        variables = event(gone, alert("localhost", "t-1", docker_world.make_container("target")))
    run = ansible.playbook("respond", variables)
    assert run.status == 0, run.output
    assert "the receipt of localhost was not delivered" in " ".join(run.output.split())
    assert run.stats["guard_responses"]["localhost"]["summary"] == {"isolated": 1}


class TestEvidence:
    WANTS = POLICY.replace("quarantine-shells", "with-evidence").replace("-*", "-*-wants") + "evidence: [top, export]\n"
    LEAVES = POLICY.replace("-*", "-*-leaves")

    def seconds_until_paused(
        self, world: DockerWorld, ansible: Ansible, server: ReceiptServer, suffix: str, docker_host: str
    ) -> float:
        target = world.make_container(f"{suffix}-leaves")
        variables = {**event(server, alert("localhost", suffix, target)), "guard_docker_host": docker_host}
        began = time.monotonic()
        run = Background(ansible, variables)
        world.until(lambda: world.engine.inspect_container(target)["State"]["Paused"], "pause")
        took = time.monotonic() - began
        assert run.end().status == 0
        return took

    @pytest.mark.alone
    def test_is_no_part_of_the_turn_of_a_host(
        self, docker_world: DockerWorld, tmp_path: pathlib.Path, server: ReceiptServer
    ) -> None:
        ansible = deployed(Ansible(tmp_path), tmp_path, self.WANTS, self.LEAVES)
        wanted = docker_world.make_container("target-wants")
        (tmp_path / "other").mkdir()
        with SlowExport(tmp_path) as engine:

            def seconds(when: str) -> float:
                return min(
                    self.seconds_until_paused(docker_world, ansible, server, f"{when}-{number}", engine.docker_host)
                    for number in range(2)
                )

            alone = seconds("alone")
            variables = {
                **event(server, alert("localhost", "wants", wanted)),
                "guard_docker_host": engine.docker_host,
                "guard_state_dir": str(ansible.state_dir),
                "guard_policy_set_path": str(ansible.policy_set),
            }
            run = Background(Ansible(tmp_path / "other"), variables)
            assert engine.asked.wait(60)
            receipts = {trace_id: outcome for one in server.receipts for trace_id, outcome in outcomes(one).items()}
            assert receipts["wants"] == "isolated", "it was told before"
            meanwhile = seconds("meanwhile")
            assert run.goes_on
            engine.go.set()
            assert run.end().status == 0
        assert meanwhile <= 1.5 * alone

        lines = (ansible.state_dir / "actions.jsonl").read_text().splitlines()
        (record,) = [one for one in map(json.loads, lines) if one["outcome"] == "collected"]
        assert (record["trace_id"], record["container"]["id"]) == ("wants", wanted)
        directory = pathlib.Path(record["evidence"]["directory"])
        assert {"top.json", "export.tar"} <= {path.name for path in directory.iterdir()}

    def test_does_not_take_for_ever(
        self, docker_world: DockerWorld, tmp_path: pathlib.Path, server: ReceiptServer
    ) -> None:
        ansible = deployed(Ansible(tmp_path), tmp_path, self.WANTS)
        wanted = docker_world.make_container("target-wants")
        with SlowExport(tmp_path) as engine:
            variables = {"guard_docker_host": engine.docker_host, "guard_evidence_timeout": 12}
            run = ansible.playbook("respond", {**event(server, alert("localhost", "t-1", wanted)), **variables})
        assert engine.asked.is_set()
        assert run.status != 0
        assert outcomes(server.of("localhost")) == {"t-1": "isolated"}

    def test_is_collected_where_another_alert_of_the_batch_failed(
        self, docker_world: DockerWorld, tmp_path: pathlib.Path, server: ReceiptServer
    ) -> None:
        ending = self.WANTS.replace("{type: network_disconnect}", "{type: kill}")
        ansible = deployed(Ansible(tmp_path), tmp_path, ending)
        target = docker_world.make_container("target-wants")
        alerts = [alert("localhost", "t-1", target), alert("localhost", "t-2", source="{")]
        assert ansible.playbook("respond", event(server, *alerts)).status != 0
        assert outcomes(server.of("localhost")) == {"t-1": "isolated", "t-2": "refused"}
        (directory,) = (ansible.state_dir / "evidence").iterdir()
        manifest = json.loads((directory / "manifest.json").read_text())
        assert manifest["status"] == "complete"
        # What goes with the processes was taken before they were ended.
        assert {item["kind"]: item["status"] for item in manifest["items"]} == {
            "top": "collected",
            "export": "collected",
        }
