# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A test host: a container with a Docker Engine of its own, which tests may hurt."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import typing as t

import docker

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import COMMAND, Recipe

LABEL = "container-guard.testbed"
KEY_LABEL = "container-guard.testbed-key"
# Each user of this machine has hosts of his own, as only he can use their sockets and keys. So has each checkout that
# asks for them, as two that differ in what a host is would take turns in making it anew.
PREFIX = "container-guard-testbed-{}{}".format(
    f"u{os.geteuid()}-" if os.geteuid() else "",
    f"{os.environ['GUARD_TESTBED']}-" if "GUARD_TESTBED" in os.environ else "",
)
INIT = pathlib.Path(__file__).with_name("init.py")
OPERATOR = "operator"
_VICTIM = pathlib.Path(__file__).absolute().parents[2] / "tools/victim_image.py"
RUN = pathlib.Path(tempfile.gettempdir() if os.geteuid() else "/run", PREFIX.rstrip("-"))
"""Where the hosts share their sockets and keys with this machine. Short, as the path of a socket must be."""
PATIENCE = 90
# Answered, so that nobody has to wait until he gives up. What is connected already is cut off, too.
_NO_SSH = ("INPUT", "--protocol", "tcp", "--dport", "22", "--jump", "REJECT", "--reject-with", "tcp-reset")
_POLL = 0.05


def privileged(api: docker.APIClient, directory: pathlib.Path, **more: t.Any) -> dict[str, t.Any]:
    """The configuration of a container that is a host: what --privileged gives, but for what some machines lack.

    Args:
        api: of the engine that runs it.
        directory: that it shares with this machine.
        more: further arguments of create_host_config.
    """
    found: dict[str, t.Any] = api.create_host_config(
        cap_add=["ALL"],
        cap_drop=["SYS_RESOURCE"],
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        device_cgroup_rules=["a *:* rwm"],
        cgroupns="private",
        binds=[f"{directory}:{directory}"],
        **more,
    )
    # What the command line calls systempaths=unconfined.
    return {**found, "MaskedPaths": [], "ReadonlyPaths": []}


