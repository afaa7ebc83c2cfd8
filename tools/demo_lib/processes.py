# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signals, and processes that must not outlive the demo."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import time
import types
import typing as t
from collections.abc import Iterator

from demo_lib.screen import UnmetError

MARK = "CONTAINER_GUARD_DEMO_DIRECTORY"
"""Environment variable by which processes of a demo are found, this one or an interrupted one."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Interrupted(BaseException):
    """A signal asks the demo to end; no error, as KeyboardInterrupt is none."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def handle_signals() -> None:
    """Raise Interrupted for the first signal that asks the demo to end, and ignore further ones."""
    for signum in SIGNALS:
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup
            signal.signal(signum, _interrupt)


def _interrupt(signum: int, _frame: types.FrameType | None) -> t.NoReturn:
    ignore_signals()
    raise Interrupted(signum)


def ignore_signals() -> None:
    """Let nothing interrupt the removal of what the demo made: neither a second Ctrl-C, nor the shell behind make."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let signals wait: what the engine is asked to make, it makes even when nobody waits for the answer any more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def die_with_parent() -> None:
    """In a new process: end when the demo does, even if that is killed with SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_processes() -> list[str]:
    """End the processes of demos, and return their names."""
    ended: dict[int, str] = {}
    deadline = time.monotonic() + 10
    # A process that is about to start another may do so before it ends: look again until there is none.
    while found := dict(marked_processes()):
        if time.monotonic() > deadline:
            raise UnmetError(f"Processes {found} do not end")
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended |= found
        time.sleep(0.01)
    return [f"{name} ({pid})" for pid, name in ended.items()]


def marked_processes() -> Iterator[tuple[int, str]]:
    """Id and name of each process that a demo has started, directly or not."""
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        # Those of other users cannot be read, and those that have ended are empty.
        with contextlib.suppress(OSError):
            if f"\0{MARK}=".encode() in b"\0" + (entry / "environ").read_bytes():
                yield int(entry.name), (entry / "comm").read_text().strip()
