# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both sides of the comparison: an ansible-rulebook each, that answers alerts on this machine."""

from __future__ import annotations

import http.client
import json
import pathlib
import sys
import threading
import time
import typing as t

import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import Victim
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess

HOST = "localhost"
TOKEN = "benchmark-of-container-guard"
PEER = pathlib.Path(__file__).parent / "peer"
ANSWER_TIMEOUT = 600.0
REST = 1.0
"""Longest time, in seconds, between an answered alert and the start of its playbook."""


class Burst(t.NamedTuple):
    """How senders fared.

    Attributes:
        started: when the first request began, on the clock of time.monotonic().
        waits: how long each sender waited for its answer, in seconds.
    """

    started: float
    waits: list[float]


class Side:
    """One rule engine, and what it takes to send it alerts.

    Attributes:
        name: for people.
    """

    def __init__(self, name: str, process: RulebookProcess) -> None:
        self.name = name
        self._process = process

    def __enter__(self) -> t.Self:
        self._process.__enter__()
        self._at_rest = self._children()
        return self

    def __exit__(self, *error: t.Any) -> None:
        self._process.__exit__(*error)

    def send(self, victims: t.Sequence[Victim]) -> Burst:
        """Send one alert for each container, all at the same time, and wait until all are answered.

        Raises RuntimeError where an alert is refused.
        """
        waits = [0.0] * len(victims)
        failures: list[str] = []
        gate = threading.Barrier(len(victims) + 1)

        def post(number: int) -> None:
            body = _alert(victims[number])
            gate.wait()
            began = time.monotonic()
            try:
                self._post(body)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                failures.append(f"{type(error).__name__}: {error}")
            waits[number] = time.monotonic() - began

        threads = [threading.Thread(target=post, args=[number], daemon=True) for number in range(len(victims))]
        for thread in threads:
            thread.start()
        gate.wait()
        started = time.monotonic()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(f"{self.name}: {len(failures)} of {len(victims)} alerts failed, such as: {failures[0]}")
        return Burst(started, waits)

    def rest(self) -> None:
        """Wait until its playbooks have ended: until none has run for a while."""
        ran = time.monotonic()

        def rested() -> bool:
            nonlocal ran
            if self._children() > self._at_rest:
                ran = time.monotonic()
            return time.monotonic() - ran > REST

        self._process.wait_for(rested, f"end of the playbooks of {self.name}", ANSWER_TIMEOUT)

    def _post(self, body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._process.port, timeout=ANSWER_TIMEOUT)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/alerts", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"{answer.status} {text.decode(errors='replace')}")
        finally:
            connection.close()

    def _children(self) -> int:
        tasks = pathlib.Path(f"/proc/{self._process.pid}/task")
        found = 0
        for task in tasks.iterdir():
            try:
                found += len((task / "children").read_text().split())
            except OSError:  # the thread has ended
                continue
        return found


class Guard(Side):
    """Rulebook, event source, playbook and module of the collection."""

    def __init__(self, directory: pathlib.Path, docker_host: str) -> None:
        directory.mkdir()
        self._policy_set = directory / "policy_set.json"
        self.state_dir = directory / "state"
        inventory = _inventory(
            directory,
            guard_policy_set_path=str(self._policy_set),
            guard_state_dir=str(self.state_dir),
            guard_docker_host=docker_host,
        )
        variables = {"guard": {"token": TOKEN, "hosts": [HOST], "spool": str(directory / "spool")}}
        env = _environment(directory)
        super().__init__(
            "the guard",
            RulebookProcess("ironpost.container_guard.respond", inventory, directory, variables=variables, env=env),
        )

    def deploy(self, prefix: str, *actions: str) -> None:
        """Answer alerts about containers of that prefix with these actions from now on."""
        policy = {
            "id": "benchmark",
            "severity_threshold": "critical",
            "target_filter": {"container_names": [f"{prefix}*"]},
            "actions": [{"type": action} for action in actions],
        }
        self._policy_set.write_text(PolicySet.of([Policy.from_dict(policy)]).to_json())


class Peer(Side):
    """The built-in webhook, and a playbook that people would write by hand."""

    def __init__(self, directory: pathlib.Path, docker_host: str, collections: str) -> None:
        directory.mkdir()
        super().__init__(
            "the peer",
            RulebookProcess(
                PEER / "rulebook.yml",
                _inventory(directory),
                directory,
                variables={"guard_token": TOKEN, "peer_playbook": str(PEER / "playbook")},
                env={
                    **_environment(directory),
                    "ANSIBLE_COLLECTIONS_PATH": collections,
                    "DOCKER_HOST": docker_host,
                },
            ),
        )


def _environment(directory: pathlib.Path) -> dict[str, str]:
    # What a playbook leaves behind when it is interrupted is removed with the directory.
    temporary = directory / "tmp"
    temporary.mkdir()
    return {"TMPDIR": str(temporary), "ANSIBLE_REMOTE_TMP": str(temporary / "remote")}


def _inventory(directory: pathlib.Path, **variables: str) -> pathlib.Path:
    path = directory / "inventory.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
    path.write_text(yaml.safe_dump({"all": {"hosts": {HOST: local}}}))
    return path


def _alert(victim: Victim) -> bytes:
    """What Falco posts."""
    message = {
        "hostname": HOST,
        "priority": "Critical",
        "rule": "Terminal shell in container",
        "source": "syscall",
        "tags": ["container", "shell", "mitre_execution"],
        "time": "2026-04-05T12:43:02.928967267Z",
        "output": f"A shell was spawned in a container with an attached terminal (container_name={victim.name})",
        "output_fields": {
            "container.id": victim.id[:12],
            "container.name": victim.name,
            "container.image.repository": "container-guard/busybox",
            "container.image.tag": "latest",
            "proc.cmdline": "sh -i",
            "user.name": "root",
        },
    }
    return json.dumps(message).encode()
