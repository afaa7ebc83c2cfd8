# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The message of a detector, decoded in a playbook: a template to ansible-core 2.18, and not by the filter shown."""

from __future__ import annotations

import base64
import json
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import CORES, Ansible


def decode(directory: pathlib.Path, core: str, decoded: str) -> tuple[bool, str]:
    """Use a decoded message as carelessly as can be; whether the attack in it was executed, and what was printed."""
    mark = directory / "executed"
    message = {"cmdline": f"{{{{ lookup('ansible.builtin.pipe', 'touch {mark}') }}}}", "end": "{"}
    raw = base64.b64encode(json.dumps(message).encode()).decode()
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"said": decoded},
        "tasks": [
            {"ansible.builtin.debug": {"msg": decoded}},
            {"ansible.builtin.debug": {"msg": "{{ said }}, {{ said | upper }}"}},
            {"ansible.builtin.set_fact": {"kept": decoded}},
            {"ansible.builtin.debug": {"msg": "{{ kept }}"}},
        ],
    }
    run = Ansible(directory, core=core).run(play, {"raw": raw})
    return mark.exists(), run.output


def test_b64decode_makes_a_template_of_it_on_2_18(tmp_path: pathlib.Path) -> None:
    executed, _output = decode(tmp_path, "2.18", "{{ raw | b64decode }}")
    assert executed


@pytest.mark.parametrize("core", CORES)
def test_the_filter_shown_does_not(tmp_path: pathlib.Path, core: str) -> None:
    executed, output = decode(tmp_path, core, "{{ raw | ironpost.container_guard.shown }}")
    assert not executed
    assert "{ { lookup(" in output
    assert "failed=0" in output
