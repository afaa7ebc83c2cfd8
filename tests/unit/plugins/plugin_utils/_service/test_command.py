# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands of a host, on the fake engine: what they do, print and record, and how they end."""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, EngineTimeout
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common, isolation_info
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action, preceded
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mute, Mutes
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service import asking, command, guard
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import Config, unconfigured
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.main import main
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

TOKEN = "correct-horse-battery"
HOSTILE = "\x1b[2J\x1b]0;owned\x07 {{ lookup('pipe', 'id') }} \u202e"
CONTROLS = ("\x1b", "\x07", "\u202e")
SHELLS: dict[str, t.Any] = {
    "id": "shells",
    "severity_threshold": "high",
    "rules": ["*shell*"],
    "target_filter": {"container_names": ["web*"]},
    "actions": [{"type": "pause"}],
}
DATABASES: dict[str, t.Any] = {
    "id": "data",
    "target_filter": {"container_names": ["db*"]},
    "actions": [{"type": "kill"}],
}
LAST: dict[str, t.Any] = {"id": "last", "priority": 900, "actions": [{"type": "kill"}]}
OFF: dict[str, t.Any] = {"id": "off", "priority": 950, "enabled": False, "actions": [{"type": "kill"}]}


class Run(t.NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it printed on one line: where lines end depends on names and paths."""
        return " ".join(self.out.split())


class Host:
    """A host with a fake engine, and the command on it."""

    def __init__(self, engine: FakeEngine, directory: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.engine = engine
        self.directory = directory
        self.files = StateDir(str(directory / "state"))
        self._capsys = capsys
        self.configure()
        self.deploy()

    def configure(self, **settings: t.Any) -> None:
        """Write the configuration of the service."""
        config = {
            "host": "web-1",
            "state_dir": self.files.path,
            "policy_set": str(self.directory / "set.json"),
            "mode": str(self.directory / "mode"),
            "socket": str(self.directory / "alerts.sock"),
            "retry_backoff_base": 0,
            **settings,
        }
        (self.directory / "service.json").write_text(json.dumps(config))

    def deploy(self, *policies: dict[str, t.Any], **further: t.Any) -> None:
        """Deploy a policy set."""
        found = PolicySet.of([Policy.from_dict(one) for one in policies], **further)
        (self.directory / "set.json").write_text(found.to_json())

    def run(self, *arguments: str) -> Run:
        """Type a command."""
        self._capsys.readouterr()
        try:
            status = main([*arguments, "--config", str(self.directory / "service.json")])
        except SystemExit as ended:
            status = int(str(ended.code))
        said = self._capsys.readouterr()
        return Run(status, said.out, said.err)

    def json(self, *arguments: str) -> dict[str, t.Any]:
        """What a command says to programs."""
        found: dict[str, t.Any] = json.loads(self.run(*arguments, "--json").out)
        return found

    def records(self) -> list[dict[str, t.Any]]:
        """The action log, without what was declared before acting."""
        log = self.directory / "state/actions.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line["outcome"] != "intended"]


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    engine = FakeEngine()
    monkeypatch.setattr(guard, "DockerEngine", lambda docker_host, timeout: engine)
    monkeypatch.delenv("SUDO_USER", raising=False)
    return Host(engine, tmp_path, capsys)


def silent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the engine does not answer."""

    def connect(docker_host: str, timeout: int) -> t.NoReturn:
        raise EngineTimeout(f"cannot ask for the version: {docker_host} did not answer within {timeout} s")

    monkeypatch.setattr(guard, "DockerEngine", connect)


class TestIsolate:
    def test_is_done_and_on_record_as_by_the_module(self, host: Host) -> None:
        container = host.engine.add_container("web")
        run = host.run("isolate", "web", "--reason", "found a miner")
        assert (run.status, run.err) == (0, "")
        assert host.engine.state_of(container) == "paused"
        (record,) = host.records()
        assert run.out == f"web: isolated\nto undo it: container-guard release --trace {record['trace_id']}\n"
        assert (record["outcome"], record["reasons"], record["host"]) == ("isolated", ["found a miner"], "web-1")
        assert [action["type"] for action in record["actions"]] == ["pause", "network_disconnect"]
        assert record["intended"]

    def test_by_actions_and_for_a_time(self, host: Host) -> None:
        container = host.engine.add_container("web")
        run = host.run("isolate", container[:12], "--action", "network_disconnect", "--release-after", "2h")
        assert run.status == 0
        assert host.engine.state_of(container) == "running"
        (isolation,) = host.json("status")["isolations"]
        assert isolation["actions"] == ["network_disconnect"]
        assert f"until {isolation['expires_at'][:19]}Z" in run.out

    def test_a_second_time_names_the_trace_by_which_it_is_undone(self, host: Host) -> None:
        host.engine.add_container("web")
        first = host.json("isolate", "web", "--release-after", "1h")["trace_id"]
        assert host.run("isolate", "web").out.endswith(f": container-guard release web --trace {first}\n")
        assert host.run("isolate", "web").out == "web: held: it was isolated before\n"

    def test_one_that_somebody_set_free_is_held_again(self, host: Host) -> None:
        container = host.engine.add_container("web")
        host.run("isolate", "web")
        host.engine.unpause(container)
        assert host.run("isolate", "web").out.startswith("web: isolated\n")
        assert host.run("status").status == 0

    def test_check_touches_and_writes_nothing(self, host: Host) -> None:
        host.engine.add_container("web")
        run = host.run("isolate", "web", "--check")
        assert (run.status, run.out) == (0, "web: would_isolate\n  pause\n  disconnect bridge\n")
        assert host.engine.changes == []
        assert not (host.directory / "state").exists()

    def test_what_fails_keeps_the_others_from_nothing(self, host: Host) -> None:
        host.engine.add_container("web")
        run = host.run("isolate", "no-such", "web")
        assert run.status == 1
        assert run.out.startswith("web: isolated\n")
        assert run.err == (
            "container-guard: no-such: failed: no container on this host has the id or name no-such. It may be gone, "
            "or run on another host\n"
        )

    def test_a_wrong_id(self, host: Host) -> None:
        run = host.run("isolate", "web/../../etc")
        assert run.status == 1
        assert "'web/../../etc' is neither a container id nor a container name. Give 12 to 64" in run.err

    def test_an_ambiguous_one(self, host: Host) -> None:
        container = host.engine.add_container("web")
        host.engine.add_container(container[:12])
        run = host.run("isolate", container[:12])
        assert run.status == 1
        assert f"2 containers match the id or name {container[:12]}" in run.err
        assert host.engine.changes == []

    def test_what_is_protected_is_refused_unless_forced(self, host: Host) -> None:
        host.engine.add_container("web", labels={"role": "ingress"})
        host.deploy(protect=TargetFilter(labels=("role=ingress",)))
        run = host.run("isolate", "web")
        assert (run.status, run.out) == (1, "")
        assert "web: refused: container web is not isolated: protected: labels" in run.err
        assert host.engine.changes == []
        assert host.run("isolate", "web", "--force").status == 0
        assert [record["reasons"] for record in host.records()] == [[], ["forced"]]

    @pytest.mark.parametrize("content", ["{}", None], ids=["damaged", "missing"])
    def test_a_policy_set_that_cannot_be_read_is_an_error(self, host: Host, content: str | None) -> None:
        host.engine.add_container("web")
        path = host.directory / "set.json"
        path.unlink()
        if content:
            path.write_text(content)
        run = host.run("isolate", "web")
        assert (run.status, run.out) == (1, "")
        assert "Nothing was touched, as a policy set says what is protected" in run.err
        assert host.engine.changes == []
        assert host.run("isolate", "web", "--force").status == 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--action", "pause,explode"), "there is no action 'explode'. Give some of network_disconnect, pause"),
            (("--action", "pause,stop"), "pause and stop exclude each other"),
            (("--action", ","), "there is no action ''"),
            (("--release-after", "soon"), "--release-after is 'soon'. Give seconds"),
            (("--release-after", "400d"), "--release-after is 400d. Give at most 31536000 seconds"),
        ],
    )
    def test_wrong_usage(self, host: Host, arguments: tuple[str, ...], message: str) -> None:
        host.engine.add_container("web")
        run = host.run("isolate", "web", *arguments)
        assert run.status == 2
        assert message in run.err
        assert host.engine.changes == []

    def test_an_engine_that_does_not_answer_is_named(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        silent(host, monkeypatch)
        run = host.run("isolate", "web")
        assert run.status == 1
        assert "container-guard: web: failed: cannot ask for the version" in run.err
        assert [record["outcome"] for record in host.records()] == ["failed"]


class TestRelease:
    def test_gives_back_what_was_isolated(self, host: Host) -> None:
        container = host.engine.add_container("web")
        before = host.engine.inspect_container(container)["NetworkSettings"]["Networks"].keys()
        host.run("isolate", "web")
        run = host.run("release", "web", "--reason", "false alarm")
        assert (run.status, run.out) == (0, "web: released\n")
        assert host.engine.state_of(container) == "running"
        assert host.engine.inspect_container(container)["NetworkSettings"]["Networks"].keys() == before
        assert [record["outcome"] for record in host.records()] == ["isolated", "released"]
        assert host.json("status")["isolations"] == []

    def test_by_the_trace_of_the_request(self, host: Host) -> None:
        for name in ("web", "db"):
            host.engine.add_container(name)
        trace = host.json("isolate", "web")["trace_id"]
        host.run("isolate", "db")
        assert host.run("release", "--trace", trace).out == "web: released\n"
        assert [one["container"]["name"] for one in host.json("status")["isolations"]] == ["db"]

    def test_all(self, host: Host) -> None:
        for name in ("web", "db", "other"):
            host.engine.add_container(name)
        host.run("isolate", "web", "db")
        assert sorted(host.run("release", "--all").out.splitlines()) == ["db: released", "web: released"]
        run = host.run("release", "--all")
        assert (run.status, run.out) == (0, "")
        assert run.err == "container-guard: warning: no container is meant by that\n"

    def test_only_what_is_over(self, host: Host) -> None:
        for name in ("web", "db"):
            host.engine.add_container(name)
        host.run("isolate", "web", "--release-after", "1s")
        host.run("isolate", "db", "--release-after", "1h")
        for entry in (host.directory / "state/isolations").glob("*.json"):
            content = entry.read_text()
            if '"release_after": 1,' in content:
                ends = json.loads(content)["claims"][0]["expires_at"]
                entry.write_text(content.replace(ends, "2026-01-01T00:00:00.000000Z"))
        assert host.run("release", "--expired").out == "web: released\n"

    def test_with_a_restart(self, host: Host) -> None:
        container = host.engine.add_container("web")
        host.run("isolate", "web")
        before = host.engine.inspect_container(container)["State"]["StartedAt"]
        assert host.run("release", "web", "--restart").status == 0
        assert host.engine.state_of(container) == "running"
        assert host.engine.inspect_container(container)["State"]["StartedAt"] != before

    def test_with_networks_that_are_gone(self, host: Host) -> None:
        network = host.engine.add_network("shop")
        host.engine.add_container("web", networks={network: EndpointSettings()})
        host.run("isolate", "web")
        host.engine.remove_network(network)
        run = host.run("release", "web")
        assert (run.status, "shop" in run.err) == (1, True)
        assert host.run("release", "web", "--recreate-networks").status == 0

    def test_of_a_policy_that_does_not_hold_it_is_refused(self, host: Host) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web")
        run = host.run("release", "web", "--policy", "shells")
        assert run.status == 1
        assert "web: refused: " in run.err

    def test_one_that_is_not_isolated(self, host: Host) -> None:
        host.engine.add_container("web")
        run = host.run("release", "web")
        assert (run.status, run.out) == (0, "web: released: it was not isolated\n")

    def test_check(self, host: Host) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web")
        changes = list(host.engine.changes)
        assert host.run("release", "web", "--check").out.startswith("web: would_release\n  connect bridge")
        assert host.engine.changes == changes

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "it is not said what is meant. Give names or ids, --policy, --trace, --expired, or --all"),
            (("web", "--all"), "--all is given with names"),
            (("--trace", "{{ x }}"), "--trace is not an identifier"),
        ],
    )
    def test_wrong_usage(self, host: Host, arguments: tuple[str, ...], message: str) -> None:
        run = host.run("release", *arguments)
        assert run.status == 2
        assert message in run.err

    def test_while_the_engine_does_not_answer_nothing_is_called_released(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web")
        silent(host, monkeypatch)
        run = host.run("release", "--all")
        assert (run.status, run.out) == (1, "")
        assert "container-guard: web: failed: cannot ask for the version" in run.err


class TestStatus:
    def test_nothing_is_isolated(self, host: Host) -> None:
        run = host.run("status")
        assert run.status == 0
        assert run.out.splitlines()[0] == "web-1: 0 containers isolated"

    def test_what_is_isolated_and_why(self, host: Host) -> None:
        container = host.engine.add_container("web")
        trace = host.json("isolate", "web", "--reason", "found a miner", "--release-after", "1h")["trace_id"]
        run = host.run("status")
        assert run.status == 0
        assert run.out.splitlines()[0] == "web-1: 1 container isolated, and that holds"
        (isolation,) = host.json("status")["isolations"]
        assert f"web ({container[:12]})\n  by hand: pause, network_disconnect: found a miner\n" in run.out
        assert f", until {isolation['expires_at'][:19]}Z, by root\n" in run.out
        assert f"    trace {trace}\n" in run.out
        # A path is never cut, and that of a test is long.
        assert max(len(line) for line in run.out.splitlines() if str(host.directory) not in line) <= 80

    def test_what_does_not_hold(self, host: Host) -> None:
        container = host.engine.add_container("web")
        host.run("isolate", "web")
        host.engine.unpause(container)
        run = host.run("status")
        assert run.status == 1
        assert run.out.splitlines()[0] == "web-1: 1 container isolated, 1 of them NOT ANY MORE"
        assert "  NO: unpaused: it is not paused\n" in run.out

    def test_is_what_the_module_returns(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web")
        monkeypatch.setattr(common, "engine_of", lambda params, retry: host.engine)
        defaults = {name: option.get("default") for name, option in isolation_info.argument_spec().items()}
        params = {**defaults, "state_dir": host.files.path, "policy_set": str(host.directory / "set.json")}
        module: t.Any = types.SimpleNamespace(params=params)
        by_module = isolation_info.report(module)
        by_command = host.json("status")
        assert {name: by_command[name] for name in by_module if name not in ("changed", "records")} == json.loads(
            json.dumps({name: value for name, value in by_module.items() if name not in ("changed", "records")})
        )

    def test_an_engine_that_does_not_answer(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web", "--reason", "found a miner")
        silent(host, monkeypatch)
        run = host.run("status")
        assert run.status == 1
        assert run.out.splitlines()[0] == "web-1: 1 container isolated, and whether that holds is not known"
        assert "engine: DOES NOT ANSWER: cannot ask for the version" in run.out
        assert "found a miner" in run.out
        assert "NO:" not in run.out

    def test_mutes_policies_and_who_else_cuts_off(self, host: Host) -> None:
        host.engine.add_container("web", state="paused")
        host.deploy(SHELLS, mode="audit")
        now = utc_now()
        mute = Mute.of("shells", "", now, now + datetime.timedelta(hours=1), "patch day", "alice")
        Mutes(host.files).write([mute])
        run = host.run("status")
        assert ", mode audit\n" in run.out
        assert f"muted until {mute.until} by alice: shells: patch day\n" in run.out
        assert "paused or without network, and not by the guard: web\n" in run.out

    def test_what_waits_for_approval(self, host: Host) -> None:
        isolator = Isolator(host.engine, Journal(host.files), FakeTruth(host.engine))
        actions = preceded((Action("kill", approval=True),))
        isolator.isolate(host.engine.add_container("web"), actions, Cause(policy_id="killer", trace_id="trace-1"))
        run = host.run("status")
        assert "policy killer: pause, network_disconnect" in run.words
        (wish,) = host.json("status")["isolations"][0]["awaiting_approval"]
        assert f"WAITS until {wish['until']} for approval: kill, which the policy killer wants." in run.words

    def test_one_whose_network_is_off_for_others(self, host: Host) -> None:
        owner = host.engine.add_container("owner")
        sidecar = host.engine.add_container("sidecar", network_mode=f"container:{owner}")
        assert host.run("isolate", "sidecar").status == 0
        run = host.run("status")
        assert run.status == 0
        assert [line.split()[-2:] for line in run.out.splitlines() if line.startswith("owner   ")] == [
            ["for", "others"]
        ]
        assert f"  for container {sidecar[:12]}: network_disconnect\n" in run.out

    def test_a_mode_that_is_none(self, host: Host) -> None:
        (host.directory / "mode").write_text("enforced")
        run = host.run("status")
        assert ", mode audit\n" in run.out
        assert run.err.endswith("/mode says neither enforce nor audit: alerts are watched only\n")

    def test_a_journal_that_is_damaged(self, host: Host) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web")
        (entry,) = (host.directory / "state/isolations").glob("*.json")
        entry.write_text("{}")
        run = host.run("status")
        assert run.status == 1
        assert "WRONG: the journal entry" in run.out

    def test_an_action_log_that_was_changed(self, host: Host) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web")
        log = host.directory / "state/actions.jsonl"
        log.write_text(log.read_text().replace('"isolated"', '"released"'))
        run = host.run("status")
        assert run.status == 1
        assert "WRONG: the action log was changed" in run.out

    def test_a_policy_set_that_cannot_be_read(self, host: Host) -> None:
        (host.directory / "set.json").write_text("{}")
        run = host.run("status")
        assert "policies: UNUSABLE: " in run.words
        assert run.status == 0


class TestHealth:
    """The service is asked over its socket; here one that answers as it is told."""

    @pytest.fixture
    def answering(self, host: Host) -> t.Iterator[t.Callable[[str], None]]:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(host.directory / "alerts.sock"))
        listening.listen(8)
        threads = []

        def serve(answer: str) -> None:
            connection, _address = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer.encode())

        def answer(text: str) -> None:
            threads.append(threading.Thread(target=serve, args=(text,)))
            threads[-1].start()

        with listening:
            yield answer
            for thread in threads:
                thread.join()

    def told(self, status: str = "200 OK", **content: t.Any) -> str:
        body = json.dumps({"status": "ok", "troubles": [], "warnings": [], **content})
        return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}"

    def test_well(self, host: Host, answering: t.Callable[[str], None]) -> None:
        answering(self.told())
        assert "service: ok\n" in host.run("status").out

    def test_failing(self, host: Host, answering: t.Callable[[str], None]) -> None:
        answering(self.told("503 no", troubles=["the disk is full"], warnings=[f"soon {HOSTILE}"]))
        out = host.run("status").out
        assert "service: FAILING\n    trouble: the disk is full\n    warning: soon" in out
        assert not any(control in out for control in CONTROLS)

    def test_none_runs(self, host: Host) -> None:
        assert f"service: NONE RUNS: nothing listens at {host.directory}/alerts.sock" in host.run("status").words

    @pytest.mark.parametrize("answer", ["", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "SSH-2.0\r\n"])
    def test_something_else_answers(self, host: Host, answering: t.Callable[[str], None], answer: str) -> None:
        answering(answer)
        assert "service: NOT KNOWN: " in host.run("status").words

    def test_one_that_does_not_answer(self, host: Host) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(host.directory / "alerts.sock"))
            listening.listen(1)
            health = asking.ask(
                dataclasses.replace(unconfigured(), socket=str(host.directory / "alerts.sock")), timeout=0.1
            )
        assert (health.running, health.problem.partition(" does ")[2]) == (True, "not answer within 0.1 s")

    def test_over_tls(self, host: Host) -> None:
        certificate, key = host.directory / "guard.pem", host.directory / "guard.key"
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=guard", "-days", "1"]
        subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        host.configure(intake={"certfile": str(certificate), "keyfile": str(key), "token": TOKEN})

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(str(host.directory / "alerts.sock"))
            listening.listen(1)

            def serve() -> None:
                with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
                    connection.recv(65536)
                    connection.sendall(self.told().encode())

            thread = threading.Thread(target=serve)
            thread.start()
            assert "service: ok\n" in host.run("status").out
            thread.join()

    def test_over_loopback_where_there_is_no_socket(self, host: Host) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        host.configure(socket="", intake={"port": port, "host": "0.0.0.0", "token": TOKEN})  # noqa: S104 - nothing listens
        assert f"nothing listens at http://127.0.0.1:{port}/healthz" in host.run("status").words


