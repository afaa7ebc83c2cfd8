# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first process of a test host: it runs containerd, dockerd and sshd, and does the faults that tests ask for.

A test host shares the process namespace of the machine, so that a pid which its engine names is the same outside. It
must not hit a process of the machine therefore: it signals its own children, which keep their pid until it has waited
for them, and at the end what descends from it. Run with the name of the host, the directory that it shares with the
machine, and the user and the group that may use it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t

OPERATOR = "operator"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CGROUPS = pathlib.Path("/sys/fs/cgroup")
REAP_EVERY = 0.5
PATIENCE = 60.0
_PR_SET_CHILD_SUBREAPER = 36


class Engine:
    """The dockerd of this host."""

    def __init__(self, directory: pathlib.Path, group: str) -> None:
        self._directory = directory
        self._group = group
        self._process: subprocess.Popen[bytes] | None = None
        self._live_restore = False
        self._frozen = False

    def state(self) -> dict[str, t.Any]:
        process = self._process
        return {
            "running": process is not None and process.poll() is None,
            "pid": process.pid if process else 0,
            "frozen": self._frozen,
            "live_restore": self._live_restore,
        }

    def start(self, live_restore: bool) -> None:
        if self.state()["running"]:
            raise RuntimeError("dockerd runs already")
        command = ["dockerd", "--containerd", CONTAINERD_SOCKET, "--group", self._group]
        command += ["--host", "unix:///run/docker.sock", "--host", f"unix://{self._directory}/docker.sock"]
        if live_restore:
            command.append("--live-restore")
        with (self._directory / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._live_restore, self._frozen = live_restore, False

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        if not self._frozen:
            self._signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._child().pid, os.WSTOPPED)
            self._frozen = True

    def thaw(self) -> None:
        if self._frozen:
            self._signal(signal.SIGCONT)
            os.waitid(os.P_PID, self._child().pid, os.WCONTINUED)
            self._frozen = False

    def owns(self, pid: int) -> bool:
        """Whether a pid is that of a dockerd that was not waited for."""
        return self._process is not None and self._process.pid == pid and self._process.returncode is None

    def _child(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("dockerd does not run")
        return self._process

    def _signal(self, signum: int) -> None:
        # Popen sends nothing once it has waited for the child, when the pid could mean another process.
        self._child().send_signal(signum)

    def _end(self, signum: int) -> None:
        child = self._child()
        self._signal(signum)
        if self._frozen and signum != signal.SIGKILL:
            self.thaw()
        child.wait(PATIENCE)
        self._frozen = False


def serve(listener: socket.socket, engine: Engine) -> t.NoReturn:
    """Answer one request a connection, a line of JSON each way, for ever."""
    actions: dict[str, t.Callable[..., dict[str, t.Any] | None]] = {
        "state": engine.state,
        "start": engine.start,
        "kill": engine.kill,
        "terminate": engine.terminate,
        "freeze": engine.freeze,
        "thaw": engine.thaw,
    }
    listener.settimeout(REAP_EVERY)
    while True:
        # A client that went away, or that says nothing, is its own problem.
        with contextlib.suppress(OSError):
            connection, _address = listener.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as stream:
                connection.settimeout(PATIENCE)
                try:
                    request = json.loads(stream.readline())
                    answer = actions[request.pop("action")](**request) or engine.state()
                except Exception as error:  # whatever it is, the one who asked is told, and the host lives on
                    answer = {"error": f"{type(error).__name__}: {error}"}
                stream.write(json.dumps(answer) + "\n")
        reap(engine)


def reap(engine: Engine) -> None:
    """Wait for orphans that ended: without a process namespace of its own, nobody else does it for this host."""
    with contextlib.suppress(ChildProcessError):
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if engine.owns(found.si_pid):
                engine.state()
            else:
                os.waitpid(found.si_pid, os.WNOHANG)


def prepare_cgroups() -> None:
    """Make the control groups of this host writable, which are mounted read-only without --privileged."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _device, where, kind, *_rest = line.split()
        if kind in ("cgroup", "cgroup2"):
            subprocess.run(["mount", "-o", "remount,bind,rw", where], check=True)
    if not (CGROUPS / "cgroup.controllers").exists():
        return
    # In version 2 a group that hands controllers on to others must hold no process itself.
    (CGROUPS / "init").mkdir(exist_ok=True)
    for pid in (CGROUPS / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (CGROUPS / "init/cgroup.procs").write_text(pid)
    controllers = (CGROUPS / "cgroup.controllers").read_text().split()
    (CGROUPS / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))


def make_operator() -> None:
    """Make the ordinary user who may become root by sudo, without a password, and is not in the group of the engine."""
    if subprocess.run(["id", OPERATOR], check=False, capture_output=True).returncode:
        # Without a password, but not locked, as sshd does not let in who is.
        options = ["--create-home", "--no-user-group", "--password", "*", "--shell", "/bin/sh"]
        subprocess.run(["useradd", *options, OPERATOR], check=True)
    rule = pathlib.Path("/etc/sudoers.d", OPERATOR)
    rule.write_text(f"{OPERATOR} ALL=(ALL) NOPASSWD: ALL\n")
    rule.chmod(0o440)


def start_sshd(name: str, directory: pathlib.Path, user: int, group: int) -> None:
    """Start sshd for root and the operator, with a key made now and handed to the machine in the shared directory."""
    key = directory / "id_ed25519"
    host_key = pathlib.Path("/etc/ssh/ssh_host_ed25519_key")
    for path in (key, host_key):
        path.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    os.chown(key, user, group)
    (directory / "known_hosts").write_text(f"{name} {host_key.with_suffix('.pub').read_text()}")
    pathlib.Path("/run/sshd").mkdir(exist_ok=True)
    for owner in ("root", OPERATOR):
        authorized = pathlib.Path(pwd.getpwnam(owner).pw_dir, ".ssh/authorized_keys")
        authorized.parent.mkdir(mode=0o700, exist_ok=True)
        authorized.write_text(key.with_suffix(".pub").read_text())
        for path in (authorized.parent, authorized):
            shutil.chown(path, owner)
    options = {"HostKey": host_key, "PasswordAuthentication": "no", "PermitRootLogin": "yes", "UsePAM": "no"}
    arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    with (directory / "sshd.log").open("ab") as log:
        subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def start_containerd(directory: pathlib.Path) -> None:
    """Start containerd beside dockerd, as on a Debian host, where it goes on when dockerd is killed."""
    with (directory / "containerd.log").open("ab") as log:
        containerd = subprocess.Popen(["containerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + PATIENCE
    while not pathlib.Path(CONTAINERD_SOCKET).exists():
        if containerd.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"containerd does not start: see {directory}/containerd.log")
        time.sleep(0.02)


def descendants() -> list[int]:
    """All processes below this one. Orphans are among them, as this process adopts them."""
    children: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            # The name, in parentheses, may hold anything; after it come the state and the parent.
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
    found, pending = [], [os.getpid()]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def end_all() -> None:
    """Kill everything below this process, also what is paused, and wait for it."""
    deadline = time.monotonic() + PATIENCE
    while (pids := descendants()) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(OSError):
                handle = os.pidfd_open(pid)
                try:
                    # Looked at again with the handle open: from here on, the pid cannot come to mean another process.
                    if pid in descendants():
                        thaw(pid)
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)
    remove_cgroups()


def thaw(pid: int) -> None:
    """Thaw the control group of a process: in version 1, what is frozen cannot be killed."""
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _number, controllers, group = line.split(":", 2)
        state = CGROUPS / "freezer" / group.lstrip("/") / "freezer.state"
        # The group of the whole host has no state to write when it is the root of its own namespace.
        if controllers == "freezer" and group != "/" and state.exists():
            state.write_text("THAWED")


def remove_cgroups() -> None:
    """Remove the control groups of containers, which no engine does any more."""
    for group in CGROUPS.glob("**/docker/"):
        for directory, _directories, _files in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                pathlib.Path(directory).rmdir()


def main(name: str, directory: pathlib.Path, user: int, group: int) -> None:
    """Run the host until a signal ends it."""
    if not pathlib.Path("/.dockerenv").exists():
        sys.exit("this is for the inside of a test host only")
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_arguments: sys.exit(0))
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        prepare_cgroups()
        make_operator()
        start_sshd(name, directory, user, group)
        start_containerd(directory)
        engine = Engine(directory, str(group))
        engine.start(live_restore=False)
        with socket.socket(socket.AF_UNIX) as listener:
            path = directory / "control.sock"
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o666)  # who may use it is decided by the mode of the directory
            listener.listen()
            serve(listener, engine)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_all()


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
