# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Alerts that somebody answers, and others, through the real rulebook, the real source and its spool."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import signal
import sys
import threading
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.controller import Controller
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, free_port

Json = dict[str, t.Any]
TOKEN = "a-token-of-the-test-suite"
POLICY = """
id: quarantine-shells
rules: ["Terminal shell*"]
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}]
"""


def inventory(directory: pathlib.Path, **variables: t.Any) -> pathlib.Path:
    """One host that answers, and one that is away."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    path = directory / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"hosts": {"here": local, "away": away}, "vars": variables}}))
    return path


def post(port: int, host: str, container: str) -> Json:
    alert = {
        "source": "falco",
        "rule": "Terminal shell in container",
        "severity": "critical",
        "host": host,
        "container": {"id": container[:12]},
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/alerts", json.dumps(alert), {"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        assert answer.status == 202
        found: Json = json.load(answer)["alerts"][0]
        return found


@pytest.fixture
def guard(tmp_path: pathlib.Path) -> t.Callable[..., RulebookProcess]:
    """The rulebook with a policy set deployed, which tries for 24 seconds: much else may be done here."""
    (tmp_path / "policy.yml").write_text(POLICY)
    ansible = Ansible(tmp_path)
    ansible.module("policy_set", src=str(tmp_path / "policy.yml"), path=str(ansible.policy_set))
    hosts = inventory(tmp_path, guard_policy_set_path=str(ansible.policy_set), guard_state_dir=str(ansible.state_dir))
    options = {
        "token": TOKEN,
        "hosts": ["here", "away"],
        "spool": str(tmp_path / "spool"),
        "answer_timeout": 20,
        "answer_deadline": 24,
    }

    def start(rulebook: str = "respond", *words: str, **variables: t.Any) -> RulebookProcess:
        port = free_port()  # which a rulebook without a variable for each option is told by that of all
        guard = {**options, "port": port} if rulebook != "respond" else options
        return RulebookProcess(
            f"ironpost.container_guard.{rulebook}",
            hosts,
            tmp_path,
            {"guard": guard, "guard_port": port, **variables},
            options=words,
        )

    return start


def test_what_nobody_answers_goes_to_a_playbook_of_ones_own(
    docker_world: DockerWorld, tmp_path: pathlib.Path, guard: t.Callable[..., RulebookProcess]
) -> None:
    target = docker_world.make_container("target")
    told = tmp_path / "told.json"
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ ([ansible_forks] + ansible_eda.event.unanswered) | to_json }}",
            "dest": str(told),
        }
    }
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [keep]}
    (tmp_path / "page.yml").write_text(yaml.safe_dump([play]))
    with guard(guard_unanswered_playbook=str(tmp_path / "page.yml")) as process:
        lost, taken = post(process.port, "away", target), post(process.port, "here", target)
        process.wait_for(told.exists, "playbook for what is unanswered")
        process.send(signal.SIGTERM)
        assert process.wait() == 0, process.log
    forks, unanswered = json.loads(told.read_text())
    assert forks == 50
    assert (unanswered["trace_id"], unanswered["host"]) == (lost["trace_id"], "away")
    assert unanswered["attempts"] >= 1
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is True

    states = {
        one["trace_id"]: Ansible(tmp_path).module("alert_info", trace_id=one["trace_id"], spool=str(tmp_path / "spool"))
        for one in (lost, taken)
    }
    assert states[lost["trace_id"]]["state"] == "unanswered"
    answered = states[taken["trace_id"]]
    assert (answered["state"], answered["outcome"]) == ("answered", "isolated")
    assert answered["hosts"]["here"]["container"]["id"] == target


def test_or_to_one_that_shows_it(docker_world: DockerWorld, guard: t.Callable[..., RulebookProcess]) -> None:
    with guard() as process:
        lost = post(process.port, "away", docker_world.make_container("target"))
        process.wait_for(lambda: "look at these containers yourself" in process.log, "playbook that shows it")
        assert f"trace {lost['trace_id']}" in " ".join(process.log.split())


def test_a_controller_runs_the_jobs_on_the_hosts_concerned(
    docker_world: DockerWorld, tmp_path: pathlib.Path, guard: t.Callable[..., RulebookProcess]
) -> None:
    target = docker_world.make_container("target")
    (tmp_path / "jobs").mkdir()
    elsewhere = Ansible(tmp_path / "jobs", "here", "away")
    elsewhere.set_variables("away", {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1})
    paths = {
        "guard_policy_set_path": str(tmp_path / "policy_set.json"),
        "guard_state_dir": str(tmp_path / "state"),
    }
    running = threading.Lock()

    def job(playbook: str) -> t.Callable[[str, Json], bool]:
        def run(limit: str, variables: Json) -> bool:
            with running:  # they share a directory
                return elsewhere.playbook(playbook, {**variables, **paths}, "--limit", limit).status == 0

        return run

    names = {"answer": "respond", "Container guard: unanswered": "unanswered"}
    with Controller({name: job(playbook) for name, playbook in names.items()}) as controller:
        words = ("--controller-url", controller.url, "--controller-token", "a-token")
        with guard("respond_controller", *words, guard_job_template="answer") as process:
            lost, taken = post(process.port, "away", target), post(process.port, "here", target)
            process.wait_for(lambda: "Container guard: unanswered" in {job[0] for job in controller.jobs}, "job")
            process.wait_for(lambda: f"{taken['trace_id']} has ended: answered" in process.log, "receipt of a job")
    assert {limit for name, limit, _variables in controller.jobs if name == "answer"} <= {"here", "away", "away,here"}
    told = [variables for name, _limit, variables in controller.jobs if name != "answer"]
    assert told[0]["ansible_eda"]["event"]["unanswered"][0]["trace_id"] == lost["trace_id"]
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is True