class TestExplain:
    def test_what_holds_it_and_what_is_on_record(self, host: Host) -> None:
        container = host.engine.add_container("web")
        host.run("isolate", "web", "--reason", "found a miner")
        run = host.run("explain", "web")
        assert run.status == 0
        lines = run.out.splitlines()
        assert lines[0] == f"web ({container[:12]}), image container-guard/busybox:latest: isolated"
        assert lines[1] == "  by hand: pause, network_disconnect: found a miner"
        assert lines[-1].split()[2:] == ["isolated", "root", "found", "a", "miner"]
        found = host.json("explain", "web")
        assert [record["outcome"] for record in found["records"]] == ["isolated"]
        assert found["containers"][0]["isolation"]["agree"] is True

    def test_one_that_is_protected(self, host: Host) -> None:
        host.engine.add_container("web", labels={"role": "ingress"})
        host.deploy(protect=TargetFilter(labels=("role=ingress",)))
        run = host.run("explain", "web")
        assert run.status == 0
        assert ": not isolated\n  an isolation would be refused: protected: labels" in run.out

    def test_one_that_is_gone(self, host: Host) -> None:
        container = host.engine.add_container("web")
        host.run("isolate", "web")
        host.engine.remove_container(container)
        run = host.run("explain", "web")
        assert (run.status, "was removed meanwhile" in run.err) == (0, True)
        assert "  NO: removed: it no longer exists\n" in run.out
        host.run("release", "web", "--force")
        run = host.run("explain", "web")
        assert run.status == 0
        assert "web: neither the engine nor the journal tells of it\n" in run.out
        assert [record["outcome"] for record in host.json("explain", "web")["records"]] == ["isolated", "released"]

    def test_one_that_nobody_knows(self, host: Host) -> None:
        run = host.run("explain", "no-such")
        assert (run.status, run.out) == (1, "")
        assert "no container on this host has the id or name no-such" in run.err

    def test_while_the_engine_does_not_answer(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        host.engine.add_container("web")
        host.run("isolate", "web", "--reason", "found a miner")
        silent(host, monkeypatch)
        run = host.run("explain", "web")
        assert run.status == 1
        assert "found a miner" in run.out
        assert "did not answer within" in run.err


class TestExplainAlert:
    def alert(self, host: Host, rule: str = "Terminal shell in container", **further: t.Any) -> str:
        path = host.directory / "alert.json"
        container = {"name": "somewhere-else"}
        alert = {"source": "falco", "rule": rule, "severity": "critical", "container": container, **further}
        path.write_text(json.dumps(alert))
        return str(path)

    def test_says_policy_by_policy_who_answers_and_why_the_others_do_not(self, host: Host) -> None:
        host.engine.add_container("web")
        host.deploy(SHELLS, DATABASES, LAST, OFF)
        run = host.run("explain", "web", "--alert", self.alert(host))
        assert (run.status, run.err) == (0, "")
        assert run.out == (
            "falco alert 'Terminal shell in container', critical, about web:\n"
            "  policy shells isolates it: pause\n"
            "policy  answers  why\n"
            "data    no       container_names [db*] does not match [web]\n"
            "shells  YES      severity_threshold high matches critical\n"
            "                 scope alert_container matches an alert that names a container\n"
            "                 rules [*shell*] matches [Terminal shell in container]\n"
            "                 container_names [web*] matches [web]\n"
            "last    no       policy shells is asked first\n"
            "off     no       it is not enabled\n"
        )
        assert host.engine.changes == []
        (alert,) = host.json("explain", "web", "--alert", self.alert(host))["alerts"]
        assert (alert["decision"]["outcome"], alert["decision"]["policy_id"]) == ("isolate", "shells")
        assert [one["policy_id"] for one in alert["policies"] if one["answers"]] == ["shells"]

    def test_that_nobody_answers(self, host: Host) -> None:
        host.engine.add_container("web")
        host.deploy(SHELLS)
        run = host.run("explain", "web", "--alert", self.alert(host, rule="Write below etc"))
        assert run.status == 0
        assert "  nothing is done, no_policy: no policy wants anything done\n" in run.out
        assert "shells  no       rules [*shell*] does not match [Write below etc]\n" in run.out

    def test_that_it_is_protected_watched_or_muted(self, host: Host) -> None:
        host.engine.add_container("web")
        host.deploy(SHELLS, protect=TargetFilter(container_names=("web",)))
        assert (
            "nothing is done, protected (policy shells)" in host.run("explain", "web", "--alert", self.alert(host)).out
        )
        host.deploy(SHELLS)
        (host.directory / "mode").write_text("audit\n")
        out = host.run("explain", "web", "--alert", self.alert(host)).out
        assert "nothing is done, audit (policy shells)" in out
        assert "  only watching was asked for (mode audit)\n" in out
        (host.directory / "mode").write_text("enforce\n")
        now = utc_now()
        Mutes(host.files).write([Mute.of("", "web", now, now + datetime.timedelta(hours=1), "patch day", force=True)])
        out = host.run("explain", "web", "--alert", self.alert(host)).out
        assert "nothing is done, muted (policy shells)" in out
        assert "patch day" in out

    def test_one_from_standard_input(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        host.engine.add_container("web")
        host.deploy(SHELLS)
        content = pathlib.Path(self.alert(host)).read_bytes()
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))
        assert "policy shells isolates it" in host.run("explain", "web", "--alert", "-").out

    def test_several_in_one_message(self, host: Host) -> None:
        host.engine.add_container("web")
        host.deploy(SHELLS)
        path = pathlib.Path(self.alert(host))
        path.write_text(f"[{path.read_text()}, 1, {path.read_text()}]")
        run = host.run("explain", "web", "--alert", str(path))
        assert (run.status, run.err) == (1, "container-guard: the message is not a JSON object\n")
        assert run.out.count("policy shells isolates it: pause\n") == 2
        assert "\n\nfalco alert" in run.out

    def test_one_that_names_no_container(self, host: Host) -> None:
        for name in ("web", "web-2", "other"):
            host.engine.add_container(name)
        host.deploy({**SHELLS, "scope": "matching_containers"})
        path = pathlib.Path(self.alert(host))
        path.write_text(json.dumps({"source": "sensor", "rule": "shell", "severity": "high"}))
        run = host.run("explain", "web-2", "--alert", str(path))
        assert "nothing is done, too_many_matches (policy shells)" in run.out
        host.engine.remove_container("web")
        assert "  policy shells isolates it: pause\n" in host.run("explain", "web-2", "--alert", str(path)).out
        run = host.run("explain", "other", "--alert", str(path))
        assert "  nothing is done, no_policy: no policy wants anything done\n" in run.out
        assert "shells  no       container_names [web*] does not match [other]\n" in run.out

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"{", "the message is not JSON"),
            (b"[]", "the message holds no alert"),
            (b'{"a": 1}', "the message has the shape of no known detector"),
            (b" " * (1 << 20) + b"{}", "is larger than 1048576 bytes"),
            (None, "no-such-file cannot be read: No such file or directory"),
        ],
        ids=["no JSON", "nothing", "no alert", "large", "missing"],
    )
    def test_what_is_no_alert(self, host: Host, content: bytes | None, message: str) -> None:
        host.engine.add_container("web")
        path = host.directory / ("alert.json" if content else "no-such-file")
        if content:
            path.write_bytes(content)
        run = host.run("explain", "web", "--alert", str(path))
        assert (run.status, run.out) == (1, "")
        assert message in run.err

    def test_of_a_container_that_is_not_there(self, host: Host) -> None:
        run = host.run("explain", "web", "--alert", self.alert(host))
        assert run.status == 1
        assert "no container on this host has the id or name web" in run.err


