# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command lines of the documentation, typed as they stand there, over ssh by an ordinary user who has sudo."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import sys
import typing as t
import urllib.parse

import pytest
import yaml

from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS, free_port
from ansible_collections.ironpost.container_guard.tests.integration.senders import falco

pytestmark = pytest.mark.usefixtures("usual_places")

REPOSITORY = COLLECTIONS / "ansible_collections/ironpost/container_guard"
COMMAND = re.compile(r"^(?:    |\$ )(ansible(?:-playbook)? -i inventory (?:[^\\\n]|\\\n)*)$", re.MULTILINE)
_TYPED = ("isolation", "mutes", "evidence", "policies", "policy-tests", "fleet")
PAGES = ("README.md", *(f"docs/{page}.md" for page in _TYPED))
LEFT_ON_HOST = ("/var/lib/container-guard", "/etc/container-guard")
# Somebody's container: the name is that of the documentation.
SHOP = "shop-7"


def documented() -> list[str]:
    """All command lines about hosts, in the order of the pages."""
    found = [line for page in PAGES for line in COMMAND.findall((REPOSITORY / page).read_text(encoding="utf-8"))]
    assert all(" -b " in line for line in found)
    return list(dict.fromkeys(found))


class Typed(t.NamedTuple):
    """A command line that was typed: its exit status and what it printed."""

    status: int
    output: str


class Terminal:
    """A directory on the controller with an inventory, in which command lines are typed."""

    def __init__(self, directory: pathlib.Path, world: HostWorld) -> None:
        self.directory = directory
        self.host = world.host
        self.inventory(**world.host.operator_inventory)

    def inventory(self, **variables: t.Any) -> None:
        """Have a host web-1 in the inventory, with these variables."""
        (self.directory / "inventory").write_text(yaml.safe_dump({"all": {"hosts": {"web-1": variables}}}))

    def type(self, line: str, **env: str) -> Typed:
        done = subprocess.run(
            ["bash", "-c", line],
            check=False,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=180,
            env=self._environment(env),
        )
        return Typed(done.returncode, done.stdout)

    @contextlib.contextmanager
    def leave_running(self, line: str, **env: str) -> t.Iterator[pathlib.Path]:
        """Type what goes on until it is interrupted, as the context is left; the file of what it prints."""
        output = self.directory / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                # Interrupted as in a terminal: it and what it started.
                ["bash", "-c", line],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(env),
                start_new_session=True,
            )
        try:
            yield output
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)

    def _environment(self, env: t.Mapping[str, str]) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_NOCOLOR": "1",
            **env,
        }


@pytest.fixture
def testbed_engine() -> str:
    return "28.5"


@pytest.fixture
def terminal(docker_world: HostWorld, tmp_path: pathlib.Path) -> t.Iterator[Terminal]:
    found = Terminal(tmp_path, docker_world)
    yield found
    found.host.exec("rm", "-rf", *LEFT_ON_HOST)
    found.host.exec("sh", "-c", "rm -rf /dev/shm/ansible-tmp-* /home/operator/*tmp* /home/operator/.ansible")


def test_the_operator_is_an_ordinary_user(terminal: Terminal) -> None:
    asked = terminal.type("ansible -i inventory all -m ansible.builtin.command -a 'cat /run/docker.sock'")
    assert asked.status != 0
    assert "Permission denied" in asked.output


