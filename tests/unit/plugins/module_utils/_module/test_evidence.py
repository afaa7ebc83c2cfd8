# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module evidence: what it documents is what is there. Its runs are in tests/integration."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pathlib
import re
import types
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Item, Manifest
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import (
    DEFAULT_LIMITS,
    RANGES,
    Limits,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.evidence import (
    argument_spec,
    collect_or_verify,
)
from ansible_collections.ironpost.container_guard.plugins.modules.evidence import RETURN
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine


def test_its_items_are_documented() -> None:
    assert yaml.safe_load(RETURN)["evidence"]["contains"].keys() == {field.name for field in dataclasses.fields(Item)}


@pytest.mark.parametrize("record", [Item, Manifest, Limits])
def test_every_attribute_of_a_record_is_described(record: type) -> None:
    described = re.findall(r"^    ([a-z0-9_]+): ", inspect.getdoc(record) or "", re.MULTILINE)
    assert sorted(described) == sorted(field.name for field in dataclasses.fields(record))


def test_every_limit_is_an_option_within_its_range() -> None:
    assert RANGES.keys() == dataclasses.asdict(DEFAULT_LIMITS).keys()
    for name, (low, high) in RANGES.items():
        assert low <= argument_spec()[name]["default"] <= high


class Wanted:
    """The module with the option C(wanted), on a host with a fake engine."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.engine = FakeEngine()
        self.state_dir = directory / "state"
        self.container = self.engine.add_container("web")

    def wanted(self, **values: t.Any) -> dict[str, t.Any]:
        """As the module alert_response hands it on, with the defaults of the options."""
        spec = argument_spec()["wanted"]["options"]
        container = {"id": self.container, "name": "web", "image": "shop"}
        return {**{name: option.get("default") for name, option in spec.items()}, "container": container, **values}

    def run(self, *wanted: dict[str, t.Any], check: bool = False) -> dict[str, t.Any]:
        defaults = {name: option.get("default") for name, option in argument_spec().items()}
        params = {**defaults, "host": "web-1", "state_dir": str(self.state_dir), "wanted": list(wanted)}
        module: t.Any = types.SimpleNamespace(params=params, check_mode=check)
        return collect_or_verify(module)

    def records(self) -> list[dict[str, t.Any]]:
        return [json.loads(line) for line in (self.state_dir / "actions.jsonl").read_text().splitlines()]


@pytest.fixture
def guard(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Wanted:
    guard = Wanted(tmp_path)
    monkeypatch.setattr(common, "engine_of", lambda *_: guard.engine)
    return guard


class TestWanted:
    def test_is_collected_and_on_record(self, guard: Wanted) -> None:
        said = {"action_event": "e-1", "trace_id": "t-1", "alert_id": "a-1", "policy_id": "shells", "reason": "falco"}
        result = guard.run(guard.wanted(collect=["inspect", "top"], **said))
        (record,) = result["collected"]
        assert (result["changed"], record["outcome"], record["host"]) == (True, "collected", "web-1")
        assert {name: record[name] for name in ("trace_id", "alert_id", "policy_id")} == {
            name: said[name] for name in ("trace_id", "alert_id", "policy_id")
        }
        assert record["evidence"]["action_event"] == "e-1"
        manifest = json.loads(pathlib.Path(record["evidence"]["directory"], "manifest.json").read_text())
        assert (manifest["request"]["reason"], manifest["status"]) == ("falco", "complete")
        assert [line["id"] for line in guard.records()] == [record["id"]]

    def test_one_that_fails_keeps_no_other_from_being_collected(self, guard: Wanted) -> None:
        gone = guard.engine.add_container("gone")
        guard.engine.remove_container(gone)
        container = {"id": gone, "name": "gone", "image": ""}
        result = guard.run(guard.wanted(collect=["top"], container=container), guard.wanted(collect=["top"]))
        assert [record["outcome"] for record in result["collected"]] == ["failed", "collected"]
        assert result["failed"] is True
        assert "evidence of gone: " in result["msg"]
        assert len(guard.records()) == 2

    def test_check_mode_collects_nothing(self, guard: Wanted) -> None:
        assert guard.run(guard.wanted(collect=["top"]), check=True)["collected"] == []
        assert not guard.state_dir.exists()

    @pytest.mark.parametrize(
        "values",
        [{"container": {"id": "abc"}}, {"case": "../../etc"}, {"trace_id": "a b"}, {"action_event": "{{ x }}"}],
    )
    def test_what_alert_response_never_returns(self, guard: Wanted, values: dict[str, t.Any]) -> None:
        with pytest.raises(GuardError, match="wanted is not what alert_response returns"):
            guard.run(guard.wanted(collect=["top"], **values))
