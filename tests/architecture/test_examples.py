# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The example project for AWX goes with the playbooks of the collection, and asks by what they take."""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.cases import check_cases
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.load import load_policies
from ansible_collections.ironpost.container_guard.tests.extended.awx import problem_of_survey

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
PROJECT = REPOSITORY / "examples/awx-project"
SURVEYS = sorted((PROJECT / "surveys").iterdir())
OF_ITS_OWN = {"awx_setup", "job_templates", "kill", "release_denied"}
EVENTS_ONLY = {"unanswered", "fleet_report", "isolated_evidence", "isolated_hunt"}


def plays(path: pathlib.Path) -> t.Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_there_is_a_wrapper_and_a_survey_for_each_playbook() -> None:
    playbooks = {path.stem for path in (REPOSITORY / "playbooks").glob("*.yml")}
    wrappers = {path.stem for path in PROJECT.glob("*.yml")} - OF_ITS_OWN
    assert wrappers == playbooks
    for name in wrappers:
        (play,) = plays(PROJECT / f"{name}.yml")
        assert play["ansible.builtin.import_playbook"] == f"ironpost.container_guard.{name}"
    assert {path.stem for path in SURVEYS} == playbooks - EVENTS_ONLY
    listed = [one["playbook"] for one in plays(PROJECT / "job_templates.yml")["awx_job_templates"]]
    assert sorted(listed) == sorted(wrappers | {"kill", "release_denied"})


@pytest.mark.parametrize("path", SURVEYS, ids=lambda path: path.stem)
def test_a_survey_asks_by_what_its_playbook_takes(path: pathlib.Path) -> None:
    survey = json.loads(path.read_text(encoding="utf-8"))
    assert problem_of_survey(survey) == ""
    # The role takes its variables by itself.
    role = (REPOSITORY / "roles/policies/tasks/main.yml").read_text(encoding="utf-8")
    playbook = (REPOSITORY / "playbooks" / path.with_suffix(".yml").name).read_text(encoding="utf-8")
    action = (REPOSITORY / "plugins/plugin_utils/_results/controller.py").read_text(encoding="utf-8")
    read = {"deploy_policies": playbook + role, "rollback": "guard_target", "respond": playbook + action}.get(
        path.stem, playbook
    )
    for question in survey["spec"]:
        assert re.search(rf"\b{question['variable']}\b", read), question
        assert question["default"] == "", "what is left blank is decided by the collection"
        # AWX does not launch the job of a rulebook where a required answer is missing.
        assert not (question["required"] and path.stem == "respond")


def test_its_policies_pass_their_tests() -> None:
    loaded = load_policies(PROJECT / "policies")
    assert not loaded.warnings
    assert check_cases(PROJECT / "policies", loaded.policy_set).passed > 0
