# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our rulebooks as an EDA controller runs them: with what its credentials inject, and jobs of AWX."""

from __future__ import annotations

import json
import pathlib
import ssl
import subprocess
import threading
import typing as t
import urllib.request

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import filter_options
from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible, Json
from ansible_collections.ironpost.container_guard.tests.integration.controller import Controller
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.postgres import Postgres
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import (
    RulebookProcess,
    free_port,
    local_inventory,
)
from ansible_collections.ironpost.container_guard.tests.integration.test_respond import (
    POLICY,
    TOKEN,
    falco,
    health,
    post,
)

ROOT = pathlib.Path(__file__).absolute().parents[2]
RULEBOOKS = ROOT / "extensions/eda/rulebooks"
TYPES = {one["name"]: one for one in json.loads((ROOT / "examples/eda-controller/credential_types.json").read_text())}
CHANNEL = "a-stream"
RESPOND = "Container guard: respond"


def injected(name: str, inputs: dict[str, str]) -> dict[str, dict[str, str]]:
    """What a credential of this type makes of its inputs, as a controller does."""
    fields = TYPES[name]["inputs"]["fields"]
    known = {field["id"]: inputs.get(field["id"], field.get("default")) for field in fields}
    assert None not in known.values(), "a field that is not required has a default"
    return {
        kind: {key: known[value.strip("{} ")] for key, value in values.items()}
        for kind, values in TYPES[name]["injectors"].items()
    }


def test_credential_types_are_such() -> None:
    for credential_type in TYPES.values():
        inputs = credential_type["inputs"]
        for field in inputs["fields"]:
            assert field.keys() <= {"id", "label", "type", "secret", "multiline", "help_text", "default"}
            assert field["id"] in inputs["required"] or field["default"]
        assert credential_type["injectors"].keys() <= {"env", "extra_vars", "file"}
    env = TYPES["Container guard: hosts"]["injectors"]["env"]
    assert filter_options.misspelt(env) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in RULEBOOKS.glob("*.yml")))
def test_sources_that_events_are_mapped_onto_have_names(name: str) -> None:
    (ruleset,) = yaml.safe_load((RULEBOOKS / f"{name}.yml").read_text())
    assert all("name" in source for source in ruleset["sources"]) or name == "respond"


def test_secrets_and_files_of_credentials(tmp_path: pathlib.Path) -> None:
    pem = [str(tmp_path / name) for name in ("guard.key", "guard.pem")]
    asked = ("-nodes", "-subj", "/CN=guard", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *asked]
    subprocess.run([*command, "-keyout", pem[0], "-out", pem[1]], check=True, capture_output=True)
    key, certificate = (pathlib.Path(path).read_text() for path in pem)
    secrets = {"token": "correct-horse-battery", "path_token": "staple-of-the-path"}
    variables = injected("Container guard: tokens", secrets)["extra_vars"]
    files = injected("Container guard: TLS", {"certificate": certificate, "key": key})["file"]
    # A controller sends them to the engine, which keeps them in files and says where in this variable.
    names = {}
    for name, content in files.items():
        path = tmp_path / name
        path.write_text(content)
        names[name.removeprefix("template.")] = str(path)
    done = threading.Event()

    def answer(_limit: str, _variables: Json) -> bool:
        done.set()
        return True

    with Controller({RESPOND: answer}) as controller:
        port = free_port()
        with RulebookProcess(
            "ironpost.container_guard.respond_controller",
            local_inventory(tmp_path),
            tmp_path,
            {
                **variables,
                "eda": {"filename": names},
                "guard_port": port,
                "guard": {"port": port, "hosts": ["web-1"], "receipts": False},
            },
            options=("--controller-url", controller.url, "--controller-token", "a-token"),
        ) as process:
            alert = falco("6bc1b4be90d6").replace(b'"localhost"', b'"web-1"')
            context = ssl.create_default_context(cafile=pem[1])
            url = f"https://127.0.0.1:{port}/alerts/{secrets['path_token']}"
            with urllib.request.urlopen(urllib.request.Request(url, alert), context=context) as response:
                assert response.status == 202
            process.wait_for(done.is_set, "job")
    ((name, limit, sent),) = controller.jobs
    assert (name, limit) == (RESPOND, "web-1")
    assert sent["ansible_eda"]["event"]["alerts"][0]["inventory_host"] == "web-1"


