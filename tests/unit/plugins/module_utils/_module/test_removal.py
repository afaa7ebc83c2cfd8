# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module removal takes for a policy set: a slip in a variable must not cost a host more than that."""

from __future__ import annotations

import pathlib
import types
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._module import removal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet


def removed(tmp_path: pathlib.Path, policy_set: pathlib.Path, check: bool = False) -> dict[str, t.Any]:
    params = {"policy_set": str(policy_set), "state_dir": str(tmp_path / "state"), "keep_records": False}
    module: t.Any = types.SimpleNamespace(params=params, check_mode=check)
    return removal.report(module)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(removal, "DIRECTORY", str(tmp_path / "opt"))


@pytest.mark.usefixtures("programs")
def test_a_policy_set_and_the_one_before_are_removed(tmp_path: pathlib.Path) -> None:
    policies = [Policy.from_dict({"id": "shells", "action": {"type": "pause"}})]
    paths = [tmp_path / "etc" / name for name in ("policy_set.json", "policy_set.json.previous")]
    (tmp_path / "etc").mkdir()
    for path in paths:
        path.write_text(PolicySet.of(policies).to_json())
    found = removed(tmp_path, paths[0])
    assert found["removed"][:2] == [str(path) for path in paths]
    assert not (tmp_path / "etc").exists()


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("content", [None, "root:x:0:0::/root:/bin/sh\n", '{"data-root": "/srv/docker"}', "\0"])
def test_what_is_no_policy_set_stays(tmp_path: pathlib.Path, content: str | None, check: bool) -> None:
    given = tmp_path / "etc"
    if content is None:
        given.mkdir()
        (given / "passwd").write_text("mine")
    else:
        given.write_text(content)
    found = removed(tmp_path, given, check)
    assert given.exists()
    assert content is not None or (given / "passwd").read_text() == "mine"
    assert found["removed"] == []
    assert found["left"] == [str(given)]
