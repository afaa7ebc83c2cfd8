# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Batches: many containers at the same time, all paused before the first one leaves its networks."""

from __future__ import annotations

import concurrent.futures
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.walk import Walk


class Walked(t.NamedTuple):
    """What came of one container: an outcome, or the error of an attempt that ended before anything was touched."""

    outcome: Outcome | None = None
    error: GuardError | None = None


def in_two_passes(
    walks: t.Sequence[Walk], concurrency: int, between: t.Callable[[], object] = lambda: None
) -> list[Walked]:
    """Begin all, then finish all: one result for each, in their order.

    What happens to one container does not keep the others from being worked on.

    Args:
        walks: not begun yet, each on another container.
        concurrency: how many are worked on at a time, 1 to 100.
        between: done once all are begun: what should not wait until the end, and for which no pause should wait.
    """
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        begun = list(pool.map(_begun, walks))
        _walked(between)
        results = [Walked(error=trouble) for trouble in begun]
        for turn in (0, 1, 2):
            indexes = [i for i, walk in enumerate(walks) if not begun[i] and walk.turn == turn]
            for index, walked in zip(indexes, pool.map(lambda i: _walked(walks[i].finish), indexes)):
                results[index] = walked
        return results


def _begun(walk: Walk) -> GuardError | None:
    return _walked(walk.begin).error


def _walked(work: t.Callable[[], object]) -> Walked:
    try:
        found = work()
    except GuardError as error:
        return Walked(error=error)
    except Exception as error:  # a defect of the guard must not lose the results of the other containers
        return Walked(error=GuardError(f"internal error: {error!r}", kind="internal_error"))
    return Walked(found if isinstance(found, Outcome) else None)
