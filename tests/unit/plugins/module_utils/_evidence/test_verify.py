# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every change of a case is found."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence import wanted
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection import Case
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.errors import EvidenceError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Item, Manifest, case_id
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.verify import verify
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import KINDS
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import EVIDENCE, MAX_PATHS


@pytest.fixture
def case(container: str, collector: t.Callable[..., Collector]) -> Case:
    return collector().collect(container, KINDS, ["/etc"])


@pytest.fixture
def directory(case: Case) -> pathlib.Path:
    return pathlib.Path(case.directory)


def rewritten(directory: pathlib.Path, edit: t.Callable[[dict[str, t.Any]], object]) -> None:
    """Change the manifest as it would be spelled."""
    content = json.loads((directory / "manifest.json").read_text())
    edit(content)
    (directory / "manifest.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def test_as_it_was_collected(case: Case) -> None:
    assert verify(case.directory).problems == []
    assert verify(case.directory, case.manifest.sha256).problems == []


def test_by_hand(directory: pathlib.Path) -> None:
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    run = subprocess.run(check, cwd=directory, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines().count("manifest.json: OK") == 1
    assert len(run.stdout.splitlines()) == len(os.listdir(directory)) - 1
    (directory / "logs.txt").write_text("forged\n")
    assert subprocess.run(check, cwd=directory, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("name", ["inspect.json", "top.json", "logs.txt", "archive-1.tar", "export.tar"])
def test_a_file_that_is_changed(directory: pathlib.Path, name: str) -> None:
    data = (directory / name).read_bytes()
    for changed, problem in (
        (data[:-1] + bytes([data[-1] ^ 1]), f"{name} has other content than it had"),
        (data[:-1], f"{name} has {len(data) - 1} bytes, and had {len(data)}"),
        (data + b"\n", f"{name} has {len(data) + 1} bytes, and had {len(data)}"),
        (b"", f"{name} has 0 bytes, and had {len(data)}"),
    ):
        (directory / name).write_bytes(changed)
        assert verify(str(directory)).problems == [problem]
    (directory / name).unlink()
    assert verify(str(directory)).problems == [f"{name} cannot be read: No such file or directory"]


def test_a_file_that_is_a_link_or_a_pipe(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = directory / "logs.txt"
    (tmp_path / "same").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "same")
    assert verify(str(directory)).problems == ["logs.txt cannot be read: Too many levels of symbolic links"]
    path.unlink()
    os.mkfifo(path)
    assert verify(str(directory)).problems == ["logs.txt cannot be read: it is not a regular file"]


def test_a_file_that_is_not_listed(directory: pathlib.Path) -> None:
    (directory / "{{ more }}.txt").write_text("")
    assert verify(str(directory)).problems == ["{ { more }}.txt is not listed"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.update(case_id="other"),
        lambda content: content["container"].update(name="other"),
        lambda content: content["request"].update(reason="none"),
        lambda content: content["items"][0].update(sha256="0" * 64),
        lambda content: content["items"][0].update(reason="x"),
        lambda content: content["items"].pop(),
        lambda content: content["items"].append(content["items"][0]),
        lambda content: content.update(status="collecting"),
    ],
)
def test_a_manifest_that_is_changed(
    case: Case, directory: pathlib.Path, edit: t.Callable[[dict[str, t.Any]], object]
) -> None:
    rewritten(directory, edit)
    assert verify(str(directory)).problems
    assert "manifest.json is another one" in verify(str(directory), case.manifest.sha256).problems[0]


def test_who_changes_all_is_found_by_the_hash_that_is_kept_elsewhere(case: Case, directory: pathlib.Path) -> None:
    forged = b"nothing happened\n"
    (directory / "logs.txt").write_bytes(forged)
    sha256 = hashlib.sha256(forged).hexdigest()
    rewritten(directory, lambda content: content["items"][4].update(bytes=len(forged), sha256=sha256))
    manifest = Manifest.from_json((directory / "manifest.json").read_text())
    (directory / "SHA256SUMS").write_text(manifest.sums())
    assert verify(str(directory)).problems == []
    assert len(verify(str(directory), case.manifest.sha256).problems) == 1


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.update(format=2),
        lambda content: content.pop("items"),
        lambda content: content.update(items=7),
        lambda content: content.update(more=1),
        lambda content: content["items"][0].update(file="../../etc/shadow"),
        lambda content: content["items"][0].update(file="manifest.json"),
        lambda content: content["items"][0].update(file=["logs.txt"]),
        lambda content: content["items"][0].update(more=1),
        lambda content: content["items"][0].pop("kind"),
        lambda content: content.update(request=None),
    ],
)
def test_a_manifest_that_is_none(directory: pathlib.Path, edit: t.Callable[[dict[str, t.Any]], object]) -> None:
    rewritten(directory, edit)
    verification = verify(str(directory))
    assert verification.manifest is None
    assert [problem.startswith("manifest.json is damaged") for problem in verification.problems] == [True]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "[" * 100_000, '{"format": 1}', "\ufeff{}"])
def test_a_manifest_that_is_something_else(directory: pathlib.Path, text: str) -> None:
    (directory / "manifest.json").write_text(text)
    (problem,) = verify(str(directory)).problems
    assert problem.startswith("manifest.json is damaged")


def test_a_manifest_that_is_missing_or_too_large(directory: pathlib.Path) -> None:
    (directory / "manifest.json").write_bytes(b" " * 5_000_000)
    assert verify(str(directory)).problems == ["manifest.json cannot be read: it is larger than 4194304 bytes"]
    (directory / "manifest.json").unlink()
    assert verify(str(directory)).problems == ["manifest.json cannot be read: No such file or directory"]


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("")])
def test_hashes_that_are_missing_or_others(directory: pathlib.Path, change: t.Callable[[pathlib.Path], object]) -> None:
    change(directory / "SHA256SUMS")
    (problem,) = verify(str(directory)).problems
    assert problem.startswith("SHA256SUMS ")


def test_no_such_case(tmp_path: pathlib.Path) -> None:
    with pytest.raises(EvidenceError, match="cannot read the case") as caught:
        verify(str(tmp_path / "none"))
    assert caught.value.kind == "case_missing"


@given(st.text(), st.text())
def test_the_manifest_is_read_back(path: str, reason: str) -> None:
    items = (Item("archive", path, "archive-1.tar", "truncated", reason, 1, "0" * 64), Item("top"))
    manifest = Manifest("id", {"name": reason}, path, "", "", "", {"max_bytes": 1}, items, "now")
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("20261124T223010Z-0123456789ab-a1b2c3", True),
        ("20261124T223010Z-0123456789ab-a1b2c3\n", False),
        ("../20261124T223010Z-0123456789ab-a1b2c3", False),
        ("..", False),
        ("", False),
        (None, False),
    ],
)
def test_case_ids(value: object, valid: bool) -> None:
    assert bool(case_id(value)) is valid


def test_policies_can_ask_for_what_can_be_collected() -> None:
    assert (set(EVIDENCE), MAX_PATHS) == (set(KINDS), wanted.MAX_PATHS)
