# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service as a process, with this test in the place of systemd: what it says of itself is waited for."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet

MAIN = "ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.main"
TOKEN = "token-of-the-test-of-the-service"
PATH_TOKEN = "path-token-of-the-test"
HOST = "web-1"
PATIENCE = 60.0
Json = dict[str, t.Any]


def policy_set(*policies: Json, **further: t.Any) -> str:
    """A policy set as it is deployed; by default one that pauses containers of tests and takes them off networks."""
    chosen = policies or (
        {
            "id": "quarantine",
            "severity_threshold": "high",
            "target_filter": {"container_names": ["cg-test-*"]},
            "actions": [{"type": "pause"}, {"type": "network_disconnect"}],
        },
    )
    return PolicySet.of([Policy.from_dict(policy) for policy in chosen], **further).to_json()


def falco(container: str, rule: str = "Terminal shell in container", priority: str = "Critical", **more: t.Any) -> Json:
    """What Falco says about a container with that id."""
    return {
        "hostname": "name-by-falco",
        "priority": priority,
        "rule": rule,
        "source": "syscall",
        "tags": ["shell"],
        "time": time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime()),
        "output": f"A shell was spawned (container_id={container[:12]})",
        "output_fields": {"container.id": container[:12], "proc.cmdline": "sh -i"},
        **more,
    }


class ServiceProcess:
    """A service that answers alerts about one engine. Use it as a context manager.

    Args:
        directory: for all that it keeps; the same one for a service that is started again.
        docker_host: URL of the engine.
        policies: the deployed policy set.
        env: environment variables.
        module: that is run; what it is given is the command line of the service.
        settings: of the configuration, in addition.

    Attributes:
        lines: what it has printed.
        status: what it has told its manager.
        port: where it takes alerts.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        docker_host: str,
        policies: str = "",
        env: t.Mapping[str, str] | None = None,
        module: str = MAIN,
        **settings: t.Any,
    ) -> None:
        self.directory = directory
        self.lines: list[str] = []
        self.status: list[str] = []
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self._env = dict(env or {})
        self._module = module
        self._heard = threading.Condition()
        self._threads: list[threading.Thread] = []
        directory.mkdir(exist_ok=True)
        self.deploy(policies or policy_set())
        intake = {
            "port": 0,
            "token": TOKEN,
            "path_token": PATH_TOKEN,
            "spool": str(directory / "spool"),
            "answer_deadline": 60,
            **settings.pop("intake", {}),
        }
        config = {
            "host": HOST,
            "docker_host": docker_host,
            "state_dir": str(directory / "state"),
            "policy_set": str(directory / "policy_set.json"),
            "mode": str(directory / "mode"),
            "socket": str(directory / "alerts.sock"),
            "intake": intake,
            **settings,
        }
        (directory / "service.json").write_text(json.dumps(config))

    def deploy(self, policies: str) -> None:
        """Put another policy set in place, as the module does."""
        new = self.directory / ".policy_set.new"
        new.write_text(policies)
        new.replace(self.directory / "policy_set.json")

    def __enter__(self) -> t.Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it says that it works."""
        address = self.directory / "notify.sock"
        address.unlink(missing_ok=True)
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(str(address))
        command = [sys.executable, "-m", self._module, "serve", "--config", str(self.directory / "service.json")]
        env = {**os.environ, "NOTIFY_SOCKET": str(address), **self._env}
        self.lines.clear()
        self.status.clear()
        self.process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        self._threads = [
            threading.Thread(target=self._read, args=(self.process,)),
            threading.Thread(target=self._listen, args=(self.process, manager)),
        ]
        for thread in self._threads:
            thread.start()
        try:
            self.until(lambda: any("READY=1" in said for said in self.status), "it says that it is ready")
            self.until(self._find_port, "it says where it takes alerts")
        except BaseException:
            self.stop(signal.SIGKILL)
            raise

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; its exit status."""
        process = self.process
        assert process is not None
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            for thread in self._threads:
                thread.join()

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def outlives(self, condition: t.Callable[[], t.Any]) -> bool:
        """Wait until something is so, or until it has been killed; whether it lives."""
        deadline = time.monotonic() + PATIENCE
        while self.process and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if condition():
                    return True
            assert time.monotonic() < deadline, self.printed
            with self._heard:
                self._heard.wait(0.02)
        return False

    def try_post(self, alert: Json) -> bool:
        """Post an alert to a service that may be killed meanwhile; whether it was accepted."""
        try:
            self.post(alert)
        except (OSError, http.client.HTTPException):
            return False
        return True

    def elements(self) -> dict[str, int]:
        """The accounts of the intake."""
        found: dict[str, int] = json.loads(self.get("/healthz")[1])["elements"]
        return found

    def post(self, *alerts: Json, status: int = 202) -> Json:
        """Post alerts in one request; the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        return self._post(connection, alerts, status)

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page of it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def records(self, outcome: str = "") -> list[Json]:
        """The records of the action log, those with an outcome where one is given."""
        log = self.directory / "state/actions.jsonl"
        found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [one for one in found if one["outcome"] != "intended" and outcome in ("", one["outcome"])]

    def until(self, condition: t.Callable[[], t.Any], what: str) -> None:
        """Wait until something is so, looking whenever the service says anything, and now and then."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            process = self.process
            assert process, "it is not started"
            assert process.poll() is None, f"it has ended; {what} was awaited:\n{self.printed}"
            assert time.monotonic() < deadline, f"{what}:\n{self.printed}"
            with self._heard:
                self._heard.wait(0.05)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process, "it is not started"
        return self.process.pid

    @property
    def printed(self) -> str:
        """What it has printed and told."""
        return "\n".join([*self.lines, *self.status])

    def _post(self, connection: http.client.HTTPConnection, alerts: t.Sequence[Json], status: int) -> Json:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/alerts", json.dumps(alerts[0] if len(alerts) == 1 else alerts), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert answer.status == status, text
        found: Json = json.loads(text)
        return found

    def _find_port(self) -> bool:
        self.port = 0
        for line in self.lines:
            found = re.search(r"Taking alerts at http://127\.0\.0\.1:(\d+)/alerts", line)
            if found:
                self.port = int(found[1])
        return bool(self.port)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                with self._heard:
                    self._heard.notify_all()

    def _listen(self, process: subprocess.Popen[str], manager: socket.socket) -> None:
        with manager:
            manager.settimeout(0.2)
            while process.poll() is None:
                try:
                    said = manager.recv(65536).decode()
                except TimeoutError:
                    continue
                self.status += said.splitlines()
                with self._heard:
                    self._heard.notify_all()
