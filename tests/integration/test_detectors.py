# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each detector from its own payload to an isolated container: the real rulebook, playbook and Docker Engine."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import re
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import (
    DEFAULT_DOCKER_HOST,
    DockerWorld,
)
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, local_inventory
from ansible_collections.ironpost.container_guard.tests.integration.senders import TOKEN, Json, post
from ansible_collections.ironpost.container_guard.tests.integration.wire import Wire
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors import samples

HOST = "web-1"
PATH_TOKEN = "a-path-of-the-test-suite"
SENSOR_TOKEN = "a-token-of-a-sensor-on-one-host"
POLICY = {
    "id": "quarantine",
    "severity_threshold": "info",
    "target_filter": {"container_names": ["cg-test-*"]},
    "actions": [{"type": "pause"}, {"type": "network_disconnect"}],
}
_BY_PID = {key: value for key, value in samples.TETRAGON_PROCESS.items() if key != "docker"}
# By the name of a container of its own: what is posted, and the name of its detector.
MESSAGES: dict[str, tuple[str, t.Any]] = {
    "falco": ("falco", samples.FALCO),
    "falcosidekick": ("falcosidekick", samples.FALCOSIDEKICK),
    "tetragon": ("tetragon", samples.TETRAGON_KPROBE),
    "tetragon-by-pid": ("tetragon", samples.tetragon(process=_BY_PID, function_name="sys_openat")),
    "wazuh": ("wazuh", samples.WAZUH_SHELL),
    "wazuh-with-falco": ("wazuh", samples.WAZUH_FALCO_NESTED),
    "suricata": ("suricata", samples.SURICATA),
    "crowdsec": ("crowdsec", [samples.CROWDSEC]),
    "alertmanager": ("alertmanager", samples.ALERTMANAGER),
    "grafana": ("grafana", samples.GRAFANA),
    "ironpost": ("ironpost", samples.IRONPOST),
    "generic": ("generic", samples.GENERIC),
}
OF_SENSORS = ("suricata", "ironpost")
"""Those that name no host, so that the sender is bound to one: an address means a container of a known host only."""
RAW = ("falco-expecting", "falco-chunked")


class Scene:
    """A guard, and a running container for each message.

    Attributes:
        world: their engine.
        port: where alerts are taken.
    """

    def __init__(
        self, world: DockerWorld, guard: RulebookProcess, state_dir: pathlib.Path, made: dict[str, str]
    ) -> None:
        self.world = world
        self.port = guard.port
        self._guard = guard
        self._state_dir = state_dir
        self._containers = made

    def message(self, name: str, sample: t.Any) -> bytes:
        """A sample, about the container of that name, and of this moment."""
        container = self._containers[name]
        found = self.world.engine.inspect_container(container)
        (network,) = found["NetworkSettings"]["Networks"].values()
        text = json.dumps(sample)
        for given, ours in (
            (samples.ID, container),
            (samples.ID[:31], container[:31]),
            (samples.ID[:12], container[:12]),
            ('"shop"', json.dumps(found["Name"].lstrip("/"))),
            ("172.18.0.4", network["IPAddress"]),
            ("73860", str(found["State"]["Pid"])),
            ("1775392982", str(int(time.time()))),
        ):
            text = text.replace(given, ours)
        # Whatever fraction of a second follows: the containers are older than that.
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return re.sub(r"2026-04-05T\d\d:\d\d:\d\d", now, text).encode()

    def assert_isolated(self, name: str, trace_id: str) -> None:
        """Wait for the record of an alert: it says that the container is isolated, and so it is."""
        container = self._containers[name]
        self._guard.wait_for(lambda: self._records(trace_id), f"record of {name}")
        (record,) = self._records(trace_id)
        assert (record["outcome"], record["host"], record["policy_id"]) == ("isolated", HOST, "quarantine"), record
        assert record["container"]["id"] == container
        found = self.world.engine.inspect_container(container)
        assert (found["State"]["Paused"], found["NetworkSettings"]["Networks"]) == (True, {})
        assert self.world.interfaces(container) == {"lo"}

    def _records(self, trace_id: str) -> list[Json]:
        path = self._state_dir / "actions.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["trace_id"] == trace_id and line["outcome"] != "intended"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Scene]:
    directory = tmp_path_factory.mktemp("detectors")
    policy_set = directory / "policy_set.json"
    policy_set.write_text(PolicySet.of([Policy.from_dict(POLICY)]).to_json())
    state_dir = directory / "state"
    inventory = local_inventory(directory, HOST, guard_policy_set_path=str(policy_set), guard_state_dir=str(state_dir))
    options = {
        "token": TOKEN,
        "path_token": PATH_TOKEN,
        "senders": [{"name": "sensor", "hosts": [HOST], "tokens": [SENSOR_TOKEN]}],
        "hosts": [HOST],
        "host_map": {samples.FALCO["hostname"]: HOST},
        "inventory": str(inventory),
    }
    with DockerWorld(os.environ.get("DOCKER_HOST") or DEFAULT_DOCKER_HOST) as world:
        network = world.make_network("net")
        made = {
            name: world.make_container(name, {network: EndpointSettings()}) for name in (*MESSAGES, *RAW, "bystander")
        }
        with RulebookProcess("ironpost.container_guard.respond", inventory, directory, {"guard": options}) as guard:
            yield Scene(world, guard, state_dir, made)


