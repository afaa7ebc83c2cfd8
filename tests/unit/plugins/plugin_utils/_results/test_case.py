# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of a case, as a host that somebody took over would make it."""

from __future__ import annotations

import io
import pathlib
import tarfile

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.case import unpack
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError


def archive(path: pathlib.Path, *members: tarfile.TarInfo) -> pathlib.Path:
    with tarfile.open(path / "case.tar", "w") as file:
        for member in members:
            member.size = 3 if member.isreg() else 0
            file.addfile(member, io.BytesIO(b"abc"))
    return path / "case.tar"


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


def place(path: pathlib.Path) -> pathlib.Path:
    (path / "place").mkdir()
    return path / "place"


def test_plain_files_are_unpacked(tmp_path: pathlib.Path) -> None:
    unpack(
        archive(tmp_path, member(".", tarfile.DIRTYPE), member("./manifest.json"), member("SHA256SUMS")),
        place(tmp_path),
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / "place").iterdir()} == {
        "manifest.json": b"abc",
        "SHA256SUMS": b"abc",
    }


@pytest.mark.parametrize(
    "bad",
    [
        member("../out"),
        member("/tmp/out"),
        member("a/b"),
        member("..", tarfile.DIRTYPE),
        member("sub", tarfile.DIRTYPE),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "manifest.json"),
        member("pipe", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
        member("a\x1b"),
        member(".hidden"),
        member("manifest.json"),
    ],
    ids=lambda one: repr(one.name),
)
def test_anything_else_is_refused(tmp_path: pathlib.Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(AnswerError):
        unpack(archive(tmp_path, member("manifest.json"), bad), place(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"case.tar", "place"}
    assert {path.name for path in (tmp_path / "place").iterdir()} == {"manifest.json"}


def test_what_is_no_archive(tmp_path: pathlib.Path) -> None:
    (tmp_path / "case.tar").write_bytes(b"abc" * 1000)
    with pytest.raises(AnswerError):
        unpack(tmp_path / "case.tar", place(tmp_path))
