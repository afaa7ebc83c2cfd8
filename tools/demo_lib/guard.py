# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guard as it runs in production: its rulebook in ansible-rulebook, its playbooks in ansible-playbook."""

from __future__ import annotations

import ast
import contextlib
import http.client
import json
import os
import pathlib
import re
import secrets
import subprocess
import sys
import typing as t
from collections.abc import Callable, Mapping

from demo_lib.processes import MARK, die_with_parent
from demo_lib.screen import UnmetError, expect_quietly, wait_for

COLLECTION = "ironpost.container_guard"

Json = dict[str, t.Any]

CONFIGURATION = """
[defaults]
# So that the log says what was decided, and why.
verbosity = 1
callback_result_format = yaml
nocolor = true
"""


class Guard:
    """The guard, with this machine as its only Docker host.

    Args:
        directory: where all its files go.
        host_map: hosts as detectors name them, to inventory names.
    """

    def __init__(self, directory: pathlib.Path, host_map: Mapping[str, str]) -> None:
        self.policy_set = directory / "policy_set.json"
        self._directory = directory
        self._host_map = dict(host_map)
        self._token = secrets.token_urlsafe(24)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._log = directory / "rulebook.log"
        self._inventory = directory / "inventory.json"
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "guard_state_dir": str(directory / "state"),
            "guard_policy_set_path": str(self.policy_set),
            "policies_path": str(self.policy_set),
        }
        self._inventory.write_text(json.dumps({"all": {"hosts": {"localhost": variables}}}))
        (directory / "ansible.cfg").write_text(CONFIGURATION)
        (directory / "tmp").mkdir()

    @property
    def _process_options(self) -> dict[str, t.Any]:
        # Nothing of the user's configuration, and no file outside of the directory.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "EDA_"))}
        temporary = str(self._directory / "tmp")
        return {
            "cwd": self._directory,
            "env": {
                **kept,
                MARK: str(self._directory),
                "PYTHONUNBUFFERED": "1",
                "TMPDIR": temporary,
                "ANSIBLE_COLLECTIONS_PATH": os.environ["ANSIBLE_COLLECTIONS_PATH"],
                "ANSIBLE_CONFIG": str(self._directory / "ansible.cfg"),
                "ANSIBLE_HOME": str(self._directory / "ansible"),
                "ANSIBLE_REMOTE_TMP": temporary,
            },
            "stdin": subprocess.DEVNULL,
            "stderr": subprocess.STDOUT,
            # A session of its own: Ctrl-C reaches the demo alone, which then ends it.
            "start_new_session": True,
            "preexec_fn": die_with_parent,
        }

    def playbook(self, name: str, **variables: str) -> None:
        """Run a playbook of the collection. Raises UnmetError with all of its output where it fails."""
        command = ["ansible-playbook", f"{COLLECTION}.{name}", "--inventory", str(self._inventory)]
        command += ["--extra-vars", json.dumps(variables)]
        try:
            subprocess.run(
                command,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                timeout=60,
                **self._process_options,
            )
        except subprocess.CalledProcessError as error:
            raise UnmetError(f"The playbook {COLLECTION}.{name} failed", output=error.stdout) from None
        except subprocess.TimeoutExpired as error:
            output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
            raise UnmetError(f"The playbook {COLLECTION}.{name} did not end within 60 s", output=output) from None

    def start(self) -> None:
        """Start the rulebook, which takes some seconds; wait_until_it_listens waits for it."""
        variables = self._directory / "variables.json"
        variables.touch(mode=0o600)
        # With port 0 the system chooses a free one.
        variables.write_text(
            json.dumps(
                {
                    "guard": {
                        "port": 0,
                        "token": self._token,
                        "host_map": self._host_map,
                        "spool": str(self._directory / "spool"),
                    }
                }
            )
        )
        command = ["ansible-rulebook", "--verbose", "--print-events", "--rulebook", f"{COLLECTION}.respond"]
        command += ["--inventory", str(self._inventory), "--vars", str(variables)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, **self._process_options)

    def wait_until_it_listens(self) -> None:
        """Wait for the event source, and learn its port. Raises UnmetError."""
        pattern = re.compile(r"Taking alerts at http://127\.0\.0\.1:(\d+)/")
        self._port = int(self._wait_for(lambda: pattern.search(self.log), "The event source listens", 60)[1])

    @property
    def url(self) -> str:
        """Where the event source takes alerts."""
        return f"http://127.0.0.1:{self._port}/alerts"

    @property
    def log(self) -> str:
        """What the rulebook and its playbooks have printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def post(self, alert: Mapping[str, t.Any], token: str = "") -> tuple[int, Json]:
        """Post an alert; status and body of the answer. Raises UnmetError where there is none, or it is not JSON."""
        # The engine that loads its rules at the same time keeps the event source from answering for a moment.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        headers = {"Authorization": f"Bearer {token or self._token}", "Content-Type": "application/json"}
        try:
            with contextlib.closing(connection):
                connection.request("POST", "/alerts", json.dumps(alert), headers)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnmetError("The event source answers", f"{type(error).__name__}: {error}") from None

    def wait_for_action(self) -> Json:
        """The first record of what came of an action. Raises UnmetError."""
        self._wait_for(lambda: self.actions() or "PLAY RECAP" in self.log, "The playbook answers the alert", 45)
        actions = self.actions()
        expect_quietly(actions, "The playbook acts and leaves a record", "it ended without one")
        return actions[0]

    def actions(self) -> list[Json]:
        """The action log of the guard, without what it was about to do."""
        try:
            lines = (self._directory / "state" / "actions.jsonl").read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        return [record for record in records if record["outcome"] != "intended"]

    def received_message(self) -> str:
        """The text of the alert in the only event that the rule engine has received."""
        events = re.findall(r"\[received event\].*?\nEvent:\n(.*?)\n\*\*", self.log, re.DOTALL)
        expect_quietly(len(events) == 1, "The rule engine received one event", f"it received {len(events)}")
        return str(ast.literal_eval(events[0])["alerts"][0]["message"])

    def _wait_for(self, condition: Callable[[], t.Any], what: str, seconds: float) -> t.Any:
        def alive_and_true() -> t.Any:
            status = self._process.poll() if self._process else None
            expect_quietly(status is None, what, f"ansible-rulebook has ended with {status}")
            return condition()

        return wait_for(alive_and_true, what, seconds)
