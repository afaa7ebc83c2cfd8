# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of an alert: the playbook trace, on a spool and a host that know it."""

from __future__ import annotations

import asyncio
import json
import pathlib
import time

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import (
    Ended,
    Offer,
    Spool,
    SpoolLimits,
)
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld

POLICY = """
id: quarantine-shells
rules: ["Terminal shell*"]
target_filter: {container_names: ["cg-test-*"]}
actions: [{type: pause}]
"""


def alert(container: str) -> Alert:
    return Alert.from_dict(
        {
            "source": "falco",
            "rule": "Terminal shell in container",
            "severity": "critical",
            "trace_id": "t-1",
            "host": "web-1",
            "inventory_host": "web-1",
            "container": {"id": container[:12]},
        }
    )


def history(directory: pathlib.Path, alert: Alert) -> None:
    """A spool with an alert that waits for its host."""

    async def fill() -> None:
        spool = await Spool.open(directory, SpoolLimits())
        await spool.store([Offer(alert, ("web-1",))])
        await spool.close()

    asyncio.run(fill())


def test_what_the_source_and_the_hosts_know_of_it(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path, "web-1", "web-2", "localhost")
    (tmp_path / "policy.yml").write_text(POLICY)
    ansible.module("policy_set", src=str(tmp_path / "policy.yml"), path=str(ansible.policy_set))
    target = docker_world.make_container("target")
    taken = alert(target)
    history(tmp_path / "spool", taken)
    asked = {"guard_trace_id": "t-1", "guard_spool": str(tmp_path / "spool")}

    run = ansible.playbook("trace", asked)
    assert run.status == 0, run.output
    lines = run.stats["guard_trace"]["lines"]
    assert "web-1 was asked: no answer yet" in lines
    assert lines[-1] == "it waits for an answer"

    given = {"guard_alerts": json.dumps([taken.to_dict()]), "guard_target": "web-1"}
    assert ansible.playbook("respond", given).status == 0
    lines = ansible.playbook("trace", asked).stats["guard_trace"]["lines"]
    name = docker_world.name("target")
    assert any(
        line.startswith("web-1: ") and line.endswith(f"isolated {name}, policy quarantine-shells") for line in lines
    )
    assert any(line.startswith(f"web-1: {name} is isolated for it") and "and it holds" in line for line in lines)
    assert not any(line.startswith("web-2: ") for line in lines), "the history says that it was not concerned"


def test_what_nobody_knows_and_what_cannot_be_read(tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    run = ansible.playbook("trace", {"guard_trace_id": "t-9", "guard_spool": str(tmp_path / "none")})
    assert run.status != 0
    (line,) = run.stats["guard_trace"]["lines"]
    assert "cannot be read here" in line
    assert ansible.playbook("trace", {"guard_trace_id": "{{ 1 }}"}).status != 0
    assert "-e guard_trace_id=" in ansible.playbook("trace", {}).output


def test_it_was_answered(tmp_path: pathlib.Path) -> None:
    taken = alert("ab" * 32)

    async def fill() -> None:
        spool = await Spool.open(tmp_path / "spool", SpoolLimits())
        await spool.store([Offer(taken, ("web-1",))])
        answer = {"outcome": "isolated", "policy_id": "p", "milliseconds": 512, "attempts": 1}
        await spool.settle([Ended(1, taken.trace_id, time.time(), "answered", "isolated", {"web-1": answer}, 100)])
        await spool.close()

    asyncio.run(fill())
    found = Ansible(tmp_path).module("alert_info", trace_id="t-1", spool=str(tmp_path / "spool"))
    assert (found["found"], found["state"], found["outcome"]) == (True, "answered", "isolated")
    assert found["hosts"]["web-1"]["milliseconds"] == 512
    assert found["received_at"] <= found["ended_at"]
    assert found["alert"]["rule"] == "Terminal shell in container"
