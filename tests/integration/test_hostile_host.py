# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host that somebody took over answers what it likes. None of it may take over the controller.

Each host is this machine, with a Python interpreter of its own that runs no module and prints an answer. What a
playbook hands on of that is fed to a second one as extra variables, as AWX does in a workflow.
"""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import (
    CORES,
    PREFIX,
    Ansible,
    PlaybookRun,
)

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
# As careless as it gets: each variable goes through the template engine on its own, inside of text and as a value.
CARELESS = [
    {"ansible.builtin.debug": {"msg": "{{ fed }} is {{ fed | string | upper }}, {{ fed | to_json }}"}},
    {"ansible.builtin.set_fact": {"kept": "{{ fed }}"}},
    {"ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": "{{ fed | dict2items }}"},
    {"ansible.builtin.debug": {"var": "fed"}},
]


class Attack:
    """What would leave a mark on the controller, if a template were executed."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.mark = directory / "executed"
        code = f"lookup('ansible.builtin.pipe', 'touch {self.mark}')"
        own_delimiters = "#jinja2: variable_start_string:'[[', variable_end_string:']]'\n[[ " + code + " ]]"
        self.texts = [f"{{{{ {code} }}}}", f"{{% set x = {code} %}}", own_delimiters]
        self.text = self.texts[0]

    def answer(self) -> dict[str, t.Any]:
        """What no module of ours returns, beside what each of them does, with the attack wherever there is text."""
        evil = [f"{ESCAPE}{text}" for text in self.texts] + self.texts
        container = {"id": "6bc1b4be90d6", "name": self.text}
        record = {"outcome": "isolated", "container": container, "policy_id": self.text, "trace_id": self.text}
        return {
            "changed": False,
            "msg": self.text + ESCAPE,
            "warnings": evil,
            "deprecations": [{"msg": self.text + ESCAPE, "version": "9"}],
            "exception": f"Traceback{ESCAPE}\n{self.text}",
            "diff": [{"before": f"{evil}\nold", "after": f"{self.text}{ESCAPE}\nnew", "before_header": self.text}],
            "ansible_facts": {"owned": True, self.text: self.text, "ansible_python_interpreter": self.text},
            "ansible_stats": {"data": {"owned": self.text}, "per_host": False, "aggregate": True},
            "add_host": {"host_name": "owned", "groups": ["owned"], "host_vars": {}},
            "add_group": "owned",
            "failed_when_result": False,
            "skipped": True,
            "_ansible_no_log": False,
            "undocumented": self.text,
            # of the modules
            "results": [
                {**record, "before": {"networks": evil, self.text: evil}, "steps": [], "warnings": evil},
            ],
            "summary": {"isolated": 1},
            "outcome": "isolated",
            "container": container,
            "before": {"networks": evil, self.text: {"__ansible_unsafe": self.text}},
            "isolations": [
                {"container": container, "agree": False, "breaches": [{"kind": self.text, "message": self.text}]}
            ],
            "damaged": evil,
            "agree": False,
            "cut_off_by_others": [container],
            "action_log": {"last_hash": self.text},
            "case_id": "20260405T124302Z-6bc1b4be90d6-abcdef",
            "directory": self.text,
            "manifest_sha256": "0" * 64,
            "evidence": [{self.text: self.text}],
            "path": self.text,
            "deployed": True,
            "digest": "sha256:" + "0" * 64,
            "policies": evil,
        }


def host(directory: pathlib.Path, name: str, answer: str) -> dict[str, str]:
    """Variables of a host whose interpreter prints that answer."""
    (directory / f"{name}.answer").write_text(answer)
    interpreter = directory / f"{name}.interpreter"
    interpreter.write_text(f"#!/bin/sh\ncat {directory / f'{name}.answer'}\n")
    interpreter.chmod(0o755)
    return {"ansible_python_interpreter": str(interpreter)}


def ask(module: str, **options: t.Any) -> dict[str, t.Any]:
    return {PREFIX + module: options, "register": "asked", "ignore_errors": True, "ignore_unreachable": True}


def feed(ansible: Ansible, run: PlaybookRun) -> PlaybookRun:
    """A second playbook, to which the artifacts of the first are given as they come."""
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": CARELESS}
    return ansible.run(play, {"fed": run.stats["artifacts"]})


