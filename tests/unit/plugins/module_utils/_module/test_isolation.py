# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module isolation on the fake engine: what its options mean, and what it returns."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import signal
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineUnreachable
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common, isolation, isolation_info
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action, preceded
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine, image_id_of
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

PAUSE = [{"type": "pause"}]


class Module:
    """The module on a host with a fake engine."""

    def __init__(self, engine: FakeEngine, directory: pathlib.Path) -> None:
        self.engine = engine
        self.log = directory / "state" / "actions.jsonl"
        self.policy_set = directory / "set.json"
        self._defaults = {
            **{name: option.get("default") for name, option in isolation.argument_spec().items()},
            "state_dir": str(directory / "state"),
            "policy_set": str(self.policy_set),
            "retry_backoff_base": 0,
        }
        self.policy_set.write_text(PolicySet.of([]).to_json())

    def run(self, *, check: bool = False, diff: bool = False, **options: t.Any) -> dict[str, t.Any]:
        """The result. Raises GuardError where it fails without one."""
        assert options.keys() <= self._defaults.keys()
        module: t.Any = types.SimpleNamespace(params={**self._defaults, **options}, check_mode=check, _diff=diff)
        return isolation.isolate_or_release(module)

    def outcomes(self, **options: t.Any) -> dict[str, str]:
        """Outcome by name."""
        return {result["container"]["name"]: result["outcome"] for result in self.run(**options)["results"]}

    def damage(self, name: str) -> None:
        """Make the journal entry of a container unreadable."""
        container = next(one["Id"] for one in self.engine.list_containers() if f"/{name}" in one["Names"])
        (self.log.parent / "isolations" / f"{container}.json").write_text("{}")

    def records(self) -> list[dict[str, t.Any]]:
        """The action log, without what was declared before acting."""
        return [record for record in self.lines() if record["outcome"] != "intended"]

    def lines(self) -> list[dict[str, t.Any]]:
        """The action log."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    engine = FakeEngine()
    monkeypatch.setattr(common, "engine_of", lambda params, retry: engine)
    return Module(engine, tmp_path)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"container": "web", "retry_max_attempts": 11}, "retry_max_attempts is 11, but must be from 0 to 10"),
            ({"container": "web", "retry_max_attempts": -1}, "retry_max_attempts is -1"),
            ({"container": "web", "retry_backoff_base": 30_001}, "retry_backoff_base is 30001"),
            ({"container": "web", "retry_backoff_base": -1}, "retry_backoff_base is -1"),
            ({"container": "web", "max_concurrent_actions": 0}, "max_concurrent_actions is 0"),
            ({"container": "web", "max_concurrent_actions": 101}, "max_concurrent_actions is 101"),
            ({"container": "web", "release_after": -1}, "release_after is -1, but must be from 0 to 31536000"),
            ({"container": "web", "release_after": 31_536_001}, "release_after is 31536001"),
            ({"container": "web", "state_dir": "state"}, "state_dir is state"),
            ({"container": "web", "actions": [{"type": "stop", "grace": 301}]}, "grace is 301"),
            ({"container": "web", "actions": [{"type": "kill", "grace": 1}]}, "action kill has no grace"),
            ({"container": "web", "restart": True}, "restart is given with state=isolated"),
            ({"container": "web", "expired_only": True}, "expired_only is given with state=isolated"),
            ({"container": "web", "state": "released", "actions": PAUSE}, "actions is given with state=released"),
            (
                {"container": "web", "state": "released", "release_after": 60},
                "release_after is given with state=released",
            ),
            ({"recorded": True, "actions": PAUSE}, "actions is given with recorded"),
            ({"recorded": False}, "recorded is false"),
            ({"selector": {}}, "selector has neither"),
            ({"selector": {"container_names": [], "exclude": {"labels": ["x"]}}}, "selector has neither"),
        ],
    )
    def test_what_cannot_be_meant_is_named_and_nothing_is_touched(
        self, module: Module, options: dict[str, t.Any], message: str
    ) -> None:
        module.engine.add_container("web")
        with pytest.raises(GuardError, match=message) as caught:
            module.run(**options)
        assert caught.value.kind == "invalid_option"
        assert module.engine.changes == []

    @pytest.mark.parametrize(
        "options",
        [
            {"retry_max_attempts": 0, "retry_backoff_base": 0, "max_concurrent_actions": 1, "release_after": 0},
            {"retry_max_attempts": 10, "retry_backoff_base": 30_000, "max_concurrent_actions": 100},
            {"release_after": 31_536_000},
        ],
    )
    def test_the_ends_of_the_ranges_are_within(self, module: Module, options: dict[str, t.Any]) -> None:
        module.engine.add_container("web")
        assert module.run(container="web", **options)["outcome"] == "isolated"

    @pytest.mark.parametrize("types", [("pause", "stop"), ("stop", "kill"), ("pause", "pause"), ()])
    def test_actions_that_exclude_each_other(self, module: Module, types: tuple[str, ...]) -> None:
        module.engine.add_container("web")
        with pytest.raises(PolicyError):
            module.run(container="web", actions=[{"type": name} for name in types])
        assert module.engine.changes == []


class TestSelector:
    @pytest.fixture(autouse=True)
    def containers(self, module: Module) -> None:
        module.engine.add_container("web-1", image="nginx:1.27", labels={"env": "prod"})
        module.engine.add_container("web-2", image="nginx:1.28")
        module.engine.add_container("db-1", image="postgres:16")

    def test_isolates_all_that_match(self, module: Module) -> None:
        selector = {"image_patterns": ["nginx:*"], "exclude": {"labels": ["env=prod"]}}
        assert module.outcomes(selector=selector) == {"web-2": "isolated"}
        assert module.outcomes(selector={"container_names": ["web-*"]}) == {"web-1": "isolated", "web-2": "held"}

    def test_by_image_it_says_by_what_each_matches(self, module: Module) -> None:
        tag = "nginx:1.28"
        module.engine.add_container("live", image="nginx:live", image_id=image_id_of(tag))
        module.engine.add_container("old", image=tag, image_id="sha256:" + "0d" * 32)
        results = module.run(selector={"images": [tag], "labels": None, "exclude": {"images": [image_id_of("x")]}})
        found = {one["container"]["name"]: (one["outcome"], one["matched_by"]) for one in results["results"]}
        assert found == {
            "live": ("isolated", ["image tag"]),
            "old": ("isolated", ["image name"]),
            "web-2": ("isolated", ["image tag"]),
        }
        assert {(one["image"], one["image_id"]) for one in results["results"]} >= {("nginx:live", image_id_of(tag))}
        excluded = {"container_names": ["web-*"], "exclude": {"images": [tag]}}
        results = module.run(selector=excluded)
        assert [(one["container"]["name"], one["matched_by"]) for one in results["results"]] == [("web-1", ["name"])]

    @pytest.mark.parametrize("blank", ["", " "])
    @pytest.mark.parametrize("name", ["images", "image_patterns", "container_names", "labels"])
    def test_a_blank_entry_neither_widens_it_nor_matches_nothing_silently(
        self, module: Module, name: str, blank: str
    ) -> None:
        wanted: dict[str, t.Any] = {"container_names": ["web-*"]}
        for selector in ({**wanted, name: [blank]}, {**wanted, "exclude": {name: ["x", blank]}}):
            with pytest.raises(GuardError, match=f"{name} of selector .*has a blank entry") as caught:
                module.run(selector=selector)
            assert caught.value.kind == "invalid_option"
        assert module.engine.changes == []

    def test_releases_only_what_is_isolated(self, module: Module) -> None:
        everything = {"container_names": ["*"]}
        module.run(container="web-1")
        assert module.outcomes(selector=everything, state="released") == {"web-1": "released"}
        result = module.run(selector=everything, state="released")
        assert (result["results"], result["changed"]) == ([], False)
        assert result["warnings"] == ["no container is meant by that"]

    def test_releases_only_what_matches(self, module: Module) -> None:
        module.run(containers=["web-1", "db-1"])
        assert module.outcomes(selector={"container_names": ["db-*"]}, state="released") == {"db-1": "released"}

    def test_forgets_those_that_had_the_names_before(self, module: Module) -> None:
        module.run(containers=["web-1"])
        module.engine.remove_container("web-1")
        module.engine.add_container("web-1")
        module.run(containers=["web-1"])
        result = module.run(selector={"container_names": ["web-*"]}, state="released")
        assert [one["outcome"] for one in result["results"]] == ["released", "released"]
        assert module.run(recorded=True)["results"] == []

    def test_of_one_whose_entry_is_damaged_is_not_green(self, module: Module) -> None:
        module.run(containers=["web-1", "web-2", "db-1"])
        module.damage("web-1")
        result = module.run(selector={"container_names": ["web-*"]}, state="released")
        assert [(one["container"]["name"], one["outcome"]) for one in result["results"]] == [
            ("web-1", "failed"),
            ("web-2", "released"),
        ]
        assert (result["failed"], result["error"]["kind"]) == (True, "journal_damaged")
        assert module.outcomes(selector={"container_names": ["db-*"]}, state="released") == {"db-1": "released"}
        result = module.run(selector={"container_names": ["nobody"]}, state="released")
        assert (result["results"], result["warnings"]) == ([], ["no container is meant by that"])

    @pytest.mark.parametrize("expired_only", [None, True])
    def test_of_one_that_cannot_be_read_is_not_green(self, module: Module, expired_only: bool | None) -> None:
        module.run(containers=["web-1", "db-1"])
        module.engine.fail_next("inspect_container", None)  # db-1, as it is newest
        module.engine.fail_next("inspect_container", None)
        module.engine.fail_next("inspect_container", EngineUnreachable("no answer"))
        result = module.run(selector={"container_names": ["web-*"]}, state="released", expired_only=expired_only)
        assert [(one["container"]["name"], one["outcome"]) for one in result["results"]] == [("web-1", "failed")]
        assert (result["failed"], result["error"]["kind"]) == (True, "engine_unreachable")

    def test_that_matches_nothing_says_so(self, module: Module) -> None:
        result = module.run(selector={"container_names": ["nobody"]})
        assert (result["changed"], result["results"], result["summary"]) == (False, [], {})
        assert result["warnings"] == ["no container is meant by that"]


class TestExpiredOnly:
    LATER = "2040-04-05T12:00:00Z"

    def over(self, module: Module, **options: t.Any) -> dict[str, t.Any]:
        """Release what is over by then."""
        return module.run(state="released", expired_only=True, controller_time=self.LATER, **options)

    def test_is_combined_with_the_other_filters(self, module: Module) -> None:
        for name in ("web-1", "web-2", "never"):
            module.engine.add_container(name)
            module.run(container=name, trace_id=name, release_after=0 if name == "never" else 60)
        assert self.over(module, trace="never")["results"] == []
        assert self.over(module, trace="web-1", since=self.LATER)["results"] == []
        results = self.over(module, trace="web-1")["results"]
        assert [(one["container"]["name"], one["outcome"]) for one in results] == [("web-1", "released")]
        assert module.outcomes(recorded=True, state="released") == {"web-2": "released", "never": "released"}

    @pytest.mark.parametrize(
        "how", [{"container": "web"}, {"selector": {"container_names": ["web"]}}, {"recorded": True}]
    )
    def test_of_one_whose_entry_is_damaged_is_not_green(self, module: Module, how: dict[str, t.Any]) -> None:
        module.engine.add_container("web")
        module.run(container="web", release_after=60)
        module.damage("web")
        result = self.over(module, **how)
        assert (result["failed"], result["error"]["kind"]) == (True, "journal_damaged")

    def test_of_one_that_cannot_be_read_is_not_green(self, module: Module) -> None:
        module.engine.add_container("web")
        module.engine.fail_next("inspect_container", EngineUnreachable("no answer"))
        result = self.over(module, container="web")
        assert (result["failed"], result["error"]["kind"]) == (True, "engine_unreachable")

    def test_of_one_that_nobody_isolated_is_nothing(self, module: Module) -> None:
        module.engine.add_container("web")
        assert self.over(module, containers=["web", "nobody"])["warnings"] == ["no container is meant by that"]


class TestResult:
    def test_one_container_has_its_result_also_at_the_top(self, module: Module) -> None:
        module.engine.add_container("web")
        result = module.run(container="web", diff=True)
        (one,) = result["results"]
        assert {name: result[name] for name in one if name != "warnings"} == {
            name: value for name, value in one.items() if name != "warnings"
        }
        assert (result["summary"], result["error"]) == ({"isolated": 1}, None)
        assert [(diff["before_header"], diff["after"]["paused"]) for diff in result["diff"]] == [("web", True)]

    def test_of_several_each_has_its_own_and_one_failure_fails_the_run(self, module: Module) -> None:
        module.engine.add_container("web")
        module.engine.add_container("host", network_mode="host")
        result = module.run(containers=["web", "host", "nobody"], actions=[{"type": "network_disconnect"}])
        assert result["summary"] == {"isolated": 1, "refused": 1, "failed": 1}
        assert (result["failed"], result["changed"]) == (True, True)
        assert result["msg"].startswith("host: refused: container host cannot be isolated in this way: ")
        assert "; nobody: failed: no container on this host has the id or name nobody" in result["msg"]
        assert result["error"]["kind"] == "refused"
        assert "outcome" not in result
        assert [one["error"] and one["error"]["kind"] for one in result["results"]] == [None, "refused", "not_found"]

    def test_the_run_need_not_fail(self, module: Module) -> None:
        result = module.run(containers=["nobody"], fail_on_error=False)
        assert (result["failed"], result["error"]["kind"]) == (False, "not_found")

    def test_warnings_say_of_which_container(self, module: Module) -> None:
        owner = module.engine.add_container("owner")
        module.engine.add_container("sidecar", network_mode=f"container:{owner}")
        warning = "container sidecar shares its network: still connected, and not paused or ended"
        assert module.run(containers=["owner"], actions=PAUSE)["warnings"] == [f"owner: {warning}"]
        assert module.run(container="owner", actions=PAUSE)["warnings"] == [warning]

    def test_all_containers_of_a_run_share_a_trace_id(self, module: Module) -> None:
        module.engine.add_container("web-1")
        module.engine.add_container("web-2")
        result = module.run(containers=["web-1", "web-2"], reason="INC-1")
        records = module.records()
        assert {record["trace_id"] for record in records} == {result["trace_id"]}
        assert [record["container"]["name"] for record in records] == ["web-1", "web-2"]
        assert [one["event_id"] for one in result["results"]] == [record["id"] for record in records]
        assert all(record["reasons"] == ["INC-1"] for record in records)

    def test_only_what_was_done_or_failed_is_recorded(self, module: Module) -> None:
        module.engine.add_container("web")
        module.run(container="web")
        module.run(container="web")
        assert module.run(container="web")["event_id"] == ""
        assert len(module.records()) == 1
        module.run(containers=["web", "nobody"])
        assert [record["outcome"] for record in module.records()] == ["isolated", "failed"]

    def test_check_mode_touches_and_records_nothing(self, module: Module) -> None:
        module.engine.add_container("web-1")
        module.engine.add_container("web-2")
        result = module.run(containers=["web-1", "web-2"], check=True, diff=True)
        assert (result["changed"], result["summary"]) == (True, {"would_isolate": 2})
        assert [diff["after_header"] for diff in result["diff"]] == ["web-1", "web-2"]
        assert module.engine.changes == []
        assert not module.log.parent.exists()


class TestPolicySet:
    @pytest.fixture(autouse=True)
    def deployed(self, module: Module) -> None:
        module.policy_set.write_text(PolicySet.of([], TargetFilter(labels=("safe",))).to_json())
        module.engine.add_container("db", labels={"safe": ""})

    def test_protects(self, module: Module) -> None:
        result = module.run(container="db")
        assert (result["outcome"], result["error"]["kind"], result["changed"]) == ("refused", "protected", False)
        assert module.records()[0]["outcome"] == "refused"

    def test_is_overruled_by_force_which_is_on_record(self, module: Module) -> None:
        assert module.run(container="db", force=True, reason="INC-1")["outcome"] == "isolated"
        assert module.records()[0]["reasons"] == ["INC-1", "forced"]

    def test_that_is_damaged_is_no_protection_and_stops_the_run(self, module: Module) -> None:
        module.policy_set.write_text("{}")
        with pytest.raises(PolicyError) as caught:
            module.run(container="db")
        assert caught.value.kind == "policy_set_damaged"
        assert module.engine.changes == []
        assert module.run(container="db", force=True)["outcome"] == "isolated"
        assert module.run(container="db", state="released")["outcome"] == "released", "that needs no policies"

    @pytest.mark.parametrize("wanted", [{"container": "db"}, {"selector": {"labels": ["safe"]}}, {"recorded": True}])
    @pytest.mark.parametrize("check", [False, True])
    def test_that_is_not_where_it_is_said_to_be_stops_the_run(
        self, module: Module, tmp_path: pathlib.Path, wanted: dict[str, t.Any], check: bool
    ) -> None:
        path = str(tmp_path / "ste.json")
        with pytest.raises(PolicyError) as caught:
            module.run(policy_set=path, check=check, **wanted)
        assert caught.value.kind == "policy_set_missing"
        assert caught.value.message == f"no policy set is deployed at {path}"
        assert "deploy_policies" in caught.value.remedy
        assert "guard_policy_set_path" in caught.value.remedy
        assert module.engine.changes == []
        assert not module.log.parent.exists()

    def test_that_is_not_where_it_is_said_to_be_is_not_asked_for_where_nothing_is_protected(
        self, module: Module
    ) -> None:
        module.policy_set.unlink()
        assert module.run(container="db", force=True)["outcome"] == "isolated"
        assert module.run(container="db", state="released")["outcome"] == "released"

    @pytest.mark.parametrize("path", ["", "set.json/"])
    def test_that_no_file_can_be_stops_the_run(self, module: Module, tmp_path: pathlib.Path, path: str) -> None:
        with pytest.raises(PolicyError):
            module.run(container="db", policy_set=path and f"{tmp_path}/{path}")
        assert module.engine.changes == []


class TestNoPolicySet:
    """None is deployed where each host has it by default."""

    @pytest.fixture(autouse=True)
    def default(self, tmp_path: pathlib.Path, module: Module, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
        default = tmp_path / "default" / "set.json"
        monkeypatch.setattr(common, "DEFAULT_POLICY_SET", str(default))
        module.engine.add_container("web")
        return default

    def test_is_told(self, module: Module, default: pathlib.Path) -> None:
        warning = f"no policy set is deployed at {default}, so that only parts of the guard itself are protected"
        planned = module.run(container="web", policy_set=str(default), check=True)
        assert (planned["outcome"], planned["warnings"]) == ("would_isolate", [warning])
        isolated = module.run(container="web", policy_set=str(default))
        assert (isolated["outcome"], isolated["warnings"]) == ("isolated", [warning])

    def test_is_not_told_where_nothing_was_isolated_or_nothing_is_protected(
        self, module: Module, default: pathlib.Path
    ) -> None:
        assert module.run(recorded=True, policy_set=str(default))["warnings"] == ["no container is meant by that"]
        assert module.run(container="web", policy_set=str(default), force=True)["warnings"] == []
        held = module.run(container="web", policy_set=str(default))
        assert (held["outcome"], held["warnings"]) == ("held", [])
        released = module.run(container="web", policy_set=str(default), state="released")
        assert "policy set" not in " ".join(released["warnings"])

    def test_is_not_what_a_file_is_that_cannot_be_read(self, module: Module, default: pathlib.Path) -> None:
        default.parent.write_text("")
        with pytest.raises(PolicyError) as caught:
            module.run(container="web", policy_set=str(default))
        assert caught.value.kind == "policy_set_damaged"
        assert module.engine.changes == []

    def test_is_not_what_a_link_is_that_leads_nowhere(self, module: Module, default: pathlib.Path) -> None:
        default.parent.mkdir()
        default.symlink_to("gone.json")
        with pytest.raises(PolicyError) as caught:
            module.run(container="web", policy_set=str(default))
        assert caught.value.kind == "policy_set_missing"
        assert module.engine.changes == []


class TestTrouble:
    @pytest.fixture
    def isolated(self, module: Module) -> str:
        container = module.engine.add_container("web")
        module.run(container="web", reason="INC-1", actor="jane")
        return container

    @pytest.fixture
    def silent(self, module: Module, isolated: str, monkeypatch: pytest.MonkeyPatch) -> str:
        def connect(*_arguments: object) -> t.NoReturn:
            raise EngineUnreachable("no socket")

        monkeypatch.setattr(common, "engine_of", connect)
        return isolated

    @pytest.mark.parametrize("state", ["isolated", "released"])
    def test_e6_an_engine_that_does_not_answer_hides_nothing_that_the_journal_knows(
        self, module: Module, silent: str, state: str
    ) -> None:
        result = module.run(containers=["web", "other"], state=state)
        assert result["summary"] == {"failed": 2}
        assert (result["failed"], result["error"]["kind"]) == (True, "engine_unreachable")
        known, unknown = result["results"]
        assert known["container"] == {"id": silent, "name": "web"}
        assert [(claim["actor"], claim["reason"], bool(claim["since"])) for claim in known["claims"]] == [
            ("jane", "INC-1", True)
        ]
        assert (unknown["container"]["name"], unknown["claims"]) == ("other", [])
        assert [record["outcome"] for record in module.records()] == ["isolated", "failed", "failed"]

    def test_e6_all_that_is_recorded_is_told_too(self, module: Module, silent: str) -> None:
        result = module.run(recorded=True, state="released")
        assert [(one["outcome"], one["container"]["id"]) for one in result["results"]] == [("failed", silent)]

    def test_e6_isolation_info_tells_what_the_journal_says(
        self, module: Module, silent: str, tmp_path: pathlib.Path
    ) -> None:
        params = {
            "state_dir": str(tmp_path / "state"),
            "docker_host": "unix:///nowhere",
            "action_timeout": 5,
            "trace_id": "",
            "policy_set": str(tmp_path / "policy_set.json"),
        }
        info: t.Any = types.SimpleNamespace(params=params)
        result = isolation_info.report(info)
        assert (result["failed"], result["error"]["kind"], result["agree"]) == (True, "engine_unreachable", False)
        (one,) = result["isolations"]
        assert (one["container"]["id"], one["actor"], one["now"]) == (silent, "jane", None)
        assert one["breaches"] == [{"kind": "unreadable", "message": "no socket"}]
        assert result["action_log"]["intact"]

    def test_b4_busy_is_not_green(
        self, module: Module, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(isolation, "Isolator", functools.partial(Isolator, busy_timeout=0.1))
        with Journal(str(tmp_path / "state")).lock(module.engine.add_container("web")):
            result = module.run(container="web")
        assert (result["outcome"], result["failed"], module.engine.changes) == ("busy", True, [])

    def test_e5_what_is_about_to_be_done_is_on_record_with_who_asked(self, module: Module) -> None:
        module.engine.add_container("web")
        seen: list[list[tuple[str, str]]] = []
        for method in ("disconnect", "unpause"):
            module.engine.before(
                method, lambda: seen.append([(line["outcome"], line["actor"]) for line in module.lines()])
            )
        module.run(container="web", actor="awx: jane")
        module.run(container="web", state="released", actor="awx: joe")
        assert seen[0] == [("intended", "awx: jane")]
        assert seen[1][-1] == ("intended", "awx: joe")
        began, ended = module.lines()[:2], module.lines()[2:]
        assert [line["intended"] for line in module.records()] == [began[0]["id"], ended[0]["id"]]
        assert [line["actor"] for line in module.records()] == ["awx: jane", "awx: joe"]

    @pytest.mark.parametrize("state", ["isolated", "released"])
    def test_e5_a_run_that_was_killed_gets_its_end_by_the_run_that_finds_it(self, module: Module, state: str) -> None:
        target = module.engine.add_container("web")
        if state == "released":
            module.run(container="web")
        child = os.fork()
        if not child:
            try:
                method = "disconnect" if state == "isolated" else "connect"
                module.engine.before(method, lambda: os.kill(os.getpid(), signal.SIGKILL))
                module.run(container="web", state=state, actor="jane")
            finally:
                os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        module.run(container="web", state=state, actor="joe")
        ends = [line for line in module.records() if line["outcome"] == "unknown"]
        assert [(end["actor"], end["error"]["kind"], end["container"]["id"]) for end in ends] == [
            ("jane", "interrupted", target)
        ]
        assert ActionLog(StateDir(str(module.log.parent))).verify()["interrupted"] == []


class TestApproval:
    """What waits for approval, by the options of the module."""

    @pytest.fixture(autouse=True)
    def waiting(self, module: Module) -> None:
        isolator = Isolator(module.engine, Journal(str(module.log.parent)), FakeTruth(module.engine))
        for name, policy in (("web", "killer"), ("db", "other")):
            container = module.engine.add_container(name)
            actions = preceded((Action("kill", approval=True),))
            isolator.isolate(container, actions, Cause(policy_id=policy, trace_id=f"trace-{name}"))
        isolator.isolate(module.engine.add_container("held"), [Action("pause")])

    def test_it_is_recorded_who_approved_of_what(self, module: Module) -> None:
        result = module.run(container="web", state="approved", actor="alice", reason="INC-1")
        assert (result["outcome"], result["changed"]) == ("isolated", True)
        (record,) = module.records()
        assert (record["outcome"], record["actor"], record["reasons"]) == ("isolated", "alice", ["INC-1"])
        assert record["actions"] == [{"type": "kill"}]
        assert [record["approval"][key] for key in ("action", "policy_id", "decision", "actor", "trace_id")] == [
            *("kill", "killer", "approved", "alice", "trace-web")
        ]
        again = module.run(container="web", state="approved", actor="bob")
        assert (again["outcome"], again["changed"]) == ("held", False)

    def test_a_refusal_is_recorded(self, module: Module) -> None:
        result = module.run(container="web", state="refused", actor="alice")
        assert (result["outcome"], result["changed"]) == ("held", True)
        (record,) = module.records()
        assert (record["outcome"], record["approval"]["decision"]) == ("held", "refused")
        assert record["actions"] == []

    @pytest.mark.parametrize(
        ("options", "decided"),
        [
            ({"policy": "killer"}, {"web": "isolated"}),
            ({"trace": "trace-db"}, {"db": "isolated"}),
            ({"recorded": True}, {"web": "isolated", "db": "isolated"}),
            ({"selector": {"container_names": ["*"]}}, {"web": "isolated", "db": "isolated"}),
            ({"containers": ["web", "db"], "policy": "killer"}, {"web": "isolated", "db": "refused"}),
            ({"policy": "nobody"}, {}),
        ],
    )
    def test_what_is_meant(self, module: Module, options: dict[str, t.Any], decided: dict[str, str]) -> None:
        assert module.outcomes(state="approved", **options) == decided

    def test_check_mode_writes_nothing(self, module: Module) -> None:
        before = {path: path.read_bytes() for path in module.log.parent.rglob("*.json")}
        result = module.run(container="web", state="approved", check=True, diff=True)
        assert (result["outcome"], result["changed"]) == ("would_isolate", True)
        assert result["diff"][0]["after"]["running"] is False
        assert {path: path.read_bytes() for path in module.log.parent.rglob("*.json")} == before

    def test_what_waits_is_listed_until_it_is_decided(self, module: Module) -> None:
        def waiting() -> dict[str, list[str]]:
            defaults = {name: option.get("default") for name, option in isolation_info.argument_spec().items()}
            params = {**defaults, "state_dir": str(module.log.parent)}
            given: t.Any = types.SimpleNamespace(params=params)
            return {
                one["container"]["name"]: [each["action"] for each in one["awaiting_approval"]]
                for one in isolation_info.report(given)["isolations"]
            }

        assert waiting() == {"web": ["kill"], "db": ["kill"], "held": []}
        module.run(container="db", state="refused")
        assert waiting() == {"web": ["kill"], "db": [], "held": []}

    @pytest.mark.parametrize("name", ["actions", "release_after", "restart", "expired_only", "recreate_networks"])
    def test_what_belongs_to_other_states(self, module: Module, name: str) -> None:
        given = {"actions": PAUSE, "release_after": 60}.get(name, True)
        with pytest.raises(GuardError, match=f"{name} is given with state=approved"):
            module.run(container="web", state="approved", **{name: given})


def test_what_is_on_record_is_in_the_journal_also_where_it_is_isolated_meanwhile(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the record, as a drill does, looks at the container with the same answer."""
    module.engine.add_container("web")
    trace_id = "9f2c61d0-0c5e-4a54-9a3e-6a8d1b9f4c77"
    list_containers = module.engine.list_containers

    def meanwhile(*arguments: t.Any, **options: t.Any) -> t.Any:
        monkeypatch.setattr(module.engine, "list_containers", list_containers)
        module.run(container="web", trace_id=trace_id)
        return list_containers(*arguments, **options)

    defaults = {name: option.get("default") for name, option in isolation_info.argument_spec().items()}
    params = {**defaults, "state_dir": str(module.log.parent), "trace_id": trace_id}
    given: t.Any = types.SimpleNamespace(params=params)
    monkeypatch.setattr(module.engine, "list_containers", meanwhile)
    first, second = isolation_info.report(given), isolation_info.report(given)
    assert [len(found["records"]) - len(found["isolations"]) for found in (first, second)] == [0, 0]
    assert len(second["records"]) == 1
