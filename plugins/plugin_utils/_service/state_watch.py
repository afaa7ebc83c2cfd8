# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the state directory takes what the guard has to remember, found out before it matters."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import typing as t
from collections.abc import Callable

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir, StateDirError

logger = logging.getLogger(__name__)

NAME = "service.json"
"""What the service says of itself there, for whoever looks at the host without asking it."""
LOOK, LOOK_AGAIN = 30.0, 2.0
"""Seconds between two looks, and where the last one found trouble."""


class StateWatch:
    """Writes to the state directory now and then, and says where that does not work.

    Args:
        files: the state directory, whose C(warnings) are told here, each once.
        said: what the service says of itself.
    """

    def __init__(self, files: StateDir, said: Callable[[], dict[str, t.Any]]) -> None:
        self._files = files
        self._said = said
        self._trouble = ""

    def troubles(self) -> list[str]:
        """Why it cannot be written, a sentence."""
        return [self._trouble] if self._trouble else []

    def look(self) -> None:
        """Write, carry over what the fallback holds, and tell what was found."""
        trouble = ""
        try:
            self._files.write(NAME, json.dumps({**self._said(), "pid": os.getpid(), "time": now()}))
            self._files.carry_over()
            held = self._files.standing_in()
            if held:
                trouble = (
                    f"state_dir {self._files.path} cannot be written: {len(held)} files are kept in "
                    f"{self._files.fallback}, in memory, until it can. A reboot before that loses them"
                )
        except StateDirError as error:
            trouble = str(error)
        self._trouble = trouble
        self.tell()

    def tell(self) -> None:
        """Put into the log what the state directory had to say."""
        warnings, self._files.warnings[:] = list(self._files.warnings), []
        for warning in warnings:
            logger.warning("%s", warning)

    async def run(self) -> t.NoReturn:
        """Look until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_AGAIN if self._trouble else LOOK)
