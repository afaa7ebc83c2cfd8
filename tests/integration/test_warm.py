# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks run by a warm process are run as if they were not: the same runs are made with it and without."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable, Iterator

import ansible_runner
import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import CORES, VENV
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import (
    WARM,
    RulebookProcess,
    local_inventory,
)
from ansible_collections.ironpost.container_guard.tests.integration.senders import TOKEN, elements, falco, post
from ansible_collections.ironpost.container_guard.tests.testbed.debian import AS_ROOT

PATIENCE = 120.0
USUAL = "ansible-playbook starts as usual"
READY = "playbooks are run by a warm process"
Json = dict[str, t.Any]

PROBE = """
import json, os, re, resource, signal, sys, termios, threading
from ansible import constants as C
from ansible.plugins.lookup import LookupBase
from ansible.utils import color, vars as ids
from ansible.utils.display import Display

class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        display = Display()
        with open("/proc/self/stat") as file:
            session, terminal = file.read().rpartition(")")[2].split()[3:5]
        found = {
            "program": sys.modules["__main__"].__file__,
            "argv": sys.argv,
            "path": sys.path,
            "executable": sys.executable,
            "cwd": os.getcwd(),
            "umask": os.popen("umask").read(),
            "environment": dict(os.environ),
            "of children": os.popen("env -0").read(),
            "signals": {
                str(number): re.sub(" at .*", "", str(signal.getsignal(number))) for number in signal.valid_signals()
            },
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "limits": [resource.getrlimit(number) for number in range(16)],
            "leads": [int(session) == os.getpid(), os.getpgrp() == os.getpid(), int(terminal) != 0],
            "foreground": os.tcgetpgrp(0) == os.getpgrp(),
            "streams": [os.readlink(f"/proc/self/fd/{number}") == os.ttyname(0) for number in range(3)],
            "sizes": [display.columns, color.ANSIBLE_COLOR, display.verbosity],
            "buffering": [stream.line_buffering for stream in (sys.stdout, sys.stderr)],
            "encodings": [[stream.encoding, stream.errors] for stream in (sys.stdin, sys.stdout, sys.stderr)],
            "threads": threading.active_count(),
            "descriptors of children": os.popen("ls /proc/self/fd").read(),
            "constants": {
                name: repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)
                for name, value in vars(C).items()
                if name.isupper()
            },
            "id": ids.random_int,
            "temporary": C.DEFAULT_LOCAL_TMP,
        }
        with open(terms[0], "w") as file:
            json.dump(found, file)
        return ["localhost"]
"""
SHELLS = ("_", "OLDPWD", "PWD", "SHLVL")
"""Variables that a shell sets."""
OF_ONE_RUN = ("program", "id", "temporary")
PLAY = """
- hosts: "{{ lookup('probe', probe) }}"
  gather_facts: false
  tasks:
    - ansible.builtin.command:
        argv: "{{ command }}"
      register: ran
    - ansible.builtin.debug:
        var: ran.stdout
"""
UNREACHABLE = """
- hosts: localhost
  gather_facts: false
  vars: {ansible_connection: ssh, ansible_port: 9}
  tasks: [ansible.builtin.ping: ]
"""
PROMPT = """
- hosts: "{{ lookup('probe', probe) }}"
  gather_facts: false
  vars_prompt: [{name: who, prompt: Who is it}]
  tasks: [ansible.builtin.debug: {var: who}]
"""


class Run(t.NamedTuple):
    """What a run did.

    Attributes:
        status: in words of ansible-runner.
        rc: its exit status.
        output: what it printed.
        probe: what PROBE saw in it.
        tasks: ids of its tasks.
    """

    status: str
    rc: int | None
    output: str
    probe: Json
    tasks: set[str]

    @property
    def warm(self) -> bool:
        """Whether a warm process has run it."""
        return str(self.probe["program"]).endswith("server.py")


