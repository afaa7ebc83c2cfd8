# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role falco_output: from a Falco as its package leaves it to an isolated container, over TLS.

The host, sshd, the rulebook and the Docker Engine are real. A stand-in does what Falco does with its configuration
(tests/testbed/falco.py). That systemd restarts it is tested in tests/extended.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import shlex
import socket
import ssl
import subprocess
import sys
import typing as t
import urllib.parse

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import (
    COLLECTIONS,
    RulebookProcess,
    free_port,
)
from ansible_collections.ironpost.container_guard.tests.integration.senders import Json
from ansible_collections.ironpost.container_guard.tests.testbed import falco_package
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.tests.integration.conftest import Testbed

ROLE = "ironpost.container_guard.falco_output"
REPOSITORY = COLLECTIONS / "ansible_collections/ironpost/container_guard"
TOKEN = "p-of_the~test.suite"
NAME = "web-1"
OURS = "/etc/falco/config.d/container-guard.yaml"
UNIT = "/etc/systemd/system/falco.service.d/container-guard.conf"
SIDEKICK = "/etc/systemd/system/falcosidekick.service"
POLICY = {
    "id": "quarantine",
    "severity_threshold": "info",
    "target_filter": {"container_names": ["cg-test-*"]},
    "actions": [{"type": "pause"}, {"type": "network_disconnect"}],
}


class Run(t.NamedTuple):
    """What ansible-playbook did: its exit status, and what it printed."""

    status: int
    output: str

    @property
    def changed(self) -> int:
        return sum(map(int, re.findall(r" changed=(\d+) ", self.output)))


class Scene:
    """A host on which Falco is installed, a guard, and who applies the role.

    Attributes:
        host: on which Falco is.
        world: a corner of its engine.
        address: of the guard, seen from the host.
        certificates: where those that the documentation makes are.
    """

    def __init__(self, host: Host, world: HostWorld, directory: pathlib.Path) -> None:
        self.host = host
        self.world = world
        self.certificates = directory
        self.address = ""
        self._directory = directory
        self.inventory = directory / "inventory.json"
        self.guard: RulebookProcess

    def play(self, variables: Json, *options: str, hosts: Json | None = None) -> Run:
        """Apply the role to the host, or to others of which these are the variables."""
        inventory = self._directory / "role_inventory.json"
        own = {**self.host.inventory, "ansible_ssh_pipelining": True}
        inventory.write_text(json.dumps({"all": {"hosts": hosts or {NAME: own}}}))
        extra = self._directory / "extra.json"
        extra.write_text(json.dumps({"falco_output_restart": False, **variables}))
        playbook = self._directory / "role.json"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "roles": [{"role": ROLE}]}]))
        done = subprocess.run(
            [
                *(str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "--inventory", str(inventory)),
                *("--extra-vars", f"@{extra}", *options, str(playbook)),
            ],
            check=False,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=300,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_SSH_PIPELINING": "1",
                "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
            },
        )
        return Run(done.returncode, done.stdout)

    def text(self, name: str) -> str:
        return (self.certificates / name).read_text()

    def read(self, path: str) -> str:
        status, output = self.host.exec("cat", path)
        assert status == 0, output
        return output

    def mode(self, path: str) -> str:
        status, output = self.host.exec("stat", "-c", "%a %U:%G", path)
        assert status == 0, output
        return output.strip()

    def configuration(self) -> Json:
        """What comes of all files of Falco, as it says itself."""
        status, output = self.host.exec("/usr/bin/falco", "--support")
        assert status == 0, output
        found: Json = json.loads(json.loads(output)["config"])
        return found

    def happens(self, container: str) -> None:
        """A shell is started in a container, by a rule of one's own that prints no id, and Falco sees it."""
        event = {
            "rule": "Shell",
            "priority": "Critical",
            "tags": ["shell"],
            "output": "A shell was spawned " + "x" * 1500,
            "prints": ["proc.cmdline"],
            "fields": {"container.id": container[:12], "proc.cmdline": "sh {{ 1 }}", "proc.pid": 4_000_000},
        }
        # What systemd does with the setting of the unit.
        (setting,) = re.findall(r"^Environment=(.*)$", self.read(UNIT), re.MULTILINE)
        line = f"printf '%s\\n' {shlex.quote(json.dumps(event))} | env {shlex.quote(setting)} /usr/bin/falco"
        status, output = self.host.exec("sh", "-c", line)
        assert (status, output) == (0, "")

    def assert_isolated(self, container: str) -> None:
        self.guard.wait_for(lambda: self.world.state(container) == "paused", "isolation")
        self.guard.wait_for(lambda: self.world.keys(container) == {}, "isolation")


