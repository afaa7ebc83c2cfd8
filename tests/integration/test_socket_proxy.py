# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/socket-proxy.md has the calls that each module makes to the Docker Engine, no more and no fewer."""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import re
import sys
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.forwarder import Forwarder
from ansible_collections.ironpost.container_guard.tests.integration.remote import Json, Remote
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import COLLECTIONS

PAGE = COLLECTIONS / "ansible_collections/ironpost/container_guard/docs/socket-proxy.md"
MODULES = ("isolation", "alert_response", "isolation_info", "evidence")
# At the beginning of a line, or right behind the body of the one before.
REQUEST = re.compile(rb"(?:^|(?<=\}))(GET|HEAD|POST|PUT|DELETE|PATCH) (\S+) HTTP/1\.1\r$", re.MULTILINE)
ID = re.compile(r"/[0-9a-f]{64}(?=/|$)")
NAME = re.compile(r"^/networks/cg-test-[0-9a-f]+-[a-z]+(?=/|$)")
CUT = {"type": "network_disconnect"}
# What makes root of access to the engine, and ways around a list.
DANGEROUS = (
    "POST /v1.41/containers/create",
    "POST /containers/create",
    f"POST /v1.41/containers/{'0f' * 32}/exec",
    f"POST /v1.41/containers/{'0f' * 32}/attach",
    f"POST /v1.41/containers/{'0f' * 32}/archive",
    f"POST /v1.41/containers/{'0f' * 32}/../create",
    "POST /v1.41//containers/create",
    "POST /v1.41/containers/%63reate",
    "POST /v1.41/images/create",
    "POST /v1.41/volumes/create",
    "GET /v1.41/images/json",
    "GET /v1.41/info",
)
ENDS = {"paused": {"type": "pause"}, "killed": {"type": "kill"}, "stopped": {"type": "stop", "grace": 0}}


def documented() -> dict[str, set[str]]:
    """The calls of each module, as the page has them."""
    found: dict[str, set[str]] = {module: set() for module in MODULES}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if row := re.fullmatch(r"\| `([A-Z]+ /[^`]+)` \|(.*)\|", line):
            for module, cell in zip(MODULES, row[2].split("|"), strict=True):
                if cell.strip():
                    found[module].add(row[1])
    return found


def calls(heard: bytes) -> set[str]:
    """The calls in what was sent to an engine, as the page has them."""
    found = set()
    for method, target in REQUEST.findall(heard):
        path = ID.sub("/ID", re.sub(r"^/v1[.][0-9]+", "", target.decode().partition("?")[0]))
        found.add(f"{method.decode()} {NAME.sub('/networks/NAME', path)}")
    return found


class Listening:
    """The engine of the machine, by way of a port for each module. A context manager."""

    def __init__(self, docker_host: str) -> None:
        self._heard: dict[str, list[bytes]] = {module: [] for module in MODULES}
        self._ports = {
            module: Forwarder(docker_host.removeprefix("unix://"), heard.append)
            for module, heard in self._heard.items()
        }
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Listening:
        for port in self._ports.values():
            self._open.enter_context(port)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def engine_of(self, module: str) -> str:
        return f"tcp://127.0.0.1:{self._ports[module].port}"

    def calls(self) -> dict[str, set[str]]:
        return {module: calls(b"".join(heard)) for module, heard in self._heard.items()}


def test_the_page_has_the_calls_that_each_module_makes(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    world, state = docker_world, {"state_dir": str(tmp_path / "state")}
    network, pruned = world.make_network("n"), world.make_network("pruned")
    made = {
        suffix: world.make_container(suffix, {network: PLAIN}, restart_policy=("always", 0))
        for suffix in (*ENDS, "answered-paused", "answered-killed", "answered-stopped", "evident")
    }
    made["lonely"] = world.make_container("lonely", {pruned: PLAIN}, state="paused")
    policies = tmp_path / "policy_set.json"
    policies.write_text(
        PolicySet.of(
            Policy.from_dict(
                {
                    "id": suffix,
                    "severity_threshold": "info",
                    "target_filter": {"container_names": [f"*-answered-{suffix}"]},
                    "actions": [CUT, action],
                }
            )
            for suffix, action in ENDS.items()
        ).to_json()
    )

    def alert(suffix: str, **container: str) -> Json:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        alert = {"source": "test", "rule": suffix, "severity": "critical", "time": now, "received_at": now}
        return {**alert, "host": "target", "inventory_host": "target", "container": container}

    alerts = [
        alert("paused", id=made["answered-paused"]),
        alert("killed", id=made["answered-killed"]),
        alert("stopped", name=world.name("answered-stopped")),
    ]
    with Listening(world.docker_host) as listening:

        def call(module: str, **options: t.Any) -> tuple[str, Json]:
            return module, {"docker_host": listening.engine_of(module), **options}

        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        remote = Remote(tmp_path, local)
        answering = {**state, "policy_set": str(policies), "alerts": alerts, "host": "target"}
        results = remote.modules(
            *(
                call("isolation", **state, container=made[suffix], actions=[CUT, action])
                for suffix, action in ENDS.items()
            ),
            call("isolation", **state, container=made["lonely"], actions=[CUT]),
            call("alert_response", **answering),
            call("isolation_info", **state),
            call(
                "evidence",
                **state,
                container=made["evident"],
                collect=["inspect", "top", "stats", "changes", "logs", "export"],
                paths=["/etc"],
            ),
        )
        assert [result.get("msg") for result in results if result.get("failed")] == []
        world.remove_network(pruned)
        results = remote.modules(
            call("isolation", **state, container=made["paused"], state="released"),
            call("isolation", **state, container=made["killed"], state="released", restart=True),
            call("isolation", **state, container=made["lonely"], state="released", recreate_networks=True),
        )
        assert [result.get("msg") for result in results if result.get("failed")] == []
    made_calls, on_page = listening.calls(), documented()
    assert {module: made_calls[module] - on_page[module] for module in MODULES} == {module: set() for module in MODULES}
    assert {module: on_page[module] - made_calls[module] for module in MODULES} == {module: set() for module in MODULES}


def test_the_list_for_wollomatic_lets_these_calls_through_and_no_others() -> None:
    page = PAGE.read_text(encoding="utf-8")
    lists = {method: re.findall(rf"'-allow{method}=([^']+)'", page) for method in ("GET", "POST")}

    def passes(call: str) -> bool:
        method, _space, path = call.partition(" ")
        return any(re.fullmatch(expression, path) for expression in lists[method])

    for call in set().union(*documented().values()):
        method, _space, path = call.replace("/ID", "/" + "0f" * 32).replace("/NAME", "/shop_back-1.x").partition(" ")
        assert passes(f"{method} {path if path == '/version' else '/v1.41' + path}"), call
    for call in DANGEROUS:
        assert not passes(call), call
