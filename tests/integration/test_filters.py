# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event filters behind sources that are not ours, in the rulebooks of docs/filters.md, to an isolated container."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import re
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.postgres import Postgres
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, local_inventory
from ansible_collections.ironpost.container_guard.tests.integration.test_respond import (
    POLICY,
    TOKEN,
    falco,
    paused,
    records,
)

DOCUMENT = pathlib.Path(__file__).absolute().parents[2] / "docs/filters.md"
CHANNEL = "alerts"
RUN = "PLAY [Respond to alerts]"


@pytest.fixture(scope="module")
def postgres() -> t.Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def inventory(tmp_path: pathlib.Path) -> pathlib.Path:
    """This machine, with a policy set deployed, and the options of the filters beside it."""
    (tmp_path / "policy.yml").write_text(POLICY)
    policy_set = tmp_path / "policy_set.json"
    deployed = Ansible(tmp_path).module("policy_set", src=str(tmp_path / "policy.yml"), path=str(policy_set))
    assert deployed["changed"] is True, deployed
    options = {"hosts": ["localhost"], "policy_set": str(policy_set), "fold_window": 600}
    (tmp_path / "filters.yml").write_text(yaml.safe_dump(options))
    return local_inventory(tmp_path, guard_policy_set_path=str(policy_set), guard_state_dir=str(tmp_path / "state"))


def documented(directory: pathlib.Path) -> tuple[list[dict[str, t.Any]], dict[str, t.Any]]:
    """The rulebook of the documentation, with the options that lie in the directory, and the other source there."""
    text = DOCUMENT.read_text().replace("/etc/container-guard/filters.yml", str(directory / "filters.yml"))
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    rulebook, (other, *_no_more) = (block for block in blocks if isinstance(block, list))
    return rulebook, other


def written(directory: pathlib.Path, rulebook: list[dict[str, t.Any]]) -> pathlib.Path:
    path = directory / "rulebook.yml"
    path.write_text(yaml.safe_dump(rulebook, sort_keys=False))
    return path


def hostile(directory: pathlib.Path) -> dict[str, t.Any]:
    """A message that is no alert, and would do harm wherever it was taken for a template or for a host."""
    harm = "{{ lookup('pipe', 'touch %s') }}" % (directory / "harm")
    return {"#jinja2: a": harm, harm: [harm], "meta": {"hosts": [harm], "limit": "all"}, "alerts": [{"rule": harm}]}


def alert(container: str, **changes: t.Any) -> dict[str, t.Any]:
    return {**json.loads(falco(container)), **changes}


def post(port: int, body: object) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/endpoint", json.dumps(body), {"Authorization": f"Bearer {TOKEN}"})
        return connection.getresponse().status


def isolated(directory: pathlib.Path) -> set[str]:
    """The containers that were isolated. Nothing else may have been done."""
    found = records(directory / "state")
    assert {(record["outcome"], record["host"]) for record in found} <= {("isolated", "localhost")}
    return {record["container"]["id"] for record in found}


def test_a_webhook(docker_world: DockerWorld, inventory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    first, second, bystander = (docker_world.make_container(suffix) for suffix in ("first", "second", "bystander"))
    rulebook, _other = documented(tmp_path)
    variables = {"guard_token": TOKEN}
    with RulebookProcess(written(tmp_path, rulebook), inventory, tmp_path, variables) as process:
        assert post(process.port, alert(first, output=str(hostile(tmp_path)))) == 200
        process.wait_for(lambda: isolated(tmp_path), "isolated container")
        # None of these is worth a run, and none of them ends the source.
        worthless: list[object] = [alert(first), alert(bystander, priority="Warning"), hostile(tmp_path)]
        worthless += [worthless[:], {"payload": 1}, [], "text", 5, None]
        assert [post(process.port, each) for each in worthless] == [200] * len(worthless)
        assert post(process.port, [alert(bystander, rule="Unwanted"), alert(second), 5]) == 200
        process.wait_for(lambda: second in isolated(tmp_path), "isolation of the second container")
        assert process.log.count(RUN) == 2, process.log
    assert isolated(tmp_path) == {first, second}
    assert [paused(docker_world, each) for each in (first, second, bystander)] == [True, True, False]
    assert not (tmp_path / "harm").exists()


def test_event_streams_over_postgresql(
    docker_world: DockerWorld, postgres: Postgres, inventory: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    small, large, bystander = (docker_world.make_container(suffix) for suffix in ("small", "large", "bystander"))
    rulebook, listener = documented(tmp_path)
    for each in rulebook[0]["sources"][0]["filters"]:
        each.update(dict.fromkeys(each))  # options by the environment
    rulebook[0]["sources"] = [{**listener, "filters": rulebook[0]["sources"][0]["filters"]}]
    with RulebookProcess(
        written(tmp_path, rulebook),
        inventory,
        tmp_path,
        {"guard_dsn": postgres.dsn},
        {"GUARD_CONFIG": str(tmp_path / "filters.yml")},
        ready=lambda: postgres.listeners(CHANNEL) == 1,
    ) as process:
        meta = {"endpoint": "/eda-event-streams/x", "eda_event_stream_name": "falco", "headers": {"Host": "{{ x }}"}}
        postgres.notify(CHANNEL, {"payload": hostile(tmp_path), "meta": meta})
        postgres.notify(CHANNEL, {"payload": alert(small), "meta": meta})
        process.wait_for(lambda: isolated(tmp_path), "isolated container")
        # A controller puts an array under a key, and an event of more than 7 KB into several notifications.
        long = alert(large, output=str(hostile(tmp_path)) + "x" * 12_000)
        many = [alert(small), alert(bystander, priority="Warning"), long, hostile(tmp_path)]
        postgres.notify(CHANNEL, {"payload": {"body": many}, "meta": meta})
        process.wait_for(lambda: large in isolated(tmp_path), "isolation of the second container")
        assert process.log.count(RUN) == 2, process.log
    assert isolated(tmp_path) == {small, large}
    assert not paused(docker_world, bystander)
    assert not (tmp_path / "harm").exists()