class Keeping:
    """A command that runs playbooks, with a warm process. Use it as a context manager: it is warm once entered.

    Args:
        directory: for what it writes, and for its runs.
        core: a release of ansible-core.

    Attributes:
        config: the configuration file of its runs.
        environment: of its runs.
        without: of the same runs without a warm process.
    """

    def __init__(self, directory: pathlib.Path, core: str = "") -> None:
        self.directory = directory
        self.config = directory / "ansible.cfg"
        self.config.write_text("[defaults]\nforks = 7\n")
        self.environment: dict[str, str] = {}
        programs = VENV / (f"core-{core}/bin" if core else "bin")
        self.without = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(self.config),
            "PYTEST_CURRENT_TEST": "",  # else it is another for each
        }
        self._inventory = local_inventory(directory, "localhost")
        self._log = directory / "keeper.log"

    def __enter__(self) -> t.Self:
        written = self.directory / "environment"
        tell = 'env -0 >"$0.part"; mv "$0.part" "$0"; exec sleep 1000000'
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*WARM, "sh", "-c", tell, str(written)],
                env={**os.environ, **self.without},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.until(lambda: self.times_ready, "warm process")
            given = dict(field.split("=", 1) for field in written.read_text().rstrip("\0").split("\0"))
            ours = [name for name in given if name.startswith("GUARD_WARM")]
            self.environment = {name: given[name] for name in (*self.without, *ours)}
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self.until(lambda: not self.socket.parent.exists(), "end of the keeper")

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def times_ready(self) -> int:
        return self.log.count(READY)

    @property
    def socket(self) -> pathlib.Path:
        return pathlib.Path(self.environment["GUARD_WARM_SOCKET"])

    @property
    def pid(self) -> int:
        """The warm process."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it holds. Raises AssertionError with the log."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"no {what}:\n{self.log}"
            time.sleep(0.05)

    def play(self, name: str, *, warm: bool = True, playbook: str = PLAY, **given: t.Any) -> Run:
        """Run a playbook as ansible-rulebook does.

        Args:
            name: of the directory of the run. Where it was used before all is the same again.
            warm: with a warm process, or without.
            playbook: its text.
            given: to ansible_runner.run().
        """
        top = self.directory / name
        artifacts, seen = top / "artifacts", top / "probe.json"
        for left in (artifacts, top / "env"):
            shutil.rmtree(left, ignore_errors=True)
        plugins = top / "project/lookup_plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        (plugins / "probe.py").write_text(PROBE)
        (top / "project/play.yml").write_text(playbook)
        seen.write_text("{}")
        variables = {"probe": str(seen), "command": ["true"], **given.pop("extravars", {})}
        environment = {**(self.environment if warm else self.without), **given.pop("envvars", {})}
        found = ansible_runner.run(
            private_data_dir=str(top),
            ident="run",
            playbook="play.yml",
            inventory=str(self._inventory),
            extravars=variables,
            envvars=environment,
            quiet=True,
            **given,
        )
        tasks = {event.get("event_data", {}).get("task_uuid") for event in found.events} - {None}
        output = (artifacts / "run/stdout").read_text()
        return Run(found.status, found.rc, output, json.loads(seen.read_text()), tasks)


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeping]:
    """With the usual ansible-core, for tests that leave it as it is."""
    with Keeping(tmp_path_factory.mktemp("warm")) as found:
        yield found


@pytest.mark.parametrize("core", CORES, ids=lambda core: core or "newest")
def test_a_run_is_the_same_as_without(tmp_path: pathlib.Path, core: str) -> None:
    with Keeping(tmp_path, core) as keeping:
        cold, warm, again = (keeping.play("same", warm=warm) for warm in (False, True, True))
        assert (cold.warm, warm.warm, again.warm) == (False, True, True), keeping.log
        assert (warm.status, warm.rc) == (cold.status, cold.rc) == ("successful", 0), warm.output
        # The one has its path and variables of ours more.
        ours = set(keeping.environment) - set(keeping.without) | {"PATH"}
        for run in (cold, warm, again):
            for name in ours:
                run.probe["environment"].pop(name, None)
            run.probe["of children"] = sorted(
                line for line in run.probe["of children"].split("\0") if line.partition("=")[0] not in (*ours, *SHELLS)
            )
            run.probe["constants"].pop("DEFAULT_LOCAL_TMP")
            for name in [name for name in run.probe["environment"] if name in SHELLS]:
                del run.probe["environment"][name]
        for name in cold.probe.keys() - OF_ONE_RUN:
            assert warm.probe[name] == cold.probe[name], name
        assert _plain(warm.output) == _plain(cold.output)
        # What is to be another each time is.
        for name in ("id", "temporary"):
            assert len({run.probe[name] for run in (cold, warm, again)}) == 3
        assert not warm.tasks & again.tasks
        assert not pathlib.Path(warm.probe["temporary"]).exists()
        # How runs end.
        for given, rc in (
            ({"extravars": {"command": ["false"]}}, 2),
            ({"playbook": UNREACHABLE}, 4),
            ({"playbook": "- hosts: {"}, 4),
            ({"cmdline": "--no-such-option"}, 2),
        ):
            runs = [keeping.play("ends", warm=warm, **given) for warm in (False, True)]
            assert [run.rc for run in runs] == [rc, rc], runs
            assert _plain(runs[0].output) == _plain(runs[1].output)
        assert USUAL not in keeping.log


def _plain(output: str) -> list[str]:
    """Without what differs from run to run."""
    return re.sub(r"(?s)\"(?:start|end|delta)\": \".*?\"", "", output).splitlines()


def test_it_reads_from_its_terminal(keeping: Keeping) -> None:
    asked = keeping.play("asked", playbook=PROMPT, passwords={"Who is it": "somebody"})
    assert (asked.rc, asked.warm) == (0, True), asked.output
    assert "somebody" in asked.output


def test_two_at_once_are_strangers(keeping: Keeping) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        gates = [keeping.directory / f"gate-{number}" for number in range(2)]
        # Each waits until the other has begun.
        command = 'touch "$0"; until [ -e "$1" ]; do sleep 0.05; done; echo "by $0"'
        runs = [
            pool.submit(
                keeping.play, f"one-{number}", extravars={"command": ["sh", "-c", command, str(mine), str(other)]}
            )
            for number, (mine, other) in enumerate([gates, reversed(gates)])
        ]
        found = [run.result(PATIENCE) for run in runs]
    for gate, run in zip(gates, found, strict=True):
        assert (run.rc, run.warm) == (0, True), run.output
        assert f"by {gate}" in run.output
    assert not found[0].tasks & found[1].tasks


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("core", CORES, ids=lambda core: core or "newest")
def test_nothing_is_left_of_a_run_that_was_ended(tmp_path: pathlib.Path, core: str, number: signal.Signals) -> None:
    with Keeping(tmp_path, core) as keeping:
        ends = []
        for warm in (False, True):
            begun = tmp_path / f"begun-{warm}"
            command = ["sh", "-c", 'echo $$ >"$0.part"; mv "$0.part" "$0"; exec sleep 1000000', str(begun)]
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                run = pool.submit(keeping.play, f"ended-{warm}", warm=warm, extravars={"command": command})
                keeping.until(begun.exists, "command")
                (launcher,) = _launchers(tmp_path / f"ended-{warm}")
                sleeping = os.pidfd_open(int(begun.read_text()))
                os.kill(launcher, number)
                found = run.result(PATIENCE)
            ends.append((found.status, found.rc))
            if warm:
                assert found.warm
                assert select.select([sleeping], [], [], PATIENCE)[0], "it goes on"
                keeping.until(lambda: not _those_of(tmp_path / "ended-True"), "end of its processes")
            else:
                # ansible-core itself leaves it.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(sleeping, signal.SIGKILL)
            os.close(sleeping)
        assert ends[0] == ends[1]
        assert keeping.play("after").warm


def test_one_that_ansible_runner_cancels_is_ended(keeping: Keeping) -> None:
    begun = keeping.directory / "begun"
    command = ["sh", "-c", 'echo $$ >"$0.part"; mv "$0.part" "$0"; exec sleep 1000000', str(begun)]
    run = keeping.play(
        "cancelled", extravars={"command": command}, cancel_callback=begun.exists, settings={"pexpect_timeout": 1}
    )
    assert (run.status, run.rc, run.warm) == ("canceled", 254, True)
    keeping.until(lambda: not _those_of(keeping.directory / "cancelled"), "end of its processes")


def test_another_environment_or_configuration_is_for_the_real_one(keeping: Keeping) -> None:
    secret = keeping.play("secret", envvars={"A_TOKEN": "value-of-it", "ANSIBLE_TIMEOUT": "33"})
    assert (secret.rc, secret.warm) == (0, False)
    assert secret.probe["constants"]["DEFAULT_TIMEOUT"] == "33"
    assert f"{USUAL}: other environment: ANSIBLE_TIMEOUT, A_TOKEN" in keeping.log
    assert "value-of-it" not in keeping.log
    assert keeping.play("as before").warm


def test_a_configuration_file_beside_the_playbook_is_for_the_real_one(tmp_path: pathlib.Path) -> None:
    keeping = Keeping(tmp_path)
    keeping.without["ANSIBLE_CONFIG"] = ""
    (tmp_path / "near/project").mkdir(parents=True)
    (tmp_path / "near/project/ansible.cfg").write_text("[defaults]\nforks = 9\n")
    with keeping:
        near = keeping.play("near")
        assert (near.warm, near.probe["constants"]["DEFAULT_FORKS"]) == (False, "9")
        assert f"{USUAL}: other configuration: {tmp_path}/near/project/ansible.cfg" in keeping.log
        assert keeping.play("as before").warm


def test_how_many_hosts_at_a_time_is_said_by_each_run(keeping: Keeping) -> None:
    # By the event source, as soon as it knows the inventory.
    many = keeping.play("many", envvars={"ANSIBLE_FORKS": "64"})
    assert (many.warm, many.probe["constants"]["DEFAULT_FORKS"]) == (True, "64")
    assert keeping.play("as ever").probe["constants"]["DEFAULT_FORKS"] == "7"


def test_what_is_no_terminal_is_for_the_real_one(keeping: Keeping) -> None:
    run = subprocess.run(
        ["ansible-playbook", "--version"],
        env={**os.environ, **keeping.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("ansible-playbook [core ")


def test_a_changed_configuration_file_holds_at_once(tmp_path: pathlib.Path) -> None:
    with Keeping(tmp_path) as keeping:
        assert keeping.play("before").probe["constants"]["DEFAULT_FORKS"] == "7"
        keeping.config.write_text("[defaults]\nforks = 11\n")
        changed = keeping.play("changed")
        assert (changed.warm, changed.probe["constants"]["DEFAULT_FORKS"]) == (False, "11")
        assert f"{keeping.config} has changed" in keeping.log
        keeping.until(lambda: keeping.times_ready == 2, "second warm process")
        again = keeping.play("again")
        assert (again.warm, again.probe["constants"]["DEFAULT_FORKS"]) == (True, "11")


def test_without_a_warm_process_runs_are_as_usual_until_there_is_another(tmp_path: pathlib.Path) -> None:
    with Keeping(tmp_path) as keeping:
        os.kill(keeping.pid, signal.SIGSTOP)
        silent = keeping.play("silent")
        assert (silent.rc, silent.warm) == (0, False)
        os.kill(keeping.pid, signal.SIGKILL)
        dead = keeping.play("dead")
        assert (dead.rc, dead.warm) == (0, False)
        keeping.until(lambda: keeping.times_ready == 2, "second warm process")
        assert keeping.play("again").warm


def test_a_run_outlives_the_warm_process(tmp_path: pathlib.Path) -> None:
    with Keeping(tmp_path) as keeping, concurrent.futures.ThreadPoolExecutor(1) as pool:
        begun, go_on = tmp_path / "begun", tmp_path / "go-on"
        command = ["sh", "-c", 'touch "$0"; until [ -e "$1" ]; do sleep 0.05; done', str(begun), str(go_on)]
        run = pool.submit(keeping.play, "long", extravars={"command": command})
        try:
            keeping.until(begun.exists, "command")
            os.kill(keeping.pid, signal.SIGKILL)
            keeping.until(lambda: keeping.times_ready == 2, "second warm process")
        finally:
            go_on.touch()
        found = run.result(PATIENCE)
        assert (found.rc, found.warm) == (0, True), found.output


def test_nothing_is_kept_warm_where_runs_would_share_something(tmp_path: pathlib.Path) -> None:
    play = tmp_path / "play.yml"
    play.write_text("[{hosts: localhost, connection: local, gather_facts: false, tasks: [{ansible.builtin.ping: }]}]")
    (tmp_path / "runtime").mkdir()
    told, go_on = tmp_path / "told", tmp_path / "go_on"
    os.mkfifo(go_on)
    command = f'echo "$GUARD_WARM_SOCKET"; read line <{go_on}; exec ansible-playbook {play}'
    environment = {
        **os.environ,
        "ANSIBLE_LOG_PATH": str(tmp_path / "ansible.log"),
        "RUNTIME_DIRECTORY": str(tmp_path / "runtime"),
    }
    with told.open("wb") as log:
        process = subprocess.Popen([*WARM, "sh", "-c", command], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while "nothing is kept warm: runs would share the open file of log_path" not in told.read_text():
            assert time.monotonic() < deadline, told.read_text()
            time.sleep(0.05)
        assert told.read_text().startswith(f"{tmp_path}/runtime/container-guard-warm-")
        go_on.write_text("\n")
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert f"{USUAL}: no warm process takes the run" in told.read_text()
    assert "ok=1" in told.read_text()


def test_it_serves_its_own_user_only(keeping: Keeping) -> None:
    assert keeping.socket.parent.stat().st_mode & 0o777 == 0o700
    ask = f"""
