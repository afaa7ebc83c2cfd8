# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that is a container with systemd, sshd and a Docker Engine of its own: a control node, at full speed.

Control groups may be of version 1, with which systemd runs up to that of bookworm.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
import tarfile
import time
import typing as t

import docker

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.host import (
    LABEL,
    PREFIX,
    RUN,
    answers_ping,
    import_victim,
    privileged,
)
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import EXCLUDED, MIRROR, REPOSITORY

SUITE = "bookworm"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "iptables", "iproute2", "procps", "sudo", "openssh-server"),
    *("docker.io", "python3", "python3-docker"),
    # What the roles rulebook and host_service would install, since nothing is reached from in there.
    *("default-jre-headless", "python3-aiohttp", "python3-apt", "python3-venv"),
)
IMAGE = (
    f"{REPOSITORY}-systemd:"
    + (hashlib.sha256(json.dumps([SUITE, MIRROR, PACKAGES, EXCLUDED]).encode()).hexdigest()[:12])
)
PATIENCE = 300
_START = r"""
set -eu
directory=$1
# They are mounted read-only without --privileged.
grep -E ' cgroup2? ' /proc/self/mounts | while read -r _ where _; do mount -o remount,bind,rw "$where"; done
cd /etc/systemd/system
# What would act on the machine around it, or work at a moment of its own choice.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  systemd-sysctl.service systemd-modules-load.service systemd-firstboot.service systemd-logind.service; do
  ln -sf /dev/null "$unit"
done
# Some machines may not raise a limit, and a unit that asks for that does not start there.
mkdir -p service.d docker.service.d
printf '[Service]\nLimitNOFILE=%s\n' "$(ulimit -Hn | sed s/unlimited/infinity/)" >service.d/testbed.conf
printf '[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H unix:///run/docker.sock -H unix://%s/docker.sock\n' \
  "$directory" >docker.service.d/testbed.conf
useradd --create-home --no-user-group --gid users --shell /bin/bash operator
echo 'operator ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/operator
chmod 440 /etc/sudoers.d/operator
ssh-keygen -q -t ed25519 -N '' -C testbed -f "$directory/id_ed25519"
for home in /root /home/operator; do
  mkdir -p -m 700 $home/.ssh
  install -m 600 "$directory/id_ed25519.pub" $home/.ssh/authorized_keys
done
chown -R operator:users /home/operator
ssh-keygen -A
cp /etc/ssh/ssh_host_ed25519_key.pub "$directory/host.pub"
chown -R "$2" "$directory"
exec env container=docker /lib/systemd/systemd
"""
_POLL = 0.1


class SystemdHost:
    """One host with systemd.

    Attributes:
        name: of the host, and of the container that it is.
        docker_host: URL of its engine.
        ssh_key: private key with which root and operator log in.
    """

    def __init__(self, published: int, suffix: str = "") -> None:
        """Describe it; start() makes it be.

        Args:
            published: TCP port of it that is reached from the machine.
            suffix: for a host of one's own. Without it, the one that outlives this process.
        """
        self.name = f"{PREFIX}systemd{suffix}"
        self._directory = RUN / self.name
        self._published = published
        self.docker_host = f"unix://{self._directory}/docker.sock"
        self.ssh_key = self._directory / "id_ed25519"
        self._api = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=PATIENCE)

    def __repr__(self) -> str:
        return self.name

    def start(self) -> None:
        """Start it, and return when it is up. Raises TestbedError."""
        RUN.mkdir(mode=0o755, exist_ok=True)
        self._directory.mkdir(mode=0o700)
        host_config = privileged(
            self._api,
            self._directory,
            tmpfs={"/run": "exec", "/run/lock": ""},
            port_bindings={22: ("127.0.0.1", None), self._published: ("127.0.0.1", None)},
        )
        owner = f"{os.geteuid()}:{os.getegid()}"
        self._api.create_container(
            IMAGE,
            ["sh", "-c", _START, "start", str(self._directory), owner],
            name=self.name,
            hostname="node",
            labels={LABEL: "systemd"},
            environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            volumes=["/var/lib/containerd", "/var/lib/docker"],
            ports=[22, self._published],
            stop_signal="SIGRTMIN+3",
            host_config=host_config,
        )
        self._api.start(self.name)
        self._wait("systemd is up", lambda: self.exec("systemctl", "is-active", "multi-user.target")[0] == 0)
        self._wait("its engine answers", lambda: answers_ping(self.docker_host, PATIENCE))
        import_victim(self.name, self.docker_host, PATIENCE)

    def stop(self) -> None:
        """Stop it and remove all that is left of it."""
        with contextlib.suppress(docker.errors.NotFound):
            self._api.remove_container(self.name, force=True, v=True)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._api.close()

    def exec(self, *command: str) -> tuple[int, str]:
        """Run a command on it as root; its exit code, and what it wrote to stdout and stderr."""
        exec_id = self._api.exec_create(self.name, list(command))["Id"]
        output = self._api.exec_start(exec_id).decode(errors="replace")
        return int(self._api.exec_inspect(exec_id)["ExitCode"]), output

    def put(self, source: pathlib.Path, directory: str) -> None:
        """Copy what is in a directory to one there, which is made."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(source, directory.lstrip("/"))
        self._api.put_archive(self.name, "/", packed.getvalue())

    @property
    def is_there(self) -> bool:
        """Whether it was started, and not stopped since."""
        with contextlib.suppress(docker.errors.NotFound):
            return bool(self._api.inspect_container(self.name)["State"]["Running"])
        return False

    @property
    def port(self) -> int:
        """Where the published port is, on 127.0.0.1 of the machine."""
        return int(self._api.port(self.name, self._published)[0]["HostPort"])

    @property
    def host_key(self) -> str:
        """Public key of its sshd."""
        return (self._directory / "host.pub").read_text()

    @property
    def operator_inventory(self) -> dict[str, t.Any]:
        """Variables with which Ansible runs modules on it, by an ordinary user who has to become root by sudo."""
        known_hosts = self._directory / "known_hosts"
        known_hosts.write_text(f"{self.name} {self.host_key}")
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": int(self._api.port(self.name, 22)[0]["HostPort"]),
            "ansible_user": "operator",
            "ansible_ssh_private_key_file": str(self.ssh_key),
            "ansible_ssh_common_args": f"-o HostKeyAlias={self.name} -o UserKnownHostsFile={known_hosts}",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_pipelining": True,
        }

    # ------------------------------------------------------------------------------------------------------------------

    def _wait(self, what: str, condition: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            ended = not self._api.inspect_container(self.name)["State"]["Running"]
            if ended or time.monotonic() > deadline:
                said = self._api.logs(self.name, tail=15).decode(errors="replace")
                failed = "" if ended else self.exec("systemctl", "list-units", "--failed", "--no-legend")[1]
                raise TestbedError(f"{self.name}: {what}: {'it ended' if ended else 'not in time'}:\n{said}\n{failed}")
            time.sleep(_POLL)
