# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual machine with systemd, control groups of version 2 and a Docker Engine, which may be rebooted.

It is emulated, as not every machine can do better: about eight times slower than the machine, up within half a minute.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import time
import typing as t

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.host import RUN, answers_ping, import_victim
from ansible_collections.ironpost.container_guard.tests.testbed.vm_image import MachineImage

PATIENCE = 600
READY = "testbed: ready"
"""What a unit of its own writes to the console at every boot, once sshd and dockerd have been started."""
_POLL = 0.1
_HARDWARE = (
    *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"),
    *("-display", "none", "-nodefaults", "-device", "virtio-rng-pci", "-device", "virtio-net-pci,netdev=n"),
    # It reaches nothing outside, and the outside reaches its sshd alone, on a port that the kernel chooses.
    *("-netdev", "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
)


class VirtualMachine:
    """One virtual machine of this process. Whatever is done to its disk is gone when it is stopped.

    Attributes:
        name: by which ssh knows it.
        docker_host: URL of its engine, through ssh.
        ssh_key: private key with which root and operator log in.
    """

    def __init__(self, image: MachineImage) -> None:
        """Describe it; start() makes it run."""
        self._image = image
        self.name = f"vm-{os.getpid()}"
        self._directory = RUN / self.name
        self.docker_host = f"unix://{self._directory}/docker.sock"
        self.ssh_key = image.user_key
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: _Monitor | None = None
        self._boots = 0

    def __repr__(self) -> str:
        return self.name

    # --- the machine --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, unless it runs, and return when its engine answers. Raises TestbedError."""
        if self._process is not None:
            return
        _remove_abandoned()
        program = shutil.which("qemu-system-x86_64")
        if program is None:
            raise TestbedError("qemu is missing; run: tools/setup.sh testbed (or: apt-get install qemu-system-x86)")
        RUN.mkdir(mode=0o755, exist_ok=True)
        self._directory.mkdir(mode=0o700)
        options = {
            "-kernel": str(self._image.kernel),
            "-initrd": str(self._image.initrd),
            # Nobody attacks its kernel, and guarding that costs a tenth of its time.
            "-append": "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 mitigations=off",
            # What is written goes to a file without a name, which ends with the process.
            "-drive": f"file={self._image.disk},format=raw,if=virtio,snapshot=on,cache=unsafe",
            "-serial": f"file:{self._directory}/console",
            "-qmp": f"unix:{self._directory}/monitor.sock,server=on,wait=off",
        }
        command = [program, *_HARDWARE, *(part for option in options.items() for part in option)]
        with (self._directory / "qemu.log").open("wb") as log:
            # It ends with this process, however that ends.
            command = ["setpriv", "--pdeathsig", "KILL", *command]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self._wait("its monitor answers", (self._directory / "monitor.sock").exists)
            self._monitor = _Monitor(self._directory / "monitor.sock")
            self._write_ssh_config(self._monitor.ssh_port)
            self._boots = 0
            self._wait_for_boot()
            import_victim(self.name, self.docker_host, PATIENCE)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it as a power cut does, and remove all that is left of it."""
        if self._process is not None:
            self._disconnect()
            self._process.kill()
            self._process.wait()
        if self._monitor is not None:
            self._monitor.close()
        self._process = self._monitor = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def reboot(self) -> None:
        """Reboot it as an administrator does, and return when its engine answers."""
        self.exec("systemctl", "reboot")
        self._disconnect()
        self._wait_for_boot()

    def reset(self) -> None:
        """Press its reset button: what it had not written to its disk is lost. Return when its engine answers."""
        self._disconnect()
        assert self._monitor is not None
        self._monitor.ask("system_reset")
        self._wait_for_boot()

    def exec(self, *command: str, user: str = "root") -> tuple[int, str]:
        """Run a command on it; its exit code, and what it wrote to stdout and stderr."""
        return self._ssh("-l", user, self.name, shlex.join(command))

    @property
    def ssh_command(self) -> str:
        """What a person types to log in."""
        return f"ssh -F {self._ssh_config} -l root {self.name}"

    @property
    def inventory(self) -> dict[str, t.Any]:
        """Variables with which Ansible runs modules on it, with the Python and the SDK that it has."""
        return {
            "ansible_host": self.name,
            "ansible_user": "root",
            # With the control sockets that are closed before a reboot, where Ansible would keep its own.
            "ansible_ssh_args": f"-F {self._ssh_config}",
            "ansible_python_interpreter": "/usr/bin/python3",
            # Copying a module there first takes as long as running it.
            "ansible_pipelining": True,
            "ansible_ssh_timeout": PATIENCE,
        }

    @property
    def operator_inventory(self) -> dict[str, t.Any]:
        """The same for an ordinary user, who has to become root by sudo."""
        return {**self.inventory, "ansible_user": "operator"}

    # ------------------------------------------------------------------------------------------------------------------

    @property
    def _ssh_config(self) -> pathlib.Path:
        return self._directory / "ssh_config"

    def _write_ssh_config(self, port: int) -> None:
        (self._directory / "known_hosts").write_text(f"{self.name} {self._image.host_key}")
        self._ssh_config.write_text(
            f"HostName 127.0.0.1\nPort {port}\nIdentityFile {self.ssh_key}\nIdentitiesOnly yes\n"
            f"HostKeyAlias {self.name}\nUserKnownHostsFile {self._directory}/known_hosts\nStrictHostKeyChecking yes\n"
            f"ControlMaster auto\nControlPersist 600\nControlPath {self._directory}/ssh-%r\nLogLevel ERROR\n"
        )

    def _connect(self) -> None:
        (self._directory / "docker.sock").unlink(missing_ok=True)
        forward = f"{self._directory}/docker.sock:/var/run/docker.sock"
        for words in (["-l", "root", self.name, "true"], ["-O", "forward", "-L", forward, "-l", "root", self.name]):
            status, output = self._ssh(*words)
            if status:
                raise TestbedError(f"{self.name}: ssh {shlex.join(words)}: {output}")

    def _disconnect(self) -> None:
        # Left alone, a connection to a machine that was reset hangs.
        for user in ("root", "operator"):
            self._ssh("-O", "exit", "-l", user, self.name)

    def _ssh(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            ["ssh", "-F", str(self._ssh_config), *words],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout.decode(errors="replace")

    def _wait_for_boot(self) -> None:
        self._boots += 1
        console = self._directory / "console"
        self._wait("it boots", lambda: console.exists() and console.read_bytes().count(READY.encode()) >= self._boots)
        self._connect()
        self._wait("its engine answers", lambda: answers_ping(self.docker_host, PATIENCE))

    def _wait(self, what: str, condition: t.Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self._process is None or self._process.poll() is not None:
                raise TestbedError(f"{self.name}: qemu ended:\n{self._said('qemu.log')}")
            if time.monotonic() > deadline:
                raise TestbedError(f"{self.name}: {what}: not within {PATIENCE} s. Its console:\n{self._said()}")
            time.sleep(_POLL)

    def _said(self, log: str = "console") -> str:
        try:
            lines = (self._directory / log).read_text(errors="replace").splitlines()
        except OSError as error:
            return str(error)
        return "\n".join(f"  {line}" for line in lines[-15:])


class _Monitor:
    """The monitor of qemu, which takes one client. Not thread-safe."""

    def __init__(self, path: pathlib.Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rw", encoding="utf-8")
        self._stream.readline()  # it says which version it is
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: str) -> t.Any:
        """Execute a command and return what it answers. Raises TestbedError."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        for line in self._stream:
            said = json.loads(line)
            # Events come in between.
            if "return" in said:
                return said["return"]
            if "error" in said:
                raise TestbedError(f"qemu: {command}: {said['error']}")
        raise TestbedError(f"qemu ended when it was asked: {command}")

    @property
    def ssh_port(self) -> int:
        """On 127.0.0.1 of this machine."""
        table = self.ask("human-monitor-command", **{"command-line": "info usernet"})
        found = re.search(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", table)
        if found is None:
            raise TestbedError(f"qemu forwards no port: {table}")
        return int(found[1])

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


def _remove_abandoned() -> None:
    """Remove what a process left that was killed; its machine ended with it."""
    for directory in RUN.glob("vm-*"):
        if not pathlib.Path("/proc", directory.name.removeprefix("vm-")).exists():
            shutil.rmtree(directory, ignore_errors=True)