def answers_ping(docker_host: str, timeout: float) -> bool:
    """Whether an engine answers. By hand: the SDK leaves its socket open where it cannot connect.

    Args:
        docker_host: URL of its Unix socket.
        timeout: seconds that it may be silent.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        client.connect(docker_host.removeprefix("unix://"))
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.0 200 ")
    return False


class Host:
    """One test host.

    Its processes are seen in /proc of this machine by the pid that its engine names. All faults are done by the init
    process of the host to its own child, so none of them can hit another dockerd.

    Attributes:
        name: of the host, and of the container that it is.
        docker_host: URL of its engine.
        ssh_key: private key with which root and the operator log in.
    """

    def __init__(self, recipe: Recipe, suffix: str = "") -> None:
        """Describe a host; start() makes it be.

        Args:
            recipe: its engine.
            suffix: for a host of one's own. Without it, the one that all tests share.
        """
        self.recipe = recipe
        self.name = f"{PREFIX}{recipe.engine}{suffix}"
        self.docker_host = f"unix://{self._directory}/docker.sock"
        self.ssh_key = self._directory / "id_ed25519"
        self._api = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=120)

    def __repr__(self) -> str:
        return self.name

    def close(self) -> None:
        """Close the connection to the engine of this machine."""
        self._api.close()

    # --- the host -----------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """Start it with a healthy engine, unless it runs; whether that was needed. Raises TestbedError."""
        fresh = not self._is_current()
        if fresh:
            self.stop()
            self._create()
        elif not self._request("state")["running"]:
            self.start_engine()
        import_victim(self.name, self.docker_host, PATIENCE)
        return fresh

    def stop(self) -> None:
        """Stop it and remove all that is left of it: containers, volumes, networks, sockets."""
        with contextlib.suppress(docker.errors.NotFound):
            self._api.stop(self.name, timeout=PATIENCE)
            self._api.remove_container(self.name, force=True, v=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def exec(self, *command: str) -> tuple[int, str]:
        """Run a command on the host; its exit code, and what it wrote to stdout and stderr."""
        exec_id = self._api.exec_create(self.name, list(command))["Id"]
        output = self._api.exec_start(exec_id).decode(errors="replace")
        return int(self._api.exec_inspect(exec_id)["ExitCode"]), output

    @property
    def version(self) -> str:
        """Version of its engine."""
        with contextlib.closing(self._engine()) as engine:
            return str(engine.version()["Version"])

    @property
    def address(self) -> str:
        """Its IPv4 address on the bridge of the machine."""
        return str(self._api.inspect_container(self.name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"])

    @property
    def ssh_port(self) -> int:
        """Where sshd listens, on 127.0.0.1."""
        return int(self._api.port(self.name, 22)[0]["HostPort"])

    @property
    def ssh_command(self) -> str:
        """What a person types to log in."""
        return f"ssh -F {self._ssh_config} {self.name}"

    @property
    def inventory(self) -> dict[str, t.Any]:
        """Variables with which Ansible runs modules on the host, with the Python and the SDK that it has."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.ssh_port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.ssh_key),
            "ansible_ssh_common_args": f"-F {self._ssh_config}",
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    @property
    def operator_inventory(self) -> dict[str, t.Any]:
        """The same for an ordinary user, who has to become root by sudo."""
        return {**self.inventory, "ansible_user": OPERATOR}

    @property
    def host_key(self) -> str:
        """Public key of its sshd: kind and key."""
        return (self._directory / "known_hosts").read_text().partition(" ")[2].strip()

    # --- its network --------------------------------------------------------------------------------------------------

    def cut_off(self) -> None:
        """Let nobody reach its sshd any more, as if the host were down. Its engine and its containers go on."""
        self.reconnect()
        self._change_firewall("--insert")

    def reconnect(self) -> None:
        """Let its sshd be reached again, if it was not."""
        while self.exec("iptables", "--check", *_NO_SSH)[0] == 0:
            self._change_firewall("--delete")

    def _change_firewall(self, command: str) -> None:
        status, output = self.exec("iptables", command, *_NO_SSH)
        if status:
            raise TestbedError(f"{self.name}: iptables {command}: {output}")

    # --- its engine ---------------------------------------------------------------------------------------------------

    @property
    def engine_pid(self) -> int:
        """Pid of its dockerd."""
        return int(self._request("state")["pid"])

    def kill_engine(self) -> None:
        """End dockerd with SIGKILL. Containers run on until it starts again, and with live-restore beyond that."""
        self._request("kill")

    def stop_engine(self) -> None:
        """End dockerd as an administrator does: it stops its containers first, unless it has live-restore."""
        self._request("terminate")

    def start_engine(self, live_restore: bool = False) -> None:
        """Start dockerd, and return when it answers."""
        self._request("start", live_restore=live_restore)
        self._wait_for_engine()

    def restart_engine(self, live_restore: bool = False) -> None:
        """Stop dockerd as an administrator does, and start it."""
        self.stop_engine()
        self.start_engine(live_restore)

    def freeze_engine(self) -> None:
        """Stop dockerd with SIGSTOP: it takes connections and answers none."""
        self._request("freeze")

    def thaw_engine(self) -> None:
        """Let a frozen dockerd go on, and return when it answers."""
        self._request("thaw")
        self._wait_for_engine()

    def heal(self) -> None:
        """Make the engine a healthy one without containers or live-restore, whatever was done to it."""
        state = self._request("state")
        if state["frozen"]:
            self.thaw_engine()
        if not state["running"]:
            self.start_engine()
        with contextlib.closing(self._engine()) as engine:
            for container in engine.containers(all=True):
                with contextlib.suppress(docker.errors.NotFound):
                    engine.remove_container(container["Id"], force=True, v=True)
            engine.prune_networks()
        if state["live_restore"]:
            self.restart_engine()

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _directory(self) -> pathlib.Path:
        return RUN / self.name

    @property
    def _ssh_config(self) -> pathlib.Path:
        return self._directory / "ssh_config"

    def _engine(self) -> docker.APIClient:
        return docker.APIClient(base_url=self.docker_host, version="auto", timeout=30)

    def _options(self) -> dict[str, t.Any]:
        """What the container is made of, apart from what docker makes of it."""
        host_config = privileged(
            self._api,
            self._directory,
            pid_mode="host",
            tmpfs={"/run": "exec", "/run/lock": ""},
            # Off in a container of a network without IPv6, and needed for networks in there.
            sysctls={"net.ipv6.conf.all.disable_ipv6": "0", "net.ipv6.conf.default.disable_ipv6": "0"},
            port_bindings={22: ("127.0.0.1", None)},
        )
        return {
            "image": self.recipe.image,
            "command": [*COMMAND, self.name, str(self._directory), str(os.geteuid()), str(os.getegid())],
            "hostname": self.name.replace(".", "-"),
            "environment": {
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C.UTF-8",
            },
            # An overlay cannot lie on another one.
            "volumes": ["/var/lib/containerd", "/var/lib/docker"],
            "ports": [22],
            "host_config": host_config,
        }

    def _key(self) -> str:
        return hashlib.sha256(json.dumps(self._options(), sort_keys=True).encode() + INIT.read_bytes()).hexdigest()

    def _is_current(self) -> bool:
        """Whether it runs, and is made as one would be made now."""
        try:
            found = self._api.inspect_container(self.name)
        except docker.errors.NotFound:
            return False
        return bool(found["State"]["Running"] and found["Config"]["Labels"].get(KEY_LABEL) == self._key())

    def _create(self) -> None:
        RUN.mkdir(mode=0o755, exist_ok=True)
        self._directory.mkdir(mode=0o700)
        labels = {LABEL: self.recipe.engine, KEY_LABEL: self._key()}
        self._api.create_container(name=self.name, labels=labels, **self._options())
        self._api.put_archive(self.name, "/usr/local/lib", init_archive())
        self._api.start(self.name)
        self._wait("its init process answers", (self._directory / "control.sock").exists)
        self._ssh_config.write_text(
            f"HostName 127.0.0.1\nPort {self.ssh_port}\nUser root\nIdentityFile {self.ssh_key}\nIdentitiesOnly yes\n"
            f"HostKeyAlias {self.name}\nUserKnownHostsFile {self._directory}/known_hosts\nStrictHostKeyChecking yes\n"
        )
        self._wait_for_engine()

    def _request(self, action: str, **arguments: t.Any) -> dict[str, t.Any]:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(str(self._directory / "control.sock"))
                with client.makefile("rw", encoding="utf-8") as stream:
                    stream.write(json.dumps({"action": action, **arguments}) + "\n")
                    stream.flush()
                    answer: dict[str, t.Any] = json.loads(stream.readline())
        except (OSError, ValueError) as error:
            raise TestbedError(f"{self.name} does not run, or does not answer ({error}); run: make testbed") from error
        if "error" in answer:
            raise TestbedError(f"{self.name}: cannot {action} its engine: {answer['error']}")
        return answer

    def _wait_for_engine(self) -> None:
        def answers() -> bool:
            if not self._request("state")["running"]:
                raise TestbedError(f"{self.name}: dockerd ended at once. Its last lines:\n{self._log()}")
            return answers_ping(self.docker_host, 5)

        self._wait("its engine answers", answers)

    def _wait(self, what: str, condition: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if not self._api.inspect_container(self.name)["State"]["Running"]:
                said = self._api.logs(self.name, tail=15).decode(errors="replace")
                raise TestbedError(f"{self.name} ended at once:\n{said}")
            if time.monotonic() > deadline:
                raise TestbedError(f"{self.name}: {what}: not within {PATIENCE} s. dockerd said:\n{self._log()}")
            time.sleep(_POLL)

    def _log(self) -> str:
        try:
            lines = (self._directory / "dockerd.log").read_text(errors="replace").splitlines()
        except OSError as error:
            return str(error)
        return "\n".join(f"  {line}" for line in lines[-10:])


def import_victim(name: str, docker_host: str, patience: float) -> None:
    """Give an engine the image of the victims.

    Args:
        name: of the host, for errors.
        docker_host: where its engine is reached.
        patience: seconds until it is given up.

    Raises:
        TestbedError: the image could not be made.
    """
    done = subprocess.run(
        [sys.executable, str(_VICTIM)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "DOCKER_HOST": docker_host},
        timeout=patience,
    )
    if done.returncode:
        raise TestbedError(f"{name}: {done.stderr.strip()}")


def init_archive() -> bytes:
    """The first process of a host, as an archive for C(/usr/local/lib)."""
    buffer, script = io.BytesIO(), INIT.read_bytes()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("testbed/init.py")
        member.size, member.mode = len(script), 0o644
        archive.addfile(member, io.BytesIO(script))
    return buffer.getvalue()
