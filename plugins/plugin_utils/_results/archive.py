# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of modules, as the controller makes it: see module_utils/_archive.py."""

from __future__ import annotations

import base64
import functools
import io
import os
import pathlib
import tarfile
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import PLUGINS, digest_of

COLLECTION = pathlib.Path(__file__).absolute().parents[3]
# A third of what ansible-core has for modules, and nothing that ours import.
_UNUSED = ("facts", "csharp", "powershell", "__pycache__")


@functools.cache
def content(core: pathlib.Path) -> dict[str, bytes]:
    """The files of the archive, by their paths in it. Raises OSError.

    Args:
        core: directory of ansible.module_utils.
    """
    found = {
        **_sources(core, "ansible/module_utils", without=_UNUSED),
        **_sources(COLLECTION / "plugins/modules", f"{PLUGINS}/modules"),
        **_sources(COLLECTION / "plugins/module_utils", f"{PLUGINS}/module_utils"),
    }
    directories = {path.rpartition("/")[0] for path in found}
    packages = {directory[:end] for directory in directories for end in _ends(directory)}
    return {**{f"{package}/__init__.py": b"" for package in packages}, **found}


@functools.cache
def digest(core: pathlib.Path) -> str:
    """What names the archive: 64 hexadecimal digits. Raises OSError."""
    return digest_of(content(core))


def packed(core: pathlib.Path) -> str:
    """The archive as it is sent: a compressed tar, in base64. Raises OSError."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path, data in sorted(content(core).items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return base64.b64encode(file.getvalue()).decode()


def _ends(path: str) -> list[int]:
    """Where the directories end that lead to it, and itself."""
    return [place for place, letter in enumerate(f"{path}/") if letter == "/"]


def _sources(top: pathlib.Path, prefix: str, without: t.Container[str] = ()) -> dict[str, bytes]:
    # Not by Path.rglob, which takes longer than all the rest: this is done for every alert.
    found = {}
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name not in without]
        place = prefix + directory[len(str(top)) :]
        for name in files:
            if name.endswith(".py"):
                with open(f"{directory}/{name}", "rb") as file:
                    found[f"{place}/{name}"] = file.read()
    return found
