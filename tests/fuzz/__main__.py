# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Made-up inputs for parsers, logs, filters and the listener: make fuzz, or -m ...tests.fuzz [--inputs N] [--seed S].

Says which seed it uses, and ends with 1 at the first input that makes something crash, hang, or grow.
"""

from __future__ import annotations

import argparse
import logging
import pathlib
import random
import sys
import tempfile
import time
import traceback

from ansible_collections.ironpost.container_guard.tests.fuzz import listener, parsers
from ansible_collections.ironpost.container_guard.tests.fuzz.parsers import Counts

_SHARES = {"logs": 0.02, "filters": 0.08, "listener": 0.1}
"""Which parts of the inputs are for these; the others are for the parsers."""


def main() -> int:
    """Run all inputs, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="how many in all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31), metavar="S")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="the one input of that number")
    options = parser.parse_args()
    # What is refused is logged: that of a million inputs is nothing to read.
    ours = logging.getLogger(__package__.partition(".tests")[0])
    ours.addHandler(logging.NullHandler())
    ours.propagate = False
    print(f"seed {options.seed}", flush=True)
    numbers = {kind: range(int(options.inputs * share)) for kind, share in _SHARES.items()}
    numbers["parsers"] = range(options.inputs - sum(map(len, numbers.values())))
    try:
        for kind, those in numbers.items():
            chosen = those if options.only is None else range(options.only, options.only + 1)
            began = time.monotonic()
            counts = _run(kind, options.seed, chosen)
            print(f"{len(chosen)} inputs for the {kind} in {time.monotonic() - began:.0f} seconds", flush=True)
            for what, number in counts.most_common():
                print(f"  {number:8} {what}", flush=True)
    except AssertionError:
        traceback.print_exc()
        return 1
    return 0


def _run(kind: str, seed: int, numbers: range) -> Counts:
    if kind == "listener":
        with tempfile.TemporaryDirectory(prefix="cg-fuzz-") as directory:
            return listener.run(pathlib.Path(directory), seed, numbers)
    one = {"parsers": parsers.read, "logs": parsers.read_log, "filters": parsers.filtering()}[kind]
    counts, watch = parsers.run(kind, one, seed, numbers)
    print(f"slowest: input {watch.number} in {watch.slowest * 1_000:.0f} ms", flush=True)
    return counts


if __name__ == "__main__":
    sys.exit(main())
