# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking the guard off a host."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.removal import remove
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

STATE = ("released/a.json", "locks/actions", "limits.json", "answered.jsonl", "answered.jsonl.1", "mutes.json")
MORE = ("limits.damaged-000000000001", "actions.repeats.json", ".new-x")
RECORDS = ("actions.jsonl", "actions.jsonl.1", "evidence/case/manifest.json")


class Place:
    """A host on which the guard was used."""

    def __init__(self, root: pathlib.Path) -> None:
        self.state, self.etc = root / "lib/container-guard", root / "etc/container-guard"
        self.files = StateDir(str(self.state), str(root / "run"))
        (root / "run").mkdir(mode=0o700)
        for name in (*STATE, *MORE, *RECORDS):
            path = self.state / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x\n")
        self.etc.mkdir(parents=True)
        self.programs = root / "opt/container-guard"
        for name in ("ab" * 32, ".new-x"):
            (self.programs / name).mkdir(parents=True)
            (self.programs / name / "module.py").touch()
        self.policy_sets = [str(self.etc / name) for name in ("policy_set.json", "policy_set.json.previous")]
        for name in self.policy_sets:
            pathlib.Path(name).write_text("{}")

    def isolated(self) -> None:
        (self.state / "isolations").mkdir()
        (self.state / f"isolations/{'ab' * 32}.json").write_text("{}")

    def all(self) -> set[pathlib.Path]:
        return {path for top in (self.state, self.etc, self.programs) for path in top.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Place:
    return Place(tmp_path)


def test_records_stay(place: Place) -> None:
    done = remove(place.files, place.policy_sets, str(place.programs), keep_records=True)
    assert place.all() == {place.state / name for name in RECORDS}
    assert done.kept == [str(place.state / name) for name in ("actions.jsonl", "actions.jsonl.1", "evidence")]
    assert done.left == []
    assert not place.etc.exists()
    assert not place.programs.exists()
    assert place.programs.parent.exists()
    assert remove(place.files, place.policy_sets, str(place.programs), keep_records=True).removed == []


def test_nothing_stays(place: Place) -> None:
    remove(place.files, place.policy_sets, str(place.programs), keep_records=False)
    assert not place.state.exists()
    assert not place.etc.exists()


def test_what_somebody_else_put_there_stays(place: Place) -> None:
    mine = {place.state / "notes.txt", place.etc / "policies.yml", place.programs / "ansible-playbook"}
    for path in mine:
        path.write_text("mine")
    done = remove(place.files, place.policy_sets, str(place.programs), keep_records=False)
    assert done.left == [str(place.programs / "ansible-playbook"), str(place.state / "notes.txt")]
    assert place.all() == mine


def test_a_directory_that_is_none_of_ours_loses_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_text("")
    (tmp_path / "run").mkdir(mode=0o700)
    done = remove(
        StateDir(str(tmp_path), str(tmp_path / "run")),
        [str(tmp_path / "none.json")],
        str(tmp_path / "none"),
        keep_records=False,
    )
    assert (tmp_path / "a/b").exists()
    assert str(tmp_path / "a") in done.left


def test_a_link_is_removed_and_not_what_it_points_to(place: Place, tmp_path: pathlib.Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("")
    (place.state / "isolations").symlink_to(tmp_path / "elsewhere")
    remove(place.files, place.policy_sets, str(place.programs), keep_records=False)
    assert not place.state.exists()
    assert (tmp_path / "elsewhere/file").exists()


@pytest.mark.parametrize("check", [True, False])
def test_while_something_is_isolated_nothing_is_touched(place: Place, check: bool) -> None:
    place.isolated()
    before = place.all()
    with pytest.raises(GuardError) as caught:
        remove(place.files, place.policy_sets, str(place.programs), keep_records=False, check=check)
    assert caught.value.kind == "still_isolated"
    assert place.all() == before


def test_check_mode_says_the_same_and_touches_nothing(place: Place) -> None:
    before = place.all()
    would = remove(place.files, place.policy_sets, str(place.programs), keep_records=False, check=True)
    assert place.all() == before
    assert sorted(would.removed) == sorted(
        remove(place.files, place.policy_sets, str(place.programs), keep_records=False).removed
    )


def test_what_is_kept_in_memory_goes_too(place: Place) -> None:
    memory = pathlib.Path(place.files.fallback)
    memory.mkdir(mode=0o700)
    (memory / "limits.json").write_text("x")
    remove(place.files, place.policy_sets, str(place.programs), keep_records=False)
    assert not memory.exists()
