# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a real host service tells a real rulebook: all of it, in order, once, and what the rulebook does about it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import signal
import sqlite3
import subprocess
import typing as t

import yaml

from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import (
    RulebookProcess,
    free_port,
    local_inventory,
)
from ansible_collections.ironpost.container_guard.tests.integration.senders import post
from ansible_collections.ironpost.container_guard.tests.integration.service_process import (
    HOST,
    ServiceProcess,
    falco,
    policy_set,
)

TOKEN = "token-of-the-host-web-1"
OTHER = "token-of-the-host-web-2"
PAUSE = {"id": "pause", "target_filter": {"container_names": ["cg-test-*"]}, "actions": [{"type": "pause"}]}
TELLS = re.compile(r"TOLD (\{.*\})")
Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Certificates:
    """An authority, and the paths of certificates and keys that it has issued."""

    directory: pathlib.Path

    def __post_init__(self) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._openssl("req", "-x509", *key, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt", *usage)
        for name in ("controller", HOST):
            by = ("-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
            more = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "authorityKeyIdentifier=keyid")
            out = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
            self._openssl("req", "-x509", *key, *by, *more, "-subj", f"/CN={name}", *out)

    def of(self, name: str) -> dict[str, str]:
        return {
            "certfile": str(self.directory / f"{name}.crt"),
            "keyfile": str(self.directory / f"{name}.key"),
            "cafile": str(self.directory / "ca.crt"),
        }

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=self.directory, capture_output=True)


class Controller:
    """A rulebook that takes reports, and what they are told to.

    Args:
        directory: for all that it keeps.
        rulebook: of this collection, or a file.
        variables: of the rulebook.
        options: of its source.
        inventory: variables of all hosts.
    """

    def __init__(
        self, directory: pathlib.Path, rulebook: str | pathlib.Path, variables: Json, options: Json, **inventory: t.Any
    ) -> None:
        self.directory = directory / "controller"
        self.directory.mkdir()
        self.port = free_port()
        hosts = local_inventory(self.directory, "web-1", "web-2", **inventory)
        senders = [
            {"name": name, "hosts": [name], "tokens": [token]} for name, token in (("web-1", TOKEN), ("web-2", OTHER))
        ]
        guard = {"port": self.port, "senders": senders, "spool": str(self.directory / "spool"), **options}
        self.process = RulebookProcess(
            rulebook, hosts, self.directory, {"guard": guard, "guard_port": self.port, **variables}
        )

    def told(self) -> list[Json]:
        """What the rule that prints has printed."""
        return [json.loads(found) for found in TELLS.findall(self.process.log)]


def printing(directory: pathlib.Path) -> pathlib.Path:
    """A rulebook that prints events one after the other: what playbooks do, they do at the same time."""
    guard = {"guard": "{{ guard }}"}
    action = "(event.action | default({}))"
    told = f"{{'id': event.id, 'record': {action}.id | default(''), 'kind': {action}.outcome | default('breach')}}"
    rule = {
        "name": "Print",
        "condition": "event.action is defined or event.breach is defined",
        "action": {"debug": {"msg": f"TOLD {{{{ {told} | tojson }}}}"}},
    }
    ruleset = {
        "name": "Print reports",
        "hosts": "all",
        "sources": [{"ironpost.container_guard.alerts": guard}],
        "rules": [rule],
    }
    path = directory / "printing.yml"
    path.write_text(yaml.safe_dump([ruleset]))
    return path


def kept(service: ServiceProcess) -> list[str]:
    """Kinds of the reports that a service keeps for its controller."""
    with contextlib.closing(sqlite3.connect(service.directory / "spool/outbox.db")) as outbox:
        return [json.loads(report)["kind"] for (report,) in outbox.execute("SELECT report FROM reports")]


