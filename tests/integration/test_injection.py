# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process in a container chooses its command line. It must not become code on the controller.

Event data reaches playbooks as extra vars, and extra vars are templates. The first test shows that the attack works on
the rule engine as it comes, so that the others prove something.
"""

from __future__ import annotations

import base64
import json
import pathlib
import typing as t
import urllib.request

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, local_inventory

TOKEN = "correct-horse-battery"

NAIVE_RULEBOOK = """
- name: Naive
  hosts: all
  sources:
    - eda.builtin.webhook:
        host: 127.0.0.1
        port: "{{ guard_port }}"
  rules:
    - name: Run a playbook
      condition: event.payload is defined
      action:
        run_playbook:
          name: playbook.yml
"""

NAIVE_PLAYBOOK = """
- name: Show what happened
  hosts: all
  gather_facts: false
  tasks:
    - name: Show the command line
      ansible.builtin.debug:
        msg: "{{ ansible_eda.event.payload.output_fields['proc.cmdline'] }}"
    - name: Tell the test
      ansible.builtin.copy:
        dest: seen.json
        content: "{}"
        mode: "0600"
"""

GUARD_RULEBOOK = """
- name: Guard
  hosts: all
  sources:
    - ironpost.container_guard.alerts:
        port: "{{ guard_port }}"
        token: "{{ guard_token }}"
        hosts: [localhost]
  rules:
    - name: Run a playbook
      condition: event.alerts is defined
      action:
        run_playbook:
          name: playbook.yml
"""

# As careless as it gets: every field goes through the template engine on its own, in a container, inside of other text
# and as an argument of filters.
GUARD_PLAYBOOK = """
- name: Show what happened
  hosts: all
  gather_facts: false
  tasks:
    - name: Show the event
      ansible.builtin.debug:
        var: ansible_eda.event
    - name: Show each field
      ansible.builtin.debug:
        msg: "{{ item.key }} is {{ item.value }}, {{ item.value | string | upper }}, {{ item.value | to_json }}"
      loop: "{{ ansible_eda.event.alerts | map('dict2items') | flatten }}"
    - name: Use each field as a value
      ansible.builtin.set_fact:
        field: "{{ item.value }}"
      loop: "{{ ansible_eda.event.alerts | map('dict2items') | flatten }}"
    - name: Tell the test
      ansible.builtin.copy:
        dest: seen.json
        content: "{{ ansible_eda.event.alerts | to_json }}"
        mode: "0600"
"""


class Scene:
    """A directory to work in, an attack that would leave a mark there, and a rule engine under attack."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.mark = directory / "executed"
        self.seen = directory / "seen.json"
        self.attack = f"{{{{ lookup('ansible.builtin.pipe', 'touch {self.mark}') }}}}"

    def alert(self, **change: t.Any) -> bytes:
        """A Falco alert with the attack in the command line."""
        message = {
            "hostname": "localhost",
            "priority": "Critical",
            "rule": "Terminal shell in container",
            "source": "syscall",
            "tags": ["container", "shell"],
            "time": "2026-04-05T12:43:02.928967267Z",
            "output": f"A shell was spawned in a container (cmdline=sh -c {self.attack})",
            "output_fields": {
                "container.id": "6bc1b4be90d6",
                "container.name": "lab9-helper",
                "container.image": "alpine:3.19",
                "proc.cmdline": f"sh -c {self.attack}",
            },
        }
        return json.dumps({**message, **change}).encode()

    def run(self, rulebook: str, playbook: str, body: bytes) -> None:
        """Post the body to a rule engine with this rulebook, and wait until its playbook has ended."""
        (self.directory / "rulebook.yml").write_text(rulebook)
        (self.directory / "playbook.yml").write_text(playbook.replace("seen.json", str(self.seen)))
        with RulebookProcess(
            self.directory / "rulebook.yml",
            local_inventory(self.directory),
            self.directory,
            variables={"guard_token": TOKEN},
        ) as engine:
            request = urllib.request.Request(
                f"http://127.0.0.1:{engine.port}/alerts",
                data=body,
                headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - always http
                assert answer.status < 300
            engine.wait_for(self.seen.exists, "end of the playbook")


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


def test_the_attack_works_on_the_engine_as_it_comes(scene: Scene) -> None:
    scene.run(NAIVE_RULEBOOK, NAIVE_PLAYBOOK, scene.alert())
    assert scene.mark.exists()


def test_the_same_alert_is_harmless_text_behind_our_source(scene: Scene) -> None:
    body = scene.alert()
    scene.run(GUARD_RULEBOOK, GUARD_PLAYBOOK, body)
    assert not scene.mark.exists()
    (seen,) = json.loads(scene.seen.read_text())
    shown = scene.attack.replace("{{", "{ {")
    assert seen["message"] == f"A shell was spawned in a container (cmdline=sh -c {shown})"
    assert seen["container"] == {
        "id": "6bc1b4be90d6",
        "name": "lab9-helper",
        "image": "alpine:3.19",
        "subject": "container",
        "pid": 0,
        "addresses": [],
    }
    assert seen["inventory_host"] == "localhost"
    assert base64.b64decode(seen["raw"]) == body


def test_no_field_of_an_alert_carries_the_attack(scene: Scene) -> None:
    # The second form brings delimiters of its own, for which ansible-core looks at the start of a text.
    own_delimiters = f"#jinja2: variable_start_string:'[[',variable_end_string:']]',a:{scene.attack}".replace(
        "{{", "[["
    )
    attacks = [scene.attack, own_delimiters.replace("}}", "]] "), f"{{% set x = {scene.attack[2:-2]} %}}", "{"]
    bodies = [
        scene.alert(
            rule=attack,
            output=attack,
            tags=[attack, {attack: attack}],
            uuid=attack,
            time=attack,
            output_fields={
                "container.id": "6bc1b4be90d6",
                "container.name": attack,
                "container.image": attack,
                attack: attack,
            },
        )
        for attack in attacks
    ]
    scene.run(GUARD_RULEBOOK, GUARD_PLAYBOOK, b"[" + b",".join(bodies) + b"]")
    assert not scene.mark.exists()
    seen = json.loads(scene.seen.read_text())
    assert [alert["rule"][:5] for alert in seen] == ["{ { l", "# jin", "{ % s", "{ "]
    assert [base64.b64decode(alert["raw"]) for alert in seen] == bodies
