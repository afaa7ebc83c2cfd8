# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service with an engine of a thousand containers, which are all like one of the real engine.

Run as a program with the command line of the service. The engine is in the same process, and keeps next to nothing
itself: what the process takes is what the service keeps.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service import main, service
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import Config

NUMBER, LIKE = "GUARD_BENCH_CONTAINERS", "GUARD_BENCH_LIKE"
"""Environment variables: how many there are, and the id of the real one."""


class Crowd:
    """An engine of many containers, of which each is like one."""

    def __init__(self, real: DockerEngine, like: str, number: int) -> None:
        self._real = real
        self._number = number
        (listed,) = real.list_containers(like)
        self._listed = json.dumps(listed).replace(like, "{id}")
        self._inspected = json.dumps(real.inspect_container(like)).replace(like, "{id}")

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._real, name)

    def list_containers(self, container_id: str = "") -> list[dict[str, t.Any]]:
        """See Engine."""
        ids = (f"{number:064x}" for number in range(self._number))
        return [json.loads(self._listed.replace("{id}", one)) for one in ids if one.startswith(container_id)]

    def inspect_container(self, container_id: str) -> dict[str, t.Any]:
        """See Engine."""
        return t.cast("dict[str, t.Any]", json.loads(self._inspected.replace("{id}", container_id)))

    def events(self, since: int | None = None, silence: float = 60) -> t.Any:
        """See Engine. Nothing happens."""
        del since
        return _Silence(silence)


class _Silence:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._closed = threading.Event()

    def __iter__(self) -> _Silence:
        return self

    def __next__(self) -> dict[str, t.Any]:
        self._closed.wait(self._seconds)
        raise StopIteration

    def close(self) -> None:
        """End it."""
        self._closed.set()


def _engine(config: Config) -> Engine:
    real = DockerEngine(config.docker_host, config.action_timeout)
    return t.cast(Engine, Crowd(real, os.environ[LIKE], int(os.environ[NUMBER])))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        service.engine_of = _engine
        sys.exit(main.main())
