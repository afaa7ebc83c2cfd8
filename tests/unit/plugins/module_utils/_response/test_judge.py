# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container an alert means, and what is decided about it, on the fake engine."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineTimeout,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.lazy import connected_when_asked
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.alert_response import read_alerts
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge, Verdict
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth
from ansible_collections.ironpost.container_guard.tests.readings import alerts_from_bytes

ID = "3f2a91c07be4"
NOW = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)
SHELLS: dict[str, t.Any] = {"id": "shells", "actions": [{"type": "pause"}, {"type": "network_disconnect"}]}
SWEEP: dict[str, t.Any] = {
    "id": "sweep",
    "scope": "matching_containers",
    "target_filter": {"container_names": ["shop-*"]},
    "actions": [{"type": "pause"}],
}


def falco(fields: dict[str, t.Any] | None, **changes: t.Any) -> Alert:
    """An alert of Falco as a host gets it: received, put into an event, read from the options of the module."""
    message = {
        "hostname": "docker-1",
        "priority": "Critical",
        "rule": "Fileless execution via memfd_create",
        "source": "syscall",
        "output_fields": fields,
        **changes,
    }
    (received,) = alerts_from_bytes(json.dumps(message).encode())
    (alert,), rejected = read_alerts([json.loads(json.dumps(received.to_dict()))])
    assert rejected == []
    assert alert == received
    return alert


def generic(**values: t.Any) -> Alert:
    return Alert.from_dict(
        {"source": "suricata", "rule": "ET MALWARE", "severity": "critical", "host": "docker-1", **values}
    )


def judge(
    engine: FakeEngine,
    *policies: dict[str, t.Any],
    protect: TargetFilter | None = None,
    limits: Limits | None = None,
    set_mode: str = "enforce",
    **options: t.Any,
) -> Judge:
    policy_set = PolicySet.of(
        [Policy.from_dict(policy) for policy in policies or (SHELLS, SWEEP)],
        protect or TargetFilter(),
        limits or Limits(),
        set_mode,
    )
    return Judge(PolicyEngine(policy_set), Resolver(engine), "docker-1", **options)


def outcomes(verdicts: list[Verdict]) -> list[str]:
    return [verdict.decision.outcome for verdict in verdicts]


@pytest.fixture
def engine() -> FakeEngine:
    """One container, which every policy reaches: whatever an alert is about, this is what could be isolated for it."""
    engine = FakeEngine()
    engine.add_container("shop-web", container_id=ID + "0" * 52)
    return engine


