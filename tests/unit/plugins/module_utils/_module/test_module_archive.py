# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may put on a host what root runs there, and what is run of it."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils import _archive
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import module_archive
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import archive
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._module.commands import run_command

REFUSED = 127


class Host:
    """A host whose controller has a small ansible-core, and one module."""

    def __init__(self, root: pathlib.Path) -> None:
        self.opt = root / "opt"
        self.opt.mkdir(mode=0o755)
        self.directory = self.opt / "container-guard"
        self.core = root / "core"
        self.core.mkdir()
        self.collection = root / "collection"
        (self.collection / "plugins/modules").mkdir(parents=True)
        (self.collection / "plugins/modules/isolation.py").touch()
        self.upgrade("")

    def upgrade(self, content: str) -> None:
        (self.core / "basic.py").write_text(content)
        archive.content.cache_clear()
        archive.digest.cache_clear()

    def install(self, check: bool = False, state: str = "present") -> dict[str, t.Any]:
        params = {"state": state, "archive": "modules", "python": None, "digest": self.digest}
        params["content"] = archive.packed(archive.content(self.core))
        module: t.Any = types.SimpleNamespace(params=params, check_mode=check, run_command=run_command)
        return module_archive.put_in_place(module)

    @property
    def digest(self) -> str:
        return archive.digest(self.core)

    def run(self, command: str = "echo it is run") -> tuple[int, str]:
        """What comes of the command of a module, once that is another one."""
        path = self.directory / self.digest / _archive.COMMANDS / "isolation"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
        line = _archive.command_of(self.digest, "isolation", "GREETING='a b'")
        done = subprocess.run(["/bin/sh", "-c", line], stdout=subprocess.PIPE, check=False, encoding="utf-8")
        return done.returncode, done.stdout.strip()


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    before = os.umask(0o022)
    found = Host(tmp_path)
    monkeypatch.setattr(archive, "COLLECTION", found.collection)
    for place in (_archive, module_archive):
        monkeypatch.setattr(place, "DIRECTORY", str(found.directory))
        monkeypatch.setattr(place, "OWNER", os.geteuid())
    yield found
    os.umask(before)
    archive.content.cache_clear()
    archive.digest.cache_clear()


def test_what_root_put_there_is_run(host: Host) -> None:
    assert host.install()["changed"] is True
    assert host.install()["changed"] is False
    assert host.run('echo "$GREETING"') == (0, "a b")
    assert host.run("exit 3") == (3, "")


def test_what_is_not_there_is_not_run(host: Host) -> None:
    line = _archive.command_of(host.digest, "isolation")
    assert subprocess.run(["/bin/sh", "-c", line], check=False).returncode == REFUSED


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
@pytest.mark.parametrize("above", [True, False])
def test_where_others_could_write_nothing_is_put_or_believed_or_run(host: Host, above: bool, mode: int) -> None:
    host.install()
    unsafe = host.opt if above else host.directory
    unsafe.chmod(mode)
    for check in (True, False):
        with pytest.raises(GuardError) as caught:
            host.install(check)
        assert caught.value.kind == "unsafe_directory"
        assert str(unsafe) in str(caught.value)
    assert host.run() == (REFUSED, "")
    unsafe.chmod(0o755)
    assert host.run() == (0, "it is run")


@pytest.mark.parametrize("above", [True, False])
def test_nor_where_it_belongs_to_somebody_else(host: Host, monkeypatch: pytest.MonkeyPatch, above: bool) -> None:
    host.install()
    assert host.run() == (0, "it is run")
    for place in (_archive, module_archive):
        monkeypatch.setattr(place, "OWNER", 4_000_000)
    if not above:
        shutil.rmtree(host.directory)
    with pytest.raises(GuardError) as caught:
        host.install()
    assert caught.value.kind == "unsafe_directory"
    assert host.run() == (REFUSED, "")


def test_a_link_is_not_followed(host: Host, tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o777)
    host.directory.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o777)
    with pytest.raises(GuardError) as caught:
        host.install()
    assert caught.value.kind == "unsafe_directory"
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert host.run() == (REFUSED, "")


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_whoever_runs_it_everybody_can_read_it_and_root_alone_writes_it(host: Host, mask: int) -> None:
    os.umask(mask)
    host.install()
    top = host.directory
    modes = {path.stat().st_mode & 0o777 for path in (top, *top.rglob("*")) if path.is_dir()}
    assert modes == {0o755}
    assert {path.stat().st_mode & 0o777 for path in top.rglob("*") if path.is_file()} == {0o644, 0o755}


def test_the_new_one_stays_also_where_the_clock_was_set_back(host: Host) -> None:
    for day, content in enumerate(("1", "2")):
        host.upgrade(content)
        os.utime(host.install()["path"], (2**31 + day, 2**31 + day))
    before = host.digest
    host.upgrade("3")
    host.install()
    assert {path.name for path in host.directory.iterdir()} == {before, host.digest}


def test_what_else_is_there_stays(host: Host) -> None:
    (host.directory / "bin").mkdir(parents=True)
    for content in ("1", "2", "3"):
        host.upgrade(content)
        host.install()
    assert len(list(host.directory.iterdir())) == 1 + module_archive.KEPT
    assert host.install(check=True, state="absent")["changed"] is True
    assert host.install(state="absent")["changed"] is True
    assert [path.name for path in host.directory.iterdir()] == ["bin"]
    assert host.install(state="absent")["changed"] is False
    (host.directory / "bin").rmdir()
    host.install()
    host.install(state="absent")
    assert not host.directory.exists()
