# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filter_options import (
    FilterOptions,
    misspelt,
    options_of_environment,
    options_of_file,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.hosts import HostNames

ALL = FilterOptions(
    names=HostNames(hosts=("web-1", "web-2"), host_map={"6bc1b4be90d6": "web-3"}, lookup_hosts=()),
    detector="falco",
    severities={"falco": {"warning": "high"}},
    body_limit=2048,
    policy_set="/etc/container-guard/policy_set.json",
    policy_set_confirmed_for=60.0,
    fold_window=0.5,
)
FILE = """
hosts: [web-1, web-2]
host_map: {6bc1b4be90d6: web-3}
lookup_hosts: []
detector: falco
severities: {falco: {Warning: high}}
body_limit: 2048
policy_set: /etc/container-guard/policy_set.json
policy_set_confirmed_for: 60
fold_window: 0.5
"""
ENVIRONMENT = {
    "GUARD_HOSTS": "web-1, web-2",
    "GUARD_HOST_MAP": '{"6bc1b4be90d6": "web-3"}',
    "GUARD_LOOKUP_HOSTS": "[]",
    "GUARD_DETECTOR": "falco",
    "GUARD_SEVERITIES": '{"falco": {"Warning": "high"}}',
    "GUARD_BODY_LIMIT": "2048",
    "GUARD_POLICY_SET": "/etc/container-guard/policy_set.json",
    "GUARD_POLICY_SET_CONFIRMED_FOR": "60",
    "GUARD_FOLD_WINDOW": "0.5",
    "PATH": "/bin",
}


def test_a_file_and_the_environment_say_the_same() -> None:
    assert options_of_file(FILE.encode()) == ALL
    assert options_of_file(json.dumps({"hosts": ["web-1"]}).encode()).names.hosts == ("web-1",)
    assert options_of_environment(ENVIRONMENT) == ALL


def test_what_is_not_said_is_as_documented() -> None:
    for options in (
        options_of_file(b""),
        options_of_file(b"hosts:\n"),
        options_of_environment({"GUARD_DETECTOR": " "}),
    ):
        assert options == FilterOptions()


@pytest.mark.parametrize("value", ["web-1,web-2", "web-1 web-2", " web-1,\n web-2 ", '["web-1", "web-2"]'])
def test_a_list_in_the_environment(value: str) -> None:
    assert options_of_environment({"GUARD_HOSTS": value}).names.hosts == ("web-1", "web-2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hots: [web-1]", "unknown option 'hots'. Did you mean hosts?"),
        ("token: secret-of-the-source", "unknown option 'token'"),
        ("hosts: web-1", "hosts is no list"),
        ("hosts: ['web-1:&db']", "hosts holds 'web-1:&db'"),
        ("lookup_hosts: ['!web-1']", "lookup_hosts holds '!web-1'"),
        ("host_map: [a]", "host_map is"),
        ("host_map: {a: 'b,c'}", "host_map holds 'b,c'"),
        ("detector: falcon", "unknown detector 'falcon'. Did you mean falco?"),
        ("detector: [falco]", "unknown detector"),
        ("severities: {falco: {Warning: loud}}", "severities holds something else"),
        ("body_limit: 10", "body_limit is 10"),
        ("policy_set: policies.json", "policy_set is 'policies.json'. Set it to an absolute path"),
        ("policy_set_confirmed_for: .nan", "policy_set_confirmed_for is nan"),
        ("fold_window: -1", "fold_window is -1"),
        ("[1]", "no mapping of options"),
        ("5", "no mapping of options"),
        ("a: [", "no YAML"),
        ("[" * 10_000, "no YAML"),
        ("a: !!python/object/apply:os.system [id]", "no YAML"),
    ],
)
def test_what_cannot_be_used_is_named(content: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        options_of_file(content.encode())


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(ValueError, match="no YAML"):
        options_of_file(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"GUARD_HOST_MAP": "a=b"}, "host_map is no JSON"),
        ({"GUARD_HOSTS": "[web-1"}, "hosts is no JSON"),
        ({"GUARD_BODY_LIMIT": "many"}, "body_limit is 'many'"),
    ],
)
def test_what_cannot_be_used_in_the_environment_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options_of_environment(environment)


def test_variables_that_are_almost_options_are_told_and_others_are_not() -> None:
    (hint,) = misspelt({"GUARD_HOTS": "web-1", "GUARD_HOSTS": "web-1", "GUARD_TESTBED": "a1", "HOSTS": "", "GUARD": ""})
    assert hint == "the environment variable GUARD_HOTS is unknown. Did you mean GUARD_HOSTS?"
