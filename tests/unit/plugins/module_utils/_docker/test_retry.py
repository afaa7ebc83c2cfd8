# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trying again: only what may pass, and never for ever."""

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineForbidden,
    EngineTimeout,
    EngineUnreachable,
    NotFound,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import (
    MAX_DELAY,
    Retry,
    is_transient,
)


class Flaky:
    def __init__(self, *answers: Exception | str) -> None:
        self.answers = list(answers)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (EngineTimeout("slow"), True),
        (EngineUnreachable("gone"), True),
        (EngineError("accident", status=500), True),
        (EngineError("conflict", status=409), False),
        (EngineError("no status"), False),
        (EngineForbidden("no", status=403), False),
        (NotFound("gone", status=404), False),
    ],
)
def test_what_may_pass(error: EngineError, passes: bool) -> None:
    assert is_transient(error) is passes


def test_waits_longer_each_time_and_never_too_long() -> None:
    for _ in range(50):
        delays = list(Retry(max_attempts=10, backoff_base=0.5).delays())
        assert len(delays) == 10
        for attempt, delay in enumerate(delays):
            full = min(0.5 * 2**attempt, MAX_DELAY)
            assert full / 2 <= delay <= full
    assert len({next(Retry().delays()) for _ in range(20)}) > 1, "all hosts would come back at the same moment"


def test_returns_what_came_at_last() -> None:
    slept: list[float] = []
    flaky = Flaky(EngineTimeout("slow"), EngineUnreachable("gone"), "fine")
    assert Retry(max_attempts=2, sleep=slept.append).call(flaky) == "fine"
    assert len(slept) == 2


def test_gives_up_with_the_last_error() -> None:
    flaky = Flaky(EngineTimeout("first"), EngineTimeout("second"))
    with pytest.raises(EngineTimeout, match="second"):
        Retry(max_attempts=1, sleep=lambda _seconds: None).call(flaky)


def test_does_not_repeat_what_will_fail_again() -> None:
    flaky = Flaky(NotFound("gone", status=404), "never asked")
    with pytest.raises(NotFound):
        Retry(sleep=lambda _seconds: pytest.fail("it waited")).call(flaky)
    assert flaky.calls == 1
