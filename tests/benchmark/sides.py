# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both sides of the comparison: an ansible-rulebook each, that answers alerts on this machine."""

from __future__ import annotations

import http.client
import os
import pathlib
import sys
import threading
import time
import typing as t

import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.benchmark.alerts import SHELL, TOKEN, Json, falco, post
from ansible_collections.ironpost.container_guard.tests.benchmark.stage import Victim
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import WARM, RulebookProcess

HOST = "localhost"
PEER = pathlib.Path(__file__).parent / "peer"
PAUSING, IGNORING = PEER / "rulebook.yml", PEER / "ignoring.yml"
"""Rulebooks of the peer: one that pauses, and one whose rule never matches."""
ANSWER_TIMEOUT = 600.0
REST = 1.0
"""Longest time, in seconds, between an answered alert and the start of its playbook."""
_TICKS = os.sysconf("SC_CLK_TCK")


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
        self._sent = 0

    def __enter__(self) -> t.Self:
        self._process.__enter__()
        self._at_rest = self._children()
        return self

    def __exit__(self, *error: t.Any) -> None:
        self._process.__exit__(*error)

    @property
    def port(self) -> int:
        """Where it takes alerts."""
        return self._process.port

    @property
    def pid(self) -> int:
        """Process of the rule engine."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._process.log

    def cpu_seconds(self) -> float:
        """What the rule engine and those of its children that have ended have taken of the processors so far."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS

    def cpu_of_runs(self) -> float:
        """What the playbook runs under way have taken so far."""
        parents: dict[int, int] = {}
        taken: dict[int, float] = {}
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents[int(path.parent.name)] = int(fields[1])
            taken[int(path.parent.name)] = sum(map(int, fields[11:15])) / _TICKS

        def of_ours(pid: int) -> bool:
            while pid in parents:
                pid = parents[pid]
                if pid == self.pid:
                    return True
            return False

        return sum(seconds for pid, seconds in taken.items() if of_ours(pid))

    def wait_for(self, condition: t.Callable[[], object], what: str) -> None:
        """Wait until a condition holds. Raises AssertionError where that takes too long."""
        self._process.wait_for(condition, what, ANSWER_TIMEOUT)

    def send(self, victims: t.Sequence[Victim]) -> Burst:
        """Send one alert for each container, all at the same time, and wait until all are answered.

        Raises RuntimeError where an alert is refused.
        """
        # Never a repeat, which may be answered together with the one before.
        self._sent += 1
        return self.send_all([falco(victim.id, victim.name, rule=f"{SHELL} {self._sent}") for victim in victims])

    def send_all(self, messages: t.Sequence[Json]) -> Burst:
        """Send these, all at the same time, and wait until all are answered. Raises RuntimeError as send does."""
        waits = [0.0] * len(messages)
        failures: list[str] = []
        gate = threading.Barrier(len(messages) + 1)

        def send_one(number: int) -> None:
            gate.wait()
            began = time.monotonic()
            try:
                post(self.port, messages[number])
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                failures.append(f"{type(error).__name__}: {error}")
            waits[number] = time.monotonic() - began

        threads = [threading.Thread(target=send_one, args=[number], daemon=True) for number in range(len(messages))]
        for thread in threads:
            thread.start()
        gate.wait()
        started = time.monotonic()
        for thread in threads:
            thread.join()
        if failures:
            raise RuntimeError(f"{self.name}: {len(failures)} of {len(messages)} alerts failed, such as: {failures[0]}")
        return Burst(started, waits)

    def rest(self) -> None:
        """Wait until its playbooks have ended: until none has run for a while."""
        ran = time.monotonic()

        def rested() -> bool:
            nonlocal ran
            if self.children():
                ran = time.monotonic()
            return time.monotonic() - ran > REST

        self._process.wait_for(rested, f"end of the playbooks of {self.name}", ANSWER_TIMEOUT)

    def children(self) -> int:
        """Playbook runs under way."""
        return self._children() - self._at_rest

    def be_idle(self) -> None:
        """Wait until it hardly takes anything of the processors any more."""

        def idle() -> bool:
            before = self.cpu_seconds()
            time.sleep(REST)
            return self.children() == 0 and self.cpu_seconds() - before < 0.1 * REST

        self.wait_for(idle, f"idle {self.name}")

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
    """Rulebook, event source, playbook and module of the collection.

    Args:
        directory: for what it writes; made here.
        hosts: of the inventory, with their variables.
        env: environment variables of the rulebook.
        warm: with a warm process that runs its playbooks.
        options: of the event source, beside what it needs.

    Attributes:
        state_dir: where hosts keep their journal and their action log, unless their variables say otherwise.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        hosts: t.Mapping[str, Json],
        env: t.Mapping[str, str] | None = None,
        warm: bool = False,
        **options: t.Any,
    ) -> None:
        directory.mkdir()
        self._policy_set = directory / "policy_set.json"
        self.state_dir = directory / "state"
        given = {"guard_policy_set_path": str(self._policy_set), "guard_state_dir": str(self.state_dir)}
        inventory = _inventory(directory, {name: {**given, **variables} for name, variables in hosts.items()})
        of_source = {"token": TOKEN, "hosts": list(hosts), "spool": str(directory / "spool"), **options}
        if of_source.pop("drop_early", False):
            of_source["policy_set"] = str(self._policy_set)
        super().__init__(
            "the guard",
            RulebookProcess(
                "ironpost.container_guard.respond",
                inventory,
                directory,
                variables={"guard": of_source},
                env={**_environment(directory), **(env or {})},
                before=WARM if warm else (),
            ),
        )

    def deploy(self, prefix: str, *actions: str, threshold: str = "critical") -> str:
        """Answer alerts about containers of that prefix with these actions from now on; the policy set."""
        policy = {
            "id": "benchmark",
            "severity_threshold": threshold,
            "target_filter": {"container_names": [f"{prefix}*"]},
            "actions": [{"type": action} for action in actions],
        }
        policy_set = PolicySet.of([Policy.from_dict(policy)]).to_json()
        self._policy_set.write_text(policy_set)
        return policy_set


class Peer(Side):
    """The built-in webhook, and a playbook that people would write by hand.

    Args:
        directory: for what it writes; made here.
        hosts: of the inventory, with their variables.
        collections: directory with the community collections.
        rulebook: its rulebook.
        playbook: the playbook that the rulebook runs.
        env: environment variables of the rulebook.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        hosts: t.Mapping[str, Json],
        collections: str,
        rulebook: pathlib.Path = PAUSING,
        playbook: pathlib.Path = PEER / "playbook",
        env: t.Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir()
        super().__init__(
            "the peer",
            RulebookProcess(
                rulebook,
                _inventory(directory, hosts),
                directory,
                variables={"guard_token": TOKEN, "peer_playbook": str(playbook)},
                env={**_environment(directory), "ANSIBLE_COLLECTIONS_PATH": collections, **(env or {})},
            ),
        )


def local(docker_host: str, **variables: str) -> Json:
    """Variables of a host that is this machine, as it is to the guard."""
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "guard_docker_host": docker_host,
        **variables,
    }


def _environment(directory: pathlib.Path) -> dict[str, str]:
    # What a playbook leaves behind when it is interrupted is removed with the directory.
    temporary = directory / "tmp"
    temporary.mkdir()
    return {"TMPDIR": str(temporary), "ANSIBLE_REMOTE_TMP": str(temporary / "remote")}


def _inventory(directory: pathlib.Path, hosts: t.Mapping[str, Json]) -> pathlib.Path:
    path = directory / "inventory.yml"
    path.write_text(yaml.safe_dump({"all": {"hosts": dict(hosts)}}))
    return path
