# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module mute does on a host, and where what is muted shows."""

from __future__ import annotations

import json
import pathlib
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import decision_info, mute
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet

NOON = "2026-04-05T12:00:00Z"


class Host:
    """A host on which things are muted."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.state_dir = directory / "state"
        self.policy_set = directory / "set.json"
        policies = [Policy.from_dict({"id": name, "action": {"type": "pause"}}) for name in ("shells",)]
        self.policy_set.write_text(PolicySet.of(policies).to_json())

    def run(
        self, *, check: bool = False, diff: bool = False, at: str = NOON, lasts: str = "", **given: t.Any
    ) -> dict[str, t.Any]:
        defaults = {name: option.get("default") for name, option in mute.argument_spec().items()}
        params = {
            **defaults,
            "state_dir": str(self.state_dir),
            "policy_set": str(self.policy_set),
            "controller_time": at,
            "reason": "CHG-1207",
            "actor": "alice",
            "for": lasts,
            **given,
        }
        module: t.Any = types.SimpleNamespace(params=params, check_mode=check, _diff=diff)
        return mute.mute(module)

    @property
    def content(self) -> list[dict[str, t.Any]]:
        path = self.state_dir / "mutes.json"
        found = json.loads(path.read_text())["mutes"] if path.exists() else []
        assert isinstance(found, list)
        return found

    def would(self, at: str) -> str:
        """What would be decided about a shell in web-1."""
        params: dict[str, t.Any] = {
            **{name: option.get("default") for name, option in decision_info.argument_spec().items()},
            "alerts": [{"source": "falco", "rule": "r", "severity": "high", "container": {"name": "web-1"}}],
            "containers": [{"name": "web-1", "image": "", "labels": {}, "id": None}],
            "host": "docker-1",
            "policy_set": str(self.policy_set),
            "state_dir": str(self.state_dir),
            "now": at,
        }
        module: t.Any = types.SimpleNamespace(params=params)
        (decision,) = decision_info.report(module)["decisions"]
        return str(decision["outcome"])


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def test_a_policy_is_muted_for_a_time(host: Host) -> None:
    result = host.run(policy="shells", lasts="2h")
    assert result["changed"] is True
    assert result["warnings"] == []
    (found,) = result["mutes"]
    assert (found["policy"], found["container"], found["reason"], found["actor"], found["force"]) == (
        *("shells", "", "CHG-1207", "alice"),
        False,
    )
    assert found["until"] == "2026-04-05T14:00:00.000000Z"
    assert host.would("2026-04-05T13:59:59Z") == "muted"
    assert host.would("2026-04-05T14:00:00Z") == "isolate"


def test_it_is_on_record_who_muted_and_who_ended_it(host: Host) -> None:
    host.run(policy="shells", lasts="2h")
    host.run(policy="shells", state="absent", actor="bob", reason="done")
    host.run(policy="shells", state="absent")
    records = [json.loads(line) for line in (host.state_dir / "actions.jsonl").read_text().splitlines()]
    said = "policy shells is muted until 2026-04-05T14:00:00.000000Z by alice: CHG-1207"
    assert [(one["outcome"], one["actor"], one["policy_id"], one["reasons"]) for one in records] == [
        ("muted", "alice", "shells", [said]),
        ("muted", "bob", "shells", [f"ended early: {said}", "done"]),
    ]


def test_check_mode_writes_nothing(host: Host) -> None:
    result = host.run(check=True, diff=True, policy="shells", lasts="2h")
    assert result["changed"] is True
    assert result["diff"] == {
        "before": "",
        "after": "policy shells is muted until 2026-04-05T14:00:00.000000Z by alice: CHG-1207\n",
    }
    assert not host.state_dir.exists()


def test_until_is_idempotent_and_for_begins_anew(host: Host) -> None:
    until: dict[str, t.Any] = {"container": "web-*", "until": "2026-04-05T15:00:00Z"}
    assert host.run(**until)["changed"] is True
    assert host.run(at="2026-04-05T12:30:00Z", actor="bob", **until)["changed"] is False
    assert host.content[0]["actor"] == "alice"
    assert host.run(container="web-*", at="2026-04-05T12:30:00Z", lasts="1h")["changed"] is True
    (found,) = host.content
    assert found["until"] == "2026-04-05T13:30:00.000000Z"


def test_the_last_word_counts(host: Host) -> None:
    host.run(container="web-*", force=True, lasts="2h")
    assert host.run(container="web-*", lasts="2h")["changed"] is True
    assert [one["force"] for one in host.content] == [False]


def test_it_is_ended_early(host: Host) -> None:
    host.run(policy="shells", lasts="2h")
    host.run(whole_host=True, lasts="2h")
    assert host.run(policy="shells", container="web-1", state="absent")["changed"] is False
    assert host.run(policy="shells", state="absent", reason="", check=True)["changed"] is True
    assert len(host.content) == 2
    result = host.run(policy="shells", state="absent", reason="", diff=True)
    assert (result["changed"], [one["policy"] for one in result["mutes"]]) == (True, [""])
    assert result["diff"]["after"].startswith("this host is muted until")
    assert host.run(policy="shells", state="absent")["changed"] is False


def test_what_is_over_is_forgotten_with_the_next_one(host: Host) -> None:
    host.run(container="web-1", lasts="1h")
    host.run(container="web-2", at="2026-04-05T14:00:00Z", lasts="1h")
    assert [one["container"] for one in host.content] == ["web-2"]


def test_a_policy_that_is_not_there_is_told(host: Host) -> None:
    assert host.run(policy="shels", lasts="1h")["warnings"] == ["the policy set of this host has no policy shels"]
    host.policy_set.unlink()
    (warning,) = host.run(policy="shells", lasts="1h")["warnings"]
    assert warning.startswith("whether there is a policy shells is not known: no policy set is deployed")


def test_a_damaged_file_is_told_and_replaced(host: Host) -> None:
    host.state_dir.mkdir()
    (host.state_dir / "mutes.json").write_text("{")
    (warning,) = host.run(container="web-1", lasts="1h")["warnings"]
    assert warning.endswith("nothing is muted")
    assert host.run(container="web-1", state="absent")["warnings"] == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"for": "2h"}, "neither policy, container nor whole_host is given"),
        ({"for": "2h", "policy": " "}, "neither policy, container nor whole_host is given"),
        ({"for": "2h", "policy": "a", "whole_host": True}, "whole_host is given with policy or container"),
        ({"policy": "a"}, "neither for nor until is given"),
        ({"policy": "a", "for": "1h", "until": NOON}, "both for and until are given"),
        ({"policy": "a", "for": "1h", "reason": " "}, "reason is not given"),
        ({"policy": "a", "for": "two hours"}, "for is 'two hours'"),
        ({"policy": "a", "for": "8d"}, "does not end within the next 7 days"),
        ({"policy": "a", "for": "0"}, "does not end within the next 7 days"),
        ({"policy": "a", "until": NOON}, "does not end within the next 7 days"),
        ({"policy": "a", "until": "tomorrow"}, "until is 'tomorrow'"),
        ({"container": "*", "for": "1h"}, "the container is '*'"),
    ],
)
def test_what_is_refused_mutes_nothing(host: Host, given: dict[str, t.Any], message: str) -> None:
    with pytest.raises(GuardError) as raised:
        host.run(**given)
    assert raised.value.kind == "invalid_option"
    assert message in raised.value.message
    assert not host.state_dir.exists()


def test_there_are_not_too_many(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._response import mutes

    monkeypatch.setattr(mutes, "MAX_MUTES", 2)
    for name in ("a", "b"):
        host.run(container=name + "-1", lasts="1h")
    with pytest.raises(GuardError, match="more than 2 mutes"):
        host.run(container="c-1", lasts="1h")
    assert len(host.content) == 2