def test_the_documented_command_lines_work_for_an_ordinary_user_with_sudo(
    docker_world: HostWorld, terminal: Terminal
) -> None:
    policies = terminal.directory / "policies"
    policies.mkdir()
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    example = re.search(r"^```yaml\n(policies:\n.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert example is not None
    (policies / "quarantine.yml").write_text(example[1])
    shop = docker_world.make_container(SHOP, name=SHOP)
    lines = documented()
    deploying = [line for line in lines if "policies_src" in line]
    isolating = next(line for line in lines if ".isolate " in line)
    releasing = next(line for line in lines if ".release " in line)
    deciding = [line for line in lines if ".approve " in line]
    typed_apart = (*deploying, *deciding, isolating, releasing)
    back = ("rolled_back", ".rollback")  # where nothing was deployed before
    others = [line for line in lines if line not in typed_apart and not any(word in line for word in back)]
    for kind in (
        ".status",
        "release_expired",
        ".hunt ",
        ".preflight",
        "collect_evidence",
        ".repair",
        "guard_selector",
        ".mute ",
    ):
        assert any(kind in line for line in others), kind

    for line in (*deploying, isolating):
        typed = terminal.type(line)
        assert typed.status == 0, f"{line}\n{typed.output}"
    assert docker_world.state(shop) == "paused"
    for line in others:
        typed = terminal.type(line)
        assert typed.status == 0, f"{line}\n{typed.output}"
    assert deciding
    for line in deciding:  # a person isolated it, so that nothing waits
        typed = terminal.type(line)
        assert typed.status != 0
        assert "nothing waits for approval on container shop-7" in typed.output, typed.output
    (case,) = (terminal.directory / "evidence/web-1").iterdir()
    assert (case / "manifest.json").stat().st_uid == os.geteuid()
    assert docker_world.state(shop) == "paused"
    typed = terminal.type(releasing)
    assert typed.status == 0, typed.output
    assert docker_world.state(shop) == "running"


def test_the_readme_leads_from_nothing_to_a_container_that_falco_gets_isolated(
    docker_world: HostWorld, terminal: Terminal
) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (starting,) = re.findall(r"^    cat > guard.yml <<END\n(?:    .*\n)+", readme, re.MULTILINE)
    terminal.inventory(**terminal.host.operator_inventory, ansible_become=True)
    (terminal.directory / "policies").mkdir()
    (terminal.directory / "policies/quarantine.yml").write_text(next(one for one in blocks if "policies:" in one))
    deploying = next(line for line in documented() if "policies_src" in line and "--check" not in line)
    typed = terminal.type(deploying)
    assert typed.status == 0, typed.output
    asked = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=guard -addext subjectAltName=IP:127.0.0.1"
    typed = terminal.type(f"openssl req -x509 {asked} -keyout tls.key -out tls.crt")
    assert typed.status == 0, typed.output
    # What this machine has not: the directory of the certificate, and that port for sure.
    port = free_port()
    starting = re.sub("^    ", "", starting, flags=re.MULTILINE)
    assert starting.count("/etc/container-guard/") == 2
    starting = starting.replace("/etc/container-guard/", f"{terminal.directory}/")
    starting = starting.replace("host: 0.0.0.0\n", f"host: 0.0.0.0\n  port: {port}\n")

    docker_world.api.tag("container-guard/busybox:latest", "nginx", "readme")
    target = docker_world.make_container("web-7", name="web-7", image="nginx:readme", labels={"env": "prod"})
    beside = docker_world.make_container("other")
    with terminal.leave_running(starting, XDG_STATE_HOME=str(terminal.directory)) as output:

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        docker_world.until(listens, "a listening rulebook", 120)
        url = next(one for one in map(yaml.safe_load, blocks) if "http_output" in one)["http_output"]["url"]
        secret = yaml.safe_load((terminal.directory / "guard.yml").read_text())["guard"]["path_token"]
        path = urllib.parse.urlsplit(url).path.replace("PATH_TOKEN", secret)
        alert = {**falco(target, "falco-web-1"), "tags": ["container", "mitre_execution"]}
        context = ssl.create_default_context(cafile=str(terminal.directory / "tls.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=60, context=context)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(alert))
            assert connection.getresponse().status == 202
        docker_world.until(lambda: docker_world.state(target) == "paused", "an isolated container", 120)
        assert docker_world.state(beside) == "running"
        docker_world.until(lambda: "isolated" in output.read_text(), "what came of it")
    docker_world.api.remove_container(target, force=True)
    docker_world.api.remove_image("nginx:readme")


@pytest.mark.parametrize("said", ["in the inventory", "as an extra variable"])
def test_ansible_become_for_all_is_as_good_and_needs_no_sudo_on_the_controller(
    docker_world: HostWorld, terminal: Terminal, said: str
) -> None:
    docker_world.make_container(SHOP, name=SHOP)
    extra = ""
    if said == "in the inventory":
        terminal.inventory(**terminal.host.operator_inventory, ansible_become=True)
    else:
        extra = " -e ansible_become=true"
    # No sudo is found on the controller, as in most execution environments.
    nowhere = terminal.directory / "bin"
    nowhere.mkdir()
    (nowhere / "sudo").write_text("#!/bin/sh\necho no sudo here >&2\nexit 1\n")
    (nowhere / "sudo").chmod(0o755)
    environment = {"PATH": f"{nowhere}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"}
    about = f"-e guard_target=web-1 -e guard_container={SHOP}{extra}"
    for playbook in ("isolate", "collect_evidence", "repair", "release"):
        typed = terminal.type(
            f"ansible-playbook -i inventory ironpost.container_guard.{playbook} {about}", **environment
        )
        assert typed.status == 0, typed.output


def test_what_is_sent_to_a_host_lies_in_memory_there_unless_the_user_says_where(terminal: Terminal) -> None:
    # The program unpacks itself on the host, where Python puts temporary files.
    python = "#!/bin/sh\necho $TMPDIR >>/run/tmpdir\nexec /usr/bin/python3 $*\n"
    terminal.host.exec("sh", "-c", f"printf '{python}' >/run/python && chmod 755 /run/python && rm -f /run/tmpdir")
    terminal.inventory(**terminal.host.operator_inventory | {"ansible_python_interpreter": "/run/python"})
    line = "ansible-playbook -i inventory -b ironpost.container_guard.repair -e guard_target=web-1"
    kept = {"ANSIBLE_KEEP_REMOTE_FILES": "1"}
    typed = terminal.type(line, **kept)
    assert typed.status == 0, typed.output
    assert set(terminal.host.exec("cat", "/run/tmpdir")[1].split()) == {"/dev/shm"}
    found = "sh", "-c", "ls -d /dev/shm/ansible-tmp-*/AnsiballZ_isolation.py"
    assert terminal.host.exec(*found)[0] == 0
    assert terminal.host.exec("ls", "/home/operator/.ansible")[0] != 0

    terminal.host.exec("sh", "-c", "rm -rf /dev/shm/ansible-tmp-*")
    for said, variables, env in (
        ("own", " -e ansible_remote_tmp=/home/operator/own_tmp", {}),
        ("other", "", {"ANSIBLE_REMOTE_TEMP": "/home/operator/other_tmp"}),
    ):
        typed = terminal.type(line + variables, **kept, **env)
        assert typed.status == 0, typed.output
        mine = f"ls -d /home/operator/{said}_tmp/ansible-tmp-*/AnsiballZ_isolation.py"
        assert terminal.host.exec("sh", "-c", mine)[0] == 0
        assert terminal.host.exec(*found)[0] != 0


def test_a_host_without_such_memory_is_worked_on_as_before(terminal: Terminal) -> None:
    line = "ansible-playbook -i inventory -b ironpost.container_guard.repair -e guard_target=web-1"
    terminal.host.exec("chmod", "0755", "/dev/shm")
    try:
        typed = terminal.type(line, ANSIBLE_KEEP_REMOTE_FILES="1")
    finally:
        terminal.host.exec("chmod", "1777", "/dev/shm")
    assert typed.status == 0, typed.output
    assert terminal.host.exec("sh", "-c", "ls -d /home/operator/.ansible/tmp/ansible-tmp-*")[0] == 0
