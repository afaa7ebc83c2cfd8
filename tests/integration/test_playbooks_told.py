# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What playbooks tell the modules that only the controller knows: who asks, by which clock, and how strict.

The interpreter of the host runs no module: it keeps what it was sent.
"""

from __future__ import annotations

import datetime
import json
import pathlib
import re
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import CORES, Ansible

ANSWER = {
    "changed": False,
    "results": [],
    "responses": [],
    "summary": {},
    "trace_id": "abc",
    "isolations": [],
    "damaged": [],
    "agree": True,
    "cut_off_by_others": [],
    "action_log": {},
}
EVENT = {"event": {"alerts": [], "meta": {"hosts": ["localhost"]}}}
HOST = {"guard_target": "localhost", "guard_container": "web"}


def options_in(sent: pathlib.Path) -> dict[str, t.Any]:
    """The options in a program that was sent to a host."""
    # They are JSON, in a literal of Python.
    text = sent.read_text(encoding="utf-8").replace("\\\\", "\\")
    found = re.search(r'\{\\?"ANSIBLE_MODULE_ARGS\\?": ', text)
    assert found is not None
    options, _end = json.JSONDecoder().raw_decode(text[found.start() :].replace('\\"', '"'))
    return dict(options["ANSIBLE_MODULE_ARGS"])


class Told:
    """Ansible with a host that keeps the options of the last module that it was sent, but for those that only look."""

    def __init__(self, directory: pathlib.Path, core: str = "") -> None:
        answer = {**ANSWER, "summary": {"decisions": {}, "outcomes": {}}}
        self._sent = directory / "sent"
        for kind, content in (("answer", ANSWER), ("response", answer)):
            (directory / kind).write_text(json.dumps(content))
        interpreter = directory / "interpreter"
        interpreter.write_text(
            f"#!/bin/sh\ncase $1 in *isolation_info*) ;; *) cp $1 {self._sent};; esac\n"
            f"case $1 in *alert_response*) cat {directory}/response;; *) cat {directory}/answer;; esac\n"
        )
        interpreter.chmod(0o755)
        self._ansible = Ansible(directory, core=core, ansible_python_interpreter=str(interpreter))

    def __call__(self, playbook: str, **variables: t.Any) -> dict[str, t.Any]:
        """The options of the last module that a playbook runs on the host, and that does not only look."""
        run = self._ansible.playbook(playbook, variables)
        assert run.status == 0, run.output
        return options_in(self._sent)


@pytest.fixture
def told(tmp_path: pathlib.Path) -> Told:
    return Told(tmp_path)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("playbook", ["isolate", "release"])
def test_who_asks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, playbook: str, core: str) -> None:
    told = Told(tmp_path, core)
    monkeypatch.setenv("SUDO_USER", "ada")
    assert told(playbook, **HOST)["actor"] == "ada"
    assert told(playbook, **HOST, awx_user_name="grace")["actor"] == "grace"
    assert told(playbook, **HOST, awx_user_name="grace", guard_actor="linus")["actor"] == "linus"


@pytest.mark.parametrize("playbook", ["isolate", "release", "release_expired", "repair", "respond"])
def test_all_of_them_go_by_the_clock_of_the_controller(told: Told, playbook: str) -> None:
    before = datetime.datetime.now(datetime.UTC)
    options = told(playbook, **HOST, ansible_eda=EVENT)
    assert before <= datetime.datetime.fromisoformat(options["controller_time"]) <= datetime.datetime.now(datetime.UTC)


def test_a_rulebook_asks_as_such(told: Told) -> None:
    assert told("respond", ansible_eda=EVENT)["actor"] == "rulebook"


def test_alerts_that_a_person_gives_have_no_age(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "ada")
    options = told("respond", guard_alerts=[])
    assert options["actor"] == "ada"
    assert "controller_time" not in options


@pytest.mark.parametrize("core", ["", *CORES])
@pytest.mark.parametrize("as_text", [False, True])
def test_the_texts_of_alerts_that_a_person_gives_are_no_templates(
    tmp_path: pathlib.Path, core: str, as_text: bool
) -> None:
    attack = "{{ 6 * 7 }}"
    alerts = [{"source": "falco", "rule": attack, "severity": "high", "container": {"name": attack}}]
    options = Told(tmp_path, core)("respond", guard_alerts=json.dumps(alerts) if as_text else alerts)
    assert options["alerts"] == alerts


@pytest.mark.parametrize("core", ["", *CORES])
def test_the_texts_of_an_event_are_no_templates_and_do_not_count_beside_what_is_given(
    tmp_path: pathlib.Path, core: str
) -> None:
    # A source that is not ours makes nothing inert, and a job template gets its event beside the variables.
    said = {"source": "falco", "rule": "r", "severity": "high"}
    event: dict[str, t.Any] = {"event": {"alerts": [{**said, "message": "{{ 6 * 7 }}"}], "meta": {}}}
    told = Told(tmp_path, core)
    options = told("respond", ansible_eda=event)
    assert options["alerts"] == event["event"]["alerts"]
    assert not options.get("given")
    options = told("respond", ansible_eda=event, guard_alerts=[said])
    assert (options["alerts"], options["given"]) == ([said], True)
    assert "controller_time" not in options
    for blank in ("", " ", None):
        assert told("respond", ansible_eda=event, guard_alerts=blank)["alerts"] == event["event"]["alerts"]


@pytest.mark.parametrize("core", CORES)
def test_each_host_gets_the_alerts_that_concern_it(tmp_path: pathlib.Path, core: str) -> None:
    """What is received of one, its message included, is no matter of the others."""
    hosts = ("web-1", "web-2", "web-3")
    ansible = Ansible(tmp_path, *hosts, core=core)
    answer = {**ANSWER, "summary": {"decisions": {}, "outcomes": {}}}
    (tmp_path / "answer").write_text(json.dumps(answer))
    for host in hosts:
        interpreter = tmp_path / host
        interpreter.write_text(f"#!/bin/sh\ncp $1 {tmp_path}/sent-{host}\ncat {tmp_path}/answer\n")
        interpreter.chmod(0o755)
        ansible.set_variables(host, {"ansible_python_interpreter": str(interpreter)})
    named = ("web-1", "web-2", "", "ghost", "web-3", "web-2")
    alerts = [{"id": f"a-{number}", "inventory_host": host} for number, host in enumerate(named)]
    event = {"event": {"alerts": alerts, "meta": {"hosts": ["web-1", "web-2"]}}}
    ansible.playbook("respond", {"ansible_eda": event}, "--limit", "web-1,web-2")
    first, second = (options_in(tmp_path / f"sent-{host}") for host in hosts[:2])
    # Of hosts that take no part the first one says it.
    assert [one["id"] for one in first["alerts"]] == ["a-0", "a-2", "a-3", "a-4"]
    assert first["absent_hosts"].keys() == {"ghost", "web-3"}
    assert [one["id"] for one in second["alerts"]] == ["a-1", "a-2", "a-5"]
    assert second["absent_hosts"] == {}
    assert not (tmp_path / "sent-web-3").exists()


@pytest.mark.parametrize("given", [5, "5", "{", "[" * 5000])
def test_what_is_no_list_of_alerts_is_said(tmp_path: pathlib.Path, given: t.Any) -> None:
    run = Ansible(tmp_path).playbook("respond", {"guard_alerts": given})
    assert run.status != 0
    assert "guard_alerts is" in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize("core", ["", *CORES])
def test_what_an_alert_says_is_no_template_in_what_is_handed_on(tmp_path: pathlib.Path, core: str) -> None:
    mark = tmp_path / "mark"
    attack = "{{ lookup('pipe', 'touch " + str(mark) + "') }}"
    said = {"id": attack, "source": "x", "rule": attack, "severity": "high"}
    alerts = [{**said, "inventory_host": "ghost"}, {**said, "inventory_host": attack}]
    ansible = Ansible(tmp_path, core=core)
    (tmp_path / "policy_set.json").write_text(PolicySet.of([]).to_json())
    run = ansible.playbook("respond", {"guard_alerts": alerts})
    assert "its host ghost is not in the inventory" in run.output
    show = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.debug": {"var": "guard_responses"}}],
    }
    assert ansible.run(show, run.stats).status == 0
    assert run.stats["guard_responses"]
    assert not mark.exists()


def test_a_task_of_ones_own_knows_host_time_and_actor(tmp_path: pathlib.Path) -> None:
    # Without the playbooks: the clock of a host must not decide what is older than a release.
    assert {"controller_time", "actor"} <= Told(tmp_path)("release", **HOST).keys()
    assert Told(tmp_path)("respond", ansible_eda=EVENT)["host"] == "localhost"


def test_what_is_over_is_released_by_a_timer(told: Told) -> None:
    assert told("release_expired", guard_target="localhost")["actor"] == "timer"


@pytest.mark.parametrize("mode", ["audit", "enforce", "adit"])
def test_guard_mode_is_handed_to_the_module_which_knows_the_values(told: Told, mode: str) -> None:
    assert told("respond", guard_alerts=[], guard_mode=mode)["mode"] == mode


def test_no_guard_mode_leaves_it_to_the_policy_set(told: Told) -> None:
    assert "mode" not in told("respond", guard_alerts=[], guard_mode="")


def test_networks_that_are_gone_are_made_anew_where_that_is_asked_for(told: Told) -> None:
    assert told("release", **HOST, guard_recreate_networks=True)["recreate_networks"] is True
    assert "recreate_networks" not in told("release", **HOST, guard_recreate_networks="")


def test_release_by_policy_trace_id_or_time(told: Told) -> None:
    for variable, option, value in (
        ("guard_policy", "policy", "quarantine-shells"),
        ("guard_alert_trace_id", "trace", "5a1f7c52"),
        ("guard_since", "since", "2026-04-05T12:00:00Z"),
    ):
        options = told("release", guard_target="localhost", guard_trace_id="mine", **{variable: value})
        assert (options[option], options["trace_id"]) == (value, "mine")
        assert "container" not in options
