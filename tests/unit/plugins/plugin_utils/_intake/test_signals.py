# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ending in an orderly way. With the JVM and the real engine: tests/integration/test_shutdown.py."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import signals


@pytest.fixture(autouse=True)
def handlers() -> t.Iterator[list[int]]:
    """Handlers as ansible-rulebook has them; the signals that reached them."""
    reached: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: reached.append(number)) for number in signals.SIGNALS
    }
    yield reached
    for number, handler in before.items():
        signal.signal(number, handler)


def program(code: str = "import time; time.sleep(60)") -> subprocess.Popen[bytes]:
    """Runs as ansible-runner runs a playbook."""
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


async def listening() -> None:
    """Until the handlers are in place."""
    await asyncio.sleep(0)


@pytest.mark.parametrize("number", signals.SIGNALS)
async def test_the_first_signal_asks_and_the_second_ends(number: signal.Signals, handlers: list[int]) -> None:
    async with signals.stop_asked() as stop:
        await listening()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 10)
        assert handlers == []
        with program() as running:
            while running.pid not in signals.playbooks():
                await asyncio.sleep(0.01)
            os.kill(os.getpid(), number)
            assert handlers == [number], "that of ansible-rulebook"
            assert running.wait(10) == -signal.SIGTERM


async def test_after_the_source_has_ended_signals_are_those_of_the_engine(handlers: list[int]) -> None:
    async with signals.stop_asked():
        await listening()
    os.kill(os.getpid(), signal.SIGTERM)
    assert handlers == [signal.SIGTERM]


async def test_it_waits_for_the_jvm(monkeypatch: pytest.MonkeyPatch, handlers: list[int]) -> None:
    up: list[bool] = []
    monkeypatch.setitem(sys.modules, "jpy", types.SimpleNamespace(has_jvm=lambda: bool(up)))
    async with signals.stop_asked() as stop:
        await listening()
        os.kill(os.getpid(), signal.SIGTERM)
        assert (handlers, stop.is_set()) == ([signal.SIGTERM], False)
        up.append(True)
        while not stop.is_set():
            await asyncio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)


async def test_outside_of_the_main_thread_it_is_never_asked() -> None:
    async def ask() -> bool:
        async with signals.stop_asked() as stop:
            return stop.is_set()

    assert await asyncio.to_thread(lambda: asyncio.run(ask())) is False


async def test_playbooks_may_end() -> None:
    with program("import time; time.sleep(0.3)") as running:
        ending = asyncio.create_task(asyncio.to_thread(running.wait))
        await signals.playbooks_ended(30)
        assert await ending == 0


async def test_but_not_take_for_ever() -> None:
    with program() as running:
        while running.pid not in signals.playbooks():
            await asyncio.sleep(0.01)
        ending = asyncio.create_task(asyncio.to_thread(running.wait))
        await signals.playbooks_ended(0)
        assert await ending == -signal.SIGTERM


async def test_other_children_are_no_playbooks() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert other.pid not in signals.playbooks()
        await signals.playbooks_ended(0)
        assert other.poll() is None
        other.communicate(b"\n")
