# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is muted, and what an alert about it comes to, on the fake engine."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineUnreachable
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge, Verdict
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mute, Mutes
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

NOW = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)
ID = "3f2a91c07be4"
SHELLS: dict[str, t.Any] = {"id": "shells", "rules": ["Terminal shell*"], "actions": [{"type": "pause"}]}
SWEEP: dict[str, t.Any] = {
    "id": "sweep",
    "scope": "matching_containers",
    "target_filter": {"container_names": ["web-*"]},
    "actions": [{"type": "pause"}],
}


def mute(policy: str = "", container: str = "", lasts: datetime.timedelta = HOUR, **values: t.Any) -> Mute:
    return Mute.of(policy, container, NOW, NOW + lasts, **{"reason": "CHG-1207", "actor": "alice", **values})


def alert(severity: str = "high", **values: t.Any) -> Alert:
    said = {
        "source": "falco",
        "rule": "Terminal shell in container",
        "severity": severity,
        "inventory_host": "docker-1",
        "container": {"name": "web-1"},
        **values,
    }
    return Alert.from_dict({key: value for key, value in said.items() if value is not None})


def judge(engine: FakeEngine, *mutes: Mute, **options: t.Any) -> Judge:
    policies = PolicyEngine(
        PolicySet.of([Policy.from_dict(one) for one in (SHELLS, SWEEP)], TargetFilter(container_names=("db-*",)))
    )
    return Judge(policies, Resolver(engine), "docker-1", mutes=mutes, **options)


def decide(engine: FakeEngine, given: Alert, *mutes: Mute, **options: t.Any) -> Verdict:
    (verdict,) = judge(engine, *mutes, **options).decide(given)
    return verdict


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.add_container("web-1", container_id=ID + "0" * 52)
    engine.add_container("db-1")
    return engine


# --- what a mute means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one",
    [
        mute("shells"),
        mute(container="web-1"),
        mute(container="/web-1"),
        mute(container="web-*"),
        mute(container="web-?"),
        mute(container=ID),
        mute(container=ID + "0" * 52),
        mute("shells", "web-1"),
        mute(),
    ],
)
def test_what_is_muted_is_answered_and_the_record_names_the_mute(engine: FakeEngine, one: Mute) -> None:
    verdict = decide(engine, alert(), one)
    decision = verdict.decision
    assert (decision.outcome, decision.policy_id) == ("muted", "shells")
    assert (decision.container or {})["name"] == "web-1"
    assert verdict.leaves_record
    assert decision.reasons[-1].endswith("muted until 2026-04-05T13:00:00.000000Z by alice: CHG-1207")
    assert engine.changes == []


@pytest.mark.parametrize(
    "one",
    [
        mute("sweep"),
        mute(container="web-2"),
        mute(container="web"),
        mute(container="eb-1*"),
        mute(container="4" + ID[1:]),
        mute("shells", "db-1"),
        mute("sweep", "web-1"),
    ],
)
def test_what_is_not_muted_is_isolated(engine: FakeEngine, one: Mute) -> None:
    assert decide(engine, alert(), one).decision.outcome == "isolate"


def test_a_name_means_whoever_has_it_and_an_id_means_that_one(engine: FakeEngine) -> None:
    again = FakeEngine()
    again.add_container("web-1", container_id="7" * 64)
    assert decide(again, alert(), mute(container="web-1")).decision.outcome == "muted"
    assert decide(again, alert(), mute(container=ID)).decision.outcome == "isolate"


@pytest.mark.parametrize("subject", [{}, {"policy": "shells"}, {"container": "web-1"}])
def test_critical_alerts_are_muted_by_force_alone(engine: FakeEngine, subject: dict[str, t.Any]) -> None:
    loud = decide(engine, alert("critical"), mute(**subject)).decision
    assert loud.outcome == "isolate"
    assert loud.reasons[-1].endswith("CHG-1207; but the alert is critical")
    quiet = decide(engine, alert("critical"), mute(**subject, force=True)).decision
    assert quiet.outcome == "muted"
    assert "by alice, critical alerts too: CHG-1207" in quiet.reasons[-1]


def test_one_that_covers_counts_whichever_comes_first(engine: FakeEngine) -> None:
    both = mute("shells"), mute(container="web-1", force=True)
    assert decide(engine, alert("critical"), *both).decision.outcome == "muted"
    assert decide(engine, alert("critical"), *reversed(both)).decision.outcome == "muted"


def test_what_would_not_act_says_what_it_said_before(engine: FakeEngine) -> None:
    everything = mute(force=True)
    assert decide(engine, alert(container={"name": "db-1"}), everything).decision.outcome == "protected"
    assert decide(engine, alert(), everything, mode="audit").decision.outcome == "audit"
    assert decide(engine, alert(rule="Other"), everything).decision.outcome == "no_policy"
    assert decide(engine, alert(inventory_host="docker-2"), everything).decision.outcome == "other_host"


def test_a_muted_container_takes_no_place_among_those_that_match(engine: FakeEngine) -> None:
    engine.add_container("web-2")
    network = alert(source="suricata", container=None)
    (one, other) = judge(engine).decide(network)
    assert {one.decision.outcome, other.decision.outcome} == {"too_many_matches"}
    found = {
        (v.decision.container or {})["name"]: v.decision.outcome
        for v in judge(engine, mute("", "web-2")).decide(network)
    }
    assert found == {"web-1": "isolate", "web-2": "muted"}


