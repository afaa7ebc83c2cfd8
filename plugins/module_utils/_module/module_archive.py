# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module module_archive, as far as it runs on the host."""

from __future__ import annotations

import base64
import binascii
import compileall
import io
import os
import py_compile
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import (
    COMMANDS,
    DIRECTORY,
    NAMED,
    OWNER,
    PLUGINS,
    digest_of,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import TEMPORARY, sync_directory
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common

PRESENT, ABSENT = "present", "absent"
KEPT = 2
"""How many archives stay: that of a controller which is not upgraded yet, or of a task that runs, is no less in use."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MODULE = re.compile(re.escape(PLUGINS) + r"/modules/([a-z_]+)\.py")
# What ansible-core does with a module that it sends. The profile exists from 2.19 on.
_COMMAND = """#!{python}
import sys
sys.path[0] = {home!r}
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
from {package}.modules.{module} import main
main()
"""


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "state": {"type": "str", "choices": [PRESENT, ABSENT], "default": PRESENT},
        "digest": {"type": "str"},
        "content": {"type": "str"},
    }


def main() -> None:
    """Entry point."""
    module = common.GuardModule(
        argument_spec=argument_spec(), required_if=[("state", PRESENT, ("digest",))], supports_check_mode=True
    )
    common.run(module, put_in_place)


def put_in_place(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError; then the archives are as they were."""
    try:
        if module.params["state"] == ABSENT:
            return _remove(module.check_mode)
        return _install(module.params["digest"], module.params["content"], module.check_mode)
    except OSError as error:
        raise GuardError(
            f"cannot write {error.filename or DIRECTORY}: {error.strerror}",
            kind="write_failed",
            remedy="Say ansible_become: true, and look at free space. Without the archive modules are sent as ever",
        ) from error


def _install(digest: str, content: str | None, check: bool) -> dict[str, t.Any]:
    if not _DIGEST.fullmatch(digest):
        raise common.invalid_option("digest is no SHA-256", "Leave it to the action plugin")
    home = os.path.join(DIRECTORY, digest)
    found = {"digest": digest, "path": home, "changed": True, "needed": False}
    _refuse_unsafe()
    if _whole(home, digest):
        return {**found, "changed": False}
    if check:
        return found
    if content is None:
        return {**found, "changed": False, "needed": True}
    files = _unpacked(content)
    if digest_of(files) != digest:
        raise GuardError("the archive is not what its digest says", kind="invalid_archive", remedy="Try again")
    os.umask(0o022)  # users without root run modules, too, and nobody else writes what they run
    os.makedirs(DIRECTORY, mode=0o755, exist_ok=True)
    _refuse_unsafe()
    _write(home, files)
    for old in [path for path in _archives() if path != home][KEPT - 1 :]:
        shutil.rmtree(old)
    sync_directory(DIRECTORY)
    return found


def _remove(check: bool) -> dict[str, t.Any]:
    there = _archives()
    if not check:
        for path in there:
            shutil.rmtree(path)
        if there and not os.listdir(DIRECTORY):
            os.rmdir(DIRECTORY)
    return {"digest": "", "path": DIRECTORY, "changed": bool(there), "needed": False}


def _whole(home: str, digest: str) -> bool:
    """Whether the archive is in place, unchanged, and can be run by a Python that is still there."""
    if not os.path.isdir(home):
        return False
    files = {}
    for directory, _names, names in os.walk(home):
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), home)
            if path.endswith(".py"):
                with open(os.path.join(directory, name), "rb") as file:
                    files[path] = file.read()
    commands = _commands(home, files)
    return digest_of(files) == digest and all(_text(path) == text for path, text in commands.items())


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _unpacked(content: str) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(content, validate=True)), mode="r:gz") as archive:
            for entry in archive:
                data = archive.extractfile(entry) if entry.isreg() else None
                if data is None or entry.name.startswith("/") or ".." in entry.name.split("/"):
                    raise common.invalid_option("content is no archive of modules", "Leave it to the action plugin")
                files[entry.name] = data.read()
    except (binascii.Error, tarfile.TarError, EOFError, OSError) as error:
        raise common.invalid_option(f"content is no archive: {error}", "Leave it to the action plugin") from error
    return files


def _refuse_unsafe() -> None:
    """Make sure that nobody else could put there what root is going to run. Raises GuardError, OSError."""
    for path in (os.path.realpath(os.path.dirname(DIRECTORY)), DIRECTORY):
        if not os.path.lexists(path):
            continue
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != OWNER or status.st_mode & 0o022:
            raise GuardError(
                f"{path} could be written by others: what is in it would be run by the next task",
                kind="unsafe_directory",
                remedy=f"Look at what is in it, then: rm -r {path}"
                if path == DIRECTORY
                else f"Nothing is run from there, and modules are sent. To change that: chown root {path}; "
                f"chmod go-w {path}",
            )


def _write(home: str, files: t.Mapping[str, bytes]) -> None:
    """Put it in place whole: compiled for this Python, and by one rename."""
    temporary = tempfile.mkdtemp(prefix=TEMPORARY, dir=DIRECTORY)
    try:
        texts = {os.path.relpath(path, home): text.encode() for path, text in _commands(home, files).items()}
        for path, data in {**files, **texts}.items():
            target = os.path.join(temporary, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(data)
            os.chmod(target, 0o755 if path in texts else 0o644)
        # No date of a source is compared when it is loaded.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(temporary, maxlevels=20, ddir=home, quiet=2, invalidation_mode=mode)
        os.chmod(temporary, 0o755)  # noqa: S103 - there is no secret in it
        if os.path.lexists(home):
            shutil.rmtree(home)
        os.rename(temporary, home)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _commands(home: str, files: t.Iterable[str]) -> dict[str, str]:
    """The commands of an archive: their text by their path."""
    names = [match[1] for match in map(_MODULE.fullmatch, files) if match and match[1] != "__init__"]
    package = PLUGINS.replace("/", ".")
    return {
        os.path.join(home, COMMANDS, name): _COMMAND.format(
            python=sys.executable, home=home, package=package, module=name
        )
        for name in names
    }


def _archives() -> list[str]:
    """The directories of archives, and what was left half made, the newest first."""
    names = os.listdir(DIRECTORY) if os.path.isdir(DIRECTORY) else []
    paths = [os.path.join(DIRECTORY, name) for name in names if NAMED.fullmatch(name)]
    return sorted(paths, key=lambda path: os.lstat(path).st_mtime, reverse=True)
