# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pythons with other docker SDKs against the engine of this machine: those that do not work are named as such, at once.

What is in each of them is in sdks.txt. Those are tested for which tools/setup.sh sdks found a Python on this machine.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

ROOT = pathlib.Path(__file__).parents[2]
TABLE = pathlib.Path(__file__).with_name("sdks.txt")

MADE = {path.parent.name for path in (ROOT / ".venv" / "sdk").glob("*/.complete")}
WORKING = [name for name in ("oldest", "newest") if name in MADE]
MISSING = [name for name in ("none", "none-newest") if name in MADE]
# What each of the others ends in.
_UNUSABLE = {
    "distutils": "No module named 'distutils'",
    "ubuntu-24.04": "unexpected keyword argument 'chunked'",
    "chunked": "unexpected keyword argument 'chunked'",
    "scheme": "Not supported URL scheme http+docker",
    "scheme-5": "Not supported URL scheme http+docker",
    "scheme-newest": "Not supported URL scheme http+docker",
}
UNUSABLE = {name: reason for name, reason in _UNUSABLE.items() if name in MADE}

# Run by these Pythons, which have no pytest. A wait before another attempt would be told.
CONNECT = """
import json, sys
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry, is_transient

url, container, network = sys.argv[1:]
waits = []
try:
    engine = Retry(sleep=waits.append).call(lambda: DockerEngine(url))
except EngineError as error:
    print(json.dumps({**error.to_dict(), "transient": is_transient(error), "waits": waits}))
    sys.exit()
engine.pause(container)
engine.disconnect(network, container)
engine.connect(network, container, EndpointSettings(aliases=("web",)))
engine.unpause(container)
found = engine.inspect_container(container)
logs = b"".join(engine.logs(container, 10)).decode()
print(json.dumps({"status": found["State"]["Status"], "networks": found["NetworkSettings"]["Networks"], "logs": logs}))
engine.close()
"""


def python_of(name: str) -> str:
    return str(ROOT / ".venv" / "sdk" / name / "bin" / "python")


def what_it_does(name: str, url: str, container: str = "", network: str = "") -> dict[str, t.Any]:
    done = subprocess.run(
        [python_of(name), "-W", "error", "-c", CONNECT, url, container, network],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".venv" / "collections")},
    )
    return t.cast("dict[str, t.Any]", json.loads(done.stdout))


def test_every_sdk_of_the_table_that_was_made_is_in_a_test() -> None:
    rows = [line.split() for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    assert {row[0] for row in rows if row[1] == "any"} <= MADE, "make them by tools/setup.sh sdks"
    assert sorted({row[0] for row in rows} & MADE) == sorted([*WORKING, *MISSING, *UNUSABLE])


@pytest.mark.parametrize("name", WORKING)
def test_an_sdk_that_works(docker_world: DockerWorld, name: str) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN}, command=("sh", "-c", "echo x; sleep 3600"))
    found = what_it_does(name, docker_world.docker_host, container, network)
    assert found["status"] == "running"
    assert "web" in found["networks"][docker_world.name("n")]["Aliases"]
    assert found["logs"].endswith("Z x\n")


@pytest.mark.parametrize("name", UNUSABLE)
def test_c5_an_sdk_that_does_not_work_is_named_with_its_python_before_any_retry(
    docker_world: DockerWorld, name: str
) -> None:
    """C5: today these are an engine that broke off, does not speak as one does, or an SDK that is missing."""
    found = what_it_does(name, docker_world.docker_host)
    assert found["kind"] == "sdk_unusable"
    assert f"the docker SDK for Python that {python_of(name)} loads does not work" in found["message"]
    assert UNUSABLE[name] in found["message"]
    for version in versions_of(name):
        assert version in found["message"]
    assert f"{python_of(name)} -m pip install 'docker>=7.1'" in found["remedy"]
    assert (found["transient"], found["waits"]) == (False, [])


@pytest.mark.parametrize("name", MISSING)
def test_c5_no_sdk_is_named_with_its_python_before_any_retry(docker_world: DockerWorld, name: str) -> None:
    found = what_it_does(name, docker_world.docker_host)
    assert found["kind"] == "sdk_missing"
    assert f"not installed for {python_of(name)}" in found["message"]
    assert "python3-docker" in found["remedy"]
    assert f"{python_of(name)} -m pip install 'docker>=7.1'" in found["remedy"]
    assert (found["transient"], found["waits"]) == (False, [])


@pytest.mark.parametrize(("name", "kind"), [("none-newest", "sdk_missing"), ("scheme-newest", "sdk_unusable")])
def test_c5_a_module_says_so(tmp_path: pathlib.Path, docker_world: DockerWorld, name: str, kind: str) -> None:
    """C5: with a wait of half a minute before each further attempt there is none."""
    ansible = Ansible(tmp_path)
    inventory = tmp_path / "group_vars" / "all.json"
    inventory.parent.mkdir()
    inventory.write_text(json.dumps({"ansible_python_interpreter": python_of(name)}))
    done = ansible.isolation(
        docker_world.make_container("c"),
        docker_host=docker_world.docker_host,
        actions=[{"type": "pause"}],
        retry_max_attempts=10,
        retry_backoff_base=30000,
    )
    assert done["failed"], done
    assert done["error"]["kind"] == kind
    assert python_of(name) in done["msg"]


def versions_of(name: str) -> list[str]:
    """The versions that the table asks for, as messages say them."""
    (line,) = (line for line in TABLE.read_text().splitlines() if line.split()[0] == name)
    wanted = [requirement.replace("==", " ") for requirement in line.split()[2:]]
    minor = line.split()[1]
    python = "Python 3." if minor == "any" else f"Python 3.{minor}."
    return [python, *(one for one in wanted if re.match("docker|requests|urllib3", one))]