class TestTheRightContainer:
    """A.1: an alert that names container A never isolates B."""

    @pytest.mark.parametrize(
        ("fields", "outcome"),
        [
            ({"container.id": "host", "container.name": "host", "proc.name": ".runc"}, "no_container"),
            ({"container_id": "host", "container_name": "host"}, "no_container"),
            ({"container.id": "101", "container.name": "101"}, "no_container"),
            ({"container.id": None}, "unresolved"),
            ({"container.id": ""}, "unresolved"),
            ({"container.id": "<NA>", "container.name": "<NA>"}, "unresolved"),
            ({"proc.name": "sh"}, "unresolved"),
            (None, "unresolved"),
            ({"container.id": None, "container.name": ID}, "unresolved"),
            ({"container.id": "6bc1b4be90d6"}, "gone"),
            ({"container.name": "another"}, "unresolved"),
        ],
        ids=[
            *("host", "host, flattened", "lxc", "null", "empty", "NA", "absent", "no output_fields"),
            *("an id for a name", "another id", "another name"),
        ],
    )
    def test_falco_about_no_container_that_is_known_isolates_none(
        self, engine: FakeEngine, fields: dict[str, t.Any] | None, outcome: str
    ) -> None:
        (verdict,) = judge(engine).decide(falco(fields))
        assert verdict.decision.outcome == outcome
        assert verdict.decision.container is None
        assert verdict.leaves_record, "a policy would have wanted it"
        assert verdict.decision.reasons

    def test_falco_internal_is_for_no_policy(self, engine: FakeEngine) -> None:
        alert = falco(None, rule="Falco internal: syscall event drop", source="internal")
        assert outcomes(judge(engine).decide(alert)) == ["no_policy"]

    @pytest.mark.parametrize("source", ["falco", "tetragon", "wazuh"])
    def test_sources_that_name_containers_never_reach_matching_containers(
        self, engine: FakeEngine, source: str
    ) -> None:
        assert outcomes(judge(engine).decide(generic(source=source))) == ["no_policy"]
        named = {**SWEEP, "sources": [source]}
        assert outcomes(judge(engine, named).decide(generic(source=source))) == ["no_policy"]

    def test_a_generic_alert_without_container_does(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(generic())
        assert (verdict.decision.outcome, verdict.decision.policy_id) == ("isolate", "sweep")

    def test_flattened_keys_name_the_container(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(falco({"container_id": ID, "container_name": "shop-web"}))
        assert (verdict.decision.outcome, verdict.decision.policy_id) == ("isolate", "shells")

    def test_a_name_without_an_id_resolves_by_name_on_a_known_host(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(falco({"container.name": "shop-web"}, rule="Terminal shell"))
        assert verdict.decision.outcome == "isolate"
        note = "its container has no id: add %container.id to the output of rule Terminal shell"
        assert verdict.decision.reasons[-1] == note
        (nameless,) = judge(engine).decide(falco({}, rule="Terminal shell"))
        assert nameless.decision.reasons[-1] == note

    def test_a_name_without_an_id_says_nothing_on_an_unknown_host(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(falco({"container.name": "shop-web"}, hostname="054aab939018"))
        assert verdict.decision.outcome == "unresolved"
        assert verdict.leaves_record, "no other host knows better"

    def test_an_id_that_another_host_may_have_leaves_no_record(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(falco({"container.id": "6bc1b4be90d6"}, hostname="054aab939018"))
        assert (verdict.decision.outcome, verdict.leaves_record) == ("gone", False)

    def test_what_no_policy_would_want_is_not_recorded(self, engine: FakeEngine) -> None:
        strict = {**SHELLS, "rules": ["Other*"]}
        for fields in ({"container.id": "host"}, {"container.id": None}):
            (verdict,) = judge(engine, strict).decide(falco(fields))
            assert (verdict.decision.outcome, verdict.leaves_record) == ("no_policy", False)

    def test_a_container_of_another_engine_is_named(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(falco({"container.id": "101", "container.name": "pct-mail"}))
        assert verdict.decision.reasons[0].endswith("that Docker does not run, pct-mail")

    def test_a_generic_alert_may_say_so(self, engine: FakeEngine) -> None:
        alert = generic(container={"subject": "not_docker", "name": "shop-web"})
        assert outcomes(judge(engine).decide(alert)) == ["no_container"]

    def test_two_ids_and_a_reused_name_stay_what_they_are(self, engine: FakeEngine) -> None:
        engine.add_container("twin", container_id=ID + "1" * 52)
        assert outcomes(judge(engine).decide(falco({"container.id": ID}))) == ["ambiguous"]
        engine.add_container("fresh", created=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1))
        assert outcomes(judge(engine).decide(falco({"container.name": "fresh"}))) == ["stale"]
        engine.add_container("young", created=datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1))
        last_week = format_timestamp(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=7))
        assert outcomes(judge(engine).decide(falco({"container.name": "young"}, time=last_week))) == ["stale"]
        assert outcomes(judge(engine).decide(falco({"container.name": "young"}))) == ["isolate"]


class TestFlows:
    """An alert about a flow means the one container at its ends, where a policy for alerts that name one wants it."""

    FLOW: t.ClassVar[dict[str, t.Any]] = {
        "container": {"addresses": ["203.0.113.9", "172.17.0.2"], "subject": "nothing"}
    }

    def test_it_names_the_container(self, engine: FakeEngine) -> None:
        later = format_timestamp(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1))
        (verdict,) = judge(engine, SHELLS).decide(generic(**self.FLOW, received_at=later))
        assert (verdict.decision.outcome, verdict.decision.policy_id) == ("isolate", "shells")
        assert verdict.decision.reasons[-1] == "it is at one end of the flow, 203.0.113.9 - 172.17.0.2"

    def test_where_no_container_is_at_its_ends_policies_for_any_container_answer(self, engine: FakeEngine) -> None:
        elsewhere = {"container": {"addresses": ["203.0.113.9", "203.0.113.10"], "subject": "nothing"}}
        (verdict,) = judge(engine).decide(generic(**elsewhere))
        assert verdict.decision.policy_id == "sweep"

    def test_where_only_policies_for_any_container_want_it(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine, SWEEP).decide(generic(**self.FLOW))
        assert verdict.decision.policy_id == "sweep"

    @pytest.mark.parametrize("values", [{"host": "docker-2"}, {"host": ""}])
    def test_on_a_host_that_is_not_known_an_address_says_nothing(
        self, engine: FakeEngine, values: dict[str, str]
    ) -> None:
        assert outcomes(judge(engine).decide(generic(**self.FLOW, **values))) == ["unresolved"]

    def test_a_container_that_got_the_address_later_is_stale(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(generic(**self.FLOW, time="2026-01-01T00:00:00Z"))
        assert verdict.decision.outcome == "stale"
        assert verdict.decision.container is None

    def test_what_is_isolated_held_its_address_by_then(self, tmp_path: pathlib.Path) -> None:
        moment = NOW - datetime.timedelta(hours=2)
        engine = FakeEngine(clock=lambda: moment)
        container = engine.add_container("shop-web")
        journal = Journal(str(tmp_path))
        isolator = Isolator(engine, journal, truth=FakeTruth(engine), now=lambda: NOW)
        assert isolator.isolate(container, [Action("network_disconnect")], Cause("test")).ok
        moment = NOW
        engine.add_container("shop-successor")

        def meant(seconds: int) -> list[str]:
            at = format_timestamp(NOW + datetime.timedelta(seconds=seconds))
            deciding = judge(engine, SHELLS, journal=journal)
            return [
                (verdict.decision.container or {}).get("name", verdict.decision.outcome)
                for verdict in deciding.decide(generic(**self.FLOW, received_at=at, time=at))
            ]

        assert meant(-60) == ["shop-web"]
        assert meant(60) == ["shop-successor"]
        assert meant(-9_000) == ["stale"], "it ran not yet by then"


class TestPids:
    """A process of the host is no container of it."""

    def test_of_the_host(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(generic(source="tetragon", container={"pid": os.getpid()}))
        assert verdict.decision.outcome == "no_container"

    def test_on_a_host_that_is_not_known_it_says_nothing(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine).decide(generic(host="docker-2", container={"pid": os.getpid()}))
        assert verdict.decision.outcome == "unresolved"
        assert "by a process" in verdict.decision.reasons[0]


class TestHostsOfNobody:
    """The controller says which hosts of alerts take no part in the run."""

    def test_an_alert_about_one_is_not_answered_and_one_about_another_host_is(self, engine: FakeEngine) -> None:
        deciding = judge(engine, absent={"ghost": "its host ghost is not in the inventory"})
        for host, outcome in (("ghost", "unknown_host"), ("docker-2", "other_host")):
            (verdict,) = deciding.decide(generic(inventory_host=host))
            assert (verdict.decision.outcome, verdict.leaves_record) == (outcome, False)


class TestOwnEffects:
    """What the guard did to a container that is cut off is no reason to do more to it."""

    PAUSED: t.ClassVar[dict[str, t.Any]] = {"source": "wazuh", "rule": "r", "tags": ["87905"], "container": {"id": ID}}
    KILL: t.ClassVar[dict[str, t.Any]] = {"id": "kill", "actions": [{"type": "kill"}]}

    def test_only_while_it_holds_and_for_listed_rules(self, engine: FakeEngine, tmp_path: pathlib.Path) -> None:
        journal = Journal(str(tmp_path))
        isolator = Isolator(engine, journal, truth=FakeTruth(engine))
        container, decide = ID + "0" * 52, judge(engine, self.KILL, journal=journal).decide
        early = generic(**self.PAUSED)
        assert outcomes(decide(early)) == ["isolate"], "somebody else paused it"
        assert isolator.isolate(container, [Action("pause")], Cause("test")).ok
        (verdict,) = decide(generic(**self.PAUSED))
        assert verdict.decision.outcome == "own_effect"
        assert verdict.leaves_record
        assert outcomes(decide(early)) == ["isolate"], "it was seen before"
        assert outcomes(decide(generic(**{**self.PAUSED, "tags": ["87908"]}))) == ["isolate"]
        assert outcomes(decide(generic(**{**self.PAUSED, "source": "falco"}))) == ["isolate"]
        assert isolator.release(container).ok
        assert outcomes(decide(generic(**self.PAUSED))) == ["isolate"], "never after a release"


class TestUnreadable:
    """A.2: one container that cannot be inspected does not switch off matching_containers for its host."""

    def hang(self, engine: FakeEngine, container_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        inspect = engine.inspect_container

        def inspected(asked: str) -> dict[str, t.Any]:
            if asked == container_id:
                raise EngineTimeout("no answer")
            return inspect(asked)

        monkeypatch.setattr(engine, "inspect_container", inspected)

    def test_its_name_rules_it_out(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hang(engine, engine.add_container("backup"), monkeypatch)
        (verdict,) = judge(engine).decide(generic())
        assert (verdict.decision.outcome, verdict.error) == ("isolate", None)

    def test_where_it_may_be_meant_the_others_are_answered(
        self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.hang(engine, engine.add_container("shop-broken"), monkeypatch)
        answered, failed = judge(engine).decide(generic())
        assert answered.decision.outcome == "isolate"
        assert (answered.decision.container or {})["name"] == "shop-web"
        assert failed.decision.outcome == "failed"
        assert failed.decision.reasons == ("it may mean container shop-broken: no answer",)
        assert isinstance(failed.error, EngineTimeout)
        assert failed.leaves_record

    def test_one_beside_it_on_its_network_keeps_no_other_from_being_answered(
        self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        owner = engine.add_container("shop-owner")
        self.hang(engine, engine.add_container("beside", network_mode=f"container:{owner}"), monkeypatch)
        cutting = {**SWEEP, "actions": [{"type": "network_disconnect"}]}
        answered, failed = judge(engine, cutting).decide(generic())
        assert (answered.decision.container or {})["name"] == "shop-web"
        assert failed.decision.reasons == ("it may mean container shop-owner: no answer",)

    def test_alone_it_is_the_answer(self) -> None:
        engine = FakeEngine()
        engine.add_container("shop-broken")
        engine.fail_next("inspect_container", EngineTimeout("no answer"))
        assert outcomes(judge(engine).decide(generic())) == ["failed"]

    def test_more_than_an_alert_may_isolate(self) -> None:
        engine = FakeEngine()
        for number in range(3):
            engine.add_container(f"shop-{number}")
        assert outcomes(judge(engine).decide(generic())) == ["too_many_matches"] * 3
        assert outcomes(judge(engine, limits=Limits(3)).decide(generic())) == ["isolate"] * 3


class TestExcludedOwner:
    """A.3: exclude holds also for the owner of a network that would be taken off for a sidecar's sake."""

    EXCLUDING: t.ClassVar[dict[str, t.Any]] = {**SHELLS, "target_filter": {"exclude": {"labels": ["tier=core"]}}}

    @pytest.fixture
    def sidecar(self, engine: FakeEngine) -> str:
        owner = engine.add_container("vpn", labels={"tier": "core"})
        return engine.add_container("torrent", network_mode=f"container:{owner}")

    def test_the_owner_keeps_its_networks(self, engine: FakeEngine, sidecar: str) -> None:
        (verdict,) = judge(engine, self.EXCLUDING).decide(generic(container={"id": sidecar}))
        assert verdict.decision.outcome == "protected"
        assert verdict.decision.reasons[-1] == (
            "it uses the network of container vpn, which policy shells excludes: labels [tier=core] matches [tier=core]"
        )

    def test_without_a_disconnect_nothing_happens_to_the_owner(self, engine: FakeEngine, sidecar: str) -> None:
        pausing = {**self.EXCLUDING, "actions": [{"type": "pause"}]}
        assert outcomes(judge(engine, pausing).decide(generic(container={"id": sidecar}))) == ["isolate"]

    def test_an_owner_that_is_not_excluded(self, engine: FakeEngine, sidecar: str) -> None:
        other = {**SHELLS, "target_filter": {"exclude": {"labels": ["tier=edge"]}}}
        assert outcomes(judge(engine, other).decide(generic(container={"id": sidecar}))) == ["isolate"]
        assert outcomes(judge(engine).decide(generic(container={"id": sidecar}))) == ["isolate"]

    def test_a_fallback_that_would_reach_the_owner_is_left_out(self, engine: FakeEngine, sidecar: str) -> None:
        falling = {**self.EXCLUDING, "actions": [{"type": "pause"}], "fallback": [{"type": "network_disconnect"}]}
        (verdict,) = judge(engine, falling).decide(generic(container={"id": sidecar}))
        assert (verdict.decision.outcome, verdict.decision.fallback) == ("isolate", ())
        assert verdict.decision.reasons[-1].startswith("without a fallback: it uses the network of container vpn")


class TestAge:
    """A.5: alerts older than max_alert_age are expired, by the clock of the controller."""

    def alert(self, seconds_ago: float, **values: t.Any) -> Alert:
        received = NOW - datetime.timedelta(seconds=seconds_ago)
        return generic(container={"id": ID}, received_at=format_timestamp(received), **values)

    @pytest.mark.parametrize(
        ("limits", "age", "outcome"),
        [
            (Limits(), 900, "isolate"),
            (Limits(), 901, "expired"),
            (Limits(max_alert_age=60), 61, "expired"),
            (Limits(max_alert_age=0), 86_400, "isolate"),
        ],
    )
    def test_the_policy_set_says_how_old(self, engine: FakeEngine, limits: Limits, age: float, outcome: str) -> None:
        (verdict,) = judge(engine, limits=limits, now=NOW).decide(self.alert(age))
        assert verdict.decision.outcome == outcome
        assert verdict.leaves_record

    def test_an_expired_alert_says_its_age(self, engine: FakeEngine) -> None:
        (verdict,) = judge(engine, now=NOW).decide(self.alert(1_000))
        assert verdict.decision.reasons == ("it is 1000 seconds old, of at most 900",)
        assert engine.calls == [], "whether it is too old is no question for the engine"

    def test_without_the_moment_of_the_controller_there_is_no_age(self, engine: FakeEngine) -> None:
        assert outcomes(judge(engine).decide(self.alert(1_000_000))) == ["isolate"]

    def test_the_time_of_the_event_counts_where_it_lies_within_a_day(self, engine: FakeEngine) -> None:
        decide = judge(engine, now=NOW).decide
        assert outcomes(decide(self.alert(10, time=format_timestamp(NOW - datetime.timedelta(hours=1))))) == ["expired"]
        (old,) = decide(self.alert(10, time=format_timestamp(NOW - datetime.timedelta(days=2))))
        assert old.decision.outcome == "isolate"
        assert "48 hours before its receipt and does not count" in old.warnings[0]
        startsat = format_timestamp(NOW - datetime.timedelta(hours=1))
        assert outcomes(decide(self.alert(10, source="alertmanager", time=startsat))) == ["isolate"]

    def test_a_clock_that_is_ahead_is_told(self, engine: FakeEngine) -> None:
        ahead = format_timestamp(NOW + datetime.timedelta(minutes=5))
        (verdict,) = judge(engine, now=NOW).decide(self.alert(0, time=ahead))
        assert verdict.decision.outcome == "isolate"
        assert verdict.warnings == (
            "the alert was received 300 seconds before its own time: check the clock of docker-1",
        )

    def test_the_clock_of_the_host_does_not_count_and_is_told(self, engine: FakeEngine) -> None:
        wrong = judge(engine, now=NOW, clock=lambda: NOW + datetime.timedelta(hours=2))
        assert wrong.warnings == ("the clock of this host is 7200 seconds ahead of that of the controller",)
        assert outcomes(wrong.decide(self.alert(10))) == ["isolate"]
        assert judge(engine, now=NOW, clock=lambda: NOW).warnings == ()
        assert judge(engine, clock=lambda: NOW).warnings == ()

    def test_what_no_policy_wants_does_not_expire(self, engine: FakeEngine) -> None:
        assert outcomes(judge(engine, now=NOW).decide(self.alert(1_000, inventory_host="docker-2"))) == ["other_host"]
        unwanted = judge(engine, {**SHELLS, "rules": ["Other"]}, now=NOW)
        assert outcomes(unwanted.decide(self.alert(1_000))) == ["no_policy"]


class TestMode:
    """E.7: of the modes of the run, the policy set and the policy the strictest counts."""

    @pytest.mark.parametrize("of_the_run", ["enforce", "audit"])
    @pytest.mark.parametrize("of_the_set", ["enforce", "audit"])
    @pytest.mark.parametrize("of_the_policy", ["enforce", "audit"])
    def test_the_strictest_counts(
        self, engine: FakeEngine, of_the_run: str, of_the_set: str, of_the_policy: str
    ) -> None:
        policy = {**SHELLS, "mode": of_the_policy}
        (verdict,) = judge(engine, policy, set_mode=of_the_set, mode=of_the_run).decide(generic(container={"id": ID}))
        audit = "audit" in (of_the_run, of_the_set, of_the_policy)
        assert verdict.decision.outcome == ("audit" if audit else "isolate")
        assert verdict.decision.policy_id == "shells"
        assert verdict.leaves_record

    @pytest.mark.parametrize("mode", ["", "Audit", "off", "dry-run"])
    def test_another_mode_is_an_error(self, engine: FakeEngine, mode: str) -> None:
        with pytest.raises(PolicyError, match="is unknown") as caught:
            judge(engine, mode=mode)
        assert caught.value.kind == "invalid_option"

    def test_what_is_protected_stays_so(self, engine: FakeEngine) -> None:
        protect = TargetFilter(container_names=("shop-*",))
        (verdict,) = judge(engine, protect=protect, mode="audit").decide(generic(container={"id": ID}))
        assert verdict.decision.outcome == "protected"


class TestWithoutAnEngine:
    """E.6: what needs no engine is decided without one."""

    @pytest.fixture
    def unreachable(self) -> Judge:
        def connect() -> FakeEngine:
            raise EngineUnreachable("no socket")

        policies = PolicyEngine(PolicySet.of([Policy.from_dict({**SHELLS, "rules": ["ET *"]})]))
        return Judge(policies, Resolver(connected_when_asked(connect)), "docker-1", now=NOW)

    @pytest.mark.parametrize(
        ("values", "outcome"),
        [
            ({"inventory_host": "docker-2", "container": {"id": ID}}, "other_host"),
            ({"rule": "something else", "container": {"id": ID}}, "no_policy"),
            ({"container": {"id": "host"}}, "no_container"),
            ({"container": {}}, "unresolved"),
            ({"container": {"id": ID}, "received_at": "2026-04-05T11:00:00Z"}, "expired"),
        ],
    )
    def test_it_is_not_asked(self, unreachable: Judge, values: dict[str, t.Any], outcome: str) -> None:
        alert = generic(**{"received_at": format_timestamp(NOW), **values})
        assert outcomes(unreachable.decide(alert)) == [outcome]

    def test_it_is_asked_where_there_is_no_other_way(self, unreachable: Judge) -> None:
        with pytest.raises(EngineUnreachable):
            unreachable.decide(generic(container={"id": ID}, received_at=format_timestamp(NOW)))


def test_deciding_works_out_no_reason(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """F: act first, explain afterwards."""
    read: list[str] = []
    conditions = Policy.alert_conditions
    monkeypatch.setattr(
        Policy, "alert_conditions", lambda policy, alert: (read.append(policy.id), conditions(policy, alert))[1]
    )
    policies = [{**SHELLS, "id": f"p{number}", "rules": [f"Rule {number}"]} for number in range(1000)]
    deciding = judge(engine, *policies)
    alerts = [generic(rule=f"Rule {number}x", container={"id": ID}) for number in range(499)]
    verdicts = [
        verdict
        for alert in [*alerts, generic(rule="Rule 7", container={"id": ID})]
        for verdict in deciding.decide(alert)
    ]
    assert outcomes(verdicts) == ["no_policy"] * 499 + ["isolate"]
    assert read == []
    assert verdicts[-1].decision.reasons
    assert read == ["p7"]
    assert len(verdicts[0].decision.reasons) == len(read) - 1 == 3


def test_a_verdict_that_is_turned_down_keeps_its_reasons(engine: FakeEngine) -> None:
    (verdict,) = judge(engine).decide(generic(container={"id": ID}))
    down = verdict.turned_down("limit", "too many")
    assert (down.decision.outcome, down.decision.policy_id) == ("limit", "shells")
    assert down.decision.reasons == (*verdict.decision.reasons, "too many")
    assert down.decision.to_dict()["reasons"][-1] == "too many"


def test_the_record_of_an_older_version_is_judged(engine: FakeEngine) -> None:
    record = generic().to_dict()
    record["container"] = {"id": "", "name": "", "image": ""}
    alert = Alert.from_dict(record)
    assert alert.subject is Subject.NOTHING
    assert outcomes(judge(engine).decide(alert)) == ["isolate"]
    of_falco = dataclasses.replace(alert, source="falco", container=ContainerRef())
    assert outcomes(judge(engine).decide(of_falco)) == ["no_policy"]
