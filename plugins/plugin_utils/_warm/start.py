# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs ansible-rulebook, or any command that runs playbooks by ansible-runner, with a warm process beside it.

    python -I start.py COMMAND [ARGUMENT...]

becomes the command: with the same process id, environment and streams, and with bin/ first on PATH. What it leaves
behind, the I(keeper), keeps the warm process (server.py) running for as long as the command runs, and prints what that
says. Until the warm process is ready, and whenever there is none, playbooks start as usual.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator

HERE = pathlib.Path(__file__).absolute().parent
UNSOUND = 3
"""Exit status of a warm process that would not be sound: see server.py."""
LONGEST_PAUSE = 60.0
"""Seconds before a warm process is started again that had ended at once."""
_LINES, _COLUMNS = 24, 80
"""Those of the terminals of ansible-runner."""
_ENVIRONMENT = """
import json, sys, tempfile
from ansible_runner.config.runner import RunnerConfig
with tempfile.TemporaryDirectory() as directory:
    config = RunnerConfig(directory)
    config.prepare_env()
    json.dump(config.env, sys.stdout)
"""


def main() -> None:
    """Start the keeper, and become the command."""
    command = sys.argv[1:]
    try:
        _leave_keeper(command)
    except OSError as error:
        _say(f"nothing is kept warm: {error}")
    os.execvp(command[0], command)  # noqa: S606 - it is what was asked for


def _leave_keeper(command: list[str]) -> None:
    """Start the keeper, and say in the environment how the warm process is reached. Raises OSError."""
    real = shutil.which("ansible-playbook")
    python = interpreter(real)
    if real is None or not python:
        _say(f"nothing is kept warm: {real or 'ansible-playbook'} is not there, or not a Python program")
        return
    # That of a service is not tidied up by others, as /tmp is where it gets old. Not below TMPDIR: the path of a
    # socket has at most 107 bytes.
    runtime = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    place = runtime or "/tmp"  # noqa: S108 - mkdtemp makes a directory there that is new and nobody else enters
    directory = tempfile.mkdtemp(prefix="container-guard-warm-", dir=place)
    # Before the keeper is there, as the warm process has to have the environment of the runs.
    os.environ["GUARD_WARM_PYTHON"] = sys.executable
    os.environ["GUARD_WARM_REAL"] = real
    os.environ["GUARD_WARM_SOCKET"] = f"{directory}/socket"
    os.environ["PATH"] = f"{HERE / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # ansible-runner names a directory of its own by the path of the Python that runs it.
    ask = [interpreter(shutil.which(command[0])) or sys.executable, "-P", "-c", _ENVIRONMENT]
    server = [python, str(HERE / "server.py"), f"{directory}/socket", real]
    of_command = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        _keep(of_command, pathlib.Path(directory), ask, server)
    os.close(of_command)


def _keep(of_command: int, directory: pathlib.Path, ask: list[str], server: list[str]) -> None:
    """Have a warm process for as long as the command runs. Does not return.

    Args:
        of_command: descriptor of its process.
        directory: for the socket, and to work in; removed at the end.
        ask: the command line that prints the environment of runs.
        server: that of the warm process.
    """
    # They are for the command, with which this ends. Were they ignored, the warm process would ignore them, too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    try:
        environment = json.loads(subprocess.check_output(ask))
        pause = 1.0
        while not _ended(of_command):
            began = time.monotonic()
            status = _serve(of_command, directory, server, environment)
            if status == UNSOUND:
                break
            # Without an error where a file has changed.
            at_once = status and time.monotonic() - began < LONGEST_PAUSE
            pause = min(2 * pause, LONGEST_PAUSE) if at_once else 1.0
            _ended(of_command, pause)
    except Exception as error:
        _say(f"nothing is kept warm: {error}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(0)


def _serve(of_command: int, directory: pathlib.Path, server: list[str], environment: dict[str, str]) -> int:
    """Have one warm process until it or the command ends, and print what it says; its exit status."""
    ours, its = os.openpty()
    try:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", _LINES, _COLUMNS, 0, 0))
        try:
            process = subprocess.Popen(
                server, stdin=its, stdout=its, stderr=its, cwd=directory, env=environment, start_new_session=True
            )
        finally:
            os.close(its)
        with process, _descriptor_of(process.pid) as ended:
            poll = select.poll()
            for descriptor in (of_command, ended, ours):
                poll.register(descriptor, select.POLLIN)
            # Not until its terminal is closed: runs go on that it has started, and may have something to say.
            while not {of_command, ended} & (ready := {descriptor for descriptor, _event in poll.poll()}):
                _say_what_is_in(ours)
            if ours in ready:
                _say_what_is_in(ours)
            process.kill()
        return process.returncode
    finally:
        os.close(ours)


@contextlib.contextmanager
def _descriptor_of(pid: int) -> Iterator[int]:
    """A descriptor that can be read from when the process has ended."""
    found = os.pidfd_open(pid)
    try:
        yield found
    finally:
        os.close(found)


def _say_what_is_in(terminal: int) -> None:
    with contextlib.suppress(OSError):  # nobody has the other end any more
        for line in os.read(terminal, 65536).decode(errors="replace").splitlines():
            _say(line)


def _ended(process: int, seconds: float = 0) -> bool:
    """Whether a process ends within so many seconds."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(1000 * seconds))


def interpreter(program: str | None) -> str:
    """The Python that runs a program, or empty."""
    if program is None:
        return ""
    with open(program, "rb") as file:
        first = os.fsdecode(file.readline(4096)).rstrip("\n")
    path = first.removeprefix("#!").strip()
    is_python = first.startswith("#!") and os.path.basename(path).startswith("python")
    return path if is_python and " " not in path else ""


def _say(text: str) -> None:
    print(f"container_guard: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