def test_what_was_done_while_the_controller_was_away_arrives_in_order_and_once(
    tmp_path: pathlib.Path, docker_world: DockerWorld
) -> None:
    certificates = Certificates(tmp_path)
    senders = [{"name": "host", "hosts": [HOST], "certificate": HOST}]
    controller = Controller(
        tmp_path, printing(tmp_path), {}, {**certificates.of("controller"), "senders": senders, "host": "127.0.0.1"}
    )
    reporting = {"url": f"https://127.0.0.1:{controller.port}", "heartbeat": 1, **certificates.of(HOST)}
    service = ServiceProcess(tmp_path / "service", docker_world.docker_host, policy_set(PAUSE), controller=reporting)
    targets = [docker_world.make_container(f"target-{number}") for number in range(4)]

    def isolate(number: int) -> None:
        before = len(service.records("isolated"))
        service.post(falco(targets[number]))
        service.until(lambda: len(service.records("isolated")) > before, "the container is isolated")

    with service, controller.process as process:
        isolate(0)
        process.wait_for(controller.told, "report of what was isolated")
        process.end(signal.SIGKILL)
        isolate(1)
        docker_world.engine.unpause(targets[0])
        service.until(lambda: "breach" in kept(service), "the breach is kept for the controller")
        service.stop(signal.SIGKILL)
        service.start()
        isolate(2)
        status, text = service.get("/healthz")
        assert status == 200, text  # alerts are answered without a controller
        process.start()
        isolate(3)
        records = [record["id"] for record in service.records()]
        process.wait_for(
            lambda: {told["record"] for told in controller.told()} >= set(records), "report of each record"
        )
        assert process.end() == 0
    told = controller.told()
    assert [one["record"] for one in told if one["record"]] == records
    assert [one["kind"] for one in told].count("breach") == 1
    numbers = [int(one["id"].rpartition("/")[2]) for one in told]
    assert numbers == list(range(1, len(told) + 1))


