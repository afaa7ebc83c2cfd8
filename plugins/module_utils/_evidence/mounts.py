# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the engine leaves out of an archive or an export, without saying so (measured)."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Item
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import ARCHIVE, EXPORT

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a path in containers, nothing is written there


def left_out(inspected: t.Mapping[str, t.Any], item: Item) -> str:
    """What the item cannot hold, or empty.

    Args:
        inspected: the container.
        item: C(archive) reads volumes and sees the directories of tmpfs empty; C(export) sees both empty.
    """
    mounts = {mount["Destination"]: mount.get("Type", "") for mount in inspected.get("Mounts") or ()}
    tmpfs = {path for path, kind in mounts.items() if kind == "tmpfs"}
    tmpfs |= set((inspected.get("HostConfig") or {}).get("Tmpfs") or ())
    if item.kind == EXPORT:
        missing = set(mounts) | tmpfs
    elif item.kind == ARCHIVE:
        missing = {path for path in tmpfs | {_SHARED_MEMORY} if _within(path, item.path) or _within(item.path, path)}
    else:
        missing = set()
    return "without what is mounted at {}".format(", ".join(sorted(missing))) if missing else ""


def _within(path: str, directory: str) -> bool:
    return (path + "/").startswith(directory.rstrip("/") + "/")
