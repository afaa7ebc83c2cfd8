# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The warm process: has loaded ansible-core, and forks itself for each run of ansible-playbook.

    server.py SOCKET REAL

is run by the Python of the real ansible-playbook, on a terminal, in an empty directory, and with the environment that
runs have (see start.py). For each run that launcher.py asks for there are two processes: the I(watcher), which says how
the run ended, and ends all of it when the launcher is gone; and the I(run), which takes the streams, the terminal, the
directory, the mask and the environment of the launcher.

What ansible-core derives from its surroundings as it is loaded holds for a run only where these are the same. So a run
whose environment, configuration file or streams are others becomes the real ansible-playbook, and after a change of any
file that was loaded the process ends, to be started anew. What is to be different in each run is made anew (_afresh);
what could not be is looked for at the start (_unsound), and nothing is served then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import gc
import multiprocessing
import multiprocessing.resource_tracker
import multiprocessing.synchronize
import os
import pathlib
import secrets
import select
import signal
import socket
import struct
import sys
import termios
import time
import typing as t

READY = b"warm-1\n"
"""As in launcher.py."""
UNSOUND = 3
"""Exit status where forks would not be like runs."""
OF_EACH_RUN = {
    b"ANSIBLE_CACHE_PLUGIN_CONNECTION": "CACHE_PLUGIN_CONNECTION",
    b"ANSIBLE_FORKS": "DEFAULT_FORKS",
}
"""Variables of ansible-runner and of the event source, and the settings that are made anew of them in each run."""
OF_NO_CONCERN = (b"AWX_ISOLATED_DATA_DIR", b"JAVA_HOME", b"PWD", b"OLDPWD", b"SHLVL", b"_")
"""Of ansible-runner, ansible-rulebook and the shell: nothing of them is read as ansible-core is loaded."""
_STREAMS = (0, 1, 2)


class Stamp(t.NamedTuple):
    """By which it is seen that a file is another one, or was written to. Times are nanoseconds since the epoch."""

    written_at: int
    changed_at: int
    size: int
    inode: int


@dataclasses.dataclass(frozen=True)
class Request:
    """A run that was asked for.

    Attributes:
        arguments: of the command line, without the name of the program.
        environment: the whole.
        mask: umask.
        ignores_hangup: whether SIGHUP is ignored.
        descriptors: of the standard streams, and of the working directory.
    """

    arguments: list[bytes]
    environment: dict[bytes, bytes]
    mask: int
    ignores_hangup: bool
    descriptors: list[int]


class Surroundings:
    """What ansible-core was loaded in, and from."""

    def __init__(self) -> None:
        self._began = time.time_ns()
        self._environment = _compared(dict(os.environb))
        self._stamps: dict[str, Stamp | None] = {}
        self._config_file: str | None = None

    def loaded(self) -> None:
        """Note which files were loaded."""
        from ansible import constants

        self._config_file = constants.CONFIG_FILE
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        stamps = {path: _stamp(path) for path in (*files, self._config_file) if path}
        # Of what was replaced meanwhile nobody knows which was loaded, the old one or the new one.
        self._stamps = {
            path: None if stamp and stamp.changed_at >= self._began else stamp for path, stamp in stamps.items()
        }

    def changed(self) -> str:
        """The first file that is not what it was, or empty."""
        return next((path for path, stamp in self._stamps.items() if _stamp(path) != stamp), "")

    def differ(self) -> str:
        """In what this process, which is to be a run, has others; empty where it has the same."""
        from ansible.config.manager import find_ini_config_file

        if not all(os.isatty(stream) for stream in _STREAMS):
            return "not on a terminal"
        here = _compared(dict(os.environb))
        names = {name for name, _value in here.items() ^ self._environment.items()}
        if names:  # the values may be secrets
            return "other environment: " + ", ".join(sorted(name.decode(errors="replace") for name in names))
        config_file = find_ini_config_file()
        return f"other configuration: {config_file}" if config_file != self._config_file else ""


