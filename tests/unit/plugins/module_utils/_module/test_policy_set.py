# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules policy_set and policy_set_info do on a host."""

from __future__ import annotations

import pathlib
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import policy_set, policy_set_info
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet


def make_set(*ids: str, **keys: t.Any) -> PolicySet:
    return PolicySet.of([Policy.from_dict({"id": name, "action": {"type": "pause"}, **keys}) for name in ids])


A, B, C = make_set("a"), make_set("b"), make_set("c")


class Host:
    """A host to which policy sets are deployed."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.path = directory / "guard" / "set.json"
        self.previous = directory / "guard" / "set.json.previous"

    def run(self, state: str, compiled: str | None = None, check: bool = False, diff: bool = False) -> dict[str, t.Any]:
        params = {"path": str(self.path), "state": state, "compiled": compiled}
        module: t.Any = types.SimpleNamespace(params=params, check_mode=check, _diff=diff)
        return policy_set.put_in_place(module)

    def deploy(self, wanted: PolicySet, *files: str, **options: bool) -> dict[str, t.Any]:
        return self.run("deployed", Deployment(wanted, files).to_json(), **options)

    def roll_back(self, **options: bool) -> dict[str, t.Any]:
        return self.run("rolled_back", **options)

    def info(self) -> dict[str, t.Any]:
        module: t.Any = types.SimpleNamespace(params={"path": str(self.path)})
        return policy_set_info.report(module)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path)


def test_nothing_is_deployed(host: Host) -> None:
    assert host.info() == {
        "changed": False,
        "path": str(host.path),
        "deployed": False,
        "previous": None,
        "warnings": [],
    }


def test_what_is_deployed_says_where_it_came_from(host: Host) -> None:
    host.deploy(A, "a.yml", "more.toml")
    info = host.info()
    assert info["deployed"] is True
    assert (info["digest"], info["files"], info["previous"]) == (A.digest, ["a.yml", "more.toml"], None)
    assert info["policies"] == [policy.to_dict() for policy in A.policies]
    assert (info["protect"], info["limits"]) == ({}, {"max_containers_per_alert": 1})
    assert info["mode"] == "enforce"
    assert info["deployed_at"].startswith("20")


def test_an_equal_set_from_other_files_changes_nothing(host: Host) -> None:
    host.deploy(A, "a.yml")
    before = host.path.read_bytes()
    result = host.deploy(A, "renamed.yml")
    assert (result["changed"], result["previous_digest"]) == (False, A.digest)
    assert host.path.read_bytes() == before
    assert not host.previous.exists()


def test_a_rollback_puts_the_set_before_the_last_deployment_in_place_once(host: Host) -> None:
    for wanted in (A, B, C):
        host.deploy(wanted)
    assert host.info()["previous"] == B.digest
    assert host.path.stat().st_mode == host.previous.stat().st_mode
    result = host.roll_back()
    assert (result["changed"], result["digest"], result["previous_digest"]) == (True, B.digest, C.digest)
    assert (result["added"], result["removed"]) == (["b"], ["c"])
    before = host.path.read_bytes()
    assert host.roll_back()["changed"] is False
    assert host.path.read_bytes() == before

    # And forward again: then it is the set in between that a rollback leads to.
    assert host.deploy(C)["changed"] is True
    assert host.roll_back()["digest"] == B.digest


def test_a_rollback_keeps_the_files_and_says_when(host: Host) -> None:
    host.deploy(A, "a.yml")
    deployed_at = host.info()["deployed_at"]
    host.deploy(B, "b.yml")
    host.roll_back()
    info = host.info()
    assert info["files"] == ["a.yml"]
    assert info["deployed_at"] > deployed_at


def test_check_mode_writes_nothing(host: Host) -> None:
    assert host.deploy(A, check=True)["changed"] is True
    assert not host.path.parent.exists()
    host.deploy(A)
    host.deploy(B)
    before = (host.path.read_bytes(), host.previous.read_bytes())
    assert host.deploy(C, check=True)["changed"] is True
    assert host.roll_back(check=True)["digest"] == A.digest
    assert (host.path.read_bytes(), host.previous.read_bytes()) == before


def test_there_is_nothing_to_go_back_to(host: Host) -> None:
    host.deploy(A)
    with pytest.raises(GuardError, match="previous does not exist") as caught:
        host.roll_back()
    assert caught.value.kind == "no_previous"


def test_a_damaged_set_is_replaced_and_not_kept(host: Host) -> None:
    host.deploy(A)
    host.deploy(B)
    host.path.write_text("{}")
    with pytest.raises(GuardError) as caught:
        host.info()
    assert caught.value.kind == "policy_set_damaged"
    assert "It is replaced" in host.deploy(C)["warnings"][0]
    assert host.info()["previous"] == A.digest


def test_a_damaged_set_can_be_rolled_back_from(host: Host) -> None:
    host.deploy(A)
    host.deploy(B)
    host.path.write_text("{}")
    assert host.roll_back()["digest"] == A.digest
    host.previous.write_text("{}")
    before = host.path.read_bytes()
    with pytest.raises(GuardError) as caught:
        host.roll_back()
    assert caught.value.kind == "policy_set_damaged"
    assert host.path.read_bytes() == before


def test_a_set_that_was_not_compiled_or_not_whole_is_refused(host: Host) -> None:
    host.deploy(A)
    for compiled, kind in ((None, "not_compiled"), ("{}", "policy_set_damaged")):
        with pytest.raises(GuardError) as caught:
            host.run("deployed", compiled)
        assert caught.value.kind == kind
    assert host.info()["digest"] == A.digest


def test_every_line_of_a_difference_names_its_policy() -> None:
    before = PolicySet.of([*make_set("a", mode="audit").policies, *make_set("gone").policies])
    after = PolicySet.of(
        [*make_set("a", priority=0).policies, *make_set("new", target_filter={"labels": ["x"]}).policies],
        TargetFilter(labels=("safe",)),
        Limits(max_isolations=3, window=60),
        mode="audit",
    )
    old, new = (set(policy_set.readable(value).splitlines()) for value in (before, after))
    assert {line for line in new - old if "policy a" in line} == {
        "policy a: priority = 0",
        'policy a: mode = "enforce"',
    }
    assert 'policy new: target_filter.labels = ["x"]' in new
    assert {line.partition(":")[0] for line in old - new} == {"policy a", "policy gone", "policy set"}
    assert {line for line in new - old if not line.startswith(("policy a", "policy new"))} == {
        'policy set: mode = "audit"',
        'protect: labels = ["safe"]',
        "limits: max_isolations_per_window.count = 3",
        "limits: max_isolations_per_window.seconds = 60",
    }


def test_a_difference_is_shown_where_it_is_asked_for(host: Host) -> None:
    assert "diff" not in host.deploy(A)
    diff = host.deploy(B, check=True, diff=True)["diff"]
    assert (diff["before"], diff["after"]) == (policy_set.readable(A), policy_set.readable(B))
    assert host.deploy(A, diff=True)["diff"]["before"] == policy_set.readable(A)


def test_a_damaged_previous_set_does_not_hide_the_deployed_one(host: Host) -> None:
    host.deploy(A)
    host.deploy(B)
    pathlib.Path(f"{host.path}.previous").write_text("{")
    info = host.info()
    assert (info["deployed"], info["digest"], info["previous"]) == (True, B.digest, None)
    assert "nothing to roll back to" in info["warnings"][0]
