# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the guard is to work on this host: what a file says, which a role writes."""

from __future__ import annotations

import pathlib
import time

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import AUDIT, ENFORCE

MAX_AGE = 10.0
"""Seconds for which the file is believed."""


class Mode:
    """How the guard is to work, as a file says: C(enforce), or C(audit) to watch only.

    Args:
        path: of the file. Where there is none, policies are enforced; where it says something else, nothing is done
            but watched, as whoever wrote it wanted it to be otherwise.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._read_at = float("-inf")
        self._mode = AUDIT
        self._trouble = ""

    def read(self) -> str:
        """The mode at this moment, at most ten seconds old."""
        moment = time.monotonic()
        if moment - self._read_at >= MAX_AGE:
            self._look()
            self._read_at = moment
        return self._mode

    def troubles(self) -> list[str]:
        """What is wrong with the file."""
        self.read()
        return [self._trouble] if self._trouble else []

    def _look(self) -> None:
        self._trouble = ""
        try:
            said = self._path.read_text("utf-8").strip()
        except FileNotFoundError:
            said = ENFORCE
        except (OSError, UnicodeDecodeError) as error:
            said = str(error)
        self._mode = said if said in (ENFORCE, AUDIT) else AUDIT
        if said != self._mode:
            self._trouble = f"{self._path} says neither {ENFORCE} nor {AUDIT}: alerts are watched only"
