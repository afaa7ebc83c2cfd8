# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module module_archive, as far as it runs on the host."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.text import display
from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import (
    COMMANDS,
    DIRECTORY,
    MODULES,
    NAMED,
    OWNER,
    PLUGINS,
    SERVICE,
    SERVICE_DIRECTORY,
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
_PACKAGE = PLUGINS.replace("/", ".")
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
# Nothing of the environment, or of the working directory, becomes code of the service. What it brings goes before what
# the distribution has, in this process alone.
_SERVICE_COMMAND = """#!{python} -I
import sys
sys.path.insert(0, {home!r})
from {package}.plugin_utils._service.main import main
if __name__ == "__main__":
    sys.exit(main())
"""
_SERVICE_NAME = "container-guard"
_OLDEST_PYTHON = (3, 11)
_PROOF = "import sys; print(*sys.version_info[:2], flush=True); import aiohttp"


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "state": {"type": "str", "choices": [PRESENT, ABSENT], "default": PRESENT},
        "archive": {"type": "str", "choices": [MODULES, SERVICE], "default": MODULES},
        "python": {"type": "path"},
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
    of_service = module.params["archive"] == SERVICE
    python = module.params["python"] or sys.executable
    kind, directory = (_Service, SERVICE_DIRECTORY) if of_service else (_Modules, DIRECTORY)
    archives = kind(directory, python, lambda command: module.run_command(command, handle_exceptions=False))
    try:
        if module.params["state"] == ABSENT:
            return archives.remove(module.check_mode)
        return archives.install(module.params["digest"], module.params["content"], module.check_mode)
    except OSError as error:
        raise GuardError(
            f"cannot write {error.filename or DIRECTORY}: {error.strerror}",
            kind="write_failed",
            remedy="Say ansible_become: true, and look at free space. Without an archive modules are sent as ever, and "
            "the host service goes on with the one that it has",
        ) from error


class _Archives:
    """Archives of one kind.

    Args:
        directory: where they are.
        python: by which they run.
        run: runs a command; its exit status, and what it wrote. Raises OSError.
    """

    kept = KEPT
    """How many stay; 0 for all of them."""

    def __init__(self, directory: str, python: str, run: t.Callable[[list[str]], tuple[int, str, str]]) -> None:
        self._directory = directory
        self._python = python
        self._run = run

    def install(self, digest: str, content: str | None, check: bool) -> dict[str, t.Any]:
        """Have one in place. Raises GuardError, OSError."""
        if not _DIGEST.fullmatch(digest):
            raise common.invalid_option("digest is no SHA-256", "Leave it to the action plugin")
        home = os.path.join(self._directory, digest)
        found = {"digest": digest, "path": home, "changed": True, "needed": False}
        _refuse_unsafe(self._directory)
        self._refuse_python()
        if self._whole(home, digest):
            return {**found, "changed": False}
        if check:
            return found
        if content is None:
            return {**found, "changed": False, "needed": True}
        files = _unpacked(content)
        if digest_of(files) != digest:
            raise GuardError("the archive is not what its digest says", kind="invalid_archive", remedy="Try again")
        os.umask(0o022)  # users without root run modules, too, and nobody else writes what they run
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        _refuse_unsafe(self._directory)
        self._write(home, files)
        if self.kept:
            for old in [path for path in self._there() if path != home][self.kept - 1 :]:
                shutil.rmtree(old)
        sync_directory(self._directory)
        return found

    def remove(self, check: bool) -> dict[str, t.Any]:
        """Have none. Raises OSError."""
        there = self._there()
        if not check:
            for path in there:
                shutil.rmtree(path)
            if there:
                _remove_empty(self._directory)
        return {"digest": "", "path": self._directory, "changed": bool(there), "needed": False}

    def commands(self, home: str, files: t.Iterable[str]) -> dict[str, str]:
        """The commands of an archive: their text by their path."""
        raise NotImplementedError

    def _refuse_python(self) -> None:
        """Make sure that the archive runs by this Python. Raises GuardError."""

    def _refuse_unusable(self, directory: str) -> None:
        """Make sure that what is in it can be loaded. Raises GuardError, OSError."""

    def _whole(self, home: str, digest: str) -> bool:
        """Whether the archive is in place, unchanged, and can be run by a Python that is still there."""
        if not os.path.isdir(home):
            return False
        files = {}
        for directory, _names, names in os.walk(home):
            for name in names:
                path = os.path.relpath(os.path.join(directory, name), home)
                if not path.endswith(".pyc") and os.path.dirname(path) != COMMANDS:
                    with open(os.path.join(directory, name), "rb") as file:
                        files[path] = file.read()
        commands = self.commands(home, files)
        return digest_of(files) == digest and all(_text(path) == text for path, text in commands.items())

    def _write(self, home: str, files: t.Mapping[str, bytes]) -> None:
        """Put it in place whole: compiled for its Python, and by one rename."""
        temporary = tempfile.mkdtemp(prefix=TEMPORARY, dir=self._directory)
        try:
            texts = {os.path.relpath(path, home): text.encode() for path, text in self.commands(home, files).items()}
            for path, data in {**files, **texts}.items():
                target = os.path.join(temporary, path)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as file:
                    file.write(data)
                os.chmod(target, 0o755 if path in texts else 0o644)
            # No date of a source is compared when it is loaded. What cannot be compiled is not there compiled.
            command = [self._python, "-I", "-m", "compileall", "-qq", "-r", "20", "-d", home]
            command += ["--invalidation-mode", "unchecked-hash", temporary]
            self._run(command)
            self._refuse_unusable(temporary)
            os.chmod(temporary, 0o755)  # noqa: S103 - there is no secret in it
            if os.path.lexists(home):
                shutil.rmtree(home)
            os.rename(temporary, home)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _there(self) -> list[str]:
        """The directories of archives, and what was left half made, the newest first."""
        names = os.listdir(self._directory) if os.path.isdir(self._directory) else []
        paths = [os.path.join(self._directory, name) for name in names if NAMED.fullmatch(name)]
        return sorted(paths, key=lambda path: os.lstat(path).st_mtime, reverse=True)


class _Modules(_Archives):
    """Those of modules."""

    def commands(self, home: str, files: t.Iterable[str]) -> dict[str, str]:
        """One for each module."""
        names = [match[1] for match in map(_MODULE.fullmatch, files) if match and match[1] != "__init__"]
        return {
            os.path.join(home, COMMANDS, name): _COMMAND.format(
                python=self._python, home=home, package=_PACKAGE, module=name
            )
            for name in names
        }


class _Service(_Archives):
    """Those of the host service. Which of them are in use, and may be used again, is known to the role."""

    kept = 0

    def commands(self, home: str, files: t.Iterable[str]) -> dict[str, str]:  # noqa: ARG002 - it is always the same
        """The one that starts it."""
        text = _SERVICE_COMMAND.format(python=self._python, home=home, package=_PACKAGE)
        return {os.path.join(home, COMMANDS, _SERVICE_NAME): text}

    def _refuse_python(self) -> None:
        wanted = "{}.{}".format(*_OLDEST_PYTHON)
        try:
            status, shown, _errors = self._run([self._python, "-I", "-c", _PROOF])
            version = tuple(int(part) for part in shown.split())
        except (OSError, ValueError):
            raise _no_python(f"there is no Python at {self._python}, and the host service needs {wanted}") from None
        if version < _OLDEST_PYTHON:
            theirs = ".".join(map(str, version))
            raise _no_python(f"{self._python} is Python {theirs}, and the host service needs {wanted} or newer")
        if status:
            raise GuardError(
                f"the package aiohttp, which the host service needs, is not installed for {self._python}",
                kind="aiohttp_missing",
                remedy="Install the package of the distribution, python3-aiohttp, where that is its Python",
            )

    def _refuse_unusable(self, directory: str) -> None:
        # The controller may have a newer Python, and packages that are for that one.
        program = f"import sys; sys.path.insert(0, {directory!r}); import docker, {_PACKAGE}.plugin_utils._service.main"
        command = [self._python, "-I", "-B", "-c", program]
        status, _shown, errors = self._run(command)
        if status:
            said = display((errors.strip().splitlines() or [""])[-1])
            raise GuardError(
                f"{self._python} cannot load the host service: {said}",
                kind="invalid_archive",
                remedy="It brings what is installed on the controller for the Python of Ansible: docker, requests, "
                "urllib3, idna, certifi and charset_normalizer. Install versions there that are for both",
            )


def _no_python(what: str) -> GuardError:
    return GuardError(
        what, kind="python_too_old", remedy="Name a newer one in python (host_service_python of the role)"
    )


def _remove_empty(directory: str) -> None:
    """Remove it, and what is above it up to the one of all archives, as far as there is nothing in them."""
    while not os.listdir(directory):
        os.rmdir(directory)
        if directory == DIRECTORY:
            return
        directory = os.path.dirname(directory)


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


def _refuse_unsafe(directory: str) -> None:
    """Make sure that nobody else could put there what root is going to run. Raises GuardError, OSError."""
    for path in (os.path.realpath(os.path.dirname(DIRECTORY)), DIRECTORY, directory):
        if not os.path.lexists(path):
            continue
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != OWNER or status.st_mode & 0o022:
            raise GuardError(
                f"{path} could be written by others: what is in it would be run by the next task",
                kind="unsafe_directory",
                remedy=f"Look at what is in it, then: rm -r {path}"
                if path in (DIRECTORY, directory)
                else f"Nothing is run from there, and modules are sent. To change that: chown root {path}; "
                f"chmod go-w {path}",
            )
