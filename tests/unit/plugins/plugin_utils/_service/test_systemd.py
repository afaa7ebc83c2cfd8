# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said to the service manager, and taken from it."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.systemd import Manager


def test_nobody_is_told_where_there_is_no_manager() -> None:
    manager = Manager({})
    manager.ready("ready")
    manager.alive()
    assert manager.sockets() == []
    assert manager.watchdog == 0


def test_what_is_said(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        manager = Manager({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "2000000"})
        manager.ready("all is well")
        manager.alive()
        manager.stopping("draining")
        said = [listening.recv(1000).decode() for _datagram in range(3)]
    assert said[:2] == ["READY=1\nSTATUS=all is well", "WATCHDOG=1"]
    # Draining takes as long as what is under way, which the watchdog must not cut short.
    assert said[2].splitlines() == ["STOPPING=1", "STATUS=draining", "WATCHDOG_USEC=3600000000"]
    assert manager.watchdog == 2


def test_a_manager_that_has_gone_costs_nothing(tmp_path: pathlib.Path) -> None:
    Manager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("ready")


def test_what_is_for_another_process_is_not_taken() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "1"}
    manager = Manager(environment)
    assert manager.sockets() == []
    assert manager.watchdog == 0
    assert environment == {}


def test_sockets_that_were_opened_for_it_are_taken() -> None:
    script = (
        "import os\n"
        "from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.systemd import Manager\n"
        "os.environ['LISTEN_PID'] = str(os.getpid())\n"
        "found = Manager().sockets()\n"
        "print([one.getsockname()[1] for one in found], 'LISTEN_FDS' in os.environ)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def hand_over() -> None:
            os.dup2(listening.fileno(), 3)

        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "LISTEN_FDS": "1"},
            pass_fds=(3,),
            preexec_fn=hand_over,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == f"[{port}] False"