@pytest.mark.parametrize("core", CORES)
def test_the_attack_works_through_a_module_that_is_not_ours(tmp_path: pathlib.Path, core: str) -> None:
    attack = Attack(tmp_path)
    ansible = Ansible(tmp_path, core=core, **host(tmp_path, "evil", json.dumps({"ping": attack.text})))
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.ping": {}, "register": "asked"},
            {"ansible.builtin.set_stats": {"data": {"artifacts": "{{ {'ping': asked.ping} }}"}}},
        ],
    }
    feed(ansible, ansible.run(play, {}))
    assert attack.mark.exists()


@pytest.mark.parametrize("core", CORES)
def test_a_host_whose_interpreter_answers_with_a_template_takes_over_nothing(tmp_path: pathlib.Path, core: str) -> None:
    attack = Attack(tmp_path)
    answer = attack.answer()
    junk = f"{ESCAPE} before {attack.text}\n{json.dumps(answer)}\n{ESCAPE} after"
    ansible = Ansible(tmp_path, core=core, **host(tmp_path, "evil", junk))
    alerts = [{"source": "x", "rule": "x", "severity": "high"}]
    questions = [
        ask("isolation", container="x"),
        ask("isolation_info"),
        ask("evidence", container="x"),
        ask("policy_set_info"),
        ask("policy_set", state="rolled_back"),
        # These have other summaries, so that the answer is nonsense to them.
        ask("alert_response", alerts=alerts),
        ask("decision_info", alerts=alerts),
        ask("preflight_info"),
    ]
    keep = [
        {"ansible.builtin.set_fact": {"answers": f"{{{{ answers | default({{}}) | combine({{'{number}': asked}}) }}}}"}}
        for number in range(len(questions))
    ]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            *(task for pair in zip(questions, keep, strict=True) for task in pair),
            {"ansible.builtin.set_stats": {"data": {"artifacts": "{{ answers }}"}}},
            {"ansible.builtin.assert": {"that": ["owned is undefined", "'owned' not in groups"]}},
        ],
    }
    run = ansible.run(play, {}, "-vvv", "--diff")
    assert run.status == 0, run.output
    assert list(run.stats) == ["artifacts"]
    again = feed(ansible, run)
    assert again.status == 0, again.output
    assert not attack.mark.exists()
    for output in (run.output, again.output):
        assert "\x1b" not in output
        assert "\x07" not in output
    answers = run.stats["artifacts"]
    assert answers["0"]["container"]["name"] == attack.text.replace("{{", "{ {")
    assert [bool(answers[str(number)].get("failed")) for number in range(8)] == [False] * 5 + [True] * 3
    for answer in answers.values():
        assert not {"ansible_facts", "add_host", "add_group", "ansible_stats", "undocumented"} & answer.keys()


def test_the_playbook_isolate_hands_on_what_is_harmless(tmp_path: pathlib.Path) -> None:
    attack = Attack(tmp_path)
    ansible = Ansible(tmp_path, **host(tmp_path, "evil", json.dumps({**attack.answer(), "trace_id": "abc"})))
    run = ansible.playbook("isolate", {"guard_target": "localhost", "guard_container": "web"}, "--diff")
    assert run.status == 0, run.output
    (handed_on,) = run.stats["guard_isolations"]["localhost"]["containers"]
    assert handed_on["container"] == attack.text.replace("{{", "{ {")
    again = feed(ansible, PlaybookRun(0, "", {"artifacts": run.stats}))
    assert not attack.mark.exists()
    assert "\x1b" not in run.output + again.output


@pytest.mark.parametrize("playbook", ["status", "hunt", "remove"])
def test_the_tables_over_a_fleet_are_harmless(tmp_path: pathlib.Path, playbook: str) -> None:
    attack = Attack(tmp_path)
    answer = {
        **attack.answer(),
        "trace_id": "abc",
        **{key: [attack.text + ESCAPE] for key in ("removed", "kept", "left")},
    }
    answer["policy_set"] = {"digest": "", "deployed_at": attack.text, "problem": attack.text}
    if playbook == "remove":
        answer["isolations"] = []
    ansible = Ansible(tmp_path, **host(tmp_path, "evil", json.dumps(answer)))
    run = ansible.playbook(playbook, {"guard_target": "localhost", "guard_images": "shop:4.2"})
    assert run.status == 0, run.output
    assert attack.text.replace("{{", "{ {") in run.output
    again = feed(ansible, PlaybookRun(0, "", {"artifacts": run.stats}))
    assert again.status == 0, again.output
    assert not attack.mark.exists()
    assert "\x1b" not in run.output + again.output


