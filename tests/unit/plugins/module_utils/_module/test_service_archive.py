# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of the host service: all that it needs is in it, and it runs by the Python that was named."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils import _archive
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import module_archive
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import archive
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._module.commands import run_command

LOADED = """
import runpy, sys, json
runpy.run_path(sys.argv[1])
import docker, requests, urllib3, idna, certifi, charset_normalizer
ours = [docker, requests, urllib3, idna, certifi, charset_normalizer]
ansible = [name for name in sys.modules if name.split(".")[0] == "ansible"]
print(json.dumps([[one.__file__ for one in ours], certifi.where(), ansible]))
"""


class Host:
    """A host with a directory for archives of its own."""

    def __init__(self, opt: pathlib.Path) -> None:
        self.directory = opt / "container-guard/service"
        self.python = sys.executable

    def install(self, files: dict[str, bytes], *, check: bool = False, state: str = "present") -> dict[str, t.Any]:
        params = {"state": state, "archive": "service", "python": self.python, "digest": _archive.digest_of(files)}
        module: t.Any = types.SimpleNamespace(
            params={**params, "content": None if check else archive.packed(files)},
            check_mode=check,
            run_command=run_command,
        )
        return module_archive.put_in_place(module)


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    before = os.umask(0o022)
    opt = tmp_path / "opt"
    opt.mkdir(mode=0o755)
    found = Host(opt)
    monkeypatch.setattr(module_archive, "DIRECTORY", str(found.directory.parent))
    monkeypatch.setattr(module_archive, "SERVICE_DIRECTORY", str(found.directory))
    monkeypatch.setattr(module_archive, "OWNER", os.geteuid())
    yield found
    os.umask(before)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")


def test_it_is_whole_and_loads_nothing_of_ansible(host: Host, tmp_path: pathlib.Path) -> None:
    files = archive.service_content()
    done = host.install(files)
    assert (done["changed"], host.install(files)["changed"], host.install(files, check=True)["changed"]) == (
        True,
        False,
        False,
    )
    command = f"{done['path']}/bin/container-guard"
    loaded = run(sys.executable, "-I", "-c", LOADED, command)
    assert loaded.returncode == 0, loaded.stderr
    paths, authorities, ansible = json.loads(loaded.stdout)
    assert all(path.startswith(done["path"] + "/") for path in [*paths, authorities])
    assert pathlib.Path(authorities).is_file()
    assert ansible == []
    config = tmp_path / "service.json"
    config.write_text(json.dumps({"host": "web-1", "intake": {"token": "a-token-of-the-test-suite"}}))
    assert run(command, "check", "--config", str(config)).returncode == 0
    config.write_text(json.dumps({"host": "web-1", "intake": {"tokne": "x"}}))
    assert run(command, "check", "--config", str(config)).returncode == 78


def test_what_is_compiled_for_another_python_is_not_in_it() -> None:
    assert {pathlib.PurePath(path).suffix for path in archive.service_content()} == {".py", ".pem"}
    assert not any("plugins/modules" in path or "/_module/" in path for path in archive.service_content())


def test_one_that_was_changed_is_replaced(host: Host) -> None:
    files = archive.service_content()
    home = host.install(files)["path"]
    for changed in ("docker/__init__.py", "certifi/cacert.pem", "bin/container-guard"):
        path = pathlib.Path(home, changed)
        before = path.read_bytes()
        path.write_bytes(before + b"# not ours\n")
        assert host.install(files, check=True)["changed"] is True
        path.write_bytes(before)
        assert host.install(files, check=True)["changed"] is False
    path.unlink()
    assert host.install(files)["changed"] is True
    assert path.read_bytes() == before


def test_it_does_not_decide_which_of_them_are_old(host: Host) -> None:
    files = archive.service_content()
    paths = [host.install({**files, "which.py": str(number).encode()})["path"] for number in range(3)]
    assert all(os.path.isdir(path) for path in paths)
    assert host.install(files, state="absent")["changed"] is True
    assert not host.directory.parent.exists()
    assert host.install(files, state="absent")["changed"] is False


def test_what_cannot_be_loaded_is_not_put_in_place(host: Host) -> None:
    files = {**archive.service_content(), "docker/__init__.py": b"import a_package_that_is_not_there\n"}
    with pytest.raises(GuardError) as caught:
        host.install(files)
    assert caught.value.kind == "invalid_archive"
    assert "No module named 'a_package_that_is_not_there'" in str(caught.value)
    assert list(host.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("program", "kind", "said"),
    [
        ("echo 3 9; exit 1", "python_too_old", "is Python 3.9, and the host service needs 3.11 or newer"),
        ("echo 3 10", "python_too_old", "is Python 3.10, and the host service needs 3.11 or newer"),
        ("echo 3 11; exit 1", "aiohttp_missing", "aiohttp, which the host service needs, is not installed for"),
        ("echo nonsense", "python_too_old", "there is no Python at"),
    ],
)
def test_a_python_that_will_not_do_is_told_in_one_sentence(
    host: Host, tmp_path: pathlib.Path, program: str, kind: str, said: str
) -> None:
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    host.python = str(python)
    for check in (True, False):
        with pytest.raises(GuardError) as caught:
            host.install({}, check=check)
        assert (caught.value.kind, said in caught.value.message) == (kind, True)
    assert not host.directory.exists()


@pytest.mark.parametrize("version", ["", "5.0.3", "7.0.0"])
def test_an_sdk_that_is_missing_or_too_old_on_the_controller_is_told(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    archive.service_content.cache_clear()

    def installed(name: str) -> str:
        if not version:
            raise archive.importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(archive.importlib.metadata, "version", installed)
    with pytest.raises(GuardError) as caught:
        archive.service_content()
    assert caught.value.kind == "sdk_missing"
    assert "pip install 'docker>=7.1'" in caught.value.remedy
    archive.service_content.cache_clear()
