# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collecting: evidence of one container, from its engine into the directory of a case.

What a container holds is chosen by whoever has broken into it, so nothing of it becomes a file name, everything has a
bound, and what may be large is never whole in memory. One item that fails does not keep the others from being
collected.
"""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.case_files import (
    evidence_dir,
    make_case,
    new_case_id,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection import (
    Case,
    Collection,
    status_of,
    without_processes,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.errors import EvidenceError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import (
    COLLECTING,
    COMPLETE,
    PENDING,
    UNAVAILABLE,
    UNSTATED,
    Item,
    Manifest,
    Request,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.mounts import left_out
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.verify import read_manifest
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import (
    DEFAULT_LIMITS,
    Limits,
    wanted_items,
)


class Collector:
    """Collects evidence on one host.

    Args:
        engine: the Docker Engine of the host.
        state_dir: made with mode 0700 where it is missing. Cases are in its directory C(evidence).
        host: name of the host, for the manifest.
        limits: what bounds each item.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        engine: Engine,
        state_dir: str,
        host: str = "",
        limits: Limits = DEFAULT_LIMITS,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._state_dir = state_dir
        self._host = host
        self._limits = limits
        self._clock = clock

    def collect(
        self, container_id: str, kinds: t.Sequence[str], paths: t.Sequence[str] = (), request: Request = UNSTATED
    ) -> Case:
        """Begin, and finish. Raises as begin does."""
        return self.begin(container_id, kinds, paths, request).finish()

    def begin(
        self, container_id: str, kinds: t.Sequence[str], paths: t.Sequence[str] = (), request: Request = UNSTATED
    ) -> Collection:
        """A case on disk with nothing in it yet. What is done with it afterwards raises nothing.

        Args:
            container_id: full id.
            kinds: any of KINDS.
            paths: absolute paths in the container, to archive.
            request: why.

        Raises:
            EvidenceError: where there is no such evidence, or no room for it.
            EngineError: where the container cannot be inspected.
        """
        items = wanted_items(kinds, paths)
        inspected = self._inspect(container_id)
        version = self._engine.version()
        container = Container.from_inspect(inspected)
        manifest = Manifest(
            case_id=new_case_id(container.id),
            # The image reference comes from whoever started the container.
            container={name: text.display(value) for name, value in container.to_dict().items()},
            state=status_of(inspected),
            host=text.display(self._host),
            engine=text.display(version.engine),
            api=text.display(version.api),
            request=request,
            limits=dataclasses.asdict(self._limits),
            items=items,
            started=timestamp.now(),
        )
        directory = make_case(self._state_dir, manifest)
        return Collection(self._engine, directory, manifest, inspected, self._limits, self._clock)

    def resume(self, case_id: str) -> Collection:
        """A case that was begun and not finished; what was taken is kept.

        Args:
            case_id: of a case in the state directory.

        Raises:
            EvidenceError: C(case_missing), or C(case_ended) where it was finished, or cut short within an item.
            EngineError: where the container cannot be inspected. One that is gone by now is told of each item.
        """
        directory = os.path.join(evidence_dir(self._state_dir), case_id)
        manifest = read_manifest(directory)
        if manifest.status == COMPLETE or any(item.status == COLLECTING for item in manifest.items):
            raise EvidenceError(
                f"the case {case_id} was finished or cut short", kind="case_ended", remedy="Collect a new one"
            )
        try:
            inspected = self._inspect(manifest.container["id"])
        except NotFound:
            inspected = {}
        limits = Limits(**manifest.limits)
        return Collection(self._engine, directory, manifest, inspected, limits, self._clock)

    def plan(self, container_id: str, kinds: t.Sequence[str], paths: t.Sequence[str] = ()) -> list[Item]:
        """What would be collected, as far as the state of the container tells. Raises as begin does."""
        items = wanted_items(kinds, paths)
        inspected = self._inspect(container_id)
        planned = []
        for item in items:
            reason = without_processes(item, inspected)
            status = UNAVAILABLE if reason else PENDING
            planned.append(dataclasses.replace(item, status=status, reason=reason or left_out(inspected, item)))
        return planned

    def _inspect(self, container_id: str) -> dict[str, t.Any]:
        found = self._engine.inspect_container(container_id)
        if found["Id"] != container_id:
            # Once it is gone, the engine takes a full id for a name, and 64 digits are a valid name (measured).
            raise NotFound(f"no container has the id {container_id[:12]}; it was removed just now")
        return found
