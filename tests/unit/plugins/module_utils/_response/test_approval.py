# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a policy may do only once a person approves of it, from the alert to the decision, on the fake engine."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Approval, Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answered import Answered
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits import Limiter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import (
    Requests,
    Result,
    Selection,
    claim_filter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Responder, Response
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

DAY = datetime.timedelta(days=1)
KILL: dict[str, t.Any] = {"id": "killer", "actions": [{"type": "kill", "approval": True}]}
STOP: dict[str, t.Any] = {"id": "stopper", "actions": [{"type": "stop", "grace": 5, "approval": True}]}


def alert(trace_id: str = "t-1", **values: t.Any) -> Alert:
    said = {"source": "falco", "rule": "Shell", "severity": "high", "inventory_host": "docker-1"}
    return Alert.from_dict({**said, "container": {"name": "web"}, "trace_id": trace_id, "id": trace_id, **values})


class Host:
    """A host with a container C(web), and policies that ask before they end it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.engine = FakeEngine()
        self.web = self.engine.add_container("web")
        self.now = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)
        self.files = StateDir(str(directory / "state"), str(directory / "run"))
        self.journal = Journal(self.files, lock_timeout=0.1)
        self.resolver = Resolver(self.engine)

    def isolator(self) -> Isolator:
        return Isolator(self.engine, self.journal, truth=FakeTruth(self.engine), busy_timeout=0.1, now=lambda: self.now)

    def respond(
        self, given: Alert, *policies: dict[str, t.Any], limits: Limits | None = None, **options: t.Any
    ) -> Response:
        policy_set = PolicySet.of(map(Policy.from_dict, policies or (KILL,)), limits=limits or Limits())
        judge = Judge(PolicyEngine(policy_set), Resolver(self.engine), "docker-1")
        limiter = Limiter(self.files, policy_set.limits, clock=self.now.timestamp)
        responder = Responder(judge, self.isolator(), self.journal, limiter, "docker-1", **options)
        (response,) = responder.respond([given])
        return response

    def decide(
        self,
        decision: str = "approved",
        *,
        policy: str = "",
        actor: str = "alice",
        force: bool = False,
        check: bool = False,
        protect: tuple[str, ...] = (),
    ) -> Result:
        resolver = Resolver(self.engine)
        protection = Protection(
            resolver, PolicyEngine(PolicySet.of([], TargetFilter(container_names=protect))), running_in=set
        )
        requests = Requests(self.isolator(), self.journal, resolver, protection, 1, check)
        targets = Selection(resolver, self.journal).named(["web"])
        (result,) = requests.decide(targets, decision, Cause(actor=actor), force, claim_filter(policy))
        return result

    def repair(self) -> Result:
        resolver = Resolver(self.engine)
        protection = Protection(resolver, None, running_in=set)
        requests = Requests(self.isolator(), self.journal, resolver, protection, 1)
        (result,) = requests.repair(Selection(resolver, self.journal).to_repair())
        return result

    def release(self) -> str:
        return self.isolator().release(self.web, cause=Cause(actor="bob")).outcome

    @property
    def state(self) -> tuple[bool, bool, list[str]]:
        """Whether it runs, whether it is paused, and its networks."""
        found = self.engine.inspect_container(self.web)
        networks = found["NetworkSettings"]["Networks"]
        return found["State"]["Running"], found["State"]["Paused"], sorted(networks)

    @property
    def approval(self) -> Approval | None:
        entry = self.journal.load(self.web)
        assert entry is not None
        return entry.claims[0].approval

    def changes(self) -> list[str]:
        return [call[0] for call in self.engine.changes]


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def error_of(result: Result) -> str:
    assert result.outcome is not None
    assert result.outcome.outcome == "refused"
    return str((result.outcome.error or {})["kind"])


def outcome_of(result: Result) -> tuple[str, bool]:
    assert result.outcome is not None, result.error
    return result.outcome.outcome, result.outcome.changed


# --- the alert --------------------------------------------------------------------------------------------------------


def test_before_a_kill_it_is_paused_and_disconnected(host: Host) -> None:
    event = host.respond(alert()).event
    assert event is not None
    assert (event.outcome, event.changed, event.error) == ("awaiting_approval", True, None)
    assert host.state == (True, True, [])
    assert [action["type"] for action in event.actions] == ["pause", "network_disconnect", "kill"]
    assert event.approval == {
        "action": "kill",
        "policy_id": "killer",
        "until": format_timestamp(host.now + DAY),
        "grace": 0,
        "trace_id": "t-1",
        "decision": "",
        "actor": "",
        "decided_at": "",
    }


def test_before_a_stop_it_is_disconnected(host: Host) -> None:
    event = host.respond(alert(), STOP).event
    assert event is not None
    assert event.outcome == "awaiting_approval"
    assert host.state == (True, False, [])
    assert (event.approval or {})["action"] == "stop"


def test_networks_that_the_policy_names_are_those(host: Host) -> None:
    host.engine = FakeEngine()
    for network in ("front", "back"):
        host.engine.add_network(network)
    networks = {"front": EndpointSettings(), "back": EndpointSettings()}
    host.web = host.engine.add_container("web", networks=networks)
    named = [{"type": "network_disconnect", "networks": ["front"]}, {"type": "kill", "approval": True}]
    host.respond(alert(), {"id": "killer", "actions": named})
    assert host.state == (True, True, ["back"])


def test_check_mode_touches_nothing_and_says_what_would_wait(host: Host) -> None:
    response = host.respond(alert(), check=True)
    assert response.outcome == "would_isolate"
    assert host.changes() == []
    assert host.journal.load(host.web) is None


def test_one_that_waits_takes_a_place_in_the_limit(host: Host) -> None:
    host.engine.add_container("other")
    limits = Limits(max_isolations=1, window=600)
    assert host.respond(alert(), limits=limits).outcome == "awaiting_approval"
    assert host.respond(alert("t-2", container={"name": "other"}), limits=limits).outcome == "limit"


def test_later_alerts_find_it_held_and_the_same_one_finds_that_it_waits(host: Host) -> None:
    host.respond(alert())
    assert host.respond(alert("t-2")).outcome == "held"
    # Delivered again, after a crash before anybody was told.
    assert host.respond(alert()).outcome == "awaiting_approval"
    assert host.approval == Approval("kill", format_timestamp(host.now + DAY), trace_id="t-1")


def test_a_fallback_may_wait_too(host: Host) -> None:
    host.engine = FakeEngine()
    host.web = host.engine.add_container("web", network_mode="host")
    policy = {
        "id": "cut",
        "actions": [{"type": "network_disconnect"}],
        "fallback": [{"type": "kill", "approval": True}],
    }
    response = host.respond(alert(), policy)
    assert response.outcome == "awaiting_approval"
    assert host.state[:2] == (True, True)


def test_what_cannot_be_held_meanwhile_is_refused(host: Host) -> None:
    host.engine = FakeEngine()
    host.web = host.engine.add_container("web", network_mode="host")
    assert host.respond(alert(), STOP).outcome == "refused"
    assert host.changes() == []


def test_a_policy_that_excludes_the_owner_of_the_network_is_kept_from_cutting_it(host: Host) -> None:
    host.engine.add_container("sidecar", network_mode=f"container:{host.web}")
    policy = {**KILL, "target_filter": {"exclude": {"container_names": ["web"]}}}
    assert host.respond(alert(container={"name": "sidecar"}), policy).outcome == "protected"


# --- approving and refusing -------------------------------------------------------------------------------------------


def test_approved_it_is_killed_and_can_still_be_released(host: Host) -> None:
    before = host.state
    host.respond(alert())
    result = host.decide()
    assert outcome_of(result) == ("isolated", True)
    assert host.state == (False, False, [])
    decided = host.approval
    assert decided is not None
    assert (decided.decision, decided.actor, decided.decided_at) == ("approved", "alice", format_timestamp(host.now))
    assert host.release() == "released"
    assert host.state == before


@pytest.mark.parametrize(
    ("policy", "held"), [(KILL, (True, True, [])), (STOP, (True, False, []))], ids=["kill", "stop"]
)
def test_a_container_that_took_its_name_was_never_approved_of(
    host: Host, policy: dict[str, t.Any], held: tuple[bool, bool, list[str]]
) -> None:
    host.respond(alert(), policy)
    wanted = host.approval
    host.decide()
    host.engine.remove_container(host.web)
    host.web = host.engine.add_container("web")
    assert outcome_of(host.repair()) == ("isolated", True)
    assert host.state == held
    assert host.approval == wanted
    assert outcome_of(host.decide(actor="bob")) == ("isolated", True)
    assert host.state == (False, False, [])


def test_a_container_that_took_the_name_of_a_refused_one_is_not_asked_about(host: Host) -> None:
    host.respond(alert())
    host.decide("refused")
    host.engine.remove_container(host.web)
    host.web = host.engine.add_container("web")
    host.repair()
    assert host.state == (True, True, [])
    assert host.approval is not None
    assert host.approval.decision == "refused"


def test_approved_it_is_stopped_with_the_grace_of_the_policy(host: Host) -> None:
    host.respond(alert(), STOP)
    assert outcome_of(host.decide()) == ("isolated", True)
    assert host.state == (False, False, [])
    assert [call[1][1] for call in host.engine.changes if call[0] == "stop"] == [5]


def test_a_second_approval_changes_nothing(host: Host) -> None:
    host.respond(alert())
    host.decide()
    host.now += datetime.timedelta(minutes=1)
    assert outcome_of(host.decide(actor="bob")) == ("held", False)
    assert host.approval is not None
    assert host.approval.actor == "alice"


def test_refused_it_stays_held_and_later_alerts_do_not_ask_again(host: Host) -> None:
    host.respond(alert())
    assert outcome_of(host.decide("refused")) == ("held", True)
    assert outcome_of(host.decide("refused")) == ("held", False)
    assert host.state == (True, True, [])
    host.now += 2 * DAY
    assert host.respond(alert("t-2")).outcome == "held"
    assert host.approval is not None
    assert host.approval.decision == "refused"


def test_who_refused_may_still_approve_in_time(host: Host) -> None:
    host.respond(alert())
    host.decide("refused")
    assert outcome_of(host.decide()) == ("isolated", True)
    assert host.state[0] is False
    assert error_of(host.decide("refused")) == "approved_before"


def test_check_mode_decides_nothing(host: Host) -> None:
    host.respond(alert())
    before = host.journal.load(host.web)
    result = host.decide(check=True)
    assert outcome_of(result) == ("would_isolate", True)
    assert result.outcome is not None
    assert [step.action for step in result.outcome.steps] == ["kill"]
    assert outcome_of(host.decide("refused", check=True)) == ("held", True)
    assert host.journal.load(host.web) == before
    assert host.state == (True, True, [])


def test_the_wish_lapses_and_the_container_stays_held(host: Host) -> None:
    host.respond(alert(), {**KILL, "actions": [{"type": "kill", "approval": True, "approval_timeout": 60}]})
    host.now += datetime.timedelta(seconds=60)
    assert error_of(host.decide()) == "approval_lapsed"
    assert host.state == (True, True, [])


def test_what_nobody_decided_on_in_time_is_wanted_anew(host: Host) -> None:
    host.respond(alert())
    host.now += DAY
    response = host.respond(alert("t-2"))
    assert response.outcome == "awaiting_approval"
    assert host.approval == Approval("kill", format_timestamp(host.now + DAY), trace_id="t-2")
    assert outcome_of(host.decide()) == ("isolated", True)


def test_a_release_ends_the_wish(host: Host) -> None:
    before = host.state
    host.respond(alert())
    assert host.release() == "released"
    result = host.decide()
    assert error_of(result) == "nothing_awaited"
    assert host.state == before
    assert host.journal.load(host.web) is None


def test_nothing_waits_on_what_a_person_isolated(host: Host) -> None:
    host.isolator().isolate(host.web, [Action("pause")])
    assert error_of(host.decide()) == "nothing_awaited"


def test_a_stop_is_not_done_while_somebody_holds_it_paused(host: Host) -> None:
    host.respond(alert(), STOP)
    host.isolator().isolate(host.web, [Action("pause")])
    assert error_of(host.decide()) == "refused"
    assert host.state == (True, True, [])


def test_of_two_policies_one_is_decided_on(host: Host) -> None:
    host.respond(alert())
    host.respond(alert("t-2"), {**KILL, "id": "other"})
    assert outcome_of(host.decide("refused", policy="other")) == ("held", True)
    entry = host.journal.load(host.web)
    assert entry is not None
    assert {claim.subject: claim.approval.decision for claim in entry.claims if claim.approval} == {
        "killer": "",
        "other": "refused",
    }
    assert error_of(host.decide(policy="nobody")) == "nothing_awaited"


def test_what_the_engine_would_delete_is_ended_by_force_alone(host: Host) -> None:
    host.engine = FakeEngine()
    host.web = host.engine.add_container("web", auto_remove=True)
    assert host.respond(alert()).outcome == "awaiting_approval"
    assert error_of(host.decide()) == "refused"
    assert host.state == (True, True, [])


def test_what_is_protected_by_now_is_not_ended(host: Host) -> None:
    host.respond(alert())
    assert error_of(host.decide(protect=("web",))) == "protected"
    assert outcome_of(host.decide(protect=("web",), force=True)) == ("isolated", True)


def test_a_crash_between_recording_and_killing_is_mended_by_the_next_run(host: Host) -> None:
    host.respond(alert())

    host.engine.fail_next("kill", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        host.decide()
    entry = host.journal.load(host.web)
    assert entry is not None
    assert entry.phase == "isolating"
    assert outcome_of(host.decide()) == ("isolated", True)
    assert host.state[0] is False


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_the_journal_keeps_what_waits(host: Host) -> None:
    host.respond(alert())
    entry = host.journal.load(host.web)
    assert entry is not None
    assert type(entry).from_json(entry.to_json()) == entry
    without = entry.to_json().replace('"approval"', '"approval_"')
    with pytest.raises(TypeError):
        type(entry).from_json(without)


def test_entries_of_before_have_none(host: Host) -> None:
    host.isolator().isolate(host.web, [Action("pause")])
    entry = host.journal.load(host.web)
    assert entry is not None
    content = json.loads(entry.to_json())
    for claim in content["claims"]:
        del claim["approval"]
    assert type(entry).from_json(json.dumps(content)) == entry


def test_an_alert_that_is_delivered_again_is_answered_as_before(host: Host) -> None:
    received = dataclasses.replace(alert(container={"id": host.web}), received_at=format_timestamp(host.now))
    answered = Answered(host.files, clock=host.now.timestamp)
    first = host.respond(received, answered=answered)
    answered.remember([first.answer])
    again = host.respond(received, answered=answered)
    assert (again.outcome, again.event) == ("awaiting_approval", None)
