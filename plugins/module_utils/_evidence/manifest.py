# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest of a case: what was collected, what was not and why, and by which hashes it can be recognised."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

FORMAT = 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
COLLECTING, COMPLETE = "collecting", "complete"
PENDING, COLLECTED, TRUNCATED, UNAVAILABLE, FAILED = "pending", "collected", "truncated", "unavailable", "failed"
KEPT = (COLLECTED, TRUNCATED)

_CASE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}-[0-9a-f]{6}", re.ASCII)
_FILE = re.compile(r"(?:inspect|top|stats|changes)\.json|logs\.txt|export\.tar|archive-\d{1,4}\.tar", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Item:
    """One piece of evidence.

    Attributes:
        kind: C(inspect), C(top), C(stats), C(changes), C(logs), C(archive) or C(export).
        path: for C(archive): the path in the container.
        file: its file in the directory of the case; empty where there is none.
        status: C(pending), C(collecting), then C(collected), C(truncated) where a limit cut it, C(unavailable) where
            the container in its state has none, or C(failed). What a failed one had by then is kept.
        reason: why it is not whole, or what it cannot hold.
        bytes: size of the file.
        sha256: hash of the file.
        started: when the engine was asked, RFC 3339.
        ended: when its last byte was on disk.
    """

    kind: str
    path: str = ""
    file: str = ""
    status: str = PENDING
    reason: str = ""
    bytes: int = 0
    sha256: str = ""
    started: str = ""
    ended: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.path}".rstrip()

    @property
    def shortcoming(self) -> str:
        """What it is not, or what it cannot hold, for people; empty where it is whole."""
        return text.display(f"{self}: {self.status}, {self.reason}") if self.reason else ""


@dataclasses.dataclass(frozen=True)
class Request:
    """Why evidence is collected: texts that are inert, or empty."""

    reason: str = ""
    trace_id: str = ""
    alert_id: str = ""
    policy_id: str = ""


UNSTATED = Request()


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The record of a case.

    Attributes:
        case_id: name of the directory.
        status: C(collecting) until all items are done: what is left so was interrupted. Then C(complete).
        container: its id, name and image.
        state: what it did when the collection began: C(running), C(paused), C(exited) and so on.
        host: inventory name of the host, or its own.
        engine: version of the engine.
        api: version of its API.
        request: why.
        limits: what bounded the collection, by option.
        items: in the order in which they are collected.
        started: when the collection began, RFC 3339.
        ended: when it was complete, or empty.
    """

    case_id: str
    container: t.Mapping[str, str]
    state: str
    host: str
    engine: str
    api: str
    limits: t.Mapping[str, int]
    items: tuple[Item, ...]
    started: str
    request: Request = UNSTATED
    status: str = COLLECTING
    ended: str = ""

    def to_json(self) -> str:
        """The content of the file."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, content: str) -> Manifest:
        """What to_json wrote. Raises ValueError, KeyError, TypeError or AttributeError where it is something else."""
        values = json.loads(content)
        if values.pop("format") != FORMAT:
            raise ValueError(f"this version of the collection reads format {FORMAT}")
        manifest = cls(
            **{
                **values,
                "items": tuple(Item(**item) for item in values["items"]),
                "request": Request(**values["request"]),
            }
        )
        for item in manifest.items:
            if item.file and not _FILE.fullmatch(item.file):
                raise ValueError("an item has a file that is no evidence")
        if manifest.to_json() != content:
            raise ValueError("it is not spelled as it was written")
        return manifest

    def sums(self) -> str:
        """The hashes of all files, this one included, as C(sha256sum --check) reads them."""
        lines = [f"{item.sha256}  {item.file}\n" for item in self.items if item.file]
        return "".join([*lines, f"{self.sha256}  {MANIFEST}\n"])

    @property
    def sha256(self) -> str:
        """Hash of the file. Kept elsewhere, it shows whether somebody changed the manifest."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def case_id(value: object) -> str:
    """The id of a case, else C("")."""
    return value if isinstance(value, str) and _CASE_ID.fullmatch(value) else ""