# --- a muted host -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "outcome"),
    [
        (alert(container={"name": "web-9"}), "unresolved"),
        (alert(container={"id": "9" * 12}), "gone"),
    ],
)
def test_nobody_is_told_of_a_muted_host(engine: FakeEngine, given: Alert, outcome: str) -> None:
    assert decide(engine, given).decision.outcome == outcome
    assert decide(engine, given, mute("shells"), mute(container="web-*")).decision.outcome == outcome
    verdict = decide(engine, given, mute())
    assert (verdict.decision.outcome, verdict.error) == ("muted", None)
    assert "this host is muted until" in verdict.decision.reasons[-1]


def test_an_old_alert_about_a_muted_host_is_muted(engine: FakeEngine) -> None:
    received = format_timestamp(NOW - HOUR)
    old = dataclasses.replace(alert(), time=received, received_at=received)
    assert decide(engine, old, now=NOW, clock=lambda: NOW).decision.outcome == "expired"
    assert decide(engine, old, mute(), now=NOW, clock=lambda: NOW).decision.outcome == "muted"


def test_an_engine_that_is_down_on_a_muted_host_is_no_news() -> None:
    class Down(FakeEngine):
        def list_containers(self, container_id: str = "") -> list[dict[str, t.Any]]:
            raise EngineUnreachable("the engine does not answer")

    with pytest.raises(EngineUnreachable):
        decide(Down(), alert())
    assert decide(Down(), alert(), mute()).decision.outcome == "muted"
    with pytest.raises(EngineUnreachable):
        decide(Down(), alert("critical"), mute())


def test_a_host_that_is_not_known_to_be_meant_is_not_the_muted_one(engine: FakeEngine) -> None:
    somewhere = alert(inventory_host="", container={"id": "9" * 12})
    verdict = decide(engine, somewhere, mute())
    assert (verdict.decision.outcome, verdict.leaves_record) == ("gone", False)


# --- what may be muted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "container", "lasts"),
    [
        ("a b", "", HOUR),
        ("x" * 129, "", HOUR),
        ("", "*", HOUR),
        ("", "?*?", HOUR),
        ("", "web 1", HOUR),
        ("", "web-1\n", HOUR),
        ("", "{{ x }}", HOUR),
        ("", "w" * 256, HOUR),
        ("shells", "", datetime.timedelta()),
        ("shells", "", -HOUR),
        ("shells", "", datetime.timedelta(days=7, seconds=1)),
    ],
)
def test_what_cannot_be_muted(policy: str, container: str, lasts: datetime.timedelta) -> None:
    with pytest.raises(GuardError) as raised:
        mute(policy, container, lasts)
    assert raised.value.kind == "invalid_option"


def test_a_week_is_the_most() -> None:
    assert mute("shells", lasts=datetime.timedelta(days=7)).until == "2026-04-12T12:00:00.000000Z"


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: pathlib.Path) -> StateDir:
    return StateDir(str(tmp_path / "state"), str(tmp_path / "run"))


def test_what_is_written_is_read_back(files: StateDir) -> None:
    wanted = mute("shells", "web-*", force=True), mute(reason="é {{ x }}")
    Mutes(files).write(wanted)
    found = Mutes(files).holding(NOW)
    assert {one.subject: one for one in found} == {
        ("shells", "web-*"): wanted[0],
        ("", ""): dataclasses.replace(wanted[1], reason="é { { x }}"),
    }
    assert files.warnings == []
    path = pathlib.Path(files.path, "mutes.json")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_nothing_is_muted_where_there_is_no_file(files: StateDir) -> None:
    assert Mutes(files).holding(NOW) == ()
    assert not pathlib.Path(files.path).exists()


def test_they_end_by_themselves_whatever_the_clock_does(files: StateDir) -> None:
    Mutes(files).write([mute("shells")])
    assert Mutes(files).holding(NOW + HOUR) == ()
    assert len(Mutes(files).holding(NOW + HOUR - datetime.timedelta(seconds=1))) == 1
    assert Mutes(files).holding(NOW - datetime.timedelta(days=8)) == ()


GOOD = dataclasses.asdict(mute("shells"))


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "null",
        "\xff",
        "[" * 100_000,
        json.dumps({"format": 2, "mutes": [GOOD]}),
        json.dumps({"format": 1}),
        json.dumps({"format": 1, "mutes": {}}) + "x",
        json.dumps({"format": 1, "mutes": [None]}),
        *(
            json.dumps({"format": 1, "mutes": [GOOD, {**GOOD, **change}]})
            for change in (
                {"until": "2027-04-05T12:00:00Z"},
                {"until": "soon"},
                {"until": None},
                {"since": ""},
                {"policy": 1},
                {"policy": "a b"},
                {"container": "*"},
                {"container": None},
                {"force": "yes"},
            )
        ),
        json.dumps({"format": 1, "mutes": [{key: value for key, value in GOOD.items() if key != "reason"}]}),
        # It must not be taken for one of the whole host.
        json.dumps({"format": 1, "mutes": [{**GOOD, "policy": None, "container": ""}]}),
        json.dumps({"format": 1, "mutes": [{**GOOD, "policy": [], "container": ""}]}),
    ],
)
def test_a_damaged_file_mutes_nothing_and_says_so(files: StateDir, content: str) -> None:
    directory = pathlib.Path(files.path)
    directory.mkdir()
    (directory / "mutes.json").write_bytes(content.encode("latin-1"))
    assert Mutes(files).holding(NOW) == ()
    assert len(files.warnings) == 1
    assert "mutes.json" in files.warnings[0]
    assert files.warnings[0].endswith("nothing is muted")


def test_what_cannot_be_read_mutes_nothing_and_says_so(files: StateDir) -> None:
    pathlib.Path(files.path, "mutes.json").mkdir(parents=True)
    assert Mutes(files).holding(NOW) == ()
    assert files.warnings[0].startswith("nothing is muted: ")