@pytest.fixture(scope="module")
def scene(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Scene]:
    directory = tmp_path_factory.mktemp("falco")
    host = testbed.shared("28.5")
    with HostWorld(host) as world:
        gateway = address_towards(host.address)
        found = Scene(host, world, directory)
        make_certificates(directory, gateway)
        falco_package.install(host)
        policy_set = PolicySet.of([Policy.from_dict(POLICY)]).to_json()
        host.exec("sh", "-c", f"mkdir -p /etc/cg-falco; echo {shlex.quote(policy_set)} >/etc/cg-falco/set.json")
        variables = {"guard_policy_set_path": "/etc/cg-falco/set.json", "guard_state_dir": "/etc/cg-falco/state"}
        found.inventory.write_text(json.dumps({"all": {"hosts": {NAME: {**host.inventory, **variables}}}}))
        guard = {
            "host": gateway,
            "certfile": str(directory / "guard.crt"),
            "keyfile": str(directory / "guard.key"),
            "cafile": str(directory / "ca.crt"),
            "certificate_required": False,
            "path_token": TOKEN,
            "token": TOKEN,
            "senders": [{"name": "falco-web-1", "certificate": "web-1.example.com", "hosts": [NAME]}],
            "hosts": [NAME],
            "lookup_hosts": [],  # an alert that does not name its host is refused
            "inventory": str(found.inventory),
        }
        port = free_port()
        rulebook = RulebookProcess(
            "ironpost.container_guard.respond",
            found.inventory,
            directory,
            {"guard": guard, "guard_port": port},
            ready=lambda: listens(gateway, port),
        )
        with rulebook:
            found.guard = rulebook
            found.address = f"https://{gateway}:{rulebook.port}/alerts"
            yield found
        host.exec("rm", "-rf", "/etc/cg-falco", "/etc/falcosidekick", SIDEKICK, f"{SIDEKICK}.d", "/var/log/falco")
        host.exec("rm", "-rf", "/etc/systemd/system/falco.service.d")
        falco_package.remove(host)


@pytest.fixture
def falco(scene: Scene) -> t.Iterator[Scene]:
    """The scene, with Falco as its package leaves it."""
    falco_package.install(scene.host)
    yield scene
    scene.host.exec("rm", "-rf", UNIT)