def test_a_host_that_answers_nonsense_fails_and_says_so(tmp_path: pathlib.Path) -> None:
    good: dict[str, t.Any] = {"changed": True, "results": [], "summary": {}, "trace_id": "abc"}
    container = {"id": "6bc1b4be90d6", "name": "web"}
    result = {"container": container, "outcome": "isolated"}
    answers: dict[str, tuple[t.Any, str]] = {
        "outcome": ({**good, "results": [{**result, "outcome": "splendid"}]}, "an outcome that does not exist"),
        "id": ({**good, "results": [{**result, "container": {"id": "/etc"}}]}, "the id of a container is none"),
        "list": ({**good, "results": {"a": 1}}, "results is no list"),
        "bool": ({**good, "changed": "no"}, "changed is no bool"),
        "count": ({**good, "summary": {"isolated": "many"}}, "a summary with a count that is no number"),
        "trace": ({**good, "trace_id": "a b"}, "trace_id is no identifier"),
        "nothing": ({}, "changed is missing"),
        "little": ({"changed": False}, "results is missing"),
        "deep": ('{"changed": false, "results": ' + "[" * 50 + "]" * 50 + ', "summary": {}}', "nested deeper than 20"),
        "endless": ('{"changed": false, "results": ' + "[" * 200_000 + "]" * 200_000 + ', "summary": {}}', "too deep"),
    }
    hosts = {
        name: host(tmp_path, name, answer if isinstance(answer, str) else json.dumps(answer))
        for name, (answer, _said) in answers.items()
    }
    ansible = Ansible(tmp_path, *hosts)
    for name, variables in hosts.items():
        ansible.set_variables(name, variables)
    run = ansible.playbook("isolate", {"guard_target": "all", "guard_container": "web"})
    assert run.status != 0
    errors = {name: found["error"] for name, found in run.stats["guard_isolations"].items()}
    assert errors.keys() == answers.keys()
    for name, (_answer, said) in answers.items():
        assert (name, errors[name]["kind"]) == (name, "bad_answer")
        assert said in errors[name]["message"]


def test_what_is_not_as_it_should_be_is_never_green(tmp_path: pathlib.Path) -> None:
    one = {"container": {"id": "", "name": "web"}, "outcome": "failed"}
    lie = {"changed": False, "failed": False, "results": [one], "summary": {"failed": 1}, "trace_id": "abc"}
    ansible = Ansible(tmp_path, **host(tmp_path, "liar", json.dumps(lie)))
    run = ansible.playbook("isolate", {"guard_target": "localhost", "guard_container": "web"})
    assert run.status != 0
    assert "not all is as it should be: failed" in run.output


@pytest.mark.parametrize("core", CORES)
def test_the_banner_of_an_unreachable_host_reaches_no_terminal(tmp_path: pathlib.Path, core: str) -> None:
    attack = Attack(tmp_path)
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{ESCAPE}{attack.text}\nEND\nexit 255\n")
    ssh.chmod(0o755)
    remote = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_ssh_executable": str(ssh)}
    ansible = Ansible(tmp_path, "web-1", core=core, **remote)
    run = ansible.playbook("isolate", {"guard_target": "web-1", "guard_container": "web"})
    assert run.status != 0
    assert "Failed to connect to the host via ssh" in run.output
    assert "\x1b" not in run.output
    assert "{ { lookup(" in run.output
    assert not attack.mark.exists()


@pytest.mark.parametrize("core", CORES)
def test_what_the_shell_of_a_host_answers_reaches_no_terminal(tmp_path: pathlib.Path, core: str) -> None:
    attack = Attack(tmp_path)
    ssh = tmp_path / "ssh"
    # As if it had made a directory, which then cannot be removed: ansible-core warns of that at once.
    answer = f"{ESCAPE}{attack.text}\n/tmp/ansible-tmp-1"
    ssh.write_text(
        f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\ncat >&2 <<'END'\n{answer}\nEND\n"
        'case "$*" in *"rm -f"*) exit 1;; esac\n'
    )
    ssh.chmod(0o755)
    remote = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_ssh_executable": str(ssh)}
    options = {"ansible_python_interpreter": "auto", "ansible_ssh_transfer_method": "piped"}
    ansible = Ansible(tmp_path, "web-1", core=core, **remote, **options)
    run = ansible.playbook("isolate", {"guard_target": "web-1", "guard_container": "web"})
    assert run.status != 0
    assert "\x1b" not in run.output
    assert "\\x1b" in run.output
    assert not attack.mark.exists()
