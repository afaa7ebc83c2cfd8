# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SIGTERM and SIGINT to the real ansible-rulebook, with its JVM, while a playbook runs."""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import time
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, local_inventory

SOURCE = """
import asyncio
import pathlib
import sys

sys.path[:0] = [{collections!r}]
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import signals


async def main(queue, args):
    # Each connection is an event.
    async def event(_reader, writer):
        writer.close()
        await queue.put({{"alert": True}})

    server = await asyncio.start_server(event, "127.0.0.1", args["port"])
    async with server, signals.stop_asked() as stop:
        await stop.wait()
        pathlib.Path("stopping").touch()
        await signals.playbooks_ended(args["grace"])
"""
RULEBOOK: t.Any = [
    {
        "name": "Run a playbook",
        "hosts": "all",
        "execution_strategy": "parallel",
        "sources": [{"events": {"port": "{{ guard_port }}", "grace": "{{ grace }}"}}],
        "rules": [
            {"name": "Run it", "condition": "event.alert == true", "action": {"run_playbook": {"name": "play.yml"}}}
        ],
    }
]
MARK = "GUARD_TEST_OF_SHUTDOWN"


class Run:
    """The rulebook with a playbook that says when it begins, and ends when C(gate) is there.

    Attributes:
        process: that runs it.
    """

    def __init__(self, directory: pathlib.Path, grace: float) -> None:
        (directory / "sources").mkdir()
        path = directory / "sources/events.py"
        collections = next(entry for entry in os.environ["PYTHONPATH"].split(os.pathsep) if entry)
        path.write_text(SOURCE.format(collections=collections))
        (directory / "rulebook.yml").write_text(yaml.safe_dump(RULEBOOK))
        tasks = [
            {"ansible.builtin.file": {"path": str(directory / "began"), "state": "touch"}},
            {"ansible.builtin.command": f"sh -c 'until [ -e {directory}/gate ]; do sleep 0.05; done'"},
            {"ansible.builtin.file": {"path": str(directory / "ended"), "state": "touch"}},
        ]
        (directory / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        self._directory = directory
        self._mark = f"{MARK}={directory}"
        self.process = RulebookProcess(
            directory / "rulebook.yml",
            local_inventory(directory),
            directory,
            variables={"grace": grace},
            env={MARK: str(directory)},
            options=["--source-dir", directory / "sources"],
        )

    def __enter__(self) -> Run:
        self.process.__enter__()
        # The engine reads events once its rules are there; the first connection was that which looked for the port.
        self.process.wait_for(lambda: self.has("began"), "playbook that began")
        return self

    def __exit__(self, *error: t.Any) -> None:
        self.open_the_gate()
        self.process.__exit__(*error)

    def has(self, name: str) -> bool:
        return (self._directory / name).exists()

    def open_the_gate(self) -> None:
        (self._directory / "gate").touch()

    @property
    def left(self) -> list[str]:
        """The processes that were started by the rulebook, or by what it started."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes().split(b"\0")
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if self._mark.encode() in environment and command:
                found.append(command)
        return found


def until(condition: t.Callable[[], object], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_is_let_end(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    with Run(tmp_path, grace=60) as run:
        run.process.send(number)
        assert until(lambda: run.has("stopping"))
        assert run.process.goes_on
        assert not run.has("ended")
        run.open_the_gate()
        assert run.process.wait() == 0, run.process.log
        assert run.has("ended")
        assert run.left == []


def test_but_not_for_ever(tmp_path: pathlib.Path) -> None:
    with Run(tmp_path, grace=1) as run:
        run.process.send(signal.SIGTERM)
        assert run.process.wait() == 0, run.process.log
        assert until(lambda: run.left == []), run.left
        assert not run.has("ended")


# On a busy machine the engine now and then does not end by a second signal, although no playbook runs any more.
@pytest.mark.alone
def test_a_second_signal_ends_it_at_once(tmp_path: pathlib.Path) -> None:
    with Run(tmp_path, grace=60) as run:
        run.process.send(signal.SIGTERM)
        assert until(lambda: run.has("stopping"))
        run.process.send(signal.SIGTERM)
        assert run.process.wait() == 0, run.process.log
        assert until(lambda: run.left == []), run.left
        assert not run.has("ended")


def test_nothing_runs(tmp_path: pathlib.Path) -> None:
    with Run(tmp_path, grace=60) as run:
        run.open_the_gate()
        assert until(lambda: run.has("ended"))
        socket.create_connection(("127.0.0.1", run.process.port), timeout=5).close()
        run.process.send(signal.SIGTERM)
        assert run.process.wait() == 0, run.process.log
        assert run.left == []
