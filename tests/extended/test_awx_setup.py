# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook that sets AWX up, with the real modules of awx.awx and a stand-in for AWX."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from ansible_collections.ironpost.container_guard.tests.extended.awx import Awx
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS

PROJECT = pathlib.Path(__file__).absolute().parents[2] / "examples/awx-project"
AWX_COLLECTION = COLLECTIONS.parent / "awx"
"""Where C(tools/setup.sh awx) puts it."""
SETTINGS = {
    **dict.fromkeys(("ask_variables_on_launch", "ask_limit_on_launch", "allow_simultaneous", "become_enabled"), True),
    "job_slice_count": 1,
}


def run(awx: Awx, directory: pathlib.Path) -> str:
    assert (AWX_COLLECTION / "ansible_collections/awx/awx/MANIFEST.json").exists(), "Use: tools/setup.sh awx"
    variables = {
        "awx_project_url": "https://git.example.com/guard.git",
        "awx_image": "registry.example.com/container-guard-ee:1",
        "awx_ssh_key_file": str(directory / "key"),
        "awx_evidence_dest": "/evidence",
    }
    (directory / "key").write_text("a key\n")
    done = subprocess.run(
        [
            pathlib.Path(sys.executable).parent / "ansible-playbook",
            PROJECT / "awx_setup.yml",
            "-e",
            json.dumps(variables),
        ],
        check=False,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}{os.pathsep}{AWX_COLLECTION}",
            "ANSIBLE_NOCOLOR": "1",
            "CONTROLLER_HOST": awx.url,
            "CONTROLLER_OAUTH_TOKEN": awx.token,
        },
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_first_run_makes_everything_and_the_second_nothing(tmp_path: pathlib.Path) -> None:
    with Awx() as awx:
        run(awx, tmp_path)
        made = len(awx.changes)
        assert made
        assert "changed=0" in run(awx, tmp_path)
        assert awx.changes[made:] == []

    templates = awx.named("job_templates")
    assert {"Container guard: respond", "Container guard: unanswered"} <= templates.keys()  # as the rulebooks call them
    for name, template in templates.items():
        assert {key: template[key] for key in SETTINGS} == SETTINGS
        assert (PROJECT / template["playbook"]).is_file()
        survey = PROJECT / "surveys" / f"{pathlib.PurePath(template['playbook']).stem}.json"
        assert template["survey_enabled"] is survey.exists()
        if survey.exists():
            assert awx.survey(name) == json.loads(survey.read_text())
        for what in ("credentials", "labels"):
            assert len(awx.associated("job_templates", template["id"], what)) == 1
    surveys = {f"Container guard: {path.stem}" for path in (PROJECT / "surveys").iterdir()}
    assert surveys <= templates.keys()
    (project,) = awx.named("projects").values()
    assert (project["allow_override"], project["scm_update_on_launch"]) == (True, False)
    assert awx.associated("organizations", 1, "galaxy_credentials") == [
        awx.named("credentials")["Ansible Galaxy"]["id"]
    ]
    (source,) = awx.named("inventory_sources").values()
    assert (PROJECT / source["source_path"]).is_file()
    evidence = json.loads(templates["Container guard: collect_evidence"]["extra_vars"])
    assert evidence == {"guard_evidence_dest": "/evidence"}

    schedules = awx.named("schedules")
    for name, schedule in schedules.items():
        assert schedule["unified_job_template"] == templates[name]["id"]
        assert schedule["extra_data"]["guard_target"] == "all"
    names = ("release_expired", "repair", "status")
    assert schedules.keys() == {f"Container guard: {name}" for name in names}

    nodes = awx.named("workflow_job_template_nodes", "identifier")
    after = {
        name: {
            when: [
                other
                for other in nodes
                for number in awx.associated("workflow_job_template_nodes", node["id"], when)
                if nodes[other]["id"] == number
            ]
            for when in ("success_nodes", "failure_nodes")
        }
        for name, node in nodes.items()
    }
    assert after["respond"] == {"success_nodes": ["decide"], "failure_nodes": []}
    assert after["decide"] == {"success_nodes": ["kill"], "failure_nodes": ["release"]}
    (approval,) = awx.named("workflow_approval_templates").values()
    assert nodes["decide"]["unified_job_template"] == approval["id"]
    assert not approval.get("timeout")
    assert nodes["kill"]["unified_job_template"] == templates["Container guard: kill"]["id"]
