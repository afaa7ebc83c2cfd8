# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archives of modules and of the host service, as the controller makes them: see module_utils/_archive.py."""

from __future__ import annotations

import base64
import functools
import importlib.metadata
import importlib.util
import io
import os
import pathlib
import sys
import tarfile
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import PLUGINS, digest_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError

COLLECTION = pathlib.Path(__file__).absolute().parents[3]
# A third of what ansible-core has for modules, and nothing that ours import.
_UNUSED = ("facts", "csharp", "powershell", "__pycache__")
# What the host service is made of, beside what modules use, and the docker SDK with all that it needs.
_OF_THE_SERVICE = ("_intake", "_records", "_results", "_service")
_SDK = ("certifi", "charset_normalizer", "docker", "idna", "requests", "urllib3")
_OLDEST_SDK = (7, 1)


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
    return _as_packages(found)


@functools.cache
def service_content() -> dict[str, bytes]:
    """The files of the archive of the host service, by their paths in it: no ansible-core, and a docker SDK.

    Raises GuardError (C(sdk_missing)) where the Python that runs this has no SDK to give away; OSError.
    """
    found = _sources(COLLECTION / "plugins/module_utils", f"{PLUGINS}/module_utils", without=("_module", "__pycache__"))
    for name in _OF_THE_SERVICE:
        found.update(_sources(COLLECTION / "plugins/plugin_utils" / name, f"{PLUGINS}/plugin_utils/{name}"))
    for name in _SDK:
        # What is compiled for the Python of the controller stays there: each of them works without.
        found.update(_sources(_installed(name), name, ends=(".py", ".pem")))
    return _as_packages(found)


@functools.cache
def digest(core: pathlib.Path) -> str:
    """What names the archive of modules: 64 hexadecimal digits. Raises OSError."""
    return digest_of(content(core))


def packed(files: t.Mapping[str, bytes]) -> str:
    """An archive as it is sent: a compressed tar, in base64.

    Args:
        files: their content by their paths in the archive.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return base64.b64encode(file.getvalue()).decode()


def _as_packages(files: t.Mapping[str, bytes]) -> dict[str, bytes]:
    """The same, where each directory can be imported."""
    directories = {path.rpartition("/")[0] for path in files}
    packages = {directory[:end] for directory in directories for end in _ends(directory)}
    return {**{f"{package}/__init__.py": b"" for package in packages}, **files}


def _installed(name: str) -> pathlib.Path:
    """Where a package of the docker SDK is installed on the controller. Raises GuardError."""
    try:
        version = importlib.metadata.version("docker")
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError of one that was loaded in a strange way
        version, spec = "", None
    if spec is None or not spec.origin or not version:
        raise _sdk_missing(f"the package {name}, which the host service takes with it, is not installed")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < _OLDEST_SDK:
        raise _sdk_missing(f"the docker SDK {version} is too old for the host service to take it with it")
    return pathlib.Path(spec.origin).parent


def _sdk_missing(what: str) -> GuardError:
    wanted = ".".join(map(str, _OLDEST_SDK))
    return GuardError(
        f"{what} (on the controller, for {sys.executable})",
        kind="sdk_missing",
        remedy=f"On the controller: {sys.executable} -m pip install 'docker>={wanted}'",
    )


def _ends(path: str) -> list[int]:
    """Where the directories end that lead to it, and itself."""
    return [place for place, letter in enumerate(f"{path}/") if letter == "/"]


def _sources(
    top: pathlib.Path, prefix: str, without: t.Container[str] = (), ends: tuple[str, ...] = (".py",)
) -> dict[str, bytes]:
    # Not by Path.rglob, which takes longer than all the rest: this is done for every alert.
    found = {}
    for directory, names, files in os.walk(top):
        names[:] = [name for name in names if name not in without]
        place = prefix + directory[len(str(top)) :]
        for name in files:
            if name.endswith(ends):
                with open(f"{directory}/{name}", "rb") as file:
                    found[f"{place}/{name}"] = file.read()
    return found