@pytest.mark.parametrize("name", MESSAGES)
def test_from_the_payload_of_a_detector_to_an_isolated_container(scene: Scene, name: str) -> None:
    detector, sample = MESSAGES[name]
    message, token = scene.message(name, sample), SENSOR_TOKEN if name in OF_SENSORS else TOKEN
    status, answer = post(scene.port, message, f"/alerts/{detector}", token)
    assert (status, answer["accepted"]) == (202, 1), answer
    trace_id = answer["alerts"][0]["trace_id"]
    # Without the path its shape says what it is: a repeat of the same alert.
    status, answer = post(scene.port, message, token=token)
    assert (status, answer["alerts"][0].get("folded_into")) == (202, trace_id), answer
    scene.assert_isolated(name, trace_id)


def test_what_is_over_and_what_docker_did_is_passed_over(scene: Scene) -> None:
    group = {**samples.ALERTMANAGER, "alerts": [samples.RESOLVED]}
    status, answer = post(scene.port, scene.message("bystander", group), "/alerts/alertmanager")
    assert (status, answer["accepted"], answer["passed_over"]) == (202, 0, {"resolved": 1})
    paused = samples.wazuh("87905", {"Type": "container", "Action": "pause", "Actor": {"ID": samples.ID}})
    status, answer = post(scene.port, scene.message("bystander", paused), "/alerts/wazuh")
    assert (status, answer["accepted"], answer["passed_over"]) == (202, 0, {"state_change": 1})


def test_the_way_in_which_falco_sends(scene: Scene) -> None:
    """Over one connection, byte by byte: what libcurl sends for it, with and without a length of the body."""
    long = {**samples.FALCO["output_fields"], "proc.cmdline": "sh -c " + "x" * 1200}
    expecting, chunked = (scene.message(name, {**samples.FALCO, "output_fields": long}) for name in RAW)
    head = (
        f"POST /alerts/falco/{PATH_TOKEN} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{scene.port}\r\n"
        "User-Agent: falcosecurity/falco\r\n"
        "Accept: */*\r\n"
        "Content-Type: application/json\r\n"
    )
    with Wire(scene.port) as wire:
        wire.send(f"{head}Content-Length: {len(expecting)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert wire.line() == "HTTP/1.1 100 Continue"
        assert wire.line() == ""
        wire.send(expecting)
        first = wire.answer()

        wire.send(f"{head}Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n".encode())
        assert wire.line() == "HTTP/1.1 100 Continue"
        assert wire.line() == ""
        for part in (chunked[:700], chunked[700:], b""):
            wire.send(b"%x\r\n%b\r\n" % (len(part), part))
        second = wire.answer()
    for name, (status, answer) in zip(RAW, (first, second), strict=True):
        assert (status, answer["accepted"]) == (202, 1), answer
        scene.assert_isolated(name, answer["alerts"][0]["trace_id"])
