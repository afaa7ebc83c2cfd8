# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be collected, and within which limits."""

from __future__ import annotations

import dataclasses
import posixpath
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.errors import EvidenceError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Item

ARCHIVE, EXPORT = "archive", "export"
KINDS = ("inspect", "top", "stats", "changes", "logs", EXPORT)
"""What needs nothing but its name. An archive needs its path."""
ORDER = (*KINDS[:-1], ARCHIVE, EXPORT)
"""In which it is collected: what vanishes first and what is cheap come before what is large."""
VOLATILE = ("top", "stats")
"""What only a container that runs or is paused has."""
TARS = (ARCHIVE, EXPORT)
DEFAULT_KINDS = ("inspect", "top", "changes", "logs")
MAX_PATHS = 100
_PATH = re.compile(r"/[^\x00-\x1f\x7f]{0,4095}")


@dataclasses.dataclass(frozen=True)
class Limits:
    """What bounds each item.

    Attributes:
        max_bytes: size of its file.
        log_lines: for C(logs): how many of the last lines.
        item_timeout: seconds after which it is cut.
    """

    max_bytes: int = 100 * 1024 * 1024
    log_lines: int = 10_000
    item_timeout: int = 60


DEFAULT_LIMITS = Limits()
RANGES = {"max_bytes": (64 * 1024, 1024**4), "log_lines": (1, 10_000_000), "item_timeout": (1, 86_400)}
"""Least and greatest value of each limit."""


def wanted_items(kinds: t.Iterable[str], paths: t.Iterable[str] = ()) -> tuple[Item, ...]:
    """The items of a case, each once and in the order in which they are collected.

    Raises:
        EvidenceError: C(invalid_evidence), where there is nothing to collect, or no such thing.
    """
    wanted = list(kinds)
    for kind in wanted:
        if kind not in KINDS:
            raise _invalid(f"{text.display(kind, 80)!r} is not one of {', '.join(KINDS)}")
    archived = list(dict.fromkeys(_normal(path) for path in paths))
    if len(archived) > MAX_PATHS:
        raise _invalid(f"there are {len(archived)} paths, and a case takes up to {MAX_PATHS}")
    items = [Item(kind) for kind in KINDS if kind in wanted] + [Item(ARCHIVE, path) for path in archived]
    if not items:
        raise _invalid("there is nothing to collect")
    return tuple(sorted(items, key=lambda item: ORDER.index(item.kind)))


def _normal(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise _invalid(f"{text.display(path, 80)!r} is not an absolute path without control characters")
    # POSIX leaves the meaning of two leading slashes open, and so does normpath.
    return posixpath.normpath("/" + path.lstrip("/"))


def _invalid(message: str) -> EvidenceError:
    return EvidenceError(message, kind="invalid_evidence", remedy="Nothing was collected")