class TestNothingReachesTheTerminal:
    """Whoever makes containers and networks, or types a reason, chooses texts that others read."""

    def test_of_images_labels_networks_errors_and_reasons(self, host: Host) -> None:
        network = host.engine.add_network(f"net{HOSTILE}")
        labels = {"role": HOSTILE}
        container = host.engine.add_container(
            "web", image=f"image{HOSTILE}", labels=labels, networks={network: _ENDPOINT}
        )
        host.deploy(SHELLS, protect=TargetFilter(labels=("role=*",)))
        alert = host.directory / "alert.json"
        alert.write_text(json.dumps({"source": "falco", "rule": f"shell {HOSTILE}", "severity": "critical"}))
        said = [
            host.run("isolate", "web", f"no{HOSTILE}", "--reason", HOSTILE),
            host.run("isolate", "web", "--check", "--force"),
            host.run("isolate", "web", "--force", "--reason", HOSTILE),
            host.run("status"),
            host.run("explain", "web"),
            host.run("explain", "web", "--alert", str(alert)),
            host.run("explain", HOSTILE),
            host.run("isolate", "web", "--action", HOSTILE),
            host.run("release", "web", "--trace", HOSTILE),
        ]
        host.engine.fail_next("pause", EngineError(f"cannot pause: {HOSTILE}"))
        host.engine.unpause(container)
        said += [host.run("isolate", "web", "--force"), host.run("status"), host.run("release", "web")]
        said += [host.run(name, "web", "--json") for name in ("isolate", "explain", "release")]
        for run in said:
            assert all(line.isprintable() for line in (run.out + run.err).split("\n")), run


