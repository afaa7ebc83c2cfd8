# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import payload
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.payload import Payload

NAME = "ansible_collections.ironpost.container_guard.plugins.modules.isolation-ZIP_DEFLATED-none"


@dataclasses.dataclass
class Controller:
    """Runs of ansible-playbook by one user, each of which builds what it does not find."""

    root: pathlib.Path
    version: str = "2.21"
    runs: int = 0

    @property
    def kept(self) -> pathlib.Path:
        return self.root / "home" / "container_guard"

    @property
    def source(self) -> pathlib.Path:
        return self.root / "collection" / "plugins" / "module_utils" / "_text.py"

    def run(self) -> str:
        """What was sent."""
        self.runs += 1
        built = self.root / f"run-{self.runs}" / "ansiballz_cache"
        with Payload("isolation", self.kept, built, [self.root / "overlay"], self.version):
            if not (built / NAME).exists():
                built.mkdir(parents=True)
                (built / NAME).write_text(f"built by run {self.runs}")
                (built / f"{NAME}.lock").touch()
            return (built / NAME).read_text()


@pytest.fixture
def controller(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Controller:
    found = Controller(tmp_path)
    for path in (found.source, tmp_path / "collection/plugins/modules/isolation.py"):
        path.parent.mkdir(parents=True)
        path.touch()
    monkeypatch.setattr(payload, "COLLECTION", tmp_path / "collection")
    return found


def test_the_next_run_sends_what_the_last_one_built(controller: Controller) -> None:
    assert [controller.run() for _ in range(3)] == ["built by run 1"] * 3
    assert [path.name.partition("-")[2] for path in controller.kept.iterdir()] == [NAME]


def test_what_has_changed_is_built_anew_and_replaces_what_was_kept(controller: Controller) -> None:
    controller.run()
    controller.source.write_text("changed")
    assert [controller.run() for _ in range(2)] == ["built by run 2"] * 2
    controller.version = "2.22"
    assert [controller.run() for _ in range(2)] == ["built by run 4"] * 2
    (controller.root / "overlay").mkdir()
    (controller.root / "overlay" / "basic.py").touch()
    assert [controller.run() for _ in range(2)] == ["built by run 6"] * 2
    assert len(list(controller.kept.iterdir())) == 1


def test_what_another_task_of_the_run_has_built_is_not_kept(controller: Controller) -> None:
    def upgraded() -> None:
        controller.source.write_text("changed")

    built = controller.root / "run" / "ansiballz_cache"
    for version in ("old", "new"):
        with Payload("isolation", controller.kept, built, [], "2.21"):
            if not (built / NAME).exists():
                built.mkdir(parents=True)
                (built / NAME).write_text(version)
        upgraded()
    assert controller.run() == "built by run 1"


def test_what_changes_while_it_is_built_is_not_kept(controller: Controller) -> None:
    built = controller.root / "run" / "ansiballz_cache"
    with Payload("isolation", controller.kept, built, [controller.root / "overlay"], "2.21"):
        built.mkdir(parents=True)
        (built / NAME).write_text("neither old nor new")
        controller.source.write_text("changed")
    assert controller.run() == "built by run 1"


def test_what_others_may_have_written_is_not_sent(controller: Controller) -> None:
    controller.run()
    controller.kept.chmod(0o770)
    assert controller.run() == "built by run 2"
    controller.kept.chmod(0o700)
    assert controller.run() == "built by run 1"
    elsewhere = controller.root / "elsewhere"
    controller.kept.rename(elsewhere)
    controller.kept.symlink_to(elsewhere)
    assert controller.run() == "built by run 4"


def test_others_may_not_read_what_is_kept(controller: Controller) -> None:
    controller.run()
    assert controller.kept.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_used_costs_nothing_but_time(controller: Controller) -> None:
    (controller.root / "home").touch()
    assert [controller.run() for _ in range(2)] == ["built by run 1", "built by run 2"]


def test_files_of_another_module_are_left(controller: Controller) -> None:
    controller.run()
    other = (
        controller.kept / "digest-ansible_collections.ironpost.container_guard.plugins.modules.evidence-ZIP_DEFLATED"
    )
    other.touch()
    controller.source.write_text("changed")
    controller.run()
    assert other.exists()
    assert len(os.listdir(controller.kept)) == 2
