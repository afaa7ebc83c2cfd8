# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook replay, run by its full name on a log as Falco writes it."""

from __future__ import annotations

import gzip
import json
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible

SHELL = {
    "hostname": "054aab939018",
    "priority": "Critical",
    "rule": "Terminal shell in container",
    "source": "syscall",
    "tags": ["container", "shell"],
    "time": "2026-04-05T12:43:02.928967267Z",
    "output": "12:43:02.928967267: Critical A shell was spawned (cmdline=sh -c {{ 7 * 7 }})",
    "output_fields": {
        "container.id": "6bc1b4be90d6",
        "container.name": "lab9-helper",
        "container.image.repository": "alpine",
        "container.image.tag": "3.19",
        "evt.time.iso8601": 1775392982928967267,
    },
}
LOG = [
    "Sun Apr  5 12:43:00 2026: Falco version: 0.43.0 (x86_64)",
    json.dumps(SHELL),
    json.dumps({**SHELL, "time": "2026-04-05T12:43:07.1Z"}),
    json.dumps({**SHELL, "rule": "{{ 7 * 7 }}", "priority": "Notice", "output_fields": {"container.id": "host"}}),
    json.dumps({**SHELL, "priority": "Loud"}),
]


@pytest.fixture
def inputs(tmp_path: pathlib.Path) -> dict[str, str]:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "shells.yml").write_text(
        "{id: shells, rules: [Terminal shell*], actions: [{type: pause}], target_filter: {labels: [env=lab]}}"
    )
    (tmp_path / "falco.log").write_text("\n".join(LOG))
    container = {"Id": "6bc1b4be90d6" + "0" * 52, "Name": "/lab9-helper", "Config": {"Labels": {"env": "lab"}}}
    (tmp_path / "containers.json").write_text(json.dumps([container]))
    return {
        "replay_alerts": "falco.log",  # relative to where ansible-playbook runs
        "policies_src": str(policies),
        "replay_containers": str(tmp_path / "containers.json"),
        "replay_report": str(tmp_path / "report.json"),
    }


def test_what_would_have_happened(tmp_path: pathlib.Path, inputs: dict[str, str]) -> None:
    ansible = Ansible(tmp_path)
    path = tmp_path / "report.json"
    checked = ansible.playbook("replay", inputs, "--check")
    assert checked.status == 0, checked.output
    assert not path.exists()

    run = ansible.playbook("replay", inputs)
    assert run.status == 0, run.output
    assert "5 lines: 3 alerts, 1 skipped, 1 refused" in run.output
    (row,) = (line.strip(' ",').split() for line in run.output.splitlines() if line.strip(' "').startswith("shells "))
    assert row == ["shells", "enforce", "2", "1", "1", "1", *["0"] * 7]
    assert "49" not in run.output.partition("wanted by no policy")[2].partition("refused because")[0]
    report = json.loads(path.read_text())
    assert run.stats["guard_replay"] == report
    assert [(policy["id"], policy["isolations"]) for policy in report["policies"]] == [("shells", 1)]
    assert [rule["rule"] for rule in report["unwanted"]] == ["{ { 7 * 7 }}"]

    again = ansible.playbook("replay", inputs)
    assert "changed=0" in again.output


def test_a_log_in_which_nothing_is_found_says_why(tmp_path: pathlib.Path, inputs: dict[str, str]) -> None:
    text = "12:43:02.928967123: Notice A shell was spawned (cmdline=sh -c {{ 7 * 7 }})"
    (tmp_path / "falco.log").write_text("\n".join([LOG[0], text, text]))
    run = Ansible(tmp_path).playbook("replay", inputs)
    assert run.status == 0, run.output
    said = " ".join(run.output.split())
    assert "[WARNING]: no alert was found in 3 lines: it is an alert of Falco as text: set json_output to true" in said
    assert "note: no alert was found in 3 lines" in said
    assert run.stats["guard_replay"]["skipped"][0]["lines"] == 2


def test_a_log_as_the_engine_writes_it(tmp_path: pathlib.Path, inputs: dict[str, str]) -> None:
    lines = [json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "2026-04-05T12:43:02.93Z"}) for line in LOG]
    (tmp_path / "falco.log").write_bytes(gzip.compress("\n".join(lines).encode()))
    blank = {"replay_containers": "", "replay_host_map": "", "replay_report": ""}
    run = Ansible(tmp_path).playbook("replay", {**inputs, **blank})
    assert run.status == 0, run.output
    assert "5 lines: 3 alerts, 1 skipped, 1 refused" in run.output


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("replay_alerts", "nowhere.log", "alerts_missing"),
        ("policies_src", "nowhere", "policies_missing"),
        ("replay_containers", "falco.log", "containers_invalid"),
        ("replay_report", "nowhere/report.json", "write_failed"),
    ],
)
def test_an_error_says_what_it_is(
    tmp_path: pathlib.Path, inputs: dict[str, str], name: str, value: str, kind: str
) -> None:
    run = Ansible(tmp_path).playbook("replay", {**inputs, name: value})
    assert run.status != 0
    assert f'"kind": "{kind}"' in run.output


def test_it_asks_for_alerts_and_policies(tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    assert "replay_alerts=FILE" in ansible.playbook("replay", {"policies_src": "x"}).output
    assert "policies_src=DIRECTORY" in ansible.playbook("replay", {"replay_alerts": "x", "policies_src": ""}).output
