# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ending when the system asks for it, in a process that is not ours.

ansible-rulebook has handlers for SIGTERM and SIGINT, and loses them as it starts its rule engine: that is Java, and a
JVM puts handlers of its own in their place, which end the process at once (ansible-rulebook 1.3, jpy 2.2). What is held
in memory is then lost, and playbooks that are running go on as orphans, told of by nobody.

A source that ends by itself is another matter: ansible-rulebook lets running playbooks end and exits with 0. Those that
take longer than its option C(--shutdown-delay) it ends with SIGKILL, which leaves the processes for each host behind,
as ansible-core 2.19 and later give each a session of its own. So they are ended here, with SIGTERM.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import pathlib
import signal
import sys
import threading
import types
import typing as t

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 45.0
"""Seconds that running playbooks have to end: with what the engine needs less than the 90 of systemd."""
_AFTER_SIGTERM = 5.0
_POLL = 0.05
_PROC = pathlib.Path("/proc")


@contextlib.asynccontextmanager
async def stop_asked() -> t.AsyncIterator[asyncio.Event]:
    """An event that is set as SIGTERM or SIGINT arrive, from when the JVM is up until the context ends.

    A second one ends running playbooks, and then does what ansible-rulebook had meant it to do: it cancels everything.

    Outside of the main thread, where signals cannot be handled, it is never set.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def at_once(number: int, frame: types.FrameType | None) -> None:
        running = playbooks()
        members = {member: session for pid in running for member, session in family(pid).items()}
        terminate(running)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs any more
            # Some do not end by it, and the engine would wait for them for a minute.
            loop.call_soon_threadsafe(loop.call_later, _AFTER_SIGTERM, kill, members)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:
            raise KeyboardInterrupt

    def give_back() -> None:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, at_once)

    def asked(number: signal.Signals) -> None:
        logger.info("Ending, as %s arrived; another one ends running playbooks at once", number.name)
        give_back()
        stop.set()

    async def listen() -> None:
        while not _jvm_is_up():
            await asyncio.sleep(_POLL)
        for number in SIGNALS:
            loop.add_signal_handler(number, asked, number)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    listening = asyncio.create_task(listen())
    try:
        yield stop
    finally:
        listening.cancel()
        # Also where it was not asked, and although the source has ended: its playbooks have not.
        give_back()


async def playbooks_ended(grace: float = GRACE) -> None:
    """Wait until no playbook is running any more; those that are after so many seconds are ended.

    Receipts are to be taken meanwhile.
    """
    if await _are_gone(grace):
        return
    left = playbooks()
    logger.warning("Ending %d playbooks, which are still running after %g seconds", len(left), grace)
    terminate(left)
    await _are_gone(_AFTER_SIGTERM)


def playbooks() -> list[int]:
    """The process ids of what ansible-runner has started here and still runs; nothing where there is no C(/proc)."""
    # It runs on a terminal of its own, so in a session of its own.
    return [pid for pid, parent, session in _processes() if parent == os.getpid() and session == pid]


def terminate(pids: t.Iterable[int]) -> None:
    """Ask processes to end."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def family(pid: int) -> dict[int, int]:
    """A process and all that it has started and that have, with the session of each."""
    found = {process: (parent, session) for process, parent, session in _processes()}
    children = collections.defaultdict(list)
    for process, (parent, _session) in found.items():
        children[parent].append(process)
    members = [pid]
    for member in members:
        members += children[member]
    return {member: found[member][1] for member in members if member in found}


def kill(members: t.Mapping[int, int]) -> None:
    """End those of a family that are left, by SIGKILL."""
    for pid, _parent, session in _processes():
        if members.get(pid) == session:  # else it is another one by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> t.Iterator[tuple[int, int, int]]:
    """Id, parent and session of each process."""
    # Twice a second: globbing, and decoding what is read, take several times as long.
    for name in filter(str.isdecimal, os.listdir(_PROC) if _PROC.is_dir() else ()):
        try:
            with open(f"{_PROC}/{name}/stat", "rb", buffering=0) as file:
                # The name of the program, which may hold anything, stands in parentheses.
                state, parent, _group, session = file.read(4096).rpartition(b")")[2].split()[:4]
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        if state != b"Z":
            yield int(name), int(parent), int(session)


async def _are_gone(seconds: float) -> bool:
    deadline = asyncio.get_running_loop().time() + seconds
    while playbooks():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(_POLL)
    return True


def _jvm_is_up() -> bool:
    """Whether there is a JVM that has put its handlers in place, or none to wait for."""
    jpy = sys.modules.get("jpy")
    return jpy is None or bool(jpy.has_jvm())