def address_towards(host: str) -> str:
    """The address of this machine that a host sees."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # nothing is sent
        return str(probe.getsockname()[0])


def listens(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def make_certificates(directory: pathlib.Path, address: str) -> None:
    """Run what docs/alerts.md says."""
    page = (REPOSITORY / "docs/alerts.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```bash\n(openssl req -x509.*?)```", page, re.DOTALL)
    done = subprocess.run(
        ["bash", "-euc", recipe.replace("192.0.2.10", address)],
        check=False,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_what_does_not_fit_is_said_before_anything_is_done(scene: Scene) -> None:
    fits = {"falco_output_url": "https://guard.example.com:5000/alerts", "falco_output_token": TOKEN}
    hosts = {
        "plain": {**fits, "falco_output_url": "http://guard.example.com/alerts"},
        "environment": {**fits, "falco_output_url": "https://guard.example.com/${HOME}"},
        "lines": {**fits, "falco_output_token": "p-x\n"},
        "nobody": {**fits, "falco_output_token": ""},
        "keyless": {**fits, "falco_output_certificate": "x"},
        "hostless": {**fits, "falco_output_hostname": "a b"},
        "relative": {**fits, "falco_output_by": "file", "falco_output_file": "/var/log/a b"},
        "distrusting": {
            **fits,
            "falco_output_by": "falcosidekick",
            "falco_output_certificate": "x",
            "falco_output_key": "x",
        },
        "without": fits,
        "nearby": {"falco_output_guard": "local", "falco_output_token": TOKEN},
        "unproven": {"falco_output_guard": "local"},
    }
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    done = scene.play({}, hosts={name: {**local, **variables} for name, variables in hosts.items()})
    assert done.status == 2, done.output
    said = dict(re.findall(r"fatal: \[([a-z]+)\]: FAILED! => (.*?)(?=^\S)", done.output, re.MULTILINE | re.DOTALL))
    assert said.keys() == hosts.keys(), done.output
    assert [name for name in hosts if "do not fit together" not in said[name]] == ["without", "nearby"]
    assert "FALCO_HOSTNAME=without" in said["without"]


@pytest.mark.parametrize(
    ("files", "version", "reason"),
    [
        ({}, "0.38.2", "is older than 0.39"),
        ({"falco.yaml": "json_output: [\n"}, "", "does not accept the configuration that it has"),
        (
            {"falco.yaml": falco_package.CONFIG + "config_files:\n  - /etc/falco/more.yaml\n"},
            "",
            "config_files does not name /etc/falco/config.d",
        ),
        (
            {"config.d/siem.yaml": "http_output: {enabled: true, url: https://siem.example.com/s-ecret}\n"},
            "",
            "already posts its alerts elsewhere",
        ),
        (
            {"config.d/later.yaml": "json_include_tags_property: false\n"},
            "",
            "reads after container-guard.yaml says otherwise",
        ),
    ],
)
def test_where_it_cannot_be_it_says_why(falco: Scene, files: dict[str, str], version: str, reason: str) -> None:
    falco_package.install(falco.host, files, version)
    done = falco.play({"falco_output_url": falco.address, "falco_output_token": TOKEN})
    assert done.status == 2, done.output
    assert reason in done.output
    assert "s-ecret" not in done.output
    assert TOKEN not in done.output


def test_the_guard_on_the_host_itself(falco: Scene) -> None:
    done = falco.play({"falco_output_guard": "local", "falco_output_token": TOKEN})
    assert done.status == 0, done.output
    assert falco.configuration()["http_output"]["url"] == f"http://127.0.0.1:5001/alerts/falco/{TOKEN}"


def test_a_token_in_the_path(falco: Scene) -> None:
    """On a host whose falco.yaml was kept through upgrades."""
    kept = falco_package.CONFIG.replace("json_output", "# kept by its owner\njson_output")
    falco_package.install(falco.host, {"falco.yaml": kept})
    wanted = {
        "falco_output_url": falco.address,
        "falco_output_token": TOKEN,
        "falco_output_ca": falco.text("ca.crt"),
    }
    checked = falco.play(wanted, "--check", "--diff")
    assert (checked.status, checked.changed > 0) == (0, True), checked.output
    assert falco.read("/etc/falco/falco.yaml") == kept

    done = falco.play(wanted, "--diff", "-vvv")
    assert done.status == 0, done.output
    assert TOKEN not in done.output.replace(str(wanted), "")
    assert "+Environment=FALCO_HOSTNAME=web-1" in done.output
    assert falco.read("/etc/falco/falco.yaml").startswith(kept)
    assert "+config_files:" in done.output
    _status, before = falco.host.exec("sh", "-c", "cat /etc/falco/falco.yaml.*~")
    assert before == kept
    assert falco.mode(OURS) == "640 root:root"
    # What Falco had of its own is still there.
    assert {"suggested_output": True} in falco.configuration()["append_output"]

    again = falco.play(wanted, "--diff")
    assert (again.status, again.changed) == (0, 0), again.output
    container = falco.world.make_container("token", {falco.world.make_network("n"): PLAIN})
    falco.happens(container)
    falco.assert_isolated(container)


def test_a_client_certificate_alone(falco: Scene) -> None:
    wanted = {
        "falco_output_url": falco.address,
        "falco_output_ca": falco.text("ca.crt"),
        "falco_output_certificate": falco.text("web-1.example.com.crt"),
        "falco_output_key": falco.text("web-1.example.com.key"),
    }
    siem = {"config.d/a-siem.yaml": "http_output: {enabled: true, url: https://siem.example.com/}\n"}
    falco_package.install(falco.host, {"falco.yaml": falco_package.CURRENT, **siem})
    done = falco.play({**wanted, "falco_output_replace": True}, "--diff", "-vvv")
    assert done.status == 0, done.output
    assert f'+  url: "{falco.address}/falco"' in done.output
    secret = wanted["falco_output_key"].splitlines()[1]
    assert secret not in done.output
    assert falco.mode("/etc/falco/container-guard/client.key") == "640 root:root"
    assert falco.mode("/etc/falco/container-guard") == "750 root:root"
    container = falco.world.make_container("mtls", {falco.world.make_network("m"): PLAIN})
    falco.happens(container)
    falco.assert_isolated(container)


def test_a_file_that_the_guard_follows(falco: Scene) -> None:
    falco_package.install(falco.host, {"falco.yaml": falco_package.CURRENT})
    wanted = {"falco_output_by": "file", "falco_output_group": "adm"}
    done = falco.play(wanted)
    assert done.status == 0, done.output
    assert falco.mode("/var/log/falco/alerts.json") == "640 root:adm"
    falco.happens("0123456789abcdef")
    alert = json.loads(falco.read("/var/log/falco/alerts.json"))
    assert (alert["hostname"], alert["output_fields"]["container.id"]) == (NAME, "0123456789ab")
    assert alert["tags"] == ["shell"]
    assert not falco.configuration().get("http_output", {}).get("enabled")


def test_falcosidekick(falco: Scene) -> None:
    """Its environment says where to post; Falco beside it keeps its output."""
    kept = falco_package.CONFIG.replace('enabled: false\n  url: ""', "enabled: true\n  url: http://localhost:2801/")
    falco_package.install(falco.host, {"falco.yaml": kept})
    falco.host.exec("touch", SIDEKICK)
    wanted = {
        "falco_output_by": "falcosidekick",
        "falco_output_url": falco.address,
        "falco_output_token": TOKEN,
        "falco_output_ca": falco.text("ca.crt"),
    }
    done = falco.play(wanted, "--diff", "-vvv")
    assert done.status == 0, done.output
    assert TOKEN not in done.output
    assert falco.configuration()["http_output"]["url"] == "http://localhost:2801/"
    assert (falco.configuration()["json_output"], "FALCO_HOSTNAME=web-1" in falco.read(UNIT)) == (True, True)

    (file,) = re.findall(r"^EnvironmentFile=(.*)$", falco.read(f"{SIDEKICK}.d/container-guard.conf"), re.MULTILINE)
    assert falco.mode(file) == "600 root:root"
    found = dict(line.split("=", 1) for line in falco.read(file).splitlines() if not line.startswith("#"))
    environment = {name: json.loads(value) for name, value in found.items()}
    # It splits that at commas and at the colon.
    header, value = environment["WEBHOOK_CUSTOMHEADERS"].split(":")
    trusted = ssl.create_default_context(cadata=falco.read(environment["TLSCLIENT_CACERTFILE"]))
    where = urllib.parse.urlsplit(environment["WEBHOOK_ADDRESS"])
    connection = http.client.HTTPSConnection(str(where.hostname), where.port, context=trusted, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", where.path, b"[]", {header: value})
        assert connection.getresponse().status == 400  # it was let in, and said nothing

    gone = falco.play({"falco_output_state": "absent"}, "--diff")
    assert gone.status == 0, gone.output
    assert falco.read("/etc/falco/falco.yaml").rstrip("\n") == kept.rstrip("\n")
    status, left = falco.host.exec(
        "find", "/etc/falco", "/etc/falcosidekick", "/etc/systemd", "-name", "container-guard*"
    )
    assert (status, left) == (0, "")
