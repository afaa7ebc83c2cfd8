# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.keeping import deleted_with, put
from ansible_collections.ironpost.container_guard.tests import loopback


class Server(loopback.LoopbackServer):
    """Keeps what is put there, in order, and answers with a status."""

    def __init__(self, status: int = 201) -> None:
        self.kept: list[tuple[str, bytes, str | None]] = []
        server = self

        class Handler(loopback.Handler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                server.kept.append((self.path, content, self.headers["Authorization"]))
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

        super().__init__(Handler, "/evidence/web-1")


@pytest.fixture
def case(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "20261124T223010Z-6bc1b4be90d6-a1b2c3"
    directory.mkdir()
    for name in ("manifest.json", "SHA256SUMS", "top.json", "archive-1.tar"):
        (directory / name).write_text(name * 50_000)
    return directory


@pytest.mark.parametrize(("token", "header"), [("", None), ("s3cret", "Bearer s3cret")])
def test_each_file_is_put_and_the_manifest_last(case: pathlib.Path, token: str, header: str | None) -> None:
    with Server() as server:
        assert put(case, server.url + "/", token) == f"{server.url}/{case.name}"
    base = f"/evidence/web-1/{case.name}"
    names = ["SHA256SUMS", "archive-1.tar", "top.json", "manifest.json"]
    assert server.kept == [(f"{base}/{name}", (case / name).read_bytes(), header) for name in names]


@pytest.mark.parametrize("status", [301, 307, 401, 500])
def test_what_is_not_taken_is_told(case: pathlib.Path, status: int) -> None:
    with Server(status) as server, pytest.raises(GuardError, match=f"answered {status} to SHA256SUMS") as raised:
        put(case, server.url, "s3cret")
    assert (raised.value.kind, len(server.kept)) == ("not_sent", 1)
    assert str(case) in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_server_that_is_not_there(case: pathlib.Path) -> None:
    with Server() as server:
        pass
    with pytest.raises(GuardError, match="ConnectionRefusedError"):
        put(case, server.url)


@pytest.mark.parametrize(
    "url",
    ["", "/srv", "ftp://a/b", "https://", "https://a:b:c/", "https://me:s3cret@a/b", "http://a/b?c", "http://a/\r\nb"],
)
def test_what_is_no_url(case: pathlib.Path, url: str) -> None:
    with pytest.raises(GuardError, match="is not where evidence can be put") as raised:
        put(case, url)
    assert raised.value.kind == "invalid_option"
    assert "s3cret" not in str(raised.value)
    assert str(raised.value).isprintable()


def test_what_is_deleted_with_a_job(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"AWX_ISOLATED_DATA_DIR": str(tmp_path / "artifacts/12")}
    assert deleted_with(tmp_path / "project/evidence/web-1", environment) == tmp_path
    assert deleted_with(tmp_path.parent / "evidence", environment) is None
    (tmp_path / "link").symlink_to(tmp_path.parent)
    assert deleted_with(tmp_path / "link/evidence", environment) is None
    # Tests need no rights to mount.
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path / "kept")
    assert deleted_with(tmp_path / "kept/evidence", environment) is None


@pytest.mark.parametrize("value", ["", "artifacts/12", "/"])
def test_outside_of_a_job_nothing_is_deleted(tmp_path: pathlib.Path, value: str) -> None:
    assert deleted_with(tmp_path, {"AWX_ISOLATED_DATA_DIR": value} if value else {}) is None
