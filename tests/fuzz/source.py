# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event source in a process of its own, with a rule engine that takes every event: source.py PORT DIRECTORY."""

from __future__ import annotations

import asyncio
import pathlib
import runpy
import sys
import typing as t

TOKEN = "a-token-of-the-fuzzer"
PLUGIN = pathlib.Path(__file__).absolute().parents[2] / "extensions/eda/plugins/event_source/alerts.py"


class Engine:
    """A queue that keeps nothing."""

    async def put(self, event: dict[str, t.Any], /) -> None:
        """Take an event."""


def main(port: int, directory: str) -> None:
    """Run the source until it is killed. What it has handed over counts as answered, as no host sends receipts."""
    options = {
        "port": port,
        "token": TOKEN,
        "hosts": ["web-1"],
        "spool": directory,
        "batch_interval": 0,
        "receipts": False,
    }
    asyncio.run(runpy.run_path(str(PLUGIN))["main"](Engine(), options))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
