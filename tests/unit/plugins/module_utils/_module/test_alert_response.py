# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module alert_response on the fake engine: what its options mean, and what it returns."""

from __future__ import annotations

import importlib
import json
import pathlib
import subprocess
import sys
import types
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineUnreachable
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import case_id
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import alert_response, common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.evidence import argument_spec
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

SHELLS: dict[str, t.Any] = {
    "id": "shells",
    "rules": ["Terminal shell*"],
    "actions": [{"type": "pause"}, {"type": "network_disconnect"}],
}
RECEIVED = "2040-04-05T12:00:00Z"


def alert(**values: t.Any) -> dict[str, t.Any]:
    """As a person gives it."""
    return {"source": "falco", "rule": "Terminal shell in container", "severity": "critical", **values}


def delivered(**values: t.Any) -> dict[str, t.Any]:
    """As the event source hands it on."""
    return {**alert(**values), "received_at": RECEIVED}


class Module:
    """The module on a host with a fake engine."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.engine = FakeEngine()
        self.trouble: GuardError | None = None
        self.connected = 0
        self._directory = directory
        self._defaults = {
            **{name: option.get("default") for name, option in alert_response.argument_spec().items()},
            "host": "docker-1",
            "state_dir": str(directory / "state"),
            "policy_set": str(directory / "set.json"),
            "retry_backoff_base": 0,
        }
        self.deploy(SHELLS)

    def connect(self, *_arguments: object) -> FakeEngine:
        self.connected += 1
        if self.trouble:
            raise self.trouble
        return self.engine

    def deploy(self, *policies: dict[str, t.Any], limits: Limits | None = None) -> None:
        policy_set = PolicySet.of([Policy.from_dict(policy) for policy in policies], limits=limits or Limits())
        (self._directory / "set.json").write_text(policy_set.to_json())

    def run(self, *alerts: dict[str, t.Any], check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        assert options.keys() <= self._defaults.keys()
        params = {**self._defaults, "alerts": list(alerts), **options}
        module: t.Any = types.SimpleNamespace(params=params, check_mode=check, _diff=True)
        return alert_response.respond(module)

    def outcomes(self, *alerts: dict[str, t.Any], **options: t.Any) -> list[str]:
        return [answer["outcome"] for answer in self.run(*alerts, **options)["outcomes"]]

    def records(self) -> list[dict[str, t.Any]]:
        path = self._directory / "state" / "actions.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["outcome"] != "intended"]


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    module = Module(tmp_path)
    monkeypatch.setattr(common, "engine_of", module.connect)
    return module


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "watch"}, "the mode 'watch' is unknown"),
            ({"controller_time": "yesterday"}, "controller_time is 'yesterday'"),
            ({"retry_max_attempts": 11}, "retry_max_attempts is 11"),
            ({"state_dir": "state"}, "state_dir is state"),
            ({"action_timeout": 0}, "action_timeout is 0"),
        ],
    )
    def test_what_cannot_be_meant_is_named_and_nothing_is_touched(
        self, module: Module, options: dict[str, t.Any], message: str
    ) -> None:
        target = module.engine.add_container("web")
        with pytest.raises(GuardError, match=message) as caught:
            module.run(alert(container={"id": target}), **options)
        assert caught.value.kind == "invalid_option"
        assert (module.engine.changes, module.connected) == ([], 0)

    def test_e7_audit_only_watches_whatever_the_policies_say(self, module: Module) -> None:
        target = module.engine.add_container("web")
        assert module.outcomes(alert(container={"id": target}), mode="audit") == ["audit"]
        assert (module.engine.changes, module.records()[0]["outcome"]) == ([], "audit")

    def test_e7_enforce_does_not_overrule_a_policy_that_is_to_watch(self, module: Module) -> None:
        module.deploy({**SHELLS, "mode": "audit"})
        target = module.engine.add_container("web")
        assert module.outcomes(alert(container={"id": target}), mode="enforce") == ["audit"]

    def test_d8_every_record_names_who_answered(self, module: Module) -> None:
        first, second, third = (module.engine.add_container(f"web-{number}") for number in range(3))
        module.run(delivered(container={"id": first}))
        module.run(delivered(container={"id": second}), actor="awx: jane")
        module.run(alert(container={"id": third}))
        assert [record["actor"] for record in module.records()] == ["rulebook", "awx: jane", ""]

    def test_a5_alerts_have_an_age_by_the_clock_of_the_controller_only(self, module: Module) -> None:
        target = module.engine.add_container("web")
        old = delivered(id="a-1", container={"id": target})
        result = module.run(old, controller_time="2040-04-05T12:16:00Z")
        assert [answer["outcome"] for answer in result["outcomes"]] == ["expired"]
        assert (result["failed"], "960 seconds old" in result["msg"]) == (True, True)
        assert any("the clock of this host" in warning for warning in result["warnings"])
        assert module.outcomes(old) == ["isolated"], "an alert that expired was not answered"


class TestAnswers:
    def test_a4_an_alert_that_is_delivered_again_gets_its_first_answer(self, module: Module) -> None:
        target = module.engine.add_container("web")
        again = delivered(id="a-1", container={"id": target})
        first = module.run(again)
        module.engine.unpause(target)
        done = len(module.engine.calls)
        second = module.run(again)
        assert second["outcomes"][0]["outcome"] == "isolated"
        assert second["responses"][0]["event"] is None
        assert first["outcomes"][0]["record_id"] in second["responses"][0]["decision"]["reasons"][0]
        assert (len(module.engine.calls), len(module.records()), second["changed"]) == (done, 1, False)

    def test_a4_an_alert_that_failed_is_tried_again(self, module: Module) -> None:
        target = module.engine.add_container("web")
        again = delivered(id="a-1", container={"id": target})
        module.trouble = EngineUnreachable("no socket")
        assert module.outcomes(again) == ["failed"]
        module.trouble = None
        assert module.outcomes(again) == ["isolated"]

    def test_a4_an_alert_that_reaches_several_containers_is_answered_once_it_is_for_all(self, module: Module) -> None:
        every = {"scope": "matching_containers", "target_filter": {"container_names": ["*"]}}
        pause = {**SHELLS, **every, "actions": [{"type": "pause"}]}
        module.deploy(pause, limits=Limits(max_containers_per_alert=2))
        module.engine.add_container("web")
        stubborn = module.engine.add_container("stubborn", freezes=False)
        one = {**delivered(id="a-1", host="docker-1"), "source": "suricata"}
        assert sorted(module.outcomes(one)) == ["failed", "isolated"]
        assert sorted(module.outcomes(one)) == ["failed", "held"], "it is tried again"
        module.engine.remove_container(stubborn)
        assert module.outcomes(one) == ["held"]
        assert module.run(one)["responses"][0]["event"] is None

    def test_a4_what_a_person_gives_counts_each_time(self, module: Module) -> None:
        target = module.engine.add_container("web")
        given = alert(id="a-1", container={"id": target})
        assert module.outcomes(given) == ["isolated"]
        module.engine.unpause(target)
        assert module.outcomes(given) == ["isolated"]

    def test_e6_artifacts_can_name_container_policy_trace_outcome_and_check_mode(self, module: Module) -> None:
        target = module.engine.add_container("web")
        one = delivered(id="a-1", trace_id="t-1", container={"id": target})
        (answer,) = module.run(one, check=True)["outcomes"]
        expected = {
            "alert_id": "a-1",
            "trace_id": "t-1",
            "container": {"id": target, "name": "web"},
            "policy_id": "shells",
            "outcome": "would_isolate",
            "check_mode": True,
            "record_id": "",
        }
        assert answer == expected
        assert module.engine.changes == []
        (answer,) = module.run(one)["outcomes"]
        (record,) = module.records()
        assert answer == {**expected, "outcome": "isolated", "check_mode": False, "record_id": record["id"]}

    def test_a_repeat_that_is_counted_has_no_record_of_its_own(self, module: Module) -> None:
        target = module.engine.add_container("web")
        one = delivered(container={"id": target})
        ids = [module.run(one)["outcomes"][0]["record_id"] for _ in range(3)]
        assert ids == [record["id"] for record in module.records()] + [""]

    @pytest.mark.parametrize(
        ("outcome", "values"),
        [
            ("unresolved", {"container": {"id": "<NA>"}}),
            ("ambiguous", {"container": {"id": "6bc1b4be90d6"}}),
        ],
    )
    def test_e6_what_is_not_answered_is_never_green(
        self, module: Module, outcome: str, values: dict[str, t.Any]
    ) -> None:
        for end in "01":
            module.engine.add_container(f"web-{end}", container_id="6bc1b4be90d6" + end * 52)
        result = module.run(alert(**values))
        assert [answer["outcome"] for answer in result["outcomes"]] == [outcome]
        assert (result["failed"], result["error"]["kind"]) == (True, outcome)
        assert f": {outcome}: " in result["msg"]
        assert module.run(alert(**values), fail_on_error=False)["failed"] is False

    def test_e6_a_limit_is_red(self, module: Module) -> None:
        module.deploy(SHELLS, limits=Limits(max_isolations=1, window=600))
        targets = [module.engine.add_container(f"web-{number}") for number in range(2)]
        result = module.run(*(alert(container={"id": target}) for target in targets))
        assert [answer["outcome"] for answer in result["outcomes"]] == ["isolated", "limit"]
        assert (result["failed"], result["error"]["kind"]) == (True, "limit")

    def test_what_is_no_alert_is_red_and_keeps_no_other_from_its_answer(self, module: Module) -> None:
        target = module.engine.add_container("web")
        result = module.run({"rule": "nothing"}, alert(container={"id": target}))
        assert [answer["outcome"] for answer in result["outcomes"]] == ["isolated"]
        assert (result["failed"], [one["index"] for one in result["rejected"]]) == (True, [0])


class TestTrouble:
    def test_e6_an_engine_that_does_not_answer_hides_nothing_that_is_known(self, module: Module) -> None:
        module.trouble = EngineUnreachable("no socket")
        alerts = [
            delivered(id="a-1", container={"id": "0" * 12}),
            delivered(id="a-2", container={"id": "0" * 12}, inventory_host="docker-2"),
            delivered(id="a-3", rule="nobody's", container={"id": "0" * 12}),
            delivered(id="a-4", container={"id": "host"}),
            delivered(id="a-5", container={"id": "1" * 12}),
            {"rule": "nothing"},
        ]
        result = module.run(*alerts)
        assert [answer["outcome"] for answer in result["outcomes"]] == [
            *("failed", "other_host", "no_policy", "no_container", "failed")
        ]
        assert (result["failed"], result["error"]["kind"], result["changed"]) == (True, "engine_unreachable", False)
        assert result["summary"]["outcomes"] == {"failed": 2, "no_container": 1}
        assert result["policy_set_digest"].startswith("sha256:")
        assert len(result["rejected"]) == 1
        assert module.connected == 1, "not once for each alert"
        failed = [record for record in module.records() if record["outcome"] == "failed"]
        assert failed[0]["error"]["message"] == "no socket"

    def test_e6_other_hosts_and_expired_alerts_need_no_engine(self, module: Module) -> None:
        module.trouble = EngineUnreachable("no socket")
        elsewhere = delivered(container={"id": "0" * 12}, inventory_host="docker-2")
        result = module.run(elsewhere)
        assert (result.get("failed"), module.connected) == (None, 0)
        old = delivered(container={"id": "0" * 12})
        assert module.outcomes(old, controller_time="2040-04-05T13:00:00Z") == ["expired"]
        assert module.connected == 0

    def test_without_policies_that_can_be_used_each_alert_is_on_record_as_failed(
        self, module: Module, tmp_path: pathlib.Path
    ) -> None:
        (tmp_path / "set.json").write_text("{}")
        result = module.run(delivered(id="a-1"), fail_on_error=False)
        assert (result["failed"], result["error"]["kind"]) == (True, "policy_set_damaged")
        assert [answer["outcome"] for answer in result["outcomes"]] == ["failed"]
        assert [record["alert_id"] for record in module.records()] == ["a-1"]

    def test_b3_a_disk_that_takes_nothing_is_a_warning_told_once(
        self, module: Module, tmp_path: pathlib.Path, run_directory: pathlib.Path
    ) -> None:
        target = module.engine.add_container("web")
        (tmp_path / "file").write_text("")
        result = module.run(delivered(container={"id": target}), state_dir=str(tmp_path / "file" / "state"))
        warnings = [warning for warning in result["warnings"] if "state" in warning]
        assert len(warnings) == len(set(warnings))
        assert module.engine.state_of(target) == "paused"


def test_the_result_is_documented(module: Module) -> None:
    target = module.engine.add_container("web")
    result = module.run(delivered(container={"id": target}))
    documented = importlib.import_module("ansible_collections.ironpost.container_guard.plugins.modules.alert_response")
    returned = yaml.safe_load(documented.RETURN)
    assert returned.keys() - {"error"} == result.keys() - {"changed", "warnings", "diff"}
    assert returned["outcomes"]["contains"].keys() == result["outcomes"][0].keys()
    contains = returned["responses"]["contains"]
    assert contains["decision"]["contains"].keys() == result["responses"][0]["decision"].keys()
    assert contains["event"]["contains"].keys() == result["responses"][0]["event"].keys()
    options = yaml.safe_load(documented.DOCUMENTATION)["options"]
    fragments = {*common.engine_spec(), *common.retry_spec(), *common.state_spec()}
    assert options.keys() == alert_response.argument_spec().keys() - fragments


class TestEvidence:
    WANTS: t.ClassVar[dict[str, t.Any]] = {**SHELLS, "evidence": ["top", "export"]}

    def test_is_wanted_and_not_collected(self, module: Module) -> None:
        module.deploy(self.WANTS)
        target = module.engine.add_container("web")
        result = module.run(delivered(trace_id="t-1", container={"id": target}))
        (wanted,) = result["evidence_wanted"]
        assert wanted.keys() == argument_spec()["wanted"]["options"].keys()
        assert (wanted["container"]["id"], wanted["collect"], wanted["case"]) == (target, ["top", "export"], "")
        assert (wanted["trace_id"], wanted["policy_id"]) == ("t-1", "shells")
        assert wanted["action_event"] == result["responses"][0]["event"]["id"]
        assert {"top", "export"}.isdisjoint(name for name, _arguments in module.engine.calls)

    def test_what_goes_with_the_processes_is_in_a_case_that_was_begun(self, module: Module) -> None:
        module.deploy({**self.WANTS, "actions": [{"type": "kill"}]})
        target = module.engine.add_container("web")
        (wanted,) = module.run(delivered(container={"id": target}))["evidence_wanted"]
        assert case_id(wanted["case"])
        calls = [name for name, _arguments in module.engine.calls]
        assert calls.index("top") < calls.index("kill")
        assert "export" not in calls

    def test_none_is_wanted_in_check_mode_or_by_policies_without(self, module: Module) -> None:
        target = module.engine.add_container("web")
        assert module.run(delivered(container={"id": target}))["evidence_wanted"] == []
        module.deploy(self.WANTS)
        other = module.engine.add_container("other")
        assert module.run(delivered(container={"id": other}), check=True)["evidence_wanted"] == []


def test_when_it_was_done_is_told(module: Module) -> None:
    assert parse_timestamp(module.run()["answered_at"]) is not None


def test_the_parsers_of_detectors_cost_no_time_where_none_is_needed() -> None:
    loads = (
        "import sys\n"
        f"from {alert_response.__name__} import read_alerts\n"
        f"read_alerts([{delivered()!r}])\n"
        "before = [name for name in sys.modules if '._alert.detectors' in name]\n"
        f"read_alerts([{alert()!r}])\n"
        "print(before, any('._alert.detectors' in name for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", loads], check=True, capture_output=True, text=True)
    assert done.stdout == "[] True\n"
