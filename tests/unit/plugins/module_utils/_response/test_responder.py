# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From alerts to actions on the fake engine."""

from __future__ import annotations

import datetime
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineUnreachable
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    NO_FILTER,
    Policy,
    TargetFilter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Responder
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

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
        self._state_dir = state_dir

    def responder(self, *policies: dict[str, t.Any], protect: TargetFilter = NO_FILTER, **options: t.Any) -> Responder:
        policy_set = PolicySet.of([Policy.from_dict(policy) for policy in policies or (SHELLS,)], protect)
        journal = Journal(str(self._state_dir / "state"))
        isolator = Isolator(self.engine, journal, interfaces=self.engine.interfaces_of)
        return Responder(PolicyEngine(policy_set), Resolver(self.engine), isolator, **{"host": "docker-1", **options})

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
    assert response.decision.outcome == "unresolved"
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
    assert [response.decision.outcome for response in responses] == ["unresolved"] * 3
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
    assert (response.event.outcome, response.event.changed) == ("isolated", True)
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


def test_an_engine_that_does_not_answer_is_an_error_before_anything_is_touched(host: Host) -> None:
    target = host.engine.add_container("web")
    responder = host.responder()
    host.engine.fail_next("list_containers", EngineUnreachable("no socket"))
    with pytest.raises(EngineUnreachable):
        responder.respond([alert(container={"id": target})])
    assert host.engine.changes == []


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
