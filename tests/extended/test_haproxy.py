# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The list of docs/socket-proxy.md in a real HAProxy, in front of the engine of this machine."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import re
import shutil
import socket
import subprocess
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import ISOLATED, RELEASED
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.test_socket_proxy import DANGEROUS, PAGE


@pytest.fixture
def world() -> t.Iterator[DockerWorld]:
    with DockerWorld() as found:
        yield found


@pytest.fixture
def proxy(world: DockerWorld, tmp_path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """The socket of an HAProxy with the configuration of the page."""
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    assert pathlib.Path(program).exists(), "HAProxy is missing; run: tools/setup.sh haproxy"
    path = tmp_path / "docker.sock"
    (configuration,) = re.findall(r"```haproxy\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    configuration = re.sub(r"bind unix@\S+ .*", f"bind unix@{path}", configuration)
    configuration = configuration.replace("unix@/run/docker.sock", "unix@" + world.docker_host.removeprefix("unix://"))
    file = tmp_path / "haproxy.cfg"
    file.write_text(configuration)
    with subprocess.Popen([program, "-db", "-f", str(file)], stdin=subprocess.DEVNULL) as process:
        try:
            while not path.exists():
                assert process.poll() is None, "HAProxy ended"
                time.sleep(0.05)
            yield path
        finally:
            process.terminate()


def test_the_guard_works_through_it(world: DockerWorld, proxy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    network = world.make_network("n")
    container = world.make_container("c", {network: PLAIN}, restart_policy=("always", 0))
    with contextlib.closing(DockerEngine(f"unix://{proxy}")) as engine:
        guard = Isolator(engine, Journal(str(tmp_path / "state"), lock_timeout=30))
        isolated = guard.isolate(container, [Action("pause"), Action("network_disconnect")])
        assert (isolated.outcome, world.keys(container)) == (ISOLATED, {}), isolated
        released = guard.release(container)
        assert (released.outcome, world.state(container)) == (RELEASED, "running"), released
        assert len(world.keys(container)) == 1
        # What is followed is let through as it comes.
        assert b"".join(engine.top(container))
        assert b"".join(engine.export(container))
        assert engine.past_events()


@pytest.mark.parametrize("call", DANGEROUS)
def test_what_makes_root_is_refused(proxy: pathlib.Path, call: str) -> None:
    method, _space, path = call.partition(" ")
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(connection):
        connection.sock.connect(str(proxy))
        connection.request(method, path)
        assert connection.getresponse().status == 403