def main() -> None:
    """Serve until a file has changed."""
    path, real = sys.argv[1:]
    log = os.dup(2)
    surroundings = Surroundings()
    sys.path[0] = os.path.dirname(os.path.realpath(real))  # as in the real one, rather than the directory of this file
    _load()
    surroundings.loaded()
    why = _unsound()
    if why:
        print(f"nothing is kept warm: {why}", flush=True)
        sys.exit(UNSOUND)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    pathlib.Path(path).unlink(missing_ok=True)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how watchers end
    gc.collect()
    gc.freeze()
    print("playbooks are run by a warm process", flush=True)
    keeper = os.pidfd_open(os.getppid())
    while True:
        if keeper in select.select([keeper, listener.fileno()], [], [])[0]:
            sys.exit()
        connection = listener.accept()[0]
        changed = surroundings.changed()
        if changed:
            pathlib.Path(path).unlink(missing_ok=True)
            print(f"the warm process is started anew: {changed} has changed", flush=True)
            sys.exit()
        if os.fork() == 0:
            break
        connection.close()
    # What follows is a process of each run.
    os.close(keeper)
    listener.close()
    request = _watched(connection)
    _take_place(request)
    why = surroundings.differ()
    if why:
        with contextlib.suppress(OSError):
            os.write(log, f"ansible-playbook starts as usual: {why}\n".encode())
        arguments = [os.fsencode(real), *request.arguments]
        os.execve(real, arguments, request.environment)  # noqa: S606 - it is what was asked for
    os.close(log)
    sys.argv = [real, *map(os.fsdecode, request.arguments)]
    _afresh()
    from ansible.cli.playbook import main as play

    play()


# --- the warm process -------------------------------------------------------------------------------------------------


def _load() -> None:
    """Load what runs load, and nothing whose content depends on more than what Surroundings compares."""
    import ansible.cli.playbook  # first, as it looks at the streams and the locale
    import ansible.executor.process.worker
    import ansible.executor.task_executor
    import ansible.module_utils.connection
    import ansible.parsing.yaml.dumper
    import ansible.playbook.handler_task_include
    import ansible.playbook.included_file
    import ansible.playbook.role_include
    import ansible.plugins.action
    import ansible.plugins.become.sudo
    import ansible.plugins.cache.jsonfile
    import ansible.plugins.callback.default
    import ansible.plugins.connection.local
    import ansible.plugins.connection.ssh
    import ansible.plugins.filter.core
    import ansible.plugins.filter.encryption
    import ansible.plugins.filter.mathstuff
    import ansible.plugins.filter.urls
    import ansible.plugins.filter.urlsplit
    import ansible.plugins.inventory.auto
    import ansible.plugins.inventory.host_list
    import ansible.plugins.inventory.ini
    import ansible.plugins.inventory.script
    import ansible.plugins.inventory.toml
    import ansible.plugins.inventory.yaml
    import ansible.plugins.lookup
    import ansible.plugins.shell.sh
    import ansible.plugins.strategy.free
    import ansible.plugins.strategy.linear
    import ansible.plugins.test.core
    import ansible.plugins.test.files
    import ansible.plugins.test.mathstuff
    import ansible.plugins.test.uri
    import ansible.plugins.vars.host_group_vars  # noqa: F401 - all of them are loaded, and none is used here
    from ansible import constants
    from ansible.utils.path import cleanup_tmp_file

    # A run has its own, and removes it.
    cleanup_tmp_file(constants.DEFAULT_LOCAL_TMP)


def _unsound() -> str:
    """Why forks of this process would not be like runs, or empty."""
    from ansible import constants

    if len(os.listdir("/proc/self/task")) > 1:
        return "there are threads"
    if multiprocessing.resource_tracker._resource_tracker._pid is not None:  # type: ignore[attr-defined]
        return "there is memory that runs would share"
    if len(_locks()) != len(_action_write_locks()):
        return "there are locks that runs would share"
    if constants.DEFAULT_LOG_PATH:
        return "runs would share the open file of log_path"
    here = os.getcwd()
    settings = [name for name, value in vars(constants).items() if name.isupper() and here in repr(value)]
    return f"{', '.join(settings)} depend on the working directory" if settings else ""


def _locks() -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, multiprocessing.synchronize.SemLock)]