def test_who_shows_the_token_of_another_host_is_refused(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    controller = Controller(tmp_path, printing(tmp_path), {}, {})
    url = f"http://127.0.0.1:{controller.port}"
    target = docker_world.make_container("target")
    with controller.process as process:
        reporting = {"url": url, "token": OTHER, "heartbeat": 1}
        with ServiceProcess(
            tmp_path / "service", docker_world.docker_host, policy_set(PAUSE), controller=reporting
        ) as service:
            service.post(falco(target))
            service.until(lambda: service.records("isolated"), "alerts are answered all the same")
            service.until(lambda: "does not speak for host web-1" in service.get("/healthz")[1], "it says why")
            assert service.get("/healthz")[0] == 200
        assert controller.told() == []
        # What was refused waits, and arrives with the right token.
        reporting["token"] = TOKEN
        with ServiceProcess(
            tmp_path / "service", docker_world.docker_host, policy_set(PAUSE), controller=reporting
        ) as service:
            process.wait_for(controller.told, "report of what was isolated")
        assert [one["kind"] for one in controller.told()] == ["isolated"]


def test_the_rulebook_pages_hunts_and_collects(tmp_path: pathlib.Path, docker_world: DockerWorld) -> None:
    pages, playbooks = tmp_path / "pages", tmp_path / "playbooks"  # the directory of a playbook is copied for each run
    pages.mkdir()
    playbooks.mkdir()
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ ansible_eda.event | to_json }}",
            "dest": f"{pages}/{{{{ now().timestamp() }}}}",
        }
    }
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [keep]}
    (playbooks / "page.yml").write_text(yaml.safe_dump([play]))
    kinds = ("unanswered", "degraded", "missing", "breach", "ticket")
    controller = Controller(
        tmp_path,
        "ironpost.container_guard.fleet_watch",
        {f"guard_{kind}_playbook": str(playbooks / "page.yml") for kind in kinds},
        {},
        guard_evidence_dest=str(tmp_path / "evidence"),
        guard_state_dir=str(tmp_path / "collecting"),
        guard_docker_host=docker_world.docker_host,
    )

    def paged(kind: str) -> list[Json]:
        events = [json.loads(path.read_text() or "{}") for path in pages.iterdir()]
        return [event[kind] for event in events if kind in event]

    target, twin = docker_world.make_container("target"), docker_world.make_container("twin")
    reporting = {"url": f"http://127.0.0.1:{controller.port}", "token": TOKEN, "heartbeat": 1}
    policies = policy_set({**PAUSE, "rules": ["Terminal shell*"], "on_breach": "report"})
    with controller.process as process:
        with ServiceProcess(
            tmp_path / "service",
            docker_world.docker_host,
            policies,
            controller=reporting,
            intake={"answer_deadline": 3},
        ) as service:
            service.post(falco(target))
            process.wait_for(lambda: paged("isolated"), "ticket")
            (ticket,) = paged("isolated")
            image = docker_world.engine.inspect_container(target)["Image"]
            assert (ticket["container_id"], ticket["image_id"]) == (target, image)
            process.wait_for(
                lambda: list(tmp_path.glob("evidence/web-1/*/manifest.json")), "evidence on the controller"
            )
            process.wait_for(lambda: "would_isolate" in process.log, "hunt on the other host")
            line = next(line for line in process.log.splitlines() if "would_isolate" in line and "cg-test-" in line)
            assert "web-2" in line
            assert not docker_world.engine.inspect_container(twin)["State"]["Paused"]

            docker_world.engine.unpause(target)
            process.wait_for(lambda: paged("breach"), "page of the breach")
            assert [breach["done"] for breach in paged("breach")] == ["reported"]
            process.wait_for(lambda: paged("degraded"), "page of the service that is degraded")
            (degraded,) = paged("degraded")
            assert "it is not paused" in degraded["troubles"][0]

            service.post({**falco(target), "output_fields": {"container.name": "cg-test-nobody"}})
            process.wait_for(lambda: paged("unanswered"), "page of what nobody answered")
            assert paged("unanswered")[0][0]["host"] == HOST
        process.wait_for(lambda: paged("missing"), "page of the missing host")
        with ServiceProcess(tmp_path / "service", docker_world.docker_host, policies, controller=reporting):
            process.wait_for(lambda: paged("back"), "page of the host that is back")
        assert len(paged("missing")) == len(paged("isolated")) == 1


def test_no_text_of_a_host_is_a_template_on_the_controller(tmp_path: pathlib.Path) -> None:
    """Whoever has taken over a host reports what he likes; here to the playbooks of this collection themselves."""
    owned = tmp_path / "owned"
    template = f"{{{{ lookup('pipe', 'touch {owned}') }}}}"
    controller = Controller(tmp_path, "ironpost.container_guard.fleet_watch", {}, {})
    container = {"id": "ab" * 32, "name": template, "image": template}
    action = {"outcome": "isolated", "changed": True, "alert_id": "a", "container": container, "reasons": [template]}
    reports = [
        {"kind": "action", "action": {**action, template: template, "": {"a.b[0]": 2**70}}, "image_id": template},
        {"kind": "breach", "breach": {"name": template, "kinds": [template], "done": template}},
        {"kind": "unanswered", "unanswered": [{"rule": template, "why": f"#jinja2: {template}", "host": template}]},
    ]
    numbered = [{"sequence": number, **report} for number, report in enumerate(reports, 1)]
    beat = {"interval": 30, "state": "degraded", "troubles": [template], "version": template}
    body = {"host": "web-1", "spool": "s-1", "reports": numbered, "heartbeat": beat}
    with controller.process as process:
        status, answer = post(controller.port, body, "/events", TOKEN)
        assert (status, answer["taken"]) == (202, 3)
        wanted = ("web-1: degraded", "did not stay isolated", "is isolated, trace", "look at these containers yourself")
        process.wait_for(lambda: all(words in process.log for words in wanted), "each of them is shown")
        assert "touch" in process.log
    assert not owned.exists()
