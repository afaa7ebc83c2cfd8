# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From alerts to actions on the fake engine."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import signal
import threading
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import Judgement, PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    NO_FILTER,
    Policy,
    TargetFilter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import (
    NO_LIMITS,
    Limits,
    PolicySet,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answered import Answered
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits import Limiter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Responder, Response
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

NOTHING_SAID: t.Mapping[str, t.Any] = {}
SHELLS: dict[str, t.Any] = {
    "id": "shells",
    "rules": ["Terminal shell*"],
    "severity_threshold": "high",
    "actions": [{"type": "pause"}, {"type": "network_disconnect"}],
}


def alert(**values: t.Any) -> Alert:
    return Alert.from_dict({"source": "falco", "rule": "Terminal shell in container", "severity": "critical", **values})


class Host:
    """A host with a fake engine and a responder for given policies."""

    def __init__(self, state_dir: pathlib.Path) -> None:
        self.engine = FakeEngine()
        self.now = 1_000_000.0
        self._state_dir = state_dir
        self.files = StateDir(str(state_dir / "state"), str(state_dir / "state-run"))
        self.log = ActionLog(self.files)
        self.journal = Journal(self.files)

    def responder(
        self,
        *policies: dict[str, t.Any],
        protect: TargetFilter = NO_FILTER,
        limits: Limits = NO_LIMITS,
        judging: t.Mapping[str, t.Any] = NOTHING_SAID,
        **options: t.Any,
    ) -> Responder:
        policy_set = PolicySet.of([Policy.from_dict(policy) for policy in policies or (SHELLS,)], protect, limits)
        limiter = Limiter(self.files, limits, clock=lambda: self.now)
        judge = Judge(PolicyEngine(policy_set), Resolver(self.engine), "docker-1", **judging)
        return Responder(judge, self.isolator(), self.journal, limiter, "docker-1", **options)

    def isolator(self) -> Isolator:
        return Isolator(self.engine, self.journal, truth=FakeTruth(self.engine), busy_timeout=0.1)

    def gathering(self) -> Gathering:
        return Gathering(Collector(self.engine, str(self._state_dir / "state"), "docker-1"), concurrency=2)

    def intents(self) -> Intents:
        return Intents(self.log, self.files.warnings)

    def lines(self) -> list[dict[str, t.Any]]:
        """The action log."""
        return [json.loads(line) for line in (self.files.read("actions.jsonl") or b"").splitlines()]

    @property
    def paused(self) -> set[str]:
        return {entry["Names"][0][1:] for entry in self.engine.list_containers() if entry["State"] == "paused"}


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def test_isolates_the_container_that_the_short_id_names_and_no_other(host: Host) -> None:
    bystander = host.engine.add_container("web-a", container_id="0" * 64)
    target = host.engine.add_container("web-b", container_id="6bc1b4be90d6" + "0" * 52)
    (response,) = host.responder().respond([alert(id="a-1", trace_id="t-1", container={"id": "6bc1b4be90d6"})])
    assert host.paused == {"web-b"}
    assert {call[1][0] for call in host.engine.changes if call[0] == "pause"} == {target}
    assert bystander not in {argument for call in host.engine.changes for argument in call[1]}
    assert response.decision.outcome == "isolate"
    assert response.decision.policy_id == "shells"
    event = response.event
    assert event is not None
    assert (event.outcome, event.changed, event.trace_id, event.alert_id) == ("isolated", True, "t-1", "a-1")
    assert list(event.timeline) == ["accepted", "decided", "acted", "verified"]
    assert sorted(event.timeline.values()) == list(event.timeline.values())


def test_a_container_named_like_the_id_is_not_taken_for_it(host: Host) -> None:
    """Finding 11: the engine's own look-up prefers the name."""
    host.engine.add_container("6bc1b4be90d6")
    host.engine.add_container("web-b", container_id="6bc1b4be90d6" + "0" * 52)
    host.responder().respond([alert(container={"id": "6bc1b4be90d6"})])
    assert host.paused == {"web-b"}


def test_an_id_that_is_gone_is_not_looked_up_by_name(host: Host) -> None:
    host.engine.add_container("web")
    (response,) = host.responder().respond([alert(host="docker-1", container={"id": "6bc1b4be90d6", "name": "web"})])
    assert response.decision.outcome == "gone"
    assert host.paused == set()


def test_an_ambiguous_prefix_isolates_nothing_and_leaves_a_record(host: Host) -> None:
    for end in "01":
        host.engine.add_container(f"web-{end}", container_id="6bc1b4be90d6" + end * 52)
    (response,) = host.responder().respond([alert(container={"id": "6bc1b4be90d6"})])
    assert response.decision.outcome == "ambiguous"
    assert response.event is not None
    assert response.event.outcome == "ambiguous"
    assert host.engine.changes == []


def test_a_name_counts_only_where_the_host_is_known_to_be_this_one(host: Host) -> None:
    host.engine.add_container("web")
    responder = host.responder()
    unknown, other, mapped, own = responder.respond(
        [
            alert(host="somewhere", container={"name": "web"}),
            alert(inventory_host="docker-2", container={"name": "web"}),
            alert(inventory_host="docker-1", container={"name": "web"}),
            alert(host="docker-1", container={"name": "web"}),
        ]
    )
    assert unknown.decision.outcome == "unresolved"
    assert "host" in unknown.decision.reasons[0]
    assert other.decision.outcome == "other_host"
    assert [mapped.decision.outcome, own.decision.outcome] == ["isolate", "isolate"]


def test_a_name_that_was_taken_over_since_is_stale(host: Host) -> None:
    now = datetime.datetime.now(datetime.UTC)
    host.engine.add_container("web", created=now)
    an_hour_ago = (now - datetime.timedelta(hours=1)).isoformat()
    (response,) = host.responder().respond([alert(host="docker-1", time=an_hour_ago, container={"name": "web"})])
    assert response.decision.outcome == "stale"
    assert host.paused == set()


def test_alerts_without_a_container_isolate_nothing(host: Host) -> None:
    host.engine.add_container("host")
    responses = host.responder().respond(
        [alert(), alert(container={"id": "host", "name": "host"}), alert(container={"id": "<NA>", "name": "<NA>"})]
    )
    assert [response.decision.outcome for response in responses] == ["no_policy", "no_container", "unresolved"]
    assert "scope alert_container does not match" in responses[0].decision.reasons[0]
    assert host.paused == set()


def test_an_alert_that_no_policy_wants_asks_the_engine_nothing(host: Host) -> None:
    host.engine.add_container("web")
    responder = host.responder()
    asked = len(host.engine.calls)
    (response,) = responder.respond([alert(severity="low", container={"name": "web"}, host="docker-1")])
    assert response.decision.outcome == "no_policy"
    assert response.decision.reasons == ("shells: severity_threshold high does not match low",)
    assert response.event is None
    assert len(host.engine.calls) == asked


def test_a_container_that_the_policy_does_not_reach(host: Host) -> None:
    target = host.engine.add_container("db")
    (response,) = host.responder({**SHELLS, "target_filter": {"container_names": ["web*"]}}).respond(
        [alert(container={"id": target})]
    )
    assert response.decision.outcome == "no_policy"
    assert "container_names [web*] does not match [db]" in response.decision.reasons[0]


def test_protected_containers_are_never_isolated(host: Host) -> None:
    target = host.engine.add_container("falco", labels={"role": "detector"})
    responder = host.responder(protect=TargetFilter(labels=("role=detector",)))
    (response,) = responder.respond([alert(container={"id": target})])
    assert response.decision.outcome == "protected"
    assert "protected: labels" in response.decision.reasons[-1]
    assert response.event is not None
    assert host.engine.changes == []


def test_audit_records_and_does_not_act(host: Host) -> None:
    target = host.engine.add_container("web")
    (response,) = host.responder({**SHELLS, "mode": "audit"}).respond([alert(container={"id": target})])
    assert response.event is not None
    assert (response.decision.outcome, response.event.outcome) == ("audit", "audit")
    assert host.engine.changes == []


def test_check_mode_decides_and_does_not_act(host: Host) -> None:
    target = host.engine.add_container("web")
    (response,) = host.responder(check=True).respond([alert(container={"id": target})])
    assert response.event is not None
    assert (response.event.outcome, response.event.changed) == ("would_isolate", True)
    assert {step["status"] for step in response.event.steps} == {"planned"}
    assert host.engine.changes == []


def test_repeats_of_one_batch_are_one_attempt_with_a_record_each(host: Host) -> None:
    target = host.engine.add_container("web")
    first, second, third = host.responder().respond(
        [alert(trace_id=f"t-{number}", container={"id": target}) for number in range(3)]
    )
    assert first.event is not None
    assert second.event is not None
    assert third.event is not None
    assert [name for name, _arguments in host.engine.changes].count("pause") == 1
    assert [event.trace_id for event in (first.event, second.event, third.event)] == ["t-0", "t-1", "t-2"]
    assert (second.event.repeat_of, third.event.repeat_of) == (first.event.id, first.event.id)
    assert [second.event.outcome, second.event.changed] == ["isolated", False]


def test_one_container_that_fails_does_not_keep_others_from_being_isolated(host: Host) -> None:
    targets = [host.engine.add_container(f"web-{number}") for number in range(3)]
    host.engine.before("pause", lambda: host.engine.remove_container(targets[0]))
    responses = host.responder(concurrency=1).respond([alert(container={"id": target}) for target in targets])
    outcomes = [response.event.outcome for response in responses if response.event]
    assert outcomes == ["failed", "isolated", "isolated"]


def test_different_containers_are_worked_on_at_the_same_time(host: Host) -> None:
    meeting = threading.Barrier(4, timeout=10)
    targets = [host.engine.add_container(f"web-{number}") for number in range(4)]
    for _ in targets:
        host.engine.before("pause", meeting.wait)
    responses = host.responder(concurrency=4).respond([alert(container={"id": target}) for target in targets])
    assert {response.event.outcome for response in responses if response.event} == {"isolated"}


def test_an_engine_that_does_not_answer_fails_each_alert_that_needs_it_and_is_asked_once(host: Host) -> None:
    target = host.engine.add_container("web")
    responder = host.responder()
    host.engine.fail_next("list_containers", EngineUnreachable("no socket"))
    responses = responder.respond(
        [
            alert(container={"id": target}),
            alert(container={"id": target}, inventory_host="docker-2"),
            alert(container={"id": target}),
        ]
    )
    assert [response.outcome for response in responses] == ["failed", "other_host", "failed"]
    for event in (responses[0].event, responses[2].event):
        assert event is not None
        assert event.error is not None
        assert event.error["kind"] == "engine_unreachable"
    assert host.engine.changes == []
    assert [name for name, _arguments in host.engine.calls] == ["list_containers"]


def test_what_attackers_write_stays_inert_in_results(host: Host) -> None:
    target = host.engine.add_container("web", image="{{ lookup('pipe', 'id') }}:latest", labels={"x": "{% raw %}"})
    (response,) = host.responder({**SHELLS, "target_filter": {"labels": ["x"]}}).respond(
        [alert(rule="Terminal shell {{ 7 * 7 }}", container={"id": target})]
    )
    assert response.event is not None
    assert response.event.outcome == "isolated"
    for text in _strings(response.to_dict()):
        assert "{{" not in text
        assert "{%" not in text


def _strings(value: object) -> t.Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


class TestRestraint:
    """Cooldown, limits, fallback and alerts that name no container."""

    @pytest.mark.parametrize("undo", ["breach", "failure"])
    def test_after_a_breach_or_a_failure_the_next_alert_acts_whatever_the_cooldown(
        self, host: Host, undo: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = host.engine.add_container("web")
        policy = {**SHELLS, "cooldown": 300}
        if undo == "breach":
            host.responder(policy).respond([alert(container={"id": target})])
            host.engine.unpause(target)
        else:
            for _ in range(4):
                host.engine.fail_next("pause", EngineError("freezer is broken", status=500))
            monkeypatch.setattr(time, "sleep", lambda _seconds: None)
            (failed,) = host.responder(policy).respond([alert(container={"id": target})])
            assert failed.event is not None
            assert failed.event.outcome != "isolated"
        (again,) = host.responder(policy).respond([alert(container={"id": target})])
        assert again.event is not None
        assert (again.event.outcome, host.paused) == ("isolated", {"web"})

    def test_no_more_containers_within_the_window_than_the_limit(self, host: Host) -> None:
        targets = [host.engine.add_container(f"web-{number}") for number in range(4)]
        limits = Limits(max_isolations=2, window=600)
        responses = host.responder(limits=limits).respond([alert(container={"id": target}) for target in targets])
        assert [response.decision.outcome for response in responses] == ["isolate", "isolate", "limit", "limit"]
        assert len(host.paused) == 2
        assert "of at most 2" in responses[2].decision.reasons[-1]
        host.now += 601
        (later,) = host.responder(limits=limits).respond([alert(container={"id": targets[3]})])
        assert later.decision.outcome == "isolate"

    def test_what_was_isolated_already_does_not_use_the_limit_up(self, host: Host) -> None:
        first, second = host.engine.add_container("web-1"), host.engine.add_container("web-2")
        limits = Limits(max_isolations=2, window=600)
        for _ in range(3):
            host.responder(limits=limits).respond([alert(container={"id": first})])
        (response,) = host.responder(limits=limits).respond([alert(container={"id": second})])
        assert response.decision.outcome == "isolate"
        third = host.engine.add_container("web-3")
        (response,) = host.responder(limits=limits).respond([alert(container={"id": third})])
        assert response.decision.outcome == "limit", "and repeats do not lift it either"

    def test_check_mode_uses_nothing_up(self, host: Host) -> None:
        target = host.engine.add_container("web")
        policy, limits = {**SHELLS, "cooldown": 300}, Limits(max_isolations=1, window=600)
        for _ in range(2):
            (checked,) = host.responder(policy, limits=limits, check=True).respond([alert(container={"id": target})])
            assert checked.decision.outcome == "isolate"
        (response,) = host.responder(policy, limits=limits).respond([alert(container={"id": target})])
        assert response.decision.outcome == "isolate"

    def test_a_clock_that_was_set_back_does_not_silence_a_policy(self, host: Host) -> None:
        target = host.engine.add_container("web")
        policy, limits = {**SHELLS, "cooldown": 300}, Limits(max_isolations=1, window=600)
        host.responder(policy, limits=limits).respond([alert(container={"id": target})])
        host.engine.unpause(target)
        host.now -= 100_000
        (response,) = host.responder(policy, limits=limits).respond([alert(container={"id": target})])
        assert response.decision.outcome == "isolate"

    def test_a_memory_that_is_damaged_keeps_nothing_from_being_isolated(
        self, host: Host, tmp_path: pathlib.Path
    ) -> None:
        target = host.engine.add_container("web")
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "limits.json").write_text("{")
        host.responder(limits=Limits(max_isolations=1, window=600)).respond([alert(container={"id": target})])
        assert host.paused == {"web"}

    def test_a_limit_is_an_error_that_names_the_way_out(self, host: Host) -> None:
        targets = [host.engine.add_container(f"web-{number}") for number in range(2)]
        limits = Limits(max_isolations=1, window=600)
        responses = host.responder(limits=limits).respond([alert(container={"id": target}) for target in targets])
        event = responses[1].event
        assert event is not None
        assert event.error is not None
        assert (event.outcome, event.error["kind"]) == ("limit", "limit")
        assert "of at most 1" in event.error["message"]

    def test_a_fallback_is_taken_where_no_action_can_work(self, host: Host) -> None:
        target = host.engine.add_container("host-mode", network_mode="host")
        policy = {**SHELLS, "actions": [{"type": "network_disconnect"}], "fallback": [{"type": "pause"}]}
        (response,) = host.responder(policy).respond([alert(container={"id": target})])
        assert response.event is not None
        assert (response.event.outcome, host.paused) == ("isolated", {"host-mode"})
        assert [action["type"] for action in response.event.actions] == ["pause"]
        assert "network of the host" in response.event.warnings[0]

    def test_without_a_fallback_it_is_refused(self, host: Host) -> None:
        target = host.engine.add_container("host-mode", network_mode="host")
        policy = {**SHELLS, "actions": [{"type": "network_disconnect"}]}
        (response,) = host.responder(policy).respond([alert(container={"id": target})])
        assert response.event is not None
        assert response.event.outcome == "refused"

    def test_an_alert_without_a_container_reaches_what_the_filter_matches(self, host: Host) -> None:
        for name in ("web", "db"):
            host.engine.add_container(name)
        policy = {**SHELLS, "scope": "matching_containers", "target_filter": {"container_names": ["web*"]}}
        (response,) = host.responder(policy).respond([alert(source="suricata", host="docker-1")])
        assert response.decision.outcome == "isolate"
        assert host.paused == {"web"}

    def test_where_more_match_than_it_may_isolate_it_isolates_none(self, host: Host) -> None:
        for number in range(3):
            host.engine.add_container(f"web-{number}")
        policy = {**SHELLS, "scope": "matching_containers", "target_filter": {"container_names": ["web*"]}}
        responses = host.responder(policy).respond([alert(source="suricata", host="docker-1")])
        assert [response.decision.outcome for response in responses] == ["too_many_matches"] * 3
        assert host.paused == set()
        limits = Limits(max_containers_per_alert=3)
        host.responder(policy, limits=limits).respond([alert(source="suricata", host="docker-1")])
        assert len(host.paused) == 3

    def test_an_alert_without_a_container_and_of_an_unknown_host_isolates_nothing(self, host: Host) -> None:
        host.engine.add_container("web")
        policy = {**SHELLS, "scope": "matching_containers", "target_filter": {"container_names": ["web*"]}}
        (response,) = host.responder(policy).respond([alert(source="suricata", host="somewhere")])
        assert response.decision.outcome == "unresolved"
        assert host.paused == set()

    def test_policies_ask_for_the_host(self, host: Host) -> None:
        target = host.engine.add_container("web")
        (other,) = host.responder({**SHELLS, "hosts": ["docker-2"]}).respond([alert(container={"id": target})])
        assert other.decision.outcome == "no_policy"
        (here,) = host.responder({**SHELLS, "hosts": ["docker-?"]}).respond([alert(container={"id": target})])
        assert here.decision.outcome == "isolate"


def test_a_container_whose_network_a_protected_one_uses_keeps_it(host: Host) -> None:
    sidecar = host.engine.add_container("sidecar")
    host.engine.add_container("vault", network_mode=f"container:{sidecar}")
    responder = host.responder(protect=TargetFilter(container_names=("vault",)))
    (response,) = responder.respond([alert(container={"id": sidecar})])
    assert response.decision.outcome == "protected"
    assert "container vault shares its network and is protected" in response.decision.reasons[-1]
    assert host.engine.changes == []
    pause = {**SHELLS, "actions": [{"type": "pause"}]}
    (paused,) = host.responder(pause, protect=TargetFilter(container_names=("vault",))).respond(
        [alert(container={"id": sidecar})]
    )
    assert paused.decision.outcome == "isolate"
    # What is not known to be needed keeps nothing connected.
    falling = {**pause, "fallback": [{"type": "network_disconnect"}]}
    (without,) = host.responder(falling, protect=TargetFilter(container_names=("vault",))).respond(
        [alert(container={"id": sidecar})]
    )
    assert (without.decision.outcome, without.decision.fallback) == ("isolate", ())


def test_a_host_that_the_alert_claims_does_not_count_on_another(host: Host) -> None:
    target = host.engine.add_container("web")
    (response,) = host.responder({**SHELLS, "hosts": ["test-*"]}).respond(
        [alert(host="test-1", container={"id": target})]
    )
    assert response.decision.outcome == "no_policy"
    assert host.paused == set()


def test_two_policies_on_one_container_take_one_place_of_the_limit(host: Host) -> None:
    first, second = host.engine.add_container("web-1"), host.engine.add_container("web-2")
    pause = {**SHELLS, "id": "a", "rules": ["A"], "actions": [{"type": "pause"}]}
    cut = {**SHELLS, "id": "b", "rules": ["B"], "actions": [{"type": "network_disconnect"}]}
    alerts = [
        alert(rule=rule, container={"id": target}) for rule, target in (("A", first), ("B", first), ("A", second))
    ]
    responses = host.responder(pause, cut, limits=Limits(max_isolations=2, window=600)).respond(alerts)
    assert [response.decision.outcome for response in responses] == ["isolate"] * 3


class TestTrouble:
    """What goes wrong with one container must not keep others from being isolated, nor lose a record."""

    def test_a_container_that_cannot_be_inspected(self, host: Host) -> None:
        broken, target = host.engine.add_container("broken"), host.engine.add_container("web")
        host.engine.fail_next("inspect_container", EngineTimeout("no answer"))
        responses = host.responder().respond([alert(container={"id": broken}), alert(container={"id": target})])
        assert [response.decision.outcome for response in responses] == ["failed", "isolate"]
        assert host.paused == {"web"}
        event = responses[0].event
        assert event is not None
        assert event.outcome == "failed"
        assert event.error is not None
        assert event.error["kind"] == "engine_timeout"

    def test_a_container_that_cannot_be_inspected_and_an_alert_that_names_none(self, host: Host) -> None:
        target = host.engine.add_container("web")
        host.engine.add_container("db")
        matching = {**SHELLS, "id": "m", "scope": "matching_containers", "target_filter": {"container_names": ["db"]}}
        host.engine.fail_next("inspect_container", EngineTimeout("no answer"))
        nameless = alert(source="suricata", host="docker-1")
        responses = host.responder(SHELLS, matching).respond([nameless, alert(container={"id": target})])
        assert [response.decision.outcome for response in responses] == ["failed", "isolate"]
        assert host.paused == {"web"}

    def test_a_damaged_journal_entry(self, host: Host, tmp_path: pathlib.Path) -> None:
        broken, target = host.engine.add_container("broken"), host.engine.add_container("web")
        (tmp_path / "state" / "isolations").mkdir(parents=True)
        (tmp_path / "state" / "isolations" / f"{broken}.json").write_bytes(b"\xff")
        responses = host.responder().respond([alert(container={"id": broken}), alert(container={"id": target})])
        assert [response.event.outcome for response in responses if response.event] == ["failed", "isolated"]
        assert host.paused == {"broken", "web"}, "containment does not wait for the journal"

    def test_a_container_named_with_the_id_of_one_that_vanished(self, host: Host) -> None:
        target = host.engine.add_container("web")

        def replace() -> None:
            host.engine.remove_container(target)
            host.engine.add_container(target)

        responder = host.responder()
        # The first look is the one that resolves, the second the one under the lock.
        host.engine.before("inspect_container", lambda: None)
        host.engine.before("inspect_container", replace)
        (response,) = responder.respond([alert(container={"id": target})])
        assert response.event is not None
        assert response.event.outcome == "failed"
        assert host.engine.changes == []

    def test_policies_that_exclude_each_other_go_by_their_order(self, host: Host) -> None:
        target = host.engine.add_container("web")
        first = {**SHELLS, "id": "z", "priority": 1, "actions": [{"type": "pause"}]}
        second = {**SHELLS, "id": "a", "priority": 2, "rules": ["Other*"], "actions": [{"type": "stop"}]}
        alerts = [alert(rule="Other rule", container={"id": target}), alert(container={"id": target})]
        stop, pause = host.responder(first, second).respond(alerts)
        assert stop.event is not None
        assert pause.event is not None
        assert (stop.event.outcome, pause.event.outcome) == ("refused", "isolated")

    def test_containers_that_share_the_network_are_named(self, host: Host) -> None:
        target = host.engine.add_container("web")
        host.engine.add_container("sidecar", network_mode=f"container:{target}")
        (response,) = host.responder().respond([alert(container={"id": target})])
        assert response.event is not None
        assert "container sidecar shares its network" in response.event.warnings[0]

    def test_what_cannot_be_found_on_its_own_host_leaves_a_record(self, host: Host) -> None:
        (known,) = host.responder().respond([alert(host="docker-1", container={"id": "0" * 64})])
        assert known.event is not None
        assert known.event.outcome == "gone"
        (elsewhere,) = host.responder().respond([alert(host="somewhere", container={"id": "0" * 64})])
        assert elsewhere.event is None

    def test_containers_leave_networks_one_after_the_other(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """Engine 20.10 leaks endpoints otherwise."""
        under_way, together = [0], [0]
        disconnect = host.engine.disconnect

        def observed(network_id: str, container_id: str) -> None:
            under_way[0] += 1
            together[0] = max(together[0], under_way[0])
            disconnect(network_id, container_id)
            threading.Event().wait(0.01)
            under_way[0] -= 1

        monkeypatch.setattr(host.engine, "disconnect", observed)
        targets = [host.engine.add_container(f"web-{number}") for number in range(6)]
        host.responder(concurrency=6).respond([alert(container={"id": target}) for target in targets])
        assert len(host.paused) == 6
        assert together == [1]


class TestEvidence:
    WANTED: t.ClassVar[dict[str, t.Any]] = {**SHELLS, "evidence": ["inspect", "top"]}

    def items(self, event: ActionEvent) -> dict[str, str]:
        assert event.evidence is not None
        manifest = pathlib.Path(event.evidence["directory"], "manifest.json").read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == event.evidence["manifest_sha256"]
        return {item["kind"]: item["status"] for item in json.loads(manifest)["items"]}

    def test_is_collected_after_the_containers_are_cut_off_and_once(self, host: Host) -> None:
        container = host.engine.add_container("web")
        gathering = host.gathering()
        responder = host.responder(self.WANTED, gathering=gathering)
        (response,) = responder.respond([alert(id="a-1", trace_id="t-1", container={"id": container})])
        calls = [name for name, _arguments in host.engine.calls]
        assert "top" not in calls
        (event,) = gathering.collect()
        assert response.event is not None
        assert event.evidence is not None
        assert (event.outcome, event.trace_id, event.policy_id) == ("collected", "t-1", "shells")
        assert event.evidence["action_event"] == response.event.id
        assert self.items(event) == {"inspect": "collected", "top": "collected"}
        again = host.gathering()
        host.responder(self.WANTED, gathering=again).respond([alert(container={"id": container})])
        assert again.collect() == [], "it is isolated already"

    def test_what_goes_with_the_processes_is_taken_before_they_end(self, host: Host) -> None:
        container = host.engine.add_container("web")
        gathering = host.gathering()
        policy = {**self.WANTED, "actions": [{"type": "pause"}, {"type": "network_disconnect"}, {"type": "kill"}]}
        (response,) = host.responder(policy, gathering=gathering).respond([alert(container={"id": container})])
        calls = [name for name, _arguments in host.engine.calls]
        assert calls.index("pause") < calls.index("top") < calls.index("kill")
        assert response.event is not None
        assert (response.event.outcome, response.event.before["paused"]) == ("isolated", False)
        assert [step["action"] for step in response.event.steps] == ["pause", "disconnect", "kill"]
        assert self.items(gathering.collect()[0]) == {"inspect": "collected", "top": "collected"}

    def test_evidence_that_cannot_be_had_keeps_nothing_running(self, host: Host, tmp_path: pathlib.Path) -> None:
        container = host.engine.add_container("web")
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "evidence").write_text("a file where the directory should be")
        gathering = host.gathering()
        policy = {**self.WANTED, "actions": [{"type": "kill"}]}
        (response,) = host.responder(policy, gathering=gathering).respond([alert(container={"id": container})])
        assert response.event is not None
        assert response.event.outcome == "isolated"
        (event,) = gathering.collect()
        assert (event.outcome, event.error is not None) == ("failed", True)

    def test_check_mode_collects_nothing(self, host: Host) -> None:
        container = host.engine.add_container("web")
        gathering = host.gathering()
        host.responder(self.WANTED, gathering=gathering, check=True).respond([alert(container={"id": container})])
        assert gathering.collect() == []


def test_release_after_of_the_policy_is_in_the_journal(host: Host, tmp_path: pathlib.Path) -> None:
    container = host.engine.add_container("web")
    host.responder({**SHELLS, "release_after": 3600}).respond([alert(container={"id": container})])
    entry = Journal(str(tmp_path / "state")).load(container)
    assert entry is not None
    assert (entry.claims[0].release_after, bool(entry.expires_at)) == (3600, True)


def received(moment: str, **values: t.Any) -> Alert:
    return alert(received_at=moment, **values)


def outcomes(responses: t.Iterable[Response]) -> list[str]:
    return [response.outcome for response in responses]


LIMITED = Limits(max_isolations=1, window=600)
BEFORE, RELEASED_AT, AFTER = "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "2040-01-01T00:00:00Z"


class TestActsFirst:
    def test_all_are_paused_before_the_first_one_leaves_its_networks(self, host: Host) -> None:
        targets = [host.engine.add_container(f"web-{number}") for number in range(5)]
        host.responder().respond([alert(container={"id": target}) for target in targets])
        names = [name for name, _arguments in host.engine.changes if name in ("pause", "disconnect")]
        assert names == ["pause"] * 5 + ["disconnect"] * 5

    def test_nothing_is_explained_before_all_have_been_isolated(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        targets = [host.engine.add_container(f"web-{number}") for number in range(2)]
        changes: list[int] = []
        judge = PolicyEngine.judge

        def judged(*arguments: t.Any) -> Judgement:
            judgement = judge(*arguments)

            def explain() -> tuple[str, ...]:
                changes.append(len(host.engine.changes))
                return judgement.explain()

            return dataclasses.replace(judgement, explain=explain)

        monkeypatch.setattr(PolicyEngine, "judge", judged)
        host.responder().respond(
            [
                *(alert(container={"id": target}) for target in targets),
                alert(rule="nobody's", container={"id": "0" * 12}),
            ]
        )
        assert changes
        assert set(changes) == {len(host.engine.changes)}

    def test_policies_that_want_the_same_container_each_have_their_own_record(self, host: Host) -> None:
        target = host.engine.add_container("web")
        cut = {**SHELLS, "id": "cut", "priority": 2, "rules": ["Cut"], "actions": [{"type": "network_disconnect"}]}
        responses = host.responder(cut, {**SHELLS, "priority": 1}).respond(
            [alert(rule="Cut", container={"id": target}), alert(container={"id": target})]
        )
        assert outcomes(responses) == ["held", "isolated"], "the policy of the lower number goes first"
        entry = host.journal.load(target)
        assert entry is not None
        assert [claim.subject for claim in entry.claims] == ["shells", "cut"]

    def test_evidence_of_one_that_is_to_end_keeps_no_other_connected(self, host: Host) -> None:
        doomed, other = host.engine.add_container("doomed"), host.engine.add_container("other")
        end = {
            **SHELLS,
            "priority": 1,
            "evidence": ["top"],
            "target_filter": {"container_names": ["doomed"]},
            "actions": [{"type": "pause"}, {"type": "network_disconnect"}, {"type": "kill"}],
        }
        cut = {**SHELLS, "id": "cut", "actions": [{"type": "network_disconnect"}]}
        gathering = host.gathering()
        host.responder(end, cut, gathering=gathering).respond(
            [alert(container={"id": doomed}), alert(container={"id": other})]
        )
        calls = [name for name, _arguments in host.engine.calls]
        top = calls.index("top")
        assert calls[:top].count("disconnect") == 2
        assert calls.index("pause") < top < calls.index("kill")


class TestARelease:
    """A4: a person's release is respected."""

    def release(self, host: Host, container_id: str) -> None:
        person = Cause(actor="jane")
        moment = datetime.datetime.fromisoformat(RELEASED_AT)
        isolator = Isolator(host.engine, host.journal, truth=FakeTruth(host.engine), now=lambda: moment)
        assert isolator.release(container_id, cause=person).outcome == "released"

    def test_an_alert_that_was_received_before_it_is_superseded_and_later_ones_act(self, host: Host) -> None:
        target = host.engine.add_container("web")
        host.responder(answered=Answered(host.files)).respond([received(BEFORE, container={"id": target})])
        self.release(host, target)
        (late,) = host.responder(answered=Answered(host.files)).respond([received(BEFORE, container={"id": target})])
        assert (late.outcome, host.paused) == ("superseded", set())
        assert late.event is not None
        assert any("jane asked for its release" in warning for warning in late.event.warnings)
        (fresh,) = host.responder(answered=Answered(host.files)).respond([received(AFTER, container={"id": target})])
        assert (fresh.outcome, host.paused) == ("isolated", {"web"})

    def test_of_the_alerts_of_one_batch_one_that_was_received_after_it_acts(self, host: Host) -> None:
        target = host.engine.add_container("web")
        self.release(host, target)
        container = {"id": target}
        responses = host.responder(answered=Answered(host.files)).respond(
            [received(BEFORE, container=container), received(AFTER, container=container)]
        )
        assert outcomes(responses) == ["isolated", "isolated"]

    def test_an_old_alert_of_one_policy_does_not_act_beside_a_new_one_of_another(self, host: Host) -> None:
        target = host.engine.add_container("web")
        self.release(host, target)
        cut = {**SHELLS, "id": "cut", "rules": ["Cut"], "actions": [{"type": "network_disconnect"}]}
        responses = host.responder(SHELLS, cut, answered=Answered(host.files)).respond(
            [received(BEFORE, container={"id": target}), received(AFTER, rule="Cut", container={"id": target})]
        )
        assert outcomes(responses) == ["superseded", "isolated"]
        assert host.paused == set()

    def test_what_a_person_gives_is_received_now_whatever_the_clock_of_the_host_says(self, host: Host) -> None:
        target = host.engine.add_container("web")
        self.release(host, target)
        (given,) = host.responder().respond([received(BEFORE, container={"id": target})])
        assert (given.outcome, host.paused) == ("isolated", {"web"})

    def test_another_alert_with_the_same_id_is_none_that_was_answered(self, host: Host) -> None:
        one, other = host.engine.add_container("web-1"), host.engine.add_container("web-2")
        for container in (one, other, one):
            said = received(AFTER, container={"id": container})
            (response,) = host.responder(answered=Answered(host.files)).respond([dataclasses.replace(said, id="87924")])
            Answered(host.files).remember([response.answer])
            assert (response.decision.container or {})["id"] == container
        assert host.paused == {"web-1", "web-2"}

    def test_an_alert_that_its_sender_sends_again_after_the_release_acts(self, host: Host) -> None:
        target = host.engine.add_container("web")
        said = received(BEFORE, id="a-1", container={"id": target})
        for moment, outcome in ((BEFORE, "isolated"), (AFTER, "isolated")):
            again = dataclasses.replace(said, received_at=moment)
            (response,) = host.responder(answered=Answered(host.files)).respond([again])
            Answered(host.files).remember([response.answer])
            assert (response.outcome, host.paused) == (outcome, {"web"})
            assert response.event is not None
            if moment == BEFORE:
                self.release(host, target)

    def test_an_alert_that_was_answered_before_gets_its_first_answer_and_nothing_is_done(self, host: Host) -> None:
        target = host.engine.add_container("web")
        alerts = [received(AFTER, id="a-1", container={"id": target})]
        (first,) = host.responder(answered=Answered(host.files)).respond(alerts)
        Answered(host.files).remember([first.answer])
        host.engine.unpause(target)
        done = len(host.engine.calls)
        (again,) = host.responder(answered=Answered(host.files)).respond(alerts)
        assert len(host.engine.calls) == done
        assert (again.outcome, again.event, host.paused) == ("isolated", None, set())
        assert again.decision.container == {"id": target, "name": "", "image": ""}
        assert first.event is not None
        assert first.event.id in again.decision.reasons[0]


class TestOldAlerts:
    """A5: by the clock of the controller."""

    def test_expire_and_are_on_record_and_red(self, host: Host) -> None:
        target = host.engine.add_container("web")
        now = datetime.datetime(2026, 4, 5, 12, 16, tzinfo=datetime.UTC)
        (response,) = host.responder(judging={"now": now}).respond(
            [received("2026-04-05T12:00:00Z", container={"id": target})]
        )
        assert (response.outcome, host.paused) == ("expired", set())
        assert response.event is not None
        assert response.event.error is not None
        assert "960 seconds old, of at most 900" in response.event.error["message"]

    def test_clocks_that_are_apart_are_a_warning(self, host: Host) -> None:
        target = host.engine.add_container("web")
        now = datetime.datetime(2026, 4, 5, 12, tzinfo=datetime.UTC)
        (response,) = host.responder(judging={"now": now}).respond(
            [received("2026-04-05T12:00:00Z", time="2026-04-05T12:05:00Z", container={"id": target})]
        )
        assert response.event is not None
        assert response.outcome == "isolated"
        assert any("check the clock of docker-1" in warning for warning in response.event.warnings)


class TestNothingStaysConnected:
    """B: a cooldown, a limit or a full disk never leaves a dangerous container connected."""

    @pytest.mark.parametrize("breach", ["unpaused", "reconnected", "restarted", "ended"])
    def test_b1_after_a_breach_the_next_alert_acts(self, host: Host, breach: str) -> None:
        network = host.engine.add_network("front")
        target = host.engine.add_container("web", networks={"front": EndpointSettings()})
        host.responder({**SHELLS, "cooldown": 300}).respond([alert(container={"id": target})])
        if breach == "unpaused":
            host.engine.unpause(target)
        elif breach == "reconnected":
            host.engine.connect(network, target, EndpointSettings())
        elif breach == "restarted":
            host.engine.kill(target)
            host.engine.start(target)
        else:
            host.engine.kill(target)
            host.engine.start(target)
            host.engine.connect(network, target, EndpointSettings())
        (again,) = host.responder({**SHELLS, "cooldown": 300}, limits=LIMITED).respond(
            [alert(container={"id": target})]
        )
        assert (again.outcome, host.paused) == ("isolated", {"web"})

    def test_b1_what_is_held_costs_no_place_of_the_limit(self, host: Host) -> None:
        first, second = host.engine.add_container("web-1"), host.engine.add_container("web-2")
        host.responder().respond([alert(container={"id": first})])
        host.now += 700
        responses = host.responder(limits=LIMITED).respond([alert(container={"id": each}) for each in (first, second)])
        assert outcomes(responses) == ["held", "isolated"]
        repeated = host.responder(limits=LIMITED).respond([alert(container={"id": first})])
        assert outcomes(repeated) == ["held"], "though the limit is reached"

    @pytest.mark.parametrize("trouble", ["refused", "failed"])
    def test_b2_a_place_that_comes_free_is_given_to_who_was_turned_down(self, host: Host, trouble: str) -> None:
        mode = {"network_mode": "host"} if trouble == "refused" else {"freezes": False}
        first, second = host.engine.add_container("first", **mode), host.engine.add_container("second")
        third = host.engine.add_container("third")
        action = "network_disconnect" if trouble == "refused" else "pause"
        policy = {**SHELLS, "actions": [{"type": action}]}
        responses = host.responder(policy, limits=LIMITED).respond(
            [alert(container={"id": each}) for each in (first, second, third)]
        )
        assert outcomes(responses) == [trouble, "isolated", "limit"]
        event = responses[2].event
        assert event is not None
        assert event.error is not None
        assert "1 containers were isolated on this host" in event.error["message"]

    def test_b2_check_mode_foresees_the_limit(self, host: Host) -> None:
        targets = [
            host.engine.add_container("first", network_mode="host"),
            host.engine.add_container("second"),
            host.engine.add_container("third"),
        ]
        policy = {**SHELLS, "actions": [{"type": "network_disconnect"}]}
        responses = host.responder(policy, limits=LIMITED, check=True).respond(
            [alert(container={"id": target}) for target in targets]
        )
        assert outcomes(responses) == ["refused", "would_isolate", "limit"]
        assert host.files.read("limits.json") is None

    @pytest.fixture
    def broken(self, tmp_path: pathlib.Path) -> Host:
        """A host where neither the disk nor what stands in for it takes anything."""
        broken = Host(tmp_path)
        (tmp_path / "file").write_text("")
        broken.files = StateDir(str(tmp_path / "file" / "state"), str(tmp_path / "file" / "run"))
        broken.journal, broken.log = Journal(broken.files), ActionLog(broken.files)
        return broken

    def test_b3_a_host_that_keeps_nothing_still_pauses(self, broken: Host) -> None:
        target = broken.engine.add_container("web")
        (response,) = broken.responder(limits=LIMITED, intents=broken.intents()).respond(
            [alert(container={"id": target})]
        )
        assert (response.outcome, broken.paused) == ("failed", {"web"})
        assert response.event is not None
        assert response.event.error is not None
        assert "is paused and not cut off" in response.event.error["message"]
        assert any("the limit counts" in warning for warning in broken.files.warnings)

    def test_b3_without_a_pause_nothing_is_done_that_could_not_be_undone(self, broken: Host) -> None:
        target = broken.engine.add_container("web")
        policy = {**SHELLS, "actions": [{"type": "network_disconnect"}]}
        (response,) = broken.responder(policy).respond([alert(container={"id": target})])
        assert (response.outcome, broken.engine.changes) == ("failed", [])

    def test_b4_another_run_that_works_on_it_is_not_waited_for_a_minute(self, host: Host) -> None:
        target = host.engine.add_container("web")
        began = time.monotonic()
        with Journal(StateDir(host.files.path, host.files.fallback)).lock(target):
            (response,) = host.responder().respond([alert(container={"id": target})])
        assert time.monotonic() - began < 10
        assert (response.outcome, host.engine.changes) == ("busy", [])

    def test_b4_what_another_run_isolated_meanwhile_is_held(self, host: Host) -> None:
        target = host.engine.add_container("web")
        host.responder().respond([alert(container={"id": target})])
        with Journal(StateDir(host.files.path, host.files.fallback)).lock(target):
            (response,) = host.responder().respond([alert(container={"id": target})])
        assert response.outcome == "held"

    def test_b5_a_fallback_is_taken_where_the_engine_says_that_it_cannot_freeze(self, host: Host) -> None:
        target = host.engine.add_container("rootless", freezes=False)
        policy = {**SHELLS, "actions": [{"type": "pause"}], "fallback": [{"type": "network_disconnect"}]}
        (response,) = host.responder(policy, intents=host.intents()).respond([alert(container={"id": target})])
        event = response.event
        assert event is not None
        assert (event.outcome, event.error) == ("isolated", None)
        assert [action["type"] for action in event.actions] == ["network_disconnect"]
        assert event.warnings[0].startswith("fallback, as ")
        assert "cannot freeze" in event.warnings[0]
        entry = host.journal.load(target)
        assert entry is not None
        assert (entry.hold.pause, bool(entry.hold.networks), entry.phase) == (False, True, "isolated")
        (again,) = host.responder(policy).respond([alert(container={"id": target})])
        assert again.outcome == "held"

    def test_b5_without_a_fallback_it_failed_and_says_why(self, host: Host) -> None:
        target = host.engine.add_container("rootless", freezes=False)
        (response,) = host.responder({**SHELLS, "actions": [{"type": "pause"}]}).respond(
            [alert(container={"id": target})]
        )
        assert response.event is not None
        assert response.outcome == "failed"
        assert "cannot freeze" in response.event.steps[0]["message"]


class TestCompleteRecord:
    """E5: an isolation that was killed halfway is on record."""

    def answer(self, host: Host, target: str) -> tuple[Response, Intents]:
        intents = host.intents()
        (response,) = host.responder(intents=intents, actor="rulebook").respond(
            [alert(id="a-2", trace_id="t-2", container={"id": target})]
        )
        host.log.append([*intents.ends, t.cast(ActionEvent, response.event)])
        return response, intents

    def killed(self, host: Host, target: str, where: str) -> None:
        """A run that is killed before it cuts the container off."""

        def kill(*_arguments: object) -> t.NoReturn:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        child = os.fork()
        if not child:
            try:
                if where == "before disconnect":
                    host.engine.before("disconnect", kill)
                else:
                    setattr(host.log, "intend", kill)  # noqa: B010
                host.responder(intents=host.intents()).respond(
                    [alert(id="a-1", trace_id="t-1", container={"id": target})]
                )
            finally:
                os._exit(1)
        _pid, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL

    def test_what_is_about_to_be_done_is_on_record_before_the_networks_are_left_and_once(self, host: Host) -> None:
        target = host.engine.add_container("web")
        seen: list[list[str]] = []
        host.engine.before("disconnect", lambda: seen.append([line["outcome"] for line in host.lines()]))
        response, _intents = self.answer(host, target)
        assert seen == [["intended"]]
        intended, final = host.lines()
        assert response.event is not None
        assert final["intended"] == intended["id"] == response.event.intended
        assert (intended["actor"], final["actor"], intended["container"]["id"]) == ("rulebook", "rulebook", target)
        assert host.log.verify()["interrupted"] == []

    def test_alerts_about_what_is_held_declare_nothing(self, host: Host) -> None:
        target = host.engine.add_container("web")
        self.answer(host, target)
        self.answer(host, target)
        assert [line["outcome"] for line in host.lines()] == ["intended", "isolated", "held"]
        assert host.lines()[-1]["intended"] == ""

    @pytest.mark.parametrize("where", ["before disconnect", "before it is declared"])
    def test_the_run_that_finds_what_was_cut_short_writes_its_end(self, host: Host, where: str) -> None:
        target = host.engine.add_container("web")
        self.killed(host, target, where)
        declared = [line["id"] for line in host.lines()]
        assert len(declared) == (where == "before disconnect")
        response, _intents = self.answer(host, target)
        assert response.outcome == "isolated"
        ends = [line for line in host.lines() if line["outcome"] == "unknown"]
        assert [(end["trace_id"], end["alert_id"], end["error"]["kind"]) for end in ends] == [
            ("t-1", "a-1", "interrupted")
        ]
        assert ends[0]["container"]["id"] == target
        assert not declared or ends[0]["intended"] == declared[0]
        assert host.log.verify()["interrupted"] == []
        assert host.log.verify()["intact"]
        _response, intents = self.answer(host, target)
        assert intents.ends == [], "once"

    def test_a_run_without_success_was_not_cut_short(self, host: Host) -> None:
        target = host.engine.add_container("rootless", freezes=False)
        self.answer(host, target)
        self.answer(host, target)
        assert [line["outcome"] for line in host.lines() if line["outcome"] != "intended"] == ["failed"] * 2
        assert host.log.verify()["interrupted"] == []