_ENDPOINT = EndpointSettings()


class TestWhoAsks:
    @pytest.mark.parametrize(
        ("user", "actor"),
        [
            ("alice", "alice"),
            ("EXAMPLE\\alice", "EXAMPLE\\alice"),
            ("alice.b@example.com", "alice.b@example.com"),
            ("", "root"),
            (HOSTILE, "root"),
            ("{{ x }}", "root"),
            ("a" * 65, "root"),
        ],
    )
    def test_is_on_record(self, host: Host, monkeypatch: pytest.MonkeyPatch, user: str, actor: str) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert guard.actor_of({"SUDO_USER": user}) == actor

    def test_whoever_is_not_root_is_called_by_his_own_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
        assert guard.actor_of({"SUDO_USER": "alice"}) == "4000000"

    def test_by_sudo(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("SUDO_USER", "alice")
        host.engine.add_container("web")
        host.run("isolate", "web")
        assert [record["actor"] for record in host.records()] == ["alice"]

    @pytest.mark.parametrize("arguments", [("status",), ("isolate", "web"), ("release", "--all"), ("explain", "web")])
    def test_one_without_the_right_to_it_reads_one_sentence(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
        monkeypatch.setattr(os, "access", lambda path, rights: str(path) != str(host.directory))
        run = host.run(*arguments)
        assert (run.status, run.out) == (1, "")
        assert run.err == f"container-guard: {host.files.path} is not for this user. Run it as root, with sudo\n"


class TestConfiguration:
    def test_without_one_the_usual_places_are_used(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "DEFAULT_CONFIG", str(host.directory / "no-such"))
        seen: list[Config] = []
        monkeypatch.setattr(command, "Guard", lambda config, actor: seen.append(config) or guard.Guard(config, actor))
        main(["release", "{{}}"])
        assert seen == [unconfigured()]
        assert (seen[0].state_dir, seen[0].docker_host) == ("/var/lib/container-guard", "unix:///var/run/docker.sock")

    def test_one_whose_intake_is_wrong_serves_who_has_nothing_else(self, host: Host) -> None:
        host.engine.add_container("web")
        host.configure(intake={"tokne": "x"})
        assert host.run("isolate", "web").status == 0

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is no JSON"),
            ("[]", "is no dictionary"),
            ('{"state_dri": "/x"}', "unknown setting 'state_dri'. Did you mean state_dir?"),
            ('{"state_dir": "x"}', "state_dir is 'x'. Set it to an absolute path"),
        ],
    )
    def test_one_that_may_mean_another_journal_is_an_error(self, host: Host, content: str, message: str) -> None:
        (host.directory / "service.json").write_text(content)
        run = host.run("status")
        assert (run.status, run.out) == (1, "")
        assert message in run.err

    def test_one_that_is_named_and_missing(self, host: Host) -> None:
        (host.directory / "service.json").unlink()
        run = host.run("status")
        assert run.status == 1
        assert "service.json cannot be read: No such file or directory" in run.err


@pytest.mark.parametrize("arguments", [(), ("explode",), ("isolate",), ("explain",), ("status", "web")])
def test_what_is_no_command_ends_with_2(host: Host, arguments: tuple[str, ...]) -> None:
    assert host.run(*arguments).status == 2


@pytest.mark.parametrize("name", ["status", "isolate", "release", "explain"])
def test_help_states_the_exit_statuses(host: Host, name: str) -> None:
    run = host.run(name, "--help")
    assert run.status == 0
    assert "Exit status: 0 " in run.out
    assert "2 wrong usage." in run.out
