# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine that is connected when it is asked for the first time.

Much of what is decided about alerts needs no engine, and must not fail where none answers.
"""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine


def connected_when_asked(connect: t.Callable[[], Engine]) -> Engine:
    """The engine that C(connect) gives, which is called once, by the first call of the engine.

    Where it raises, so does that call, and the next one tries again. Safe to share between threads.
    """
    return t.cast(Engine, _LazyEngine(connect))


class _LazyEngine:
    def __init__(self, connect: t.Callable[[], Engine]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    def __getattr__(self, name: str) -> t.Any:
        with self._lock:
            if self._engine is None:
                self._engine = self._connect()
            return getattr(self._engine, name)
