# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must not happen to a process however many inputs it gets: to hang, to be slow, to grow."""

from __future__ import annotations

import faulthandler
import pathlib
import time

HANG = 60
"""Seconds after which a process that gets nowhere is ended, with a traceback."""
SLOWEST = 5.0
"""Seconds that one input may take, on a machine that has other things to do."""
GROWTH = 20 * 1_048_576
"""Bytes that a process may grow by, once it has seen a tenth of the inputs."""
_PAGE = 4096


def resident(pid: int | str = "self") -> int:
    """The memory that a process holds, in bytes."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


class Growth:
    """How much a process grows.

    Args:
        inputs: how many it gets in all.
        pid: of the process; of this one by default.
    """

    def __init__(self, inputs: int, pid: int | str = "self") -> None:
        self._warm = inputs // 10
        self._pid = pid
        self._before = 0

    def seen(self, number: int) -> None:
        """It has had that many inputs before this one."""
        if number == self._warm:
            self._before = resident(self._pid)

    def grown(self) -> int:
        """By how many bytes. Raises AssertionError where that is too much."""
        grown = resident(self._pid) - self._before
        assert grown < GROWTH, f"the process has grown by {grown / 1_048_576:.0f} MB"
        return grown


class Stopwatch:
    """The time that inputs take.

    Attributes:
        slowest: the longest so far, in seconds.
        number: of the input that took it.
    """

    def __init__(self) -> None:
        self.slowest = 0.0
        self.number = -1
        self._began = 0.0

    def start(self, number: int) -> None:
        """An input begins."""
        if number % 1_000 == 0:
            faulthandler.dump_traceback_later(HANG, exit=True)
        self._began = time.process_time()

    def stop(self, number: int) -> None:
        """It has ended. Raises AssertionError where that took too long."""
        took = time.process_time() - self._began
        if took > self.slowest:
            self.slowest, self.number = took, number
        assert took < SLOWEST, f"it took {took:.1f} seconds"

    def end(self) -> None:
        """All inputs have ended."""
        faulthandler.cancel_dump_traceback_later()
