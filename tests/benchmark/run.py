# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the collection against what people would use instead: make bench, or run.py [--only NAME] [--quick].

Both sides of a ratio are measured in this one run, in turns. Ends with 1 when a ratio is not as wanted.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import signal
import sys
import types

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DEFAULT_DOCKER_HOST
from ansible_collections.ironpost.container_guard.tests.benchmark import (
    compiling,
    deciding,
    flood,
    hosts,
    isolating,
    judging,
    over_ssh,
    respond,
    scale,
    serving,
    spooled,
    storm,
)
from ansible_collections.ironpost.container_guard.tests.benchmark.report import Row, table

OF_RULEBOOKS = {"alert": respond.one_alert, "burst": respond.burst}
"""Of both rule engines, which are started once for all of them."""
AGAINST_PEER = {"flood": flood.flood, "hosts": hosts.alerts_of_hosts, "ssh": over_ssh.one_alert}
ON_ENGINE = {
    "judge": judging.judge,
    "isolate": isolating.isolate,
    "storm": storm.storm,
    "noise": storm.noise,
    "sick": hosts.sick_hosts,
    "scale": scale.scale,
    "service": serving.serve,
}
ALONE = {"decide": deciding.decide, "compile": compiling.compiling, "spool": spooled.spooled, "memory": spooled.memory}
NAMES = (*ALONE, *ON_ENGINE, *OF_RULEBOOKS, *AGAINST_PEER)


def main() -> int:
    """Measure, print the table, and say by the exit code whether all is as wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and containers, for a first look")
    options = parser.parse_args()
    names = options.only or NAMES
    docker_host = os.environ.get("DOCKER_HOST") or DEFAULT_DOCKER_HOST
    collections = os.environ.get("GUARD_PEER_COLLECTIONS", "")
    rulebooks = [name for name in OF_RULEBOOKS if name in names]
    against_peer = [name for name in AGAINST_PEER if name in names]
    if (rulebooks or against_peer) and not pathlib.Path(collections, "ansible_collections/community/docker").is_dir():
        parser.error("GUARD_PEER_COLLECTIONS does not hold community.docker. Use: make bench")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)

    rows: list[Row] = []
    try:
        for name in (name for name in ALONE if name in names):
            rows += ALONE[name](options.quick, functools.partial(_say, name))
        for name in (name for name in ON_ENGINE if name in names):
            rows += ON_ENGINE[name](docker_host, options.quick, functools.partial(_say, name))
        for name in against_peer:
            rows += AGAINST_PEER[name](docker_host, collections, options.quick, functools.partial(_say, name))
        if rulebooks:
            _say("rulebooks", "starting both rule engines")
            with respond.Contest.open(docker_host, collections) as contest:
                for name in rulebooks:
                    rows += OF_RULEBOOKS[name](contest, options.quick, functools.partial(_say, name))
    except KeyboardInterrupt:
        _say("interrupted", "everything that was started is removed")
        return 130
    print(f"\n{table(rows)}")
    missed = [row.measure for row in rows if row.ok is False]
    if missed:
        print(f"\nmissed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _say(name: str, text: str) -> None:
    print(f"{name}: {text}", file=sys.stderr, flush=True)


def _interrupt(_number: int, _frame: types.FrameType | None) -> None:
    # Once is enough: what follows is the removal of containers, which a second Ctrl-C must not cut short.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