import os, socket
connection = socket.socket(socket.AF_UNIX)
connection.connect({str(keeping.socket)!r})
os.setuid(65534)
print(connection.recv(100))
stranger = socket.socket(socket.AF_UNIX)
try:
    stranger.connect({str(keeping.socket)!r})
except PermissionError:
    print("refused")
"""
    asked = subprocess.run([*AS_ROOT, sys.executable, "-c", ask], stdout=subprocess.PIPE, text=True, check=True)
    assert asked.stdout.splitlines() == [repr(b"warm-1\n"), "refused"]
    # Even where the directory lets everybody in.
    modes = [(path, path.stat().st_mode) for path in (keeping.socket.parent, keeping.socket)]
    try:
        for path, _mode in modes:
            path.chmod(0o777)
        stranger = f"""
import os, socket
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.connect({str(keeping.socket)!r})
print(connection.recv(100))
"""
        asked = subprocess.run(
            [*AS_ROOT, sys.executable, "-c", stranger], stdout=subprocess.PIPE, text=True, check=True
        )
        assert asked.stdout == "b''\n"
    finally:
        for path, mode in modes:
            path.chmod(mode)


def test_it_ends_with_its_command(tmp_path: pathlib.Path) -> None:
    with Keeping(tmp_path) as keeping:
        server = os.pidfd_open(keeping.pid)
    assert select.select([server], [], [], PATIENCE)[0]
    os.close(server)


def _launchers(top: pathlib.Path) -> list[int]:
    """What ansible-runner has started for a run in this directory."""
    return [
        pid
        for pid in _those_of(top)
        if (pathlib.Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
    ]


def _those_of(top: pathlib.Path) -> list[int]:
    """The processes whose environment or command line names this directory."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(top) in (process / "environ").read_bytes() + (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def test_a_rulebook_has_its_playbooks_run_by_it(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    policy_set = tmp_path / "policy_set.json"
    policy_set.write_text(
        PolicySet.of(
            [Policy.from_dict({"id": "pause", "severity_threshold": "high", "actions": [{"type": "pause"}]})]
        ).to_json()
    )
    inventory = local_inventory(
        tmp_path, guard_policy_set_path=str(policy_set), guard_state_dir=str(tmp_path / "state")
    )
    variables = {"guard": {"token": TOKEN, "hosts": ["localhost"]}}
    with RulebookProcess("ironpost.container_guard.respond", inventory, tmp_path, variables, before=WARM) as rulebook:
        rulebook.wait_for(lambda: READY in rulebook.log, "warm process")
        first, second = (docker_world.make_container(name) for name in ("first", "second"))
        for number, target in enumerate((first, second)):
            assert post(rulebook.port, falco(target, "localhost"))[0] == 202
            rulebook.wait_for(lambda answers=number + 1: elements(rulebook.port)["answered"] == answers, "answer")
            assert docker_world.state(target) == "paused"
        assert USUAL not in rulebook.log
