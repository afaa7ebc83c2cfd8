# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real rule engine, for tests that must not pretend."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import types
import typing as t
from collections.abc import Callable, Mapping, Sequence

import yaml

COLLECTIONS = pathlib.Path(__file__).absolute().parents[5]
"""The directory that holds ansible_collections. Not resolved: a checkout is reached by a symlink."""

WARM = (
    sys.executable,
    "-I",
    str(COLLECTIONS / "ansible_collections/ironpost/container_guard/plugins/plugin_utils/_warm/start.py"),
)
"""Before a command, it gives the command a warm process that runs its playbooks."""

_POLL = 0.05


def local_inventory(directory: pathlib.Path, *hosts: str, **variables: object) -> pathlib.Path:
    """An inventory file of hosts that are all this machine, C(localhost) unless hosts are named, with variables."""
    path = directory / "inventory.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    names: dict[str, None] = dict.fromkeys(hosts or ("localhost",))
    path.write_text(yaml.safe_dump({"all": {"hosts": names, "vars": {**local, **variables}}}))
    return path


class RulebookProcess:
    """Runs ansible-rulebook as long as its context lasts; within, it may be ended and started again.

    The rulebook finds a free port in its variable C(guard_port), unless that is given, and must listen on it, unless
    something else says when it is ready. It is listening once the context is entered.

    Attributes:
        port: where the event source listens, on 127.0.0.1.
    """

    def __init__(
        self,
        rulebook: str | pathlib.Path,
        inventory: pathlib.Path,
        directory: pathlib.Path,
        variables: Mapping[str, t.Any] | None = None,
        env: Mapping[str, str] | None = None,
        options: Sequence[str | pathlib.Path] = (),
        ready: Callable[[], bool] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """Take what is to be run.

        Args:
            rulebook: path of a file, or the full name of a rulebook of a collection.
            inventory: path of an inventory file.
            directory: where the process works, and where its variables and its log are written.
            variables: variables of the rulebook.
            env: environment variables beyond those of the test.
            options: of the command line.
            ready: whether it is ready, for a source that does not listen on the port.
            before: what stands before the command, such as C(WARM).
        """
        self._rulebook = str(rulebook)
        self._inventory = inventory
        self._directory = directory
        self._variables = {"guard_port": free_port(), **(variables or {})}
        self._env = dict(env or {})
        self._options = list(options)
        self._ready = ready or self._listens
        self._before = before
        self._log = directory / "rulebook.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = int(self._variables["guard_port"])

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._running().pid

    @property
    def log(self) -> str:
        """What the engine and its playbooks have printed so far, since it was first started."""
        return self._log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], object], what: str, timeout: float = 120.0) -> None:
        """Wait until the condition holds.

        Raises AssertionError with the log where the process ends or the timeout, in seconds, passes before.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            ended = self._running().poll()
            if ended is not None:
                raise AssertionError(f"ansible-rulebook ended with {ended} before {what}:\n{self.log}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} within {timeout:g} seconds:\n{self.log}")
            time.sleep(_POLL)

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._running().send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Wait until it ends by itself; its exit status. Raises TimeoutExpired after so many seconds."""
        return self._running().wait(timeout)

    @property
    def goes_on(self) -> bool:
        """Whether it runs."""
        return self._running().poll() is None

    def start(self) -> None:
        """Start the process and wait until it listens."""
        variables = self._directory / "variables.yml"
        variables.write_text(yaml.safe_dump(self._variables))
        programs = pathlib.Path(sys.executable).parent
        command: list[str | pathlib.Path] = [*self._before, programs / "ansible-rulebook", "--verbose"]
        command += ["--rulebook", self._rulebook, "--inventory", self._inventory, "--vars", variables]
        command += self._options
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._directory,
                env=self._environment(programs),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self.wait_for(self._ready, "listening event source")
        except BaseException:
            self.end()
            raise

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 60.0) -> int:
        """Send the process a signal, unless it has ended, and wait for its end; its exit status.

        One that has not ended after C(patience) seconds gets it again, which ends running playbooks, and is killed at
        last.
        """
        process = self._running()
        for again in (number, number, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(again)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(patience)
        return process.wait()

    def __enter__(self) -> RulebookProcess:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """End the process; add its log to the error of a failed test."""
        self.end(patience=20)
        if error is not None:
            error.add_note(f"log of ansible-rulebook:\n{self.log}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the process is started by entering the context")
        return self._process

    def _environment(self, programs: pathlib.Path) -> dict[str, str]:
        return {
            **os.environ,
            # The engine looks for ansible-galaxy and ansible-playbook there.
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
            # Where the spool is, unless a test says so.
            "XDG_STATE_HOME": str(self._directory.absolute() / "state-home"),
            **self._env,
        }

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
