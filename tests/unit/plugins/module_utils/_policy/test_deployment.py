# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet

SET = PolicySet.of([Policy.from_dict({"id": "a", "action": {"type": "pause"}})])
DEPLOYMENT = Deployment(SET, ("a.yml", "b.toml"), "2026-04-05T12:43:02.000000Z")


def test_it_is_read_back_to_an_equal_one() -> None:
    assert Deployment.from_json(DEPLOYMENT.to_json(), "here") == DEPLOYMENT


def test_the_set_is_read_without_its_provenance_and_has_the_same_digest() -> None:
    assert PolicySet.from_json(DEPLOYMENT.to_json(), "here") == SET
    assert json.loads(DEPLOYMENT.to_json())["digest"] == SET.digest


def test_a_set_without_provenance_is_a_deployment_too() -> None:
    assert Deployment.from_json(SET.to_json(), "here") == Deployment(SET)


@pytest.mark.parametrize(
    "provenance",
    [None, [], "x", {}, {"files": "x", "deployed_at": ""}, {"files": [1], "deployed_at": ""}, {"files": []}],
)
def test_provenance_that_is_none_is_found(provenance: t.Any) -> None:
    content = {**json.loads(DEPLOYMENT.to_json()), "provenance": provenance}
    with pytest.raises(PolicyError, match="here does not say") as caught:
        Deployment.from_json(json.dumps(content), "here")
    assert caught.value.kind == "policy_set_damaged"


def test_changed_content_is_found() -> None:
    with pytest.raises(PolicyError, match="changed after it was deployed"):
        Deployment.from_json(DEPLOYMENT.to_json().replace('"pause"', '"stop"'), "here")
