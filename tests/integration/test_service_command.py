# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of a host on a real engine: alone, beside the service and the modules, and while no engine answers."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.main import main
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.guarded import seen
from ansible_collections.ironpost.container_guard.tests.integration.service_process import (
    MAIN,
    PATIENCE,
    ServiceProcess,
    falco,
    policy_set,
)
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

HOSTILE = "\x1b[2J\x1b]0;owned\x07{{ 7777 * 7777 }}\u202e"
Json = dict[str, t.Any]


class Run(t.NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it printed on one line: where lines end depends on names and paths."""
        return " ".join(self.out.split())


class Commands:
    """The commands, as they are typed on a host that is configured so."""

    def __init__(self, config: pathlib.Path) -> None:
        self.config = config
        self.directory = config.parent

    def run(self, *arguments: str, stdin: str = "", **env: str) -> Run:
        """Type one."""
        done = subprocess.run(
            [sys.executable, "-m", MAIN, *arguments, "--config", str(self.config)],
            check=False,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
            env={**os.environ, **env},
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str) -> Json:
        """What one says to programs."""
        found: Json = json.loads(self.run(*arguments, "--json").out)
        return found


def configured(directory: pathlib.Path, docker_host: str, **settings: t.Any) -> Commands:
    """Those of a host whose guard has all in one directory."""
    directory.mkdir()
    config = {
        "host": "web-1",
        "docker_host": docker_host,
        "state_dir": str(directory / "state"),
        "policy_set": str(directory / "policy_set.json"),
        "socket": str(directory / "alerts.sock"),
        **settings,
    }
    (directory / "service.json").write_text(json.dumps(config))
    (directory / "policy_set.json").write_text(policy_set())
    return Commands(directory / "service.json")


@pytest.fixture
def commands(tmp_path: pathlib.Path, docker_world: DockerWorld) -> Commands:
    return configured(tmp_path / "guard", docker_world.docker_host)


def test_isolated_shown_seen_by_the_module_and_given_back_exactly(
    commands: Commands, docker_world: DockerWorld, tmp_path: pathlib.Path
) -> None:
    network = docker_world.make_network("net")
    settings = EndpointSettings(aliases=("database",))
    target = docker_world.make_container("target", {network: settings}, restart_policy=("always", 0))
    before, name = seen(docker_world.engine, target), docker_world.name("target")

    run = commands.run("isolate", name, "--reason", "found a miner", "--release-after", "2h", SUDO_USER="alice")

    assert run.status == 0, run
    assert run.out.startswith(f"{name}: isolated, until ")
    cut_off = seen(docker_world.engine, target)
    assert (cut_off["state"]["Paused"], cut_off["networks"]) == (True, {})

    shown = commands.run("status")
    assert shown.status == 0
    assert shown.out.startswith("web-1: 1 container isolated, and that holds\n")
    assert f"{name} ({target[:12]})\n  by hand: pause, network_disconnect: found a miner\n" in shown.out
    assert ", by alice\n" in shown.out

    info = Ansible(tmp_path).module(
        "isolation_info",
        state_dir=str(commands.directory / "state"),
        policy_set=str(commands.directory / "policy_set.json"),
        docker_host=docker_world.docker_host,
    )
    (isolation,) = info["isolations"]
    assert (isolation["container"], isolation["agree"]) == ({"id": target, "name": name}, True)
    (claim,) = isolation["claims"]
    assert (claim["kind"], claim["reason"], claim["actor"]) == ("person", "found a miner", "alice")
    assert info["action_log"]["intact"] is True
    assert info["action_log"]["interrupted"] == []

    run = commands.run("release", "--trace", claim["trace_id"], "--reason", "false alarm")
    assert (run.status, run.out) == (0, f"{name}: released\n")
    assert seen(docker_world.engine, target) == before
    assert commands.json("status")["isolations"] == []
    records = commands.json("explain", name)["records"]
    assert [(one["outcome"], one["reasons"]) for one in records] == [
        ("isolated", ["found a miner"]),
        ("released", ["false alarm"]),
    ]


def test_what_the_module_isolated_is_released_by_hand(
    commands: Commands, docker_world: DockerWorld, tmp_path: pathlib.Path
) -> None:
    target = docker_world.make_container("target")
    before, name = seen(docker_world.engine, target), docker_world.name("target")
    done = Ansible(tmp_path).module(
        "isolation",
        container=name,
        state_dir=str(commands.directory / "state"),
        policy_set=str(commands.directory / "policy_set.json"),
        docker_host=docker_world.docker_host,
    )
    assert done["outcome"] == "isolated"
    assert commands.run("release", name).status == 0
    assert seen(docker_world.engine, target) == before


class TestBesideTheService:
    @pytest.fixture
    def service(self, tmp_path: pathlib.Path, docker_world: DockerWorld) -> t.Iterator[ServiceProcess]:
        with ServiceProcess(tmp_path / "service", docker_world.docker_host) as process:
            yield process

    @pytest.fixture
    def commands(self, service: ServiceProcess) -> Commands:
        return Commands(service.directory / "service.json")

    def test_each_holds_and_releases_what_the_other_isolated(
        self, service: ServiceProcess, commands: Commands, docker_world: DockerWorld
    ) -> None:
        target, other = (docker_world.make_container(suffix) for suffix in ("target", "other"))
        before = seen(docker_world.engine, target)
        service.post(falco(target))
        service.until(lambda: service.records("isolated"), "the container is isolated")

        shown = commands.run("status")
        assert (shown.status, "service: ok\n" in shown.out) == (0, True)
        assert "  policy quarantine: pause, network_disconnect: " in shown.out
        assert ", by service\n" in shown.out

        # A person holds it, too: what the policy holds of it ends alone.
        name = docker_world.name("target")
        assert commands.run("isolate", name, "--action", "pause").status == 0
        run = commands.run("release", name, "--policy", "quarantine")
        assert run.status == 1
        assert f"{name}: held: container {name} is still held by root: pause. What was to end has ended." in run.err
        state = seen(docker_world.engine, target)
        assert (state["state"]["Paused"], bool(state["networks"])) == (True, True)

        # What was isolated by hand the service holds.
        assert commands.run("isolate", other).status == 0
        docker_world.engine.unpause(other)
        service.until(
            lambda: docker_world.engine.inspect_container(other)["State"]["Paused"], "the service holds it again"
        )
        service.until(lambda: commands.run("status").status == 0, "all holds")

        run = commands.run("release", "--all")
        assert run.status == 0, run
        assert commands.json("status")["isolations"] == []
        assert seen(docker_world.engine, target) == before
        assert commands.json("status")["action_log"]["intact"] is True

    def test_it_is_told_that_the_service_is_unwell_or_gone(self, service: ServiceProcess, commands: Commands) -> None:
        service.deploy("{}")
        service.until(lambda: any("STATUS=degraded" in said for said in service.status), "it says that the set is bad")
        words = commands.run("status").words
        assert "service: FAILING trouble: the policy set cannot be used: " in words
        assert "policies: UNUSABLE: " in words
        service.stop(signal.SIGKILL)
        assert "service: NONE RUNS: nothing listens at" in commands.run("status").words


class TestNoEngine:
    @pytest.fixture
    def held(self, commands: Commands, docker_world: DockerWorld) -> str:
        docker_world.make_container("target")
        assert commands.run("isolate", docker_world.name("target"), "--reason", "found a miner").status == 0
        return docker_world.name("target")

    def elsewhere(self, commands: Commands, docker_host: str) -> Commands:
        """The same state directory, with another engine."""
        state, policies = str(commands.directory / "state"), str(commands.directory / "policy_set.json")
        settings = {"state_dir": state, "policy_set": policies, "action_timeout": 1, "retry_max_attempts": 0}
        return configured(commands.directory.parent / "elsewhere", docker_host, **settings)

    def looked_at(self, commands: Commands, held: str, trouble: str) -> None:
        shown = commands.run("status")
        assert shown.status == 1
        assert shown.out.startswith("web-1: 1 container isolated, and whether that holds is not known\n")
        assert trouble in shown.words
        assert f"{held} " in shown.out
        assert "found a miner" in shown.out
        explained = commands.run("explain", held)
        assert (explained.status, "found a miner" in explained.out) == (1, True)
        for run in (commands.run("release", "--all"), commands.run("isolate", held)):
            assert (run.status, run.out) == (1, "")
            assert trouble in run.err

    def test_one_that_is_missing(self, commands: Commands, held: str, tmp_path: pathlib.Path) -> None:
        self.looked_at(self.elsewhere(commands, f"unix://{tmp_path}/no-such.sock"), held, "no-such.sock")
        assert commands.run("release", "--all").status == 0

    def test_one_that_accepts_and_says_nothing(self, commands: Commands, held: str, tmp_path: pathlib.Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
            silent.bind(str(tmp_path / "silent.sock"))
            silent.listen(64)
            silent_one = self.elsewhere(commands, f"unix://{tmp_path}/silent.sock")
            self.looked_at(silent_one, held, "did not answer within 1 s")
        assert commands.run("release", "--all").status == 0


def test_an_engine_that_is_frozen(tmp_path: pathlib.Path, docker_world: DockerWorld, faulty_host: Host) -> None:
    commands = configured(tmp_path / "guard", docker_world.docker_host, action_timeout=2, retry_max_attempts=0)
    docker_world.make_container("target")
    name = docker_world.name("target")
    assert commands.run("isolate", name).status == 0
    faulty_host.freeze_engine()
    shown = commands.run("status")
    assert shown.status == 1
    assert shown.out.startswith("web-1: 1 container isolated, and whether that holds is not known\n")
    assert commands.run("release", name).status == 1
    faulty_host.thaw_engine()
    assert commands.run("status").status == 0
    assert commands.run("release", name).status == 0


def test_names_and_texts_of_others_reach_no_terminal(commands: Commands, docker_world: DockerWorld) -> None:
    target = docker_world.make_container("target", labels={"role": HOSTILE}, command=("sleep", "3600", HOSTILE))
    name = docker_world.name("target")
    alert = falco(target, rule=f"shell {HOSTILE}")
    for run in (
        commands.run("isolate", f"no{HOSTILE}", "--reason", HOSTILE),
        commands.run("isolate", name, "--reason", HOSTILE, SUDO_USER=HOSTILE),
        commands.run("status"),
        commands.run("explain", name),
        commands.run("explain", name, "--alert", "-", stdin=json.dumps(alert)),
        commands.run("explain", HOSTILE),
        commands.run("release", name, "--trace", HOSTILE),
        commands.run("release", name, "--reason", HOSTILE),
    ):
        assert "60481729" not in run.out
        assert "Traceback" not in run.err
        assert all(line.isprintable() for line in (run.out + run.err).split("\n")), run
    assert {one["actor"] for one in commands.json("explain", name)["records"]} == {"root"}


def test_an_alert_is_explained_as_the_service_answers_it(commands: Commands, docker_world: DockerWorld) -> None:
    target = docker_world.make_container("target")
    for priority, said in (("Critical", "policy quarantine isolates it"), ("Notice", "nothing is done, no_policy")):
        alert = json.dumps(falco(target, priority=priority))
        run = commands.run("explain", target, "--alert", "-", stdin=alert)
        assert (run.status, said in run.out) == (0, True), run
    assert seen(docker_world.engine, target)["state"]["Paused"] is False


def test_an_ordinary_user_reads_one_sentence(
    commands: Commands, docker_world: DockerWorld, tmp_path: pathlib.Path
) -> None:
    docker_world.make_container("target")
    assert commands.run("isolate", docker_world.name("target")).status == 0
    for directory in (tmp_path, commands.directory):
        directory.chmod(0o755)
    said = tmp_path / "said"
    child = os.fork()
    if child == 0:  # everything that it needs is imported by now, and it never returns into the test
        status = 99
        with contextlib.suppress(BaseException), open(said, "w", encoding="utf-8") as sys.stderr:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            status = main(["status", "--config", str(commands.config)])
            sys.stderr.flush()
        os._exit(status)
    _pid, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 1
    assert said.read_text() == (f"container-guard: {commands.config} is not for this user. Run it as root, with sudo\n")