def _action_write_locks() -> dict[t.Any, t.Any]:
    """The locks that ansible-core up to 2.18 makes as it is loaded."""
    try:
        from ansible.executor import action_write_locks
    except ImportError:
        return {}
    found: dict[t.Any, t.Any] = action_write_locks.action_write_locks
    return found


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _compared(environment: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {name: value for name, value in environment.items() if name not in (*OF_EACH_RUN, *OF_NO_CONCERN)}


# --- the watcher ------------------------------------------------------------------------------------------------------


def _watched(connection: socket.socket) -> Request:
    """Take a request and fork the run, which returns; the watcher ends with the run, or with the launcher."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if peer[1] != os.geteuid():
        os._exit(1)
    try:
        connection.sendall(READY)
        request = received(connection)
    except (OSError, ValueError):
        os._exit(1)  # the launcher is gone, and nothing was run
    run = os.fork()
    if run == 0:
        connection.close()
        return request
    for descriptor in (*request.descriptors, *_STREAMS):
        os.close(descriptor)  # so that whoever reads from the terminal sees its end
    status = _status(connection, run)
    with contextlib.suppress(OSError):
        connection.sendall(status.to_bytes(4, "big"))
    os._exit(0)


def received(connection: socket.socket) -> Request:
    """The request. Raises OSError, and ValueError where it is none."""
    head, descriptors, _flags, _address = socket.recv_fds(connection, 4, 4)
    size = int.from_bytes(head, "big")
    content = bytearray()
    while len(content) < size:
        chunk = connection.recv(size - len(content))
        if not chunk:
            raise ValueError("half a request")
        content += chunk
    if len(descriptors) != 4:
        raise ValueError("half a request")
    mask, ignores_hangup, count, *rest = bytes(content).split(b"\0")
    environment = dict(each.split(b"=", 1) for each in rest[int(count) :])
    return Request(rest[: int(count)], environment, int(mask), ignores_hangup == b"1", list(descriptors))


def _status(connection: socket.socket, run: int) -> int:
    """How the run ended, as wait(2) says it. Hands signals on meanwhile."""
    asked: list[int] = []
    ended = os.pidfd_open(run)
    poll = select.poll()
    for descriptor in (ended, connection.fileno()):
        poll.register(descriptor, select.POLLIN)
    while ended not in [descriptor for descriptor, _event in poll.poll()]:
        numbers = b""
        with contextlib.suppress(OSError):
            numbers = connection.recv(64)
        if not numbers:  # the launcher is gone
            _kill(_family(run, stop=True))
            break
        asked = _family(run)
        for number in numbers:
            os.kill(run, number)
    status = os.waitpid(run, 0)[1]
    # ansible-core ends without ssh and what else its workers wait for.
    _kill(asked)
    return status


def _family(pid: int, stop: bool = False) -> list[int]:
    """A process and all that it has started, as descriptors, which never mean another one.

    Args:
        pid: its id.
        stop: have each stopped before it is looked at, so that it starts nothing more.
    """
    found = []
    with contextlib.suppress(OSError):
        found.append(os.pidfd_open(pid))
        if stop:
            os.kill(pid, signal.SIGSTOP)
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child), stop)
    return found


def _kill(family: t.Iterable[int]) -> None:
    for member in family:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(member, signal.SIGKILL)


# --- the run ----------------------------------------------------------------------------------------------------------


def _take_place(request: Request) -> None:
    """Be where the launcher is, in every respect that it handed over."""
    os.setsid()
    for stream in _STREAMS:
        os.dup2(request.descriptors[stream], stream)
    os.fchdir(request.descriptors[3])
    for descriptor in request.descriptors:
        os.close(descriptor)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if request.ignores_hangup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.umask(request.mask)
    os.environb.clear()
    os.environb.update(request.environment)


def _afresh() -> None:
    """Make anew what is to be another in each run."""
    import ansible.utils.display
    import ansible.utils.vars
    from ansible import constants

    for name in (*OF_EACH_RUN.values(), "DEFAULT_LOCAL_TMP"):
        constants.set_constant(name, constants.config.get_config_value(name, variables=vars(constants)))
    ansible.utils.vars.random_int = secrets.token_hex(4)  # of the ids of tasks
    locks = _action_write_locks()
    for name in locks:
        locks[name] = multiprocessing.Lock()
    display = ansible.utils.display.Display()
    display._set_column_width()
    # From 2.19 on a fork has no lock on these streams, as it is taken for a worker.
    synchronize = getattr(ansible.utils.display, "_synchronize_textiowrapper", None)
    if synchronize is not None:
        for stream in (sys.stdout, sys.stderr):
            synchronize(stream, display._lock)


if __name__ == "__main__":
    main()
