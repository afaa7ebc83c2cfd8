# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people type, into a survey of AWX or on a command line, and what the modules make of it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import typing as t

import pytest
from ansible.module_utils import basic

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import (
    common,
    evidence,
    isolation,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.answers import answered


def isolated(**given: t.Any) -> dict[str, t.Any]:
    return answered(isolation.argument_spec(), given)


@pytest.mark.parametrize("blank", ["", " ", "\n", " \r\n\t"])
@pytest.mark.parametrize("option", sorted(isolation.argument_spec()))
def test_blank_is_not_given(option: str, blank: str) -> None:
    assert isolated(**{option: blank}) == {}


def test_an_alias_is_an_option_too() -> None:
    assert isolated(docker_url=" ") == {}
    assert isolated(docker_url="unix:///run/docker.sock") == {"docker_url": "unix:///run/docker.sock"}


def test_what_is_within_an_option_is_not_taken_for_an_answer() -> None:
    # A list that was to narrow a selector down must not widen it by being blank.
    given = {"selector": {"image_patterns": ["shop:*"], "labels": ""}}
    assert isolated(**given) == given


@pytest.mark.parametrize("blank", [" ", "\n", ",", ",\n"])
def test_a_list_in_which_nothing_is_said_does_not_become_an_empty_one(blank: str) -> None:
    # An empty one is no condition, or nothing to do, and no error.
    found = isolated(selector={"labels": blank, "exclude": {"images": blank}})
    assert found == {"selector": {"labels": [""], "exclude": {"images": [""]}}}
    assert isolated(containers=f"{blank},") == {"containers": [""]}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("web-1", ["web-1"]),
        ("web-1,web-2", ["web-1", "web-2"]),
        (" web-1 , web-2 ,", ["web-1", "web-2"]),
        ("web-1\nweb-2", ["web-1", "web-2"]),
        ("web-1\r\n\r\n  web-2,\r\n", ["web-1", "web-2"]),
        ('["web-1", "web-2"]', ["web-1", "web-2"]),
        (["web-1", "web-2"], ["web-1", "web-2"]),
    ],
)
def test_lists_are_lines_commas_or_json(typed: object, meant: list[str]) -> None:
    assert isolated(containers=typed) == {"containers": meant}
    spec = evidence.argument_spec()
    assert answered(spec, {"paths": typed, "collect": typed}) == {"paths": meant, "collect": meant}


def test_a_line_may_hold_commas() -> None:
    assert answered(evidence.argument_spec(), {"paths": "/srv/a,b\n/etc"}) == {"paths": ["/srv/a,b", "/etc"]}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pause", [{"type": "pause"}]),
        ("pause, network_disconnect", [{"type": "pause"}, {"type": "network_disconnect"}]),
        ("pause\nnetwork_disconnect\n", [{"type": "pause"}, {"type": "network_disconnect"}]),
        (["pause"], [{"type": "pause"}]),
        ('["pause"]', [{"type": "pause"}]),
        (
            '[{"type": "network_disconnect", "networks": "front\\nback"}, "pause"]',
            [{"type": "network_disconnect", "networks": ["front", "back"]}, {"type": "pause"}],
        ),
        ([{"type": "stop", "grace": "1m30s"}], [{"type": "stop", "grace": 90}]),
    ],
)
def test_actions_are_names_or_mappings(typed: object, meant: list[dict[str, t.Any]]) -> None:
    assert isolated(actions=typed) == {"actions": meant}


def test_a_selector_is_json_whose_lists_are_lists() -> None:
    meant = {"image_patterns": ["shop:*", "web:*"], "exclude": {"labels": ["role=canary"]}}
    typed = {"image_patterns": "shop:*,web:*", "exclude": {"labels": "role=canary\n"}}
    assert isolated(selector=typed) == {"selector": meant}
    assert isolated(selector=f" {json.dumps(typed)}\n") == {"selector": meant}


@pytest.mark.parametrize(("typed", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("3600", 3600), (60, 60)])
def test_durations_have_units(typed: object, seconds: int) -> None:
    assert isolated(release_after=typed) == {"release_after": seconds}
    assert answered(evidence.argument_spec(), {"item_timeout": typed}) == {"item_timeout": seconds}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"release_after": "2 hours"}, "release_after is '2 hours'. Give seconds, or days, hours"),
        ({"containers": '["web-1"'}, r"containers begins as JSON, and is none"),
        ({"selector": '{"labels": '}, r"selector begins as JSON, and is none"),
        ({"actions": [{"type": "stop", "grace": "soon"}]}, "grace is 'soon'"),
    ],
)
def test_what_cannot_be_read_is_told(given: dict[str, t.Any], message: str) -> None:
    with pytest.raises(GuardError, match=message) as raised:
        isolated(**given)
    assert raised.value.kind == "invalid_option"


@pytest.mark.parametrize("value", [None, 5, True, {"a": 1}, [1], ["", {}], "text"])
@pytest.mark.parametrize("option", sorted({*isolation.argument_spec()} - {"release_after", "action_timeout"}))
def test_what_else_is_given_is_left_to_ansible(option: str, value: object) -> None:
    given = {option: copy.deepcopy(value), "_ansible_check_mode": ""}
    found = isolated(**given)
    assert found["_ansible_check_mode"] == ""
    assert found[option] == value or isinstance(value, (str, list))


def run(monkeypatch: pytest.MonkeyPatch, **given: t.Any) -> dict[str, t.Any]:
    """What a module makes of options, told by the real AnsibleModule."""
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    output = io.StringIO()

    def main() -> None:
        module = common.GuardModule(argument_spec=isolation.argument_spec(), supports_check_mode=True)
        common.run(module, lambda made: {"changed": False, "params": made.params})

    with contextlib.redirect_stdout(output), pytest.raises(SystemExit):
        main()
    return dict(json.loads(output.getvalue()))


def test_a_module_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(monkeypatch, containers="a\nb", actions=["pause"], release_after="2h", selector="", state_dir="")
    params = found["params"]
    assert params["containers"] == ["a", "b"]
    assert params["actions"] == [{"type": "pause", "networks": None, "grace": None}]
    assert (params["release_after"], params["selector"]) == (7200, None)
    assert params["state_dir"] == isolation.argument_spec()["state_dir"]["default"]


@pytest.mark.parametrize("other", [{"container": "a"}, {"unknown": 1}])  # the second is an error to Ansible as well
def test_a_module_fails_as_for_every_option_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, other: dict[str, t.Any]
) -> None:
    found = run(monkeypatch, release_after="soon", **other)
    assert found["failed"] is True
    assert found["msg"].startswith("release_after is 'soon'. Give seconds")
    assert found["error"]["kind"] == "invalid_option"
