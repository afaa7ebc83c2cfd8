# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook runs that the rule engine has started: of which delivery each is, and for how long it may live.

ansible-rulebook counts what it does by runs: with 25 of them it reads no events. A run may go on long after its hosts
have answered. Evidence is collected then, and ansible-core removes its temporary directory on each host, outside of the
timeout of any task: the host decides how long that takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import time
import typing as t
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import signals

logger = logging.getLogger(__name__)

_PROC = pathlib.Path("/proc")
_VARIABLES = "env/extravars"
"""Of ansible-runner: where the event is that a run is about."""
_MOST_BYTES = 16_777_216
"""Of that file: far more than an event has."""
_AFTER_SIGTERM = 5.0
"""Seconds until SIGKILL."""
_SHOWN = 200


@dataclasses.dataclass
class _Run:
    since: float
    known: bool = False  # it has begun so far that one sees what it is about
    delivery: str = ""
    limit: str = ""  # the hosts, as ansible-playbook was told them
    ending: bool = False


class _Ending(t.NamedTuple):
    """What is left of a run is killed then: ansible-core ends without ssh and what else its workers wait for."""

    when: float
    pid: int
    family: Mapping[int, int]


class Runs:
    """The playbook runs of this process. On a system without C(/proc) there seem to be none.

    Args:
        timeout: seconds that a run may live, of whatever playbook.
        interval: seconds between two looks.
        now: seconds, of a clock that is never set.
    """

    def __init__(self, timeout: float, interval: float = 0.5, now: Callable[[], float] = time.monotonic) -> None:
        self.interval = interval
        self._timeout = timeout
        self._now = now
        self._runs: dict[int, _Run] = {}
        self._endings: list[_Ending] = []

    def look(self, known: Sequence[str]) -> set[str]:
        """Which of these deliveries have a run that goes on. Those that are to end are ended on the way."""
        living = signals.playbooks()
        self._runs = {pid: self._runs.get(pid) or _Run(self._now()) for pid in living}
        for pid, run in self._runs.items():
            if not run.known:
                _recognise(pid, run, known)
            if not run.ending and self._now() - run.since > self._timeout:
                self._end(pid, run, f"it lives longer than {self._timeout:g} seconds")
        for ending in [ending for ending in self._endings if ending.when <= self._now()]:
            self._endings.remove(ending)
            signals.kill({**ending.family, **signals.family(ending.pid)})
        return {run.delivery for run in self._runs.values()}

    def end(self, delivery: str, why: str) -> None:
        """Have the run of a delivery ended: with SIGTERM, and with SIGKILL where that does not do."""
        for pid, run in self._runs.items():
            if run.delivery == delivery and not run.ending:
                self._end(pid, run, why)

    def _end(self, pid: int, run: _Run, why: str) -> None:
        took = self._now() - run.since
        logger.warning("Ending a playbook run after %.0f seconds, of %s: %s", took, run.limit or "some hosts", why)
        run.ending = True
        self._endings.append(_Ending(self._now() + _AFTER_SIGTERM, pid, signals.family(pid)))
        signals.terminate([pid])


def _recognise(pid: int, run: _Run, known: Sequence[str]) -> None:
    """See what a run is about, from its command line and its extra variables."""
    # Until it has begun, it has the command line of this process; as it ends, its files are removed.
    with contextlib.suppress(OSError, ValueError):
        arguments = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        path = next((each[1:] for each in arguments if each.startswith("@") and each.endswith(_VARIABLES)), "")
        if not path:
            return
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES)
        # Those who write alerts do not know the id of any delivery, so that none of them can name one.
        run.delivery = next((delivery for delivery in known if delivery.encode() in content), "")
        run.limit = text.display(arguments[arguments.index("--limit") + 1], _SHOWN)
        run.known = True
