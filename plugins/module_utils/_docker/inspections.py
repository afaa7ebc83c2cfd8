# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine said of containers when they were inspected last: packed, as a thousand of them are 30 MB as data."""

from __future__ import annotations

import json
import threading
import typing as t
import zlib

_FASTEST = 1


class Inspections:
    """Remembers answers to inspect. Safe to share between threads.

    Whoever keeps them right forgets what has changed; the inventory does.
    """

    def __init__(self) -> None:
        self._packed: dict[str, bytes] = {}
        self._changes: dict[str, int] = {}
        self._lock = threading.Lock()
        self._count = 0

    def __contains__(self, container_id: str) -> bool:
        return container_id in self._packed

    def __len__(self) -> int:
        return len(self._packed)

    def get(self, container_id: str) -> dict[str, t.Any] | None:
        """What inspect said of the container with that full id, or None where that is not known. It is the caller's."""
        packed = self._packed.get(container_id)
        return t.cast("dict[str, t.Any]", json.loads(zlib.decompress(packed))) if packed else None

    def mark(self) -> int:
        """This moment: to be taken before the engine is asked, and given to put()."""
        with self._lock:
            return self._count

    def put(self, found: t.Mapping[str, t.Any], asked: int) -> None:
        """Remember an answer, unless the container has changed since it was asked for."""
        container_id = str(found["Id"])
        packed = zlib.compress(json.dumps(found, separators=(",", ":")).encode("utf-8"), _FASTEST)
        with self._lock:
            if self._changes.get(container_id, 0) <= asked:
                self._packed[container_id] = packed

    def forget(self, container_id: str) -> None:
        """It has changed: what was asked for until now is not believed."""
        with self._lock:
            self._count += 1
            self._changes[container_id] = self._count
            self._packed.pop(container_id, None)

    def keep(self, container_ids: t.Container[str]) -> None:
        """Forget all others, which are gone."""
        with self._lock:
            self._packed = {one: packed for one, packed in self._packed.items() if one in container_ids}
            self._changes = {one: at for one, at in self._changes.items() if one in container_ids}
