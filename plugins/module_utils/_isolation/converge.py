# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Acting and reading again until nothing is missing: what was read last decides, whatever the steps answered."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.act import (
    NOTHING_DONE,
    Acted,
    Attempt,
    perform,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Step
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.proof import Proof
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.tools import Tools
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import Finding, Verification

MAX_ROUNDS = 3
"""How often to read, plan and act before the state that is left counts, where nothing failed in a way that may pass."""


def converge(
    tools: Tools,
    attempt: Attempt,
    steps: list[Step],
    acted: Acted,
    *,
    plan: t.Callable[[ContainerState], list[Step]],
    verify: t.Callable[[ContainerState], tuple[Verification, Proof]],
    hold_back: t.Callable[[Step], str],
) -> tuple[Verification, Proof]:
    """What was found once nothing was missing, or nothing more could be done.

    Args:
        tools: what is worked with.
        attempt: keeps what happens.
        steps: what to begin with.
        acted: what came of steps that were done already.
        plan: the steps that are missing in a state.
        verify: whether a state is what is wanted, and what proves it.
        hold_back: why a step must not be done now, or empty.

    Raises:
        EngineError, JournalError: it cannot be read back.
    """
    delays, rounds = tools.retry.delays(), 0
    while True:
        if not acted.unanswered:
            acted = acted.and_then(perform(steps, tools.engine, attempt, tools.locks, hold_back))
        attempt.after = state = tools.read_settled(attempt.before.id)
        steps = plan(state)
        verification, proof = tools.retry.call(functools.partial(verify, state))
        if not steps:
            return verification, proof
        if verification:
            # Such as a network that nobody else has noted to be off for its sake: it would not stay so.
            verification = verification._replace(
                unmet=tuple(Finding("not_done", f"{step} is not done") for step in steps)
            )
        if attempt.busy:
            return verification, proof  # it was waited for
        delay = next(delays, None) if acted.may_pass else None
        if delay is not None:
            tools.retry.sleep(delay)
        else:
            rounds += 1
            untried = any(str(step) not in acted.tried for step in steps)
            if rounds == MAX_ROUNDS or (acted.may_pass and not untried):
                return verification, proof
        acted = NOTHING_DONE
