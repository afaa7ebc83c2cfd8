# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy set that is deployed on this host: watched, checked before it is in force, and in force as a whole."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import typing as t
from collections.abc import Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answerer import Policies
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import may_answer
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.watched import WatchedFile

logger = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks at the file."""
_MOST_BYTES = 64 * 1_048_576


class DeployedPolicies:
    """The policies by which this host answers. There are none until C(refresh) was called.

    Args:
        path: where the module C(policy_set) deploys them.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._file = WatchedFile(path, _MOST_BYTES)
        self._trouble = ""
        self._unreadable = False
        self._ask = asyncio.Event()
        self.in_force: Policies | None = None
        """Replaced as a whole. None where none could be used yet."""

    @property
    def digest(self) -> str:
        """That of the set in force, or empty where there is none."""
        return self.in_force.digest if self.in_force else ""

    def wants(self, alert: Alert, _hosts: Sequence[str] = ()) -> bool:
        """Whether any policy could want the alert. Without policies each is answered, and told as failed."""
        policies = self.in_force
        return policies is None or may_answer(policies.engine, alert)

    def confirmed(self, _host: str, _digest: str) -> None:
        """A receipt has said which set this host has, which is known here."""

    def refresh(self) -> None:
        """Read the file again if it was changed. A set that cannot be used is told, and the one in force stays."""
        try:
            content = self._file.changed()
            if content is None:
                if self._unreadable:  # it is what it was, and can be read again
                    self._trouble, self._unreadable = "", False
                return
            policies = Policies(PolicySet.from_json(content.decode("utf-8"), str(self._path)))
        except FileNotFoundError:
            self._tell(f"no policy set is deployed at {self._path}", unreadable=True)
        except OSError as error:
            self._tell(f"the policy set {self._path} cannot be read: {error.strerror}", unreadable=True)
        except (GuardError, UnicodeDecodeError) as error:
            self._tell(f"the policy set cannot be used: {error}")
        else:
            self._trouble, self._unreadable = "", False
            if policies.digest != self.digest:
                self.in_force = policies
                logger.info("The policy set %s is in force", policies.digest)

    def ask(self) -> None:
        """Look at the file now, as SIGHUP wants it."""
        self._ask.set()

    async def watch(self) -> t.NoReturn:
        """Refresh for ever, once a second."""
        while True:
            self._ask.clear()
            await asyncio.to_thread(self.refresh)
            try:
                await asyncio.wait_for(self._ask.wait(), POLL)
            except TimeoutError:
                continue

    def troubles(self) -> list[str]:
        """What is wrong with the set, for people."""
        return [self._trouble] if self._trouble else []

    def _tell(self, trouble: str, unreadable: bool = False) -> None:
        if trouble != self._trouble:
            meanwhile = f"the set {self.digest} stays in force" if self.in_force else "no alert is answered"
            logger.error("%s. Meanwhile %s", trouble, meanwhile)
        self._trouble, self._unreadable = trouble, unreadable
