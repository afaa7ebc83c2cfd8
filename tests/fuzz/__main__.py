# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Made-up inputs for the parsers, the filters and the listener: make fuzz, or -m ...tests.fuzz [--inputs N] [--seed S].

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

_OF_LISTENER, _OF_FILTERS = 0.1, 0.1
"""Which parts of the inputs are for these; the others are for the parsers."""


def main() -> int:
    """Run all inputs, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, metavar="N", help="how many in all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31), metavar="S")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="the one input of that number")
    options = parser.parse_args()
    logging.disable()
    print(f"seed {options.seed}", flush=True)
    listened, filtered = int(options.inputs * _OF_LISTENER), int(options.inputs * _OF_FILTERS)
    numbers = {
        "parsers": range(options.inputs - listened - filtered),
        "filters": range(filtered),
        "listener": range(listened),
    }
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
    counts, watch = parsers.run(kind, parsers.read if kind == "parsers" else parsers.filtering(), seed, numbers)
    print(f"slowest: input {watch.number} in {watch.slowest * 1_000:.0f} ms", flush=True)
    return counts


if __name__ == "__main__":
    sys.exit(main())
