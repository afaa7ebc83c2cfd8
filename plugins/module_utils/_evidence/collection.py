# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One case while it is filled."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine, Pieces
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.case_files import (
    RESERVE,
    EvidenceFile,
    store,
    store_sums,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.json_text import readable
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import (
    COLLECTED,
    COLLECTING,
    COMPLETE,
    FAILED,
    KEPT,
    TRUNCATED,
    UNAVAILABLE,
    Item,
    Manifest,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.mounts import left_out
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import (
    ARCHIVE,
    EXPORT,
    ORDER,
    TARS,
    VOLATILE,
    Limits,
)

_SUFFIXES = {"logs": "txt", ARCHIVE: "tar", EXPORT: "tar"}
_WITH_PROCESSES = ("running", "paused")
_PROGRESS_INTERVAL = 1.0
"""Seconds between two versions of the manifest while one item grows."""
_CONFLICT, _NOT_IMPLEMENTED = 409, 501


class Case(t.NamedTuple):
    """Evidence on disk.

    Attributes:
        directory: of the case.
        manifest: what is in it.
        problem: why the manifest on disk is not this one, or empty.
    """

    directory: str
    manifest: Manifest
    problem: str

    @property
    def kept(self) -> bool:
        """Whether anything was collected."""
        return any(item.status in KEPT for item in self.manifest.items)

    @property
    def shortcomings(self) -> list[str]:
        """What is not there or not whole, and why."""
        return [one for one in (*(item.shortcoming for item in self.manifest.items), self.problem) if one]


class Collection:
    """A case that is being filled. Collector.begin makes one.

    Between C(take) and C(finish) the container may be paused, stopped or removed: each item says what became of it.
    """

    def __init__(
        self,
        engine: Engine,
        directory: str,
        manifest: Manifest,
        inspected: dict[str, t.Any],
        limits: Limits,
        clock: t.Callable[[], float],
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._manifest = manifest
        self._inspected = inspected
        self._limits = limits
        self._clock = clock
        self._stored_at = clock()

    @property
    def case_id(self) -> str:
        """Id of the case, by which Collector.resume goes on with it."""
        return self._manifest.case_id

    def take(self, kinds: t.Container[str] = ORDER) -> None:
        """Collect the items of these kinds that were not collected yet."""
        for index, item in enumerate(self._manifest.items):
            if item.kind in kinds and not item.started:
                self._take(index, item)

    def finish(self) -> Case:
        """Collect what is left, and close the case."""
        self.take()
        complete = dataclasses.replace(self._manifest, status=COMPLETE, ended=timestamp.now())
        try:
            store_sums(self._directory, complete)
            store(self._directory, complete)
        except OSError as error:
            return Case(self._directory, self._manifest, f"its manifest cannot be written: {error.strerror}")
        return Case(self._directory, complete, "")

    def _take(self, index: int, item: Item) -> None:
        number = sum(other.kind == ARCHIVE for other in self._manifest.items[: index + 1])
        stem = f"{ARCHIVE}-{number}" if item.kind == ARCHIVE else item.kind
        item = dataclasses.replace(
            item, status=COLLECTING, file=f"{stem}.{_SUFFIXES.get(item.kind, 'json')}", started=timestamp.now()
        )
        self._show(index, item)
        try:
            with EvidenceFile(self._directory, item.file) as file:
                item = self._filled(file, index, item)
        except OSError as error:
            item = dataclasses.replace(item, file="", status=FAILED, reason=_not_written(error))
        self._show(index, dataclasses.replace(item, ended=timestamp.now()))

    def _filled(self, file: EvidenceFile, index: int, item: Item) -> Item:
        """The item with all that the engine gives, and what became of it."""
        try:
            status, reason = self._fill(file, index, item)
        except EngineError as error:
            status, reason = _explained(item, error)
        except OSError as error:
            status, reason = FAILED, _not_written(error)
        except Exception as error:  # a defect of the guard must not cost the other items
            status, reason = FAILED, f"internal error: {error!r}"
        item = dataclasses.replace(item, status=status, reason=text.display(reason))
        if status not in KEPT and not file.size:
            file.discard()
            return dataclasses.replace(item, file="")
        item = dataclasses.replace(item, bytes=file.size, sha256=file.sha256)
        try:
            file.keep()
        except OSError as error:
            return dataclasses.replace(item, status=FAILED, reason=_not_written(error))
        return item

    def _fill(self, file: EvidenceFile, index: int, item: Item) -> tuple[str, str]:
        """Write what the engine sends, up to a limit; the status of the item, and its reason."""
        if item.kind in VOLATILE:
            reason = without_processes(item, self._engine.inspect_container(self._manifest.container["id"]))
            if reason:
                return UNAVAILABLE, reason
        deadline = self._clock() + self._limits.item_timeout
        with contextlib.closing(self._pieces(item)) as pieces:
            for piece in pieces if item.kind in (*TARS, "logs") else readable(pieces):
                if self._clock() > deadline:
                    return TRUNCATED, f"cut after {self._limits.item_timeout} seconds (item_timeout)"
                room = self._limits.max_bytes - file.size
                space = file.free() - RESERVE
                file.write(piece[: max(0, min(room, space))])
                if len(piece) > room:
                    newest = (
                        "; what is missing is the newest, so ask for fewer log_lines" if item.kind == "logs" else ""
                    )
                    return TRUNCATED, f"cut at {self._limits.max_bytes} bytes (max_bytes){newest}"
                if len(piece) > space:
                    return TRUNCATED, f"cut, as a collection leaves {RESERVE} bytes of the file system free"
                if self._clock() - self._stored_at >= _PROGRESS_INTERVAL:
                    self._show(index, dataclasses.replace(item, bytes=file.size))
        if item.kind in TARS and not file.ends_as_tar:
            # What goes wrong in the engine after it has begun to answer is no error of HTTP.
            return FAILED, "the engine ended the archive before its end"
        return COLLECTED, left_out(self._inspected, item)

    def _pieces(self, item: Item) -> Pieces:
        """What the engine has to say."""
        container_id = self._manifest.container["id"]
        if item.kind == "top":
            return self._engine.top(container_id)
        if item.kind == "stats":
            return self._engine.stats(container_id)
        if item.kind == "changes":
            return self._engine.changed_files(container_id)
        if item.kind == "logs":
            return self._engine.logs(container_id, self._limits.log_lines)
        if item.kind == ARCHIVE:
            return self._engine.archive(container_id, item.path)
        if item.kind == EXPORT:
            return self._engine.export(container_id)
        return _once(json.dumps(self._inspected).encode("ascii"))

    def _show(self, index: int, item: Item) -> None:
        """Let the manifest say how far the item is. Where it cannot, the end of the collection says so."""
        items = self._manifest.items
        self._manifest = dataclasses.replace(self._manifest, items=(*items[:index], item, *items[index + 1 :]))
        with contextlib.suppress(OSError):
            store(self._directory, self._manifest)
        self._stored_at = self._clock()


def status_of(inspected: t.Mapping[str, t.Any]) -> str:
    """C(running), C(paused), C(exited) and so on."""
    return text.display((inspected.get("State") or {}).get("Status")) or "unknown"


def without_processes(item: Item, inspected: t.Mapping[str, t.Any]) -> str:
    """Why there is no such evidence of a container in this state, or empty."""
    status = status_of(inspected)
    # Of a stopped one the engine answers stats with zeros, as if it did nothing (measured).
    if item.kind not in VOLATILE or status in _WITH_PROCESSES:
        return ""
    return f"the container is {status}, so it has no processes"


def _explained(item: Item, error: EngineError) -> tuple[str, str]:
    """What an answer of the engine means for an item."""
    if isinstance(error, NotFound):
        if item.kind == ARCHIVE and "No such container" not in error.message:
            return UNAVAILABLE, "the container has no such path"
        return UNAVAILABLE, "the container no longer exists"
    if error.status == _NOT_IMPLEMENTED and item.kind == "logs":
        return UNAVAILABLE, "its logging driver keeps no logs that the engine can read"
    if error.status == _CONFLICT and item.kind in VOLATILE:
        return UNAVAILABLE, error.message
    return FAILED, str(error)


def _not_written(error: OSError) -> str:
    return f"it cannot be written: {error.strerror}"


def _once(content: bytes) -> Pieces:
    yield content