def test_receipts_are_read_from_the_artifacts_of_jobs(docker_world: DockerWorld, tmp_path: pathlib.Path) -> None:
    (tmp_path / "policy.yml").write_text(POLICY)
    (tmp_path / "jobs").mkdir()
    elsewhere = Ansible(tmp_path / "jobs", "web-1", "web-2")
    elsewhere.module("policy_set", src=str(tmp_path / "policy.yml"), path=str(elsewhere.policy_set))
    targets = {host: docker_world.make_container(host) for host in ("web-1", "web-2")}
    # Nobody listens there, until the host is mended.
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": free_port()}
    elsewhere.set_variables("web-2", gone)
    runs: list[tuple[str, int]] = []

    def answer(limit: str, variables: Json) -> tuple[bool, Json]:
        run = elsewhere.playbook("respond", variables, "--limit", limit)
        runs.append((limit, run.status))
        elsewhere.set_variables("web-2", {})
        return run.status == 0, run.stats

    port = free_port()
    guard = {"port": port, "token": TOKEN, "hosts": ["web-1", "web-2"], "receipts": "artifacts"}
    with (
        Controller({RESPOND: answer}) as controller,
        RulebookProcess(
            "ironpost.container_guard.respond_controller",
            local_inventory(tmp_path),
            tmp_path,
            {"guard_port": port, "guard": guard},
            options=("--controller-url", controller.url, "--controller-token", "a-token"),
        ) as process,
    ):
        assert controller.listed == [], "nobody asks while nothing is under way"
        alerts = [{**json.loads(falco(target)), "hostname": host} for host, target in targets.items()]
        status, _answer = post(port, json.dumps(alerts).encode())
        assert status == 202
        process.wait_for(lambda: health(port)["elements"]["answered"] == 2, "answer to both alerts")
        found = health(port)
        assert (found["status"], found["troubles"]) == ("ok", [])
        elements = found["elements"]
        assert elements["received"] == elements["answered"] == 2

        # A token that has expired is told, and what is answered meanwhile counts once it holds again.
        controller.refused = 401
        post(port, json.dumps({**alerts[0], "rule": "Terminal shell again"}).encode())
        process.wait_for(lambda: health(port)["troubles"], "trouble")
        assert "401" in health(port)["troubles"][0]
        controller.refused = 0
        process.wait_for(lambda: health(port)["elements"]["answered"] == 3, "answer to the third")
        process.wait_for(lambda: health(port)["status"] == "ok", "end of the trouble")
    assert all(docker_world.engine.inspect_container(target)["State"]["Paused"] for target in targets.values())
    assert [run[0] for run in runs[:2]] == ["web-1,web-2", "web-2"], "only the host that failed is asked again"
    assert runs[0][1] != 0 == runs[1][1]
    assert controller.authorizations == {"Bearer a-token"}
    for _name, _limit, sent in controller.jobs:
        assert "receipt_url" not in sent["ansible_eda"]["event"]["delivery"]


@pytest.fixture
def postgres() -> t.Iterator[Postgres]:
    with Postgres() as server:
        yield server


def mapped(directory: pathlib.Path, postgres: Postgres) -> pathlib.Path:
    """The rulebook of event streams after one was mapped onto its source: a controller replaces that, and no more."""
    rulesets = yaml.safe_load((RULEBOOKS / "respond_stream.yml").read_text())
    (source,) = rulesets[0]["sources"]
    (kind,) = source.keys() - {"name", "filters"}
    del source[kind]
    source["eda.builtin.pg_listener"] = {"dsn": postgres.dsn, "channels": [CHANNEL]}
    assert source["name"] == "alerts"
    path = directory / "mapped.yml"
    path.write_text(yaml.safe_dump(rulesets, sort_keys=False))
    return path


def test_an_event_stream(docker_world: DockerWorld, postgres: Postgres, tmp_path: pathlib.Path) -> None:
    (tmp_path / "policy.yml").write_text(POLICY)
    (tmp_path / "jobs").mkdir()
    elsewhere = Ansible(tmp_path / "jobs", "web-1", "web-2")
    elsewhere.module("policy_set", src=str(tmp_path / "policy.yml"), path=str(elsewhere.policy_set))
    target = docker_world.make_container("target")
    statuses: list[int] = []

    def answer(limit: str, variables: Json) -> bool:
        run = elsewhere.playbook("respond", variables, "--limit", limit)
        statuses.append(run.status)
        return run.status == 0

    harm = "{{ lookup('pipe', 'touch %s') }}" % (tmp_path / "harm")
    alert = json.loads(falco(target))
    alert.update(hostname="falco-web-1", output=harm)
    inputs = {"hosts": "web-1,web-2", "host_map": '{"falco-web-1": "web-1"}'}
    with (
        Controller({RESPOND: answer}) as controller,
        RulebookProcess(
            mapped(tmp_path, postgres),
            local_inventory(tmp_path),
            tmp_path,
            {"guard_organization": ""},
            injected("Container guard: hosts", inputs)["env"],
            options=("--controller-url", controller.url, "--controller-token", "a-token"),
            ready=lambda: postgres.listeners(CHANNEL) == 1,
        ) as process,
    ):
        meta = {"endpoint": "/eda-event-streams/x", "eda_event_stream_name": "falco", "headers": {"Host": harm}}
        postgres.notify(CHANNEL, {"payload": {"no": "alert"}, "meta": meta})
        postgres.notify(CHANNEL, {"payload": alert, "meta": {**meta, "hosts": ["web-2"]}})
        process.wait_for(lambda: statuses, "job")
    ((name, limit, sent),) = controller.jobs
    assert (name, limit, statuses) == (RESPOND, "web-1", [0])
    assert harm not in json.dumps(sent)
    assert docker_world.engine.inspect_container(target)["State"]["Paused"] is True
    assert not (tmp_path / "harm").exists()
